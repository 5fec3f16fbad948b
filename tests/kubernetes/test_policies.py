"""What the admission policies let in and refuse: each hole that a policy like them had, as a row.

The last level of tests asks Kubernetes' own plugin; this one needs no cluster.
"""

import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from tenants.clusters import Installation
from tenants.kubernetes.bundle.cluster_wide import registry_user, render
from tenants.kubernetes.bundle.policies import LABEL_GUARD, NAMESPACE, SUBJECTS
from tests.support.policy_evaluator import Object, refusals

HERE = Installation()
REGISTRY = registry_user(HERE)
TENANT, TENANT_ID = HERE.label("tenant"), HERE.label("tenant-id")
ALPHA, GAMMA = "team_alpha", "team_gamma"
MINE, THEIRS = "bh-team-alpha", "bh-team-gamma"
RBAC = "rbac.authorization.k8s.io"
#: How labels are left out, which is more than not having ours.
NO_LABELS: Any = object()


def of_kind(kind: str, installation: Installation = HERE) -> list[Object]:
    return [obj for obj in render(installation) if obj["kind"] == kind]


POLICIES = of_kind("ValidatingAdmissionPolicy")
BINDINGS = of_kind("ValidatingAdmissionPolicyBinding")


# --- Requests, as an API server gives them to a policy ---


def namespace(name: str, tenant: str | None, tenant_id: str | None = None) -> Object:
    labels = {"kubernetes.io/metadata.name": name}
    if tenant is not None:
        labels |= {TENANT: tenant, TENANT_ID: tenant_id or f"id-of-{tenant}"}
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata, "spec": {}}


def unlabelled(name: str) -> Object:
    return namespace(name, None) | {"metadata": {"name": name}}


NAMESPACES = {
    obj["metadata"]["name"]: obj
    for obj in (namespace(MINE, ALPHA), namespace(THEIRS, GAMMA), namespace("elsewhere", None))
}

RESOURCES = {
    "Pod": ("", "pods"),
    "Binding": ("", "pods"),
    "Namespace": ("", "namespaces"),
    "Service": ("", "services"),
    "ConfigMap": ("", "configmaps"),
    "PersistentVolumeClaim": ("", "persistentvolumeclaims"),
    "PodTemplate": ("", "podtemplates"),
    "ReplicationController": ("", "replicationcontrollers"),
    "Deployment": ("apps", "deployments"),
    "ReplicaSet": ("apps", "replicasets"),
    "StatefulSet": ("apps", "statefulsets"),
    "DaemonSet": ("apps", "daemonsets"),
    "Job": ("batch", "jobs"),
    "CronJob": ("batch", "cronjobs"),
    "RoleBinding": (RBAC, "rolebindings"),
}
#: What makes pods by a template.
MAKERS = (
    *("PodTemplate", "ReplicationController", "Deployment", "ReplicaSet", "StatefulSet"),
    *("DaemonSet", "Job", "CronJob"),
)


def metadata(label: Any, **more: Any) -> Object:
    made: Object = {"name": "some", "creationTimestamp": None, **more}
    if label is not NO_LABELS:
        made["labels"] = {"app": "some"} | ({} if label is None else {TENANT: label})
    return made


def some(kind: str, label: Any = ALPHA, **fields: Any) -> Object:
    group, _ = RESOURCES[kind]
    version = f"{group}/v1" if group else "v1"
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": metadata(label, namespace=MINE),
        **fields,
    }


def pod(label: Any = ALPHA, **spec: Any) -> Object:
    return some("Pod", label, spec={"containers": [{"name": "a", "image": "a"}], **spec})


def template(label: Any = ALPHA) -> Object:
    made = pod(label)
    return {"metadata": metadata(label), "spec": made["spec"]}


def maker(kind: str, label: Any = ALPHA, of_pods: Any = ALPHA, **spec: Any) -> Object:
    """Return something that makes pods; it has one label and its pods another."""
    if kind == "PodTemplate":
        return some(kind, label, template=template(of_pods))
    body = {"template": template(of_pods), **spec}
    if kind == "CronJob":
        body = {"schedule": "@daily", "jobTemplate": {"metadata": {}, "spec": body}}
    return some(kind, label, spec=body)


