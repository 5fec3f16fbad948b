"""What a request to the MLflow API says: its fields by name, each of the type that it must have.

GET says it in the query string, everything else in a JSON body; names come in ``snake_case`` or
``lowerCamelCase``. Refusals have MLflow's own words, which its clients and their tests compare.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from django.http import HttpRequest

from tenants.errors import InvalidRequest

#: The largest integer of MLflow's protocol, which has 64 bits.
MAX_INTEGER = 2**63 - 1
SEE = " See the API docs for more information about request parameters."


@dataclass(frozen=True, slots=True)
class Field:
    """A field: text, integer, boolean, texts, objects, pairs of key and value, or raw (any)."""

    name: str
    kind: str = "text"
    required: bool = False

    @property
    def camel(self) -> str:
        """The other spelling of the name."""
        first, *rest = self.name.split("_")
        return first + "".join(word.title() for word in rest)


def text(name: str, *, required: bool = False) -> Field:
    """Return a field that holds text."""
    return Field(name, "text", required)


def read(request: HttpRequest, *fields: Field) -> dict[str, Any]:
    """Return the request's values by field name, None if not given; raises InvalidRequest."""
    if request.method in {"GET", "HEAD"} and request.GET:
        params: Mapping[str, Any] = {name: request.GET.getlist(name) for name in request.GET}
        return {field.name: _value(field, _from_query(field, params)) for field in fields}
    body = _body(request)
    return {field.name: _value(field, _chosen(field, body)) for field in fields}


def _from_query(field: Field, params: Mapping[str, Any]) -> Any:
    values = _chosen(field, params)
    if values is None or field.kind == "texts":
        return values
    value = values[0]
    if field.kind == "boolean":
        if value.lower() not in {"true", "false"}:
            raise InvalidRequest(f"Invalid boolean value: {value}, must be 'true' or 'false'.")
        return value.lower() == "true"
    return value


def _chosen(field: Field, params: Mapping[str, Any]) -> Any:
    if field.camel != field.name and field.camel in params:
        if field.name in params:
            raise InvalidRequest(
                f"Request specifies both '{field.name}' and '{field.camel}'; "
                "provide only one of them."
            )
        return params[field.camel]
    return params.get(field.name)


def _body(request: HttpRequest) -> dict[str, Any]:
    """Return the body's JSON object; anything else counts as an empty one, as with MLflow."""
    kind = request.content_type or ""
    if request.method not in {"GET", "HEAD"} and not kind.startswith("application/json"):
        raise InvalidRequest("Bad Request. Content-Type must be one of ['application/json'].")
    try:
        body = orjson.loads(request.body)
        if isinstance(body, str):  # old clients encode the JSON twice
            body = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _value(field: Field, value: Any) -> Any:
    if value is None or value == "":
        if field.required:
            raise InvalidRequest(f"Missing value for required parameter '{field.name}'.{SEE}")
        return value
    try:
        return _READERS[field.kind](value)
    except (TypeError, ValueError):
        raise InvalidRequest(
            f"Invalid value {_shown(value)} for parameter '{field.name}' supplied: "
            f" Hint: Value was of type '{type(value).__name__}'.{SEE}"
        ) from None


def _shown(value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"))[:1000]
    except RecursionError:  # orjson reads deeper nesting than json writes
        return "…"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    if "\x00" in value:
        raise ValueError
    return value


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError
    if isinstance(value, str) and not (value.isascii() and value.isdecimal()):
        raise ValueError
    return int(value) if len(str(value)) < 19 else MAX_INTEGER


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise TypeError
    return [_text(item) for item in value]


def _objects(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise TypeError
    return value


def _pairs(value: Any) -> dict[str, str]:
    """Return what a list of {key, value} says; of a key that comes twice the last value."""
    if not isinstance(value, list):
        raise TypeError
    found = {}
    for item in value:
        if not isinstance(item, dict):
            raise TypeError
        found[_text(item.get("key") or "")] = _text(item.get("value") or "")
    return found


_READERS = {
    "text": _text,
    "raw": lambda value: value,
    "integer": _integer,
    "boolean": _boolean,
    "texts": _texts,
    "objects": _objects,
    "pairs": _pairs,
}
