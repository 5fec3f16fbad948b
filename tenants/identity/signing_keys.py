"""The public keys (JWKS) with which clusters sign their pods' tokens, cached in each process.

The settings say where a cluster's keys are; nothing in a token does. They come from an address
(over https, or over http from this machine) or from a file. A failed reading is logged;
``Keys.find`` says how long the keys that were read before serve on.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import urllib3
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from tenants.clusters import Cluster
from tenants.dns import is_loopback
from tenants.errors import Refusal

logger = logging.getLogger("bulkhead.identity")

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

#: The algorithms that each type of key may sign with. None is symmetric: a token that names HS256
#: could be signed by anybody, with the public key as the secret.
RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
ALGORITHMS: dict[tuple[str, str], tuple[str, ...]] = {
    ("RSA", ""): RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
MIN_RSA_BITS = 2048

#: Cached keys are read again after this many seconds; a key that was withdrawn ends by then.
REFRESH_SECONDS = 5 * 60
#: Minimum seconds between two readings, however many unknown key ids tokens name.
MIN_READ_INTERVAL_SECONDS = 30
#: While readings fail, keys are used for at most this many seconds after they were read.
MAX_AGE_SECONDS = 60 * 60
#: Seconds that a request waits at most while another thread reads the keys.
MAX_WAIT_SECONDS = 5
#: Both intervals for keys in a file: one stat call tells whether it has changed.
FILE_REFRESH_SECONDS = 1

#: Seconds after which a fetch is given up, however the answer trickles in.
ANSWER_SECONDS = 5
MAX_JWKS_BYTES = 1024 * 1024
MAX_KEYS = 100


class KeysUnavailable(Refusal):
    """The cluster's keys cannot be read, and old ones are too old: nobody can be let in now."""

    error_code = "TEMPORARILY_UNAVAILABLE"
    text = "The keys that this token is signed with cannot be read now; try again."


class _BadKeys(Exception):
    """There is no usable JWKS at the configured place; the message is for the log."""


#: Every error that reading and parsing a JWKS may raise.
READ_ERRORS = (_BadKeys, OSError, ValueError, RecursionError, urllib3.exceptions.HTTPError)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key, and the algorithms that its signatures may name."""

    public: PublicKey
    algorithms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _CachedKeys:
    """The keys by id and when they were read; ``file_version`` is the file's time, size, inode."""

    keys: Mapping[str, SigningKey]
    read_at: float
    file_version: object = None


@dataclass(eq=False)
class Keys:
    """The cached keys of one cluster, shared by a process's threads; ``clock`` returns seconds."""

    cluster: Cluster
    clock: Callable[[], float] = time.monotonic
    _cached: _CachedKeys | None = field(default=None, init=False)
    _tried_at: float = field(default=float("-inf"), init=False)
    _failed: bool = field(default=False, init=False)
    _reading: threading.Lock = field(default_factory=threading.Lock, init=False)
    _fetching: "_Fetching | None" = field(default=None, init=False)

    @property
    def _is_file(self) -> bool:
        return "://" not in self.cluster.keys

    def find(self, kid: str) -> SigningKey | None:
        """Return the key of that id, None where the issuer has none; raises KeysUnavailable.

        Keys are read again after REFRESH_SECONDS, and at once for an unknown id, but never twice
        within MIN_READ_INTERVAL_SECONDS. One thread reads. Another waits for it, MAX_WAIT_SECONDS
        at most, only if the cache has no usable key for it, and not at all if the last reading
        failed: tokens with made-up key ids must not block every thread while an issuer is down.
        """
        if self._is_due(kid) and self._reading.acquire(timeout=self._wait_seconds(kid)):
            try:
                if self._is_due(kid):  # or somebody has read them meanwhile
                    self._read()
            finally:
                self._reading.release()
        cached = self._cached
        if cached is None or self.clock() - cached.read_at > MAX_AGE_SECONDS:
            raise KeysUnavailable
        return cached.keys.get(kid)

    def _is_due(self, kid: str) -> bool:
        cached, now = self._cached, self.clock()
        interval = FILE_REFRESH_SECONDS if self._is_file else MIN_READ_INTERVAL_SECONDS
        if now - self._tried_at < interval:
            return False
        refresh = FILE_REFRESH_SECONDS if self._is_file else REFRESH_SECONDS
        return cached is None or now - cached.read_at >= refresh or kid not in cached.keys

    def _wait_seconds(self, kid: str) -> float:
        """Return the seconds to wait for another thread: 0 where the cached keys will do."""
        cached = self._cached
        if self._failed:
            return 0
        if cached is None or kid not in cached.keys:
            return MAX_WAIT_SECONDS
        is_recent = self.clock() - cached.read_at < REFRESH_SECONDS + MIN_READ_INTERVAL_SECONDS
        return 0 if is_recent else MAX_WAIT_SECONDS

    def _read(self) -> None:
        try:
            self._cached = self._from_file() if self._is_file else self._from_address()
            self._failed = False
        except READ_ERRORS as error:
            self._failed = True
            reason = _reason(error)
            logger.error("The keys of the cluster %s cannot be read: %s", self.cluster.name, reason)
        finally:
            self._tried_at = self.clock()

    def _from_file(self) -> _CachedKeys:
        path, cached = Path(self.cluster.keys), self._cached
        found = path.stat()
        file_version = (found.st_mtime_ns, found.st_size, found.st_ino)
        if cached is not None and cached.file_version == file_version:
            return _CachedKeys(cached.keys, self.clock(), file_version)
        with path.open("rb") as file:
            return _CachedKeys(parse(file.read(MAX_JWKS_BYTES + 1)), self.clock(), file_version)

    def _from_address(self) -> _CachedKeys:
        """Fetch the keys in a thread of their own, so that an endless answer blocks no request.

        Raises _BadKeys.
        """
        if self._fetching is not None and self._fetching.is_alive():
            raise _BadKeys("an earlier answer has not ended")
        asked_at, self._fetching = self.clock(), _Fetching(self.cluster)
        self._fetching.start()
        self._fetching.join(ANSWER_SECONDS)
        return _CachedKeys(parse(self._fetching.content()), asked_at)


