"""The public keys with which clusters sign their pods' tokens: read, kept for a while, read again.

Where a cluster's keys are, the settings say, never a token. They come from an address, over https
or from this very machine, or from a file. What could not be read is in the log; what tokens then
get is for ``Keys.find`` to say.
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

#: What each kind of key may sign with; nothing here is symmetric.
RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
ALGORITHMS: dict[tuple[str, str], tuple[str, ...]] = {
    ("RSA", ""): RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
LEAST_RSA_BITS = 2048

#: Keys that were read this long ago are read again, so one that was taken away is out by then.
FRESH = 5 * 60
#: Between two readings at least this long passes, whatever tokens come.
PAUSE = 30
#: Where they cannot be read, the old ones serve this long.
KEPT = 60 * 60
#: How long a request waits while another one reads the keys.
PATIENCE = 5
#: A file costs little to look at.
FRESH_FILE = PAUSE_FILE = 1

ANSWER_SECONDS = 5
MOST_BYTES = 1024 * 1024
MOST_KEYS = 100


class KeysUnavailable(Refusal):
    """The cluster's keys cannot be read, and old ones are too old: nobody can be let in now."""

    error_code = "TEMPORARILY_UNAVAILABLE"
    text = "The keys that this token is signed with cannot be read now; try again."


class _Unreadable(Exception):
    """What is there are no keys; for the log."""


#: Why keys cannot be read.
FAILURES = (_Unreadable, OSError, ValueError, RecursionError, urllib3.exceptions.HTTPError)


@dataclass(frozen=True, slots=True)
class Key:
    """A public key and the algorithms that it may have signed with."""

    public: PublicKey
    algorithms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Held:
    """The keys by their ids, when they were read, and what tells their file from a changed one."""

    keys: Mapping[str, Key]
    read_at: float
    mark: object = None


@dataclass(eq=False)
class Keys:
    """The keys of one cluster, for all threads of a process; ``clock`` counts seconds."""

    cluster: Cluster
    clock: Callable[[], float] = time.monotonic
    _held: _Held | None = field(default=None, init=False)
    _tried_at: float = field(default=float("-inf"), init=False)
    _failed: bool = field(default=False, init=False)
    _reading: threading.Lock = field(default_factory=threading.Lock, init=False)
    _fetching: "_Fetching | None" = field(default=None, init=False)

    @property
    def _is_file(self) -> bool:
        return "://" not in self.cluster.keys

    def find(self, kid: str) -> Key | None:
        """Return the key of that id, None where the issuer has none; raises KeysUnavailable.

        Keys are read again after FRESH seconds, and for an unknown id, but not before PAUSE ones
        have passed. One thread reads. The others wait for it only where they need what it reads,
        no longer than PATIENCE, and not at all where the last reading failed: whoever sends tokens
        with made-up keys must not keep all threads waiting for an issuer that is down.
        """
        if self._is_due(kid) and self._reading.acquire(timeout=self._patience(kid)):
            try:
                if self._is_due(kid):  # or somebody has read them meanwhile
                    self._read()
            finally:
                self._reading.release()
        held = self._held
        if held is None or self.clock() - held.read_at > KEPT:
            raise KeysUnavailable
        return held.keys.get(kid)

    def _is_due(self, kid: str) -> bool:
        held, now = self._held, self.clock()
        fresh, pause = (FRESH_FILE, PAUSE_FILE) if self._is_file else (FRESH, PAUSE)
        if now - self._tried_at < pause:
            return False
        return held is None or now - held.read_at >= fresh or kid not in held.keys

    def _patience(self, kid: str) -> float:
        """Return 0 where the keys that are there will do: they are old by little, or all we get."""
        held = self._held
        if self._failed:
            return 0
        if held is None or kid not in held.keys:
            return PATIENCE
        return 0 if self.clock() - held.read_at < FRESH + PAUSE else PATIENCE

    def _read(self) -> None:
        try:
            self._held = self._from_file() if self._is_file else self._from_address()
            self._failed = False
        except FAILURES as error:
            self._failed = True
            reason = _reason(error)
            logger.error("The keys of the cluster %s cannot be read: %s", self.cluster.name, reason)
        finally:
            self._tried_at = self.clock()

    def _from_file(self) -> _Held:
        path, held = Path(self.cluster.keys), self._held
        found = path.stat()
        mark = (found.st_mtime_ns, found.st_size, found.st_ino)
        if held is not None and held.mark == mark:
            return _Held(held.keys, self.clock(), mark)
        with path.open("rb") as file:
            return _Held(parse(file.read(MOST_BYTES + 1)), self.clock(), mark)

    def _from_address(self) -> _Held:
        """Return the keys that come in time; an answer that never ends keeps no request waiting."""
        if self._fetching is not None and self._fetching.is_alive():
            raise _Unreadable("an earlier answer has not ended")
        asked_at, self._fetching = self.clock(), _Fetching(self.cluster)
        self._fetching.start()
        self._fetching.join(ANSWER_SECONDS)
        return _Held(parse(self._fetching.content()), asked_at)