def binding(*subjects: Object) -> Object:
    role = {"apiGroup": RBAC, "kind": "Role", "name": "some"}
    made = some("RoleBinding", roleRef=role)
    return made | ({"subjects": list(subjects)} if subjects else {})


def account(where: str | None, name: str = "model-server") -> Object:
    return {"kind": "ServiceAccount", "name": name} | ({"namespace": where} if where else {})


def user(name: str) -> Object:
    return {"kind": "User", "name": name, "apiGroup": RBAC}


def group(name: str) -> Object:
    return {"kind": "Group", "name": name, "apiGroup": RBAC}


def asks(
    obj: Object,
    old: Object | None = None,
    part: str = "",
    *,
    by: str = "carol",
    where: str = MINE,
    resource: str = "",
) -> Object:
    """Return a request that creates ``obj``, or replaces ``old`` by it, through a subresource."""
    of_group, usual = RESOURCES[obj["kind"]]
    return {
        "operation": "CREATE" if old is None else "UPDATE",
        "user": by,
        "groups": ["system:authenticated"],
        "group": of_group,
        "version": "v1",
        "kind": obj["kind"],
        "resource": resource or usual,
        "subresource": part,
        "namespace": "" if obj["kind"] == "Namespace" else where,
        "name": obj["metadata"].get("name", ""),
        "object": obj,
        "oldObject": old,
    }


def but(obj: Object, **fields: Any) -> Object:
    """Return the object with other metadata."""
    return obj | {"metadata": obj["metadata"] | fields}


def unnamed(obj: Object) -> Object:
    """Return the object as one whose name the API server is still to make."""
    rest = {key: value for key, value in obj["metadata"].items() if key != "name"}
    return obj | {"metadata": rest | {"generateName": "some-"}}


# --- The truth table ---

PARTS_OF_PODS = ("", "status", "ephemeralcontainers", "resize")
PARTS_OF_NAMESPACES = ("", "status", "finalize")
WITH_STATUS = (*(kind for kind in MAKERS if kind != "PodTemplate"), "PersistentVolumeClaim")
ADDRESS = {"externalIPs": ["192.0.2.1"]}
NAME = {"type": "ExternalName", "externalName": "server.bh-team-gamma.svc"}
GOING = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
DEBUG = {"ephemeralContainers": [{"name": "b", "image": "b"}]}

