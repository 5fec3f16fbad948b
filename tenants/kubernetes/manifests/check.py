"""The check of manifests: whether each object stays inside its tenant, and what it finds if not.

Nothing is asked of a cluster, and of the registry only which models the acting tenant may use.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from django.conf import settings

from tenants.documents import Path, as_text, get, text_of
from tenants.kubernetes import workloads
from tenants.kubernetes.manifests.reader import (
    FILE_LIMITS,
    MAX_LISTED_NAMES,
    FilePosition,
    Manifest,
    TooLarge,
    listed,
)
from tenants.kubernetes.manifests.rules import access, kinds, network, pods, references
from tenants.kubernetes.manifests.rules.catalogue import RULES, ManifestRule, Violation, Violations
from tenants.kubernetes.manifests.rules.pods import Specs
from tenants.kubernetes.workloads import Reference, Verdict, containers_of, templates_of
from tenants.models import RESERVED_PREFIXES, Tenant
from tenants.text import shown


@dataclass(frozen=True, slots=True)
class ManifestFinding:
    """A violation of a rule by an object; ``path`` leads to the place inside the object."""

    rule: ManifestRule
    message: str
    place: FilePosition
    path: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""


def check(
    manifests: Sequence[Manifest],
    tenant: Tenant | None = None,
    max_findings: int = FILE_LIMITS.findings,
) -> list[ManifestFinding]:
    """Return what is wrong with the objects, in the order of the files.

    With a tenant, whose scope must be open, everything must stay in its namespace. Without one the
    Namespace objects among the manifests are the tenants, and no database is asked. Raises TooLarge
    for more than ``max_findings``: an error could be among those that nobody looked for.
    """
    objects = [manifest for manifest in manifests if manifest.is_object]
    tenancy = DeclaredTenants(objects) if tenant is None else OneTenant(tenant)
    checker = _Checker(tenancy, objects)
    found: dict[
        tuple[str, FilePosition, str], ManifestFinding
    ] = {}  # aliases repeat values, and each finding is listed once
    files: dict[str, int] = {}
    for manifest in manifests:
        files.setdefault(manifest.file, len(files))
        for one in checker.findings(manifest):
            found.setdefault((one.rule.id, one.place, one.message), one)
            if len(found) > max_findings:
                words = (
                    f"There is more than {max_findings:,} times something wrong; check it in parts."
                )
                raise TooLarge(words, one.place)
    return sorted(
        found.values(), key=lambda one: (files[one.place.file], one.place, one.rule.id, one.message)
    )


# --- whose namespaces ----------------------------------------------------------------------

#: Cluster-scoped kinds: Kubernetes' own, and those of widespread operators.
CLUSTER_WIDE_KINDS = frozenset(
    {
        *("Namespace", "Node", "PersistentVolume", "ComponentStatus", "CustomResourceDefinition"),
        *("ClusterRole", "ClusterRoleBinding", "APIService", "PriorityClass", "StorageClass"),
        *("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "RuntimeClass"),
        *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "IngressClass"),
        *("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "VolumeAttachment"),
        *("CSIDriver", "CSINode", "VolumeAttributesClass", "FlowSchema", "DeviceClass"),
        *("PriorityLevelConfiguration", "CertificateSigningRequest", "ClusterTrustBundle"),
        *("ResourceSlice", "DeviceTaintRule", "IPAddress", "ServiceCIDR", "PodSecurityPolicy"),
        *("StorageVersion", "StorageVersionMigration", "TokenReview", "SubjectAccessReview"),
        *("SelfSubjectAccessReview", "SelfSubjectReview", "SelfSubjectRulesReview"),
        *("AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"),
        *("CiliumClusterwideNetworkPolicy", "GlobalNetworkPolicy", "GatewayClass"),
        *("VolumeSnapshotClass", "VolumeSnapshotContent", "ClusterIssuer", "ClusterSecretStore"),
        *("ClusterExternalSecret", "ClusterPolicy", "ClusterQueue", "ClusterServingRuntime"),
        *("ClusterTrainingRuntime", "ClusterStorageContainer", "NodePool", "NodeClaim"),
    }
)
#: Namespaces that belong to the cluster itself, never to a tenant.
SYSTEM_NAMESPACES = frozenset({"default", "kube-system", "kube-public", "kube-node-lease"})


def is_system(namespace: str) -> bool:
    """Tell whether a namespace is the cluster's own."""
    return namespace in SYSTEM_NAMESPACES or namespace.startswith(RESERVED_PREFIXES)


