"""What things are called in a cluster: namespaces, groups, roles, service accounts, labels.

Each name has exactly one free part behind a fixed beginning, so two tenants never share one.
"""

from tenants import clusters
from tenants.models import Role

#: The beginning of the name of each object that Bulkhead makes, in namespaces and cluster-wide.
PREFIX = clusters.PREFIX
FIELD_MANAGER = MANAGED_BY = "bulkhead"
PART_OF = "bulkhead-tenant"
#: The version of what is rendered; it is raised with each change, so that a bundle's age shows.
BUNDLE_VERSION = "1"

#: The service accounts of each tenant's namespace; their tokens are not mounted automatically.
DEFAULT = "default"
MODEL_SERVER = "model-server"
MODEL_TRAINER = "model-trainer"
REGISTRY_SYNC = "registry-sync"
SERVICE_ACCOUNTS = (DEFAULT, MODEL_SERVER, MODEL_TRAINER, REGISTRY_SYNC)

#: The one ConfigMap that the service account registry-sync may change, and by which verbs.
SYNC_CONFIG_MAP = f"{PREFIX}-models"
SYNC_VERBS = ("get", "update", "patch")

#: The roles in a cluster, each with the tenant roles that get it. They are ClusterRoles of
#: Bulkhead's own, since Kubernetes' `edit` may read secrets and its `admin` may bind roles.
CLUSTER_ROLES: dict[str, tuple[Role, ...]] = {
    "viewer": (Role.VIEWER,),
    "editor": (Role.CONTRIBUTOR, Role.MAINTAINER),
    "admin": (Role.ADMIN,),
}
#: PriorityClasses: pods that serve models are scheduled before batch jobs.
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
