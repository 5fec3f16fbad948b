"""MLflow's artifact endpoints: files sent to the upload area, and read from it and from versions.

``mlflow-artifacts:/<path>`` is the team's upload area; ``versions/<id>/<path>`` in it are the files
of one version, which can be read, and written while the version is PENDING. A path is compared
with rows and goes no farther. ``workspaces/<team>/`` before it may name the token's own team.
"""

import base64
import binascii
import mimetypes
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    StreamingHttpResponse,
)
from django.utils.http import parse_etags

from models_registry.files import artifacts
from models_registry.files.downloads import OCTETS, to_be_saved
from models_registry.files.paths import ArtifactPath, as_id, bounds_below, parse_path
from models_registry.files.request_body import length_of, pieces_of
from models_registry.mlflow.request_fields import Field, read, text
from models_registry.models import Blob, ModelVersion, Upload
from models_registry.validators import validate_path
from tenants.access import require
from tenants.api import Call, endpoint, json_response, writing
from tenants.errors import InvalidRequest, NotFound, Refusal
from tenants.isolation.scope import Scope
from tenants.isolation.statements import ACTING_TENANT
from tenants.prepared import query_as

ARTIFACTS = "2.0/mlflow-artifacts/artifacts"
PARTS = "2.0/mlflow-artifacts/mpu"


# --- where a path leads --------------------------------------------------------------------


def _parse_path(path: str, *, of_file: bool = True) -> ArtifactPath:
    """Return where ``path`` leads; raises ValidationError. A folder may be '' or end in `/`."""
    if not of_file:
        path = path.removesuffix("/")
    if of_file or path:
        validate_path(path)
    where = parse_path(path)
    if of_file and not where.path:
        raise _missing(where)
    return where


def _check_team(where: ArtifactPath, scope: Scope) -> None:
    """Refuse a path that names another team, as if there were nothing there."""
    if not where.is_of(scope.slug):
        raise _missing(where)


def _version(where: ArtifactPath) -> ModelVersion | None:
    """Return the version that the path names, None for the upload area; raises NotFound."""
    if where.version_id is None:
        return None
    version = ModelVersion.objects.filter(pk=where.version_id).first()
    if version is None:
        raise _missing(where)
    return version


def _missing(where: ArtifactPath) -> NotFound:
    """Return the refusal: nothing is there, or nothing that the caller may see."""
    return NotFound(f"No such artifact: '{where.sent}'")


# --- reading -------------------------------------------------------------------------------

OF_UPLOAD_AREA = "version_id IS NULL"
OF_VERSION = "version_id = %s"
#: The file's blob; a row of NULLs where the path is a folder's.
FIND = f"""
SELECT blob.tenant_id, blob.digest, blob.size
  FROM models_registry_artifactfile file
  JOIN models_registry_blob blob ON blob.tenant_id = file.tenant_id AND blob.id = file.blob_id
 WHERE file.tenant_id = {ACTING_TENANT} AND file.{{whose}} AND file.path = %s
UNION ALL
SELECT NULL, NULL, NULL
 WHERE EXISTS (
       SELECT FROM models_registry_artifactfile file
        WHERE file.tenant_id = {ACTING_TENANT} AND file.{{whose}}
          AND file.path >= %s AND file.path < %s)"""  # noqa: S608 - constants
FIND_IN_VERSION = f"""
SELECT blob.tenant_id, blob.digest, blob.size
  FROM models_registry_registeredmodel model
  JOIN models_registry_modelversion version
    ON version.tenant_id = model.tenant_id AND version.model_id = model.id
  JOIN models_registry_artifactfile file
    ON file.tenant_id = version.tenant_id AND file.version_id = version.id
  JOIN models_registry_blob blob ON blob.tenant_id = file.tenant_id AND blob.id = file.blob_id
 WHERE model.tenant_id = {ACTING_TENANT} AND model.name = %s
   AND version.number = %s AND file.path = %s"""  # noqa: S608 - constants


@endpoint("GET", f"{ARTIFACTS}/")
def download(call: Call) -> HttpResponseBase:
    """Answer with the bytes of a file, or with the part of them that is asked for."""
    where = _parse_path(call.rest)
    try:
        blob = _find(call, where)
    except IsFolder as error:
        body = {"error_code": error.error_code, "message": error.words, "detail": error.words}
        return json_response(body, error.status)
    return _file(call.request, blob, posixpath.basename(where.path))


@endpoint("GET", "model-versions/get-artifact")
def version_file(call: Call) -> HttpResponseBase:
    """Answer with a file of a version, by the names of both."""
    params = read(
        call.request,
        text("name", required=True),
        text("version", required=True),
        text("path", required=True),
    )
    validate_path(params["path"])
    nothing = NotFound(f"No such artifact: '{params['path']}'")
    if not re.fullmatch(r"[0-9]{1,9}", params["version"]):
        raise nothing
    values = [params["name"], int(params["version"]), params["path"]]
    _, rows = query_as(call.credential, FIND_IN_VERSION, values)
    if not rows:
        raise nothing
    return _file(call.request, _blob(rows[0]), posixpath.basename(params["path"]))