def is_namespace(manifest: Manifest) -> bool:
    """Tell whether the object is a Namespace."""
    return manifest.kind == "Namespace" and not manifest.group


class Tenancy(Protocol):
    """Tells which namespaces belong to which tenant."""

    #: Whether the cluster refuses pods without the tenant's label.
    pods_need_label: bool

    def placed(self, manifest: Manifest) -> Violations:
        """Yield what is wrong with where the object lies."""

    def home(self, manifest: Manifest) -> frozenset[str] | None:
        """Return the namespaces of the object's tenant; None where it cannot be told."""

    def labels(self, manifest: Manifest) -> dict[str, list[str]]:
        """Return the values that each tenant label may have on the object."""

    def models(self, manifest: Manifest) -> Violations:
        """Yield what is wrong with the models that the object uses."""


class OneTenant:
    """The manifests are one tenant's, which has one namespace.

    What is said depends on the manifests and on the tenant's own data alone, so it tells nothing of
    other tenants.
    """

    pods_need_label = True
    #: At most this many models are looked up in one check: each costs a query.
    MAX_MODELS = 500

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._home = frozenset({tenant.namespace})
        self._verdicts: dict[Reference, Verdict] = {}

    def placed(self, manifest: Manifest) -> Violations:
        """Yield what is wrong with where the object lies."""
        slug, own = self._tenant.slug, self._tenant.namespace
        if is_namespace(manifest):
            if manifest.name != own:
                words = f"is not the namespace of {slug}, which is {own}"
                yield Violation("BH107", ("metadata", "name"), words)
            yield from pods.pod_security(manifest)
        elif manifest.kind in CLUSTER_WIDE_KINDS:
            if manifest.kind != "ClusterRoleBinding":  # BH106 says more
                yield Violation(
                    "BH105", ("kind",), "is the whole cluster's, and lies in no namespace"
                )
        elif not manifest.namespace:
            words = f"names no namespace, so it lands in any; write namespace: {own}"
            yield Violation("BH103", ("metadata",), words)
        elif manifest.namespace != own:
            words = (
                f"is placed in namespace {shown(manifest.namespace)}, and the namespace of {slug} "
                f"is {own}"
            )
            yield Violation("BH101", ("metadata", "namespace"), words)

    def home(self, manifest: Manifest) -> frozenset[str] | None:
        """Return the tenant's namespace."""
        return self._home

    def labels(self, manifest: Manifest) -> dict[str, list[str]]:
        """Return the tenant's labels, as the namespace has them."""
        label = settings.KUBERNETES.label
        return {label("tenant"): [self._tenant.slug], label("tenant-id"): [str(self._tenant.pk)]}

    def models(self, manifest: Manifest) -> Violations:
        """Yield what the registry says of the models; each is asked for once."""
        for reference in references.models_in(manifest):
            asked = replace(reference, path=())
            if asked not in self._verdicts:
                if len(self._verdicts) >= self.MAX_MODELS:
                    words = (
                        f"names more models than the {self.MAX_MODELS} that are looked up at once"
                    )
                    yield Violation("BH601", reference.path, words)
                    return
                self._verdicts[asked] = workloads.verdict_on(asked)
            if (problem := self._verdicts[asked].problem) is not None:
                yield Violation("BH601", reference.path, f"uses a model it cannot have: {problem}")


