"""What a team writes so that its pods sign in here: a Deployment to copy."""

from typing import Any

import yaml

from tenants.clusters import Installation
from tenants.kubernetes import names
from tenants.kubernetes.bundle.objects import Object

#: The folder in which MLflow's client looks for the token and for its workspace's name.
CREDENTIALS_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
#: Seconds for which the token is valid; the kubelet renews it before.
TOKEN_SECONDS = 3600
IMAGE = "your-image"


def address_in_cluster(installation: Installation) -> str:
    """Return the URL at which pods reach Bulkhead: network policies allow its Service only."""
    host = f"{names.MANAGED_BY}.{installation.registry_namespace}.svc"
    return f"http://{host}:{installation.registry_port}"


def deployment(slug: str, namespace: str, installation: Installation) -> str:
    """Return, as YAML, a Deployment of the team whose pods sign in as `model-server`.

    The token is made for us alone, lives for an hour and is renewed by the cluster; the one for the
    cluster itself is not mounted.
    """
    return yaml.safe_dump(_deployment(slug, namespace, installation), sort_keys=False)


def shell() -> str:
    """Return the shell line that hands the token to a client which cannot read the file itself."""
    return f'export MLFLOW_TRACKING_TOKEN="$(cat {CREDENTIALS_PATH}/token)"\n'


def _deployment(slug: str, namespace: str, installation: Installation) -> Object:
    name = names.MODEL_SERVER
    tenant = {installation.label("tenant"): slug}
    metadata = {"name": name, "namespace": namespace, "labels": tenant}
    pods = {"app.kubernetes.io/component": name}
    template = {"metadata": {"labels": {**tenant, **pods}}, "spec": _pod(name, installation)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {"selector": {"matchLabels": pods}, "template": template},
    }


def _pod(name: str, installation: Installation) -> dict[str, Any]:
    variables = {
        "MLFLOW_TRACKING_URI": address_in_cluster(installation),
        "MLFLOW_TRACKING_AUTH": "kubernetes-namespaced",
    }
    container = {
        "name": name,
        "image": IMAGE,
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "resources": {
            "requests": {"cpu": "500m", "memory": "1Gi"},
            "limits": {"cpu": "1", "memory": "2Gi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "identity", "mountPath": CREDENTIALS_PATH, "readOnly": True}],
    }
    token = {
        "path": "token",
        "audience": installation.audience,
        "expirationSeconds": TOKEN_SECONDS,
    }
    namespace = {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}
    sources = [{"serviceAccountToken": token}, {"downwardAPI": {"items": [namespace]}}]
    return {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "identity", "projected": {"sources": sources}}],
    }