@endpoint("GET", ARTIFACTS)
def list_folder(call: Call) -> HttpResponse:
    """List what lies in a folder; of a file and of what is not there, nothing."""
    where = _parse_path(read(call.request, text("path"))["path"] or "", of_file=False)
    try:
        with writing(call) as scope:
            _check_team(where, scope)
            entries = artifacts.files_under(_version(where), where.path)
    except NotFound:
        entries = []
    files = [
        {"path": entry.name, "is_dir": entry.is_dir}
        | ({} if entry.is_dir else {"file_size": entry.size})
        for entry in entries
    ]
    return json_response({"files": files} if files else {})


def _find(call: Call, where: ArtifactPath) -> Blob:
    whose = OF_UPLOAD_AREA if where.version_id is None else OF_VERSION
    version = [] if where.version_id is None else [where.version_id]
    values = [*version, where.path, *version, *bounds_below(where.path)]
    scope, rows = query_as(call.credential, FIND.format(whose=whose), values)
    _check_team(where, scope)
    if not rows:
        raise _missing(where)
    if rows[0][1] is None:
        raise IsFolder(where.sent)
    return _blob(rows[0])


def _blob(row: tuple[Any, ...]) -> Blob:
    tenant_id, digest, size = row
    return Blob(tenant_id=tenant_id, digest=digest, size=size)


class IsFolder(InvalidRequest):
    """A folder was asked for as if it were a file."""

    def __init__(self, path: str) -> None:
        super().__init__(f"'{path}' is a folder: list it instead.")


class RangeNotSatisfiable(InvalidRequest):
    """The range begins behind the end of the file."""

    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE

    def __init__(self, size: int) -> None:
        super().__init__(f"The file has {size} bytes.")
        self.headers = {"Content-Range": f"bytes */{size}"}


class NotSupported(Refusal):
    """The store that the settings name cannot do this."""

    error_code = "NOT_IMPLEMENTED"


# --- the answer with a file ----------------------------------------------------------------

#: Media types that a file of unknown origin may have: a browser runs nothing in them.
HARMLESS = {"application/json", "application/zip", "image/gif", "image/jpeg", "image/png"}
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def _file(request: HttpRequest, blob: Blob, name: str) -> HttpResponseBase:
    """Answer with the file, to be saved and never shown: it may hold anything."""
    etag = f'"{blob.digest}"'
    if _matches(request.headers.get("If-None-Match", ""), etag):
        return _described(HttpResponse(status=HTTPStatus.NOT_MODIFIED), etag, name)
    part = _part(request, blob.size, etag)
    start, end = part or (0, blob.size)
    if request.method == "HEAD":
        response: HttpResponseBase = HttpResponse()
    else:
        response = StreamingHttpResponse(artifacts.open_file(blob, start, end))
    if part:
        response.status_code = HTTPStatus.PARTIAL_CONTENT
        response["Content-Range"] = f"bytes {start}-{end - 1}/{blob.size}"
    response["Content-Length"] = str(end - start)
    return _described(response, etag, name)


def _described(response: HttpResponseBase, etag: str, name: str) -> HttpResponseBase:
    response["ETag"] = etag
    response["Accept-Ranges"] = "bytes"
    return to_be_saved(response, name, _content_type(name))


def _content_type(name: str) -> str:
    kind, encoding = mimetypes.guess_type(name)
    if kind is None or encoding is not None:
        return OCTETS
    if kind.startswith("text/"):
        return "text/plain"
    return kind if kind in HARMLESS else OCTETS


def _matches(header: str, etag: str) -> bool:
    return any(known.removeprefix("W/") in {"*", etag} for known in parse_etags(header))


def _part(request: HttpRequest, size: int, etag: str) -> tuple[int, int] | None:
    """Return from where up to where the bytes are wanted, None for all; raises RangeNotSatisfiable.

    Several ranges at once and what is no range are answered with the whole file, as RFC 9110 has
    it; so is a range of a file that has changed since (If-Range).
    """
    found = RANGE.fullmatch(request.headers.get("Range", "").replace(" ", ""))
    if found is None or found[0] == "bytes=-":
        return None
    if request.headers.get("If-Range", etag) != etag:
        return None
    if not found[1]:
        start, end = max(0, size - int(found[2])), size
    else:
        start, end = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
        if found[2] and int(found[2]) < start:
            return None
    if start >= size:
        raise RangeNotSatisfiable(size)
    return start, end


# --- writing -------------------------------------------------------------------------------


@contextmanager
def _writing(call: Call, where: ArtifactPath) -> Iterator[Scope]:
    """Act for the sender, whose team ``where`` must be in and who must have the right to write."""
    with writing(call) as scope:
        _check_team(where, scope)
        require(artifacts.ADD)
        yield scope


def _destination(call: Call, where: ArtifactPath) -> tuple[artifacts.Acting, ModelVersion | None]:
    """Return what opens the sender's scope, and the version that takes files there."""
    acting = partial(_writing, call, where)
    with acting():
        return acting, _version(where)


