"""The scope: for which tenant, and for whom, the running code acts.

This module is the only place that opens one. An open scope is two things at once: a context
variable, which the row manager reads when it compiles SQL, and three settings of the database
transaction, which the row-level security policies read. Both end with the ``with`` block.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from django.db import connection, transaction

from tenants.isolation import credentials, statements
from tenants.isolation.credentials import AnyCredential


class TenantRow(Protocol):
    """What a scope needs to know of a tenant; ``tenants.models.Tenant`` is one."""

    pk: Any
    slug: str
    name: str
    status: str
    group_id: int


class PersonRow(Protocol):
    """What a scope needs to know of a person; ``tenants.models.User`` is one."""

    pk: Any
    username: str


@dataclass(frozen=True, slots=True)
class Scope:
    """The tenant that the running code acts for, and the person, if it acts for one.

    Without a person it is a system scope, opened by a command; ``role`` is then None. Through a
    token, ``via`` is the token's public prefix (a pod's token has an id instead), and
    ``reads_only`` may take the role's rights to write away.
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


def current_scope() -> Scope:
    """Return the open scope; raises NoTenant without one."""
    scope = _scope.get()
    if scope is None:
        raise credentials.NoTenant("No tenant is acting: open a scope of tenants.isolation first.")
    return scope


def scope_or_none() -> Scope | None:
    """Return the open scope, or None where none is open."""
    return _scope.get()


def current_tenant_id() -> UUID:
    """Return the acting tenant's id, the default of every tenant-owned row; raises NoTenant."""
    return current_scope().tenant_id


def tenant_scope(tenant: TenantRow, user: PersonRow | None = None) -> AbstractContextManager[Scope]:
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

    def open_it() -> Scope:
        set_in_database(scope)
        return scope

    return _acting(open_it)


def namespace_scope(namespace: str, max_milliseconds: int) -> AbstractContextManager[Scope]:
    """Act for the tenant of that Kubernetes namespace, to read; raises NobodysNamespace.

    The database refuses each write meanwhile, and cancels a statement that takes longer than
    ``max_milliseconds``.
    """

    def open_it() -> Scope:
        with statements.pipeline():  # one trip, with the transaction's BEGIN
            statements.run(statements.READ_BRIEFLY, [f"{max_milliseconds}ms"])
            opened = statements.run(statements.OPEN_FOR_NAMESPACE, [namespace])
        return _scope_of(opened.fetchone(), credentials.NobodysNamespace)

    return _acting(open_it, roll_back=True)


def member_scope(user: PersonRow, slug: str) -> AbstractContextManager[Scope]:
    """Act for the tenant ``slug`` as its member ``user``; raises NotAMember.

    A person who was removed or deactivated, or whose membership expired, is out at the next
    call: the membership is read here, every time, and kept nowhere.
    """

    def open_it() -> Scope:
        opened = statements.run(statements.OPEN_FOR_MEMBER, [user.pk, slug])
        return _scope_of(opened.fetchone(), credentials.NotAMember)

    return _acting(open_it)


def token_scope(credential: AnyCredential) -> AbstractContextManager[Scope]:
    """Act for the tenant that the credential opens, as its holder.

    Raises BadToken; NotAMember for a tenant that the holder is not in, whether there is such a
    tenant or not; ContradictsToken; WhichTeam.
    """

    def open_it() -> Scope:
        with statements.pipeline():  # one trip, with the transaction's BEGIN
            opened = send_opening(credential)
        return opened()

    return _acting(open_it)


def send_opening(credential: AnyCredential) -> Callable[[], Scope]:
    """Send, in the caller's pipeline, the statement that opens the scope in the database alone.

    Return what gives the scope once the pipeline has ended, or raises as ``token_scope`` does.
    """
    proof = credentials.proof_of(credential)
    opened = statements.run(proof.open, credentials.as_values(credential))

    def scope_of_answer() -> Scope:
        rows = opened.fetchall()
        if len(rows) != 1:
            raise credentials.refusal_of(credential)
        mark_used = rows[0].pop("mark_used")
        scope = _scope_of(rows[0], credentials.BadToken)
        if mark_used:
            statements.run(proof.note_use, {"via": scope.via, "user_id": scope.user_id})
        return scope

    return scope_of_answer


def _scope_of(row: dict[str, Any] | None, error: type[Exception]) -> Scope:
    """Return the scope of an opening statement's row; raises ``error`` without one."""
    if row is None:
        raise error
    del row["settings"]
    return Scope(**row)  # the columns have the fields' names


@contextmanager
def _acting(open_it: Callable[[], Scope], *, roll_back: bool = False) -> Iterator[Scope]:
    nested = connection.in_atomic_block
    with transaction.atomic():
        scope = open_it()
        token = _scope.set(scope)
        try:
            yield scope
        finally:
            _scope.reset(token)
        # RELEASE SAVEPOINT keeps what SET LOCAL set inside, so the outer values are put back here.
        # A rollback to the savepoint does it by itself, and after COMMIT none are left.
        if roll_back:
            transaction.set_rollback(True)
        elif nested and not connection.needs_rollback:
            set_in_database(scope_or_none())


def set_in_database(scope: Scope | None) -> None:
    """Set what row-level security reads to a scope's values, or to nobody's."""
    values = (scope.tenant_id, scope.user_id, scope.group_id) if scope else (None, None, None)
    with connection.cursor() as cursor:
        cursor.execute(statements.SET, ["" if value is None else str(value) for value in values])
