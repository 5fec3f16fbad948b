"""The main job in a real browser: a member of a team works with its models, and sees no others."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import call_command
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from models_registry import registry
from models_registry.models import RegisteredModel
from tenants.isolation.scope import tenant_scope
from tests.support.browser import Watch, accessibility_faults
from tests.support.people import HOSTILE_NAMES, PASSWORD, World

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])

SignIn = Callable[[str], Page]
TEAM = "/t/team_gamma"
CUT_OFF = """[...document.querySelectorAll(".table-wrap, .table-wrap .scroll")]
    .some(box => box.scrollWidth > box.clientWidth)"""


@pytest.fixture
def gamma(world: World, tmp_path: Path) -> World:
    """Give the teams the models of the demo, by the command that people use."""
    for tenant in (world.alpha, world.gamma):
        with tenant_scope(tenant):
            RegisteredModel.objects.all().delete()
    versions = [
        {"source": f"s3://b/{n}", "metrics": {"auc": 0.9 + n / 100}, "params": {"C": f"{n}"}}
        for n in (1, 2, 3)
    ]
    rich = {
        "description": "Reads digits",
        "card": "---\nlicense: mit\n---\n# Digits\n\n| a | b |\n| - | -: |\n| 1 | 2 |\n\n`code`",
        "tags": {"framework": "scikit-learn", "task": "classification"},
        "versions": versions,
        "aliases": {"production": 1, "champion": 2},
    }
    file = tmp_path / "models.json"
    models = [{"name": name, **rich} for name in ("model4", "model5", "model6")]
    file.write_text(json.dumps({"team_alpha": ["model1", "model2"], "team_gamma": models}))
    call_command("import_models", file, verbosity=0)
    return world


@pytest.fixture(autouse=True)
def forms_may_complain(watch: Watch) -> None:
    """Let a form answer 422: it is how it says what is wrong."""
    watch.expected.add(422)


def addresses(model: str) -> list[str]:
    """Return every page that a contributor of the team can open."""
    of_model = [
        *("", "edit/", "add-version/", "access/", "history/", "versions/", "versions/2/"),
        *("versions/2/edit/", "aliases/", "aliases/?alias=champion", "compare/"),
        "compare/?v=1&v=2&v=3",
    ]
    return [
        *(f"{TEAM}/models/{model}/{page}" for page in of_model),
        *(f"{TEAM}/{page}" for page in ("", "models/", "models/?q=nothing", "register/")),
        *(f"{TEAM}/{page}" for page in ("shared/", "activity/", "admin/members/")),
    ]


def test_gina_works_with_the_models_of_her_team_and_sees_no_others(
    gamma: World, sign_in: SignIn
) -> None:
    page = sign_in("gina")
    page.get_by_role("link", name="Models", exact=True).first.click()
    names = page.locator("tbody th a.name")
    expect(names).to_have_count(3)
    assert sorted(names.all_inner_texts()) == ["model4", "model5", "model6"]
    assert "model1" not in page.content()
    assert "team_alpha" not in page.content()

    page.get_by_role("link", name="model4", exact=True).click()
    expect(page.get_by_role("heading", name="model4", level=1)).to_be_visible()
    expect(page.get_by_role("img", name="auc across versions")).to_be_visible()

    page.get_by_label("Compare version 3").check()
    page.get_by_label("Compare version 1").check()
    page.get_by_role("button", name="Compare chosen").click()
    expect(page.get_by_role("rowheader", name="auc")).to_be_visible()

    page.goto(page.url.split("/models/")[0] + "/register/")
    page.get_by_label("Name").fill("my model %2e")
    page.get_by_label("Tags").fill("no equals sign")
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_text("Line 1")).to_be_visible()
    page.get_by_label("Tags").fill("task = ranking")
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_role("heading", name="my model %2e", level=1)).to_be_visible()


def test_an_alias_moves_and_not_behind_anybodys_back(
    gamma: World, sign_in: SignIn, watch: Watch, live_server: LiveServer
) -> None:
    page = sign_in("gina")
    page.goto(f"{live_server.url}{TEAM}/models/model4/aliases/?alias=champion")
    expect(page.get_by_text("now version 2")).to_be_visible()
    page.get_by_label("to version").fill("3")
    with tenant_scope(gamma.gamma, gamma.hugo):
        registry.set_alias(RegisteredModel.objects.get(name="model4"), "champion", 1)
    watch.expected.add(409)
    page.get_by_role("button", name="Move the alias").click()
    expect(page.get_by_role("alert")).to_contain_text("hugo did it")
    page.get_by_role("button", name="Move the alias").click()
    expect(page.get_by_text("@champion points at version 3.")).to_be_visible()


def test_deleting_an_alias_asks_first(
    gamma: World, sign_in: SignIn, live_server: LiveServer
) -> None:
    page = sign_in("gina")
    page.goto(f"{live_server.url}{TEAM}/models/model4/")
    button = page.get_by_role("button", name="Delete alias champion")
    button.click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(button).to_be_focused()
    button.click()
    page.get_by_role("dialog").get_by_role("button", name="Continue").click()
    expect(page.get_by_text("@champion is deleted.")).to_be_visible()


def test_filters_live_in_the_address_and_back_works(
    gamma: World, sign_in: SignIn, live_server: LiveServer
) -> None:
    page = sign_in("gina")
    page.goto(f"{live_server.url}{TEAM}/models/")
    page.keyboard.press("/")
    expect(page.get_by_label("Search names, cards, tags and aliases")).to_be_focused()
    page.keyboard.type("model5")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(1)
    assert "q=model5" in page.url
    page.go_back()
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    page.go_forward()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(1)
    # Nothing of the team outlives the session in the browser.
    assert "model5" not in page.evaluate(
        "Object.entries(sessionStorage).filter(([key]) => key.includes('cache')).join()"
    )


def test_a_star_keeps_the_keyboards_place(
    gamma: World, sign_in: SignIn, live_server: LiveServer
) -> None:
    page = sign_in("gina")
    page.goto(f"{live_server.url}{TEAM}/models/model4/")
    star = page.get_by_role("button", name="Star model4")
    star.focus()
    page.keyboard.press("Enter")
    expect(star).to_have_attribute("aria-pressed", "true")
    expect(star).to_be_focused()


def test_the_search_shortcut_can_be_switched_off(
    gamma: World, sign_in: SignIn, live_server: LiveServer
) -> None:
    page = sign_in("gina")
    page.get_by_label("to search").uncheck()
    page.goto(f"{live_server.url}{TEAM}/models/")
    page.keyboard.press("/")
    expect(page.get_by_label("Search names, cards, tags and aliases")).not_to_be_focused()
    expect(page.get_by_label("to search")).not_to_be_checked()


def test_an_ended_session_leads_to_the_sign_in_page(
    gamma: World, sign_in: SignIn, live_server: LiveServer
) -> None:
    page = sign_in("gina")
    page.goto(f"{live_server.url}{TEAM}/models/")
    page.context.clear_cookies(name="sessionid")
    page.get_by_label("Order").select_option("name")
    page.wait_for_url("**/sign-in/?next=**")
    expect(page.get_by_label("Password")).to_be_visible()


def test_a_failed_request_is_told(
    gamma: World, sign_in: SignIn, watch: Watch, live_server: LiveServer
) -> None:
    page = sign_in("gina")
    page.goto(f"{live_server.url}{TEAM}/models/model4/")
    with tenant_scope(gamma.gamma):
        RegisteredModel.objects.get(name="model4").delete()
    watch.expected.add(404)
    page.get_by_role("button", name="Star model4").click()
    expect(page.get_by_role("alert")).to_contain_text("Request failed (404)")
    watch.faults[:] = [fault for fault in watch.faults if "404" not in fault]


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_every_page_is_accessible_and_fits(
    gamma: World, sign_in: SignIn, live_server: LiveServer, colours: str
) -> None:
    page = sign_in("gina")
    page.context.add_cookies([{"name": "theme", "value": colours, "url": live_server.url}])
    faults = []
    for address in addresses("model4"):
        page.set_viewport_size({"width": 1280, "height": 800})
        page.goto(f"{live_server.url}{address}")
        faults += accessibility_faults(page)
        if page.evaluate(CUT_OFF):
            faults.append(f"{address}: a table is cut off")
        for width in (768, 320):
            page.set_viewport_size({"width": width, "height": 800})
            needed = page.evaluate("document.documentElement.scrollWidth")
            if needed > width:
                faults.append(f"{address} needs {needed} of {width} px")
    page.get_by_role("button", name="Menu").click()
    faults += accessibility_faults(page)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_the_pages_outside_teams_are_accessible(
    gamma: World, page: Page, watch: Watch, live_server: LiveServer, colours: str
) -> None:
    watch.expected |= {404}
    page.emulate_media(color_scheme="dark" if colours == "dark" else "light")
    faults = []
    for address in ("/sign-in/", "/inactive/", "/nothing/"):
        page.goto(f"{live_server.url}{address}")
        faults += accessibility_faults(page)
    page.goto(f"{live_server.url}/sign-in/")
    page.get_by_label("User name or e-mail").fill("charlie")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("You are in no team yet")).to_be_visible()
    faults += accessibility_faults(page)
    assert not faults, "\n".join(faults)


def test_names_that_break_what_does_not_quote_run_nothing(
    gamma: World, sign_in: SignIn, live_server: LiveServer
) -> None:
    with tenant_scope(gamma.gamma):
        for name in HOSTILE_NAMES:
            registry.register_model(name, description=name, card=name, tags={"task": name})
    page = sign_in("gina")
    page.on("dialog", lambda dialog: pytest.fail(f"a dialog: {dialog.message}"))
    page.set_viewport_size({"width": 320, "height": 800})
    for name in HOSTILE_NAMES:
        page.goto(f"{live_server.url}{TEAM}/models/?sort=name")
        page.locator("tbody th a.name").filter(has_text=name.strip()[:8]).first.click()
        page.get_by_role("heading", level=1).wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 320


def test_without_javascript_everything_works(
    gamma: World, browser: Browser, live_server: LiveServer
) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 360, "height": 800})
    page = context.new_page()
    page.goto(f"{live_server.url}{TEAM}/models/")
    page.get_by_label("User name or e-mail").fill("gina")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Menu")).to_be_hidden()
    expect(page.get_by_role("link", name="Activity")).to_be_visible()
    page.get_by_label("Search names").fill("model6")
    page.get_by_role("button", name="Apply").click()
    page.get_by_role("link", name="model6", exact=True).click()
    page.get_by_role("button", name="Star model6").click()
    expect(page.get_by_role("button", name="Star model6")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Dark colours").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="Delete alias champion").click()
    expect(page.get_by_text("@champion is deleted.")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Password")).to_be_visible()
    context.close()
