"""The shape of a team's addresses: what is built can be read, and the URL patterns agree."""

from urllib.parse import quote

import pytest
from django.conf import settings
from django.urls import URLPattern, get_resolver, resolve, reverse
from hypothesis import given
from hypothesis import strategies as st

from tenants.api import read_address
from tenants.team_paths import TEAM, read_team_path, team_address, team_path

slugs = st.from_regex(r"[a-z0-9_-]{1,40}", fullmatch=True)


@given(slugs, st.text())
def test_what_is_built_can_be_read(slug: str, rest: str) -> None:
    assert read_team_path(team_path(slug, rest)) == (slug, rest)


@pytest.mark.parametrize("path", ["/", "/t", "/t/", "/t/team", "t/team/", "/tt/team/", "/T/team/"])
def test_a_path_that_is_not_below_a_team_names_none(path: str) -> None:
    assert read_team_path(path) is None


@pytest.mark.parametrize("slug", ["", "Team", "a b", "x" * 5_000, "\x00"])
def test_a_name_that_no_team_has_is_read_as_it_stands(slug: str) -> None:
    assert read_team_path(f"/t/{slug}/models/") == (slug, "models/")


def test_a_teams_address_is_a_tracking_uri() -> None:
    assert team_path("alpha") == "/t/alpha/"
    assert team_address("alpha") == f"{settings.SITE_URL}/t/alpha"
    assert team_address("alpha", "https://models.example.com") == (
        "https://models.example.com/t/alpha"
    )
    assert team_address("alpha", "") == "/t/alpha"


def test_each_page_of_a_team_is_below_the_teams_path() -> None:
    routes = [
        str(pattern.pattern)
        for pattern in get_resolver("tenants.urls").url_patterns
        if isinstance(pattern, URLPattern)
    ]
    assert [route for route in routes if route.startswith(TEAM)]
    assert {route for route in routes if not route.startswith(TEAM)} == {"", "theme/"}
    assert reverse("tokens", args=["alpha"]) == team_path("alpha", "tokens/")
    assert resolve(team_path("alpha", "tokens/")).kwargs == {"tenant": "alpha"}


@pytest.mark.parametrize("kind", ["api", "ajax-api"])
@given(slugs, st.text())
def test_an_endpoint_is_the_same_with_a_team_and_without(kind: str, slug: str, rest: str) -> None:
    assert read_address(f"/{kind}/{rest}") == ("", rest)
    assert read_address(team_path(slug, f"{kind}/{rest}")) == (slug, rest)


@pytest.mark.parametrize(
    "path", ["/", "//api/2.0", "/apis/2.0", "/t/api/2.0", "/t/a//api/2.0", "/t/a/b/api/2.0"]
)
def test_what_only_looks_like_the_api_is_a_page(path: str) -> None:
    assert read_address(path) is None


def test_the_api_and_its_url_patterns_know_the_same_addresses() -> None:
    for team in ("", "t/alpha/"):
        for rest in ("api/2.0/x", "ajax-api/2.0/x", "model-versions/get-artifact"):
            assert read_address(f"/{team}{rest}") is not None
            assert "api" in resolve(quote(f"/{team}{rest}")).func.__name__