ALLOWED: dict[str, Object] = {
    "a pod of the tenant": asks(pod()),
    "a pod whose name is still to be made": asks(unnamed(pod())),
    "any pod where no tenant is": asks(pod(None), where="elsewhere"),
    "a pod with a tenant's label where no tenant is": asks(pod(GAMMA), where="elsewhere"),
    "a pod of its own where another tenant is": asks(pod(GAMMA), where=THEIRS),
    "a pod with a priority of ours": asks(pod(priorityClassName="bh-serving")),
    "a pod of before that gets its label": asks(pod(), pod(None)),
    **{
        f"a pod of before the policies, by {part or 'itself'}": asks(was, was, part)
        for part in PARTS_OF_PODS
        for was in (pod(None), pod(NO_LABELS), pod(GAMMA))
    },
    **{f"a pod as it was, by {part}": asks(pod(), pod(), part) for part in PARTS_OF_PODS},
    "a debug container": asks(pod(**DEBUG), pod(), "ephemeralcontainers"),
    "a pod before the cluster's own, which runs already": asks(
        pod(priorityClassName="system-node-critical"),
        pod(priorityClassName="system-node-critical"),
        "status",
    ),
    "a pod is put on a node": asks(some("Binding", NO_LABELS), part="binding"),
    "a pod is put on a node in the old way": asks(some("Binding", NO_LABELS), resource="bindings"),
    **{f"a {kind}": asks(maker(kind)) for kind in MAKERS},
    **{f"a {kind} without a label of its own": asks(maker(kind, None)) for kind in MAKERS},
    **{f"a {kind} without any": asks(maker(kind, NO_LABELS)) for kind in MAKERS},
    **{
        f"a {kind} of before the policies goes": asks(
            but(maker(kind, None, NO_LABELS), **GOING), maker(kind, None, NO_LABELS)
        )
        for kind in MAKERS
    },
    "a controller without a template": asks(some("ReplicationController", spec={})),
    "a claim": asks(some("PersistentVolumeClaim", spec={})),
    "a claim without labels": asks(some("PersistentVolumeClaim", NO_LABELS, spec={})),
    "claims by a template": asks(
        maker("StatefulSet", volumeClaimTemplates=[{"metadata": metadata(ALPHA)}, {}])
    ),
    "a service": asks(some("Service", spec={"ports": []})),
    "a service with no address": asks(some("Service", spec={"externalIPs": []})),
    "a service of before with its address": asks(
        some("Service", spec=ADDRESS), some("Service", spec=ADDRESS)
    ),
    "a service of before with its name": asks(
        some("Service", spec=NAME), some("Service", spec=NAME)
    ),
    "a service that loses its name": asks(
        some("Service", spec={"type": "ClusterIP"}), some("Service", spec=NAME)
    ),
    "a service without anything": asks(some("Service")),
    "a service that loses its address": asks(
        some("Service", spec={}), some("Service", spec=ADDRESS)
    ),
    "what runs nothing": asks(some("ConfigMap", None)),
    "the registry makes a tenant's namespace": asks(namespace("bh-new", "new"), by=REGISTRY),
    "anybody makes a namespace of no tenant": asks(namespace("new", None)),
    "a namespace without labels": asks(unlabelled("new")),
    "a namespace without labels as it was": asks(unlabelled("new"), unlabelled("new")),
    **{
        f"a {what} namespace as it was, by {part or 'itself'}": asks(was, was, part)
        for part in PARTS_OF_NAMESPACES
        for what, was in (("tenant's", namespace(MINE, ALPHA)), ("free", namespace("new", None)))
    },
    "a tenant's namespace gets another label": asks(
        but(namespace(MINE, ALPHA), labels=NAMESPACES[MINE]["metadata"]["labels"] | {"a": "b"}),
        namespace(MINE, ALPHA),
    ),
    "an account of the namespace": asks(binding(account(MINE))),
    "nobody": asks(binding()),
    "nobody, in a list": asks(binding() | {"subjects": []}),
    "a person": asks(binding(user("carol"))),
    "a person by OpenID Connect": asks(binding(user("https://id.example.com#carol"))),
    "the tenant's own group": asks(binding(group("bh:team_alpha:viewer"))),
    "a group of the company": asks(binding(group("data-science"))),
    "an account as a person": asks(binding(user(f"system:serviceaccount:{MINE}:model-server"))),
    "all accounts of the namespace": asks(binding(group(f"system:serviceaccounts:{MINE}"))),
    "another's account where no tenant is": asks(binding(account(THEIRS)), where="elsewhere"),
}

