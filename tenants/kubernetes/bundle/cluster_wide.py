"""What a cluster has once for all tenants, and who Bulkhead itself is there; as pure functions.

A platform admin applies this before the first tenant's bundle. Bulkhead itself could not: it may
neither write ClusterRoles nor policies.
"""

from collections.abc import Sequence

from tenants.clusters import Installation
from tenants.kubernetes import names
from tenants.kubernetes.bundle.objects import RBAC, Object
from tenants.kubernetes.bundle.policies import ACCOUNT, policies

READ = ("get", "list", "watch")
WRITE = (*READ, "create", "update", "patch", "delete")
#: The names of Bulkhead's own service account and of the ClusterRole that it has.
REGISTRY = "bulkhead"
CONTROLLER = f"{names.PREFIX}-controller"


def render(installation: Installation, writers: Sequence[str] = ()) -> list[Object]:
    """Return the 11 objects in the order in which they are applied.

    ``writers`` are the user names that may make tenants' namespaces, as the cluster has them;
    without any it is Bulkhead's service account alone.
    """
    objects = [
        *(_cluster_role(names.cluster_role(role), rules) for role, rules in _tenant_roles()),
        *_priority_classes(),
        *policies(installation, writers or [registry_user(installation)]),
    ]
    return [_marked(obj, installation) for obj in objects]


def controller(installation: Installation) -> list[Object]:
    """Return Bulkhead's service account, its ClusterRole and the binding of both.

    A service account may grant only what it has itself, so it holds what registry-sync gets; of
    the tenants' roles it may bind the three, which it does not hold.
    """
    account = {
        "kind": "ServiceAccount",
        "name": REGISTRY,
        "namespace": installation.registry_namespace,
    }
    objects: list[Object] = [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": REGISTRY, "namespace": installation.registry_namespace},
            # Only Bulkhead's own pods run as this account, and they talk to the API server.
            "automountServiceAccountToken": True,
        },
        _cluster_role(CONTROLLER, _controller_rules()),
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": CONTROLLER},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": CONTROLLER},
            "subjects": [account],
        },
    ]
    return [_marked(obj, installation) for obj in objects]


def registry_user(installation: Installation) -> str:
    """Return the user name that the cluster gives Bulkhead's service account."""
    return f"{ACCOUNT}{installation.registry_namespace}:{REGISTRY}"


def _marked(obj: Object, installation: Installation) -> Object:
    metadata = obj["metadata"] | {
        "labels": {
            "app.kubernetes.io/managed-by": names.MANAGED_BY,
            "app.kubernetes.io/part-of": "bulkhead",
        },
        "annotations": {installation.label("bundle-version"): names.BUNDLE_VERSION},
    }
    return obj | {"metadata": metadata}


def _tenant_roles() -> list[tuple[str, list[Object]]]:
    """Return the rules of the roles in a tenant's namespace.

    None runs commands in pods, makes pods directly, nor writes what limits the namespace: its
    roles, quotas, network policies and service accounts are Bulkhead's. Only an admin reads
    secrets by the API; a workload of an editor can still use those of its own namespace.
    """
    viewer = [
        _rule(
            "",
            [
                *("configmaps", "events", "limitranges", "namespaces"),
                *("persistentvolumeclaims", "pods", "pods/log", "replicationcontrollers"),
                *("resourcequotas", "serviceaccounts", "services"),
            ],
            READ,
        ),
        _rule("apps", ["daemonsets", "deployments", "replicasets", "statefulsets"], READ),
        _rule("batch", ["cronjobs", "jobs"], READ),
        _rule("discovery.k8s.io", ["endpointslices"], READ),
        _rule("events.k8s.io", ["events"], READ),
        _rule("metrics.k8s.io", ["pods"], READ),
        _rule("networking.k8s.io", ["networkpolicies"], READ),
        _rule(RBAC, ["rolebindings", "roles"], READ),
    ]
    editor = [
        *viewer,
        _rule("", ["configmaps", "persistentvolumeclaims", "services"], WRITE),
        _rule("apps", ["deployments"], WRITE),
        _rule("apps", ["deployments/scale"], ["get", "update", "patch"]),
        _rule("batch", ["cronjobs", "jobs"], WRITE),
    ]
    admin = [*editor, _rule("", ["secrets"], WRITE), _rule("", ["pods"], ["delete"])]
    return [("viewer", viewer), ("editor", editor), ("admin", admin)]


def _controller_rules() -> list[Object]:
    bundle = ["limitranges", "namespaces", "resourcequotas", "serviceaccounts"]
    running = ["pods", "podtemplates", "replicationcontrollers"]
    bound = [names.cluster_role(role) for role in names.CLUSTER_ROLES]
    return [
        _rule("", bundle, WRITE),
        _rule("networking.k8s.io", ["networkpolicies"], WRITE),
        _rule(RBAC, ["rolebindings", "roles"], WRITE),
        _rule(RBAC, ["clusterroles"], ["bind"], names_only=bound),
        _rule("", ["configmaps"], names.SYNC_VERBS, names_only=[names.SYNC_CONFIG_MAP]),
        # Workloads are read for the audit and never written.
        _rule("", running, ["get", "list"]),
        _rule(
            "apps", ["daemonsets", "deployments", "replicasets", "statefulsets"], ["get", "list"]
        ),
        _rule("batch", ["cronjobs", "jobs"], ["get", "list"]),
    ]


def _rule(
    group: str, resources: Sequence[str], verbs: Sequence[str], names_only: Sequence[str] = ()
) -> Object:
    rule: Object = {"apiGroups": [group], "resources": list(resources)}
    if names_only:
        rule["resourceNames"] = list(names_only)
    return rule | {"verbs": list(verbs)}


def _cluster_role(name: str, rules: list[Object]) -> Object:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rules,
    }


def _priority_classes() -> list[Object]:
    """Return the priorities: pods that serve may preempt batch jobs, which preempt nothing."""
    classes = (
        (names.SERVING, 100_000, "PreemptLowerPriority", "Servers of models"),
        (names.BATCH, 1_000, "Never", "Jobs that can wait"),
    )
    return [
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "globalDefault": False,
            "preemptionPolicy": preemption,
            "description": description,
        }
        for name, value, preemption, description in classes
    ]
