"""Manifests of team_alpha with which nothing is wrong, and what the check finds in others."""

from copy import deepcopy
from typing import Any
from uuid import UUID

import yaml

from tenants.kubernetes.bundle import objects as bundle
from tenants.kubernetes.manifests.check import check
from tenants.kubernetes.manifests.reader import SENT_LIMITS, Manifest, Reader
from tenants.models import Tenant

Object = dict[str, Any]

ALPHA = Tenant(
    id=UUID(int=1), slug="team_alpha", name="Alpha", namespace="bh-team-alpha", size="small"
)


LABEL = "bulkhead.dev/tenant"


def read(text: str, file: str = "file.yaml") -> list[Manifest]:
    """Read one file."""
    return Reader(SENT_LIMITS).read(file, text)


def found(text: str, tenant: Tenant | None = ALPHA) -> list[str]:
    """Return what the check of a file says: line, rule and message of each finding."""
    return [
        f"{one.place.line}:{one.place.column} {one.rule.id} {one.message}"
        for one in check(read(text), tenant)
    ]


def rules_for(*objects: Object, tenant: Tenant | None = ALPHA) -> dict[str, str]:
    """Return the ids of the rules that find something, each with its last message."""
    text = yaml.safe_dump_all(deepcopy(objects), sort_keys=False)
    return {one.rule.id: one.message for one in check(read(text), tenant)}


def made(kind: str, version: str = "v1", name: str = "scorer", **fields: Any) -> Object:
    """Return an object of team_alpha's."""
    metadata = {"name": name, "namespace": ALPHA.namespace, "labels": {LABEL: ALPHA.slug}}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}


def container(**fields: Any) -> Object:
    """Return a container with which nothing is wrong, with what a test needs different."""
    limits = {"cpu": "1", "memory": "1Gi"}
    good = {
        "name": "web",
        "image": "scorer:1.4",
        "securityContext": {"allowPrivilegeEscalation": False},
        "resources": {"requests": dict(limits), "limits": limits},
    }
    return good | fields


def spec(**fields: Any) -> Object:
    """Return a pod's spec with which nothing is wrong, with what a test needs different."""
    return {"automountServiceAccountToken": False, "containers": [container()]} | fields


def pod(**fields: Any) -> Object:
    """Return a pod."""
    return made("Pod", spec=spec(**fields))


def secured(**context: Any) -> Object:
    """Return a pod whose container has something in its security context."""
    context = {"allowPrivilegeEscalation": False} | context
    return pod(containers=[container(securityContext=context)])


def but(obj: Object, **metadata: Any) -> Object:
    """Return the object with something different in its metadata; None takes a key away."""
    changed = deepcopy(obj)
    changed["metadata"] |= metadata
    for key in [key for key, value in metadata.items() if value is None]:
        del changed["metadata"][key]
    return changed


RBAC = "rbac.authorization.k8s.io/v1"


def bound(*subjects: Object, role: str = "bh-tenant-viewer", kind: str = "RoleBinding") -> Object:
    """Return a binding of a ClusterRole."""
    return made(kind, RBAC, roleRef={"kind": "ClusterRole", "name": role}, subjects=[*subjects])


def policy(**fields: Any) -> Object:
    """Return a NetworkPolicy."""
    return made("NetworkPolicy", "networking.k8s.io/v1", spec={"podSelector": {}, **fields})


def chosen(**selector: Any) -> Object:
    """Return a NetworkPolicy that lets in pods of the namespaces that are selected."""
    return policy(ingress=[{"from": [{"namespaceSelector": selector}]}])


def named(*namespaces: str) -> Object:
    """Return the condition that selects namespaces by their names."""
    return {"key": bundle.NAMESPACE_NAME, "operator": "In", "values": [*namespaces]}


def block(cidr: Any, *without: str) -> Object:
    """Return a NetworkPolicy that opens the way to addresses."""
    return policy(egress=[{"to": [{"ipBlock": {"cidr": cidr, "except": [*without]}}]}])


def env(value: str) -> Object:
    """Return a pod with a variable."""
    return pod(containers=[container(env=[{"name": "URL", "value": value}])])


MISPLACED = """\
apiVersion: v1
kind: Namespace
metadata:
  name: tenant1
---
apiVersion: v1
kind: Pod
metadata:
  name: tenant1-pod
  namespace: tenant2
spec:
  automountServiceAccountToken: false
  containers:
    - name: web
      image: scorer:1.4
      securityContext: {allowPrivilegeEscalation: false}
      resources: {limits: {cpu: 1, memory: 1Gi}}
"""


BROKEN = "a: 1\nb: [\n"
