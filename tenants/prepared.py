"""Reading and writing a tenant's rows by prepared statements, where each millisecond counts.

Django composes a statement anew each time, which costs several times as much as running it. Here
the statements of a model are composed once, from its own fields; the rows are the same. Signals are
not sent, so it is for models to which nobody listens.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection, models, transaction

from tenants.bounded import BoundedDict
from tenants.isolation.credentials import AnyCredential
from tenants.isolation.scope import (
    Scope,
    current_scope,
    current_tenant_id,
    scope_or_none,
    send_opening,
    set_in_database,
)
from tenants.isolation.statements import (
    ACTING,
    LIMIT_SEARCH_TIME,
    Values,
    pipeline,
    run,
    run_for_tuples,
)
from tenants.models import TenantOwned

RowT = TypeVar("RowT", bound=TenantOwned)
#: Fields whose values psycopg does not know as they are.
DJANGOS = (models.JSONField, models.GenericIPAddressField)


#: The tenant that each credential proved last, so that its next read is asked in the same trip.
_last_proven: BoundedDict[AnyCredential, UUID] = BoundedDict(max_entries=10_000)


def query_as(
    credential: AnyCredential,
    statement: str,
    values: Sequence[Any],
    *,
    searching: bool = False,
    prepare: bool = True,
) -> tuple[Scope, list[tuple[Any, ...]]]:
    """Run one statement that reads as the credential's holder; return the scope and the rows.

    The statement compares ``tenant_id`` with ``statements.ACTING_TENANT``: the tenant of the row
    that proved the credential. Row-level security compares with the settings that the opening
    statement made. So a mistake in making these does not pass both walls.

    Both statements are sent in one trip and are one implicit transaction. The tenant is the one
    that the credential proved last; if it proves another one now, or did for the first time, the
    rows are thrown away and asked for again. Where the credential opens nothing, none come back.
    ``searching`` limits the time. ``prepare`` keeps the plan; a text that comes in many forms must
    not be prepared, since each form would push out the plan of one that comes again. Raises what
    ``token_scope`` raises.
    """
    text = _acting(statement) if prepare else ACTING + statement
    nested = connection.in_atomic_block
    tenant_id = _last_proven.get(credential)
    with transaction.atomic() if nested else nullcontext():
        while True:
            with pipeline():
                opened = send_opening(credential)
                if searching:
                    run(LIMIT_SEARCH_TIME, [])
                found = run_for_tuples(text, [tenant_id, *values], prepare=prepare)
            scope = opened()
            if scope.tenant_id == tenant_id:
                break
            tenant_id = scope.tenant_id
            _last_proven.put(credential, tenant_id)
        if nested:
            set_in_database(scope_or_none())
    return scope, found.fetchall()


def query_in_scope(statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return the rows of a statement made for ``query_as``, in the scope that is open.

    Raises NoTenant without a scope.
    """
    return read_in_scope(_acting(statement), [current_tenant_id(), *values])


@lru_cache(maxsize=64)
def _acting(statement: str) -> str:
    """Return the same string each time: its hash, by which its plan is found, is taken once."""
    return ACTING + statement


def read_in_scope(statement: str, values: Values) -> list[tuple[Any, ...]]:
    """Return the rows of a statement whose text is always the same, so that its plan is kept.

    It has a condition on the tenant of its own. Raises NoTenant without a scope.
    """
    current_scope()
    return run_for_tuples(statement, values).fetchall()


def write_in_scope(statement: str, values: Values) -> None:
    """Run a statement that writes and whose text is always the same, so that its plan is kept.

    Raises NoTenant without a scope, and Django's database errors.
    """
    current_scope()
    run(statement, values)


def find(model: type[RowT], **equal: Any) -> RowT | None:
    """Return the acting tenant's row with these values, by column; None where there is none."""
    statement = _select(model, tuple(equal))
    rows = read_in_scope(statement, [current_tenant_id(), *equal.values()])
    if not rows:
        return None
    # psycopg reads JSON by itself here; Django's own cursors leave that to the field.
    names = [field.attname for field in model._meta.concrete_fields]
    return model.from_db("default", names, rows[0])


def insert(row: RowT) -> RowT:
    """Insert a new row in the open scope and return it; raises IntegrityError as ``save`` does."""
    values = [
        prepare(getattr(row, name), connection) if prepare else getattr(row, name)
        for name, prepare in _prepared(type(row))
    ]
    write_in_scope(_insert(type(row)), values)
    row._state.adding = False
    row._state.db = "default"
    return row


@lru_cache(maxsize=64)
def _prepared(model: type[TenantOwned]) -> list[tuple[str, Callable[..., Any] | None]]:
    """Return each field's attribute, and what prepares its values where psycopg cannot."""
    return [
        (field.attname, field.get_db_prep_save if isinstance(field, DJANGOS) else None)
        for field in model._meta.concrete_fields
    ]


@lru_cache(maxsize=64)
def _select(model: type[TenantOwned], columns: tuple[str, ...]) -> str:
    conditions = " AND ".join(f"{name} = %s" for name in ("tenant_id", *columns))
    return f"SELECT {_columns(model)} FROM {model._meta.db_table} WHERE {conditions}"  # noqa: S608 - names of our own


@lru_cache(maxsize=64)
def _insert(model: type[TenantOwned]) -> str:
    places = ", ".join(["%s"] * len(model._meta.concrete_fields))
    return f"INSERT INTO {model._meta.db_table} ({_columns(model)}) VALUES ({places})"  # noqa: S608 - names of our own


def _columns(model: type[TenantOwned]) -> str:
    return ", ".join(str(field.column) for field in model._meta.concrete_fields)
