"""The page about a team's namespace in a real browser: in every width and colour, by keyboard."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from tenants.models import Tenant
from tests.support.browser import Watch, accessibility_faults
from tests.support.people import World
from tests.support.states import foreign, looked, objects_of, quota_of

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])

SignIn = Callable[[str], Page]
PAGE = "/t/team_alpha/isolation/"
WIDER = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
#: What a person would have to scroll sideways for, though the page itself is narrow enough.
CUT_OFF = """[...document.querySelectorAll("main .fits, main .table-wrap")]
    .filter(box => box.scrollWidth > box.clientWidth).map(box => box.innerText)"""
CLIPBOARD = """Object.defineProperty(navigator, "clipboard", {value: {
    writeText: async text => { window.copied = text; } }})"""


def empty(tenant: Tenant) -> None:
    """Look at no cluster."""


def fine(tenant: Tenant) -> None:
    """Find everything as it should be."""
    looked(tenant, quota=quota_of(tenant, **{"requests.cpu": "1500m", "pods": "7"}))


def bad(tenant: Tenant) -> None:
    """Find everything that can be found."""
    found = objects_of(tenant, bh_default_deny="missing", bh_allow_dns="drift", bh_compute="drift")
    for entry in found:
        if entry["state"] == "drift":
            entry["fields"] = [{"field": ".spec.something.rather.long", "manager": "kubectl-edit"}]
    found += [
        foreign("NetworkPolicy", "let-everybody-in-for-the-demonstration-of-thursday"),
        foreign("RoleBinding", "friends"),
    ]
    looked(
        tenant,
        "drift",
        minutes=90,
        objects_found=found,
        quota=quota_of(tenant, **{"pods": "20", "requests.cpu": "3900m"}),
        workloads=[{"kind": "Pod", "name": "serve-7d9c4", "problem": "Its version is recalled."}],
        warnings=["would violate PodSecurity: allowPrivilegeEscalation != false"],
    )
    looked(tenant, "error", cluster="edge", error="connection_refused_" * 12, objects_found=[])
    taken: list[dict[str, Any]] = [
        {"kind": "Namespace", "name": "bh-team-alpha", "state": "conflict"}
    ]
    looked(tenant, "conflict", cluster="new", objects_found=taken, quota={})


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("arrange", [empty, fine, bad])
def test_the_page_is_readable_for_everybody_at_each_width(
    world: World,
    sign_in: SignIn,
    live_server: LiveServer,
    theme: str,
    arrange: Callable[[Tenant], None],
) -> None:
    arrange(world.alpha)
    page = sign_in("bob")
    page.context.add_cookies([{"name": "theme", "value": theme, "url": live_server.url}])
    for width in (1440, 900, 320):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(f"{live_server.url}{PAGE}")
        for details in page.locator("main details:not(.menu) > summary").all():
            details.click()
        assert accessibility_faults(page) == []
        assert not page.evaluate(WIDER), width
        assert page.evaluate(CUT_OFF) == [], width


def test_the_network_is_drawn_once_for_each_width(
    world: World, sign_in: SignIn, live_server: LiveServer
) -> None:
    fine(world.alpha)
    page = sign_in("bob")
    picture = page.get_by_role("img", name="Who may talk to whom in bh-team-alpha")
    for width, shown, hidden in ((1440, "wide", "narrow"), (320, "narrow", "wide")):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(f"{live_server.url}{PAGE}")
        expect(picture).to_have_count(1)
        expect(page.locator(f"svg.network.{shown}")).to_be_visible()
        expect(page.locator(f"svg.network.{hidden}")).to_be_hidden()
        gateway = page.locator("svg.network:visible text").get_by_text("Gateway", exact=True)
        expect(gateway).to_be_visible()
    # No text of the drawing is smaller than nine pixels on the narrowest screen, nor leaves it.
    measured = page.evaluate(
        """(() => { const svg = document.querySelector("svg.network.narrow");
        const frame = svg.getBoundingClientRect();
        return [...svg.querySelectorAll("text")].map(text => {
            const box = text.getBoundingClientRect();
            return [box.height, box.left >= frame.left && box.right <= frame.right]; }); })()"""
    )
    assert len(measured) > 8
    assert all(height >= 9 and inside for height, inside in measured)


def test_names_are_copied_by_keyboard(
    world: World, sign_in: SignIn, live_server: LiveServer
) -> None:
    page = sign_in("bob")
    page.add_init_script(CLIPBOARD)
    page.goto(f"{live_server.url}{PAGE}")
    for label, text in (
        ("Copy the namespace's name", "bh-team-alpha"),
        ("Copy the command", "manage.py sync_kubernetes --mode observe"),
        ("Copy the group of editors", "bh:team_alpha:editor"),
    ):
        button = page.get_by_role("button", name=label)
        for _ in range(60):
            page.keyboard.press("Tab")
            if button.evaluate("button => button === document.activeElement"):
                break
        expect(button).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("status").get_by_text("Copied.")).to_be_visible()
        assert page.evaluate("window.copied") == text


def test_the_bundle_is_downloaded_in_each_form(
    world: World, sign_in: SignIn, live_server: LiveServer, watch: Watch
) -> None:
    page = sign_in("bob")
    page.goto(f"{live_server.url}{PAGE}")
    for name, file in (
        ("Bundle as YAML", "bh-team-alpha.yaml"),
        ("Kustomize", "bh-team-alpha-kustomize.zip"),
    ):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        assert download.value.suggested_filename == file
    page.locator("summary", has_text="Argo CD").click()
    field = page.get_by_label("Repository that Argo CD reads")
    watch.expected.add(422)
    field.fill("not a repository")
    page.get_by_role("button", name="Download").click()
    expect(page.get_by_role("alert")).to_contain_text("Say which repository")
    expect(field).to_have_value("not a repository")
    assert accessibility_faults(page) == []
    field.fill("https://git.example.org/clusters.git")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "bh-team-alpha-argocd.zip"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_platforms_page_is_readable_for_everybody(
    world: World,
    browser: Browser,
    live_server: LiveServer,
    sign_in: SignIn,
    page: Page,
    scheme: Any,
) -> None:
    bad(world.alpha)
    page.emulate_media(color_scheme=scheme)
    sign_in("dana")
    page.goto(f"{live_server.url}/admin/")
    page.locator("#content").get_by_role("link", name="Isolation", exact=True).click()
    expect(
        page.get_by_role("img", name="Tenants by state: Error 1, Not looked at 1")
    ).to_be_visible()
    assert accessibility_faults(page) == []
    page.locator(".states").get_by_role("link", name="With a problem 1").click()
    expect(page.get_by_role("link", name="team_alpha")).to_be_visible()
    expect(page.get_by_role("link", name="team_gamma")).to_have_count(0)
    page.set_viewport_size({"width": 320, "height": 800})
    assert not page.evaluate(WIDER)
    assert accessibility_faults(page) == []


def test_the_numbers_of_a_size_are_there_when_they_count(
    world: World, sign_in: SignIn, live_server: LiveServer
) -> None:
    page = sign_in("dana")
    page.goto(f"{live_server.url}/admin/tenants/tenant/{world.alpha.pk}/change/")
    cores = page.get_by_label("CPU cores")
    expect(cores).to_be_hidden()
    page.locator("#id_size").select_option("custom")
    expect(cores).to_be_visible()
    cores.fill("6")
    page.get_by_role("button", name="Save", exact=True).click()
    world.alpha.refresh_from_db()
    assert (world.alpha.size, world.alpha.custom_size) == ("custom", {"cores": 6})
