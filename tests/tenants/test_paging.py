"""Paging: each row exactly once in both directions, and no cursor but one's own is taken."""

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from models_registry import registry
from models_registry.models import ModelVersion, RegisteredModel
from models_registry.queries import SORTS
from tenants.isolation.scope import tenant_scope
from tenants.models import User
from tenants.paging import PAGE_SIZE, InvalidCursor, Page, paginate
from tests.support.people import World

NEWEST = ("-updated_at", "-id")


@pytest.fixture
def many(world: World) -> World:
    """Give team_alpha models of which several share each time and differ by a microsecond."""
    start = timezone.now() - timedelta(days=1)
    with tenant_scope(world.alpha, world.alice):
        RegisteredModel.objects.all().delete()
        for number in range(23):
            moment = start + timedelta(microseconds=number // 3)
            model = registry.register_model(f"m {number:02}")
            RegisteredModel.objects.filter(pk=model.pk).update(created_at=moment, updated_at=moment)
    return world


def walk(order: tuple[str, ...], size: int) -> list[Page[RegisteredModel]]:
    """Return all pages from the first to the last."""
    pages = [paginate(RegisteredModel.objects.all(), order, size=size)]
    while pages[-1].next:
        pages.append(paginate(RegisteredModel.objects.all(), order, pages[-1].next, size=size))
    return pages


@pytest.mark.parametrize("size", [1, 4, 22, 23, 24])
@pytest.mark.parametrize("sort", SORTS)
def test_each_row_comes_once_and_the_way_back_is_the_same(
    many: World, sort: str, size: int
) -> None:
    order = SORTS[sort][1]
    with tenant_scope(many.alpha):
        expected = list(RegisteredModel.objects.order_by(*order))
        pages = walk(order, size)
        assert [row for page in pages for row in page.rows] == expected
        assert not pages[0].previous
        for before, page in pairwise(pages):
            back = paginate(RegisteredModel.objects.all(), order, page.previous, size=size)
            assert back.rows == before.rows
            assert back.next
            assert bool(back.previous) == bool(before.previous)


def test_a_row_that_comes_or_goes_meanwhile_moves_no_other(many: World) -> None:
    with tenant_scope(many.alpha, many.alice):
        first = paginate(RegisteredModel.objects.all(), ("name", "id"), size=10)
        first.rows[3].delete()
        registry.register_model("a first one")
        second = paginate(RegisteredModel.objects.all(), ("name", "id"), first.next, size=10)
    assert [row.name for row in second.rows] == [f"m {number}" for number in range(10, 20)]


def test_the_row_at_which_a_page_ended_may_be_gone(many: World) -> None:
    with tenant_scope(many.alpha, many.alice):
        first = paginate(RegisteredModel.objects.all(), ("name", "id"), size=10)
        first.rows[-1].delete()
        second = paginate(RegisteredModel.objects.all(), ("name", "id"), first.next, size=10)
    assert second.rows[0].name == "m 10"


def test_an_empty_list_is_one_empty_page(world: World) -> None:
    with tenant_scope(world.alpha):
        page = paginate(RegisteredModel.objects.none(), NEWEST)
    assert not page
    assert (page.next, page.previous) == ("", "")


def test_no_page_counts_or_skips_rows(many: World) -> None:
    with (
        tenant_scope(many.alpha),
        CaptureQueriesContext(
            connection,
        ) as queries,
    ):
        walk(NEWEST, 5)
    assert queries.captured_queries
    for query in queries.captured_queries:
        assert "OFFSET" not in query["sql"]
        assert "COUNT(" not in query["sql"]


def _changed(cursor: str) -> list[str]:
    position, *signature = cursor.split(":")
    return [
        "x",
        ":",
        "::",
        cursor[:-1],
        cursor + "x",
        cursor.swapcase(),
        ":".join(["A" + position[1:], *signature]),
        ":".join(["", *signature]),
        position,
        "\x00",
        "模" * 50,
        "é:é:é",
    ]


def test_a_cursor_that_was_edited_is_refused(many: World) -> None:
    with tenant_scope(many.alpha):
        cursor = paginate(RegisteredModel.objects.all(), NEWEST, size=5).next
        for wrong in _changed(cursor):
            with pytest.raises(InvalidCursor):
                paginate(RegisteredModel.objects.all(), NEWEST, wrong, size=5)


def test_a_cursor_of_another_team_order_query_or_list_is_refused(many: World) -> None:
    everything = RegisteredModel.objects
    with tenant_scope(many.alpha):
        cursor = paginate(everything.all(), NEWEST, query="q=a", size=5).next
        assert paginate(everything.all(), NEWEST, cursor, query="q=a", size=5)
        with pytest.raises(InvalidCursor):
            paginate(everything.all(), NEWEST, cursor, query="q=b", size=5)
        with pytest.raises(InvalidCursor):
            paginate(everything.all(), ("-created_at", "-id"), cursor, query="q=a", size=5)
        with pytest.raises(InvalidCursor):
            paginate(ModelVersion.objects.all(), NEWEST, cursor, query="q=a", size=5)
    with tenant_scope(many.gamma), pytest.raises(InvalidCursor):
        paginate(everything.all(), NEWEST, cursor, query="q=a", size=5)


# --- on the pages --------------------------------------------------------------------------

As = Callable[[User | None], Client]


@pytest.fixture
def crowded(world: World) -> World:
    """Give team_alpha's `fraud` and its list more rows than one page holds."""
    with tenant_scope(world.alpha, world.alice):
        for number in range(PAGE_SIZE + 5):
            registry.register_model(f"more {number:02}")
        model = RegisteredModel.objects.get(name="fraud")
        for _ in range(PAGE_SIZE + 5):
            registry.add_version(model)
    return world


LISTS = {
    "models": (),
    "activity": (),
    "versions": ("fraud",),
    "model_history": ("fraud",),
}


def _next(response: Any) -> str:
    cursor: str = response.context["page"].next
    return cursor


@pytest.mark.parametrize("name", LISTS)
def test_a_lists_second_page_leads_back(crowded: World, as_: As, name: str) -> None:
    browser, url = as_(crowded.alice), reverse(name, args=["team_alpha", *LISTS[name]])
    first = browser.get(url)
    second = browser.get(url, {"after": _next(first)})
    assert second.status_code == 200
    assert second.context["page"].rows
    assert not {row.pk for row in second.context["page"].rows} & {
        row.pk for row in first.context["page"].rows
    }
    back = browser.get(url, {"after": second.context["page"].previous})
    assert back.context["page"].rows == first.context["page"].rows
    assert quote(second.context["page"].previous) in second.content.decode()


@pytest.mark.parametrize("name", LISTS)
def test_a_lists_wrong_cursor_leads_to_its_beginning(crowded: World, as_: As, name: str) -> None:
    browser, url = as_(crowded.alice), reverse(name, args=["team_alpha", *LISTS[name]])
    cursor = _next(browser.get(url))
    for wrong in _changed(cursor):
        response = browser.get(url, {"after": wrong})
        assert response.status_code == 302
        assert response["Location"].rstrip("?") == url


def test_a_wrong_cursor_of_the_activity_page_keeps_its_filter(crowded: World, as_: As) -> None:
    browser, url = as_(crowded.alice), reverse("activity", args=["team_alpha"])
    answer = browser.get(url, {"action": "model", "after": "nonsense"})
    assert (answer.status_code, answer["Location"]) == (302, f"{url}?action=model")


def test_a_cursor_keeps_to_its_filters(crowded: World, as_: As) -> None:
    browser, url = as_(crowded.alice), reverse("models", args=["team_alpha"])
    cursor = _next(browser.get(url, {"q": "more"}))
    assert cursor
    assert browser.get(url, {"q": "more", "after": cursor}).status_code == 200
    other = browser.get(url, {"q": "other", "after": cursor})
    assert (other.status_code, other["Location"]) == (302, f"{url}?q=other")