class DeclaredTenants:
    """The manifests' own Namespace objects are the tenants.

    Namespaces with the same tenant's label are one tenant's; the cluster's own are nobody's.
    """

    pods_need_label = False

    def __init__(self, manifests: Sequence[Manifest]) -> None:
        self._label = settings.KUBERNETES.label("tenant")
        self._owners: dict[str, str] = {}
        self._namespaces: dict[str, list[str]] = defaultdict(list)
        for manifest in manifests:
            if is_namespace(manifest) and manifest.name and not is_system(manifest.name):
                tenant = text_of(manifest.get("metadata", "labels", self._label))
                self._owners[manifest.name] = tenant or manifest.name
        for namespace, owner in self._owners.items():
            self._namespaces[owner].append(namespace)
        self._declared = listed(self._owners)
        self._limited = {
            manifest.namespace for manifest in manifests if manifest.kind == "ResourceQuota"
        }
        self._cluster_wide = {
            (text_of(manifest.get("spec", "group")), text_of(manifest.get("spec", "names", "kind")))
            for manifest in manifests
            if manifest.kind == "CustomResourceDefinition"
            and manifest.get("spec", "scope") == "Cluster"
        }

    def placed(self, manifest: Manifest) -> Violations:
        """Yield what is wrong with where the object lies."""
        namespace = manifest.namespace
        if is_namespace(manifest) and self._is_unlimited(manifest.name):
            yield Violation("BH111", ("metadata", "name"), "has no ResourceQuota here")
        if is_namespace(manifest) or (not namespace and self._is_cluster_wide(manifest)):
            return
        if not namespace:
            yield Violation("BH103", ("metadata",), "names no namespace, so it lands in any")
        elif is_system(namespace):
            words = f"is placed in namespace {shown(namespace)}, which is the cluster's own"
            yield Violation("BH102", ("metadata", "namespace"), f"{words} and belongs to no tenant")
        elif namespace not in self._owners:
            words = (
                f"is placed in namespace {shown(namespace)}, which no Namespace object here "
                f"declares (declared: {self._declared})"
            )
            yield Violation("BH102", ("metadata", "namespace"), words)
        else:
            yield from self._by_name(manifest)

    def _is_unlimited(self, namespace: str) -> bool:
        return namespace in self._owners and namespace not in self._limited

    def _by_name(self, manifest: Manifest) -> Violations:
        """Yield an object that by its name is another tenant's, unless its label says no."""
        namespace, name = manifest.namespace, manifest.name[:254]
        starts = (name[: dash.start()] for dash in re.finditer("-", name))
        named = next((start for start in reversed([*starts]) if start in self._owners), namespace)
        label = manifest.get("metadata", "labels", self._label)
        owner = self._owners[namespace]
        if self._owners[named] != owner and label not in (owner, namespace):
            words = (
                f"is placed in namespace {shown(namespace)}, and by its name it belongs to "
                f"{shown(named)}; label it {self._label}: {shown(owner)} if it does belong to "
                f"{shown(namespace)}"
            )
            yield Violation("BH101", ("metadata", "namespace"), words)

    def _is_cluster_wide(self, manifest: Manifest) -> bool:
        known = manifest.kind in CLUSTER_WIDE_KINDS
        return known or (manifest.group, manifest.kind) in self._cluster_wide

    def home(self, manifest: Manifest) -> frozenset[str] | None:
        """Return all namespaces of the object's tenant; for a PersistentVolume, of all tenants."""
        if manifest.namespace:
            owner = self._owners.get(manifest.namespace)
            return frozenset({manifest.namespace, *self._namespaces.get(owner or "", ())})
        return frozenset(self._owners) if manifest.kind == "PersistentVolume" else None

    def labels(self, manifest: Manifest) -> dict[str, list[str]]:
        """Return the label that the namespace has, or else its name."""
        owner = self._owners.get(manifest.namespace)
        return {self._label: [owner, manifest.namespace]} if owner else {}

    def models(self, manifest: Manifest) -> Violations:
        """Yield nothing: without a tenant nobody is there to use a model."""
        yield from ()


# --- the check of one object among others ----------------------------------------------------


