"""Tokens for the API: how one is made and revoked, and what a request's token is looked up by.

A token is ``bhr_`` (it reads) or ``bhw_`` (it also writes), eight clear characters by which its
row is found, and forty secret ones. The table has an HMAC of the whole: fast enough for each
request, and useless without the key to whoever reads the table.
"""

import hashlib
import hmac
import re
import secrets
import string
import uuid
from collections.abc import Iterable
from datetime import timedelta
from functools import lru_cache

from django.conf import settings
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.utils import timezone

from tenants import audit
from tenants.access import ABILITIES
from tenants.isolation.credentials import Credential
from tenants.isolation.scope import tenant_scope
from tenants.models import ApiToken, Membership, Role, Tenant, User, WorkloadIdentity

KIND_PREFIXES = {ApiToken.Scope.READ: "bhr_", ApiToken.Scope.WRITE: "bhw_"}
CLEAR_CHARS, SECRET_CHARS = 8, 40
PREFIX_CHARS = len("bhr_") + CLEAR_CHARS
ALPHABET = string.ascii_letters + string.digits
TOKEN = re.compile(rf"bh[rw]_[0-9A-Za-z]{{{CLEAR_CHARS + SECRET_CHARS}}}", re.ASCII)

MAX_NAME_CHARS = 100
DEFAULT_DAYS, MAX_DAYS = 90, 365
#: At most this many tokens that are neither revoked nor expired per person or robot.
MAX_TOKENS = 50


class AlreadyMade(Exception):
    """The same form was sent before and made its token; the secret is never shown again."""


@transaction.atomic
def create_token(
    user: User,
    name: str,
    *,
    scope: str,
    tenant: Tenant | None = None,
    days: int = DEFAULT_DAYS,
    actor: User | None = None,
    once: str = "",
) -> tuple[ApiToken, str]:
    """Make a token for ``user`` and return it with its secret, which is kept nowhere.

    It opens ``tenant`` alone, or without one any team of the person; a robot's always its own.
    ``days`` is its lifetime. ``actor`` (None: the system) makes tokens for themselves and, as an
    admin, for their team's robots. A second call with the same ``once``, a random text of the form,
    raises AlreadyMade. Raises ValidationError, which names the argument, and PermissionDenied.
    """
    name = name.strip()
    _check(name, scope, days)
    tenant = user.robot_of or tenant
    if tenant is not None:
        # Lock the tenant row, as removing a member does: otherwise a person who is removed at the
        # same time could keep a token, which would work again after a return.
        Tenant.objects.select_for_update(no_key=True).get(pk=tenant.pk)
    _check_holder(user, tenant, actor)
    User.objects.select_for_update(no_key=True).get(pk=user.pk)  # or two requests pass MAX_TOKENS
    pk = _once(user, once) if once else uuid.uuid4()
    if ApiToken.objects.filter(pk=pk).exists():
        raise AlreadyMade
    if ApiToken.objects.living().filter(user=user).count() >= MAX_TOKENS:
        raise ValidationError(f"There are {MAX_TOKENS} tokens already; revoke one first.")
    secret = new_secret(scope)
    token = ApiToken.objects.create(
        id=pk,
        user=user,
        tenant=tenant,
        name=name,
        prefix=secret[:PREFIX_CHARS],
        digest=digest(secret),
        scope=scope,
        created_by=actor,
        expires_at=timezone.now() + timedelta(days=days),
    )
    _record(token, "created", actor)
    return token, secret


@transaction.atomic
def revoke_token(token: ApiToken, actor: User | None = None) -> None:
    """Revoke a token, at once and for good; one that is revoked keeps its time. Raises nothing."""
    locked = ApiToken.objects.select_for_update().filter(pk=token.pk, revoked_at=None)
    _revoke(locked, actor)
    token.refresh_from_db(fields=["revoked_at"])


@transaction.atomic
def revoke_others(token: ApiToken, actor: User | None = None) -> None:
    """Revoke every other token of the token's holder. Raises nothing."""
    others = ApiToken.objects.living().filter(user=token.user).exclude(pk=token.pk)
    _revoke(others.select_for_update(), actor)


@transaction.atomic
def revoke_bound(user: User, tenant: Tenant, actor: User | None = None) -> None:
    """Revoke the tokens of ``user`` that open ``tenant`` alone. Raises nothing."""
    bound = ApiToken.objects.living().filter(user=user, tenant=tenant)
    _revoke(bound.select_for_update(), actor)


