"""Rules about pods: what they take of their node, their containers, and the pods of a namespace."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings

from tenants.documents import Path, get, mappings_of, text_of
from tenants.kubernetes import quantities, workloads
from tenants.kubernetes.manifests.reader import Manifest
from tenants.kubernetes.manifests.rules.catalogue import Violation, Violations
from tenants.kubernetes.workloads import containers_of, templates_of
from tenants.text import shown

#: The pod specs of an object, each with its path.
Specs = Sequence[tuple[Path, Any]]
#: Fields of a pod's spec that share a namespace of its node, and what a message says of each.
HOST_NAMESPACES = {
    "hostNetwork": "uses its node's network",
    "hostPID": "sees the processes of its node",
    "hostIPC": "shares memory with its node",
}
#: The requests and limits that each container must have.
REQUIRED_RESOURCES = tuple(
    (kind, what) for kind in ("requests", "limits") for what in ("cpu", "memory")
)
#: Top-level keys of a custom resource that never hold a pod spec.
NEVER_POD_SPECS = frozenset({"metadata", "status"})


def is_foreign(manifest: Manifest) -> bool:
    """Tell whether the object is a custom resource, by its group: Volcano has a kind Job too."""
    return "." in manifest.group


def pod_specs(manifest: Manifest) -> Iterator[tuple[Path, Any]]:
    """Yield the pod specs in the object, each with its path; also in custom resources."""
    if is_foreign(manifest):
        for path, part in _parts(manifest):
            if any(_is_container(one) for _, one in containers_of(part, ())):
                yield path, part
    else:
        for path, template in templates_of(manifest.value):
            yield (*path, "spec"), get(template, "spec")


def _is_container(value: dict[str, Any]) -> bool:
    return "image" in value or "name" in value


def _parts(manifest: Manifest) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each mapping in an object with its path, except those inside of containers."""
    for key, value in manifest.value.items():
        if key not in NEVER_POD_SPECS:
            yield from _mappings_in(value, (key,))


