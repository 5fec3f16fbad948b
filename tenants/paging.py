"""Keyset paging: a page begins after the row at which the last one ended, however deep it is.

A cursor is signed, and bound to the tenant and to the query it was made for: one that was edited,
or taken from another team or another list, is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.core import signing
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from tenants.isolation.scope import current_tenant_id

PAGE_SIZE = 50
RowT = TypeVar("RowT", bound=models.Model)


class InvalidCursor(ValueError):
    """The cursor was not made for this list; callers show the list from its beginning."""


@dataclass(frozen=True)
class Page(Generic[RowT]):
    """One page: its rows, and the cursors to the pages beside it ('' where there is none)."""

    rows: list[RowT]
    next: str = ""
    previous: str = ""

    def __bool__(self) -> bool:
        return bool(self.rows)


def paginate(
    queryset: "models.QuerySet[RowT]",
    order: Sequence[str],
    cursor: str = "",
    *,
    query: str = "",
    size: int = PAGE_SIZE,
) -> Page[RowT]:
    """Return the page of ``queryset`` at ``cursor`` ('' for the first); raises InvalidCursor.

    ``order`` names columns that together are unique, all rising or all falling (``-name``);
    ``query`` is what else the list depends on, such as its filters.
    """
    salt = f"cursor:{current_tenant_id()}:{queryset.model._meta.label}:{','.join(order)}:{query}"
    backwards, position = _read(cursor, salt, len(order)) if cursor else (False, None)
    falling = order[0].startswith("-")
    columns = [name.removeprefix("-") for name in order]
    if position is not None:
        queryset = queryset.filter(_after(columns, position, falling != backwards))
    ordered = queryset.order_by(*(_turned(order) if backwards else order))
    rows = list(ordered[: size + 1])
    more, rows = len(rows) > size, rows[:size]
    if backwards:
        rows.reverse()
    has_next = bool(rows) and (more or backwards)
    has_previous = bool(rows) and (more if backwards else position is not None)
    return Page(
        rows,
        next=_write(rows[-1], columns, False, salt) if has_next else "",
        previous=_write(rows[0], columns, True, salt) if has_previous else "",
    )


def render_page(
    request: HttpRequest,
    template: str,
    rows: "models.QuerySet[Any]",
    order: Sequence[str],
    *,
    query: str = "",
    **context: Any,
) -> HttpResponse:
    """Render the page of ``rows`` that ``?after=`` asks for, as ``page`` in the template.

    ``query`` has the list's filters as its address writes them. An invalid cursor leads to the
    list's beginning, with the same filters.
    """
    try:
        cursor = request.GET.get("after", "")
        page = paginate(rows, order, cursor, query=f"{request.path}?{query}")
    except InvalidCursor:
        return redirect(f"{request.path}?{query}" if query else request.path)
    return render(request, template, {"page": page, "query": query, **context})


def _turned(order: Sequence[str]) -> list[str]:
    return [name[1:] if name.startswith("-") else f"-{name}" for name in order]


def _after(columns: list[str], position: list[Any], falling: bool) -> Q:
    """Compare as PostgreSQL compares rows: the first column decides, equal ones pass on."""
    operator = "lt" if falling else "gt"
    condition = Q()
    for index in range(len(columns)):
        equal = Q(**dict(zip(columns[:index], position[:index], strict=True)))
        condition |= equal & Q(**{f"{columns[index]}__{operator}": position[index]})
    # The last condition is implied by the others; it is the one that an index scan can start at.
    return condition & Q(**{f"{columns[0]}__{operator}e": position[0]})


def _write(row: models.Model, columns: list[str], backwards: bool, salt: str) -> str:
    position = [getattr(row, column) for column in columns]
    return signing.dumps([backwards, position], salt=salt, serializer=_Serializer)


def _read(cursor: str, salt: str, length: int) -> tuple[bool, list[Any]]:
    try:
        backwards, position = signing.loads(cursor, salt=salt, serializer=_Serializer)
    except signing.BadSignature:
        raise InvalidCursor from None
    if len(position) != length:
        raise InvalidCursor
    return backwards, position


class _Serializer(signing.JSONSerializer):
    """JSON that can write times and UUIDs; microseconds are kept, or rows would be skipped."""

    def dumps(self, obj: Any) -> bytes:
        return _Encoder(separators=(",", ":")).encode(obj).encode()


class _Encoder(DjangoJSONEncoder):
    def default(self, o: Any) -> Any:
        return o.isoformat() if hasattr(o, "isoformat") else super().default(o)
