"""Manifests as people write them, YAML or JSON, read so that each value knows its place.

They are read as kubectl reads them: YAML 1.1's words (`yes` and `on` are true), anchors and merged
mappings, and whatever has `items` is a list of objects. What kubectl could read in another way than
a person, or what would cost too much, is refused: a key that is there twice, other tags, nesting
without end, aliases that multiply.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from tenants.documents import Path, get, text_of
from tenants.text import shown
from tenants.yaml_loader import LOADER

#: At most this many levels of nesting in a document; a pod has about ten.
MAX_DEPTH = 100
#: Every 8 characters of text count as one value, so that aliases which repeat long strings are
#: limited too.
CHARS_PER_VALUE = 8
#: Line breaks, as YAML 1.1 has them.
LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


@dataclass(frozen=True, slots=True, order=True)
class FilePosition:
    """A place in a file; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Unreadable(Exception):
    """A file cannot be read as manifests; the message says why, ``place`` where."""

    def __init__(self, message: str, place: FilePosition) -> None:
        super().__init__(message)
        self.message = message
        self.place = place


class TooLarge(Unreadable):
    """The files exceed one of the limits."""


@dataclass(frozen=True, slots=True)
class Limits:
    """At most this much is read: bytes of text, values with those that aliases repeat, objects.

    With more than ``findings``, the check ends and counts as not done.
    """

    size: int
    values: int
    objects: int
    findings: int


#: Limits for manifests that are sent to the server, and for files that a command reads locally.
SENT_LIMITS = Limits(size=1024 * 1024, values=400_000, objects=5_000, findings=10_000)
FILE_LIMITS = Limits(size=64 * 1024 * 1024, values=20_000_000, objects=200_000, findings=1_000_000)

#: A line and a column, both from 1.
Position = tuple[int, int]


class Map(dict[str, Any]):
    """A mapping with the position of each value, or of its key if the value is a collection."""

    __slots__ = ("places",)

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[str, Position] = {}


class Seq(list[Any]):
    """A list with the position of each item."""

    __slots__ = ("places",)

    def __init__(self) -> None:
        super().__init__()
        self.places: list[Position] = []


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object of a file; ``value`` is what stands there, whatever it is."""

    file: str
    position: Position
    value: Any

    @property
    def is_object(self) -> bool:
        """Whether it says which kind of object of which API it is."""
        return all(
            isinstance(self.get(key), str) and self.get(key) for key in ("apiVersion", "kind")
        )

    @property
    def kind(self) -> str:
        """The kind, as written; empty if there is none."""
        return text_of(self.get("kind"))

    @property
    def group(self) -> str:
        """The API group; empty for Kubernetes' core."""
        return text_of(self.get("apiVersion")).rpartition("/")[0]

    @property
    def name(self) -> str:
        """The name, or how a generated one begins."""
        return text_of(self.get("metadata", "name") or self.get("metadata", "generateName"))

    @property
    def namespace(self) -> str:
        """The namespace that it names; empty if it names none."""
        return text_of(self.get("metadata", "namespace"))

    def get(self, *path: str | int) -> Any:
        """Return the value at a path; None where there is none."""
        return get(self.value, *path)

    def place(self, path: Path = ()) -> FilePosition:
        """Return the position of the value at ``path``, or of its nearest parent that has one."""
        value, position = self.value, self.position
        for key in path:
            try:
                value, position = value[key], value.places[key]
            except (AttributeError, LookupError, TypeError):
                break
        return FilePosition(self.file, *position)


