"""Finding and writing a tenant's row by prepared statements, where each millisecond counts.

Django composes a statement anew each time, which costs several times as much as running it. Here
the statements of a model are composed once, from its own fields; the rows are the same. Signals are
not sent, so it is for models to which nobody listens.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from django.db import connection, models

from tenants.isolation.scope import current_tenant_id, read_in_scope, write_in_scope
from tenants.models import TenantOwned

RowT = TypeVar("RowT", bound=TenantOwned)
#: Fields whose values psycopg does not know as they are.
DJANGOS = (models.JSONField, models.GenericIPAddressField)


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
