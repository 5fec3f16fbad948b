"""States of namespaces as the sync writes them, made for tests."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from tenants.isolation.scope import tenant_scope
from tenants.kubernetes.bundle import objects as bundle
from tenants.models import NamespaceState, Tenant


def objects_of(tenant: Tenant, **states: str) -> list[dict[str, Any]]:
    """Return the bundle's objects as found, in sync but for the named ones (`_` for `-`)."""
    wanted = {name.replace("_", "-"): state for name, state in states.items()}
    return [
        {
            "kind": obj["kind"],
            "name": obj["metadata"]["name"],
            "state": wanted.get(obj["metadata"]["name"], "in_sync"),
        }
        for obj in bundle.render(bundle.team_of(tenant), settings.KUBERNETES)
    ]


def quota_of(tenant: Tenant, **used: str) -> dict[str, dict[str, str]]:
    """Return the bundle's limits as a cluster has them, with some use of each."""
    return {
        resource: {"hard": hard, "used": used.get(resource, "0")}
        for obj in bundle.render(bundle.team_of(tenant), settings.KUBERNETES)
        if obj["kind"] == "ResourceQuota"
        for resource, hard in obj["spec"]["hard"].items()
    }


def foreign(kind: str, name: str) -> dict[str, str]:
    """Return an object of somebody else's as found."""
    return {"kind": kind, "name": name, "state": "foreign", "detail": f"{name} is not ours."}


def looked(
    tenant: Tenant, state: str = "in_sync", *, minutes: float = 1, **fields: Any
) -> NamespaceState:
    """Write that a cluster was looked at some minutes ago."""
    when = timezone.now() - timedelta(minutes=minutes)
    values = {
        "cluster": "default",
        "mode": "observe",
        "version": "v1.36.2",
        "objects_found": objects_of(tenant),
        "quota": quota_of(tenant),
        **fields,
    }
    with tenant_scope(tenant):
        made: NamespaceState = NamespaceState.objects.create(state=state, checked_at=when, **values)
    return made