_known: dict[Cluster, Keys] = {}


def keys_of(cluster: Cluster) -> Keys:
    """Return the keys of a cluster: the same object for as long as the process lives."""
    return _known.get(cluster) or _known.setdefault(cluster, Keys(cluster))


def parse(content: bytes) -> dict[str, SigningKey]:
    """Return a JWKS's keys that can verify signatures, by id.

    Left out are keys without an id, keys for encryption, symmetric, private and short ones, and
    all that share an id. Raises ValueError for what is no JSON, and _BadKeys for what is no JWKS or
    has no such key.
    """
    if len(content) > MAX_JWKS_BYTES:
        raise _BadKeys("they are too large")
    listed = json.loads(content)
    listed = listed.get("keys") if isinstance(listed, dict) else None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise _BadKeys("this is no JWKS")
    found: dict[str, SigningKey] = {}
    repeated = _repeated(entry.get("kid") for entry in listed if isinstance(entry, dict))
    for entry in listed:
        key = _key(entry) if isinstance(entry, dict) else None
        if key is not None and entry["kid"] not in repeated:
            found[entry["kid"]] = key
    if not found:
        raise _BadKeys("no key is among them that can check a signature")
    return found


def _repeated(ids: Iterable[object]) -> set[object]:
    seen, repeated = set[object](), set[object]()
    for kid in ids:
        if isinstance(kid, str):
            (repeated if kid in seen else seen).add(kid)
    return repeated


def _key(entry: dict[str, Any]) -> SigningKey | None:
    kind = (entry.get("kty"), entry.get("crv", ""))
    fit = ALGORITHMS.get(kind) if all(isinstance(part, str) for part in kind) else None  # type: ignore[arg-type]  # both are text
    algorithm = entry.get("alg", "")
    if fit is not None and algorithm:
        fit = (algorithm,) if algorithm in fit else None
    operations = entry.get("key_ops", ["verify"])
    if (
        fit is None
        or not (isinstance(entry.get("kid"), str) and entry["kid"])
        or entry.get("use", "sig") != "sig"
        or not (isinstance(operations, list) and "verify" in operations)
        or "d" in entry
    ):
        return None
    try:
        public = jwt.PyJWK(entry, fit[0]).key
    except (jwt.PyJWTError, TypeError, ValueError):
        return None
    if isinstance(public, RSAPublicKey) and public.key_size < MIN_RSA_BITS:
        return None
    return SigningKey(public, fit)


class _Fetching(threading.Thread):
    """A thread that fetches a cluster's keys.

    urllib3 bounds the wait for each byte, but not for the whole answer; the caller stops waiting.
    """

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self._cluster = cluster
        self._content, self._wrong = b"", ""

    def run(self) -> None:
        try:
            self._content = _fetched(self._cluster)
        except READ_ERRORS as error:
            self._wrong = _reason(error)

    def content(self) -> bytes:
        """Return the answer's body; raises _BadKeys if the fetch failed or has not ended."""
        if self.is_alive():
            raise _too_late()
        if self._wrong:
            raise _BadKeys(self._wrong)
        return self._content


def _too_late() -> _BadKeys:
    return _BadKeys(f"they do not come within {ANSWER_SECONDS} seconds")


def _fetched(cluster: Cluster) -> bytes:
    """Return the body at the address of the cluster's keys; raises one of READ_ERRORS."""
    _check_address(cluster.keys)
    headers = {"Accept": "application/jwk-set+json, application/json", "User-Agent": "bulkhead"}
    if cluster.token:
        headers["Authorization"] = f"Bearer {Path(cluster.token).read_text().strip()}"
    ends = time.monotonic() + ANSWER_SECONDS
    with (
        urllib3.PoolManager(
            ca_certs=cluster.ca or None,
            cert_reqs="CERT_REQUIRED",
            timeout=urllib3.Timeout(total=ANSWER_SECONDS),
        ) as pool,
        pool.request(
            "GET",
            cluster.keys,
            headers=headers,
            retries=False,
            redirect=False,
            preload_content=False,
        ) as answer,
    ):
        if answer.status != 200:
            raise _BadKeys(f"the answer's status is {answer.status}")
        content = b""
        while piece := answer.read1(64 * 1024, decode_content=False):
            content += piece
            if len(content) > MAX_JWKS_BYTES:
                raise _BadKeys("they are too large")
            if time.monotonic() > ends:
                raise _too_late()
        return content


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    if not safe or not parts.hostname or parts.username is not None:
        raise _BadKeys("their address is not https, or holds a user name")


def _reason(error: Exception) -> str:
    """Return the error as the log may say it: without anything that the issuer sent."""
    if isinstance(error, _BadKeys | OSError):
        return str(error)
    cause = error.__cause__ or error
    return f"{type(error).__name__}, {type(cause).__name__}"
