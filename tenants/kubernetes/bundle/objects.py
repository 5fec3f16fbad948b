"""A tenant's bundle: the 18 objects that make a namespace of it, as a pure function.

The same team and installation always give the same objects, in the order in which they are
applied: the namespace first, and whatever limits workloads before there can be any. A suspended
tenant has the same objects, emptied: nobody is bound, no pod may start, nobody may talk to anybody.

An object is a plain dict, as https://kubernetes.io/docs/reference/kubernetes-api/ describes it.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tenants.clusters import Installation
from tenants.kubernetes import names
from tenants.models import Membership, Tenant
from tenants.sizes import Size, size_of
from tenants.text import clean

#: A Kubernetes object, as its JSON.
Object = dict[str, Any]

RBAC = "rbac.authorization.k8s.io"
NAMESPACE_NAME = "kubernetes.io/metadata.name"
GPU = "requests.nvidia.com/gpu"


@dataclass(frozen=True, slots=True)
class Team:
    """The data from which a bundle is rendered; ``members`` are pairs of user name and role."""

    slug: str
    id: UUID
    name: str
    namespace: str
    size: Size
    suspended: bool = False
    members: tuple[tuple[str, str], ...] = ()


def team_of(tenant: Tenant) -> Team:
    """Return the tenant as a bundle needs it, with the people who are members at this moment."""
    inside = Membership.objects.active().filter(tenant=tenant, user__robot_of=None)
    return Team(
        slug=tenant.slug,
        id=tenant.pk,
        name=tenant.name,
        namespace=tenant.namespace,
        size=size_of(tenant.size, tenant.custom_size),
        suspended=tenant.is_suspended,
        members=tuple(inside.order_by("user__username").values_list("user__username", "role")),
    )


def render(team: Team, installation: Installation) -> list[Object]:
    """Return the team's 18 objects in the order in which they are applied."""
    maker = _Bundle(team, installation)
    return [
        maker.namespace(),
        *maker.service_accounts(),
        maker.compute_quota(),
        maker.object_quota(),
        maker.limit_range(),
        *maker.network_policies(),
        # Last: people may make workloads as soon as they are bound, even if the apply breaks off.
        *maker.sync_role(),
        *maker.role_bindings(),
    ]


