"""The last level: a real API server; run as a command of its own: ``make test-kubernetes``."""

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid5

import pytest

from tenants.clusters import Installation, namespace_of
from tenants.kubernetes.bundle import cluster_wide
from tenants.kubernetes.bundle.objects import Team, render
from tenants.kubernetes.sync.client import OfficialClient
from tenants.sizes import SIZES
from tests.live_cluster.cluster import (
    APPLY,
    CONTROLLER,
    ETCD,
    MANAGER,
    SERVER,
    LiveCluster,
    programs,
    running,
)
from tests.support.addresses import NOTHING

#: Who has a token for the cluster, and the groups that its identity provider would say.
USERS: dict[str, tuple[str, ...]] = {
    "admin": ("system:masters",),
    CONTROLLER: ("system:serviceaccounts", "system:serviceaccounts:bulkhead"),
    "alice": ("bh:team_alpha:admin",),
    "carol": ("bh:team_alpha:editor",),
    "bob": ("bh:team_alpha:viewer",),
    "gina": ("bh:team_gamma:editor",),
    "hugo": ("bh:team_gamma:admin",),
    "charlie": (),
}
HERE = Installation()
#: Kinds that this release of Kubernetes does not have yet.
LATER = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}

PLURALS = {
    "Namespace": "namespaces",
    "ServiceAccount": "serviceaccounts",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "PriorityClass": "priorityclasses",
}


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCluster]:
    """A control plane in which a platform admin has installed what is cluster-wide."""
    if programs() is None:
        names = f"{SERVER}, {MANAGER} and {ETCD}"
        pytest.fail(f"These tests need a real API server: name the programs in {names}.")
    with running(tmp_path_factory.mktemp("cluster"), USERS) as cluster:
        own = {"apiVersion": "v1", "kind": "Namespace"}
        install(cluster, {**own, "metadata": {"name": HERE.registry_namespace}})
        for obj in [*cluster_wide.render(HERE), *cluster_wide.controller(HERE)]:
            if obj["kind"] not in LATER:
                install(cluster, obj)
        yield cluster


def install(cluster: LiveCluster, obj: dict[str, Any]) -> None:
    """Apply what a platform admin applies, which Bulkhead itself may not."""
    version, name = obj["apiVersion"], obj["metadata"]["name"]
    where = obj["metadata"].get("namespace")
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    inside = f"/namespaces/{where}" if where else ""
    path = f"{root}{inside}/{PLURALS[obj['kind']]}/{name}?fieldManager=platform"
    answer = cluster.call("admin", "PATCH", path, obj, APPLY)
    assert answer.status in {200, 201}, answer


@pytest.fixture(scope="session")
def bulkhead(live: LiveCluster) -> OfficialClient:
    """Bulkhead's own access, with the rights that it is given and no others."""
    return OfficialClient(live.known_as(CONTROLLER))


def team(slug: str, size: str = "small", **more: object) -> Team:
    """Return a team that has a namespace."""
    facts: dict[str, object] = {
        "slug": slug,
        "id": uuid5(NOTHING, slug),
        "name": slug.title(),
        "namespace": namespace_of(slug),
        "size": SIZES[size],
        **more,
    }
    return Team(**facts)  # type: ignore[arg-type]  # named one by one above


@pytest.fixture(scope="session")
def two_teams(live: LiveCluster, bulkhead: OfficialClient) -> tuple[Team, Team]:
    """Two teams whose bundles Bulkhead has applied."""
    made = team("team_alpha"), team("team_gamma")
    for one in made:
        for obj in render(one, HERE):
            bulkhead.apply(obj, force=False)
        wait_for_quota(live, one.namespace, str(one.size.pods))
    return made


def wait_for_quota(live: LiveCluster, namespace: str, pods: str) -> None:
    """Wait until both quotas are counted as they are now; until then they refuse nothing."""
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    for _ in range(150):
        found = [item.get("status", {}) for item in live.call("admin", "GET", path).body["items"]]
        hard = [status["hard"] for status in found if status.get("hard")]
        if len(hard) == 2 and any(limits.get("pods") == pods for limits in hard):
            return
        time.sleep(0.1)
    pytest.fail(f"the quotas of {namespace} are not counted")
