"""MLmodel, the file in which MLflow describes a model: read for people, never obeyed.

It is YAML with JSON in it, and it comes from whoever uploaded it. It is read as texts, up to a
size and a depth; what cannot be read becomes a problem in words. Nothing of the model is loaded.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson
from django.core.exceptions import ValidationError
from django.db.models import Q

from models_registry.errors import StoreUnavailable
from models_registry.files import artifacts, plain_yaml
from models_registry.models import ArtifactFile, ModelVersion
from models_registry.validators import validate_path

NAME = "MLmodel"
REQUIREMENTS = "requirements.txt"
#: Of each file at most this many bytes are read, and this many levels of nesting.
MAX_FILE_BYTES = 256 * 1024
MAX_DEPTH = 16
#: At most this many columns, flavors, requirements and named files are shown, and characters of
#: a text.
MAX_ITEMS = 200
MAX_TEXT_CHARS = 300
MAX_TYPE_DEPTH = 6

#: Keys of a flavor whose values are paths of files or folders that it needs to be loaded.
NAMING = (
    *("data", "model_path", "pickled_model", "model_data", "model_binary", "saved_model_dir"),
    "python_model",
)
MICROSECONDS = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\.\d+$")
#: YAML's ways to write null: every scalar is read as text here.
NULLS = {"null", "~", ""}
FACTS = {
    "mlflow_version": "MLflow",
    "utc_time_created": "Created (UTC)",
    "model_uuid": "Model ID",
    "run_id": "Run",
}


@dataclass(frozen=True)
class Flavor:
    """A way to load the model, such as sklearn, and the version it was made with ('' unknown)."""

    name: str
    version: str


@dataclass(frozen=True)
class Column:
    """An input, output or parameter of the model; one of a tensor may have no name."""

    name: str
    type: str
    required: bool


@dataclass
class MLModel:
    """What an MLmodel says; ``folder`` is where it lies in its version ('' for the root).

    ``size`` is the model's, in bytes, as the file says it. ``more_requirements`` says that the
    file has more of them than are looked at. ``problems`` are sentences.
    """

    folder: str = ""
    flavors: list[Flavor] = field(default_factory=list)
    python: str = ""
    size: int | None = None
    facts: list[tuple[str, str]] = field(default_factory=list)
    signature: dict[str, list[Column]] = field(default_factory=dict)
    requirements: list[str] = field(default_factory=list)
    more_requirements: bool = False
    named: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def path(self) -> str:
        """The path of the MLmodel itself."""
        return posixpath.join(self.folder, NAME)

    def missing(self, paths: Iterable[str]) -> list[str]:
        """Return what the file names as the model's data and is not among ``paths``."""
        there = set(paths)
        folders = {path[:at] for path in there for at, letter in enumerate(path) if letter == "/"}
        wanted = (posixpath.normpath(posixpath.join(self.folder, name)) for name in self.named)
        return [path for path in wanted if path not in there and path not in folders | {"."}]


# --- where it lies -------------------------------------------------------------------------


def of_version(version: ModelVersion) -> MLModel | None:
    """Read the version's MLmodel: in its root, or in the only folder of the root that has one."""
    files = list(
        ArtifactFile.objects.filter(version=version)
        .filter(
            Q(path__in=(NAME, REQUIREMENTS)) | Q(path__regex=rf"^[^/]+/({NAME}|{REQUIREMENTS})$")
        )
        .select_related("blob")
        .order_by("path")[:MAX_ITEMS]
    )
    by_path = {file.path: file for file in files}
    found = [file for file in files if posixpath.basename(file.path) == NAME]
    chosen = by_path.get(NAME) or (found[0] if len(found) == 1 else None)
    if chosen is None:
        return None
    folder = posixpath.dirname(chosen.path)
    try:
        described = read(_bytes_of(chosen), folder)
        requirements = by_path.get(posixpath.join(folder, REQUIREMENTS))
        if requirements is not None:
            lines = _requirements(_bytes_of(requirements))
            described.requirements = lines[:MAX_ITEMS]
            described.more_requirements = len(lines) > MAX_ITEMS
    except StoreUnavailable:
        return MLModel(folder, problems=["The store of files does not answer; try again later."])
    return described


def _bytes_of(file: ArtifactFile) -> bytes:
    """Return the file's beginning, one byte more than is read at most."""
    return b"".join(artifacts.open_file(file, 0, min(file.blob.size, MAX_FILE_BYTES + 1)))


# --- what it says --------------------------------------------------------------------------


def read(content: bytes, folder: str = "") -> MLModel:
    """Return what an MLmodel says, or what is wrong with it."""
    found = MLModel(folder)
    try:
        data = _loaded(content)
    except plain_yaml.BadYaml as problem:
        found.problems.append(str(problem))
        return found
    flavors = data.get("flavors")
    if isinstance(flavors, dict):
        found.flavors = [
            _flavor(name, flavor) for name, flavor in list(flavors.items())[:MAX_ITEMS]
        ]
        python = flavors.get("python_function")
        found.python = _text(python.get("python_version")) if isinstance(python, dict) else ""
        found.named = list(dict.fromkeys(_named(flavors)))[:MAX_ITEMS]
    else:
        found.problems.append("The MLmodel names no flavor, so MLflow cannot load the model.")
    found.size = _size(data.get("model_size_bytes"))
    facts = ((label, _text(data.get(key))) for key, label in FACTS.items())
    # Times are shown without microseconds.
    found.facts = [(label, MICROSECONDS.sub(r"\1", text)) for label, text in facts if text]
    found.signature = _signature(data.get("signature"), found.problems)
    return found


