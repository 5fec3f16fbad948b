"""What differs between a namespace as it is and as it should be, and who made it so.

All of this is told from objects alone, without a cluster. A server-side apply does not answer it:
keys that others add inside our objects survive it, forced or not, and a default-deny that somebody
gave a rule more would be wide open and yet "unchanged".
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from tenants.documents import Path, as_text, dict_of, list_of, mappings_of
from tenants.kubernetes import quantities
from tenants.kubernetes.bundle.objects import Object
from tenants.kubernetes.names import FIELD_MANAGER, MANAGED_BY
from tenants.kubernetes.sync.client import ClusterApiError
from tenants.kubernetes.workloads import containers_of
from tenants.text import clean

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"

#: Keys that are never compared: the identity of an object, and its status.
NEVER_COMPARED = frozenset({"apiVersion", "kind", "metadata", "status"})
#: Keys that the cluster or the team may set in our objects of a kind.
SET_BY_OTHERS = {
    "Namespace": frozenset({"spec"}),
    "ServiceAccount": frozenset({"secrets", "imagePullSecrets"}),
}
#: Kinds whose texts are quantities. A cluster keeps one spelling of each: 1024Gi becomes 1Ti.
KINDS_WITH_QUANTITIES = frozenset({"ResourceQuota", "LimitRange"})
#: Kinds whose objects add up: one that is not ours can allow what ours forbid.
ADDITIVE_KINDS = frozenset({"RoleBinding", "NetworkPolicy"})


def differences(wanted: Object, live: Object, prefix: str) -> list[Path]:
    """Return the fields in which the live object differs from the wanted one.

    That includes what is in it beside the wanted. Labels and annotations are others' to add, except
    those that begin with our ``prefix``.
    """
    aside = NEVER_COMPARED | SET_BY_OTHERS.get(wanted["kind"], frozenset())
    has_quantities = wanted["kind"] in KINDS_WITH_QUANTITIES
    found: list[Path] = []
    for part in ("labels", "annotations"):
        ours, theirs = (dict_of(obj["metadata"].get(part)) for obj in (wanted, live))
        for key in sorted({*ours, *(key for key in theirs if key.startswith(f"{prefix}/"))}):
            if ours.get(key) != theirs.get(key):
                found.append(("metadata", part, key))
    ours, theirs = (
        _normal({key: obj[key] for key in obj if key not in aside}, has_quantities)
        for obj in (wanted, live)
    )
    return [*found, *_differ((), ours, theirs)]


def _differ(path: Path, wanted: Any, live: Any) -> Iterator[Path]:
    if isinstance(wanted, dict) and isinstance(live, dict):
        for key in sorted({*wanted, *live}):
            yield from _differ((*path, key), wanted.get(key), live.get(key))
    elif wanted != live:
        yield path


def _normal(value: Any, has_quantities: bool) -> Any:
    """Return the value in a normal form, in which equivalent values are equal.

    A server leaves empty lists out. An empty object is something else than none: as a peer of a
    NetworkPolicy, for one, it chooses everything.
    """
    if isinstance(value, dict):
        inner = {key: _normal(entry, has_quantities) for key, entry in value.items()}
        return {key: entry for key, entry in inner.items() if entry not in ([], None)}
    if isinstance(value, list):
        return [_normal(entry, has_quantities) for entry in value]
    if has_quantities and isinstance(value, str):
        with suppress(ValueError):
            return quantities.parse(value)
    return value


def manager_of(live: Object, path: Path) -> str:
    """Return the latest manager of a field other than Bulkhead; empty if there is none."""
    owners = [
        (str(entry.get("time", "")), str(entry.get("manager", "")))
        for entry in _managers(live)
        if entry.get("manager") != FIELD_MANAGER and _holds(entry.get("fieldsV1"), path)
    ]
    return max(owners, default=("", ""))[1]


def maker_of(live: Object) -> str:
    """Return the first manager of the object; empty if it names none."""
    makers = [
        (str(entry.get("time", "")), str(entry.get("manager", "")))
        for entry in _managers(live)
        if not entry.get("subresource")
    ]
    return min(makers, default=("", ""))[1]


def _managers(live: Object) -> list[Object]:
    """Return the entries of ``managedFields``: who manages which fields of the object."""
    return [entry for _, entry in mappings_of(live["metadata"].get("managedFields"), ())]


def _holds(fields: Any, path: Path) -> bool:
    for key in path:
        fields = dict_of(fields).get(f"f:{key}")
        if fields is None:
            return False
    return True


def culprits(
    live: Object, paths: Iterable[Path], error: ClusterApiError | None
) -> list[dict[str, str]]:
    """Return the fields that differ with who manages them, as the state keeps them.

    ``error`` is the refusal of an apply without force, which names managers. It may name fields
    more, in which nothing differs: for a server, to say that a list is empty is another value than
    not to say so. A field that Bulkhead wrote in another way than by applying is nobody's fault.
    """
    named = {cause.field: cause.manager for cause in (error.conflicts if error else ())}
    found = []
    for path in paths:
        # A conflict names a field with a dot before each key, also where the key has dots itself.
        manager = manager_of(live, path) or named.get("".join(f".{key}" for key in path), "")
        found.append(_field(as_text(path), "" if manager == FIELD_MANAGER else manager))
    return found


def _field(field: str, manager: str) -> dict[str, str]:
    made = {"field": clean(field)}
    return {**made, "manager": clean(manager)} if manager else made


def is_unchanged(before: Object, after: Object) -> bool:
    """Tell whether an apply changed nothing but what every write changes."""
    return _kept(before) == _kept(after)


def _kept(obj: Object) -> Object:
    # Applying an empty list raises the generation, although the stored object has no such list.
    counted = ("resourceVersion", "generation")
    metadata = {key: value for key, value in obj["metadata"].items() if key not in counted}
    entries = list_of(metadata.pop("managedFields", None))
    owned = [{key: value for key, value in entry.items() if key != "time"} for entry in entries]
    owners = sorted(json.dumps(entry, sort_keys=True) for entry in owned)
    rest = {key: value for key, value in obj.items() if key not in ("metadata", "status")}
    return {**rest, "metadata": metadata, "owners": owners}


def corrected(wanted: Object, live: Object, prefix: str) -> Object:
    """Return the replacement of the live object: our fields, and those that are others' to set."""
    metadata = {key: value for key, value in live["metadata"].items() if key != "managedFields"}
    for part in ("labels", "annotations"):
        theirs = dict_of(metadata.get(part))
        kept = {key: value for key, value in theirs.items() if not key.startswith(f"{prefix}/")}
        metadata[part] = {**kept, **wanted["metadata"].get(part, {})}
    others = SET_BY_OTHERS.get(wanted["kind"], frozenset())
    return {
        **{key: live[key] for key in others if key in live},
        **{key: value for key, value in wanted.items() if key != "metadata"},
        "metadata": metadata,
    }


