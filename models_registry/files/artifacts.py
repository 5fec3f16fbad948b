"""The files of versions and of a team's upload area: rows here, their bytes in the store.

Keys are made of ids and the SHA-256 of the bytes, never of a client's path. Bytes are received
before the transaction that makes them a file, under a key of their own; what is cut off in between
is no file, and ``collect_garbage`` clears it away. Equal files of a team share their bytes, those
of two teams never do.

Bytes are put at their key, and deleted from it, under an advisory lock of PostgreSQL on team and
digest, together with their rows. A process that dies in between leaves bytes without a row or a row
without bytes; the next upload of the same bytes, or ``collect_garbage``, puts it right.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from django.contrib.postgres.aggregates import BoolOr
from django.core.exceptions import ValidationError
from django.core.files.storage import storages
from django.db import DatabaseError, connection, models, transaction
from django.db.models import Func, Value
from django.db.models.functions import Substr
from django.utils import timezone

from models_registry.errors import BrokenUpload, Conflict, OutOfSpace, StoreUnavailable
from models_registry.files.downloads import disposition
from models_registry.files.folder_store import MAX_PARTS, Store
from models_registry.files.paths import at_or_below, below, bounds_below
from models_registry.models import ArtifactFile, Blob, ModelVersion, Upload
from models_registry.validators import validate_path
from tenants import audit
from tenants.access import require
from tenants.isolation.scope import Scope, tenant_scope
from tenants.models import Tenant

if TYPE_CHECKING:
    from models_registry.files.s3_store import BucketStorage

#: Seconds between two updates of `seen_at` while an upload runs.
SEEN_SECONDS = 10
#: Opens the uploader's scope. Called again during a long upload, so that a revoked permission is
#: noticed.
Acting = Callable[[], AbstractContextManager[Scope]]
ADD = "models_registry.add_modelversion"


@dataclass(frozen=True, slots=True)
class Entry:
    """What lies in a folder; the size of a folder, in bytes, is that of all files below it."""

    name: str
    is_dir: bool
    size: int


def store() -> Store:
    """Return the store that the settings name."""
    return cast(Store, storages["artifacts"])


def sends_directly() -> bool:
    """Tell whether clients may exchange bytes with the store itself, by presigned addresses."""
    return store().sends_directly


# --- adding files --------------------------------------------------------------------------


def add_file(
    acting: Acting,
    version: ModelVersion | None,
    path: str,
    chunks: Iterable[bytes],
    *,
    length: int | None = None,
    digest: str | None = None,
) -> ArtifactFile:
    """Store what ``chunks`` bring as a file of ``version``, or of the upload area (None).

    Call it outside any transaction. ``acting`` opens the uploader's scope, which is asked for the
    right to write at the beginning, every ``SEEN_SECONDS``, and when all bytes are there. A file
    that is there under the same path is replaced. ``length`` (bytes) and ``digest`` (SHA-256,
    hexadecimal) are what the sender announced: BrokenUpload if they are wrong. Raises
    ValidationError for a bad path and for a version that takes no files any more, Conflict where
    the upload was given up meanwhile, PermissionDenied and what ``acting`` raises, OutOfSpace and
    StoreUnavailable.
    """
    validate_path(path)
    if length is not None and not store().has_room_for(length):
        raise OutOfSpace
    with _uploading(acting, version, path) as upload:
        received = _Received(acting, upload, chunks, length)
        store().receive(upload.key, received, length)
        if length is not None and received.size != length:
            raise received.broken()
        if digest is not None and received.digest != digest:
            raise BrokenUpload("The bytes that arrived have another SHA-256 than announced.")
        return _keep(acting, upload, received)


class _Received:
    """The chunks of an upload as they pass by: counted, hashed, and the upload kept alive."""

    def __init__(
        self, acting: Acting, upload: Upload, chunks: Iterable[bytes], length: int | None
    ) -> None:
        self.acting = acting
        self.upload = upload
        self.chunks = chunks
        self.length = length
        self.size = 0
        self._sum = hashlib.sha256()

    @property
    def digest(self) -> str:
        """The SHA-256 of what has passed by."""
        return self._sum.hexdigest()

    def broken(self) -> BrokenUpload:
        """Return the refusal of more or fewer bytes than were announced."""
        return BrokenUpload(f"{self.size} bytes arrived of {self.length}.")

    def __iter__(self) -> Iterator[bytes]:
        marked = time.monotonic()
        for chunk in self.chunks:
            self._sum.update(chunk)
            self.size += len(chunk)
            # Checked for each chunk: a client that sends more than it announced may never end.
            if self.length is not None and self.size > self.length:
                raise self.broken()
            yield chunk
            if time.monotonic() - marked > SEEN_SECONDS:
                marked = time.monotonic()
                _mark_as_seen(self.acting, self.upload)


@contextmanager
def _writing(acting: Acting) -> Iterator[Scope]:
    """Act for the sender, who must have the right to write at this moment."""
    with acting() as scope:
        require(ADD)
        yield scope


@contextmanager
def _uploading(acting: Acting, version: ModelVersion | None, path: str) -> Iterator[Upload]:
    """Keep a row of the upload until it has become a file; after a failure clear it away."""
    upload = _begin(acting, version, path)
    try:
        yield upload
    except BaseException:
        _give_up(upload)
        raise


def _begin(acting: Acting, version: ModelVersion | None, path: str) -> Upload:
    with _writing(acting) as scope:
        _check_takes_files(version)
        _check_is_free(version, path)
        # Loads the tenant: giving up needs it, and the uploader's scope may be closed by then.
        upload: Upload = Upload.objects.create(
            tenant=Tenant.objects.get(pk=scope.tenant_id),
            version=version,
            path=path,
            user_id=scope.user_id,
        )
    return upload


def _mark_as_seen(acting: Acting, upload: Upload) -> None:
    with _writing(acting):
        if not Upload.objects.filter(pk=upload.pk).update(seen_at=timezone.now()):
            raise _given_up()


def _given_up() -> Conflict:
    return Conflict("This upload was given up meanwhile; begin it again.")


def _give_up(upload: Upload) -> None:
    """Clear away what arrived; what cannot be, now, ``collect_garbage`` finds."""
    with suppress(StoreUnavailable):
        store().clear(upload.key)
    with suppress(DatabaseError), tenant_scope(upload.tenant):
        Upload.objects.filter(pk=upload.pk).delete()


def _keep(acting: Acting, upload: Upload, received: _Received) -> ArtifactFile:
    """Make the received bytes a file, in one transaction.

    It is short with a folder. A bucket copies the bytes inside it, for minutes if they are many;
    meanwhile it holds the version (shared: others add files to it, nobody completes it), the
    upload's row and the digest, so that nobody deletes the bytes before a row names them.
    """
    with _writing(acting) as scope:
        _check_takes_files(upload.version)
        _check_is_free(upload.version, upload.path)
        if not Upload.objects.select_for_update().filter(pk=upload.pk).exists():
            raise _given_up()
        lock_digest(scope.tenant_id, received.digest)
        blob = _put(upload, received)
        file, replaced = _write_row(upload, blob)
        if replaced:
            _record("file.replaced", upload.version, upload.path)
        Upload.objects.filter(pk=upload.pk).delete()
    # The uploaded copy is left over if the tenant had these bytes already.
    with suppress(StoreUnavailable):
        store().discard(upload.key)
    return file


def _put(upload: Upload, received: _Received) -> Blob:
    """See to it that the bytes lie at their key, whatever an earlier attempt left there."""
    blob: Blob
    blob, _ = Blob.objects.get_or_create(digest=received.digest, defaults={"size": received.size})
    if store().size_of(blob.key) != received.size:
        store().place(upload.key, blob.key)
    return blob


def lock_digest(tenant_id: UUID, digest: str) -> None:
    """Let nobody else add or delete bytes of this digest until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{tenant_id} {digest}"]
        )


