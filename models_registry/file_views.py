"""The pages of a version's files: folders, one file, downloads, and uploads until it is complete.

A file is bytes of unknown origin: it is shown as text or not at all, and sent to be saved.
"""

import posixpath
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    StreamingHttpResponse,
)
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from models_registry import queries, registry
from models_registry.errors import StoreUnavailable
from models_registry.files import artifacts
from models_registry.files.downloads import OCTETS, to_be_saved
from models_registry.files.folder_store import CHUNK_BYTES
from models_registry.files.request_body import length_of, pieces_of
from models_registry.forms import PathForm, UploadForm
from models_registry.models import ArtifactFile, ModelVersion
from models_registry.validators import validate_path
from models_registry.views import find_version
from tenants.access import member, receives_bytes, require
from tenants.errors import Refusal
from tenants.isolation.credentials import NotAMember
from tenants.isolation.scope import Scope, member_scope

#: At most this many bytes of a file are shown.
PREVIEW_BYTES = 64 * 1024
#: Shows control characters, except line ends and tabs, as Unicode's pictures of them.
PICTURES = {code: 0x2400 + code for code in range(32) if code not in (9, 10, 13)} | {127: 0x2421}
#: At most this many bytes of a refused upload are read and dropped: a browser reads the answer only
#: after it has sent the body.
MAX_DRAINED_BYTES = 64 * 1024 * 1024
ADD = artifacts.ADD


# --- looking at files ----------------------------------------------------------------------


@member
@require_safe
def files(request: HttpRequest, tenant: str, name: str, number: int) -> HttpResponse:
    """List the top folder of a version; without files say where they are."""
    return _folder(request, find_version(name, number), "")


@member
@require_safe
def file(request: HttpRequest, tenant: str, name: str, number: int, path: str) -> HttpResponse:
    """Show what lies at a path of a version: a folder's entries, or a file."""
    version = find_version(name, number)
    found = _file(version, path)
    if found is None:
        return _folder(request, version, path)
    context = _context(version) | {
        "file": found,
        "parts": _parts(found.path),
        "preview": _preview(found),
        "limit": PREVIEW_BYTES,
    }
    return render(request, "models_registry/file.html", context)


@member
@require_safe
def download(
    request: HttpRequest, tenant: str, name: str, number: int, path: str
) -> HttpResponseBase:
    """Send a file, to be saved and never shown, and count that the version was fetched."""
    version = find_version(name, number)
    found = _file(version, path)
    if found is None:
        raise Http404
    filename = posixpath.basename(found.path)
    if request.method == "HEAD":
        return _sized(to_be_saved(HttpResponse(), filename), found)
    try:
        if artifacts.sends_directly():
            response: HttpResponseBase = redirect(artifacts.presigned_url(found, filename))
        else:
            body = StreamingHttpResponse(artifacts.open_file(found))
            response = _sized(to_be_saved(body, filename), found)
    except StoreUnavailable:
        messages.error(request, f"“{filename}” cannot be fetched now: {STORE_IS_AWAY}")
        return redirect("file", tenant, name, number, found.path)
    registry.count_download(version)
    return response


STORE_IS_AWAY = "the store of files does not answer. Try again later."


def _sized(response: HttpResponseBase, found: ArtifactFile) -> HttpResponseBase:
    response["Content-Length"] = str(found.blob.size)
    return response


def _file(version: ModelVersion, path: str) -> ArtifactFile | None:
    """Return the file at ``path``; None for a folder and for nothing. A bad path is nothing."""
    try:
        validate_path(path)
    except ValidationError:
        raise Http404 from None
    return artifacts.file_at(version, path)


def _folder(request: HttpRequest, version: ModelVersion, path: str) -> HttpResponse:
    entries = queries.folder_of(version, path)
    if path and not entries:
        raise Http404
    context = _context(version) | {
        "folder": path,
        "parts": _parts(path),
        "entries": entries[: queries.MAX_LISTED_ENTRIES],
        "count": len(entries),
        "unfinished": artifacts.unfinished(version)[:20],
    }
    partial = request.htmx and not request.htmx.history_restore_request  # type: ignore[attr-defined]  # django-htmx
    template = "models_registry/_files.html" if partial else "models_registry/files.html"
    return render(request, template, context)


def _context(version: ModelVersion) -> dict[str, Any]:
    return {"model": version.model, "version": version, "extent": queries.extent_of(version)}


def _parts(path: str) -> list[tuple[str, str]]:
    """Return each name in the path, with the path up to there."""
    names = path.split("/") if path else []
    return [(name, "/".join(names[: at + 1])) for at, name in enumerate(names)]


@dataclass(frozen=True)
class Preview:
    """The beginning of a file as text, or in ``why_not`` why there is none."""

    text: str = ""
    why_not: str = ""
    lines: int = 0


def _preview(found: ArtifactFile) -> Preview:
    try:
        content = b"".join(artifacts.open_file(found, 0, min(found.blob.size, PREVIEW_BYTES)))
    except StoreUnavailable:
        return Preview(why_not=f"No preview now: {STORE_IS_AWAY}")
    if not content:
        return Preview(why_not="This file is empty.")
    text = _as_text(content, cut=found.blob.size > PREVIEW_BYTES)
    if text is None:
        return Preview(why_not="Binary file: no preview. Download it to look at it.")
    return Preview(text.translate(PICTURES), lines=text.count("\n") + (not text.endswith("\n")))