#: What is refused, and by which policy.
REFUSED: dict[str, tuple[str, Object]] = {
    # A pod that claims another tenant's, or none.
    "a pod of another tenant": (NAMESPACE, asks(pod(GAMMA))),
    "a pod of another tenant without a name": (NAMESPACE, asks(unnamed(pod(GAMMA)))),
    "a pod of nobody": (NAMESPACE, asks(pod(None))),
    "a pod without labels": (NAMESPACE, asks(pod(NO_LABELS))),
    "a pod with an empty label": (NAMESPACE, asks(pod(""))),
    "a pod with the label in capitals": (NAMESPACE, asks(pod("Team_Alpha"))),
    "a pod of the tenant where another is": (NAMESPACE, asks(pod(), where=THEIRS)),
    "a pod of the registry's": (NAMESPACE, asks(pod(GAMMA), by=REGISTRY)),
    "a pod of a controller's": (
        NAMESPACE,
        asks(pod(None), by="system:serviceaccount:kube-system:replicaset-controller"),
    ),
    "a pod of an admin's": (NAMESPACE, asks(pod(None), by="kubernetes-admin")),
    **{
        f"a pod {what} by {part or 'itself'}": (NAMESPACE, asks(now, was, part))
        for part in PARTS_OF_PODS
        for what, now, was in (
            ("relabelled", pod(GAMMA), pod()),
            ("freed", pod(None), pod()),
            ("stripped of all labels", pod(NO_LABELS), pod()),
            ("of nobody given to another tenant", pod(GAMMA), pod(None)),
            ("relabelled while it goes", but(pod(GAMMA), **GOING), but(pod(), **GOING)),
        )
    },
    "a pod relabelled by being put on a node": (
        NAMESPACE,
        asks(some("Binding", GAMMA), part="binding"),
    ),
    "a pod relabelled in the old way": (
        NAMESPACE,
        asks(some("Binding", GAMMA), resource="bindings"),
    ),
    "a pod that drives others from their nodes": (
        NAMESPACE,
        asks(pod(priorityClassName="system-cluster-critical")),
    ),
    # What makes pods.
    **{
        f"a {kind} of another's pods": (NAMESPACE, asks(maker(kind, of_pods=GAMMA)))
        for kind in MAKERS
    },
    **{
        f"a {kind} of nobody's pods": (NAMESPACE, asks(maker(kind, of_pods=None)))
        for kind in MAKERS
    },
    **{
        f"a {kind} of pods without labels": (NAMESPACE, asks(maker(kind, of_pods=NO_LABELS)))
        for kind in MAKERS
    },
    **{f"another's {kind}": (NAMESPACE, asks(maker(kind, GAMMA))) for kind in MAKERS},
    **{
        f"a {kind} whose pods become another's": (
            NAMESPACE,
            asks(maker(kind, of_pods=GAMMA), maker(kind)),
        )
        for kind in MAKERS
    },
    **{
        f"a {kind} of before whose pods become another's": (
            NAMESPACE,
            asks(maker(kind, of_pods=GAMMA), maker(kind, of_pods=None)),
        )
        for kind in MAKERS
    },
    **{
        f"a {kind} that becomes another's by its status": (
            NAMESPACE,
            asks(
                maker(kind, GAMMA) if kind in MAKERS else some(kind, GAMMA),
                maker(kind) if kind in MAKERS else some(kind),
                "status",
            ),
        )
        for kind in WITH_STATUS
    },
    "jobs of another tenant": (
        NAMESPACE,
        asks(
            some(
                "CronJob",
                spec={
                    "jobTemplate": {
                        "metadata": metadata(GAMMA),
                        "spec": {"template": template()},
                    }
                },
            )
        ),
    ),
    "another's claims by a template": (
        NAMESPACE,
        asks(
            maker(
                "StatefulSet",
                volumeClaimTemplates=[{"metadata": metadata(ALPHA)}, {"metadata": metadata(GAMMA)}],
            )
        ),
    ),
    "another's claim": (NAMESPACE, asks(some("PersistentVolumeClaim", GAMMA, spec={}))),
    "another's service": (NAMESPACE, asks(some("Service", GAMMA, spec={}))),
    "a service with an address of others": (NAMESPACE, asks(some("Service", spec=ADDRESS))),
    "a service that gets an address of others": (
        NAMESPACE,
        asks(some("Service", spec=ADDRESS), some("Service", spec={"externalIPs": ["192.0.2.9"]})),
    ),
    "a service that stands for another's": (NAMESPACE, asks(some("Service", spec=NAME))),
    "a service that turns into another's": (
        NAMESPACE,
        asks(some("Service", spec=NAME), some("Service", spec={"type": "ClusterIP"})),
    ),
    "a service that stands for one more": (
        NAMESPACE,
        asks(
            some("Service", spec=NAME | {"externalName": "x.example"}), some("Service", spec=NAME)
        ),
    ),
    # Whose a namespace is.
    **{
        f"a tenant's namespace made by {by}": (LABEL_GUARD, asks(namespace("bh-new", "new"), by=by))
        for by in (
            *("carol", "kubernetes-admin", "system:serviceaccount:elsewhere:bulkhead", "bulkhead"),
            *(f"{REGISTRY}-2", "system:serviceaccount:bulkhead:default"),
        )
    },
    **{
        f"a namespace made by a person with {label} alone": (
            LABEL_GUARD,
            asks(but(namespace("bh-new", None), labels={label: "new"})),
        )
        for label in (TENANT, TENANT_ID)
    },
    "a tenant's namespace whose name is still to be made": (
        LABEL_GUARD,
        asks(unnamed(namespace("x", ALPHA))),
    ),
    **{
        f"a namespace {what} by {part or 'itself'} of {by}": (
            LABEL_GUARD,
            asks(now, was, part, by=by),
        )
        for part in PARTS_OF_NAMESPACES
        for by in ("carol", REGISTRY)
        for what, now, was in (
            ("given to another", namespace(MINE, GAMMA), namespace(MINE, ALPHA)),
            ("given another id", namespace(MINE, ALPHA, "other"), namespace(MINE, ALPHA)),
            ("freed", namespace(MINE, None), namespace(MINE, ALPHA)),
            ("stripped of all labels", unlabelled(MINE), namespace(MINE, ALPHA)),
            ("taken over", namespace("elsewhere", ALPHA), namespace("elsewhere", None)),
        )
    },
    # Who has a role.
    "an account of another tenant": (SUBJECTS, asks(binding(account(THEIRS)))),
    "an account of no tenant": (SUBJECTS, asks(binding(account("default")))),
    "an account of a namespace that begins so": (SUBJECTS, asks(binding(account(f"{MINE}-2")))),
    "an account of no namespace": (SUBJECTS, asks(binding(account(None)))),
    "an account of an empty namespace": (
        SUBJECTS,
        asks(binding(account(None) | {"namespace": ""})),
    ),
    "an account of another by the registry": (
        SUBJECTS,
        asks(binding(account(THEIRS)), by=REGISTRY),
    ),
    "one good and one bad": (SUBJECTS, asks(binding(account(MINE), account(THEIRS)))),
    "another's account added": (
        SUBJECTS,
        asks(binding(account(MINE), account(THEIRS)), binding(account(MINE))),
    ),
    "another's account added while the binding goes": (
        SUBJECTS,
        asks(but(binding(account(THEIRS)), **GOING), but(binding(account(MINE)), **GOING)),
    ),
    "another's account as a person": (
        SUBJECTS,
        asks(binding(user(f"system:serviceaccount:{THEIRS}:model-server"))),
    ),
    "an account as a person where the namespace begins so": (
        SUBJECTS,
        asks(binding(user(f"system:serviceaccount:{MINE}-2:model-server"))),
    ),
    "whoever does not say who it is": (SUBJECTS, asks(binding(user("system:anonymous")))),
    "everybody": (SUBJECTS, asks(binding(group("system:authenticated")))),
    "anybody at all": (SUBJECTS, asks(binding(group("system:unauthenticated")))),
    "the cluster's masters": (SUBJECTS, asks(binding(group("system:masters")))),
    "all accounts of all namespaces": (SUBJECTS, asks(binding(group("system:serviceaccounts")))),
    "all accounts of another": (
        SUBJECTS,
        asks(binding(group(f"system:serviceaccounts:{THEIRS}"))),
    ),
    "all accounts where the namespace begins so": (
        SUBJECTS,
        asks(binding(group(f"system:serviceaccounts:{MINE}-2"))),
    ),
    "another tenant's group": (SUBJECTS, asks(binding(group("bh:team_gamma:editor")))),
    "the group of a tenant whose name begins so": (
        SUBJECTS,
        asks(binding(group("bh:team_alpha2:editor"))),
    ),
    "a group of ours of no tenant": (SUBJECTS, asks(binding(group("bh:team_alpha")))),
    "what is neither": (SUBJECTS, asks(binding({"kind": "Node", "name": "a", "apiGroup": RBAC}))),
}


