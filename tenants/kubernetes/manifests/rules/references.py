"""Rules about references: to other namespaces and their objects, and to models."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings

from tenants.documents import Path, get, mappings_of, strings_in, text_of
from tenants.kubernetes import workloads
from tenants.kubernetes.manifests.reader import Manifest
from tenants.kubernetes.manifests.rules import network
from tenants.kubernetes.manifests.rules.access import BINDINGS
from tenants.kubernetes.manifests.rules.catalogue import Violation, Violations
from tenants.kubernetes.manifests.rules.pods import NEVER_POD_SPECS, Specs, is_foreign
from tenants.kubernetes.workloads import containers_of
from tenants.text import shown

#: Kinds that pods refer to by name.
REFERENCED_KINDS = ("ConfigMap", "Secret", "PersistentVolumeClaim", "ServiceAccount")
#: Mappings whose keys people choose freely, so that no key in them means a namespace.
FREE_FORM_MAPPINGS = frozenset({"annotations", "labels", "matchLabels", "nodeSelector"})
#: Annotations that make widespread controllers copy an object from `namespace/name`, or to others.
COPY_SOURCE_ANNOTATIONS = (
    "replicator.v1.mittwald.de/replicate-from",
    "reflector.v1.k8s.emberstack.com/reflects",
)
COPY_TARGET_ANNOTATIONS = (
    "replicator.v1.mittwald.de/replicate-to",
    "replicator.v1.mittwald.de/replication-allowed-namespaces",
    "reflector.v1.k8s.emberstack.com/reflection-allowed-namespaces",
    "reflector.v1.k8s.emberstack.com/reflection-auto-namespaces",
    "kubed.appscode.com/sync",
)
#: Annotations by which an Ingress refers to a secret, maybe as `namespace/name`.
SECRET_ANNOTATIONS = tuple(
    f"nginx.ingress.kubernetes.io/{key}"
    for key in ("auth-secret", "auth-tls-secret", "proxy-ssl-secret")
)


def references(manifest: Manifest, home: frozenset[str]) -> Violations:
    """Yield references to namespaces that are not the tenant's, in objects of any kind."""
    if manifest.kind in ("ConfigMap", "Secret") and not manifest.group:
        return  # their data are free texts, not references
    allowed = home
    if manifest.group == "gateway.networking.k8s.io":
        allowed |= {settings.KUBERNETES.gateway_namespace}
    skipped = {"metadata", "subjects"} if manifest.kind in BINDINGS else {"metadata"}
    for key, value in manifest.value.items():
        if key not in skipped and isinstance(value, dict | list):
            for path, namespace, what in _namespaces_in(value, (key,)):
                if namespace not in allowed:
                    words = f"refers to {what}namespace {shown(namespace)}"
                    yield Violation("BH301", path, f"{words}, which is not its tenant's")
            # network.policy reports open selectors of a NetworkPolicy, as BH401.
            if (manifest.group, manifest.kind) not in network.POLICIES:
                for path in _everywhere_in(value, (key,)):
                    yield Violation("BH301", path, "takes in namespaces that are not its tenant's")
    yield from _secrets_of_ingress(manifest, home)


def _secrets_of_ingress(manifest: Manifest, home: frozenset[str]) -> Violations:
    for key in SECRET_ANNOTATIONS:
        path = ("metadata", "annotations", key)
        namespace, slash, name = text_of(manifest.get(*path)).partition("/")
        if slash and namespace not in home:
            words = f"refers to Secret {shown(name)} in namespace {shown(namespace)}"
            yield Violation("BH301", path, f"{words}, which is not its tenant's")