class Reader:
    """Reads files that belong together: the limits count for all of them together."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._size = self._values = self._objects = 0

    def decode(self, file: str, content: bytes) -> str:
        """Return a file's text; raises Unreadable for what is no UTF-8 or too large."""
        self._size += len(content)
        if self._size > self._limits.size:
            size = f"{self._limits.size // 1024:,} KiB"
            raise TooLarge(
                f"There is more than {size} of manifests; check them in parts.", _at(file)
            )
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = content[: error.start].decode(errors="replace")
            raise Unreadable("This is not UTF-8 text.", _end_of(file, before)) from None

    def read(self, file: str, text: str) -> list[Manifest]:
        """Return the file's objects in their order; raises Unreadable, which names the place."""
        found: list[Manifest] = []
        try:
            for value, position in _Documents(file, _as_yaml(text), self._spend).all():
                found += self._objects_of(Manifest(file, position, value))
        except yaml.MarkedYAMLError as error:
            raise Unreadable(_words(error, text), _place(file, text, error)) from None
        except yaml.reader.ReaderError as error:
            raise Unreadable(_words(error, text), _of_character(file, text, error)) from None
        except (yaml.YAMLError, ValueError):
            raise Unreadable("This is not valid YAML.", _at(file)) from None
        return found

    def _spend(self, values: int, file: str, position: Position) -> None:
        self._values += values
        if self._values > self._limits.values:
            raise TooLarge(
                f"There are more than {self._limits.values:,} values, those that aliases repeat "
                "among them; check the files in parts.",
                FilePosition(file, *position),
            )

    def _objects_of(self, manifest: Manifest) -> Iterator[Manifest]:
        """Yield the object, or the objects of a list; an empty document is none."""
        value = manifest.value
        if value is None:
            return
        items = get(value, "items")
        is_list = isinstance(items, Seq)
        if is_list:
            for place, item in zip(items.places, items, strict=True):
                named = _as_item_of(value, item)
                yield from self._objects_of(Manifest(manifest.file, place, named))
        if is_list and manifest.kind.endswith("List"):
            return
        self._objects += 1
        if self._objects > self._limits.objects:
            raise TooLarge(
                f"There are more than {self._limits.objects:,} objects; check them in parts.",
                manifest.place(),
            )
        yield manifest


def _as_item_of(whole: Map, item: Any) -> Any:
    """Return an item with the kind and apiVersion that follow from its list: of a PodList, Pod."""
    kind = text_of(whole.get("kind")).removesuffix("List")
    if not isinstance(item, Map) or "kind" in item or not kind:
        return item
    named = Map()
    named.update(item, kind=kind)
    named.places.update(item.places, kind=whole.places["kind"])
    if "apiVersion" not in item and "apiVersion" in whole:
        named["apiVersion"] = whole["apiVersion"]
        named.places["apiVersion"] = whole.places["apiVersion"]
    return named


# --- values --------------------------------------------------------------------------------