@endpoint("PUT", f"{ARTIFACTS}/")
def upload(call: Call) -> HttpResponse:
    """Store the body as a file; one that is there is replaced."""
    where = _parse_path(call.rest)
    acting, version = _destination(call, where)
    length = length_of(call.request)
    artifacts.add_file(
        acting,
        version,
        where.path,
        pieces_of(call.request, length),
        length=length,
        digest=_digest(call.request),
    )
    return HttpResponse()


def _digest(request: HttpRequest) -> str | None:
    """Return the SHA-256 that the sender announced (RFC 9530), if one."""
    for digest in request.headers.get("Content-Digest", "").split(","):
        name, _, value = digest.strip().partition("=")
        if name.lower() == "sha-256":
            try:
                return base64.b64decode(value.strip(":"), validate=True).hex()
            except binascii.Error:
                raise InvalidRequest("The Content-Digest is not in base64.") from None
    return None


@endpoint("DELETE", f"{ARTIFACTS}/")
def delete(call: Call) -> HttpResponse:
    """Delete a file or a folder of the upload area, or of a version that is PENDING."""
    where = _parse_path(call.rest)
    with _writing(call, where):
        if not artifacts.delete_under(_version(where), where.path):
            raise _missing(where)
    return json_response({})


# --- between the client and the store directly ---------------------------------------------


def _only_directly(call: Call, what: str) -> None:
    """Raise NotSupported where the store is a folder, and BadToken first without a valid token."""
    if artifacts.sends_directly():
        return
    with writing(call):
        raise NotSupported(f"{what} is not supported for the current artifact repository")


@endpoint("GET", "2.0/mlflow-artifacts/presigned/")
def presigned_download(call: Call) -> HttpResponse:
    """Answer with an address at which the store itself gives the file, for a while."""
    _only_directly(call, "Multipart download")
    where = _parse_path(call.rest)
    blob = _find(call, where)
    url = artifacts.presigned_url(blob, posixpath.basename(where.path))
    return json_response({"url": url, "headers": {}, "file_size": blob.size})


def _folder_and_name(call: Call, params: dict[str, Any]) -> ArtifactPath:
    # MLflow's client sends its local path; only the file's name counts.
    name = re.split(r"[/\\]", params["path"])[-1]
    folder = call.rest.strip("/")
    return _parse_path(f"{folder}/{name}" if folder else name)


@endpoint("POST", f"{PARTS}/create/")
def create_parts(call: Call) -> HttpResponse:
    """Begin an upload in parts, and answer with the addresses at which the store takes them."""
    _only_directly(call, "Multipart upload")
    params = read(call.request, text("path", required=True), Field("num_parts", "integer"))
    where = _folder_and_name(call, params)
    acting, version = _destination(call, where)
    count = 1 if params["num_parts"] is None else params["num_parts"]
    upload, urls = artifacts.begin_parts(acting, version, where.path, count)
    credentials = [
        {"url": url, "part_number": number, "headers": {}} for number, url in enumerate(urls, 1)
    ]
    return json_response({"upload_id": str(upload.pk), "credentials": credentials})


@endpoint("POST", f"{PARTS}/complete/")
def complete_parts(call: Call) -> HttpResponse:
    """Make a file of the parts that the store has."""
    _only_directly(call, "Multipart upload")
    params = read(
        call.request,
        text("path", required=True),
        text("upload_id", required=True),
        Field("parts", "objects"),
    )
    where = _folder_and_name(call, params)
    upload = _upload(call, where, params["upload_id"])
    artifacts.complete_parts(partial(_writing, call, where), upload, _parts(params["parts"]))
    return json_response({})


@endpoint("POST", f"{PARTS}/abort/")
def abort_parts(call: Call) -> HttpResponse:
    """Give up an upload in parts."""
    _only_directly(call, "Multipart upload")
    params = read(call.request, text("path", required=True), text("upload_id", required=True))
    where = _folder_and_name(call, params)
    upload = _upload(call, where, params["upload_id"])
    artifacts.abort_parts(partial(_writing, call, where), upload)
    return json_response({})


def _upload(call: Call, where: ArtifactPath, upload_id: str) -> Upload:
    """Return the team's upload in parts of this id and path; raises NotFound."""
    with _writing(call, where):
        found = (
            Upload.objects.filter(pk=as_id(upload_id), version=_version(where))
            .filter(path=where.path)
            .exclude(multipart_id="")
            .select_related("tenant")
            .first()
        )
    if found is None:
        raise NotFound(f"No such upload: '{upload_id}'")
    upload: Upload = found
    return upload


def _parts(parts: list[dict[str, Any]] | None) -> list[tuple[int, str]]:
    found = []
    for part in parts or []:
        number, etag = part.get("part_number"), part.get("etag")
        if not isinstance(number, int) or not isinstance(etag, str):
            raise InvalidRequest("Each part has a part_number and an etag.")
        found.append((number, etag))
    return sorted(found)
