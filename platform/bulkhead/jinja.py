"""Jinja2's environment, in which our own pages are rendered, and all that they may call.

The pages in `templates/` are Jinja2's, but for those in `templates/django/`: they extend pages of
Django's admin, and so are in Django's language. A name that a page misspells is an error, never
nothing; text is escaped wherever it stands, and no filter says that it need not be. What a context
processor gives has precedence over what a view gives under the same name.
"""

import re
from collections.abc import Callable
from datetime import date, datetime
from functools import cache, cached_property, lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote

import jinja2
from django.http import HttpRequest
from django.middleware.csrf import get_token
from django.template import defaultfilters
from django.templatetags.static import static
from django.urls import URLResolver, get_resolver, get_script_prefix, reverse
from django.utils.functional import SimpleLazyObject
from django.utils.html import format_html
from django.utils.http import RFC3986_SUBDELIMS, escape_leading_slashes
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from lucide.jinja import lucide

from models_registry import page_functions as registry
from tenants import page_functions as tenants
from tenants.kubernetes.pages import network


def environment(**options: Any) -> jinja2.Environment:
    """Return the environment of our pages; ``options`` are those that Django's backend gives."""
    fixed = {"autoescape": True, "undefined": jinja2.StrictUndefined}
    made = jinja2.Environment(**options | fixed, trim_blocks=True)  # noqa: S701  # it escapes
    del made.filters["safe"]
    made.globals = dict(GLOBALS)
    made.filters |= FILTERS
    return made


def csrf(request: HttpRequest) -> dict[str, Any]:
    """Give the page its token, made when it is first asked for and then the same everywhere.

    Django's own makes another one for each of the fifty forms of a list.
    """
    token = SimpleLazyObject(lambda: get_token(request))
    return {"csrf_token": token, "csrf_input": _TokenField(token)}


class _TokenField:
    """The hidden field of a form that carries the token."""

    def __init__(self, token: object) -> None:
        self._token = token

    @cached_property
    def _html(self) -> SafeString:
        return format_html(
            '<input type="hidden" name="csrfmiddlewaretoken" value="{}">', self._token
        )

    def __html__(self) -> SafeString:
        return self._html


# --- what pages call -----------------------------------------------------------------------


#: What stands for itself in a path (RFC 3986), and what needs no look at each character.
SAFE = f"{RFC3986_SUBDELIMS}/~:@"
PLAIN = re.compile(r"[A-Za-z0-9/_.~-]*")


class _Address(NamedTuple):
    """How the addresses of one view are written."""

    text: str
    params: list[str]
    to_url: dict[str, Callable[[Any], str]]
    valid: re.Pattern[str]


def url(name: str, *args: Any) -> str:
    """Return what ``reverse`` returns; a list of fifty models asks for a hundred addresses."""
    prefix = get_script_prefix()
    address = _address(get_resolver(), prefix, name, len(args))
    if address is not None:
        values = {
            param: address.to_url.get(param, str)(value)
            for param, value in zip(address.params, args, strict=True)
        }
        found = address.text % values
        if address.valid.search(found):
            quoted = found if PLAIN.fullmatch(found) else quote(found, safe=SAFE)
            return escape_leading_slashes(quoted)
    return reverse(name, args=args)


@cache
def _address(resolver: URLResolver, prefix: str, name: str, count: int) -> _Address | None:
    """Return how the only view of this name is addressed with ``count`` arguments."""
    found = [
        _Address(
            prefix.replace("%", "%%") + text,
            params,
            {param: converter.to_url for param, converter in converters.items()},
            re.compile(f"^{re.escape(prefix)}{pattern}"),
        )
        for possibilities, pattern, _, converters in resolver.reverse_dict.getlist(name)
        for text, params in possibilities
        if len(params) == count
    ]
    return found[0] if len(found) == 1 else None


@lru_cache(maxsize=256)
def icon(name: str, size: int = 16, **attributes: str) -> str:
    """Draw one of Lucide's icons; what it stands beside says the same in words."""
    return lucide(name, size=size, aria_hidden="true", **attributes)


def as_date(moment: date | None, form: str = "Y-m-d") -> str:
    """Write a day or a time as Django's ``date`` does; '' for None."""
    if isinstance(moment, datetime):
        moment = localtime(moment)
    return defaultfilters.date(moment, form)


#: The functions that a page may call.
GLOBALS = {
    "url": url,
    "static": static,
    "icon": icon,
    "by_day": tenants.by_day,
    "draw_network": network.draw,
    "code_for": registry.code_for,
    "first_code": registry.first_code,
    "line_chart": registry.line_chart,
    "reference": registry.reference,
    "sparkline": registry.sparkline,
}
#: The filters beside Jinja2's own; those of Django replace Jinja2's of the same name.
FILTERS = {
    "alias_kind": registry.alias_kind,
    "as_card": registry.as_card,
    "as_date": as_date,
    "as_size": registry.as_size,
    "capfirst": defaultfilters.capfirst,
    "harmless": registry.harmless,
    "in_words": tenants.in_words,
    "initials": tenants.initials,
    "linebreaksbr": defaultfilters.linebreaksbr,
    "number": registry.number,
    "pluralize": defaultfilters.pluralize,
    "ranked": registry.ranked,
    "timeuntil": defaultfilters.timeuntil_filter,
    "truncatechars": defaultfilters.truncatechars,
    "urlencode": defaultfilters.urlencode,
    "when": tenants.when,
    "yesno": defaultfilters.yesno,
}
