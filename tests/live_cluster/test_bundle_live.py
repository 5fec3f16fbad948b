"""What a real API server makes of a bundle: rights, quotas and defaults."""

import time
from typing import Any

import pytest

from tenants.kubernetes.bundle.cluster_wide import CONTROLLER as CONTROLLER_ROLE
from tenants.kubernetes.bundle.objects import Team, render
from tenants.kubernetes.sync.client import ClusterApiError, OfficialClient
from tests.live_cluster.cluster import CONTROLLER, LiveCluster, team, wait_for_quota
from tests.support.bundles import HERE

Teams = tuple[Team, Team]

#: What each role may do in its own team's namespace: verb, resource, group.
READS = [("list", "pods", ""), ("get", "pods/log", ""), ("list", "deployments", "apps")]
WRITES = [
    ("create", "deployments", "apps"),
    ("create", "jobs", "batch"),
    ("create", "cronjobs", "batch"),
    ("patch", "configmaps", ""),
    ("create", "persistentvolumeclaims", ""),
    ("update", "deployments/scale", "apps"),
]
SECRETS = [("list", "secrets", ""), ("get", "secrets", ""), ("create", "secrets", "")]
#: What nobody of a team may do, not even its admin.
NOBODY = [
    ("create", "pods", ""),
    ("create", "pods/exec", ""),
    ("create", "pods/ephemeralcontainers", ""),
    ("create", "serviceaccounts/token", ""),
    ("update", "serviceaccounts", ""),
    ("create", "rolebindings", "rbac.authorization.k8s.io"),
    ("create", "roles", "rbac.authorization.k8s.io"),
    ("bind", "clusterroles", "rbac.authorization.k8s.io"),
    ("escalate", "roles", "rbac.authorization.k8s.io"),
    ("impersonate", "users", ""),
    ("update", "resourcequotas", ""),
    ("delete", "limitranges", ""),
    ("create", "networkpolicies", "networking.k8s.io"),
    ("delete", "networkpolicies", "networking.k8s.io"),
    ("patch", "namespaces", ""),
    ("update", "namespaces/finalize", ""),
]
MAY = {
    "alice": READS + WRITES + SECRETS,
    "carol": READS + WRITES,
    "bob": READS,
    "gina": [],
    "hugo": [],
    "charlie": [],
}


@pytest.mark.parametrize("person", MAY)
def test_rights_end_at_the_namespace(person: str, live: LiveCluster, two_teams: Teams) -> None:
    """RBAC as the API server decides it, for people by their groups."""
    alpha = two_teams[0].namespace
    for verb, resource, group in READS + WRITES + SECRETS + NOBODY:
        allowed = live.may(person, verb, resource, alpha, group)
        assert allowed == ((verb, resource, group) in MAY[person]), (verb, resource)


def test_nobody_of_a_team_sees_the_cluster(live: LiveCluster, two_teams: Teams) -> None:
    for person in MAY:
        for path in ("/api/v1/namespaces", "/api/v1/pods", "/api/v1/secrets", "/api/v1/nodes"):
            assert live.call(person, "GET", path).status == 403, (person, path)


def test_bulkhead_may_keep_namespaces_and_nothing_that_runs_there(
    live: LiveCluster, two_teams: Teams
) -> None:
    alpha = two_teams[0].namespace
    allowed = [("patch", "networkpolicies", "networking.k8s.io"), ("list", "pods", "")]
    refused = [
        ("create", "deployments", "apps"),
        ("create", "pods", ""),
        ("delete", "pods", ""),
        ("get", "secrets", ""),
        ("create", "pods/exec", ""),
        ("create", "serviceaccounts/token", ""),
        ("bind", "clusterroles", "rbac.authorization.k8s.io"),
    ]
    for verb, resource, group in allowed:
        assert live.may(CONTROLLER, verb, resource, alpha, group)
    for verb, resource, group in refused:
        assert not live.may(CONTROLLER, verb, resource, alpha, group), (verb, resource)


def binding(namespace: str, role: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"more-{role}", "namespace": namespace},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": role,
        },
        "subjects": [{"kind": "User", "name": CONTROLLER}],
    }


@pytest.mark.parametrize("role", ["cluster-admin", "admin", "edit"])
def test_bulkhead_cannot_give_itself_more(
    role: str, bulkhead: OfficialClient, two_teams: Teams
) -> None:
    with pytest.raises(ClusterApiError) as refused:
        bulkhead.apply(binding(two_teams[0].namespace, role), force=True)
    assert refused.value.status == 403


def test_its_role_in_the_cluster_is_one(live: LiveCluster) -> None:
    path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    found = live.call("admin", "GET", path).body["items"]
    ours = [item for item in found if item["metadata"]["name"].startswith("bh-")]
    assert [item["roleRef"]["name"] for item in ours] == [CONTROLLER_ROLE]


