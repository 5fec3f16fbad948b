"""MLflow's search language, translated to SQL conditions, orders and page tokens.

A filter is a row of comparisons joined by AND: ``name LIKE 'fraud%' AND tags.`team` = 'risk'``.
Whatever a client sends ends either in InvalidSearch, with the words that MLflow's own server uses,
or in SQL that PostgreSQL runs: columns come from the tables below, values go in as parameters.

Three things differ from MLflow's own server on purpose. A quote inside a text is written twice,
as in SQL (there it cannot be written at all); two comparisons need an AND between them; and
versions that are prompts are known by their own tag, not by that of their neighbours.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.core import signing
from django.core.exceptions import ValidationError

from models_registry.validators import IS_PROMPT, validate_text

MAX_FILTER_CHARS = 20_000
MAX_COMPARISONS = 100
MAX_ORDER_CHARS = 500
MAX_ORDERS = 10
MAX_TOKEN_CHARS = 10_000
#: At most this many characters of what a client sent are quoted in an error.
MAX_SHOWN_CHARS = 500

TOKEN_SALT = "bulkhead.mlflow.page"  # noqa: S105 - public: it only keeps signatures apart


class InvalidSearch(ValueError):
    """What the client reads; to be answered as 400 INVALID_PARAMETER_VALUE."""


@dataclass(frozen=True)
class OrderColumn:
    """One column of an order."""

    sql: str
    falling: bool
    #: The column's type in PostgreSQL, to which a page token's value is cast.
    cast: str

    @property
    def direction(self) -> str:
        """SQL's word for the direction."""
        return "DESC" if self.falling else "ASC"

    @property
    def as_text(self) -> str:
        """SQL whose value in JSON is text that PostgreSQL reads back as the same value."""
        # In JSON a time is ISO 8601 with microseconds; as text it would depend on DateStyle.
        return self.sql if self.cast == "timestamptz" else f"{self.sql}::text"


@dataclass(frozen=True)
class Search:
    """A filter and an order, ready for a query over ``m`` (models) or ``v`` (versions) and ``m``.

    ``where`` holds a ``%s`` for each of ``params``; ``order`` is total within one tenant.
    """

    where: str
    params: tuple[Any, ...]
    order: tuple[OrderColumn, ...]

    @property
    def is_common(self) -> bool:
        """Whether it is one of the few dozen forms that most searches have."""
        return len(self.params) <= 1 and self.order in USUAL_ORDERS

    @property
    def order_by(self) -> str:
        """What stands after ORDER BY."""
        return ", ".join(f"{key.sql} {key.direction}" for key in self.order)

    @property
    def position(self) -> str:
        """SQL that makes, of a row, the JSON array of texts which ``after`` takes."""
        return f"json_build_array({', '.join(key.as_text for key in self.order)})"

    def after(self, position: Sequence[str]) -> tuple[str, tuple[Any, ...]]:
        """Return the condition, with its parameters, for the rows behind ``position``.

        Columns may rise and fall, so that no row comparison of SQL will do: the first column
        decides, equal ones pass on to the next. Raises InvalidSearch if the lengths differ.
        """
        if len(position) != len(self.order):
            raise InvalidSearch(INVALID_TOKEN)
        values = [f"%s::{key.cast}" for key in self.order]
        beyond = ["<" if key.falling else ">" for key in self.order]
        cases, params = [], [position[0]]
        for last, key in enumerate(self.order):
            equal = [f"{self.order[at].sql} = {values[at]}" for at in range(last)]
            cases.append(" AND ".join([*equal, f"{key.sql} {beyond[last]} {values[last]}"]))
            params += position[: last + 1]
        # Redundant, but it lets PostgreSQL start at this position of the index.
        start = f"{self.order[0].sql} {beyond[0]}= {values[0]}"
        return f"({start} AND ({' OR '.join(f'({case})' for case in cases)}))", tuple(params)


def models_search(filter_string: str, order_by: Sequence[str]) -> Search:
    """Translate what ``registered-models/search`` was sent; raises InvalidSearch.

    Models that are prompts are left out unless the filter asks for them.
    """
    conditions, params = _conditions(_MODELS, filter_string)
    order = [_model_key(clause) for clause in _order_clauses(order_by)]
    return _search(_MODELS, conditions, params, order, order_by)