class _Bundle:
    """Renders one team's objects."""

    def __init__(self, team: Team, installation: Installation) -> None:
        self.team = team
        self.installation = installation
        self.labels = {
            "app.kubernetes.io/managed-by": names.MANAGED_BY,
            "app.kubernetes.io/part-of": names.PART_OF,
            installation.label("tenant"): team.slug,
            installation.label("tenant-id"): str(team.id),
        }
        self.annotations = {installation.label("bundle-version"): names.BUNDLE_VERSION}

    def _object(self, version: str, kind: str, name: str, **fields: Any) -> Object:
        return {
            "apiVersion": version,
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": self.team.namespace,
                "labels": dict(self.labels),
                "annotations": dict(self.annotations),
            },
            **fields,
        }

    def namespace(self) -> Object:
        """Return the namespace: Pod Security's strictest standard, pinned to one release."""
        made = self._object("v1", "Namespace", self.team.namespace)
        del made["metadata"]["namespace"]
        for mode in ("enforce", "audit", "warn"):
            standard = f"pod-security.kubernetes.io/{mode}"
            made["metadata"]["labels"][standard] = "restricted"
            made["metadata"]["labels"][f"{standard}-version"] = self.installation.pod_security
        # Argo CD asks for a confirmation before it deletes the namespace with all that is in it.
        made["metadata"]["annotations"] |= {
            "argocd.argoproj.io/sync-options": "Prune=confirm,Delete=confirm",
            self.installation.label("display-name"): clean(self.team.name),
        }
        return made

    def service_accounts(self) -> list[Object]:
        """Return the team's service accounts, with `default`, which pods get that name none."""
        return [
            self._object("v1", "ServiceAccount", name, automountServiceAccountToken=False)
            for name in names.SERVICE_ACCOUNTS
        ]

    def role_bindings(self) -> list[Object]:
        """Return one binding for each role, to its group or to its members."""
        return [
            self._object(
                f"{RBAC}/v1",
                "RoleBinding",
                names.binding(role),
                roleRef={
                    "apiGroup": RBAC,
                    "kind": "ClusterRole",
                    "name": names.cluster_role(role),
                },
                subjects=self._subjects(role),
            )
            for role in names.CLUSTER_ROLES
        ]

    def _subjects(self, role: str) -> list[Object]:
        if self.team.suspended:
            return []
        if not self.installation.binds_users:
            name = self.installation.group_prefix + names.group(self.team.slug, role)
            return [{"apiGroup": RBAC, "kind": "Group", "name": name}]
        people = sorted(
            name for name, held in self.team.members if held in names.CLUSTER_ROLES[role]
        )
        prefix = self.installation.user_prefix
        return [{"apiGroup": RBAC, "kind": "User", "name": prefix + name} for name in people]

    def sync_role(self) -> list[Object]:
        """Return the Role by which registry-sync changes one ConfigMap, and its binding."""
        name = f"{names.PREFIX}-{names.REGISTRY_SYNC}"
        rule = {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": [names.SYNC_CONFIG_MAP],
            "verbs": list(names.SYNC_VERBS),
        }
        account = {
            "kind": "ServiceAccount",
            "name": names.REGISTRY_SYNC,
            "namespace": self.team.namespace,
        }
        return [
            self._object(f"{RBAC}/v1", "Role", name, rules=[rule]),
            self._object(
                f"{RBAC}/v1",
                "RoleBinding",
                name,
                roleRef={"apiGroup": RBAC, "kind": "Role", "name": name},
                subjects=[] if self.team.suspended else [account],
            ),
        ]

    def compute_quota(self) -> Object:
        """Return the quota of what all pods may use together."""
        size = self.team.size
        hard = {
            "requests.cpu": str(size.cores),
            "limits.cpu": str(2 * size.cores),
            "requests.memory": f"{size.memory}Gi",
            "limits.memory": f"{2 * size.memory}Gi",
            "requests.ephemeral-storage": f"{size.scratch}Gi",
            "limits.ephemeral-storage": f"{2 * size.scratch}Gi",
            GPU: str(size.gpus),
            "pods": "0" if self.team.suspended else str(size.pods),
        }
        return self._object("v1", "ResourceQuota", f"{names.PREFIX}-compute", spec={"hard": hard})

    def object_quota(self) -> Object:
        """Return the quota of numbers of objects; no Service may open a port to outside.

        All that a team's roles may write is counted, and what their workloads leave behind: one
        team could fill the cluster's memory with what is not.
        """
        size = self.team.size
        hard = {
            "persistentvolumeclaims": str(size.volumes),
            "requests.storage": f"{size.storage}Gi",
            "services": str(size.services),
            "services.loadbalancers": "0",
            "services.nodeports": "0",
            "count/secrets": str(size.secrets),
            # One more: the cluster puts kube-root-ca.crt into each namespace.
            "count/configmaps": str(size.config_maps + 1),
            "count/jobs.batch": str(size.jobs),
            "count/cronjobs.batch": str(size.jobs),
            "count/deployments.apps": str(size.deployments),
            # 12 for each Deployment: ten old ones by default, the current one, and the next one.
            "count/replicasets.apps": str(12 * size.deployments),
        }
        return self._object("v1", "ResourceQuota", f"{names.PREFIX}-objects", spec={"hard": hard})

    def limit_range(self) -> Object:
        """Return defaults for each resource that the quota limits; it refuses pods without them."""
        size = self.team.size
        container = {
            "type": "Container",
            "default": {"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "2Gi"},
            "defaultRequest": {"cpu": "100m", "memory": "256Mi", "ephemeral-storage": "512Mi"},
            "max": {
                "cpu": str(2 * size.cores),
                "memory": f"{2 * size.memory}Gi",
                "ephemeral-storage": f"{2 * size.scratch}Gi",
            },
            "min": {"cpu": "10m", "memory": "16Mi", "ephemeral-storage": "16Mi"},
        }
        claim = {"type": "PersistentVolumeClaim", "max": {"storage": f"{size.storage}Gi"}}
        limits = [container, claim]
        return self._object("v1", "LimitRange", f"{names.PREFIX}-defaults", spec={"limits": limits})

    def network_policies(self) -> list[Object]:
        """Return the policy that denies all and the four that allow, empty while suspended.

        Lists are written out where they are empty: nobody else can then fill them unseen.
        """
        everywhere: Object = {"podSelector": {}}
        here = self.installation
        dns = _peer(here.dns_namespace, {"k8s-app": "kube-dns"})
        registry = _peer(here.registry_namespace, {"app.kubernetes.io/name": "bulkhead"})
        servers = {"matchLabels": {"app.kubernetes.io/component": names.MODEL_SERVER}}
        return [
            self._policy("default-deny", {}, ingress=[], egress=[]),
            self._policy("allow-dns", {}, egress=[_to(dns, ("UDP", 53), ("TCP", 53))]),
            self._policy(
                "allow-same-namespace",
                {},
                ingress=[{"from": [everywhere]}],
                egress=[{"to": [everywhere]}],
            ),
            self._policy("allow-registry", {}, egress=[_to(registry, ("TCP", here.registry_port))]),
            self._policy(
                "allow-gateway",
                servers,
                ingress=[
                    {
                        "from": [_peer(here.gateway_namespace)],
                        "ports": [{"protocol": "TCP", "port": here.serving_port}],
                    }
                ],
            ),
        ]

    def _policy(self, name: str, pods: Object, **rules: list[Object]) -> Object:
        allowed = {way: [] if self.team.suspended else rules[way] for way in rules}
        spec = {"podSelector": pods, "policyTypes": [way.title() for way in rules], **allowed}
        return self._object(
            "networking.k8s.io/v1", "NetworkPolicy", f"{names.PREFIX}-{name}", spec=spec
        )


def _peer(namespace: str, pods: dict[str, str] | None = None) -> Object:
    """Return the peer of all pods of a namespace, by the label that only Kubernetes sets."""
    peer: Object = {"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: namespace}}}
    if pods is not None:
        peer["podSelector"] = {"matchLabels": pods}
    return peer


def _to(peer: Object, *ports: tuple[str, int]) -> Object:
    return {"to": [peer], "ports": [{"protocol": kind, "port": port} for kind, port in ports]}
