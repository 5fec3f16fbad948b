"""The folder of a Git repository into which ``tenant_manifests`` writes."""

from pathlib import Path

from tests.support.commands import run


def tree(folder: Path) -> dict[str, str]:
    """Return all files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def write(repo: Path, *words: str) -> list[str]:
    return run("tenant_manifests", "--kustomize", str(repo), *words).splitlines()


TENANT_FOLDER = "clusters/default/tenants/team_alpha"
