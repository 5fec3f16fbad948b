"""Which pod sends a request: its projected service-account token, checked against our clusters.

The cluster signs such a token for one pod of one service account, for one audience, for an hour or
so. It is checked here without asking the cluster: by its keys (``issuers``), at each request anew.
The token chooses among the issuers in the settings and nothing else; no address in it is followed.
What a genuine one opens is for the database to say (``tenants.identity.workloads``).
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
from tenants.identity.signing_keys import Key, keys_of
from tenants.isolation.credentials import BadToken, WorkloadCredential

logger = logging.getLogger("bulkhead.identity")

MOST_CHARACTERS = 16 * 1024
#: How far the clusters' clocks may be off, in seconds.
LEEWAY = 60
#: A token that lives longer is no better than a secret that somebody stored.
MOST_SECONDS = 24 * 60 * 60
#: The same reason is logged this often.
SECONDS_OF_SILENCE = 60
#: How the ids begin by which the log calls pods' tokens; the rest is of the token's digest.
TOKEN_ID = "k8s_"  # noqa: S105 - no secret

TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
UID = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
#: Kubernetes writes no other header. One more could ask for a key, or another way to check.
HEADER = {"alg", "kid", "typ"}
REQUIRED = ["iss", "aud", "sub", "exp", "nbf", "iat"]


class _Refusal(Exception):
    """Why a token is refused; for the log, so it repeats nothing that the token says."""

    def __init__(self, reason: str, cluster: Cluster | None = None) -> None:
        self.cluster = cluster.name if cluster else ""
        super().__init__(reason)


def verify(token: str, team: str = "") -> WorkloadCredential:
    """Return the pod that the token was made for, and the team that the request names.

    Raises BadToken for whatever is no such token of a cluster of ours, with the reason in the log
    only, and KeysUnavailable where nobody can tell.
    """
    try:
        return replace(_verified(token), team=team)
    except _Refusal as refusal:
        say(str(refusal), refusal.cluster)
        raise BadToken from None


_said: dict[tuple[str, str], float] = {}


def say(reason: str, cluster: str = "") -> None:
    """Log why a token is refused, each reason once in a while: anybody can send tokens.

    The reason is one of few and tells of no token and no team; ``cluster`` is whose the token
    claims to be.
    """
    what, now = (cluster, reason), time.monotonic()
    if now - _said.get(what, float("-inf")) < SECONDS_OF_SILENCE:
        return
    _said[what] = now
    # What names one of our clusters, an operator wants to know of; the rest is anybody's junk.
    level = logging.WARNING if cluster else logging.INFO
    logger.log(level, "A pod's token is refused (cluster %s): %s", cluster or "none", reason)


def _verified(token: str) -> WorkloadCredential:
    if len(token) > MOST_CHARACTERS or not TOKEN.fullmatch(token):
        raise _Refusal("it has not the form of one")
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
            leeway=LEEWAY,
            options={"require": REQUIRED},
        )
    except jwt.PyJWTError as error:
        raise _Refusal(type(error).__name__, cluster) from None
    try:
        return _pod(cluster, claims, hashlib.sha256(signed.encode()))
    except (KeyError, TypeError, OverflowError):
        raise _Refusal("its claims are not those of a pod's token", cluster) from None


def _json(part: str) -> dict[str, Any]:
    """Read a part of a token; one that two readers could take for two things is refused."""
    try:
        text = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()
        read = json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise _Refusal("a part of it cannot be read") from None
    if not isinstance(read, dict):
        raise _Refusal("a part of it is no object")
    return read


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


def _no_number(name: str) -> None:
    raise ValueError


def _cluster(issuer: object) -> Cluster:
    for cluster in settings.KUBERNETES.clusters:
        if cluster.issuer and cluster.issuer == issuer:
            found: Cluster = cluster
            return found
    raise _Refusal("no cluster of ours has issued it")


def _key(header: dict[str, Any], cluster: Cluster) -> Key:
    if not set(header) <= HEADER or header.get("typ", "JWT") != "JWT":
        raise _Refusal("its header has what Kubernetes does not write", cluster)
    kid = header.get("kid")
    if not isinstance(kid, str) or not isinstance(header.get("alg"), str):
        raise _Refusal("it names no key or no algorithm", cluster)
    key = keys_of(cluster).find(kid)
    if key is None:
        raise _Refusal("the cluster has no such key", cluster)
    if header["alg"] not in key.algorithms:
        raise _Refusal("its algorithm is not the key's", cluster)
    return key


def _pod(cluster: Cluster, claims: dict[str, Any], digest: Any) -> WorkloadCredential:
    """Return the pod; raises KeyError and TypeError where claims are missing or of another type."""
    # For us alone: whoever else a token is for could sign in here with it.
    if claims["aud"] not in (settings.KUBERNETES.audience, [settings.KUBERNETES.audience]):
        raise _Refusal("it is for others too", cluster)
    issued, _, expires = (_moment(claims[name]) for name in ("iat", "nbf", "exp"))
    if not 0 < expires - issued <= MOST_SECONDS:
        raise _Refusal(f"it lives longer than {MOST_SECONDS} seconds", cluster)
    bound = claims["kubernetes.io"]
    namespace, account, pod = bound["namespace"], bound["serviceaccount"], bound["pod"]
    if not (
        is_label(namespace)
        and is_subdomain(account["name"])
        and is_subdomain(pod["name"])
        and UID.fullmatch(account["uid"])
        and UID.fullmatch(pod["uid"])
    ):
        raise _Refusal("its names are none that Kubernetes takes", cluster)
    if claims["sub"] != f"system:serviceaccount:{namespace}:{account['name']}":
        raise _Refusal("its subject is not its service account", cluster)
    name = claims.get("jti")
    return WorkloadCredential(
        cluster=cluster.name,
        namespace=namespace,
        service_account=account["name"],
        uid=account["uid"],
        pod=pod["name"],
        pod_uid=pod["uid"],
        digest=digest.digest(),
        token_id=f"{TOKEN_ID}{digest.hexdigest()[:8]}",
        token_name=name if isinstance(name, str) and UID.fullmatch(name) else "",
        expires_at=datetime.fromtimestamp(expires, UTC),
    )


def _moment(value: object) -> int:
    if type(value) is not int:  # no text, and no bool, which is an int
        raise TypeError
    return value
