"""Documents that others write, JSON or YAML once it is parsed: values, and where each stands.

There are two ways to read one:

- Most of a Kubernetes object is of no interest here, and any part may be missing or of another
  type: ``get``, ``text_of``, ``dict_of``, ``list_of`` and ``mappings_of`` return what is there, or
  nothing, and raise nothing.
- A document that must have a certain shape is a ``Node``: it returns a value of the type that is
  asked for, or raises ``Malformed``, which names the place, as in ``$.t[3].name: expected text``.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: The way from a document or an object to a value in it: keys, and positions in lists.
Path = tuple[str | int, ...]

#: At most this many characters of a key are written in a path; keys are others' to choose.
MAX_KEY_CHARS = 100
PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


def as_text(path: Path, root: str = "") -> str:
    """Return a path as people write it: ``.spec.containers[0].image``, ``.labels["a.b/c"]``.

    ``root`` stands before it, such as ``$`` for a whole document. The text is one printable line.
    """
    return root + "".join(map(_step, path))


def _step(key: str | int) -> str:
    if isinstance(key, int):
        return f"[{key}]"
    if len(key) > MAX_KEY_CHARS:
        key = f"{key[:MAX_KEY_CHARS]}…"
    if PLAIN_KEY.fullmatch(key):
        return f".{key}"
    return f"[{json.dumps(key, ensure_ascii=not key.isprintable())}]"


# --- what may be missing -------------------------------------------------------------------


def get(value: Any, *path: str | int) -> Any:
    """Return what is at a path inside ``value``; None where there is nothing."""
    for key in path:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return None
    return value


def text_of(value: Any) -> str:
    """Return the value if it is text, and else an empty one."""
    return value if isinstance(value, str) else ""


def dict_of(value: Any) -> dict[str, Any]:
    """Return the value if it is a mapping, and else an empty one."""
    return value if isinstance(value, dict) else {}


def list_of(value: Any) -> list[Any]:
    """Return the value if it is a list, and else an empty one."""
    return value if isinstance(value, list) else []


def mappings_of(value: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the mappings among the items of a list at ``path``, each with its own path."""
    for position, item in enumerate(list_of(value)):
        if isinstance(item, dict):
            yield (*path, position), item


def strings_in(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield each text inside a value, with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from strings_in(inner, (*path, key))
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from strings_in(inner, (*path, position))


# --- what must have a shape ----------------------------------------------------------------


class Malformed(Exception):
    """A document is not what it has to be; the text names the place, if there is one, and why."""

    def __init__(self, message: str, path: Path | None = None) -> None:
        super().__init__(message if path is None else f"{as_text(path, '$')}: {message}")
        self.message = message
        self.path = path


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a document that must have a certain shape, and its path.

    A subclass may say in ``malformed`` whose document it is; what is inside is of its class too.
    """

    value: Any
    path: Path = ()

    def malformed(self, message: str) -> Malformed:
        """Return the error that says what is wrong with this value."""
        return Malformed(message, self.path)

    def fields(self, known: Collection[str] = ()) -> dict[str, "Node"]:
        """Return an object's values by key; raises Malformed for another value.

        Where ``known`` keys are given, another key is refused too.
        """
        if not isinstance(self.value, dict):
            raise self.malformed("expected an object")
        found = {key: type(self)(value, (*self.path, key)) for key, value in self.value.items()}
        for key, node in found.items():
            if known and key not in known:
                raise node.malformed(f"unknown key; those known here are {', '.join(known)}")
        return found

    def field(self, key: str) -> "Node":
        """Return an object's value by key, None's node where there is none; raises Malformed."""
        if not isinstance(self.value, dict):
            raise self.malformed("expected an object")
        return type(self)(self.value.get(key), (*self.path, key))

    def items(self) -> list["Node"]:
        """Return a list's items; raises Malformed for another value."""
        if not isinstance(self.value, list):
            raise self.malformed("expected a list")
        return [type(self)(item, (*self.path, place)) for place, item in enumerate(self.value)]

    def text(self) -> str:
        """Return the value, which is text; raises Malformed for another value."""
        if not isinstance(self.value, str):
            raise self.malformed("expected text")
        return self.value