def _mappings_in(value: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    if isinstance(value, list):
        for place, item in enumerate(value):
            yield from _mappings_in(item, (*path, place))
    elif isinstance(value, dict):
        yield path, value
        for key, inner in value.items():
            if key not in workloads.CONTAINER_LISTS or not isinstance(inner, list):
                yield from _mappings_in(inner, (*path, key))


def parts_of_pods(manifest: Manifest) -> Violations:
    """Yield what a custom resource takes of a node outside of pod specs, as workflows do."""
    if not is_foreign(manifest):
        return
    for path, part in _parts(manifest):
        for key, words in HOST_NAMESPACES.items():
            if part.get(key) is True:
                yield Violation("BH502", (*path, key), f"{words} ({key})")
        yield from volumes(part, path)
        if get(part, "securityContext", "privileged") is True:
            where = (*path, "securityContext", "privileged")
            yield Violation("BH504", where, "has a privileged container")


def other_templates(manifest: Manifest) -> Iterator[Path]:
    """Yield the paths to templates with labels other than pods': of jobs, and of volume claims."""
    if manifest.kind == "CronJob":
        yield ("spec", "jobTemplate")
    elif manifest.kind == "StatefulSet":
        claims = ("spec", "volumeClaimTemplates")
        yield from (path for path, _ in mappings_of(manifest.get(*claims), claims))


def node(spec: Any, path: Path) -> Violations:
    """Yield the namespaces, the placement and the credentials that a pod takes of its node."""
    for key, words in HOST_NAMESPACES.items():
        if _is_on(get(spec, key)):
            yield Violation("BH502", (*path, key), f"{words} ({key})")
    if _is_on(get(spec, "securityContext", "windowsOptions", "hostProcess")):
        where = (*path, "securityContext", "windowsOptions", "hostProcess")
        yield Violation("BH504", where, "runs as a process of its node (hostProcess)")
    if get(spec, "nodeName"):
        yield Violation("BH510", (*path, "nodeName"), "chooses its node by itself (nodeName)")
    priority = text_of(get(spec, "priorityClassName"))
    if priority.startswith("system-"):
        words = f"takes the cluster's own priority {shown(priority)}"
        yield Violation("BH510", (*path, "priorityClassName"), words)
    if get(spec, "automountServiceAccountToken") is not False:
        where = (*path, "automountServiceAccountToken")
        words = "gets its service account's token: automountServiceAccountToken is not false"
        yield Violation("BH508", where, words)


def _is_on(value: Any) -> bool:
    """Tell whether a flag is set; any value but null and false counts as set."""
    return value is not None and value is not False


def volumes(spec: Any, path: Path) -> Violations:
    """Yield the hostPath volumes of a pod."""
    for place, volume in mappings_of(get(spec, "volumes"), (*path, "volumes")):
        if "hostPath" in volume:
            words = f"mounts {shown(get(volume, 'hostPath', 'path') or 'a path')} of its node"
            yield Violation("BH501", (*place, "hostPath"), f"{words} (hostPath)")


def node_volume(manifest: Manifest, home: frozenset[str] | None) -> Violations:
    """Yield a PersistentVolume that is a hostPath."""
    if manifest.get("spec", "hostPath") is not None:
        yield Violation("BH501", ("spec", "hostPath"), "is a path of a node (hostPath)")


def tolerations(spec: Any, path: Path, labels: dict[str, list[str]]) -> Violations:
    """Yield tolerations by which a pod gets onto nodes that are kept for others."""
    for place, toleration in mappings_of(get(spec, "tolerations"), (*path, "tolerations")):
        key, value = text_of(toleration.get("key")), toleration.get("value")
        if not key:
            yield Violation("BH510", place, "tolerates every taint")
        elif key.startswith("node-role.kubernetes.io/"):
            yield Violation("BH510", place, f"goes to nodes of the cluster's own ({shown(key)})")
        elif key in labels and value not in labels[key]:
            yield Violation("BH510", place, f"goes to nodes of other tenants ({shown(key)})")


def container(path: Path, spec: dict[str, Any]) -> Violations:
    """Yield the host ports, privileges and capabilities of a container."""
    who = f"container {shown(spec.get('name') or 'without a name')}"
    for place, port in mappings_of(spec.get("ports"), (*path, "ports")):
        if port.get("hostPort"):
            words = f"takes port {shown(port['hostPort'])} of its node for {who}"
            yield Violation("BH503", (*place, "hostPort"), words)
    context, where = spec.get("securityContext"), (*path, "securityContext")
    if _is_on(get(context, "privileged")):
        yield Violation("BH504", (*where, "privileged"), f"has the privileged {who}")
    if _is_on(get(context, "windowsOptions", "hostProcess")):
        place = (*where, "windowsOptions", "hostProcess")
        yield Violation("BH504", place, f"runs {who} as a process of its node (hostProcess)")
    if get(context, "procMount") not in (None, "Default"):
        yield Violation("BH506", (*where, "procMount"), f"unmasks /proc in {who} (procMount)")
    if get(context, "allowPrivilegeEscalation") is not False:
        words = f"lets {who} gain privileges: allowPrivilegeEscalation is not false"
        yield Violation("BH507", (*where, "allowPrivilegeEscalation"), words)
    added = get(context, "capabilities", "add")
    for number, name in enumerate(added if isinstance(added, list) else ()):
        if name != "NET_BIND_SERVICE":
            words = f"gives {who} the capability {shown(name)}"
            yield Violation("BH505", (*where, "capabilities", "add", number), words)


def limits(spec: Any, path: Path, container: dict[str, Any]) -> Violations:
    """Yield missing requests and limits; a limit without a request counts as both."""
    own, of_pod = container.get("resources"), get(spec, "resources")
    missing = [
        f"{what} {kind[:-1]}"
        for kind, what in REQUIRED_RESOURCES
        if not any(
            _amount(get(resources, given, what))
            for resources in (own, of_pod)
            for given in {kind, "limits"}
        )
    ]
    if missing:
        who = shown(container.get("name") or "without a name")
        words = f"has container {who} with no {', no '.join(missing)}"
        yield Violation("BH509", (*path, "resources"), words)


def _amount(value: Any) -> bool:
    """Tell whether a quantity is above 0: Kubernetes takes 0 for no limit."""
    try:
        return quantities.parse(str(value)) > 0
    except ValueError:
        return False


def pod_security(manifest: Manifest) -> Violations:
    """Yield Pod Security labels other than `restricted`, or of an older release."""
    for mode in ("enforce", "audit", "warn"):
        label = f"pod-security.kubernetes.io/{mode}"
        path = ("metadata", "labels", label)
        standard = manifest.get(*path)
        if standard is not None and standard != "restricted":
            yield Violation(
                "BH108", path, f"asks for the Pod Security standard {shown(standard)} ({mode})"
            )
        path = ("metadata", "labels", f"{label}-version")
        release = manifest.get(*path)
        if release is not None and _is_older(text_of(release), settings.KUBERNETES.pod_security):
            words = f"asks for the Pod Security standard of release {shown(release)} ({mode})"
            yield Violation("BH108", path, words)


def _is_older(release: str, than: str) -> bool:
    """Tell whether a release is older than another; a text that is no release is."""
    found, known = (re.fullmatch(r"v1\.([0-9]{1,4})", text) for text in (release, than))
    return release != "latest" and not (found and known and int(found[1]) >= int(known[1]))
