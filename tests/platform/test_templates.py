"""The pages' templates: how they are written, and what they may call."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import jinja2
import pytest
from bulkhead import jinja
from django.conf import settings
from django.template import engines
from django.test import Client, RequestFactory
from django.urls import NoReverseMatch, reverse, set_script_prefix
from django.utils import timezone
from django.utils.timesince import timesince

from tenants.models import User
from tenants.page_functions import when
from tests.support.people import HOSTILE_NAMES, World

As = Callable[[User | None], Client]

FOLDER = settings.BASE_DIR / "templates"
IN_DJANGOS_LANGUAGE = FOLDER / "django"
ALL = sorted(FOLDER.rglob("*.html"))
OURS = [path for path in ALL if not path.is_relative_to(IN_DJANGOS_LANGUAGE)]
MAX_LINE_CHARS = 120
MAX_INDENT_CHARS = 24


def environment() -> jinja2.Environment:
    made: jinja2.Environment = engines["jinja2"].env  # type: ignore[attr-defined]  # it is Jinja2's
    return made


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(FOLDER)))
def test_lines_are_short_and_not_deep(path: Path) -> None:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        assert len(line) <= MAX_LINE_CHARS, number
        assert len(line) - len(line.lstrip()) <= MAX_INDENT_CHARS, number


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_each_page_compiles_and_escapes_everything(path: Path) -> None:
    environment().get_template(str(path.relative_to(FOLDER)))
    assert not re.search(r"\|\s*safe\b|\{%-?\s*autoescape", path.read_text())


def test_no_page_of_ours_has_the_name_of_one_in_djangos_language() -> None:
    for path in IN_DJANGOS_LANGUAGE.rglob("*.html"):
        assert not (FOLDER / path.relative_to(IN_DJANGOS_LANGUAGE)).exists(), path
    assert not (FOLDER / "admin").exists()


@pytest.mark.parametrize(
    "text", ["{{ misspelt }}", "{{ user.misspelt }}", "{% if misspelt %}{% endif %}"]
)
def test_a_misspelt_name_is_an_error(text: str) -> None:
    with pytest.raises(jinja2.UndefinedError):
        environment().from_string(text).render(user=object())


def test_nothing_says_that_text_need_not_be_escaped() -> None:
    with pytest.raises(jinja2.TemplateAssertionError):
        environment().from_string("{{ text|safe }}")
    assert environment().from_string("{{ text }}").render(text="<b>") == "&lt;b&gt;"


# --- what pages call -----------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize("prefix", ["/", "/below 100%/"])
def test_an_address_is_what_django_says(name: str, prefix: str) -> None:
    set_script_prefix(prefix)
    try:
        for page, args in [
            ("home", ()),
            ("admin:index", ()),
            ("model", ("team", name)),
            ("version", ("team", name, 12)),
            ("file", ("team", name, 1, "data/a b#c.txt")),
        ]:
            assert jinja.url(page, *args) == reverse(page, args=args)
    finally:
        set_script_prefix("/")


@pytest.mark.parametrize(
    ("page", "args"),
    [("model", ()), ("model", ("team", "a/b")), ("version", ("team", "a", "x")), ("none", ())],
)
def test_an_address_that_there_is_not_is_an_error(page: str, args: tuple[str, ...]) -> None:
    with pytest.raises(NoReverseMatch):
        jinja.url(page, *args)


def test_a_distance_in_time_is_what_django_says() -> None:
    now = timezone.now()
    minutes = [1, 2, 59, 60, 61, 119, 120, 1439, 1440, 2879, 2880, 10_079, 10_080, 20_160]
    days = [13, 14, 20, 21, 27, 28, 29, 30, 31, 32, 60, 364, 365, 366, 800]
    distances = [timedelta(minutes=count) for count in minutes]
    distances += [timedelta(days=count, hours=hours) for count in days for hours in (0, 23)]
    for distance in distances:
        moment = now - distance - timedelta(seconds=20)
        assert f">{timesince(moment, depth=1)} ago</time>" in when(moment), distance
    assert ">just now</time>" in when(now - timedelta(seconds=20))
    assert ">just now</time>" in when(now + timedelta(hours=1))
    assert when(None) == "never"


def test_a_page_has_one_token_and_the_next_page_another(world: World, as_: As) -> None:
    browser = as_(world.alice)

    def tokens() -> set[str]:
        page = browser.get(reverse("models", args=["team_alpha"])).content.decode()
        found = re.findall(r'name="csrfmiddlewaretoken" value="(\w{64})"', page)
        found += re.findall(r'"X-CSRFToken": "(\w{64})"', page)
        assert len(found) > 3
        return set(found)

    assert len(first := tokens()) == 1
    assert len(second := tokens()) == 1
    assert first != second  # masked anew, so that a compressed answer gives nothing away


def test_a_token_is_made_only_where_it_is_asked_for() -> None:
    request = RequestFactory().get("/")
    engines["jinja2"].from_string("no form").render({}, request)
    assert "CSRF_COOKIE" not in request.META
    page = engines["jinja2"].from_string("{{ csrf_input }}").render({}, request)
    assert request.META["CSRF_COOKIE"]
    assert page.startswith('<input type="hidden" name="csrfmiddlewaretoken" value="')


def test_an_unknown_page_makes_no_cookie(world: World) -> None:
    assert not Client().get("/t/team_alpha/").cookies