def versions_search(filter_string: str, order_by: Sequence[str]) -> Search:
    """Translate what ``model-versions/search`` was sent; raises InvalidSearch.

    Versions that are prompts are left out unless the filter asks for them.
    """
    conditions, params = _conditions(_VERSIONS, filter_string)
    order = [_version_key(clause) for clause in _order_clauses(order_by)]
    return _search(_VERSIONS, conditions, params, order or list(_NEWEST_VERSIONS), order_by)


# --- what can be searched, and by what it can be sorted ------------------------------------


@dataclass(frozen=True)
class _Table:
    """What a filter may compare and an order may name: MLflow's words, and our columns."""

    tags: str
    texts: Mapping[str, str]
    numbers: Mapping[str, str]
    #: Attributes that IN and NOT IN take.
    listed: tuple[str, ...]
    order: Mapping[str, tuple[str, str]]
    #: Columns appended to every order, so that it is total.
    ties: tuple[OrderColumn, ...]

    @property
    def keys(self) -> set[str]:
        return {*self.texts, *self.numbers}


_NAME = OrderColumn("m.name", False, "text")
_NUMBER = OrderColumn("v.number", True, "integer")
_NEWEST_VERSIONS = (OrderColumn("v.updated_at", True, "timestamptz"), _NAME, _NUMBER)

_MODELS = _Table(
    tags="m.tags",
    texts={"name": "m.name"},
    numbers={},
    listed=("name",),
    order={
        "name": ("m.name", "text"),
        "timestamp": ("m.updated_at", "timestamptz"),
        "last_updated_timestamp": ("m.updated_at", "timestamptz"),
    },
    ties=(_NAME,),
)
_VERSIONS = _Table(
    tags="v.tags",
    texts={"name": "m.name", "run_id": "v.run_id", "source_path": "v.source"},
    numbers={"version_number": "v.number"},
    listed=("name", "run_id"),
    order={
        "name": ("m.name", "text"),
        "version_number": ("v.number", "integer"),
        "creation_timestamp": ("v.created_at", "timestamptz"),
        "last_updated_timestamp": ("v.updated_at", "timestamptz"),
    },
    ties=(_NAME, _NUMBER),
)
#: The attributes that MLflow's error names as numeric, though only version_number can be compared.
_NUMERIC_WORDS = ("creation_timestamp", "last_updated_timestamp", "version_number")
#: The keys that MLflow's error names for an order of models, though it takes one more.
_MODEL_ORDER_WORDS = ("name", "timestamp")

_TEXT_OPERATORS = {"=": "=", "!=": "<>", "LIKE": "LIKE", "ILIKE": "ILIKE"}
_LIST_OPERATORS = {"IN": "= ANY", "NOT IN": "<> ALL"}
_NUMBER_OPERATORS = {"=": "=", "!=": "<>", ">": ">", ">=": ">=", "<": "<", "<=": "<="}


def _shown(text: str) -> str:
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"


def _as_set(words: Sequence[str] | set[str]) -> str:
    return "{" + ", ".join(repr(word) for word in sorted(words)) + "}"


def _require_text(text: str, length: int, what: str) -> None:
    """Refuse what is too long, and what neither PostgreSQL nor an answer can hold."""
    try:
        validate_text(text, length, what)
    except ValidationError as error:
        raise InvalidSearch(error.message) from None


# --- reading a filter ----------------------------------------------------------------------

