"""What runs pods, and which models those pods say they use.

One question, ``verdict_on``, is asked of a manifest, of an admission request and of what already
runs. Only the registry knows models, so it answers: see ``settings.MODEL_REFERENCES``.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from tenants.documents import Path, as_text, get, strings_in
from tenants.text import shortened

#: The path to the pod template in each kind that makes pods; a Pod is its own template.
TEMPLATE_PATHS: dict[str, Path] = {
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
CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")

#: Annotations of a workload or of its pods that say which model it serves, after our prefix.
MODEL_ANNOTATION, VERSION_ANNOTATION = "registered-model", "model-version"
#: A URI such as ``models:/name/3`` inside a longer text; clients take the scheme in any case.
MODEL_URI = re.compile(r"models:/+[^\s\"'`,;<>|&)}\]]+", re.IGNORECASE)
#: At most this many places in one object may name a model: each model costs a query.
MAX_REFERENCES = 50


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
        """The key of what it names, wherever it stands."""
        return self.model, self.version, self.uri


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem at a place in an object, in words for people."""

    path: Path
    message: str

    def __str__(self) -> str:
        place = as_text(self.path).removeprefix(".")
        return f"{shortened(place, MAX_PATH_CHARS)}: {self.message}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the registry says of a reference: what is wrong with it, None if nothing.

    ``alias`` is the alias by which it names the version, and so follows when that moves.
    """

    problem: str | None = None
    alias: str = ""


#: Verdicts by what references name; kept as long as the acting tenant's scope is open.
Verdicts = dict[tuple[str, str, str], Verdict]


def verdict_on(reference: Reference) -> Verdict:
    """Return whether the acting tenant's workloads may use the model that is named.

    The function that ``settings.MODEL_REFERENCES`` names answers: only the registry knows models,
    and this app knows no registry. It must say the same of another tenant's model as of none.
    """
    answer: Verdict = _loaded(settings.MODEL_REFERENCES)(reference)
    return answer


@cache
def _loaded(name: str) -> Callable[[Reference], Verdict]:
    found: Callable[[Reference], Verdict] = import_string(name)
    return found


def problems_with(references: Iterable[Reference], verdicts: Verdicts) -> list[Problem]:
    """Return what is wrong with ``references``, for the acting tenant.

    What several of them name is looked up once, also where ``verdicts`` come from another call in
    the same scope; those that are new are added. More than ``MAX_REFERENCES`` are one problem, and
    none of them is looked up.
    """
    found = list(references)
    if len(found) > MAX_REFERENCES:
        many = f"More than {MAX_REFERENCES} places name a model: nobody can check so many."
        return [Problem(found[MAX_REFERENCES].path, many)]
    problems = []
    for reference in found:
        if reference.named not in verdicts:
            verdicts[reference.named] = verdict_on(reference)
        if (problem := verdicts[reference.named].problem) is not None:
            problems.append(Problem(reference.path, problem))
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
    """Yield the pod or the pod template of an object, with its path."""
    path = TEMPLATE_PATHS.get(str(get(obj, "kind")))
    if path is None:
        return
    template = obj
    for key in path:
        template = get(template, key)
    if isinstance(template, dict):
        yield path, template


def containers_of(spec: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each container of a pod's spec with its path; also init and ephemeral ones."""
    for kind in CONTAINER_LISTS:
        containers = get(spec, kind)
        for place, container in enumerate(containers if isinstance(containers, list) else []):
            if isinstance(container, dict):
                yield (*path, kind, place), container


def _annotated(obj: Any, path: Path) -> Iterator[Reference]:
    annotations = get(get(obj, "metadata"), "annotations")
    name = settings.KUBERNETES.label(MODEL_ANNOTATION)
    model = get(annotations, name)
    if model is not None:
        version = get(annotations, settings.KUBERNETES.label(VERSION_ANNOTATION))
        where = (*path, "metadata", "annotations", name)
        yield Reference(where, str(model), "" if version is None else str(version))


def references_in(value: Any, path: Path) -> Iterator[Reference]:
    """Yield the models that texts inside a value name by ``models:/``."""
    for place, text in strings_in(value, path):
        # A text that is one URI may hold spaces; inside a longer text a space ends the URI.
        uris = [text] if text.lower().startswith("models:/") else MODEL_URI.findall(text)
        for uri in uris:
            yield Reference(place, "", uri=uri)
