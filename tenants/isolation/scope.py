"""The scope: for which tenant, and for whom, the running code acts.

This is the only place that opens one. An open scope is two things at once: a context variable,
which the row manager reads when it compiles SQL, and three settings of the database
transaction, which the row-level security policies read. Both end with the ``with`` block.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import psycopg
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connection, connections, models, transaction
from django.db.models.sql.compiler import SQLCompiler

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from tenants.models import Tenant, User


ModelT = TypeVar("ModelT", bound=models.Model)
#: What stands for the placeholders of a statement, in their order or by their names.
Values = Sequence[Any] | Mapping[str, Any]


class NoTenant(Exception):
    """Tenant-owned rows were asked for, and nobody is acting for a tenant."""


class NotAMember(Exception):
    """The person is no member of that tenant, or there is no such tenant; nobody may tell which."""


class NobodysNamespace(Exception):
    """The namespace is no tenant's."""


class BadToken(Exception):
    """The token opens nothing: wrong, expired, revoked, or its holder is out; nobody may tell."""


class ContradictsToken(Exception):
    """The token opens one team alone, and the request names another; ``slug`` is the token's."""

    def __init__(self, slug: str) -> None:
        self.slug = slug
        super().__init__(slug)


class WhichTeam(Exception):
    """The token opens several teams, ``slugs``, and the request names none."""

    def __init__(self, slugs: list[str]) -> None:
        self.slugs = slugs
        super().__init__(", ".join(slugs))


@dataclass(frozen=True, slots=True)
class Credential:
    """A token as a request carries it, and the team that the request names ('' for none).

    ``prefix`` finds the token's row, ``digest`` proves that it is the one; ``team`` is a slug, in
    which `_` and `-` are equal.
    """

    prefix: str
    digest: bytes
    team: str = ""


@dataclass(frozen=True, slots=True)
class WorkloadCredential:
    """A pod that its cluster vouches for, and the team that the request names ('' for none).

    Whether its service account may sign in anywhere is for the database to say. ``digest`` is that
    of the pod's token, ``token_id`` what the log calls it and ``token_name`` what the cluster does,
    '' for nothing. ``team`` is a slug, or the namespace, since MLflow's clients in a cluster call
    the workspace so.
    """

    cluster: str
    namespace: str
    service_account: str
    uid: str
    pod: str
    pod_uid: str
    digest: bytes
    token_id: str
    token_name: str
    expires_at: datetime
    team: str = ""


AnyCredential = Credential | WorkloadCredential


@dataclass(frozen=True, slots=True)
class Scope:
    """The tenant that the running code acts for, and the person, if it acts for one.

    Without a person it is a system scope, opened by a command; ``role`` is then None. Through a
    token, ``via`` is the token's clear beginning (a pod's has an id instead), and ``reads_only``
    may take the role's rights to write away.
    """

    tenant_id: UUID
    slug: str
    name: str
    suspended: bool
    group_id: int
    user_id: int | None = None
    role: str | None = None
    actor_label: str = ""
    reads_only: bool = False
    via: str = ""


_scope: ContextVar[Scope | None] = ContextVar("bulkhead_scope", default=None)
_address: ContextVar[str | None] = ContextVar("bulkhead_address", default=None)


