"""The last level: a real API server; run as a command of its own: ``make test-kubernetes``.

The option ``--live-cluster`` loads these fixtures, for tests in other folders too: Bulkhead has the
rights that it is given and no others; whoever meddles runs the cluster.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest

from tenants.kubernetes.bundle import cluster_wide
from tenants.kubernetes.bundle.objects import Team, render
from tenants.kubernetes.sync.client import OfficialClient
from tests.live_cluster.cluster import (
    APPLY,
    CONTROLLER,
    ETCD,
    MANAGER,
    SERVER,
    LiveCluster,
    programs,
    running,
    team,
    wait_for_quota,
)
from tests.support.bundles import HERE
from tests.support.kubernetes_stage import ADMIN, LIMITED, NOBODY, REGISTRY, Exchange

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


@pytest.fixture(scope="session")
def answer_of_live(live: LiveCluster) -> Callable[[Exchange], None]:
    """Complete exchanges with what the real server answers."""
    return partial(ask, live)


def ask(live: LiveCluster, exchange: Exchange) -> None:
    """Complete the exchange with what the real server answers."""
    tokens = {REGISTRY: live.tokens[CONTROLLER], NOBODY: NOBODY}
    token = tokens.get(exchange.user, live.tokens[ADMIN])
    headers = {"Authorization": f"Bearer {token}", "Content-Type": exchange.content}
    if exchange.user == LIMITED:
        headers["Impersonate-User"] = LIMITED
    answer = live.http.request(
        exchange.method,
        f"{live.address}{exchange.path}?{urlencode(exchange.query)}",
        body=None if exchange.body is None else json.dumps(exchange.body),
        headers=headers,
    )
    exchange.status, exchange.answer = answer.status, answer.json()
    exchange.warning = answer.headers.get("Warning")


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


@pytest.fixture(scope="session")
def two_teams(live: LiveCluster, bulkhead: OfficialClient) -> tuple[Team, Team]:
    """Two teams whose bundles Bulkhead has applied."""
    made = team("team_alpha"), team("team_gamma")
    for one in made:
        for obj in render(one, HERE):
            bulkhead.apply(obj, force=False)
        wait_for_quota(live, one.namespace, str(one.size.pods))
    return made
