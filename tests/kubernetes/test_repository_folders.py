"""Folders of a repository into which somebody else may have put links, and names that do things."""

import errno
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tenants.kubernetes.bundle import writers
from tests.support.commands import refusal
from tests.support.git_folders import TENANT_FOLDER, tree, write
from tests.support.people import World

FILE = f"{TENANT_FOLDER}/bundle.yaml"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Return the root of a repository."""
    made = tmp_path / "repo"
    made.mkdir()
    return made


@pytest.mark.parametrize(
    "place", ["clusters", "clusters/default", "clusters/default/tenants", TENANT_FOLDER]
)
def test_a_link_leads_nowhere_out_of_the_folder(
    world: World, repo: Path, tmp_path: Path, place: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = repo / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside, target_is_directory=True)
    assert f"{link} is not Bulkhead's; nothing was written." in refusal(
        "tenant_manifests", "--kustomize", str(repo), "--all"
    )
    assert tree(outside) == {}
    link.unlink()
    link.write_text("a file where a folder should be")
    assert f"{link} is not Bulkhead's" in refusal(
        "tenant_manifests", "--kustomize", str(repo), "--all"
    )
    assert [path for path in repo.rglob("*") if path.is_file()] == [link]


def test_the_folder_itself_may_be_a_link(world: World, repo: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(repo, target_is_directory=True)
    assert f"wrote {FILE}" in write(link, "team_alpha")
    assert (repo / FILE).is_file()


def test_a_full_disk_leaves_no_half_of_a_file(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = tempfile.NamedTemporaryFile

    def full(*args: Any, **options: Any) -> Any:
        made: Any = usual(*args, **options)

        def write(text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        made.write = write
        return made

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    with pytest.raises(OSError, match="No space left"):
        writers.write_files(repo, {FILE: f"{writers.MARK}\n"})
    assert [path for path in repo.rglob("*") if path.is_file()] == []


def test_a_folders_name_does_nothing_to_a_terminal(world: World, repo: Path) -> None:
    gone = repo / "clusters/default/tenants/\x1b[2Jgone"
    gone.mkdir(parents=True)
    (gone / "tenant.json").write_text("{}")
    said = write(repo, "team_alpha")
    assert said[-1] == r"left clusters/default/tenants/\x1b[2Jgone: there is no such team"


def test_a_file_that_is_nested_without_end_is_not_ours(world: World, repo: Path) -> None:
    facts = repo / TENANT_FOLDER / "tenant.json"
    facts.parent.mkdir(parents=True)
    facts.write_text("[" * 100_000)
    assert f"{facts} is not Bulkhead's" in refusal(
        "tenant_manifests", "--kustomize", str(repo), "--all"
    )