def current_scope() -> Scope:
    """Return the open scope; without one raise NoTenant."""
    scope = _scope.get()
    if scope is None:
        raise NoTenant("No tenant is acting here: open a scope with tenants.isolation.scope first.")
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
        """Return the acting tenant's rows; running it without a scope raises NoTenant.

        The filtered queryset is built once for each database and copied from then on: it holds
        no tenant, and building it costs as much as running it.
        """
        if getattr(self, "_hints", None):  # a related manager's, made for one row
            return self._filtered()
        kept = self.__dict__.setdefault("_kept", {})
        if self._db not in kept:
            kept[self._db] = self._filtered()
        copy: models.QuerySet[ModelT] = kept[self._db].all()
        return copy

    def _filtered(self) -> models.QuerySet[ModelT]:
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
 WHERE member.user_id = %s AND tenant.slug = %s
   AND person.is_active AND person.robot_of_id IS NULL
   AND (member.expires_at IS NULL OR member.expires_at > now())"""

# From a cluster no person asks, but an API server; and nothing may change what it asks about.
OPEN_FOR_NAMESPACE = """
SELECT id, slug, name, status = 'suspended', group_id,
       set_config('bulkhead.tenant_id', id::text, true),
       set_config('bulkhead.user_id', '', true),
       set_config('bulkhead.group_id', group_id::text, true)
  FROM tenants_tenant WHERE namespace = %s"""
READ_BRIEFLY = """
SELECT set_config('transaction_read_only', 'on', true), set_config('statement_timeout', %s, true)"""

# A token and what it opens, proven as a membership is: by its rows as they are now, every time.
# A robot's token ends when whoever made it, and so knows it, is no member any more.
TOKENS = """
  FROM tenants_apitoken token
  JOIN tenants_user person ON person.id = token.user_id
  JOIN tenants_membership member ON member.user_id = token.user_id
  JOIN tenants_tenant tenant ON tenant.id = member.tenant_id
 WHERE token.prefix = %(prefix)s AND token.digest = %(digest)s
   AND token.revoked_at IS NULL AND token.expires_at > now()
   AND person.is_active AND (member.expires_at IS NULL OR member.expires_at > now())
   AND (token.tenant_id IS NULL OR token.tenant_id = member.tenant_id)
   AND (person.robot_of_id IS NULL OR person.robot_of_id = member.tenant_id)
   AND (token.created_by_id IS NULL OR token.created_by_id = token.user_id OR EXISTS (
           SELECT FROM tenants_membership made_by
             JOIN tenants_user maker ON maker.id = made_by.user_id
            WHERE made_by.user_id = token.created_by_id AND made_by.tenant_id = member.tenant_id
              AND maker.is_active
              AND (made_by.expires_at IS NULL OR made_by.expires_at > now())))"""

# A pod's service account and what it opens: its robot's membership, in the team of its namespace.
# The account is the one that signed in first; one made anew under its name has another uid.
WORKLOADS = """
  FROM tenants_tenant tenant
  JOIN tenants_workloadidentity identity ON identity.tenant_id = tenant.id
  JOIN tenants_user person ON person.id = identity.user_id
  JOIN tenants_membership member ON member.user_id = person.id AND member.tenant_id = tenant.id
 WHERE tenant.namespace = %(namespace)s AND identity.cluster = %(cluster)s
   AND identity.service_account = %(service_account)s
   AND identity.uid = %(uid)s AND identity.uid <> ''
   AND person.is_active AND person.robot_of_id = tenant.id
   AND (member.expires_at IS NULL OR member.expires_at > now())"""

_OF_TOKEN = f"""
SELECT tenant.id, tenant.slug, tenant.name, tenant.status = 'suspended' AS suspended,
       tenant.group_id, member.role, person.username, person.id AS user_id,
       token.scope = 'read' AS reads_only, token.prefix AS via,
       token.last_used_at IS NULL OR token.last_used_at < now() - interval '1 minute' AS unmarked,
       count(*) OVER () AS teams
{TOKENS}
   AND (%(team)s = '' OR replace(tenant.slug, '_', '-') = %(team)s)"""

_OF_WORKLOAD = f"""
SELECT tenant.id, tenant.slug, tenant.name, tenant.status = 'suspended' AS suspended,
       tenant.group_id, member.role, person.username, person.id AS user_id,
       false AS reads_only, %(token_id)s::text AS via,
       identity.last_used_at IS NULL
           OR identity.last_used_at < now() - interval '1 minute' AS unmarked,
       count(*) OVER () AS teams
{WORKLOADS}
   AND %(team)s IN ('', replace(tenant.slug, '_', '-'), tenant.namespace)"""

# Where several teams could be meant, none is opened: the rows come without the settings.
_OPEN = """
WITH found AS MATERIALIZED ({found})
SELECT *, CASE WHEN teams = 1 THEN concat(
       set_config('bulkhead.tenant_id', id::text, true),
       set_config('bulkhead.user_id', user_id::text, true),
       set_config('bulkhead.group_id', group_id::text, true)) END
  FROM found ORDER BY slug"""

OPEN_FOR = {
    Credential: _OPEN.format(found=_OF_TOKEN),
    WorkloadCredential: _OPEN.format(found=_OF_WORKLOAD),
}

OPENED_BY = {
    Credential: f"""