# The upload area (version_id IS NULL) has a partial unique index of its own, so its key differs.
WRITE_ROW = """
INSERT INTO models_registry_artifactfile (id, tenant_id, version_id, path, blob_id, created_at)
VALUES (%(id)s, %(tenant_id)s, %(version_id)s, %(path)s, %(blob_id)s, %(created_at)s)
ON CONFLICT {key} DO UPDATE SET blob_id = excluded.blob_id, created_at = excluded.created_at
RETURNING id, xmax <> 0"""
IN_VERSION = "(tenant_id, version_id, path)"
IN_UPLOAD_AREA = "(tenant_id, path) WHERE version_id IS NULL"


def _write_row(upload: Upload, blob: Blob) -> tuple[ArtifactFile, bool]:
    """Return the file, and whether it takes the place of another: PostgreSQL then has an xmax."""
    file = ArtifactFile(version_id=upload.version_id, path=upload.path, blob=blob)
    values = {field.attname: getattr(file, field.attname) for field in file._meta.concrete_fields}
    key = IN_VERSION if upload.version_id else IN_UPLOAD_AREA
    with connection.cursor() as cursor:
        cursor.execute(WRITE_ROW.format(key=key), values)
        file.pk, replaced = cursor.fetchone()
    return file, replaced


def _record(action: str, version: ModelVersion | None, path: str, **changes: Any) -> None:
    """Write in the team's log, and in the model's history if there is one, what became of files."""
    label = f"{version.model.name} version {version.number}: {path}" if version else path
    audit.record(action, version, label=label, changes={"path": path, **changes})


