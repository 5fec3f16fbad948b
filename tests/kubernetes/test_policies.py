"""Our admission policies, decided by the API server's own plugin: it compiles and matches them.

The rows are requests as the API server gets them. What is let through by one clause or one resource
less is what the rows with subresources are there for.
"""

from copy import deepcopy
from typing import Any

import pytest

from tenants.kubernetes.cluster_wide import registry_user, render
from tenants.kubernetes.installation import Installation
from tests.kubernetes.plugin import decide

HERE = Installation()
REGISTRY = registry_user(HERE)
TENANT, TENANT_ID = HERE.label("tenant"), HERE.label("tenant-id")
OBJECTS = render(HERE)
POLICIES = [obj for obj in OBJECTS if obj["kind"] == "ValidatingAdmissionPolicy"]
BINDINGS = [obj for obj in OBJECTS if obj["kind"] == "ValidatingAdmissionPolicyBinding"]

Object = dict[str, Any]


def namespace(name: str, tenant: str | None) -> Object:
    labels = {"kubernetes.io/metadata.name": name}
    if tenant is not None:
        labels |= {TENANT: tenant, TENANT_ID: f"id-of-{tenant}"}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
    }


NAMESPACES = [
    namespace("bh-team-alpha", "team_alpha"),
    namespace("bh-team-gamma", "team_gamma"),
    namespace("elsewhere", None),
]


def metadata(tenant: str | None, name: str = "w", **more: Any) -> Object:
    return {"name": name, "labels": {} if tenant is None else {TENANT: tenant}, **more}


def pod(tenant: str | None, **spec: Any) -> Object:
    container = {"name": "server", "image": "server"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(tenant, namespace="bh-team-alpha"),
        "spec": {"containers": [container], **spec},
    }


def template(tenant: str | None) -> Object:
    return {"metadata": metadata(tenant), "spec": pod(tenant)["spec"]}


def workload(kind: str, tenant: str | None, of_pods: str | None, **spec: Any) -> Object:
    body: Object = {"template": template(of_pods), **spec}
    if kind == "CronJob":
        body = {"schedule": "@daily", "jobTemplate": {"spec": {"template": template(of_pods)}}}
    return {"kind": kind, "metadata": metadata(tenant, namespace="bh-team-alpha"), "spec": body}


