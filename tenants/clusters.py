"""The installation's clusters and the names in them, the same for all tenants: settings.KUBERNETES.

Also the namespace's name that a new tenant gets.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import yaml
from django.core.exceptions import ImproperlyConfigured

from tenants.dns import is_label
from tenants.documents import Malformed, Node

#: How the names of Bulkhead's own objects in a cluster begin, and tenants' namespaces with them.
PREFIX = "bh"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster in which tenants have their namespaces.

    Bulkhead reaches it by ``kubeconfig``, a file, and the ``context`` in that; without one as a pod
    of it. Its pods may sign in if ``issuer`` is given, the exact ``iss`` of the tokens that they
    get (``--service-account-issuer``); ``keys`` is the address or the file of its JWKS. ``ca`` and
    ``token`` are files: who vouches for that address, and what to show there.
    """

    name: str
    kubeconfig: str = ""
    context: str = ""
    issuer: str = ""
    keys: str = ""
    ca: str = ""
    token: str = ""


#: The keys that a cluster may have in the file.
KEYS = [field.name for field in fields(Cluster)]


@dataclass(frozen=True, slots=True)
class Installation:
    """The names, ports and conventions of the clusters, by which a tenant's bundle is rendered."""

    #: The prefix of labels and annotations, as in ``bulkhead.dev/tenant``.
    prefix: str = "bulkhead.dev"
    #: The namespaces where Bulkhead itself, the gateway and the cluster's DNS run.
    registry_namespace: str = "bulkhead"
    gateway_namespace: str = "gateway"
    dns_namespace: str = "kube-system"
    #: Where Bulkhead listens in its namespace, and where pods that serve models do in theirs.
    registry_port: int = 8000
    serving_port: int = 8080
    #: The Kubernetes release whose Pod Security Standards apply.
    pod_security: str = "v1.30"
    #: Whether RoleBindings name each member; otherwise groups, for OpenID Connect.
    binds_users: bool = False
    #: The cluster's prefixes of user and group names (``--oidc-username-prefix``).
    user_prefix: str = ""
    group_prefix: str = ""
    #: The audience that pods' tokens must have (``serviceAccountToken.audience``).
    audience: str = "bulkhead"
    clusters: tuple[Cluster, ...] = ()

    def label(self, name: str) -> str:
        """Return a label or annotation of ours by its short name, such as ``tenant``."""
        return f"{self.prefix}/{name}"


def namespace_of(slug: str) -> str:
    """Return the namespace that a new tenant gets; from then on the database says what it is."""
    return f"{PREFIX}-{slug.replace('_', '-')}"


def read_clusters(path: str) -> tuple[Cluster, ...]:
    """Return the clusters that a YAML file lists; raises ImproperlyConfigured, which says why not.

    Without a file there is one, ``default``, that Bulkhead runs in or finds as kubectl does.
    """
    if not path:
        return (Cluster("default"),)
    try:
        listed = yaml.safe_load(Path(path).read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ImproperlyConfigured(f"BULKHEAD_CLUSTERS: {path} cannot be read: {error}") from None
    if not isinstance(listed, list) or not listed:
        raise ImproperlyConfigured(f"BULKHEAD_CLUSTERS: {path} is no list of clusters.")
    try:
        clusters = tuple(_cluster(entry) for entry in Node(listed).items())
    except Malformed as error:
        raise ImproperlyConfigured(f"BULKHEAD_CLUSTERS: {error}") from None
    for what in ("name", "issuer"):
        given = [value for cluster in clusters if (value := getattr(cluster, what))]
        if len(set(given)) < len(given):
            raise ImproperlyConfigured(f"BULKHEAD_CLUSTERS: two clusters have the same {what}.")
    return clusters


def _cluster(entry: Node) -> Cluster:
    """Return one cluster of the list; raises Malformed."""
    given = {key: value.text() for key, value in entry.fields(KEYS).items()}
    cluster = Cluster(**{"name": "", **given})
    if not is_label(cluster.name):
        raise entry.malformed(
            f"{cluster.name!r} is no name: use lower-case letters, digits and hyphens"
        )
    if bool(cluster.issuer) != bool(cluster.keys):
        raise entry.malformed(f"{cluster.name} needs issuer and keys, or neither of them")
    return cluster