def test_applying_twice_changes_nothing(bulkhead: OfficialClient, two_teams: Teams) -> None:
    """Also what the API server fills in is no reason to write."""
    for obj in render(two_teams[0], HERE):
        before = bulkhead.apply(obj, force=False)
        after = bulkhead.apply(obj, force=False)
        assert not after.created
        assert before.object.get("spec") == after.object.get("spec")
        # This release forgets empty lists when it stores them, and so takes them for a change.
        if obj["metadata"]["name"] != "bh-default-deny":
            versions = [answer.object["metadata"]["resourceVersion"] for answer in (before, after)]
            assert versions[0] == versions[1], obj["kind"]


def pod(name: str, **limits: str) -> dict[str, Any]:
    resources = {"resources": {"limits": limits, "requests": limits}} if limits else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {HERE.label("tenant"): "team_alpha"}},
        "spec": {"containers": [{"name": "server", "image": "server", **resources}]},
    }


def pods(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def test_a_pod_without_limits_gets_some_and_counts(live: LiveCluster, two_teams: Teams) -> None:
    alpha = pods(two_teams[0].namespace)
    made = live.call("admin", "POST", alpha, pod("plain"))
    assert made.status == 201, made
    spec = made.body["spec"]
    resources = spec["containers"][0]["resources"]
    assert resources["limits"] == {"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "2Gi"}
    assert set(resources["requests"]) == set(resources["limits"])
    # The account that it did not ask for gives no token.
    assert spec["serviceAccountName"] == "default"
    assert not [volume for volume in spec.get("volumes", []) if "token" in volume["name"]]


def test_more_than_the_quota_is_refused(live: LiveCluster, two_teams: Teams) -> None:
    alpha = pods(two_teams[0].namespace)
    much = live.call("admin", "POST", alpha, pod("much", cpu="5", memory="1Gi"))
    assert much.status == 403
    assert "exceeded quota: bh-compute" in much.message
    huge = live.call("admin", "POST", alpha, pod("huge", cpu="1", memory="500Gi"))
    assert huge.status == 403
    assert "maximum memory usage per Container" in huge.message
    graphic = {**pod("gpu"), "metadata": {"name": "gpu"}}
    graphic["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
    refused = live.call("admin", "POST", alpha, graphic)
    assert refused.status == 403
    assert "nvidia.com/gpu" in refused.message


@pytest.mark.parametrize("kind", ["LoadBalancer", "NodePort"])
def test_nothing_opens_a_port_to_the_outside(
    kind: str, live: LiveCluster, two_teams: Teams
) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": kind.lower()},
        "spec": {"type": kind, "ports": [{"port": 80}]},
    }
    path = f"/api/v1/namespaces/{two_teams[0].namespace}/services"
    refused = live.call("admin", "POST", path, service)
    assert refused.status == 403
    assert "exceeded quota: bh-objects" in refused.message


def test_a_suspended_team_starts_nothing_and_is_let_in_nowhere(
    live: LiveCluster, bulkhead: OfficialClient
) -> None:
    """L21: from the moment that the emptied bundle is applied."""
    active, suspended = team("team_omega"), team("team_omega", suspended=True)
    for obj in render(active, HERE):
        bulkhead.apply(obj, force=False)
    where = pods(active.namespace)
    wait_for_quota(live, active.namespace, "20")
    assert live.call("admin", "POST", where, pod("before")).status == 201
    for obj in render(suspended, HERE):
        bulkhead.apply(obj, force=True)
    wait_for_quota(live, active.namespace, "0")
    refused = live.call("admin", "POST", where, pod("after"))
    assert refused.status == 403
    assert "exceeded quota: bh-compute" in refused.message
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{active.namespace}/rolebindings"
    for item in live.call("admin", "GET", path).body["items"]:
        assert not item.get("subjects"), item["metadata"]["name"]
    path = f"/apis/networking.k8s.io/v1/namespaces/{active.namespace}/networkpolicies"
    found = live.call("admin", "GET", path).body["items"]
    assert len(found) == 5
    for item in found:
        assert not item["spec"].get("ingress"), item["metadata"]["name"]
        assert not item["spec"].get("egress"), item["metadata"]["name"]


def test_a_namespace_goes_with_all_that_is_in_it(
    live: LiveCluster, bulkhead: OfficialClient
) -> None:
    """Offboarding: deleted with its uid, until nothing answers there any more."""
    gone = team("team_gone")
    for obj in render(gone, HERE):
        bulkhead.apply(obj, force=False)
    found = bulkhead.get("v1", "Namespace", gone.namespace).object
    other = {
        **found,
        "metadata": {**found["metadata"], "uid": "00000000-0000-0000-0000-000000000000"},
    }
    with pytest.raises(ClusterApiError) as refused:
        bulkhead.delete(other)
    assert refused.value.status == 409
    bulkhead.delete(bulkhead.get("v1", "Namespace", gone.namespace).object)
    path = f"/api/v1/namespaces/{gone.namespace}"
    for _ in range(300):
        if live.call("admin", "GET", path).status == 404:
            return
        time.sleep(0.1)
    pytest.fail("the namespace is still there")
