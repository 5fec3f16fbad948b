"""What differs between two objects and who made it so, told from the objects alone."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from tenants.clusters import Installation
from tenants.documents import as_text
from tenants.kubernetes.bundle.objects import Object, Team, render
from tenants.kubernetes.sync import drift
from tenants.kubernetes.sync.client import Cause, ClusterApiError
from tenants.sizes import SIZES
from tests.support.kubernetes_stage import recording

TEAM = Team(
    "acme-vision",
    UUID("7b0c2b1e-55f0-4a3c-9c5e-0f6a1f1d2c3b"),
    "Acme",
    "bh-acme-vision",
    replace(SIZES["medium"], storage=1024),
)
BUNDLE = render(TEAM, Installation())
PREFIX = "bulkhead.dev"
both = pytest.mark.parametrize("version", ["v1.20.2", "v1.36.2"])


def object_of(kind: str, name: str) -> Object:
    """Return a copy of an object of the bundle."""
    [found] = [o for o in BUNDLE if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    separate: Object = json.loads(json.dumps(found))  # some rules are one object, twice
    return separate


def difference(kind: str, name: str, change: Callable[[Object], object]) -> list[str]:
    """Return what differs when a live object of the bundle was changed."""
    live = object_of(kind, name)
    change(live)
    paths = drift.differences(object_of(kind, name), live, PREFIX)
    return [as_text(path) for path in paths]


def quota(version: str) -> Object:
    """Return the ResourceQuota that a real server answered with."""
    live: Object = recording(version, "200-ssa-noop").answer
    return live


# --- what differs ------------------------------------------------------------------------------


@both
def test_what_a_server_answers_to_an_apply_is_what_was_applied(version: str) -> None:
    for name in ("200-ssa-noop", "201-ssa-create-namespace", "201-ssa-create-resourcequota"):
        exchange = recording(version, name)
        assert drift.differences(exchange.body, exchange.answer, PREFIX) == []


def test_each_object_is_as_itself() -> None:
    for obj in BUNDLE:
        assert drift.differences(obj, copy.deepcopy(obj), PREFIX) == []


@pytest.mark.parametrize(
    ("kind", "name", "change", "fields"),
    [
        (
            "ResourceQuota",
            "bh-compute",
            lambda live: live["spec"]["hard"].update({"pods": "51", "count/pods": "1"}),
            ['.spec.hard["count/pods"]', ".spec.hard.pods"],
        ),
        ("ResourceQuota", "bh-compute", lambda live: live["spec"]["hard"].pop("pods"),
         [".spec.hard.pods"]),
        (
            "ResourceQuota",
            "bh-compute",
            lambda live: live["spec"].update(scopes=["BestEffort"]),
            [".spec.scopes"],
        ),
        (
            "NetworkPolicy",
            "bh-default-deny",
            lambda live: live["spec"].update(ingress=[{}]),
            [".spec.ingress"],
        ),
        (
            "NetworkPolicy",
            "bh-allow-same-namespace",
            lambda live: live["spec"]["ingress"][0]["from"][0].update(namespaceSelector={}),
            [".spec.ingress"],
        ),
        (
            "NetworkPolicy",
            "bh-allow-same-namespace",
            lambda live: live["spec"]["ingress"][0].pop("from"),
            [".spec.ingress"],
        ),
        (
            "NetworkPolicy",
            "bh-default-deny",
            lambda live: live["spec"]["podSelector"].update(matchLabels={"a": "b"}),
            [".spec.podSelector.matchLabels"],
        ),
        ("NetworkPolicy", "bh-default-deny", lambda live: live["spec"]["policyTypes"].pop(),
         [".spec.policyTypes"]),
        (
            "RoleBinding",
            "bh-viewer",
            lambda live: live["roleRef"].update(name="cluster-admin"),
            [".roleRef.name"],
        ),
        ("RoleBinding", "bh-viewer", lambda live: live["subjects"].append({}), [".subjects"]),
        ("RoleBinding", "bh-viewer", lambda live: live.pop("subjects"), [".subjects"]),
        ("Role", "bh-registry-sync", lambda live: live["rules"].append({}), [".rules"]),
        (
            "ServiceAccount",
            "default",
            lambda live: live.pop("automountServiceAccountToken"),
            [".automountServiceAccountToken"],
        ),
        (
            "LimitRange",
            "bh-defaults",
            lambda live: live["spec"]["limits"][0]["max"].pop("memory"),
            [".spec.limits"],
        ),
        (
            "Namespace",
            "bh-acme-vision",
            lambda live: live["metadata"]["labels"].pop("pod-security.kubernetes.io/enforce"),
            ['.metadata.labels["pod-security.kubernetes.io/enforce"]'],
        ),
        (
            "ServiceAccount",
            "default",
            lambda live: live["metadata"]["annotations"].update({f"{PREFIX}/more": "x"}),
            [f'.metadata.annotations["{PREFIX}/more"]'],
        ),
    ],
)  # fmt: skip
def test_what_weakens_a_namespace_is_a_difference(
    kind: str, name: str, change: Callable[[Object], object], fields: list[str]
) -> None:
    assert difference(kind, name, change) == fields


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        ("NetworkPolicy", "bh-default-deny", lambda live: live["spec"].pop("ingress")),
        ("ResourceQuota", "bh-objects",
         lambda live: live["spec"]["hard"].update({"requests.storage": "1Ti"})),
        ("LimitRange", "bh-defaults",
         lambda live: live["spec"]["limits"][1]["max"].update(storage="1Ti")),
        ("LimitRange", "bh-defaults",
         lambda live: live["spec"]["limits"][0]["default"].update(cpu="0.5")),
        ("ServiceAccount", "default", lambda live: live.update(secrets=[{"name": "token"}])),
        ("Namespace", "bh-acme-vision",
         lambda live: live.update(spec={"finalizers": ["kubernetes"]}, status={"phase": "Active"})),
        ("Namespace", "bh-acme-vision",
         lambda live: live["metadata"]["labels"].update({"cost-centre": "7"})),
        ("ResourceQuota", "bh-compute", lambda live: live.update(status={"used": {"pods": "1"}})),
    ],
)  # fmt: skip
def test_spelling_differences_of_the_api_server_are_no_drift(
    kind: str, name: str, change: Callable[[Object], object]
) -> None:
    assert difference(kind, name, change) == []


# --- who made it so ----------------------------------------------------------------------------


@both
def test_a_refused_apply_tells_who(version: str) -> None:
    exchange = recording(version, "409-ssa-conflict")
    [cause] = exchange.answer["details"]["causes"]
    error = ClusterApiError(409, causes=(Cause(cause["field"], cause["message"], "kubectl-edit"),))
    live = quota(version)
    live["spec"]["hard"]["pods"] = "500"
    paths = drift.differences(exchange.body, live, PREFIX)
    assert drift.culprits(live, paths, error) == [
        {"field": ".spec.hard.pods", "manager": "kubectl-edit"}
    ]
    assert drift.culprits(live, paths, None) == [{"field": ".spec.hard.pods"}]
    assert drift.culprits(live, [], error) == []


@both
def test_who_manages_a_field_is_read_from_the_object(version: str) -> None:
    live = quota(version)
    assert drift.manager_of(live, ("spec", "hard", "pods")) == ""  # that is Bulkhead
    assert drift.manager_of(live, ("status", "used", "pods")).startswith("kube-controller-manager")
    assert drift.manager_of(live, ("spec", "hard", "no such")) == ""
    fields: Object = {"f:spec": {"f:hard": {"f:count/pods": {}}}}
    for time, manager in (("2026-01-01T00:00:00Z", "first"), ("2026-01-02T00:00:00Z", "second")):
        entry = {"manager": manager, "operation": "Update", "time": time, "fieldsV1": fields}
        live["metadata"]["managedFields"].insert(0, entry)
    assert drift.manager_of(live, ("spec", "hard", "count/pods")) == "second"


def test_a_conflict_names_any_field_by_dots() -> None:
    error = ClusterApiError(409, causes=(Cause(".metadata.labels.a.b/c", "", "kubectl-edit"),))
    assert drift.culprits(quota("v1.20.2"), [("metadata", "labels", "a.b/c")], error) == [
        {"field": '.metadata.labels["a.b/c"]', "manager": "kubectl-edit"}
    ]


def test_bulkheads_own_other_way_of_writing_is_nobodys_fault() -> None:
    error = ClusterApiError(409, causes=(Cause(".spec.hard.pods", "", "bulkhead"),))
    assert drift.culprits(quota("v1.20.2"), [("spec", "hard", "pods")], error) == [
        {"field": ".spec.hard.pods"}
    ]


@both
def test_an_apply_that_changes_nothing_is_recognized(version: str) -> None:
    live, after = quota(version), quota(version)
    after["metadata"] |= {"resourceVersion": "999", "generation": 7}
    after["metadata"]["managedFields"].reverse()
    for entry in after["metadata"]["managedFields"]:
        entry["time"] = "2030-01-01T00:00:00Z"
    after["status"] = {}
    assert drift.is_unchanged(live, after)
    others: tuple[Callable[[Object], object], ...] = (
        lambda obj: obj["spec"]["hard"].update(pods="1"),
        lambda obj: obj["metadata"]["labels"].update(more="1"),
        lambda obj: obj["metadata"]["managedFields"].pop(),
    )
    for change in others:
        changed = quota(version)
        change(changed)
        assert not drift.is_unchanged(live, changed)


# --- whose it is -------------------------------------------------------------------------------


@both
def test_only_what_bulkhead_applied_was_applied(version: str) -> None:
    assert drift.was_applied(quota(version))
    copied = quota(version)
    for entry in copied["metadata"]["managedFields"]:
        entry["operation"] = "Update"
    assert not drift.was_applied(copied)
    del copied["metadata"]["managedFields"]
    assert not drift.was_applied(copied)


@both
def test_a_namespace_is_the_teams_by_its_id_alone(version: str) -> None:
    id_label = f"{PREFIX}/tenant-id"
    live: Object = recording(version, "201-ssa-create-namespace").answer
    ours = copy.deepcopy(live)
    assert drift.belongs_to(live, ours, id_label)
    for label in (id_label, "app.kubernetes.io/managed-by"):
        for value in (None, "another"):
            other = copy.deepcopy(live)
            if value is None:
                del other["metadata"]["labels"][label]
            else:
                other["metadata"]["labels"][label] = value
            assert not drift.belongs_to(other, ours, id_label)
    assert not drift.belongs_to({"metadata": {"name": "bh-globex"}}, ours, id_label)


@both
def test_a_namespace_that_is_being_deleted_is_recognized(version: str) -> None:
    assert drift.is_leaving(recording(version, "200-namespace-delete").answer)
    assert not drift.is_leaving(recording(version, "201-ssa-create-namespace").answer)


# --- what is told of it ------------------------------------------------------------------------


@both
def test_the_quotas_use_is_what_the_cluster_counted(version: str) -> None:
    use = drift.quota_use(
        [quota(version), recording(version, "201-ssa-create-resourcequota").answer]
    )
    assert use["pods"] == {"hard": "50", "used": "0"}
    assert len(use) == 8
    assert drift.quota_use([recording(version, "201-ssa-create-resourcequota").answer]) == {}


def pod(**spec: Any) -> Object:
    """Return a running pod of the team."""
    labels = {f"{PREFIX}/tenant": "acme-vision"}
    return {"kind": "Pod", "metadata": {"name": "p", "labels": labels}, "spec": spec}


def problems(obj: Object) -> list[str]:
    """Return what is wrong with a pod of the team."""
    found = drift.problems_of_pods([obj], f"{PREFIX}/tenant", "acme-vision")
    return [problem["problem"] for problem in found]


def test_each_container_needs_both_limits() -> None:
    limited = {"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}
    assert problems(pod(containers=[limited], initContainers=[limited])) == []
    assert problems(pod(containers=[limited], ephemeralContainers=[{"name": "debug"}])) == []
    half = {"name": "b", "resources": {"limits": {"cpu": "1"}}}
    assert problems(pod(containers=[half], initContainers=[{"name": "c"}])) == [
        "Its container c has no limit of cpu and memory.",
        "Its container b has no limit of memory.",
    ]


def test_a_pods_label_is_judged_but_not_repeated() -> None:
    limited = {"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}
    other = pod(containers=[limited])
    other["metadata"]["labels"] = {f"{PREFIX}/tenant": "globex"}
    [problem] = problems(other)
    assert "names another tenant" in problem
    assert "globex" not in problem
    del other["metadata"]["labels"]
    assert problems(other) == [f"It has no label {PREFIX}/tenant."]
    assert problems({**other, "status": {"phase": "Succeeded"}}) == []
