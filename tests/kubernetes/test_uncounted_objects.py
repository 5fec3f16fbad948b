"""Nothing that a team makes goes uncounted, from its first moment: it fills the whole cluster."""

from dataclasses import replace
from uuid import UUID

import pytest

from tenants.clusters import Installation
from tenants.kubernetes.bundle import cluster_wide
from tenants.kubernetes.bundle.objects import Team, render
from tenants.kubernetes.pages.findings import RESOURCES
from tenants.sizes import SIZES

HERE = Installation()
TEAM = Team("team_alpha", UUID(int=1), "Alpha", "bh-team-alpha", SIZES["small"])
#: What a quota calls these, which it has names of their own for.
OWN_NAMES = {"persistentvolumeclaims", "pods", "services"}
LIMITING = {"ResourceQuota", "LimitRange", "NetworkPolicy"}
HARD = {
    resource
    for obj in render(TEAM, HERE)
    if obj["kind"] == "ResourceQuota"
    for resource in obj["spec"]["hard"]
}


def counted(group: str, resource: str) -> str:
    """Return what a quota calls the number of objects."""
    if resource in OWN_NAMES:
        return resource
    return f"count/{resource}.{group}" if group else f"count/{resource}"


def created(role: str) -> set[str]:
    """Return what a quota calls all that a role may create."""
    [found] = [obj for obj in cluster_wide.render(HERE) if obj["metadata"]["name"] == role]
    return {
        counted(group, resource)
        for rule in found["rules"]
        if "create" in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


@pytest.mark.parametrize("role", ["viewer", "editor", "admin"])
def test_all_that_a_role_may_create_is_counted(role: str) -> None:
    assert created(f"bh-tenant-{role}") <= HARD
    assert (created(f"bh-tenant-{role}") == set()) is (role == "viewer")


def test_what_workloads_make_is_counted_too() -> None:
    """A deployment makes a ReplicaSet for each of its changes, and keeps as many as it likes."""
    assert {"pods", "count/replicasets.apps", "count/jobs.batch"} <= HARD


def test_each_count_has_a_name_on_the_page() -> None:
    assert set(RESOURCES) >= HARD


@pytest.mark.parametrize("here", [HERE, replace(HERE, binds_users=True)])
def test_nobody_is_bound_before_the_limits_are_there(here: Installation) -> None:
    """A sync, or kubectl, that ends in the middle leaves nobody in a namespace without limits."""
    kinds = [obj["kind"] for obj in render(TEAM, here)]
    last_limit = max(place for place, kind in enumerate(kinds) if kind in LIMITING)
    assert kinds.index("RoleBinding") > last_limit
    assert kinds[0] == "Namespace"
