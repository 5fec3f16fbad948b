"""``manage.py collect_garbage``: what nobody has goes, whatever else happens at the same time."""

import os
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from models_registry.files import artifacts
from models_registry.files.garbage import Collection
from models_registry.models import ArtifactFile, Blob, Upload
from tenants.isolation.scope import tenant_scope
from tenants.models import Tenant
from tests.support.files import add, content, count, keys, pending_version
from tests.support.people import World, committed, make_world
from tests.support.threads import at_once

NOTHING = "Freed 0 bytes: nothing was left over.\n"


def collect(*arguments: str) -> str:
    """Run the command as of now and return what it says."""
    said = StringIO()
    call_command("collect_garbage", "--older-than=0", *arguments, stdout=said)
    return said.getvalue()


def delete(tenant: Tenant, path: str) -> None:
    """Delete a file of the upload area."""
    with tenant_scope(tenant):
        artifacts.delete_under(None, path)


def broken_upload(tenant: Tenant, size: int) -> Upload:
    """Leave what a killed process leaves."""
    with tenant_scope(tenant):
        upload: Upload = Upload.objects.create(path="broken")
    artifacts.store().receive(upload.key, [bytes(size)], size)
    return upload


@pytest.mark.usefixtures("either_store")
def test_what_no_file_has_goes_and_nothing_else(world: World) -> None:
    version = pending_version(world.alpha)
    add(world.alpha, "kept", b"kept")
    add(world.alpha, "copied", b"copied")
    with tenant_scope(world.alpha):
        artifacts.snapshot(version, "copied")
    add(world.alpha, "gone", b"gone!")
    add(world.gamma, "gone", b"gone!")
    add(world.alpha, "replaced", b"old")
    add(world.alpha, "replaced", b"new")
    for path in ("copied", "gone"):
        delete(world.alpha, path)
    assert collect("--dry-run") == "Would free 8 bytes: 2 files that are gone.\n"
    assert len(keys()) == 6
    assert collect() == "Freed 8 bytes: 2 files that are gone.\n"
    assert collect() == NOTHING
    assert len(keys()) == 4
    assert content(world.alpha, "kept") == b"kept"
    assert content(world.alpha, "copied", version) == b"copied"
    assert content(world.alpha, "replaced") == b"new"
    assert content(world.gamma, "gone") == b"gone!"
    assert count(world.alpha) == (3, 3, 0)


@pytest.mark.usefixtures("either_store")
def test_broken_uploads_and_bytes_without_a_row_go(world: World) -> None:
    broken_upload(world.alpha, 10)
    orphan = broken_upload(world.alpha, 100)
    with tenant_scope(world.alpha):
        Upload.objects.filter(pk=orphan.pk).delete()
    lost = add(world.gamma, "lost", b"lost")
    delete(world.gamma, "lost")
    with tenant_scope(world.gamma):
        Blob.objects.all().delete()
    assert keys().count(lost.blob.key) == 1
    assert collect() == "Freed 114 bytes: 1 broken uploads, 2 without a row.\n"
    assert keys() == []
    assert count(world.alpha) == count(world.gamma) == (0, 0, 0)


@pytest.mark.usefixtures("bucket")
def test_parts_of_a_broken_upload_go(world: World) -> None:
    """Those that a client sent to the store itself, and those of a process that was killed."""
    made, [url] = artifacts.begin_parts(
        partial(tenant_scope, world.alpha, world.carol), None, "big", 1
    )
    store: Any = artifacts.store()
    store.begin_parts(f"tenants/{world.alpha.pk}/uploads/{uuid4()}")
    assert len(keys()) == 2
    assert "1 broken uploads, 1 without a row" in collect()
    assert keys() == []
    assert count(world.alpha) == (0, 0, 0)
    assert str(made.pk) in url


@pytest.mark.usefixtures("folder")
def test_what_was_uploaded_lately_is_not_collected(world: World) -> None:
    add(world.alpha, "gone", b"gone")
    delete(world.alpha, "gone")
    running = broken_upload(world.alpha, 10)
    orphan = broken_upload(world.alpha, 10)
    with tenant_scope(world.alpha):
        Upload.objects.filter(pk=orphan.pk).delete()
    said = StringIO()
    call_command("collect_garbage", stdout=said)
    assert said.getvalue() == NOTHING
    assert len(keys()) == 3
    yesterday = timezone.now() - timedelta(hours=25)
    with tenant_scope(world.alpha):
        Upload.objects.update(seen_at=yesterday)
        Blob.objects.update(created_at=yesterday)
    call_command("collect_garbage", stdout=said)
    assert "14 bytes: 1 broken uploads, 1 files that are gone" in said.getvalue()
    assert keys() == [orphan.key]
    assert running.key != orphan.key


