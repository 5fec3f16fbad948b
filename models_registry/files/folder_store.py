"""Where the files' bytes lie: a folder; ``s3_store.py`` has the other kind of store.

Both are Django storages and answer to the same few verbs. They know keys, which ``artifacts.py``
makes; they have never heard of paths and teams.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import IO, Any, Protocol

from django.core.files.storage import FileSystemStorage

from models_registry.errors import OutOfSpace, StoreUnavailable

#: Bytes that are read, written and hashed at a time.
CHUNK_BYTES = 1024 * 1024
#: An S3 service joins at most this many parts.
MAX_PARTS = 10_000
#: Bytes that are kept free on the disk: the database may be on the same one.
RESERVED_BYTES = 256 * 1024 * 1024
#: The free space is checked again after this many bytes of an upload: all threads that receive
#: at the same time write less in between than RESERVED_BYTES.
SPACE_CHECK_BYTES = 8 * 1024 * 1024
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class Stored:
    """Something in the store: its size in bytes, and when it was last written."""

    key: str
    size: int
    written_at: datetime


class Store(Protocol):
    """What a folder and a bucket can do; each verb raises StoreUnavailable and OutOfSpace."""

    #: Whether clients may exchange bytes with the store itself, by presigned addresses.
    sends_directly: bool

    def has_room_for(self, length: int) -> bool:
        """Tell whether ``length`` bytes more fit in, as far as can be known."""

    def receive(self, key: str, chunks: Iterable[bytes], length: int | None) -> None:
        """Write what comes under a new key; ``length`` in bytes is what is expected."""

    def place(self, key: str, destination: str) -> None:
        """Put what lies under ``key`` at ``destination``, whole and for good."""

    def size_of(self, key: str) -> int | None:
        """Return how many bytes lie under ``key``; None where there is nothing."""

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """Return the bytes from ``start`` up to ``end``, opened already; closed at their end."""

    def discard(self, key: str) -> None:
        """Delete what lies under ``key``, if anything does."""

    def clear(self, key: str) -> None:
        """Delete what lies under ``key`` and what an upload that broke off left there."""

    def stored(self, prefix: str) -> Iterator[Stored]:
        """List what lies under the keys that begin with the folder ``prefix``."""


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise OutOfSpace(error.strerror) from error
        raise StoreUnavailable(error.strerror) from error


class FolderStorage(FileSystemStorage):
    """Keeps the bytes below one folder, which must be there; nobody else may read it."""

    sends_directly = False

    def __init__(self, location: str | Path) -> None:
        super().__init__(
            location=location, file_permissions_mode=0o600, directory_permissions_mode=0o700
        )

    def has_room_for(self, length: int) -> bool:
        """Tell whether ``length`` bytes more fit in."""
        with _disk_errors():
            return shutil.disk_usage(self.location).free >= length + RESERVED_BYTES

    def receive(self, key: str, chunks: Iterable[bytes], length: int | None) -> None:
        """Write what comes under a new key; when this returns, it survives a power cut."""
        path = self._path(key)
        with _disk_errors():
            self._make_folders(path.parent)
            # Unbuffered: closing a buffered file would try again to write to a full disk.
            file = FileIO(path, "xb", opener=_private)
        unasked = SPACE_CHECK_BYTES
        with file:
            for chunk in chunks:  # outside _disk_errors: an OSError of the chunks is the network's
                unasked += len(chunk)
                if unasked >= SPACE_CHECK_BYTES:
                    unasked = 0
                    if not self.has_room_for(len(chunk)):
                        raise OutOfSpace
                with _disk_errors():
                    rest = memoryview(chunk)
                    while rest:
                        rest = rest[file.write(rest) :]
            with _disk_errors():
                os.fsync(file.fileno())

    def place(self, key: str, destination: str) -> None:
        """Move what lies under ``key`` to ``destination``, at once and for good."""
        path = self._path(destination)
        with _disk_errors():
            self._make_folders(path.parent)
            self._path(key).replace(path)
            _sync(path.parent)

    def size_of(self, key: str) -> int | None:
        """Return how many bytes lie under ``key``; None where there is nothing."""
        with _disk_errors():
            try:
                return self._path(key).stat().st_size
            except FileNotFoundError:
                self._check_is_there()
                return None

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """Return the bytes from ``start`` up to ``end``, opened already; closed at their end."""
        with _disk_errors():
            file = self._path(key).open("rb", buffering=0)
            file.seek(start)
        return Pieces(file, end - start, _disk_errors)

    def discard(self, key: str) -> None:
        """Delete what lies under ``key``, if anything does."""
        with _disk_errors():
            self._path(key).unlink(missing_ok=True)

    clear = discard

    def stored(self, prefix: str) -> Iterator[Stored]:
        """List what lies under the keys that begin with the folder ``prefix`` ('' for all)."""
        root = Path(self.location)
        with _disk_errors():
            self._check_is_there()
            for folder, _, names in os.walk(root / prefix):
                for name in names:
                    yield from _described(Path(folder, name), root)

    def _path(self, key: str) -> Path:
        return Path(self.path(key))

    def _check_is_there(self) -> None:
        """Refuse to go on without the folder: it may be a disk that is not mounted."""
        if not Path(self.location).is_dir():
            raise FileNotFoundError(errno.ENOENT, "the folder of the files is gone")

    def _make_folders(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._check_is_there()
        below = folder.relative_to(self.location)
        for made in [*reversed(below.parents), below]:
            made = Path(self.location, made)
            if not made.is_dir():
                made.mkdir(0o700, exist_ok=True)
                _sync(made.parent)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _described(path: Path, root: Path) -> Iterator[Stored]:
    try:
        status = path.stat()
    except FileNotFoundError:  # an upload ended between listing and stat
        return
    written_at = datetime.fromtimestamp(status.st_mtime, UTC)
    yield Stored(path.relative_to(root).as_posix(), status.st_size, written_at)


class Pieces:
    """The next ``length`` bytes of an open file or answer, which is closed when they end."""

    def __init__(
        self,
        file: IO[bytes] | Any,
        length: int,
        errors: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.file = file
        self.left = length
        self.errors = errors

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = b""
        if self.left:
            with self.errors():
                piece = self.file.read(min(CHUNK_BYTES, self.left))
        self.left -= len(piece)
        if not piece:
            self.close()
            if self.left:
                raise StoreUnavailable("A file in the store is shorter than it was.")
            raise StopIteration
        return piece

    def close(self) -> None:
        """Close the file early; the server calls this when the client has gone."""
        self.file.close()
