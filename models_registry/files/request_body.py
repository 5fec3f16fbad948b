"""The body of a request that is a file: its announced length, and its bytes as they arrive."""

from collections.abc import Iterator

from django.core.exceptions import ValidationError
from django.http import HttpRequest, UnreadablePostError

from models_registry.errors import BrokenUpload, NoLength
from models_registry.files.folder_store import CHUNK_BYTES


def length_of(request: HttpRequest) -> int | None:
    """Return the announced length in bytes, None if none is; raises ValidationError."""
    length = request.META.get("CONTENT_LENGTH") or ""
    if length.isdecimal() and len(length) < 19:
        return int(length)
    if length:
        raise ValidationError("The Content-Length is no number of bytes.")
    return None


def pieces_of(request: HttpRequest, length: int | None) -> Iterator[bytes]:
    """Yield the body as it arrives; raises BrokenUpload, and NoLength for one of unknown length.

    The server cannot tell whether a body without a length has ended or broken off. Only an empty
    one is taken: MLflow's client sends empty files so.
    """
    if length is None:
        if request.META["wsgi.input"].read(1):
            raise NoLength
        return
    try:
        while piece := request.read(CHUNK_BYTES):
            yield piece
    except UnreadablePostError:
        raise BrokenUpload("The connection broke off.") from None