_known: dict[Cluster, Keys] = {}


def keys_of(cluster: Cluster) -> Keys:
    """Return the keys of a cluster: the same object for as long as the process lives."""
    return _known.get(cluster) or _known.setdefault(cluster, Keys(cluster))


def parse(content: bytes) -> dict[str, Key]:
    """Return the keys of a JWKS that may check signatures, by id; raises ValueError.

    Left out is what is of no use to that: keys without an id, for encryption, symmetric, private or
    short ones, and two that claim the same id.
    """
    if len(content) > MOST_BYTES:
        raise _Unreadable("they are too large")
    listed = json.loads(content)
    listed = listed.get("keys") if isinstance(listed, dict) else None
    if not isinstance(listed, list) or len(listed) > MOST_KEYS:
        raise _Unreadable("this is no JWKS")
    found: dict[str, Key] = {}
    twice = _twice(entry.get("kid") for entry in listed if isinstance(entry, dict))
    for entry in listed:
        key = _key(entry) if isinstance(entry, dict) else None
        if key is not None and entry["kid"] not in twice:
            found[entry["kid"]] = key
    if not found:
        raise _Unreadable("no key is among them that can check a signature")
    return found


def _twice(ids: Iterable[object]) -> set[object]:
    seen, twice = set[object](), set[object]()
    for kid in ids:
        if isinstance(kid, str):
            (twice if kid in seen else seen).add(kid)
    return twice


def _key(entry: dict[str, Any]) -> Key | None:
    kind = (entry.get("kty"), entry.get("crv", ""))
    fit = ALGORITHMS.get(kind) if all(isinstance(part, str) for part in kind) else None  # type: ignore[arg-type]  # both are text
    said = entry.get("alg", "")
    if fit is not None and said:
        fit = (said,) if said in fit else None
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
    if isinstance(public, RSAPublicKey) and public.key_size < LEAST_RSA_BITS:
        return None
    return Key(public, fit)


class _Fetching(threading.Thread):
    """A thread that fetches a cluster's keys: each wait for a byte has a bound, all have none."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self._cluster = cluster
        self._content, self._wrong = b"", ""

    def run(self) -> None:
        try:
            self._content = _fetched(self._cluster)
        except FAILURES as error:
            self._wrong = _reason(error)

    def content(self) -> bytes:
        """Return what came; raises _Unreadable where nothing did, or not yet."""
        if self.is_alive():
            raise _too_late()
        if self._wrong:
            raise _Unreadable(self._wrong)
        return self._content


def _too_late() -> _Unreadable:
    return _Unreadable(f"they do not come within {ANSWER_SECONDS} seconds")


def _fetched(cluster: Cluster) -> bytes:
    """Return what is at the address of the cluster's keys; raises whatever goes wrong."""
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
            raise _Unreadable(f"the answer's status is {answer.status}")
        content = b""
        while piece := answer.read1(64 * 1024, decode_content=False):
            content += piece
            if len(content) > MOST_BYTES:
                raise _Unreadable("they are too large")
            if time.monotonic() > ends:
                raise _too_late()
        return content


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    if not safe or not parts.hostname or parts.username is not None:
        raise _Unreadable("their address is not https, or holds a user name")


def _reason(error: Exception) -> str:
    """Return what is wrong, for the log: what the other side sent is not repeated."""
    if isinstance(error, _Unreadable | OSError):
        return str(error)
    cause = error.__cause__ or error
    return f"{type(error).__name__}, {type(cause).__name__}"