def answer(request: Object, policies: list[Object] = POLICIES) -> list[str]:
    return refusals(policies, BINDINGS, NAMESPACES, request)


@pytest.mark.parametrize("row", ALLOWED)
def test_what_stays_inside_its_tenant_is_let_in(row: str) -> None:
    assert answer(ALLOWED[row]) == []


@pytest.mark.parametrize("row", REFUSED)
def test_what_leaves_its_tenant_is_refused_by_a_rule(row: str) -> None:
    """L32. An expression that fails would refuse as well, but for the wrong reason."""
    policy, request = REFUSED[row]
    said = answer(request)
    assert {text.partition(": ")[0] for text in said} == {policy}
    assert not any("error" in text for text in said)


def test_a_refusal_names_no_tenant_but_the_namespaces_own() -> None:
    """Who is refused may know which label is needed here, and never which others there are."""
    for row, (_, request) in REFUSED.items():
        if request["namespace"] == MINE:
            assert GAMMA not in " ".join(answer(request)), row
    assert f"{TENANT} of its tenant: {ALPHA}" in " ".join(answer(asks(pod(GAMMA))))


# --- Each part is needed ---


def without(resource: str) -> list[Object]:
    changed = deepcopy(POLICIES)
    for policy in changed:
        for rule in policy["spec"]["matchConstraints"]["resourceRules"]:
            rule["resources"] = [name for name in rule["resources"] if name != resource]
    return changed


