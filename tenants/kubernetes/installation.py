"""What is the same for all tenants of an installation; settings.KUBERNETES holds it."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster whose pods may sign in with the tokens that it gives them.

    ``issuer`` is the exact ``iss`` of its tokens (``--service-account-issuer``); ``keys`` is the
    address or the file of its JWKS. ``ca`` and ``token`` are files: who vouches for the address,
    and what to show there.
    """

    name: str
    issuer: str
    keys: str
    ca: str = ""
    token: str = ""


@dataclass(frozen=True, slots=True)
class Installation:
    """Names and places in the cluster, by which a bundle is rendered."""

    #: How labels and annotations begin: ``bulkhead.dev/tenant``.
    prefix: str = "bulkhead.dev"
    #: The namespaces where Bulkhead itself, the gateway and the cluster's DNS run.
    registry_namespace: str = "bulkhead"
    gateway_namespace: str = "gateway"
    dns_namespace: str = "kube-system"
    #: Where Bulkhead listens in its namespace, and where pods that serve models do in theirs.
    registry_port: int = 8000
    serving_port: int = 8080
    #: The release whose Pod Security Standards hold.
    pod_security: str = "v1.30"
    #: Whether RoleBindings name groups (an OpenID Connect cluster) or each member.
    binds_users: bool = False
    #: How the cluster's names of people and groups begin (``--oidc-username-prefix``).
    user_prefix: str = ""
    group_prefix: str = ""
    clusters: tuple[Cluster, ...] = field(default=())

    def label(self, name: str) -> str:
        """Return a label or annotation of ours by its short name, such as ``tenant``."""
        return f"{self.prefix}/{name}"