def _check_takes_files(version: ModelVersion | None) -> None:
    """Refuse a version that is no longer PENDING, and keep it so until the transaction ends."""
    if version is None:
        return
    # FOR SHARE, which Django cannot write: files of one version may arrive at the same time.
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT status FROM models_registry_modelversion"
            " WHERE tenant_id = %s AND id = %s FOR SHARE",
            [version.tenant_id, version.pk],
        )
        row = cursor.fetchone()
    if row is None:
        raise ValidationError("This version is gone.")
    if row[0] != ModelVersion.Status.PENDING:
        raise ValidationError(
            "The files of this version are complete; register a new version for others."
        )


def _check_is_free(version: ModelVersion | None, path: str) -> None:
    """Refuse a file where a folder is and a folder where a file is: no disk could hold both."""
    above = [path[:at] for at, letter in enumerate(path) if letter == "/"]
    clash = _files(version).filter(models.Q(path__in=above) | below(path)).order_by("path")
    found = clash.values_list("path", flat=True).first()
    if found is None:
        return
    if found in above:
        raise ValidationError(f"'{found}' is a file, so '{path}' cannot lie below it.")
    raise ValidationError(f"'{path}' is a folder, so it cannot be a file.")


# --- finding files -------------------------------------------------------------------------


def _files(version: ModelVersion | None) -> models.QuerySet[ArtifactFile]:
    return ArtifactFile.objects.filter(version=version)


def file_at(version: ModelVersion | None, path: str) -> ArtifactFile | None:
    """Return the file of the version, or of the upload area, with its blob."""
    return _files(version).filter(path=path).select_related("blob").first()


def files_under(version: ModelVersion | None, folder: str) -> list[Entry]:
    """Return what lies directly in ``folder`` ('' for all), by name; of a file, nothing."""
    rest = Substr("path", len(folder) + 2 if folder else 1)
    name = Func(
        "rest",
        Value("/"),
        Value(1),
        function="split_part",
        output_field=models.CharField(db_collation="C"),
    )
    found = (
        _files(version)
        .filter(below(folder))
        .annotate(rest=rest, name=name)
        .values("name")
        .annotate(is_dir=BoolOr(models.Q(rest__contains="/")), size=models.Sum("blob__size"))
        .order_by("name")
        .values_list("name", "is_dir", "size")
    )
    return [Entry(*row) for row in found]