def is_leaving(live: Object) -> bool:
    """Tell whether a namespace is being deleted."""
    return "deletionTimestamp" in live["metadata"] or (
        dict_of(live.get("status")).get("phase") == "Terminating"
    )


def belongs_to(live: Object, namespace: Object, id_label: str) -> bool:
    """Tell whether a live object has the labels of the tenant whose namespace is ``namespace``.

    A namespace that has not is somebody else's, whatever its name is.
    """
    ours, theirs = namespace["metadata"]["labels"], dict_of(live["metadata"].get("labels"))
    return theirs.get(MANAGED_BY_LABEL) == MANAGED_BY and theirs.get(id_label) == ours[id_label]


def was_applied(live: Object) -> bool:
    """Tell whether Bulkhead itself made the object: a copy has its labels, but not its manager."""
    return any(
        entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply"
        for entry in _managers(live)
    )


def quota_use(quotas: Iterable[Object]) -> dict[str, dict[str, str]]:
    """Return limit and usage of each resource that the cluster counted for these quotas."""
    found = {}
    for quota in quotas:
        status = dict_of(quota.get("status"))
        used = dict_of(status.get("used"))
        for resource, hard in dict_of(status.get("hard")).items():
            if resource in used:
                found[clean(resource)] = {"hard": clean(hard), "used": clean(used[resource])}
    return found


def problems_of_pods(pods: Iterable[Object], label: str, slug: str) -> list[dict[str, str]]:
    """Return the running pods that are not labelled as the tenant's, or that have no limits.

    Admission refuses such pods; these were there before, or came while it was away. A label's other
    value is not repeated: it may be another tenant's name.
    """
    found = []
    for pod in pods:
        if dict_of(pod.get("status")).get("phase") in ("Succeeded", "Failed"):
            continue
        labels = dict_of(pod["metadata"].get("labels"))
        problems = [] if labels.get(label) == slug else [_mislabelled(label, label in labels)]
        problems += _unlimited(pod)
        name = clean(pod["metadata"]["name"])
        found += [{"kind": "Pod", "name": name, "problem": clean(text)} for text in problems]
    return found


def _mislabelled(label: str, has_one: bool) -> str:
    if has_one:
        return f"Its label {label} names another tenant than this namespace's."
    return f"It has no label {label}."


def _unlimited(pod: Object) -> Iterator[str]:
    for path, container in containers_of(pod.get("spec"), ()):
        if path[0] == "ephemeralContainers":  # Kubernetes allows them no resources
            continue
        limits = dict_of(dict_of(container.get("resources")).get("limits"))
        missing = [resource for resource in ("cpu", "memory") if resource not in limits]
        if missing:
            yield f"Its container {container.get('name')} has no limit of {' and '.join(missing)}."
