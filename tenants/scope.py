"""The scope: for which tenant, and for whom, the running code acts.

This is the only place that opens one. An open scope is two things at once: a context variable,
which the row manager reads when it compiles SQL, and three settings of the database
transaction, which the row-level security policies read. Both end with the ``with`` block.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from django.db import connection, models, transaction
from django.db.models.sql.compiler import SQLCompiler

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from tenants.models import Tenant, User


ModelT = TypeVar("ModelT", bound=models.Model)


class NoTenant(Exception):
    """Tenant-owned rows were asked for, and nobody is acting for a tenant."""


class NotAMember(Exception):
    """The person is no member of that tenant, or there is no such tenant; nobody may tell which."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The tenant that the running code acts for, and the person, if it acts for one.

    Without a person it is a system scope, opened by a command; ``role`` is then None.
    """

    tenant_id: UUID
    slug: str
    name: str
    suspended: bool
    group_id: int
    user_id: int | None = None
    role: str | None = None
    actor_label: str = ""


_scope: ContextVar[Scope | None] = ContextVar("bulkhead_scope", default=None)
_address: ContextVar[str | None] = ContextVar("bulkhead_address", default=None)


def current_scope() -> Scope:
    """Return the open scope; without one raise NoTenant."""
    scope = _scope.get()
    if scope is None:
        raise NoTenant("No tenant is acting here: open a scope with tenants.scope first.")
    return scope


def scope_or_none() -> Scope | None:
    """Return the open scope, or None where none is open."""
    return _scope.get()


def caller_address() -> str | None:
    """Return the network address that the running code acts for; None outside a request."""
    return _address.get()


@contextmanager
def acting_from(address: str | None) -> Iterator[None]:
    """Remember the caller's address for the audit log, whichever scopes are opened meanwhile."""
    token = _address.set(address)
    try:
        yield
    finally:
        _address.reset(token)


def current_tenant_id() -> UUID:
    """Return the acting tenant's id; the default of every tenant-owned row's ``tenant``."""
    return current_scope().tenant_id


class _ScopeValue(models.Expression):
    """A value of the scope that is read when SQL is compiled, not when the queryset is built.

    A queryset may thus be a class attribute or a form field made at import: it takes the tenant
    of whoever runs it, and raises NoTenant if nobody is acting.
    """

    attribute: str

    def as_sql(
        self, compiler: SQLCompiler, connection: "BaseDatabaseWrapper"
    ) -> tuple[str, tuple[Any, ...]]:
        """Return a placeholder and the scope's value."""
        return "%s", (getattr(current_scope(), self.attribute),)


class CurrentTenantId(_ScopeValue):
    """The acting tenant's id, in SQL."""

    attribute = "tenant_id"
    output_field = models.UUIDField()


class CurrentUserId(_ScopeValue):
    """The acting person's id, in SQL; NULL in a system scope."""

    attribute = "user_id"
    output_field = models.BigIntegerField(null=True)


class CurrentGroupId(_ScopeValue):
    """The id of the acting tenant's group, to which other tenants may grant, in SQL."""

    attribute = "group_id"
    output_field = models.IntegerField()


class TenantManager(models.Manager[ModelT]):
    """The row manager: every queryset holds the acting tenant's rows only."""

    def get_queryset(self) -> models.QuerySet[ModelT]:
        """Return the acting tenant's rows; running it without a scope raises NoTenant."""
        return super().get_queryset().filter(tenant_id=CurrentTenantId())


# The three settings live until the transaction ends; a policy reads one that is '' as nobody.
SET = """SELECT set_config('bulkhead.tenant_id', %s, true),
                set_config('bulkhead.user_id', %s, true),
                set_config('bulkhead.group_id', %s, true)"""

# Proving the membership and opening the scope is one statement: no row, no settings.
OPEN_FOR_MEMBER = """
SELECT tenant.id, tenant.slug, tenant.name, tenant.status = 'suspended', tenant.group_id,
       member.role, person.username,
       set_config('bulkhead.tenant_id', tenant.id::text, true),
       set_config('bulkhead.user_id', person.id::text, true),
       set_config('bulkhead.group_id', tenant.group_id::text, true)
  FROM tenants_membership member
  JOIN tenants_tenant tenant ON tenant.id = member.tenant_id
  JOIN tenants_user person ON person.id = member.user_id
 WHERE member.user_id = %s AND tenant.slug = %s AND person.is_active
   AND (member.expires_at IS NULL OR member.expires_at > now())"""


def _set_in_database(scope: Scope | None) -> None:
    values = (scope.tenant_id, scope.user_id, scope.group_id) if scope else (None, None, None)
    with connection.cursor() as cursor:
        cursor.execute(SET, ["" if value is None else str(value) for value in values])


@contextmanager
def _acting(scope: Scope, *, nested: bool) -> Iterator[Scope]:
    outer = _scope.get()
    token = _scope.set(scope)
    try:
        yield scope
    finally:
        _scope.reset(token)
    # RELEASE SAVEPOINT keeps what SET LOCAL set inside, so the outer values are put back here.
    # After an exception the rollback to the savepoint does it, and after COMMIT none are left.
    if nested and not connection.needs_rollback:
        _set_in_database(outer)


@contextmanager
def tenant_scope(tenant: "Tenant", user: "User | None" = None) -> Iterator[Scope]:
    """Act for ``tenant``; for commands, tests and platform pages, which answer for the right to it.

    With ``user`` the rows shared with that person are readable too and audit events carry the
    name, but no role is given: no permission is checked. Nothing outlives the ``with`` block,
    which is one transaction (a savepoint where one is open already).
    """
    scope = Scope(
        tenant_id=tenant.pk,
        slug=tenant.slug,
        name=tenant.name,
        suspended=tenant.status == "suspended",
        group_id=tenant.group_id,
        user_id=user.pk if user else None,
        actor_label=user.username if user else "system",
    )
    nested = connection.in_atomic_block
    with transaction.atomic():
        _set_in_database(scope)
        with _acting(scope, nested=nested):
            yield scope


@contextmanager
def member_scope(user: "User", slug: str) -> Iterator[Scope]:
    """Act for the tenant ``slug`` as its member ``user``; raises NotAMember.

    A person who was removed or deactivated, or whose membership expired, is out at the next
    call: the membership is read here, every time, and kept nowhere.
    """
    nested = connection.in_atomic_block
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(OPEN_FOR_MEMBER, [user.pk, slug])
            row = cursor.fetchone()
        if row is None:
            raise NotAMember
        tenant_id, slug, name, suspended, group_id, role, username = row[:7]
        scope = Scope(
            tenant_id=tenant_id,
            slug=slug,
            name=name,
            suspended=suspended,
            group_id=group_id,
            user_id=user.pk,
            role=role,
            actor_label=username,
        )
        with _acting(scope, nested=nested):
            yield scope