SELECT tenant.slug, tenant.name, tenant.description,
       token.tenant_id IS NOT NULL OR person.robot_of_id IS NOT NULL
{TOKENS} ORDER BY tenant.slug""",
    WorkloadCredential: f"SELECT tenant.slug, tenant.name, tenant.description, true {WORKLOADS}",
}
# Two requests that come in one minute's first moment do not wait for each other.
MARK_AS_USED = {
    Credential: """
UPDATE tenants_apitoken SET last_used_at = now()
 WHERE id = (SELECT id FROM tenants_apitoken WHERE prefix = %(via)s FOR UPDATE SKIP LOCKED)""",
    WorkloadCredential: """
UPDATE tenants_workloadidentity SET last_used_at = now()
 WHERE id = (SELECT id FROM tenants_workloadidentity
              WHERE user_id = %(user_id)s FOR UPDATE SKIP LOCKED)""",
}

# A pattern can be made to take minutes; a search that takes longer than this is given up.
LIMIT_TIME = "SELECT set_config('statement_timeout', '20s', true)"


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
def namespace_scope(namespace: str, milliseconds: int) -> Iterator[Scope]:
    """Act for the tenant of that Kubernetes namespace, to read; raises NobodysNamespace.

    The database itself refuses each write meanwhile, and gives up a statement that takes longer
    than so many milliseconds.
    """
    nested = connection.in_atomic_block
    with transaction.atomic():
        with together():  # with the transaction's BEGIN
            _run(READ_BRIEFLY, [f"{milliseconds}ms"])
            opened = _run(OPEN_FOR_NAMESPACE, [namespace])
        row = opened.fetchone()
        if row is None:
            raise NobodysNamespace
        tenant_id, slug, name, suspended, group_id = row[:5]
        scope = Scope(
            tenant_id=tenant_id,
            slug=slug,
            name=name,
            suspended=suspended,
            group_id=group_id,
            actor_label="system",
            reads_only=True,
        )
        with _acting(scope, nested=nested):
            yield scope
            # Nothing was written; undoing puts back what was set, where a transaction was open.
            transaction.set_rollback(True)


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


@contextmanager
def token_scope(credential: AnyCredential) -> Iterator[Scope]:
    """Act for the team that the token opens, as the token's holder.

    Raises BadToken; NotAMember for a team that the holder is not in, whether there is such a team
    or not; ContradictsToken and WhichTeam.
    """
    nested = connection.in_atomic_block
    with transaction.atomic():
        with together():  # with the transaction's BEGIN
            opened = _run(OPEN_FOR[type(credential)], _named(credential))
        scope = _opened(opened.fetchall(), credential)
        with _acting(scope, nested=nested):
            yield scope


def read_with_token(
    credential: AnyCredential,
    statement: str,
    values: Values,
    *,
    searching: bool = False,
    prepare: bool = True,
) -> tuple[Scope, list[tuple[Any, ...]]]:
    """Open the token's scope, run one statement that reads in it, and return its rows.

    Both statements are sent together and are one transaction of PostgreSQL's making, which ends
    with them; so the whole costs one trip to the database. Where the token opens nothing, the
    second one runs without a scope and so finds nothing: row-level security and the statement's
    own condition both compare with settings that are not there. The time of a search is limited.
    ``prepare`` keeps the statement's plan; what comes in many forms is not to be prepared, since
    each form would push out the plan of one that comes again. Raises what ``token_scope`` raises.
    """
    nested = connection.in_atomic_block
    with transaction.atomic() if nested else nullcontext():
        with together():
            opened = _run(OPEN_FOR[type(credential)], _named(credential))
            if searching:
                _run(LIMIT_TIME, [])
            found = _run(statement, values, prepare=prepare)
        scope = _opened(opened.fetchall(), credential)
        if nested:
            _set_in_database(_scope.get())
    return scope, found.fetchall()


def read_in_scope(statement: str, values: Values) -> list[tuple[Any, ...]]:
    """Return the rows of a statement whose text is always the same, so that its plan is kept."""
    current_scope()
    return _run(statement, values).fetchall()


def write_in_scope(statement: str, values: Values) -> None:
    """Run a statement that writes and whose text is always the same, so that its plan is kept."""
    current_scope()
    _run(statement, values)


@contextmanager
def together() -> Iterator[None]:
    """Send the block's statements of this module in one trip; fetch their rows when it has ended.

    An error of any of them is raised at the end of the block.
    """
    connection.ensure_connection()
    with connection.wrap_database_errors, connection.connection.pipeline():
        yield


def _run(statement: str, values: Values, *, prepare: bool = True) -> psycopg.Cursor[Any]:
    """Run a statement by psycopg itself; Django's own cursors can prepare nothing."""
    database = connections[DEFAULT_DB_ALIAS]
    database.ensure_connection()
    cursor = psycopg.Cursor(database.connection)
    prepare = prepare and settings.PREPARE_STATEMENTS
    with database.wrap_database_errors:
        cursor.execute(statement, values, prepare=prepare, binary=True)
    return cursor