ALL_RESOURCES = sorted(
    {
        name
        for policy in POLICIES
        for rule in policy["spec"]["matchConstraints"]["resourceRules"]
        for name in rule["resources"]
    }
)


@pytest.mark.parametrize("resource", ALL_RESOURCES)
def test_each_resource_is_needed(resource: str) -> None:
    changed = without(resource)
    let_in = [
        row
        for row, (_, request) in REFUSED.items()
        if resource == "/".join(filter(None, (request["resource"], request["subresource"])))
        and answer(request, changed) == []
    ]
    assert let_in


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
@pytest.mark.parametrize("policy", range(len(POLICIES)))
def test_each_operation_is_needed(policy: int, operation: str) -> None:
    changed = deepcopy(POLICIES)
    for rule in changed[policy]["spec"]["matchConstraints"]["resourceRules"]:
        rule["operations"].remove(operation)
    name = POLICIES[policy]["metadata"]["name"]
    of_policy = [request for by, request in REFUSED.values() if by == name]
    assert any(answer(request, changed) == [] for request in of_policy)


def test_only_the_guard_of_labels_looks_at_all_namespaces() -> None:
    selectors = {
        policy["metadata"]["name"]: policy["spec"]["matchConstraints"].get("namespaceSelector")
        for policy in POLICIES
    }
    exists = {"matchExpressions": [{"key": TENANT, "operator": "Exists"}]}
    assert selectors == {NAMESPACE: exists, LABEL_GUARD: None, SUBJECTS: exists}


@pytest.mark.parametrize(
    ("policy", "rule"),
    [
        (policy["metadata"]["name"], place)
        for policy in POLICIES
        for place, _ in enumerate(policy["spec"]["validations"])
    ],
)
def test_each_rule_is_needed(policy: str, rule: int) -> None:
    changed = deepcopy([made for made in POLICIES if made["metadata"]["name"] == policy])
    changed[0]["spec"]["validations"][rule]["expression"] = "true"
    assert differs(changed, policy)


