"""Raw SQL as the web role: what an attacker inside the process could send, past every manager."""

from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from models_registry import registry
from models_registry.models import (
    ArtifactFile,
    Blob,
    DownloadCount,
    ModelVersion,
    RegisteredModel,
    Upload,
)
from tenants.access import share
from tenants.identity import directory
from tenants.isolation.scope import tenant_scope
from tenants.isolation.statements import ACTING_TENANT
from tenants.models import NamespaceState, Tenant, User
from tests.support.people import World

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


def fill_every_table(world: World) -> None:
    """Give both teams a row in each tenant-owned table; no team has a grant of the other."""
    outsiders = directory.create_tenant("team_omega", "Omega")
    for tenant, person in ((world.alpha, world.alice), (world.gamma, world.gina)):
        with tenant_scope(tenant, person):
            NamespaceState.objects.create(cluster="test", state="drift", mode="observe")
            for model in RegisteredModel.objects.all():
                share(model, with_user=world.charlie)
                share(model, with_tenant=outsiders)
                registry.star(model, True)
            for version in ModelVersion.objects.all():
                fill_with_files(version)


def fill_with_files(version: ModelVersion) -> None:
    """Give a version a file, an upload that has not ended and a download."""
    blob = Blob.objects.get_or_create(digest="0" * 64, defaults={"size": 1})[0]
    for owner in (version, None):
        path = "MLmodel" if owner else f"{version.pk}/MLmodel"
        ArtifactFile.objects.create(version=owner, path=path, blob=blob)
        Upload.objects.create(version=owner, path=path)
    DownloadCount.objects.create(version=version, day=timezone.now().date(), count=1)
