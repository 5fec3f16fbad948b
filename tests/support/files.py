"""Files in the store: adding, reading and counting them; and names that are refused."""

from functools import partial
from typing import Any

from pytest_django.fixtures import Settings

from models_registry.files import artifacts
from models_registry.models import ArtifactFile, Blob, ModelVersion, Upload
from tenants.isolation.scope import tenant_scope
from tenants.models import Tenant


def add(
    tenant: Tenant, path: str, content: bytes, version: ModelVersion | None = None
) -> ArtifactFile:
    """Add a file, in pieces of 3 bytes."""
    pieces = (content[at : at + 3] for at in range(0, len(content), 3))
    return artifacts.add_file(
        partial(tenant_scope, tenant), version, path, pieces, length=len(content)
    )


def content(tenant: Tenant, path: str, version: ModelVersion | None = None) -> bytes | None:
    """Return what the file holds; None if there is none."""
    with tenant_scope(tenant):
        file = artifacts.file_at(version, path)
    return None if file is None else b"".join(artifacts.open_file(file))


def pending_version(tenant: Tenant) -> ModelVersion:
    """Return a version that takes files."""
    with tenant_scope(tenant):
        version = ModelVersion.objects.filter(model__name="fraud").latest("number")
        version.status = ModelVersion.Status.PENDING
        version.save()
    return version


def keys() -> list[str]:
    """Return all that lies in the store."""
    return sorted(found.key for found in artifacts.store().stored("tenants"))


def count(tenant: Tenant) -> tuple[int, int, int]:
    """Return how many files, blobs and unfinished uploads the team has."""
    with tenant_scope(tenant):
        return ArtifactFile.objects.count(), Blob.objects.count(), Upload.objects.count()


BAD_PATHS = (
    "",
    ".",
    "..",
    "/a",
    "a/",
    "a//b",
    "a/./b",
    "a/../b",
    "../a",
    "a\\b",
    "..\\a",
    "C:\\a",
    "a\x00b",
    "a\nb",
    "a\x7fb",
    "a\x85b",
    "a\ud800b",
    "%2e%2e/a",
    "%2E./a",
    "%252e%252e/a",
    "%25252e%25252e/a",
    "a%2f..%2fb",
    "a%2fb",
    "a%5cb",
    "a%00b",
    "a/..;/b",
    "a/..;x=y/b",
    "a/%2e%2e%3bx/b",
    ";a/b",
    "e\u0301",  # é in two characters: another spelling of a name that can be written in one
    "x" * 256,
    "é" * 128,
    "/".join(["d" * 100] * 10),
    "/".join(["模" * 80] * 9),
)


def use_store(settings: Settings, kind: str, **options: Any) -> None:
    """Keep the files elsewhere for this test."""
    store = {"BACKEND": f"models_registry.files.{kind}", "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "artifacts": store}