def _as_text(content: bytes, *, cut: bool) -> str | None:
    """Decode UTF-8; the last character may be ``cut``. None for what is no text."""
    if b"\x00" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        # Up to three bytes of a character of four may be left where the preview ends.
        if cut and error.reason == "unexpected end of data" and error.end == len(content):
            return content[: error.start].decode()
        return None


# --- sending files -------------------------------------------------------------------------


@dataclass(frozen=True)
class Destination:
    """Where files go: what opens the sender's scope, and the version that takes them."""

    acting: artifacts.Acting
    version: ModelVersion


def _destination(request: HttpRequest, team: str, name: str, number: int) -> Destination:
    acting = partial(_acting, request.user, team)
    with acting():
        require(ADD)
        return Destination(acting, find_version(name, number))


@contextmanager
def _acting(user: Any, team: str) -> Iterator[Scope]:
    """Act for the team as its member ``user``; raises Http404 if the membership ended."""
    try:
        with member_scope(user, team) as scope:
            yield scope
    except NotAMember:  # the membership ended during the upload
        raise Http404 from None


@receives_bytes(ADD)
@require_POST
def upload_file(
    request: HttpRequest, tenant: str, name: str, number: int, path: str
) -> HttpResponse:
    """Keep the request's body as a file of a version that is not complete yet.

    The body is the file, as application/octet-stream; it is read in pieces.
    """
    destination = _destination(request, tenant, name, number)
    if request.content_type != OCTETS:
        status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        return JsonResponse({"error": f"Send the file as {OCTETS}."}, status=status)
    try:
        length = _length(request)
        kept = _keep(destination, path, pieces_of(request, length), length)
    except Refusal as refusal:
        _read_on(request)
        return JsonResponse({"error": refusal.page_words}, status=refusal.status)
    return JsonResponse({"path": kept.path, "size": kept.blob.size, "sha256": kept.blob.digest})


@receives_bytes(ADD)
@require_POST
def upload(request: HttpRequest, tenant: str, name: str, number: int) -> HttpResponse:
    """Keep the file of a form: how browsers without JavaScript send files, one by one."""
    destination = _destination(request, tenant, name, number)
    form = UploadForm(request.POST, request.FILES)
    if not form.is_valid():
        messages.error(request, "Choose a file.")
        return redirect("files", tenant, name, number)
    chosen = form.cleaned_data["chosen"]
    path = posixpath.join(form.cleaned_data["folder"].strip("/"), chosen.name)
    try:
        _keep(destination, path, chosen.chunks(CHUNK_BYTES), chosen.size)
    except Refusal as refusal:
        messages.error(request, f"“{path}” was not kept. {refusal.page_words}")
    else:
        messages.success(request, f"“{path}” is uploaded.")
    return redirect("files", tenant, name, number)


class FileRefused(Refusal):
    """A file was not kept since its path or its announced length cannot be."""

    def __init__(self, status: HTTPStatus, error: ValidationError) -> None:
        self.status = status
        super().__init__(" ".join(error.messages))


def _length(request: HttpRequest) -> int | None:
    try:
        return length_of(request)
    except ValidationError as error:
        raise FileRefused(HTTPStatus.BAD_REQUEST, error) from None


def _keep(
    destination: Destination, path: str, pieces: Iterable[bytes], length: int | None
) -> ArtifactFile:
    """Add a file, outside any transaction; raises Refusal."""
    try:
        return artifacts.add_file(
            destination.acting, destination.version, path, pieces, length=length
        )
    except ValidationError as error:
        raise FileRefused(HTTPStatus.UNPROCESSABLE_ENTITY, error) from None


def _read_on(request: HttpRequest) -> None:
    left = MAX_DRAINED_BYTES
    while left > 0 and (piece := request.read(CHUNK_BYTES)):
        left -= len(piece)


# --- until it is complete ------------------------------------------------------------------


@member(ADD)
@require_POST
def remove_files(request: HttpRequest, tenant: str, name: str, number: int) -> HttpResponse:
    """Remove a file, a folder or an unfinished upload of a version that is not complete yet."""
    version = find_version(name, number)
    form = PathForm(request.POST)
    if not form.is_valid():
        raise Http404
    path = form.cleaned_data["path"]
    try:
        removed = registry.remove_files(version, path)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        if not removed:
            raise Http404
        messages.success(request, f"“{path}” is removed.")
    return redirect("files", tenant, name, number)


@member("models_registry.change_modelversion")
@require_POST
def finish_version(request: HttpRequest, tenant: str, name: str, number: int) -> HttpResponse:
    """Make the version ready, once all its files are there."""
    version = find_version(name, number)
    try:
        registry.finish_version(version)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        return redirect("files", tenant, name, number)
    messages.success(request, f"Version {number} is ready.")
    return redirect("version", tenant, name, number)