@pytest.mark.usefixtures("either_store")
def test_files_of_teams_that_are_not_here_go_only_if_told_so(world: World) -> None:
    """They may be those of another installation, which keeps its files in the same store."""
    stranger = f"tenants/{uuid4()}/blobs/ab/ab{'0' * 62}"
    for key in (stranger, "tenants/not-an-id/blobs/x", "something/else"):
        artifacts.store().receive(key, [b"12345"], 5)
    kept = add(world.alpha, "a", b"1")
    assert collect().endswith(
        "5 bytes belong to teams that are not in the database; if no other "
        "installation keeps its files there, --of-no-team deletes them.\n"
    )
    assert stranger in keys()
    assert "Would free 5 bytes of teams" in collect("--of-no-team", "--dry-run")
    assert stranger in keys()
    assert "Freed 5 bytes of teams" in collect("--of-no-team")
    assert keys() == sorted([kept.blob.key, "tenants/not-an-id/blobs/x"])
    assert [found.key for found in artifacts.store().stored("something")] == ["something/else"]


def test_files_of_other_programs_in_the_store_stay(world: World, folder: Path) -> None:
    add(world.alpha, "a", b"1")
    strange = folder / "tenants" / str(world.alpha.pk) / "blobs" / ".nfs000000001"
    strange.write_bytes(b"strange")
    assert collect() == NOTHING
    assert strange.exists()


def test_a_missing_store_is_reported(world: World, folder: Path) -> None:
    broken_upload(world.alpha, 10)
    folder.rename(folder.with_name("unmounted"))
    with pytest.raises(CommandError, match="does not answer"):
        collect()
    assert count(world.alpha) == (0, 0, 1)
    with pytest.raises(CommandError, match="0 or more"):
        collect("--older-than=-1")


def test_an_empty_store_has_nothing_to_collect(world: World, either_store: str) -> None:
    assert collect() == NOTHING


@committed
@pytest.mark.usefixtures("either_store")
def test_uploads_of_the_very_bytes_that_are_being_collected(transactional_db: None) -> None:
    """Whoever comes first, in the end each file has its bytes."""
    world = make_world()
    for _ in range(5):
        add(world.alpha, "a", b"the same")
        delete(world.alpha, "a")
        calls = [partial(add, world.alpha, name, b"the same") for name in "abc"]
        results = at_once(collect, *calls, collect)
        assert all(isinstance(result, str | ArtifactFile) for result in results), results
        for name in "abc":
            assert content(world.alpha, name) == b"the same"
            delete(world.alpha, name)
    collect()
    assert keys() == []
    assert count(world.alpha) == (0, 0, 0)


@committed
@pytest.mark.usefixtures("folder")
def test_a_snapshot_beside_deletion_and_collection(transactional_db: None) -> None:
    """A version has all of its files or none, and never one without bytes."""
    world = make_world()
    version = pending_version(world.alpha)

    def snapshot() -> int:
        with tenant_scope(world.alpha):
            return artifacts.snapshot(version, "dir")

    for attempt in range(8):
        add(world.alpha, "dir/a", b"%d" % attempt)
        results = at_once(snapshot, partial(delete, world.alpha, "dir"), collect, collect)
        assert results[0] in {0, 1}, results
        if results[0]:
            assert content(world.alpha, "a", version) == b"%d" % attempt
            with tenant_scope(world.alpha):
                artifacts.delete_under(version, "a")


@pytest.mark.usefixtures("folder")
def test_an_upload_that_runs_is_not_collected(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says every now and then that it is alive; only silence makes it garbage."""
    monkeypatch.setattr(artifacts, "SEEN_SECONDS", -1)  # after each chunk
    an_hour_ago = timezone.now() - timedelta(hours=1)
    collected: list[list[str]] = []

    def look() -> None:
        collection = Collection(an_hour_ago)
        collected.append([found.kind for found in collection.of_team(world.alpha)])

    def chunks() -> Iterator[bytes]:
        for _ in range(3):
            yield b"x"
            look()
            with tenant_scope(world.alpha):
                Upload.objects.update(seen_at=an_hour_ago - timedelta(minutes=1))

    acting = partial(tenant_scope, world.alpha)
    file = artifacts.add_file(acting, None, "slow", chunks())
    assert collected == [[]] * 3
    assert content(world.alpha, "slow") == b"xxx"
    assert file.blob.size == 3


def test_a_crash_between_the_rows_and_the_bytes_heals(world: World, folder: Path) -> None:
    """Bytes at their key without rows, and rows without bytes: the next ones put both right."""
    file = add(world.alpha, "a", b"the same")
    os.unlink(folder / file.blob.key)  # noqa: PTH108
    add(world.alpha, "b", b"the same")
    assert content(world.alpha, "a") == b"the same"
    for path in ("a", "b"):
        delete(world.alpha, path)
    with tenant_scope(world.alpha):
        Blob.objects.all().delete()
    add(world.alpha, "c", b"the same")
    assert content(world.alpha, "c") == b"the same"
    delete(world.alpha, "c")
    os.unlink(folder / file.blob.key)  # noqa: PTH108
    assert "8 bytes: 1 files that are gone" in collect()
    assert count(world.alpha) == (0, 0, 0)
