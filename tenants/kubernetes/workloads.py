"""What runs pods, and which models those pods say they use.

One question, ``judged``, is asked of a manifest, of an admission request and of what already
runs. Only the registry knows models, so it answers for them: see ``judges``.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from tenants.documents import Path, as_text, get, strings_in
from tenants.text import shortened

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
#: ``models:/name/3``, ``models:/name@champion`` inside a longer text; clients read any case.
MODEL_URI = re.compile(r"models:/+[^\s\"'`,;<>|&)}\]]+", re.IGNORECASE)
#: As many places in one object may name a model; each other model is a look into the registry.
MOST_REFERENCES = 50


#: At most this many characters of the path to a problem are written: keys can be of any length.
MAX_PATH_CHARS = 300


@dataclass(frozen=True, slots=True)
class Reference:
    """A model that a workload says it uses: a name and a version's number, or a ``models:/`` URI.

    ``path`` leads to the place in the object.
    """

    path: Path
    model: str
    version: str = ""
    uri: str = ""

    @property
    def named(self) -> tuple[str, str, str]:
        """What it names, wherever that stands."""
        return self.model, self.version, self.uri


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at a place in an object, in words for people."""

    path: Path
    message: str

    def __str__(self) -> str:
        place = as_text(self.path).removeprefix(".")
        return f"{shortened(place, MAX_PATH_CHARS)}: {self.message}"


#: Each says of a reference, in the acting tenant's scope, what is wrong with it, or None. They must
#: say the same of another tenant's model as of none.
judges: list[Callable[[Reference], str | None]] = []


#: What was said of what references name; kept for as long as a few objects are looked at.
Verdicts = dict[tuple[str, str, str], list[str]]


def judged(references: Iterable[Reference], verdicts: Verdicts) -> list[Problem]:
    """Return what is wrong with ``references``, for the acting tenant.

    What several of them name is looked up once, also where ``verdicts`` come from another call in
    the same scope. Where there are too many, that alone is wrong and nothing is looked up.
    """
    found = list(references)
    if len(found) > MOST_REFERENCES:
        many = f"More than {MOST_REFERENCES} places name a model: nobody can check so many."
        return [Problem(found[MOST_REFERENCES].path, many)]
    problems = []
    for reference in found:
        if reference.named not in verdicts:
            said = [judge(reference) for judge in judges]
            verdicts[reference.named] = [problem for problem in said if problem is not None]
        problems += [Problem(reference.path, said) for said in verdicts[reference.named]]
    return problems


def references_of(obj: Any) -> list[Reference]:
    """Return the models that the object and its pods name, each place once."""
    found = [*_annotated(obj, ())]
    for path, template in templates_of(obj):
        if path:
            found += _annotated(template, path)
        found += references_in(get(template, "spec"), (*path, "spec"))
    return found


def templates_of(obj: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the pod or the pod template of an object, with the way to it."""
    path = TEMPLATES.get(str(get(obj, "kind")))
    if path is None:
        return
    template = obj
    for key in path:
        template = get(template, key)
    if isinstance(template, dict):
        yield path, template


def containers_of(spec: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each container of a pod's spec, with the way to it; also init and ephemeral ones."""
    for kind in CONTAINERS:
        containers = get(spec, kind)
        for place, container in enumerate(containers if isinstance(containers, list) else []):
            if isinstance(container, dict):
                yield (*path, kind, place), container


def _annotated(obj: Any, path: Path) -> Iterator[Reference]:
    annotations = get(get(obj, "metadata"), "annotations")
    name = settings.KUBERNETES.label(MODEL)
    model = get(annotations, name)
    if model is not None:
        version = get(annotations, settings.KUBERNETES.label(VERSION))
        where = (*path, "metadata", "annotations", name)
        yield Reference(where, str(model), "" if version is None else str(version))


def references_in(value: Any, path: Path) -> Iterator[Reference]:
    """Yield the models that texts inside a value name by ``models:/``."""
    for place, text in strings_in(value, path):
        # A whole text may hold a name with spaces in it; inside a longer one no end could be told.
        uris = [text] if text.lower().startswith("models:/") else MODEL_URI.findall(text)
        for uri in uris:
            yield Reference(place, "", uri=uri)
