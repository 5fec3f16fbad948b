"""What runs pods, and which models those pods say they use.

One question, ``problems_of``, is asked of a manifest, of an admission request and of what already
runs. Only the registry knows models, so it answers for them: see ``judges``.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings

#: The way from an object or a list to a value in it: keys and places.
Path = tuple[str | int, ...]

#: Where each kind that makes pods keeps their template; a Pod is its own.
TEMPLATES: dict[str, Path] = {
    "Pod": (),
    "PodTemplate": ("template",),
    "ReplicationController": ("spec", "template"),
    "Deployment": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
CONTAINERS = ("initContainers", "containers", "ephemeralContainers")

#: The annotations by which a workload says which model it serves; on it or on its pods.
MODEL, VERSION = "registered-model", "model-version"
#: ``models:/name/3``, ``models:/name@champion`` inside a longer text.
MODEL_URI = re.compile(r"models:/+[^\s\"'`,;<>|&)}\]]+")


@dataclass(frozen=True, slots=True)
class Reference:
    """A model that a workload says it uses: a name and a version's number, or a ``models:/`` URI.

    ``path`` leads to the place in the object.
    """

    path: Path
    model: str
    version: str = ""
    uri: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at a place in an object, in words for people."""

    path: Path
    message: str


#: Each says of a reference, in the acting tenant's scope, what is wrong with it, or None. They must
#: say the same of another tenant's model as of none.
judges: list[Callable[[Reference], str | None]] = []


def problems_of(obj: Any) -> list[Problem]:
    """Return what is wrong with the models that ``obj`` uses, for the acting tenant."""
    return [
        Problem(reference.path, problem)
        for reference in references_of(obj)
        for judge in judges
        if (problem := judge(reference)) is not None
    ]


def references_of(obj: Any) -> list[Reference]:
    """Return the models that the object and its pods name, each place once."""
    found = [*_annotated(obj, ())]
    for path, template in templates_of(obj):
        if path:
            found += _annotated(template, path)
        found += _in_texts(_get(template, "spec"), (*path, "spec"))
    return found


def templates_of(obj: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the pod or the pod template of an object, with the way to it."""
    path = TEMPLATES.get(str(_get(obj, "kind")))
    if path is None:
        return
    template = obj
    for key in path:
        template = _get(template, key)
    if isinstance(template, dict):
        yield path, template


def containers_of(spec: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each container of a pod's spec, with the way to it; also init and ephemeral ones."""
    for kind in CONTAINERS:
        containers = _get(spec, kind)
        for place, container in enumerate(containers if isinstance(containers, list) else []):
            if isinstance(container, dict):
                yield (*path, kind, place), container


def _annotated(obj: Any, path: Path) -> Iterator[Reference]:
    annotations = _get(_get(obj, "metadata"), "annotations")
    name = settings.KUBERNETES.label(MODEL)
    model = _get(annotations, name)
    if model is not None:
        version = _get(annotations, settings.KUBERNETES.label(VERSION))
        where = (*path, "metadata", "annotations", name)
        yield Reference(where, str(model), "" if version is None else str(version))


def _in_texts(value: Any, path: Path) -> Iterator[Reference]:
    if isinstance(value, str):
        # A whole text may hold a name with spaces in it; inside a longer one no end could be told.
        uris = [value] if value.startswith("models:/") else MODEL_URI.findall(value)
        for uri in uris:
            yield Reference(path, "", uri=uri)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _in_texts(inner, (*path, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _in_texts(inner, (*path, place))


def _get(obj: Any, key: str | int) -> Any:
    return obj.get(key) if isinstance(obj, dict) else None
