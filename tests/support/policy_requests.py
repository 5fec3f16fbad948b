"""Requests to an API server that the admission policies allow or refuse: each known hole is a row.

They are decided twice: by an evaluator of our own, and by Kubernetes' plugin on a real API server.
"""

from typing import Any

from tenants.clusters import Installation
from tenants.kubernetes.bundle.cluster_wide import registry_user, render
from tenants.kubernetes.bundle.policies import LABEL_GUARD, NAMESPACE, SUBJECTS
from tests.support.policy_evaluator import Object

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
