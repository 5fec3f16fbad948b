"""Taking one of the two walls down, to see whether the other one holds alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from django.db import connections, models

from tenants import prepared
from tenants.isolation import statements
from tenants.isolation.manager import TenantManager
from tenants.models import Tenant, tenant_owned_models


@contextmanager
def without_row_security() -> Iterator[None]:
    """Take the second wall down, as only the owner can, and put it up again."""
    tables = [model._meta.db_table for model in tenant_owned_models()]

    def switch(*words: str) -> None:
        with connections["owner"].cursor() as owner:
            for table in tables:
                for word in words:
                    owner.execute(f"ALTER TABLE {table} {word} ROW LEVEL SECURITY")

    switch("DISABLE", "NO FORCE")
    try:
        yield
    finally:
        switch("ENABLE", "FORCE")


def open_wrongly(monkeypatch: pytest.MonkeyPatch, tenant: Tenant) -> None:
    """Let each statement that opens a scope give the database the settings of ``tenant``."""
    right = "set_config('bulkhead.tenant_id', tenant_id::text, true)"
    wrong = f"set_config('bulkhead.tenant_id', '{tenant.pk}', true)"
    for name in ("TOKEN", "WORKLOAD"):
        proof = getattr(statements, name)
        assert right in proof.open
        mistaken = replace(proof, open=proof.open.replace(right, wrong))
        monkeypatch.setattr(statements, name, mistaken)
    assert right in statements.OPEN_FOR_MEMBER
    opening = statements.OPEN_FOR_MEMBER.replace(right, wrong)
    monkeypatch.setattr(statements, "OPEN_FOR_MEMBER", opening)


def without_conditions(monkeypatch: pytest.MonkeyPatch, tenant: Tenant) -> None:
    """Take the first wall down: managers filter nothing, and our statements ask for ``tenant``."""
    asked = statements.run_for_tuples

    def asked_for_other(text: str, values: Any, **options: Any) -> Any:
        if text.startswith(statements.ACTING):
            values = [tenant.pk, *values[1:]]
        return asked(text, values, **options)

    monkeypatch.setattr(prepared, "run_for_tuples", asked_for_other)
    monkeypatch.setattr(TenantManager, "get_queryset", models.Manager.get_queryset)
    monkeypatch.setattr(prepared, "current_tenant_id", lambda: tenant.pk)