def binding(*subjects: Object) -> Object:
    return {
        "kind": "RoleBinding",
        "metadata": {"name": "b", "namespace": "bh-team-alpha"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": list(subjects),
    }


def account(name: str, where: str | None) -> Object:
    return {"kind": "ServiceAccount", "name": name} | ({"namespace": where} if where else {})


def named(kind: str, name: str) -> Object:
    return {"kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io"}


GROUPS = {
    "Pod": ("", "pods"),
    "Namespace": ("", "namespaces"),
    "Service": ("", "services"),
    "ReplicationController": ("", "replicationcontrollers"),
    "Deployment": ("apps", "deployments"),
    "ReplicaSet": ("apps", "replicasets"),
    "StatefulSet": ("apps", "statefulsets"),
    "DaemonSet": ("apps", "daemonsets"),
    "Job": ("batch", "jobs"),
    "CronJob": ("batch", "cronjobs"),
    "RoleBinding": ("rbac.authorization.k8s.io", "rolebindings"),
}


def request(
    obj: Object,
    *,
    old: Object | None = None,
    part: str = "",
    where: str = "bh-team-alpha",
    user: str = "carol",
) -> Object:
    """Return a request that creates ``obj``, or that replaces ``old`` by it, through ``part``."""
    group, resource = GROUPS[obj["kind"]]
    return {
        "operation": "CREATE" if old is None else "UPDATE",
        "user": user,
        "groups": ["system:authenticated"],
        "group": group,
        "version": "v1",
        "kind": obj["kind"],
        "resource": resource,
        "subresource": part,
        "namespace": "" if obj["kind"] == "Namespace" else where,
        "name": obj["metadata"]["name"],
        "object": obj,
        "oldObject": old,
    }


ALPHA, GAMMA = "team_alpha", "team_gamma"
MINE, THEIRS = "bh-team-alpha", "bh-team-gamma"
RELABELLED = namespace(MINE, GAMMA)
UNLABELLED = namespace(MINE, None)
KINDS = [kind for kind in GROUPS if kind not in {"Pod", "Namespace", "Service", "RoleBinding"}]

ALLOWED: dict[str, Object] = {
    "a pod of the tenant": request(pod(ALPHA)),
    "any pod where no tenant is": request(pod(None), where="elsewhere"),
    "the registry makes a tenant's namespace": request(namespace("bh-new", "new"), user=REGISTRY),
    "anybody makes a namespace of no tenant": request(namespace("new", None)),
    "a namespace's status as it was": request(
        namespace(MINE, ALPHA), old=namespace(MINE, ALPHA), part="status"
    ),
    "an account of the namespace": request(binding(account("model-server", MINE))),
    "a person": request(binding(named("User", "carol"))),
    "the tenant's own group": request(binding(named("Group", "bh:team_alpha:viewer"))),
    "a pod's status as it was": request(pod(ALPHA), old=pod(ALPHA), part="status"),
    **{f"a {kind} of the tenant": request(workload(kind, ALPHA, ALPHA)) for kind in KINDS},
}

REFUSED: dict[str, Object] = {
    "a pod of another tenant": request(pod(GAMMA)),
    "a pod of nobody": request(pod(None)),
    "a pod that turns another tenant's": request(pod(GAMMA), old=pod(ALPHA)),
    "a pod that loses its label": request(pod(None), old=pod(ALPHA)),
    "by a pod's status": request(pod(GAMMA), old=pod(ALPHA), part="status"),
    "by a debug container": request(pod(GAMMA), old=pod(ALPHA), part="ephemeralcontainers"),
    "by resizing": request(pod(GAMMA), old=pod(ALPHA), part="resize"),
    "a pod that goes before the cluster's own": request(
        pod(ALPHA, priorityClassName="system-node-critical")
    ),
    **{f"a {kind} of another's pods": request(workload(kind, ALPHA, GAMMA)) for kind in KINDS},
    **{f"a {kind} of nobody's pods": request(workload(kind, ALPHA, None)) for kind in KINDS},
    **{f"another tenant's {kind}": request(workload(kind, GAMMA, ALPHA)) for kind in KINDS},
    "a claim with another tenant's label": request(
        workload("StatefulSet", ALPHA, ALPHA, volumeClaimTemplates=[{"metadata": metadata(GAMMA)}])
    ),
    "a service that has another's address": request(
        {
            "kind": "Service",
            "metadata": metadata(ALPHA, namespace=MINE),
            "spec": {"externalIPs": ["10.0.0.1"]},
        }
    ),
    "a person makes a tenant's namespace": request(namespace("bh-new", "new")),
    "an admin makes a tenant's namespace": request(namespace("bh-new", "new"), user="admin"),
    **{
        f"a namespace {what} by {part or 'itself'}": request(
            changed, old=namespace(MINE, ALPHA), part=part, user=user
        )
        for part in ("", "status", "finalize")
        for user in ("carol", REGISTRY)
        for what, changed in ((f"relabelled ({user})", RELABELLED), (f"freed ({user})", UNLABELLED))
    },
    **{
        f"a namespace taken over by {part or 'itself'} ({user})": request(
            namespace("elsewhere", ALPHA), old=namespace("elsewhere", None), part=part, user=user
        )
        for part in ("", "status", "finalize")
        for user in ("carol", REGISTRY)
    },
    "an account of another tenant": request(binding(account("model-server", THEIRS))),
    "an account of no namespace": request(binding(account("model-server", None))),
    "all accounts": request(binding(named("Group", "system:serviceaccounts"))),
    "all accounts of another": request(binding(named("Group", f"system:serviceaccounts:{THEIRS}"))),
    "everybody": request(binding(named("Group", "system:authenticated"))),
    "an account as a person": request(
        binding(named("User", f"system:serviceaccount:{THEIRS}:model-server"))
    ),
    "another tenant's group": request(binding(named("Group", "bh:team_gamma:editor"))),
    "one good and one bad": request(
        binding(account("model-server", MINE), account("model-server", THEIRS))
    ),
}


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    """What the plugin says of every row, by the row's name."""
    rows = {**ALLOWED, **REFUSED}
    assert len(rows) == len(ALLOWED) + len(REFUSED)
    found = decide(POLICIES, BINDINGS, NAMESPACES, list(rows.values()), request(pod(GAMMA)))
    return dict(zip(rows, found, strict=True))


@pytest.mark.parametrize("row", ALLOWED)
def test_what_stays_inside_its_tenant_is_let_in(row: str, answers: dict[str, str]) -> None:
    assert answers[row] == ""


@pytest.mark.parametrize("row", REFUSED)
def test_what_leaves_its_tenant_is_refused(row: str, answers: dict[str, str]) -> None:
    """L32; the refusal is a rule's, and not that the rule could not be evaluated."""
    assert "denied request" in answers[row]
    assert "expression" not in answers[row]
    assert "failed" not in answers[row]
    assert GAMMA not in answers[row].replace(f'namespaces "{THEIRS}"', "")


@pytest.mark.parametrize(
    "dropped",
    [
        *("pods", "pods/status", "pods/ephemeralcontainers", "pods/resize", "cronjobs"),
        *("deployments", "jobs", "namespaces", "namespaces/status", "namespaces/finalize"),
        *("replicationcontrollers", "rolebindings"),
    ],
)
def test_each_resource_is_needed(dropped: str) -> None:
    """Without it, something is let in that must not be."""
    changed = deepcopy(POLICIES)
    for policy in changed:
        for rule in policy["spec"]["matchConstraints"]["resourceRules"]:
            rule["resources"] = [name for name in rule["resources"] if name != dropped] or ["none"]
    canary = request(pod(GAMMA)) if dropped != "pods" else REFUSED["everybody"]
    found = decide(changed, BINDINGS, NAMESPACES, list(REFUSED.values()), canary)
    assert "" in found


@pytest.mark.parametrize(
    ("policy", "place"),
    [
        (place, number)
        for place, policy in enumerate(POLICIES)
        for number in range(len(policy["spec"]["validations"]))
    ],
)
def test_each_rule_is_needed(policy: int, place: int) -> None:
    """Without it, something is let in that must not be."""
    changed = deepcopy(POLICIES)
    changed[policy]["spec"]["validations"][place]["expression"] = "true"
    canary = request(pod(GAMMA)) if policy else REFUSED["everybody"]
    found = decide(changed, BINDINGS, NAMESPACES, list(REFUSED.values()), canary)
    assert "" in found