def test_what_cannot_be_evaluated_is_refused_and_so_is_every_refusal_kept() -> None:
    for policy in POLICIES:
        assert policy["spec"]["failurePolicy"] == "Fail"
        assert all(rule["reason"] == "Forbidden" for rule in policy["spec"]["validations"])
    assert {obj["spec"]["policyName"] for obj in BINDINGS} == {NAMESPACE, LABEL_GUARD, SUBJECTS}
    for obj in BINDINGS:
        assert obj["spec"] == {
            "policyName": obj["metadata"]["name"],
            "validationActions": ["Deny", "Audit"],
        }


#: Pieces of expressions, and what each would be if it were forgotten.
FORGOTTEN = (
    (NAMESPACE, "variables.needed == variables.neededBefore ||", ""),
    (NAMESPACE, "variables.claimed == variables.claimedBefore ||", ""),
    (NAMESPACE, "held == [] ||", ""),
    (NAMESPACE, "held == [] || held == [variables.tenant]", "held == []"),
    (NAMESPACE, "variables.addresses == variables.addressesBefore ||", ""),
    (NAMESPACE, "|| variables.addresses == []", ""),
    (NAMESPACE, "has(variables.it.spec.externalIPs) ?", "false ?"),
    (NAMESPACE, "has(variables.it.spec.externalName) ?", "false ?"),
    (NAMESPACE, "request.operation != 'CREATE' ||", ""),
    (NAMESPACE, "request.operation != 'CREATE' || request.kind.kind != 'Pod' ||", ""),
    (NAMESPACE, "!(has(variables.it.spec) && has(variables.it.spec.priorityClassName)) ||", ""),
    (NAMESPACE, "request.kind.kind == 'Pod' ?", "false ?"),
    (NAMESPACE, "has(variables.it.spec.template) ?", "false ?"),
    (NAMESPACE, "has(variables.it.spec.jobTemplate.spec.template) ?", "false ?"),
    (NAMESPACE, "has(variables.it.spec.jobTemplate) ?", "false ?"),
    (NAMESPACE, "has(variables.it.spec.volumeClaimTemplates) ?", "false ?"),
    (NAMESPACE, "has(variables.it.template) ?", "false ?"),
    (NAMESPACE, "has(part.metadata) &&", "true &&"),
    (NAMESPACE, "has(part.metadata.labels) &&", "true &&"),
    (NAMESPACE, f"'{TENANT}' in part.metadata.labels", "true"),
    (NAMESPACE, "has(variables.it.spec) &&", "true &&"),
    (NAMESPACE, "has(variables.was.spec) &&", "true &&"),
    (LABEL_GUARD, "request.operation != 'UPDATE' || variables.held", "variables.held"),
    (LABEL_GUARD, "request.operation != 'CREATE' || variables.held", "variables.held"),
    (LABEL_GUARD, "variables.held == [[], []] ||", ""),
    (LABEL_GUARD, "has(object.metadata.labels) &&", "true &&"),
    (LABEL_GUARD, "has(oldObject.metadata.labels) &&", "true &&"),
    (LABEL_GUARD, f"'{TENANT}' in object.metadata.labels", "false"),
    (LABEL_GUARD, f"'{TENANT_ID}' in object.metadata.labels", "false"),
    (SUBJECTS, "has(variables.it.subjects) ?", "true ?"),
    (SUBJECTS, "subject.kind in ['ServiceAccount', 'User', 'Group'] &&", ""),
    (SUBJECTS, "has(subject.namespace) &&", ""),
    (SUBJECTS, "subject.namespace == variables.namespace", "true"),
    (SUBJECTS, "||\n  subject.name.startsWith(variables.account)", ""),
    (SUBJECTS, "|| subject.name == variables.accounts", ""),
    (SUBJECTS, "+ variables.namespace + ':'", "+ variables.namespace"),
    (SUBJECTS, "+ variables.tenant + ':'", "+ variables.tenant"),
    (SUBJECTS, "||\n  subject.name.startsWith(variables.group)", ""),
)


def differs(changed: list[Object], name: str) -> bool:
    """Tell whether a row's answer is another than the table's, or an error."""
    refused = (request for by, request in REFUSED.values() if by == name)
    return any(
        not (said := answer(request, changed)) or any("error" in text for text in said)
        for request in refused
    ) or any(answer(request, changed) for request in ALLOWED.values())