#: YAML 1.1's words for true, false and null, without quotes; kubectl takes `y` and `n` too.
WORDS: dict[str, bool | None] = {
    spelt: value
    for value, words in (
        (True, ("y", "yes", "true", "on")),
        (False, ("n", "no", "false", "off")),
        (None, ("", "~", "null")),
    )
    for word in words
    for spelt in {word, word.title(), word.upper()}
}
INTEGER = re.compile(r"([-+]?)(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
NUMERIC = frozenset("+-.0123456789")
#: At most this many characters are read as a number: very long ones cost Python much time.
MAX_NUMBER_CHARS = 40

STANDARD = "tag:yaml.org,2002:"
#: The tags that are obeyed, and the types that a value with one may have.
TAGS: dict[str, tuple[type, ...]] = {
    f"{STANDARD}bool": (bool,),
    f"{STANDARD}int": (int,),
    f"{STANDARD}float": (int, float),
    f"{STANDARD}null": (type(None),),
}


def resolve(text: str) -> Any:
    """Return the value of an unquoted scalar, by the rules of YAML 1.1."""
    if text in WORDS:
        return WORDS[text]
    if text[0] not in NUMERIC or len(text) > MAX_NUMBER_CHARS:
        return text
    plain = text.replace("_", "")
    if whole := INTEGER.fullmatch(plain):
        sign, digits = whole.groups()
        base = 8 if digits[1:2].isdecimal() and digits[0] == "0" else 0
        return int(sign + digits, base)
    return float(plain) if FLOAT.fullmatch(plain) else text


class _Merge:
    """The key `<<`, which brings another mapping's keys."""


MERGE = _Merge()
NO_KEY = "A key must be text. If this is a template, fill it in first: check what it gives."


@dataclass(slots=True)
class _Open:
    """A mapping or a list that has not ended, with its number of values and levels."""

    value: Any
    position: Position
    anchor: str | None
    size: int = 1
    height: int = 1
    key: Any = None
    key_position: Position = (0, 0)
    wants_key: bool = True
    merged: frozenset[str] = frozenset()


class _Documents:
    """Builds values from YAML events, without recursion and within the limits."""

    def __init__(self, file: str, text: str, spend: Callable[[int, str, Position], None]) -> None:
        self._file = file
        self._events = yaml.parse(text, Loader=LOADER)
        self._spend = spend
        self._open: list[_Open] = []
        #: Value, size and height of each anchor; None while its value has not ended.
        self._anchors: dict[str, tuple[Any, int, int] | None] = {}
        self._root: tuple[Any, Position] = (None, (1, 1))

    def all(self) -> Iterator[tuple[Any, Position]]:
        """Yield each document's value and where it stands."""
        takes = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._begin_map,
            yaml.SequenceStartEvent: self._begin_list,
            yaml.MappingEndEvent: self._end,
            yaml.SequenceEndEvent: self._end,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._start,
        }
        for event in self._events:
            kind = type(event)
            if kind is yaml.DocumentEndEvent:
                yield self._root
            elif kind in takes:
                takes[kind](event)

    def _start(self, event: yaml.Event) -> None:
        self._anchors = {}

    def _begin_map(self, event: Any) -> None:
        self._begin(event, Map(), "map")

    def _begin_list(self, event: Any) -> None:
        self._begin(event, Seq(), "seq")

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        position = _position(event)
        text, size = event.value, 1 + len(event.value) // CHARS_PER_VALUE
        self._spend(size, self._file, position)
        plain = event.implicit[0] and not event.tag
        value = resolve(text) if plain else text
        if event.tag in TAGS:
            value = resolve(text)
            if not isinstance(value, TAGS[event.tag]) or (
                isinstance(value, bool) and bool not in TAGS[event.tag]
            ):
                raise self._refusal("This value is not what its tag says.", position)
        elif event.tag not in (None, "!", f"{STANDARD}str"):
            raise self._tag(position)
        if event.anchor:
            self._anchors[event.anchor] = (value, size, 0)
        if plain and text == "<<" and self._is_key():
            value = MERGE
        self._add(value, size, 0, position)

    def _begin(self, event: Any, value: Any, kind: str) -> None:
        position = _position(event)
        if event.tag not in (None, "!", f"{STANDARD}{kind}"):
            raise self._tag(position)
        self._check_depth(1, position)
        if self._is_key():
            raise self._refusal(NO_KEY, position)
        self._spend(1, self._file, position)
        if event.anchor:
            self._anchors[event.anchor] = None
        self._open.append(_Open(value, position, event.anchor))

    def _end(self, event: yaml.Event) -> None:
        ended = self._open.pop()
        if ended.anchor:
            self._anchors[ended.anchor] = (ended.value, ended.size, ended.height)
        self._add(ended.value, ended.size, ended.height, ended.position)

    def _alias(self, event: yaml.AliasEvent) -> None:
        position = _position(event)
        if event.anchor not in self._anchors:
            raise self._refusal("This alias refers to no anchor before it.", position)
        found = self._anchors[event.anchor]
        if found is None:
            raise self._refusal("This alias refers to what it stands in.", position)
        self._spend(found[1], self._file, position)
        self._check_depth(found[2], position)
        self._add(*found, position)

    def _check_depth(self, height: int, position: Position) -> None:
        if len(self._open) + height > MAX_DEPTH:
            raise TooLarge(f"This is nested more than {MAX_DEPTH} levels deep.", self._at(position))

    def _is_key(self) -> bool:
        top = self._open[-1] if self._open else None
        return top is not None and top.wants_key and isinstance(top.value, Map)

    def _add(self, value: Any, size: int, height: int, position: Position) -> None:
        if not self._open:
            self._root = (value, position)
            return
        top = self._open[-1]
        top.size += size
        top.height = max(top.height, height + 1)
        if isinstance(top.value, Seq):
            top.value.append(value)
            top.value.places.append(position)
        elif top.wants_key:
            top.key, top.key_position = self._key(value, position), position
            top.wants_key = False
        else:
            top.wants_key = True
            if top.key is MERGE:
                self._merge(top, value, position)
            else:
                self._set(top, value, position)

    def _key(self, value: Any, position: Position) -> Any:
        """Return a key as text, as in JSON; raises Unreadable for a collection."""
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, str | int | float | _Merge):
            return value if isinstance(value, str | _Merge) else str(value)
        raise self._refusal(NO_KEY, position)

    def _set(self, top: _Open, value: Any, position: Position) -> None:
        key, whole = top.key, top.value
        if key in whole and key not in top.merged:
            line = whole.places[key][0]
            raise self._refusal(
                f"The key {shown(key)} is there twice, first in line {line}: which of them counts "
                "is not the same for all readers.",
                top.key_position,
            )
        top.merged -= {key}
        whole[key] = value
        whole.places[key] = top.key_position if isinstance(value, Map | Seq) else position

    def _merge(self, top: _Open, value: Any, position: Position) -> None:
        """Merge the keys of one mapping or of several; the first wins. Raises Unreadable."""
        if top.merged:
            raise self._refusal("The key << is there twice.", top.key_position)
        brought = Map()
        for one in value if isinstance(value, Seq) else [value]:
            if not isinstance(one, Map):
                raise self._refusal("Only mappings can be merged by <<.", position)
            for key in one.keys() - brought.keys():
                brought[key], brought.places[key] = one[key], one.places[key]
        for key in sorted(brought.keys() & top.value.keys()):
            raise self._refusal(
                f"The key {shown(key)} stands before << and is brought by it: which of them counts "
                "is not the same for all readers.",
                top.key_position,
            )
        top.value.update(brought)
        top.value.places.update(brought.places)
        top.merged = frozenset(brought)

    def _at(self, position: Position) -> FilePosition:
        return FilePosition(self._file, *position)

    def _refusal(self, message: str, position: Position) -> Unreadable:
        return Unreadable(message, self._at(position))

    def _tag(self, position: Position) -> Unreadable:
        return self._refusal("Tags such as !!binary are not read here; write it out.", position)


