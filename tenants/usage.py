"""What each tenant has, for platform admins: numbers, and never a name."""

from collections.abc import Callable

from tenants.isolation.scope import tenant_scope
from tenants.models import Tenant

#: What is counted and how, in the acting tenant; the apps that own the rows add theirs.
counters: dict[str, Callable[[], int]] = {}


def usage_of(tenant: Tenant) -> dict[str, int]:
    """Return how many of each the tenant has."""
    with tenant_scope(tenant):
        return {what: count() for what, count in counters.items()}