@pytest.mark.parametrize(("name", "piece", "instead"), FORGOTTEN)
def test_each_piece_of_an_expression_is_needed(name: str, piece: str, instead: str) -> None:
    """Without it, a row is let in that must not be, or the reverse, or it cannot be evaluated."""
    changed = deepcopy([policy for policy in POLICIES if policy["metadata"]["name"] == name])
    [policy] = changed
    found = 0
    for part in (*policy["spec"]["variables"], *policy["spec"]["validations"]):
        found += part["expression"].count(piece)
        part["expression"] = part["expression"].replace(piece, instead)
    assert found
    assert differs(changed, name) or any(map(unasked, expressions(changed)))


# --- Expressions ---


def expressions(policies: list[Object] = POLICIES) -> Iterator[str]:
    for policy in policies:
        for part in (*policy["spec"]["variables"], *policy["spec"]["validations"]):
            yield part["expression"]
            yield from filter(None, [part.get("messageExpression")])


def unasked(expression: str) -> list[str]:
    """Return the fields that are asked for although what holds them was not asked for before.

    In Kubernetes that is an error where it is missing; cel-python says that they are not there.
    """
    asked: set[str] = set()
    early = []
    for path in re.findall(r"has\(([\w.]+)\)", expression):
        holder = path.rpartition(".")[0]
        if holder not in asked and not re.fullmatch(r"(variables\.)?\w+", holder):
            early.append(path)
        asked.add(path)
    return early


def test_each_field_is_asked_for_from_the_outside_in() -> None:
    assert not any(map(unasked, expressions()))
    assert unasked("has(object.spec) && has(object.spec.a.b)") == ["object.spec.a.b"]
    assert unasked("has(object.spec.a)") == ["object.spec.a"]
    assert unasked("has(object.spec) && has(object.spec.a)") == []


def test_expressions_keep_to_what_all_evaluators_have() -> None:
    """No optional types, and of functions only CEL's own."""
    for text in expressions():
        plain = re.sub(r"'[^']*'|\"[^\"]*\"", "''", text)
        assert ".?" not in plain and "[?" not in plain
        called = set(re.findall(r"(\w+)\(", plain))
        assert called <= {"has", "dyn", "map", "all", "startsWith"}, text


# --- Other installations ---


def test_labels_groups_and_writers_are_the_installations_own() -> None:
    argo = "system:serviceaccount:argocd:argocd-application-controller"
    other = replace(
        HERE, prefix="ml.example.com", group_prefix="oidc:", registry_namespace="models"
    )
    policies = [obj for obj in render(other, [argo]) if obj["kind"] == "ValidatingAdmissionPolicy"]
    assert not any(HERE.prefix in text for text in expressions(policies))
    mine = "ml.example.com/tenant"
    places = {MINE: namespace(MINE, None)}
    places[MINE]["metadata"]["labels"][mine] = ALPHA

    def said(request: Object) -> list[str]:
        return refusals(policies, BINDINGS, places, request)

    new = but(namespace("bh-new", None), labels={mine: "new"})
    assert said(asks(new, by=argo)) == []
    assert said(asks(new, by=REGISTRY))
    assert said(asks(new, by=registry_user(other)))
    assert said(asks(binding(group("oidc:bh:team_alpha:viewer")))) == []
    assert said(asks(binding(group("oidc:bh:team_gamma:viewer"))))
    assert said(asks(pod(ALPHA)))
    assert said(asks(but(pod(), labels={mine: ALPHA}))) == []


def test_the_registrys_own_account_makes_namespaces_unless_others_are_named() -> None:
    assert registry_user(HERE) == "system:serviceaccount:bulkhead:bulkhead"
    moved = replace(HERE, registry_namespace="models")
    assert any(
        "['system:serviceaccount:models:bulkhead']" in text
        for text in expressions(of_kind("ValidatingAdmissionPolicy", moved))
    )
