"""Which pod sends a request: its projected service-account token, verified against our clusters.

The cluster signs such a token for one pod of one service account, for one audience, usually for an
hour. Each request verifies it anew with the cluster's public keys (``signing_keys``), without a
call to the cluster. The token chooses among the issuers in the settings and nothing else; no
address in it is followed. What a genuine token opens, ``tenants.identity.workloads`` asks the
database.
"""

import base64
import hashlib
import json
import logging
import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import jwt
from django.conf import settings

from tenants.clusters import Cluster
from tenants.dns import is_label, is_subdomain
from tenants.identity.signing_keys import SigningKey, keys_of
from tenants.isolation.credentials import BadToken, WorkloadCredential

logger = logging.getLogger("bulkhead.identity")

MAX_TOKEN_CHARS = 16 * 1024
#: At most this many seconds may a cluster's clock differ from ours.
LEEWAY_SECONDS = 60
#: A token with a longer lifetime is refused: it is as good to steal as a stored secret.
MAX_LIFETIME_SECONDS = 24 * 60 * 60
#: Minimum seconds between two log lines with the same reason.
LOG_INTERVAL_SECONDS = 60
#: The audit log names a pod's token by this prefix and the beginning of the token's digest.
TOKEN_ID_PREFIX = "k8s_"  # noqa: S105 - no secret

TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
UID = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
#: The only header fields that Kubernetes writes. Others are refused: ``jwk``, ``jku`` or ``x5u``
#: would bring a key along, ``crit`` another way to verify.
HEADER_FIELDS = {"alg", "kid", "typ"}
REQUIRED_CLAIMS = ["iss", "aud", "sub", "exp", "nbf", "iat"]


class _Rejected(Exception):
    """The token is refused; the message is for the log, so it quotes nothing from the token."""

    def __init__(self, reason: str, cluster: Cluster | None = None) -> None:
        self.cluster = cluster.name if cluster else ""
        super().__init__(reason)


def verify(token: str, team: str = "") -> WorkloadCredential:
    """Return the pod that the token was issued to, with the team that the request names.

    Raises BadToken for anything but a valid token of one of our clusters (the reason is in the log
    only), and KeysUnavailable if the cluster's keys cannot be read.
    """
    try:
        return replace(_verified(token), team=team)
    except _Rejected as refusal:
        log_refusal(str(refusal), refusal.cluster)
        raise BadToken from None


_logged_at: dict[tuple[str, str], float] = {}


def log_refusal(reason: str, cluster: str = "") -> None:
    """Log why a token is refused, at most once per LOG_INTERVAL_SECONDS for the same reason.

    Anybody can send tokens, so they must not fill the log. ``reason`` is one of a fixed set and
    quotes neither token nor team; ``cluster`` is the one whose issuer the token names.
    """
    what, now = (cluster, reason), time.monotonic()
    if now - _logged_at.get(what, float("-inf")) < LOG_INTERVAL_SECONDS:
        return
    _logged_at[what] = now
    # A token that claims one of our clusters may be a misconfiguration: warn. Anything else is
    # noise: info.
    level = logging.WARNING if cluster else logging.INFO
    logger.log(level, "A pod's token is refused (cluster %s): %s", cluster or "none", reason)


def _verified(token: str) -> WorkloadCredential:
    if len(token) > MAX_TOKEN_CHARS or not TOKEN.fullmatch(token):
        raise _Rejected("it has not the form of one")
    signed, _, _ = token.rpartition(".")
    header, claims = (_json(part) for part in signed.split("."))
    cluster = _cluster(claims.get("iss"))
    key = _key(header, cluster)
    try:
        jwt.decode(
            token,
            key.public,
            algorithms=key.algorithms,
            issuer=cluster.issuer,
            audience=settings.KUBERNETES.audience,
            leeway=LEEWAY_SECONDS,
            options={"require": REQUIRED_CLAIMS},
        )
    except jwt.PyJWTError as error:
        raise _Rejected(type(error).__name__, cluster) from None
    try:
        return _pod(cluster, claims, hashlib.sha256(signed.encode()))
    except (KeyError, TypeError, OverflowError):
        raise _Rejected("its claims are not those of a pod's token", cluster) from None


def _json(part: str) -> dict[str, Any]:
    """Return a part of a token as an object; raises _Rejected.

    Repeated keys and NaN are refused, since two JSON parsers may read them differently.
    """
    try:
        text = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()
        read = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        raise _Rejected("a part of it cannot be read") from None
    if not isinstance(read, dict):
        raise _Rejected("a part of it is no object")
    return read


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


def _reject_constant(name: str) -> None:
    raise ValueError


def _cluster(issuer: object) -> Cluster:
    for cluster in settings.KUBERNETES.clusters:
        if cluster.issuer and cluster.issuer == issuer:
            found: Cluster = cluster
            return found
    raise _Rejected("no cluster of ours has issued it")


def _key(header: dict[str, Any], cluster: Cluster) -> SigningKey:
    if not set(header) <= HEADER_FIELDS or header.get("typ", "JWT") != "JWT":
        raise _Rejected("its header has what Kubernetes does not write", cluster)
    kid = header.get("kid")
    if not isinstance(kid, str) or not isinstance(header.get("alg"), str):
        raise _Rejected("it names no key or no algorithm", cluster)
    key = keys_of(cluster).find(kid)
    if key is None:
        raise _Rejected("the cluster has no such key", cluster)
    if header["alg"] not in key.algorithms:
        raise _Rejected("its algorithm is not the key's", cluster)
    return key


def _pod(cluster: Cluster, claims: dict[str, Any], digest: Any) -> WorkloadCredential:
    """Return the pod that verified claims name.

    Raises KeyError and TypeError if claims are missing or of another type, and _Rejected if their
    values are none that we accept.
    """
    # Our audience alone: with a second one, that other service could sign in here as the pod.
    if claims["aud"] not in (settings.KUBERNETES.audience, [settings.KUBERNETES.audience]):
        raise _Rejected("it is for others too", cluster)
    issued, _, expires = (_moment(claims[name]) for name in ("iat", "nbf", "exp"))
    if not 0 < expires - issued <= MAX_LIFETIME_SECONDS:
        raise _Rejected(f"it lives longer than {MAX_LIFETIME_SECONDS} seconds", cluster)
    bound = claims["kubernetes.io"]
    namespace, account, pod = bound["namespace"], bound["serviceaccount"], bound["pod"]
    if not (
        is_label(namespace)
        and is_subdomain(account["name"])
        and is_subdomain(pod["name"])
        and UID.fullmatch(account["uid"])
        and UID.fullmatch(pod["uid"])
    ):
        raise _Rejected("its names are none that Kubernetes takes", cluster)
    if claims["sub"] != f"system:serviceaccount:{namespace}:{account['name']}":
        raise _Rejected("its subject is not its service account", cluster)
    name = claims.get("jti")
    return WorkloadCredential(
        cluster=cluster.name,
        namespace=namespace,
        service_account=account["name"],
        uid=account["uid"],
        pod=pod["name"],
        pod_uid=pod["uid"],
        digest=digest.digest(),
        token_id=f"{TOKEN_ID_PREFIX}{digest.hexdigest()[:8]}",
        token_name=name if isinstance(name, str) and UID.fullmatch(name) else "",
        expires_at=datetime.fromtimestamp(expires, UTC),
    )


def _moment(value: object) -> int:
    if type(value) is not int:  # a bool is an int as well
        raise TypeError
    return value
