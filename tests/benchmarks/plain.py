"""The least that a server can do with files: no database, no checksum, no tenants.

A WSGI application, to be served by granian as Bulkhead is. ``PUT`` writes the body to a file in the
folder ``PLAIN_FOLDER``, ``GET`` reads it.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

FOLDER = "PLAIN_FOLDER"
PIECE = 1 << 20

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Answer a request."""
    path = Path(os.environ[FOLDER], environ["PATH_INFO"].replace("/", "_"))
    if environ["REQUEST_METHOD"] == "PUT":
        with path.open("wb") as file:
            while piece := environ["wsgi.input"].read(PIECE):
                file.write(piece)
        start_response("200 OK", [("Content-Length", "0")])
        return [b""]
    if not path.exists():
        start_response("200 OK", [("Content-Length", "0")])
        return [b""]
    start_response("200 OK", [("Content-Length", str(path.stat().st_size))])
    return _pieces(path)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece
