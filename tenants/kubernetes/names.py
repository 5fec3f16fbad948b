"""What things are called in a cluster: namespaces, groups, roles, service accounts, labels.

Each name has exactly one free part behind a fixed beginning, so two tenants never share one.
"""

from tenants import clusters
from tenants.models import Role

#: How the name of each object of ours begins, in tenants' namespaces and cluster-wide.
PREFIX = clusters.PREFIX
FIELD_MANAGER = MANAGED_BY = "bulkhead"
PART_OF = "bulkhead-tenant"
#: Counts up when what is rendered changes, so that a cluster can tell how old a bundle is.
BUNDLE_VERSION = "1"

#: The service accounts of each tenant's namespace; none has its token mounted by itself.
DEFAULT = "default"
MODEL_SERVER = "model-server"
MODEL_TRAINER = "model-trainer"
REGISTRY_SYNC = "registry-sync"
SERVICE_ACCOUNTS = (DEFAULT, MODEL_SERVER, MODEL_TRAINER, REGISTRY_SYNC)

#: The one ConfigMap that the service account registry-sync may change, and how.
SYNC_CONFIG_MAP = f"{PREFIX}-models"
SYNC_VERBS = ("get", "update", "patch")

#: The roles in a cluster, and which roles here have them. Kubernetes' own `edit` reads secrets and
#: `admin` binds roles, so Bulkhead has ClusterRoles of its own.
CLUSTER_ROLES: dict[str, tuple[Role, ...]] = {
    "viewer": (Role.VIEWER,),
    "editor": (Role.CONTRIBUTOR, Role.MAINTAINER),
    "admin": (Role.ADMIN,),
}
#: PriorityClasses: a server of models goes before a job that can wait.
SERVING, BATCH = f"{PREFIX}-serving", f"{PREFIX}-batch"


def cluster_role(role: str) -> str:
    """Return the ClusterRole of a role in a cluster: viewer, editor or admin."""
    return f"{PREFIX}-tenant-{role}"


def binding(role: str) -> str:
    """Return the RoleBinding's name; the role is part of it, since a roleRef cannot be changed."""
    return f"{PREFIX}-{role}"


def group(slug: str, role: str) -> str:
    """Return the group whose members have that role in the tenant's namespace."""
    return f"{PREFIX}:{slug}:{role}"