# All repetition is possessive (`*+`), so that matching takes linear time for any text.
_SINGLE = r"'(?:[^']|'')*+'"
_DOUBLE = r'"(?:[^"]|"")*+"'
_BACKTICKS = r"`(?:[^`]|``)*+`"
_PLAIN = r"""[^\s'"`()<>=~!,;]"""
_PART = rf"(?:\w++|{_DOUBLE}|{_BACKTICKS})"
_WORD = re.compile(
    rf"""
      (?P<string>   {_SINGLE} )
    | (?P<number>   -?\d++(?:\.\d++)?+(?:[eE][+-]?\d++)?+(?!{_PLAIN}) )
    | (?P<name>     {_PART}(?:\.{_PART})*+(?!{_PLAIN}) )
    | (?P<operator> [<>=~!]++ )
    | (?P<list>     \((?:[^()'"]|{_SINGLE}|{_DOUBLE})*+\) )
    | (?P<other>    (?:{_PLAIN}|{_DOUBLE}|{_BACKTICKS})++ )
    | (?P<unclosed> ['"`].*+ )
    | (?P<mark>     \S )
    """,
    re.VERBOSE | re.DOTALL,
)
_QUOTED = re.compile(rf"{_SINGLE}|{_DOUBLE}", re.DOTALL)
_BACKTICKED = re.compile(_BACKTICKS, re.DOTALL)
_OPERANDS = {"string", "number", "name", "list", "other"}
_PATTERNS = {"LIKE", "ILIKE", "RLIKE"}
_KEYWORDS = {"AND", "OR", "NOT", "IN", *_PATTERNS}


@dataclass(frozen=True)
class _Word:
    kind: str
    text: str

    @property
    def keyword(self) -> str:
        upper = self.text.upper() if self.kind == "name" else ""
        return upper if upper in _KEYWORDS else ""

    @property
    def is_operand(self) -> bool:
        return self.kind in _OPERANDS and not self.keyword

    @property
    def is_quoted(self) -> bool:
        return _QUOTED.fullmatch(self.text) is not None


@dataclass(frozen=True)
class _Comparison:
    key: str
    is_tag: bool
    comparator: str
    value: str | int | float | tuple[str, ...]

    @property
    def is_about_prompts(self) -> bool:
        return self.is_tag and self.key == IS_PROMPT

    @property
    def asks_for_prompts(self) -> bool:
        asked = (self.comparator, str(self.value).lower())
        return asked in {("=", "true"), ("!=", "false")}


def _words(text: str) -> Iterator[_Word]:
    for match in _WORD.finditer(text):
        yield _Word(str(match.lastgroup), match[0])


def _unquoted(text: str) -> str:
    return text[1:-1].replace(text[0] * 2, text[0])


def _comparisons(table: _Table, filter_string: str) -> list[_Comparison]:
    _require_text(filter_string, MAX_FILTER_CHARS, "The filter")
    words = list(_words(filter_string))
    if any(word.text == ";" for word in words[:-1]):
        raise InvalidSearch(
            f"Search filter contained multiple expression {_shown(filter_string)!r}. "
            "Provide AND-ed expression list."
        )
    found, invalid = _split(words)
    if invalid:
        raise InvalidSearch(f"Invalid clause(s) in filter string: {_shown(', '.join(invalid))}")
    if len(found) > MAX_COMPARISONS:
        raise InvalidSearch(
            f"The filter has {len(found):,} comparisons; at most {MAX_COMPARISONS} are allowed."
        )
    return [_comparison(table, *operands) for operands in found]


def _split(words: list[_Word]) -> tuple[list[tuple[_Word, str, _Word]], list[str]]:
    """Return the comparisons, each as left, comparator and right, and what belongs to none.

    An AND too many, at either end, is let pass: clients put filters together from parts.
    """
    found, invalid = [], []
    at, joined = 0, True
    while at < len(words):
        comparator, length = _comparator(words, at + 1) if words[at].is_operand else ("", 0)
        right = at + 1 + length
        if _takes(comparator, words[right : right + 1]):
            if joined:
                found.append((words[at], comparator, words[right]))
            else:
                invalid.append(" ".join(word.text for word in words[at : right + 1]))
            at, joined = right + 1, False
        else:
            if words[at].keyword != "AND":
                invalid.append(words[at].text)
            at, joined = at + 1, True
    return found, invalid


def _comparator(words: list[_Word], at: int) -> tuple[str, int]:
    """Return the comparator that begins at a word, and of how many words it is ('', 0: none)."""
    first = words[at] if at < len(words) else _Word("", "")
    second = words[at + 1] if at + 1 < len(words) else _Word("", "")
    if first.kind == "operator":
        return first.text, 1
    if first.keyword == "IN" or first.keyword in _PATTERNS:
        return first.keyword, 1
    if first.keyword == "NOT" and (second.keyword == "IN" or second.keyword in _PATTERNS):
        return f"NOT {second.keyword}", 2
    return "", 0