class _Checker:
    """Checks objects, and knows what else is among the manifests."""

    def __init__(self, tenancy: Tenancy, manifests: Sequence[Manifest]) -> None:
        self._tenancy = tenancy
        #: Objects that pods can use, by kind and name: the position of each, by namespace.
        self._declared: dict[tuple[str, str], dict[str, FilePosition]] = defaultdict(dict)
        #: RoleBindings of each service account (namespace, name): the position, by namespace. At
        #: most one more than a message lists.
        self._bound: dict[tuple[str, str], dict[str, FilePosition]] = defaultdict(dict)
        for manifest in manifests:
            if manifest.kind in references.REFERENCED_KINDS and not manifest.group:
                there = self._declared[manifest.kind, manifest.name]
                there.setdefault(manifest.namespace, manifest.place())
            for path, account in access.bound_accounts(manifest):
                bound = self._bound[account]
                if len(bound) <= MAX_LISTED_NAMES:
                    bound.setdefault(manifest.namespace, manifest.place(path))

    def findings(self, manifest: Manifest) -> Iterator[ManifestFinding]:
        """Yield what is wrong with one object."""
        subject = "The document"
        hits = iter(
            [Violation("BH100", (), "is no Kubernetes object: it has no apiVersion and kind")]
        )
        if manifest.is_object:
            subject = f"{shown(manifest.kind)} {shown(manifest.name) or 'without a name'}"
            hits = self._hits(manifest)
        for hit in hits:
            yield ManifestFinding(
                RULES[hit.rule],
                f"{subject} {hit.words}.",
                manifest.place(hit.path),
                as_text(hit.path),
                shown(manifest.kind),
                shown(manifest.name),
                shown(manifest.namespace),
            )

    def _hits(self, manifest: Manifest) -> Violations:
        if manifest.group == "kustomize.config.k8s.io":
            yield Violation(
                "BH110", ("kind",), "changes what other files say, and is not followed here"
            )
            return
        yield from self._tenancy.placed(manifest)
        yield from self._labels(manifest)
        home = self._tenancy.home(manifest)
        yield from kinds.BY_KIND.get((manifest.group, manifest.kind), kinds.nothing)(manifest, home)
        yield from access.binding(manifest)
        specs = [*pods.pod_specs(manifest)]
        for path, spec in specs:
            yield from self._pod(manifest, home, path, spec)
        yield from pods.parts_of_pods(manifest)
        if home is not None:
            yield from self._subjects(manifest, home)
            yield from references.references(manifest, home)
            yield from references.copies(manifest, home)
            yield from self._uses(manifest, home, specs)
        yield from self._tenancy.models(manifest)

    def _labels(self, manifest: Manifest) -> Violations:
        """Yield tenant labels with another tenant's value, on the object and on its pods."""
        wanted = self._tenancy.labels(manifest)
        places = dict.fromkeys(
            [
                (),
                *(path for path, _ in templates_of(manifest.value)),
                *pods.other_templates(manifest),
            ]
        )
        for label, values in wanted.items():
            for path in places:
                value = manifest.get(*path, "metadata", "labels", label)
                if value is not None and value not in values:
                    words = f"carries the label {label}: {shown(value)}, and its namespace's is "
                    where = (*path, "metadata", "labels", label)
                    yield Violation("BH104", where, f"{words}{shown(values[0])}")
        if self._tenancy.pods_need_label:
            yield from self._unlabelled(manifest)

    def _unlabelled(self, manifest: Manifest) -> Violations:
        label = settings.KUBERNETES.label("tenant")
        for path, template in templates_of(manifest.value):
            if get(template, "metadata", "labels", label) is None:
                what = "makes pods without" if path else "is without"
                wanted = self._tenancy.labels(manifest)[label][0]
                yield Violation("BH109", (*path, "metadata"), f"{what} the label {label}: {wanted}")

    def _pod(
        self, manifest: Manifest, home: frozenset[str] | None, path: Path, spec: Any
    ) -> Violations:
        yield from pods.node(spec, path)
        yield from pods.volumes(spec, path)
        yield from pods.tolerations(spec, path, self._tenancy.labels(manifest))
        yield from access.account_of_pod(spec, path)
        for place, container in containers_of(spec, path):
            yield from pods.container(place, container)
            if "ephemeralContainers" not in place:  # Kubernetes allows them no resources
                yield from pods.limits(spec, place, container)
            if home is not None:
                yield from network.addresses(place, container, home)

    def _subjects(self, manifest: Manifest, home: frozenset[str]) -> Violations:
        """Yield subjects of a RoleBinding that are not the tenant's."""
        teams = self._tenancy.labels(manifest).get(settings.KUBERNETES.label("tenant"), [])
        for path, subject in access.subjects_of(manifest):
            account = access.account_of(subject)
            if account is not None:
                if account[0] not in home:
                    words = f"binds service account {shown(account[1])} of namespace "
                    words += f"{shown(account[0])}{self._bound_elsewhere(account, manifest)}"
                    yield Violation("BH201", (*path, "name"), words)
            elif get(subject, "kind") in ("Group", "User"):
                yield from access.group(text_of(get(subject, "name")), (*path, "name"), home, teams)

    def _bound_elsewhere(self, account: tuple[str, str], manifest: Manifest) -> str:
        places = sorted(self._bound[account].items())
        others = [
            f"{shown(space)} ({place})" for space, place in places if space != manifest.namespace
        ]
        return f", which is bound in namespace {' and '.join(others)} too" if others else ""

    def _uses(self, manifest: Manifest, home: frozenset[str], specs: Specs) -> Violations:
        """Yield references to objects that are declared here only in another tenant's namespace."""
        for kind, name, path in references.used(manifest, specs):
            there = self._declared.get((kind, name), {})
            if there and not any(namespace in there for namespace in home):
                namespace, place = next(iter(there.items()))
                words = f"uses {kind} {shown(name)}, which is declared here only in namespace "
                yield Violation("BH302", path, f"{words}{shown(namespace) or 'none'} ({place})")