def _loaded(content: bytes) -> dict[str, Any]:
    if len(content) > MAX_FILE_BYTES:
        raise plain_yaml.BadYaml(
            f"The MLmodel is larger than {MAX_FILE_BYTES // 1024} KiB; it is not read."
        )
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise plain_yaml.BadYaml("The MLmodel is not text in UTF-8.") from None
    data = plain_yaml.read(text, "The MLmodel", depth=MAX_DEPTH)
    if not isinstance(data, dict):
        raise plain_yaml.BadYaml("The MLmodel is not a list of names with values.")
    return data


def _flavor(name: str, flavor: Any) -> Flavor:
    """Return the flavor; its version stands under a name of its own, such as sklearn_version."""
    values = flavor if isinstance(flavor, dict) else {}
    keys = [key for key in values if key.endswith("_version") and key != "python_version"]
    return Flavor(_text(name), _text(values[keys[0]]) if keys else "")


def _named(flavors: dict[str, Any]) -> Iterator[str]:
    """Yield the paths of the files and folders that flavors need, as far as they can be paths."""
    for flavor in flavors.values():
        if not isinstance(flavor, dict):
            continue
        values = [flavor.get(key) for key in NAMING]
        attached = flavor.get("artifacts")
        if isinstance(attached, dict):
            values += [one.get("path") for one in attached.values() if isinstance(one, dict)]
        for value in values:
            if isinstance(value, str) and value not in NULLS and _is_path(value):
                yield value


def _is_path(value: str) -> bool:
    try:
        validate_path(value)
    except ValidationError:
        return False
    return True


def _size(value: Any) -> int | None:
    text = value if isinstance(value, str) else ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def _requirements(content: bytes) -> list[str]:
    """Return the first lines that are not empty, one more than are looked at."""
    lines = content[:MAX_FILE_BYTES].decode(errors="replace").splitlines()
    return [_text(line.strip()) for line in islice(filter(str.strip, lines), MAX_ITEMS + 1)]


def _text(value: Any) -> str:
    """Return a text as a page can show it; '' for null and for what is not text."""
    if not isinstance(value, str) or value in NULLS:
        return ""
    # YAML can escape lone surrogates, which UTF-8 cannot encode.
    text = value[:MAX_TEXT_CHARS].encode(errors="replace").decode()
    return text if len(value) <= MAX_TEXT_CHARS else f"{text}…"


# --- its signature -------------------------------------------------------------------------


def _signature(signature: Any, problems: list[str]) -> dict[str, list[Column]]:
    if not isinstance(signature, dict):
        return {}
    found = {}
    for part in ("inputs", "outputs", "params"):
        text = signature.get(part)
        if not isinstance(text, str) or text.strip() in NULLS:
            continue
        try:
            entries = orjson.loads(text)
        except (orjson.JSONDecodeError, RecursionError):
            problems.append(f"The signature's {part} are not valid JSON.")
            continue
        entries = entries if isinstance(entries, list) else [entries]
        found[part] = [_column(entry) for entry in entries[:MAX_ITEMS]]
    return found


def _column(entry: Any) -> Column:
    if not isinstance(entry, dict):
        return Column("", _text(entry) or "unknown", True)
    name = _text(entry.get("name"))
    required = entry.get("required", not entry.get("optional", False)) is not False
    return Column(name, _type(entry, MAX_TYPE_DEPTH), required and "default" not in entry)


def _type(entry: Any, depth: int) -> str:
    """Say a type of MLflow's schema in words, such as `array of double`."""
    if not isinstance(entry, dict) or not depth:
        return _text(entry) or "…"
    kind = _text(entry.get("type")) or "unknown"
    tensor = entry.get("tensor-spec")
    if isinstance(tensor, dict):
        kind = f"tensor of {_text(tensor.get('dtype')) or 'unknown'}"
        return f"{kind}{_shape(tensor.get('shape'))}"
    if kind in {"array", "map"}:
        inner = entry.get("items", entry.get("values"))
        return _text(f"{kind} of {_type(inner, depth - 1)}")
    properties = entry.get("properties")
    if kind == "object" and isinstance(properties, dict):
        parts = (f"{key}: {_type(one, depth - 1)}" for key, one in list(properties.items())[:20])
        return _text(f"object ({', '.join(parts)})")
    return f"{kind}{_shape(entry.get('shape'))}"


def _shape(shape: Any) -> str:
    """Write a shape as `(any, 4)`: -1 stands for any number."""
    if not isinstance(shape, list) or not all(isinstance(size, int) for size in shape[:20]):
        return ""
    return f" ({', '.join('any' if size == -1 else str(size) for size in shape[:20])})"