def _namespaces_in(value: Any, path: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield each namespace named inside a value: its path, its name, and the object in it."""
    if isinstance(value, list):
        for place, item in enumerate(value):
            if isinstance(item, dict | list):
                yield from _namespaces_in(item, (*path, place))
        return
    for key, inner in value.items():
        if isinstance(inner, str):
            if inner and key.lower().endswith("namespace"):
                yield (*path, key), inner, _what(value)
        elif isinstance(inner, list) and (
            key == "matchNames" or key.lower().endswith("namespaces")
        ):
            for place, item in enumerate(inner):
                if isinstance(item, str) and item:
                    yield (*path, key, place), item, ""
                elif isinstance(item, dict | list):
                    yield from _namespaces_in(item, (*path, key, place))
        elif isinstance(inner, dict | list) and key not in FREE_FORM_MAPPINGS:
            yield from _namespaces_in(inner, (*path, key))


def _everywhere_in(value: Any, path: Path) -> Iterator[Path]:
    """Yield the path of each selector inside a value that selects all namespaces."""
    if isinstance(value, list):
        for place, item in enumerate(value):
            yield from _everywhere_in(item, (*path, place))
        return
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        selects = key.lower().endswith("namespaceselector")
        chooses = selects or key.lower().endswith("namespaces")
        if chooses and isinstance(inner, dict) and _is_everywhere(inner, selects):
            yield (*path, key)
        elif key not in FREE_FORM_MAPPINGS:
            yield from _everywhere_in(inner, (*path, key))


def _is_everywhere(choice: dict[str, Any], selects: bool) -> bool:
    """Tell whether all namespaces are selected, as an empty selector does."""
    if not choice:
        return selects
    return choice.get("any") is True or choice.get("from") in ("All", "Selector")


def _what(reference: dict[str, Any]) -> str:
    words = [shown(word) for key in ("kind", "name") if (word := text_of(reference.get(key)))]
    return f"{' '.join(words)} in " if words else ""


def copies(manifest: Manifest, home: frozenset[str]) -> Violations:
    """Yield annotations by which an object is copied from or to other namespaces."""
    annotations = manifest.get("metadata", "annotations")
    for key in COPY_SOURCE_ANNOTATIONS:
        source = text_of(get(annotations, key))
        if source and source.partition("/")[0] not in home:
            words = f"is a copy of {shown(source)}, which is not its tenant's"
            yield Violation("BH304", ("metadata", "annotations", key), words)
    for key in COPY_TARGET_ANNOTATIONS:
        targets = get(annotations, key)
        if targets is not None and not {part.strip() for part in str(targets).split(",")} <= home:
            words = f"lets itself be copied into other namespaces ({key})"
            yield Violation("BH304", ("metadata", "annotations", key), words)


#: Paths in a pod's spec and in a container to names of other objects; `*` is each item of a list.
POD_REFERENCES: tuple[tuple[str, Path], ...] = (
    ("ServiceAccount", ("serviceAccountName",)),
    ("ServiceAccount", ("serviceAccount",)),
    ("Secret", ("imagePullSecrets", "*", "name")),
    ("ConfigMap", ("volumes", "*", "configMap", "name")),
    ("Secret", ("volumes", "*", "secret", "secretName")),
    ("PersistentVolumeClaim", ("volumes", "*", "persistentVolumeClaim", "claimName")),
    ("ConfigMap", ("volumes", "*", "projected", "sources", "*", "configMap", "name")),
    ("Secret", ("volumes", "*", "projected", "sources", "*", "secret", "name")),
    ("Secret", ("volumes", "*", "csi", "nodePublishSecretRef", "name")),
)
CONTAINER_REFERENCES: tuple[tuple[str, Path], ...] = (
    ("ConfigMap", ("envFrom", "*", "configMapRef", "name")),
    ("Secret", ("envFrom", "*", "secretRef", "name")),
    ("ConfigMap", ("env", "*", "valueFrom", "configMapKeyRef", "name")),
    ("Secret", ("env", "*", "valueFrom", "secretKeyRef", "name")),
)


def used(manifest: Manifest, specs: Specs) -> Iterator[tuple[str, str, Path]]:
    """Yield kind, name and path of each reference to an object of the same namespace."""
    for path, spec in specs:
        yield from _used_by_pod(spec, path)
    if manifest.kind == "ServiceAccount":
        for key in ("secrets", "imagePullSecrets"):
            yield from _named("Secret", manifest.value, (), (key, "*", "name"))
    elif manifest.kind == "Ingress":
        yield from _named("Secret", manifest.value, (), ("spec", "tls", "*", "secretName"))


def _used_by_pod(spec: Any, path: Path) -> Iterator[tuple[str, str, Path]]:
    for kind, way in POD_REFERENCES:
        yield from _named(kind, spec, path, way)
    for place, container in containers_of(spec, path):
        for kind, way in CONTAINER_REFERENCES:
            yield from _named(kind, container, place, way)


def _named(kind: str, value: Any, path: Path, way: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield the names at a path; `*` in it stands for each item of a list."""
    for number, key in enumerate(way):
        if key == "*":
            for place, item in mappings_of(value, path):
                yield from _named(kind, item, place, way[number + 1 :])
            return
        value, path = get(value, key), (*path, key)
    if isinstance(value, str) and value:
        yield kind, value, path


def models_in(manifest: Manifest) -> Iterator[workloads.Reference]:
    """Yield the models that the object names for its pods, or in data that pods may read.

    A ConfigMap holds texts of all sorts, so there only a value that is nothing else is one.
    """
    yield from workloads.references_of(manifest.value)
    if is_foreign(manifest):
        for key, value in manifest.value.items():
            if key not in NEVER_POD_SPECS:
                yield from workloads.references_in(value, (key,))
    elif manifest.kind in ("ConfigMap", "Secret"):
        for part in ("data", "stringData"):
            for path, text in strings_in(manifest.get(part), (part,)):
                if workloads.MODEL_URI.fullmatch(text.strip()):
                    yield workloads.Reference(path, "", uri=text.strip())
