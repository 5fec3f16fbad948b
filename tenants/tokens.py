"""Tokens for the API: how one is made, and how one that comes with a request is looked at.

A token is ``bhr_`` (it reads) or ``bhw_`` (it also writes), eight clear characters by which its
row is found, and forty secret ones. Kept is an HMAC of the whole: fast to compute for each request,
and useless to whoever reads the table without the key.
"""

import hashlib
import hmac
import re
import secrets
import string
from functools import lru_cache

from django.conf import settings

from tenants.models import ApiToken
from tenants.scope import Credential

KINDS = {ApiToken.Scope.READ: "bhr_", ApiToken.Scope.WRITE: "bhw_"}
CLEAR, SECRET = 8, 40
PREFIX_LENGTH = len("bhr_") + CLEAR
ALPHABET = string.ascii_letters + string.digits
TOKEN = re.compile(rf"bh[rw]_[0-9A-Za-z]{{{CLEAR + SECRET}}}", re.ASCII)


def new_secret(scope: str) -> str:
    """Return a new token for a scope of ApiToken.Scope; 238 of its bits are secret."""
    random = "".join(secrets.choice(ALPHABET) for _ in range(CLEAR + SECRET))
    return KINDS[ApiToken.Scope(scope)] + random


def credential(token: str, team: str = "") -> Credential | None:
    """Return what is looked up for ``token``; None for what cannot be a token."""
    if not TOKEN.fullmatch(token):
        return None
    return Credential(token[:PREFIX_LENGTH], digest(token), team)


def digest(token: str) -> bytes:
    """Return the 32 bytes that are kept of a token."""
    return hmac.digest(_key(settings.SECRET_KEY), token.encode(), "sha256")


@lru_cache(maxsize=1)
def _key(secret_key: str) -> bytes:
    """Derive a key of its own, so that what signs sessions does not vouch for tokens."""
    return hashlib.sha256(b"bulkhead.tokens:" + secret_key.encode()).digest()