@transaction.atomic
def revoke_beyond_makers(tenant: Tenant, actor: User | None = None) -> None:
    """Revoke each token of the team's robots whose maker has left or has a lower role now.

    The maker has seen the secret, and could do with it what the maker's own role no longer allows.
    Raises nothing.
    """
    made = ApiToken.objects.living().filter(tenant=tenant, user__robot_of=tenant)
    made = made.exclude(created_by=None)
    if not made.exists():
        return
    roles = dict(Membership.objects.filter(tenant=tenant).values_list("user_id", "role"))
    beyond = [
        token.pk
        for token in made
        if token.created_by_id not in roles
        or Role(roles[token.created_by_id]).rank < Role(roles.get(token.user_id, "viewer")).rank
    ]
    _revoke(ApiToken.objects.select_for_update().filter(pk__in=beyond), actor)


def check_maker(tenant: Tenant, role: str, actor: User | None) -> None:
    """Raise PermissionDenied unless ``actor`` may make a robot of that role, or a token for it."""
    if actor is None:
        return
    member = Membership.objects.active().filter(tenant=tenant, user=actor).first()
    if (
        member is None
        or actor.robot_of_id is not None
        or "tenants.manage_members" not in ABILITIES[member.role]
        or Role(member.role).rank < Role(role).rank
    ):
        raise PermissionDenied("Only an admin of the team makes robots and their tokens.")


def _check(name: str, scope: str, days: int) -> None:
    errors = {}
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        errors["name"] = f"Use 1 to {MAX_NAME_CHARS} characters, all of them visible."
    if scope not in ApiToken.Scope.values:
        errors["scope"] = "The scope is read or write."
    if not 1 <= days <= MAX_DAYS:
        errors["days"] = f"A token lives for 1 to {MAX_DAYS} days."
    if errors:
        raise ValidationError(errors)


def _check_holder(user: User, tenant: Tenant | None, actor: User | None) -> None:
    if not User.objects.filter(pk=user.pk, is_active=True).exists():
        raise ValidationError("This account is deactivated.")
    if WorkloadIdentity.objects.filter(user=user).exists():
        raise ValidationError("A workload's identity holds no token: its pods bring theirs along.")
    if tenant is not None:
        member = Membership.objects.active().filter(tenant=tenant, user=user).first()
        if member is None:
            raise ValidationError("Only a member of the team can have a token for it.")
        if user.robot_of_id is not None:
            return check_maker(tenant, member.role, actor)
    if actor is not None and actor.pk != user.pk:
        raise PermissionDenied("People make their own tokens.")
    return None


def _once(user: User, once: str) -> uuid.UUID:
    """Return the id of the token that the form makes, bound to the person who sends it."""
    key = _key(settings.SECRET_KEY)
    return uuid.UUID(bytes=hmac.digest(key, f"{user.pk}:{once}".encode(), "sha256")[:16], version=4)


def _revoke(tokens: Iterable[ApiToken], actor: User | None) -> None:
    found = list(tokens)
    if not found:
        return
    ApiToken.objects.filter(pk__in=[token.pk for token in found]).update(revoked_at=timezone.now())
    named = ApiToken.objects.filter(pk__in=[token.pk for token in found])
    for token in named.select_related("user", "tenant").order_by("created_at"):
        _record(token, "revoked", actor)


def _record(token: ApiToken, what: str, actor: User | None) -> None:
    changes = {
        "holder": token.user.robot_name or token.user.username,
        "prefix": token.prefix,
        "scope": token.scope,
        "expires_at": token.expires_at.isoformat(),
    }
    if token.tenant is None:
        # The token's name is left out: platform admins read these events, and the name may say
        # what a team works on.
        changes["by"] = actor.username if actor else "system"
        audit.record_account(f"token_{what}", token.user, changes=changes)
        return
    with tenant_scope(token.tenant, actor):
        audit.record(f"token.{what}", token, label=token.name, changes=changes)


def new_secret(scope: str) -> str:
    """Return a new random token for a scope of ApiToken.Scope; 238 of its bits are secret."""
    random = "".join(secrets.choice(ALPHABET) for _ in range(CLEAR_CHARS + SECRET_CHARS))
    return KIND_PREFIXES[ApiToken.Scope(scope)] + random


def credential(token: str, team: str = "") -> Credential | None:
    """Return what ``token`` is looked up by; None if it does not have the form of one."""
    if not TOKEN.fullmatch(token):
        return None
    return Credential(token[:PREFIX_CHARS], digest(token), team)


def digest(token: str) -> bytes:
    """Return the HMAC of a token, the 32 bytes that the table has of it."""
    return hmac.digest(_key(settings.SECRET_KEY), token.encode(), "sha256")


@lru_cache(maxsize=1)
def _key(secret_key: str) -> bytes:
    """Return the HMAC key for tokens, derived so that it differs from the one of sessions."""
    return hashlib.sha256(b"bulkhead.tokens:" + secret_key.encode()).digest()