def _position(event: Any) -> Position:
    return event.start_mark.line + 1, event.start_mark.column + 1


# --- what is wrong, and where --------------------------------------------------------------

#: Surrogate pairs: JSON escapes characters beyond U+FFFF as two halves, which YAML does not know.
HALVES = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


def _as_yaml(text: str) -> str:
    """Return JSON made valid YAML, with each line as it was."""
    return HALVES.sub(_joined, text) if text.lstrip()[:1] in ("{", "[") else text


def _joined(halves: re.Match[str]) -> str:
    high, low = (int(half, 16) for half in halves.groups())
    return f"\\U{0x10000 + ((high & 0x3FF) << 10) + (low & 0x3FF):08X}"


def _words(error: Any, text: str) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        return "This is not valid YAML: it holds a control character."
    problem = " ".join(part for part in (error.problem, error.context) if part)
    template = (
        " Templates must be filled in first: check what `helm template` prints."
        if "{{" in text
        else ""
    )
    return f"This is not valid YAML: {problem or 'it could not be read'}.{template}"


def _place(file: str, text: str, error: yaml.MarkedYAMLError) -> FilePosition:
    """Return the position of an error, at most the end of the file."""
    mark, end = error.problem_mark or error.context_mark, _end_of(file, text)
    return end if mark is None else min(FilePosition(file, mark.line + 1, mark.column + 1), end)


def _of_character(file: str, text: str, error: yaml.reader.ReaderError) -> FilePosition:
    """Return the position of an unreadable character; the C reader gives a number of bytes."""
    before = text.encode()[: error.position].decode(errors="ignore")
    return _end_of(file, before)


def _end_of(file: str, text: str) -> FilePosition:
    lines = LINE_BREAK.split(text)
    return FilePosition(file, len(lines), len(lines[-1]) + 1)


def _at(file: str) -> FilePosition:
    return FilePosition(file, 1, 1)


#: At most this many names are listed in a message.
MAX_LISTED_NAMES = 5


def listed(found: Iterable[str]) -> str:
    """Return the first names in their order, and how many more there are."""
    ordered = sorted(found)
    more = (
        f" and {len(ordered) - MAX_LISTED_NAMES:,} more" if len(ordered) > MAX_LISTED_NAMES else ""
    )
    return f"{', '.join(map(shown, ordered[:MAX_LISTED_NAMES]))}{more}" or "none"


def lines_of(text: str) -> list[str]:
    """Return a file's lines, as positions count them."""
    return LINE_BREAK.split(text)
