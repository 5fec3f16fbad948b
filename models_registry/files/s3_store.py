"""A bucket of an S3 service, as the store of files: imported only where the settings name one."""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from storages.backends.s3 import S3Storage

from models_registry.errors import OutOfSpace, StoreUnavailable
from models_registry.files.folder_store import MAX_PARTS, Pieces, Stored

#: Bytes of a part of an upload.
PART_BYTES = 8 * 1024 * 1024


class BucketStorage(S3Storage):  # type: ignore[misc]  # django-storages has no types
    """Keeps the bytes in a bucket of an S3 service, below a prefix if one is given."""

    sends_directly = True

    def __init__(self, **options: Any) -> None:
        # Services other than Amazon's may support neither buckets as host names nor checksums.
        style = "path" if options.get("endpoint_url") else "auto"
        config = Config(
            s3={"addressing_style": style},
            signature_version="s3v4",
            connect_timeout=5,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": 3},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        super().__init__(client_config=config, **options)

    @property
    def _client(self) -> Any:
        return self.connection.meta.client

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket_name, "Key": self._normalize_name(key)}

    def has_room_for(self, length: int) -> bool:
        """A bucket has no size of its own."""
        return True

    def receive(self, key: str, chunks: Iterable[bytes], length: int | None) -> None:
        """Send what comes to a new key, in parts; in this thread, which reads the chunks."""
        part = max(PART_BYTES, -(-(length or 0) // MAX_PARTS))
        config = TransferConfig(
            use_threads=False, multipart_threshold=part, multipart_chunksize=part
        )
        with _bucket_errors():
            self._client.upload_fileobj(_Reader(chunks), **self._at(key), Config=config)

    def place(self, key: str, destination: str) -> None:
        """Copy what lies under ``key`` to ``destination``, inside the service."""
        with _bucket_errors():
            self._client.copy(self._at(key), **self._at(destination))

    def size_of(self, key: str) -> int | None:
        """Return how many bytes lie under ``key``; None where there is nothing."""
        with _bucket_errors():
            try:
                size: int = self._client.head_object(**self._at(key))["ContentLength"]
            except ClientError as error:
                if _status(error) == 404:
                    return None
                raise
        return size

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """Return the bytes from ``start`` up to ``end``, opened already; closed at their end."""
        if start == end:
            return Pieces(io.BytesIO(), 0, _bucket_errors)
        with _bucket_errors():
            answer = self._client.get_object(**self._at(key), Range=f"bytes={start}-{end - 1}")
        return Pieces(answer["Body"], end - start, _bucket_errors)

    def discard(self, key: str) -> None:
        """Delete what lies under ``key``, if anything does."""
        with _bucket_errors():
            self._client.delete_object(**self._at(key))

    def clear(self, key: str) -> None:
        """Delete what lies under ``key`` and the parts that were sent there."""
        with _bucket_errors():
            for pending in self._pending(self._normalize_name(key)):
                if pending["Key"] == self._normalize_name(key):
                    self._client.abort_multipart_upload(
                        **self._at(key), UploadId=pending["UploadId"]
                    )
        self.discard(key)

    def stored(self, prefix: str) -> Iterator[Stored]:
        """List what lies under the keys that begin with ``prefix``, and uploads that run there."""
        where = self._normalize_name(f"{prefix}/")
        root = len(self._normalize_name(""))
        with _bucket_errors():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket_name, Prefix=where
            )
            for page in pages:
                for found in page.get("Contents", ()):
                    key = found["Key"][root:].lstrip("/")
                    yield Stored(key, found["Size"], found["LastModified"])
            for pending in self._pending(where):
                yield Stored(pending["Key"][root:].lstrip("/"), 0, pending["Initiated"])

    def _pending(self, prefix: str) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self.bucket_name, Prefix=prefix
        )
        for page in pages:
            yield from page.get("Uploads", ())

    # --- what clients do themselves ---

    def begin_parts(self, key: str) -> str:
        """Begin an upload in parts and return the service's id for it."""
        with _bucket_errors():
            begun: str = self._client.create_multipart_upload(**self._at(key))["UploadId"]
        return begun

    def part_url(self, key: str, upload_id: str, number: int, seconds: int) -> str:
        """Return the address that takes one part, valid for ``seconds``."""
        return self._presigned(
            "upload_part", seconds, **self._at(key), UploadId=upload_id, PartNumber=number
        )

    def complete_parts(self, key: str, upload_id: str, etags: Sequence[tuple[int, str]]) -> bool:
        """Put the parts together under ``key``; tell whether the service has just these."""
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in etags]
        with _bucket_errors():
            try:
                self._client.complete_multipart_upload(
                    **self._at(key), UploadId=upload_id, MultipartUpload={"Parts": parts}
                )
            except ClientError as error:
                if 400 <= _status(error) < 500:
                    return False
                raise
        return True

    def download_url(self, key: str, disposition: str, seconds: int) -> str:
        """Return the address at which the service gives the bytes, valid for ``seconds``."""
        return self._presigned(
            "get_object",
            seconds,
            **self._at(key),
            ResponseContentDisposition=disposition,
            ResponseContentType="application/octet-stream",
        )

    def _presigned(self, verb: str, seconds: int, **params: Any) -> str:
        with _bucket_errors():
            url: str = self._client.generate_presigned_url(verb, params, ExpiresIn=seconds)
        return url


def _status(error: ClientError) -> int:
    status: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status


@contextmanager
def _bucket_errors() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if _status(error) == 507:
            raise OutOfSpace(str(error)) from error
        raise StoreUnavailable(str(error)) from error
    except (BotoCoreError, Boto3Error) as error:
        raise StoreUnavailable(str(error)) from error


class _Reader:
    """Chunks, read as a file."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.chunks = iter(chunks)
        self.rest = b""

    def read(self, size: int = -1) -> bytes:
        """Return the next ``size`` bytes (-1: all of them), fewer only at the end."""
        pieces, found = [self.rest], len(self.rest)
        while (size < 0 or found < size) and (chunk := next(self.chunks, b"")):
            pieces.append(chunk)
            found += len(chunk)
        whole = b"".join(pieces)
        end = len(whole) if size < 0 else size
        self.rest = whole[end:]
        return whole[:end]
