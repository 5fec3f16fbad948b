"""Nothing that a team may make in its namespace goes uncounted: it fills the whole cluster."""

from uuid import UUID

import pytest

from tenants.kubernetes import cluster_wide
from tenants.kubernetes.bundle import Team, render
from tenants.kubernetes.findings import RESOURCES
from tenants.kubernetes.installation import Installation
from tenants.kubernetes.sizes import SIZES

HERE = Installation()
TEAM = Team("team_alpha", UUID(int=1), "Alpha", "bh-team-alpha", SIZES["small"])
#: What a quota calls these, which it has names of their own for.
OWN_NAMES = {"persistentvolumeclaims", "pods", "services"}
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
