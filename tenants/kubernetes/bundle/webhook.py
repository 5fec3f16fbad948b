"""The ValidatingWebhookConfiguration that lets an API server ask before it stores a workload.

What is matched, and what is not:

- Namespaces with the tenant's label. Bulkhead's own and the cluster's have none, so an outage of
  the webhook stops neither of them.
- Workloads with the annotation ``registered-model``, on themselves or on their pods. An address
  (``models:/…``) in a variable or an argument is judged in whatever is matched, but matches nothing
  by itself: the search through all texts of each pod could cost more than an API server lets
  a condition cost, and then it would refuse the pod. The manifest check and the live audit find it.
- An update that takes the annotation away is not matched: then there is nothing to judge.
- Not ``pods/status``, where kubelets write without end. A pod that runs could be annotated there,
  which changes nothing of what it may read.
"""

import base64
import re

from tenants.clusters import Installation
from tenants.kubernetes import names
from tenants.kubernetes.bundle.objects import Object
from tenants.kubernetes.workloads import MODEL_ANNOTATION, TEMPLATE_PATHS

NAME = f"{names.PREFIX}-models"
#: The Service and port of the listener in Bulkhead's namespace, unless a URL is given.
SERVICE, PORT = "bulkhead-admission", 8443
PATH = "/kubernetes/admission"
#: Seconds the API server waits for an answer; then it denies the request (`failurePolicy: Fail`).
TIMEOUT_SECONDS = 3
#: The resources of the kinds that make pods, by API group. Ephemeral containers are added to a pod
#: later, by a subresource of their own.
RESOURCES: dict[str, tuple[str, ...]] = {
    "": ("pods", "pods/ephemeralcontainers", "podtemplates", "replicationcontrollers"),
    "apps": ("daemonsets", "deployments", "replicasets", "statefulsets"),
    "batch": ("cronjobs", "jobs"),
}
CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")


def render_webhook(installation: Installation, *, ca_bundle: str | bytes, url: str = "") -> Object:
    """Return the configuration; ``ca_bundle`` is in PEM and vouches for the listener's certificate.

    Of the bundle only certificates are published, should a key be in the same file. The listener is
    a Service in Bulkhead's namespace, or is at ``url``, which begins with https. Raises ValueError
    for a bundle without a certificate and for another address.
    """
    pem = ca_bundle.encode() if isinstance(ca_bundle, str) else ca_bundle
    certificates = CERTIFICATE.findall(pem)
    if not certificates:
        raise ValueError("The CA bundle holds no certificate in PEM.")
    if url and not url.startswith("https://"):
        raise ValueError("An API server calls a webhook by https only.")
    labels = {
        "app.kubernetes.io/managed-by": names.MANAGED_BY,
        "app.kubernetes.io/part-of": names.PART_OF,
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {
            "name": NAME,
            "labels": labels,
            "annotations": {installation.label("bundle-version"): names.BUNDLE_VERSION},
        },
        "webhooks": [_webhook(installation, _bundle(certificates), url)],
    }


def _bundle(certificates: list[bytes]) -> str:
    return base64.b64encode(b"\n".join([*certificates, b""])).decode()


def _webhook(installation: Installation, bundle: str, url: str) -> Object:
    service = {
        "namespace": installation.registry_namespace,
        "name": SERVICE,
        "path": PATH,
        "port": PORT,
    }
    tenants = {"key": installation.label("tenant"), "operator": "Exists"}
    return {
        "name": f"models.admission.{installation.prefix}",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"caBundle": bundle, **({"url": url} if url else {"service": service})},
        "failurePolicy": "Fail",
        "matchPolicy": "Equivalent",
        "sideEffects": "None",
        "timeoutSeconds": TIMEOUT_SECONDS,
        "namespaceSelector": {"matchExpressions": [tenants]},
        "objectSelector": {},
        "matchConditions": [{"name": "names-a-model", "expression": names_a_model(installation)}],
        "rules": [
            {
                "apiGroups": [group],
                "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE"],
                "resources": list(resources),
                "scope": "Namespaced",
            }
            for group, resources in RESOURCES.items()
        ],
    }


def names_a_model(installation: Installation) -> str:
    """Return the CEL that tells whether an object or its pods are annotated with a model."""
    key = installation.label(MODEL_ANNOTATION)
    places = sorted({".".join(("object", *map(str, path))) for path in TEMPLATE_PATHS.values()})
    return " || ".join(f"({_has_annotation(place, key)})" for place in places)


def _has_annotation(place: str, key: str) -> str:
    """Return the CEL that tells whether one place has the annotation and each parent of it."""
    whole = f"{place}.metadata.annotations"
    steps = whole.split(".")
    there = [f"has({'.'.join(steps[: end + 1])})" for end in range(1, len(steps))]
    return " && ".join([*there, f"'{key}' in {whole}"])