def _takes(comparator: str, right: list[_Word]) -> bool:
    if not comparator or not right:
        return False
    return right[0].kind == "list" if comparator in _LIST_OPERATORS else right[0].is_operand


def _comparison(table: _Table, left: _Word, comparator: str, right: _Word) -> _Comparison:
    if left.kind != "name":
        raise InvalidSearch(
            f"Invalid comparison clause. Expected 'Identifier' found '{_shown(left.text)}'"
        )
    is_tag, key = _identifier(left.text, table.keys)
    if is_tag:
        return _Comparison(key, True, comparator, _tag_value(right))
    return _Comparison(key, False, comparator, _attribute_value(table, key, right))


def _identifier(text: str, attributes: set[str]) -> tuple[bool, str]:
    """Return whether ``text`` names a tag, and its key; other names must be ``attributes``."""
    kind, dot, key = text.partition(".")
    if not dot:
        kind, key = "attribute", text
    if kind not in ("attribute", "tag", "tags"):
        raise InvalidSearch(
            f"Invalid entity type '{_shown(kind)}'. "
            "Valid entity types are ('attribute', 'tag', 'tags')"
        )
    if _QUOTED.fullmatch(key) or _BACKTICKED.fullmatch(key):
        key = _unquoted(key)
    if kind == "attribute" and key not in attributes:
        raise InvalidSearch(
            f"Invalid attribute key '{_shown(key)}' specified. "
            f"Valid keys are '{_as_set(attributes)}'"
        )
    return kind != "attribute", key


def _text_value(word: _Word) -> str:
    if not word.is_quoted:
        raise InvalidSearch(
            "Parameter value is either not quoted or unidentified quote types used for string "
            f"value {_shown(word.text)}. Use either single or double quotes."
        )
    return _unquoted(word.text)


def _tag_value(word: _Word) -> str:
    if word.kind not in ("string", "name"):
        raise InvalidSearch(
            "Expected a quoted string value for tag (e.g. 'my-value'). "
            f"Got value {_shown(word.text)}"
        )
    return _text_value(word)


def _attribute_value(table: _Table, key: str, word: _Word) -> str | int | float | tuple[str, ...]:
    if word.kind in ("string", "name"):
        return _text_value(word)
    if word.kind == "list":
        if key not in table.listed:
            raise InvalidSearch(
                f"Only {list(table.listed)} attributes support comparison with a list of quoted "
                "string values."
            )
        return _list_value(word.text)
    if word.kind == "number" and table.numbers:
        if key not in table.numbers:
            raise InvalidSearch(
                f"Only the '{_as_set(_NUMERIC_WORDS)}' attributes support comparison with numeric "
                "values."
            )
        return _number_value(word.text)
    raise InvalidSearch(
        "Expected a quoted string value or a list of quoted string values for attributes. "
        f"Got value {_shown(word.text)}"
    )


def _list_value(text: str) -> tuple[str, ...]:
    words = list(_words(text[1:-1]))
    if not words:
        raise InvalidSearch(
            "While parsing a list in the query, expected a non-empty list of string values, "
            "but got empty list"
        )
    values, commas = words[::2], words[1::2]
    if any(word.kind == "number" for word in values):
        raise InvalidSearch(
            "While parsing a list in the query, expected string value, punctuation, or "
            f"whitespace, but got different type in list: {_shown(text)}"
        )
    if any(word.text != "," for word in commas) or not all(word.is_quoted for word in values):
        raise InvalidSearch(
            "While parsing a list in the query, expected a non-empty list of string values, "
            "but got ill-formed list."
        )
    return tuple(_unquoted(word.text) for word in values)


