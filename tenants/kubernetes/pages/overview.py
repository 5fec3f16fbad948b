"""All tenants' namespaces at a glance, for platform admins: states and numbers, and no names.

What is called how inside a namespace is the team's own; here it is only counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from tenants.isolation.scope import tenant_scope
from tenants.kubernetes.pages import findings
from tenants.kubernetes.pages.findings import RESOURCES, STALE_AFTER, Limit
from tenants.models import NamespaceState, Tenant

#: The state of a tenant whose namespace was never looked at in any cluster.
UNSEEN = "unseen"
#: The states with their labels, the gravest first. A tenant counts under the gravest of its
#: clusters' states.
GRAVEST_FIRST: dict[str, str] = {
    NamespaceState.State.ERROR: "Error",
    NamespaceState.State.CONFLICT: "Not ours",
    NamespaceState.State.DRIFT: "Drift",
    NamespaceState.State.IN_SYNC: "In sync",
    UNSEEN: "Not looked at",
}
PROBLEMS = "problems"


@dataclass(frozen=True, slots=True)
class Standing:
    """A tenant's state: the gravest of its clusters', and whether any last look is stale."""

    tenant: Tenant
    state: str
    stale: bool

    @property
    def is_problem(self) -> bool:
        """Whether somebody should look into it."""
        return self.stale or self.state not in (NamespaceState.State.IN_SYNC, UNSEEN)


@dataclass(frozen=True, slots=True)
class Row:
    """A tenant's row on the platform admins' page."""

    tenant: Tenant
    #: Name, state and the state's label of each cluster.
    clusters: list[tuple[str, str, str]]
    wrong: int
    foreign: int
    workloads: int
    #: The limit of which the largest share is used.
    nearest: Limit | None
    checked_at: datetime | None
    stale: bool


def standings(tenants: Iterable[Tenant]) -> list[Standing]:
    """Return each tenant's state."""
    return [_standing(tenant) for tenant in tenants]


def _standing(tenant: Tenant) -> Standing:
    with tenant_scope(tenant):
        states = list(NamespaceState.objects.values_list("state", "checked_at"))
    found = {state for state, _ in states} or {UNSEEN}
    oldest = timezone.now() - STALE_AFTER
    return Standing(
        tenant,
        state=next(state for state in GRAVEST_FIRST if state in found),
        stale=any(checked_at < oldest for _, checked_at in states),
    )


def totals(found: Iterable[Standing]) -> dict[str, int]:
    """Return the number of tenants in each state, the gravest state first."""
    counts = dict.fromkeys(map(str, GRAVEST_FIRST), 0)
    for standing in found:
        counts[standing.state] += 1
    return counts


def chosen(found: Iterable[Standing], show: str) -> list[Standing]:
    """Return the tenants in the state ``show``, those with a problem, or all."""
    if show == PROBLEMS:
        return [standing for standing in found if standing.is_problem]
    return [standing for standing in found if show in ("", standing.state)]


def row_of(standing: Standing) -> Row:
    """Return a tenant's row; no name that the team gave is in it."""
    with tenant_scope(standing.tenant):
        states = list(NamespaceState.objects.all())
    wrong = [
        finding
        for state in states
        for finding in findings.findings_of(state)
        if not finding.is_fine
    ]
    limits = [
        limit
        for state in states
        for limit in findings.limits_of((), state.quota)[0]
        # Only known resources: the name of a custom one could be any text of the team's.
        if limit.share is not None and limit.resource in RESOURCES
    ]
    return Row(
        tenant=standing.tenant,
        clusters=[
            (state.cluster, state.state, GRAVEST_FIRST.get(state.state, state.state))
            for state in states
        ],
        wrong=len(wrong),
        foreign=sum(finding.state == "foreign" for finding in wrong),
        workloads=sum(len(state.workloads) for state in states),
        nearest=max(limits, key=lambda limit: limit.share or 0, default=None),
        checked_at=min((state.checked_at for state in states), default=None),
        stale=standing.stale,
    )
