"""Clearing away bytes that no file has, and uploads that never ended.

Each deletion is a transaction of its own under the lock or the row that an upload takes too, so an
upload may run beside it and either of them may be killed at any point.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from django.core.files.storage import storages
from django.db.models import Exists, OuterRef

from models_registry.files.artifacts import lock_digest, store
from models_registry.files.folder_store import Stored
from models_registry.models import ArtifactFile, Blob, Upload
from tenants.isolation.scope import tenant_scope
from tenants.models import Tenant

ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
BLOB_KEY = re.compile(rf"tenants/{ID}/blobs/[0-9a-f]{{2}}/(?P<digest>[0-9a-f]{{64}})")
UPLOAD_KEY = re.compile(rf"tenants/{ID}/uploads/(?P<pk>{ID})")
BATCH_KEYS = 1000


@dataclass(frozen=True, slots=True)
class Garbage:
    """Something cleared away (in a dry run: that would be): what it was, and its size in bytes."""

    kind: str
    size: int


@dataclass(frozen=True, slots=True)
class Collection:
    """What one run takes: what has not been touched since ``before``; a dry run, nothing."""

    before: datetime
    dry_run: bool = False

    def of_team(self, tenant: Tenant) -> Iterator[Garbage]:
        """Clear away what one team left."""
        yield from self._uploads(tenant)
        yield from self._blobs(tenant)
        old = (
            found
            for found in store().stored(f"tenants/{tenant.pk}")
            if found.written_at < self.before
        )
        for keys in _batches(old):
            yield from self._unknown(tenant, keys)

    def of_no_team(self) -> Iterator[Garbage]:
        """Clear away what lies under the ids of teams that the database does not know."""
        for folder in _folders_of_no_team():
            for found in store().stored(folder):
                ours = BLOB_KEY.fullmatch(found.key) or UPLOAD_KEY.fullmatch(found.key)
                if ours and found.written_at < self.before:
                    if not self.dry_run:
                        store().clear(found.key)
                    yield Garbage("of no team", found.size)

    def _uploads(self, tenant: Tenant) -> Iterator[Garbage]:
        with tenant_scope(tenant):
            ids = list(Upload.objects.filter(seen_at__lt=self.before).values_list("pk", flat=True))
        for pk in ids:
            with tenant_scope(tenant):
                # SKIP LOCKED: an upload that is just becoming a file holds its row's lock.
                rows = Upload.objects.select_for_update(skip_locked=True)
                upload = rows.filter(pk=pk, seen_at__lt=self.before).first()
                if upload is None:
                    continue
                size = store().size_of(upload.key) or 0
                if not self.dry_run:
                    store().clear(upload.key)
                    upload.delete()
            yield Garbage("broken uploads", size)

    def _blobs(self, tenant: Tenant) -> Iterator[Garbage]:
        files = ArtifactFile.objects.filter(blob=OuterRef("pk"))
        unused = Blob.objects.filter(~Exists(files), created_at__lt=self.before)
        with tenant_scope(tenant):
            found = list(unused)
        for blob in found:
            with tenant_scope(tenant):
                lock_digest(tenant.pk, blob.digest)
                if not unused.filter(pk=blob.pk).exists():
                    continue
                if not self.dry_run:
                    # The row first: if a file refers to it, the database refuses.
                    blob.delete()
                    store().discard(blob.key)
            yield Garbage("files that are gone", blob.size)

    def _unknown(self, tenant: Tenant, keys: list[Stored]) -> Iterator[Garbage]:
        """Clear away keys without a row; what does not look like a key of ours is left alone."""
        with tenant_scope(tenant):
            known = set(_known(keys))
        for found in keys:
            blob, upload = BLOB_KEY.fullmatch(found.key), UPLOAD_KEY.fullmatch(found.key)
            if found.key in known or not (blob or upload):
                continue
            with tenant_scope(tenant):
                if blob:
                    lock_digest(tenant.pk, blob["digest"])
                if found.key in _known([found]):  # its row was written meanwhile
                    continue
                if not self.dry_run:
                    store().clear(found.key)
            yield Garbage("without a row", found.size)


def _known(keys: list[Stored]) -> Iterator[str]:
    """Return those of the keys that a row of the acting team names."""
    blobs = [match["digest"] for key in keys if (match := BLOB_KEY.fullmatch(key.key))]
    uploads = [match["pk"] for key in keys if (match := UPLOAD_KEY.fullmatch(key.key))]
    if blobs:
        yield from (blob.key for blob in Blob.objects.filter(digest__in=blobs))
    if uploads:
        yield from (upload.key for upload in Upload.objects.filter(pk__in=uploads))


def _folders_of_no_team() -> list[str]:
    # List folders before tenants: a tenant that is created in between has no folder listed yet.
    names, _ = storages["artifacts"].listdir("tenants") if _has_any() else ([], [])
    teams = {str(pk) for pk in Tenant.objects.values_list("pk", flat=True)}
    return [f"tenants/{name}" for name in names if re.fullmatch(ID, name) and name not in teams]


def _has_any() -> bool:
    return next(store().stored("tenants"), None) is not None


def _batches(keys: Iterator[Stored]) -> Iterator[list[Stored]]:
    while batch := list(islice(keys, BATCH_KEYS)):
        yield batch