def open_file(file: ArtifactFile | Blob, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """Return the bytes from ``start`` up to ``end`` (None: the last), in pieces, opened already.

    Reading them asks the database for nothing: a response may stream them after the scope has
    ended, and closes them. A file must come with its blob. Raises StoreUnavailable.
    """
    blob = file.blob if isinstance(file, ArtifactFile) else file
    return store().read(blob.key, start, blob.size if end is None else end)


def unfinished(version: ModelVersion | None) -> models.QuerySet[Upload]:
    """Return the uploads to the version, or the upload area, that run or broke off, by path.

    One does not count if a whole file came later under the same path.
    """
    whole = _files(version).filter(
        path=models.OuterRef("path"), created_at__gte=models.OuterRef("started_at")
    )
    uploads = Upload.objects.filter(version=version)
    return uploads.exclude(models.Exists(whole)).order_by("path")


def unfinished_under(path: str) -> Upload | None:
    """Return an unfinished upload at or below ``path`` of the upload area, if there is one."""
    return unfinished(None).filter(at_or_below(path)).first()


# --- changing and copying what is there ----------------------------------------------------


def delete_under(version: ModelVersion | None, path: str) -> int:
    """Delete the file at ``path``, or all that lies below it, and return how many files that were.

    The bytes go with the next ``collect_garbage``. Raises ValidationError for a bad path and for a
    version that is complete or gone. It asks for no permission: its callers do.
    """
    validate_path(path)
    with transaction.atomic():
        _check_takes_files(version)
        deleted, _ = _files(version).filter(at_or_below(path)).delete()
        if deleted:
            _record("file.deleted", version, path, count=deleted)
    return deleted


# FOR SHARE: no file may be deleted, and its bytes collected, while its row is copied.
COPY_ROWS = """
INSERT INTO models_registry_artifactfile (id, tenant_id, version_id, path, blob_id, created_at)
SELECT gen_random_uuid(), tenant_id, %(version_id)s, CASE path WHEN %(file)s THEN %(name)s
       ELSE substr(path, %(rest)s) END, blob_id, %(now)s
  FROM models_registry_artifactfile
 WHERE tenant_id = %(tenant_id)s AND {whose} AND {which}
   FOR SHARE"""
ALL = "true"
BELOW = "(path = %(file)s OR path >= %(first)s AND path < %(last)s)"


def snapshot(version: ModelVersion, folder: str, source: ModelVersion | None = None) -> int:
    """Copy to ``version`` the files below ``folder`` of the upload area, or of ``source``.

    Only rows are copied, and what happens to the originals later changes nothing. ``folder`` may
    be one file, which gets its bare name. Returns how many files there were. It asks for no
    permission: ``registry.add_version`` does.
    """
    first, last = bounds_below(folder)
    values = {
        "version_id": version.pk,
        "source_id": source.pk if source else None,
        "tenant_id": version.tenant_id,
        "file": folder,
        "name": folder.rpartition("/")[2],
        "first": first,
        "last": last,
        "rest": len(folder) + 2 if folder else 1,
        "now": timezone.now(),
    }
    whose = "version_id = %(source_id)s" if source else "version_id IS NULL"
    with connection.cursor() as cursor:
        cursor.execute(COPY_ROWS.format(whose=whose, which=BELOW if folder else ALL), values)
        copied: int = cursor.rowcount
    return copied


# --- between the client and the store directly ---------------------------------------------

#: Seconds for which the addresses that take parts are valid: all are issued at the start.
UPLOAD_SECONDS = 6 * 60 * 60
#: Seconds for which an address that gives a file is valid.
DOWNLOAD_SECONDS = 15 * 60


def _bucket() -> "BucketStorage":
    return cast("BucketStorage", storages["artifacts"])


def presigned_url(file: ArtifactFile | Blob, filename: str) -> str:
    """Return an address at which the store itself gives the file, to be saved as ``filename``.

    Only where ``sends_directly``. Anybody who has the address can read the file, for
    ``DOWNLOAD_SECONDS``. Raises StoreUnavailable.
    """
    blob = file.blob if isinstance(file, ArtifactFile) else file
    return _bucket().download_url(blob.key, disposition(filename), DOWNLOAD_SECONDS)


def begin_parts(
    acting: Acting, version: ModelVersion | None, path: str, count: int
) -> tuple[Upload, list[str]]:
    """Begin an upload whose parts the client sends to the store; return where to send them.

    As ``add_file``, call it outside any transaction; it asks for the right to write. Raises
    ValidationError for a bad path, for another number of parts than the store takes and for a
    version that takes no files any more, PermissionDenied and what ``acting`` raises, and
    StoreUnavailable.
    """
    validate_path(path)
    if not 1 <= count <= MAX_PARTS:
        raise ValidationError(f"An upload has 1 to {MAX_PARTS:,} parts.")
    with _uploading(acting, version, path) as upload:
        upload.multipart_id = _bucket().begin_parts(upload.key)
        with _writing(acting):
            upload.save(update_fields=["multipart_id"])
    urls = [
        _bucket().part_url(upload.key, upload.multipart_id, number, UPLOAD_SECONDS)
        for number in range(1, count + 1)
    ]
    return upload, urls


def complete_parts(
    acting: Acting, upload: Upload, etags: Sequence[tuple[int, str]]
) -> ArtifactFile:
    """Make a file of the parts; the bytes are read back once for their SHA-256.

    ``upload`` comes with its tenant; the right to write is asked for as ``add_file`` does. Raises
    BrokenUpload where the store has other parts than those with these ``etags``; the upload can
    then be completed otherwise, or given up. Raises Conflict where it was given up meanwhile,
    ValidationError for a version that takes no files any more, PermissionDenied and what
    ``acting`` raises, OutOfSpace and StoreUnavailable.
    """
    _mark_as_seen(acting, upload)
    if not _bucket().complete_parts(upload.key, upload.multipart_id, etags):
        raise BrokenUpload("The store has other parts than those named.")
    size = store().size_of(upload.key) or 0
    received = _Received(acting, upload, store().read(upload.key, 0, size), size)
    try:
        for _ in received:
            pass
        return _keep(acting, upload, received)
    except BaseException:
        _give_up(upload)
        raise


def abort_parts(acting: Acting, upload: Upload) -> None:
    """Give up an upload in parts, and delete those that have arrived.

    Raises PermissionDenied and what ``acting`` raises, and StoreUnavailable.
    """
    store().clear(upload.key)
    with _writing(acting):
        Upload.objects.filter(pk=upload.pk).delete()
