"""Raw SQL as the web role: what an attacker inside the process could send, past every manager."""

from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from tenants.isolation.statements import ACTING_TENANT
from tenants.models import Tenant, User

FORBIDDEN = "42501"  # insufficient_privilege: a missing right, or a row that row security refuses
FOREIGN_KEY_VIOLATION = "23503"
CHECK_VIOLATION = "23514"
FEATURE_NOT_SUPPORTED = "0A000"

NAMES_OF_ALL_MODELS = "SELECT array_agg(name ORDER BY name) FROM models_registry_registeredmodel"
NAMES_OF_MODELS = f"{NAMES_OF_ALL_MODELS} WHERE tenant_id = {ACTING_TENANT}"


def rows(sql: str, *params: Any) -> list[tuple[Any, ...]]:
    """Return the rows that ``sql`` finds."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


def column(sql: str, *params: Any) -> list[Any]:
    """Return the first column of the rows that ``sql`` finds."""
    return [row[0] for row in rows(sql, *params)]


def affected(sql: str, *params: Any) -> int:
    """Run ``sql`` and return how many rows it wrote."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        written: int = cursor.rowcount
        return written


def refused(sql: str, *params: Any, state: str = FORBIDDEN) -> None:
    """Fail unless the database refuses ``sql``, at once or when the constraints are checked."""
    try:
        with transaction.atomic():
            affected(sql, *params)
            affected("SET CONSTRAINTS ALL IMMEDIATE")
    except DatabaseError as error:
        assert sqlstate(error) == state, f"{sql}: {error}"
    else:
        pytest.fail(f"not refused: {sql}")


def sqlstate(error: DatabaseError) -> str | None:
    """Return PostgreSQL's code of the error."""
    return getattr(error.__cause__, "sqlstate", None)


def act(tenant: Tenant | None, user: User | None = None) -> None:
    """Set what the policies read, as a scope does, until the transaction ends."""
    values = {
        "tenant_id": tenant.pk if tenant else "",
        "user_id": user.pk if user else "",
        "group_id": tenant.group_id if tenant else "",
    }
    for name, value in values.items():
        rows("SELECT set_config(%s, %s, true)", f"bulkhead.{name}", str(value))
