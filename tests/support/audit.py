"""The teams' audit logs."""

from tenants.isolation.scope import (
    tenant_scope,
)
from tenants.models import AuditEvent, Tenant


def events(tenant: Tenant, action: str = "identity.") -> list[AuditEvent]:
    """Return the team's events of that kind, oldest first."""
    with tenant_scope(tenant):
        found = AuditEvent.objects.filter(action__startswith=action).select_related("actor")
        return list(found.order_by("created_at", "id"))
