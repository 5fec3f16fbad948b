"""How a file leaves: saved, never run or shown by a browser, since it may hold anything."""

from typing import TypeVar

from django.http import HttpResponseBase
from django.utils.http import content_disposition_header

ResponseT = TypeVar("ResponseT", bound=HttpResponseBase)
#: The media type of bytes of unknown meaning.
OCTETS = "application/octet-stream"


def disposition(filename: str) -> str:
    """Return the Content-Disposition that has a browser save a file under that name."""
    return content_disposition_header(True, filename) or "attachment"


def to_be_saved(response: ResponseT, filename: str, content_type: str = OCTETS) -> ResponseT:
    """Return ``response`` with the headers that keep a browser from running what is in the file."""
    response["Content-Type"] = content_type
    response["Content-Disposition"] = disposition(filename)
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["X-Content-Type-Options"] = "nosniff"
    return response
