"""Rules about access: role bindings and their subjects, and the accounts that pods run as."""

import re
from collections.abc import Iterator
from typing import Any

from django.conf import settings

from tenants.documents import Path, get, mappings_of, text_of
from tenants.kubernetes import names
from tenants.kubernetes.manifests.reader import Manifest
from tenants.kubernetes.manifests.rules.catalogue import Violation, Violations
from tenants.text import shown

BINDINGS = ("RoleBinding", "ClusterRoleBinding")
#: The user name of a service account, and how the group of all accounts of a namespace begins.
ACCOUNT_USER = re.compile(r"system:serviceaccount:([^:]*):(.*)", re.DOTALL)
ACCOUNTS_GROUP_PREFIX = "system:serviceaccounts:"


def subjects_of(manifest: Manifest) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the subjects of a RoleBinding, each with its path."""
    if manifest.kind == "RoleBinding":
        yield from mappings_of(manifest.get("subjects"), ("subjects",))


def account_of(subject: Any) -> tuple[str, str] | None:
    """Return namespace and name of the service account that a subject names, also as a user."""
    name = text_of(get(subject, "name"))
    if get(subject, "kind") == "ServiceAccount":
        namespace = text_of(get(subject, "namespace"))
        return (namespace, name) if namespace else None
    found = ACCOUNT_USER.fullmatch(name) if get(subject, "kind") == "User" else None
    return (found[1], found[2]) if found else None


def bound_accounts(manifest: Manifest) -> Iterator[tuple[Path, tuple[str, str]]]:
    """Yield the service accounts that a RoleBinding names, each with its path."""
    for path, subject in subjects_of(manifest):
        if (account := account_of(subject)) is not None:
            yield path, account


def group(name: str, path: Path, home: frozenset[str], teams: list[str]) -> Violations:
    """Yield what is wrong with a group or a user as a subject."""
    if name.startswith(ACCOUNTS_GROUP_PREFIX):
        namespace = name.removeprefix(ACCOUNTS_GROUP_PREFIX)
        if namespace not in home:
            words = f"binds all service accounts of namespace {shown(namespace)}"
            yield Violation("BH201", path, words)
    elif name.startswith("system:"):
        yield Violation("BH203", path, f"binds {shown(name)}, which is not the tenant's own")
    else:
        start = f"{settings.KUBERNETES.group_prefix}{names.PREFIX}:"
        team = name.removeprefix(start).rpartition(":")[0]
        if name.startswith(start) and teams and team not in teams:
            words = f"binds the group {shown(name)}, and the groups of its tenant begin with "
            yield Violation("BH204", path, f"{words}{start}{teams[0]}:")


def binding(manifest: Manifest) -> Violations:
    """Yield a ClusterRoleBinding, and roles that no tenant may be given."""
    if manifest.kind not in BINDINGS:
        return
    if manifest.kind == "ClusterRoleBinding":
        role = shown(manifest.get("roleRef", "name") or "a role")
        yield Violation("BH106", ("kind",), f"binds {role} in all namespaces, those of all tenants")
    name, path = manifest.get("roleRef", "name"), ("roleRef", "name")
    if manifest.get("roleRef", "kind") != "ClusterRole":
        return
    if name == "cluster-admin":
        yield Violation("BH205", path, "gives the role cluster-admin")
    elif name in ("admin", "edit"):
        yield Violation("BH206", path, f"gives Kubernetes' own role {name}")


def account_of_pod(spec: Any, path: Path) -> Violations:
    """Yield names of service accounts that cannot be of the pod's own namespace."""
    for key in ("serviceAccountName", "serviceAccount"):
        name = text_of(get(spec, key))
        if "/" in name or ":" in name:
            words = f"runs as {shown(name)}: a pod names a service account of its own namespace"
            yield Violation("BH202", (*path, key), words)


def mounted_token(manifest: Manifest, home: frozenset[str] | None) -> Violations:
    """Yield a ServiceAccount whose token each of its pods gets."""
    if manifest.get("automountServiceAccountToken") is True:
        path = ("automountServiceAccountToken",)
        yield Violation("BH508", path, "gives its token to each pod that runs as it")