def _number_value(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:  # a fraction, or more digits than int() takes: float() then gives inf
        return float(text)


# --- from comparisons to SQL ---------------------------------------------------------------


def _conditions(table: _Table, filter_string: str) -> tuple[list[str], list[Any]]:
    """Return the conditions of a filter; without prompts, unless it asks for them.

    As in MLflow, the first comparison of the prompt tag says which it is. Its client adds
    ``!= 'true'`` to each search, and that must find the models that have no such tag.
    """
    comparisons = _comparisons(table, filter_string)
    about_prompts = [comparison for comparison in comparisons if comparison.is_about_prompts]
    wants_prompts = bool(about_prompts) and about_prompts[0].asks_for_prompts
    conditions: list[str] = []
    params: list[Any] = []
    for comparison in comparisons:
        condition, values = _condition(table, comparison)
        if wants_prompts or not comparison.is_about_prompts:
            conditions.append(condition)
            params += values
    if not wants_prompts:
        conditions.append(f"({table.tags} ->> '{IS_PROMPT}') IS DISTINCT FROM 'true'")
    return conditions, params


def _condition(table: _Table, comparison: _Comparison) -> tuple[str, list[Any]]:
    key, comparator, value = comparison.key, comparison.comparator, comparison.value
    if comparison.is_tag:
        if comparator not in _TEXT_OPERATORS:
            raise InvalidSearch(f"Invalid comparator for tag: {_shown(comparator)}")
        sql, values = _text_condition(f"({table.tags} ->> %s::text)", comparator, value)
        return sql, [key, *values]
    if key in table.numbers:
        if comparator not in _NUMBER_OPERATORS:
            raise InvalidSearch(f"Invalid comparator for attribute {key}: {_shown(comparator)}")
        operator = _NUMBER_OPERATORS[comparator]
        return f"{table.numbers[key]} {operator} %s::bigint", [_whole(key, value)]
    if isinstance(value, tuple):
        if comparator not in _LIST_OPERATORS:
            raise InvalidSearch(f"Invalid comparator for attribute: {_shown(comparator)}")
        operator = _LIST_OPERATORS[comparator]
        return f"{table.texts[key]} {operator}(%s::text[])", [list(value)]
    if comparator not in _TEXT_OPERATORS:
        raise InvalidSearch(f"Invalid comparator for attribute: {_shown(comparator)}")
    return _text_condition(table.texts[key], comparator, value)


def _text_condition(sql: str, comparator: str, value: Any) -> tuple[str, list[Any]]:
    if comparator in _PATTERNS:
        value = _pattern(value)
    return f"{sql} {_TEXT_OPERATORS[comparator]} %s::text", [value]


def _pattern(text: str) -> str:
    r"""Let a backslash that escapes nothing, at the end, stand for itself.

    Elsewhere it escapes, as in PostgreSQL: ``\_`` is an underscore and ``\\`` a backslash.
    """
    backslashes = len(text) - len(text.rstrip("\\"))
    return text + "\\" * (backslashes % 2)


def _whole(key: str, value: Any) -> int:
    """Return a version number to compare with, near enough to fit in the column's type."""
    try:
        if isinstance(value, float):
            raise ValueError
        number = int(value)
    except ValueError:
        shown = _shown(value) if isinstance(value, str) else value
        raise InvalidSearch(f"Invalid value for numeric attribute '{key}': {shown!r}") from None
    return min(max(number, -1), 2**31)


# --- orders --------------------------------------------------------------------------------

_ORDER = re.compile(rf"\s*+(?P<key>{_PART}(?:\.{_PART})*+)(?P<rest>(?:\s++\w++)*+)\s*+", re.DOTALL)


@dataclass(frozen=True)
class _OrderClause:
    key: str
    falling: bool


def _order_clauses(order_by: Sequence[str]) -> Iterator[_OrderClause]:
    if len(order_by) > MAX_ORDERS:
        raise InvalidSearch(
            f"order_by has {len(order_by):,} clauses; at most {MAX_ORDERS} are allowed."
        )
    for text in order_by:
        _require_text(text, MAX_ORDER_CHARS, "The order_by clause")
        match = _ORDER.fullmatch(text)
        direction: list[str] = match["rest"].split() if match else []
        if match is None or len(direction) > 1:
            raise InvalidSearch(f"Invalid order_by clause '{text}'. Could not be parsed.")
        if direction and direction[0].lower() not in ("asc", "desc"):
            raise InvalidSearch(f"Invalid ordering key in order_by clause '{text}'.")
        key = match["key"]
        if _QUOTED.fullmatch(key) or _BACKTICKED.fullmatch(key):
            key = _unquoted(key)
        yield _OrderClause(key, bool(direction) and direction[0].lower() == "desc")


def _model_key(clause: _OrderClause) -> OrderColumn:
    if clause.key not in _MODELS.order:
        raise InvalidSearch(
            f"Invalid order by key '{clause.key}' specified. "
            f"Valid keys are '{_as_set(_MODEL_ORDER_WORDS)}'"
        )
    sql, cast = _MODELS.order[clause.key]
    return OrderColumn(sql, clause.falling, cast)


def _version_key(clause: _OrderClause) -> OrderColumn:
    words = set(_VERSIONS.order)
    is_tag, key = _identifier(clause.key, words)
    if is_tag and key not in words:
        raise InvalidSearch(
            f"Invalid order by key '{key}' specified. Valid keys are {_as_set(words)}"
        )
    sql, cast = _VERSIONS.order[key]
    return OrderColumn(sql, clause.falling, cast)


def _search(
    table: _Table,
    conditions: list[str],
    params: list[Any],
    order: list[OrderColumn],
    order_by: Sequence[str],
) -> Search:
    columns = {key.sql for key in order}
    if len(columns) < len(order):
        raise InvalidSearch(f"`order_by` contains duplicate fields: {list(order_by)}")
    order += [key for key in table.ties if key.sql not in columns]
    return Search(" AND ".join(conditions) or "true", tuple(params), tuple(order))


#: The orders of a search without order_by.
USUAL_ORDERS = (models_search("", ()).order, versions_search("", ()).order)


# --- pages ---------------------------------------------------------------------------------

INVALID_TOKEN = "Invalid page token, could not base64-decode"  # noqa: S105 - an error's text


@dataclass(frozen=True)
class Token:
    """What a page token says; the caller compares the tenant with the one it acts for."""

    tenant_id: UUID
    query: str
    position: list[str]


def write_token(tenant_id: UUID, query: str, position: list[str]) -> str:
    """Return the token of the page behind ``position``, signed, and bound to tenant and query.

    ``query`` is all that the list depends on: endpoint, filter and order, as one text.
    """
    content = [tenant_id.hex, _digest(query), position]
    return signing.dumps(content, salt=TOKEN_SALT, compress=True)


def read_token(token: str, query: str) -> Token:
    """Return what ``token`` says; raises InvalidSearch if it was not made here for ``query``."""
    # Checked first: a signature is computed of bytes, and not every text can be encoded.
    if len(token) > MAX_TOKEN_CHARS or not token.isascii():
        raise InvalidSearch(INVALID_TOKEN)
    try:
        tenant_id, digest, position = signing.loads(token, salt=TOKEN_SALT)
    except signing.BadSignature:
        raise InvalidSearch(INVALID_TOKEN) from None
    if digest != _digest(query):
        raise InvalidSearch(INVALID_TOKEN)
    return Token(UUID(tenant_id), digest, position)


def _digest(query: str) -> str:
    return sha256(query.encode(errors="surrogatepass")).hexdigest()[:32]


def page_size(text: str | int | None, default: int, most: int, least: int) -> int:
    """Return how many rows a page has (None: ``default``); raises InvalidSearch.

    With ``least`` 0 a client may ask for no rows, and gets an empty last page. A negative number
    is refused everywhere; MLflow's own server answers it, in one search of two, like 0.
    """
    if text is None:
        return default
    number = _integer(text)
    if number is None or number > most:
        # The two spaces are in MLflow's own message.
        raise InvalidSearch(
            f"Invalid value {_shown(json.dumps(text))} for parameter 'max_results' supplied:  "
            f"Hint: Value was of type '{type(text).__name__}'. "
            "See the API docs for more information about request parameters."
        )
    if number < least:
        raise InvalidSearch(
            f"Invalid value for max_results. It must be a positive integer, but got {number}"
        )
    return number


def _integer(text: str | int) -> int | None:
    """Return the number that stands there, if it is one of at most 64 bits."""
    if isinstance(text, str):
        return int(text) if re.fullmatch(r"-?[0-9]{1,19}", text) else None
    is_number = isinstance(text, int) and not isinstance(text, bool)
    return text if is_number and abs(text) < 2**63 else None