def _named(credential: AnyCredential) -> dict[str, Any]:
    team = credential.team.replace("_", "-")
    if isinstance(credential, Credential):
        return {"prefix": credential.prefix, "digest": credential.digest, "team": team}
    return {
        "cluster": credential.cluster,
        "namespace": credential.namespace,
        "service_account": credential.service_account,
        "uid": credential.uid,
        "token_id": credential.token_id,
        "team": team,
    }


def _opened(rows: list[tuple[Any, ...]], credential: AnyCredential) -> Scope:
    """Return the scope that the token opened; marks the token as used, once a minute."""
    if len(rows) != 1:
        raise _refusal(credential)
    found = rows[0][:11]
    tenant_id, slug, name, suspended, group_id, role, username, user_id, reads_only, via, mark = (
        found
    )
    if mark:
        with connection.cursor() as cursor:
            cursor.execute(MARK_AS_USED[type(credential)], {"via": via, "user_id": user_id})
    return Scope(
        tenant_id=tenant_id,
        slug=slug,
        name=name,
        suspended=suspended,
        group_id=group_id,
        user_id=user_id,
        role=role,
        actor_label=username,
        reads_only=reads_only,
        via=via,
    )


@dataclass(frozen=True, slots=True)
class OpenTeam:
    """A team that a token opens, and whether it opens that one alone."""

    slug: str
    name: str
    description: str
    alone: bool


def teams_of_token(credential: AnyCredential) -> list[OpenTeam]:
    """Return the teams that the token opens, whichever the request names; raises BadToken."""
    with connection.cursor() as cursor:
        cursor.execute(OPENED_BY[type(credential)], _named(credential))
        teams = [OpenTeam(*row) for row in cursor.fetchall()]
    if not teams:
        raise BadToken
    return teams


def _refusal(credential: AnyCredential) -> Exception:
    """Return why the token did not open a team; asked only when it did not."""
    teams = teams_of_token(credential)
    if not credential.team:
        return WhichTeam([team.slug for team in teams])
    return ContradictsToken(teams[0].slug) if teams[0].alone else NotAMember()
