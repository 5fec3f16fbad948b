"""Making, copying and revoking a token in a real browser, by mouse and by keyboard alone."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from tenants.identity import robots, tokens
from tenants.models import ApiToken, Role
from tests.support.browser import Watch, accessibility_faults
from tests.support.people import HOSTILE_NAMES, World

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])

SignIn = Callable[[str], Page]
TOKENS = "/t/team_alpha/tokens/"
ROBOTS = "/t/team_alpha/admin/robots/"
TOKEN = re.compile(r"bh[rw]_[0-9A-Za-z]{48}")
LONG = "a name as long as may be " * 4


def make_one(page: Page, name: str) -> str:
    """Fill in the form and return the secret that the page shows."""
    page.get_by_label("Name").fill(name)
    page.get_by_label("Scope").select_option("write")
    page.get_by_role("button", name="Make the token").click()
    heading = page.get_by_role("heading", name=f"Copy the token “{name}” now")
    expect(heading).to_be_visible()
    return page.locator("#secret").inner_text()


def test_a_token_is_made_copied_and_seen_once(
    world: World, sign_in: SignIn, live_server: LiveServer
) -> None:
    page = sign_in("bob")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=live_server.url)
    page.get_by_role("link", name="Tokens").click()
    expect(page.get_by_text("No tokens yet")).to_be_visible()
    secret = make_one(page, "laptop")
    assert TOKEN.fullmatch(secret)
    page.get_by_role("button", name="Copy the token").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == secret
    page.get_by_role("button", name="Copy both lines").click()
    lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert lines[0].endswith("/t/team_alpha")
    assert lines[1] == f"export MLFLOW_TRACKING_TOKEN={secret}"
    assert secret not in page.url

    page.reload()  # sends the form again
    expect(page.get_by_text("This token was made already.")).to_be_visible()
    assert secret not in page.content()
    assert ApiToken.objects.count() == 1
    page.go_back()
    page.goto(f"{live_server.url}{TOKENS}")
    assert secret not in page.content()
    assert secret not in page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])")

    page.get_by_role("link", name="Revoke laptop").click()
    page.get_by_role("button", name="Revoke the token").click()
    expect(page.get_by_text("The token laptop is revoked.")).to_be_visible()
    assert not ApiToken.objects.living().exists()


FOCUSED = """(({ariaLabel, labels, textContent}) =>
    [ariaLabel, labels?.[0]?.textContent, textContent]
    .map(text => (text ?? "").split(/\\s+/).filter(Boolean).join(" ")))(document.activeElement)"""


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the element with that accessible name has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if name in page.evaluate(FOCUSED):
            return
    pytest.fail(f"Tab never comes to {name}")


def test_the_keyboard_alone_makes_and_revokes(
    world: World, sign_in: SignIn, live_server: LiveServer
) -> None:
    page = sign_in("alice")
    page.goto(f"{live_server.url}{TOKENS}")
    tab_to(page, "Name")
    page.keyboard.type("by keyboard")
    tab_to(page, "Scope")
    page.keyboard.type("Read and")
    tab_to(page, "Make the token")
    page.keyboard.press("Enter")
    expect(page.locator("#secret")).to_be_visible()
    tab_to(page, "Copy the token")
    tab_to(page, "Revoke by keyboard")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Revoke by keyboard?")).to_be_visible()
    tab_to(page, "Revoke the token")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The token by keyboard is revoked.")).to_be_visible()


def test_an_admin_makes_rotates_and_removes_a_robot(
    world: World, sign_in: SignIn, watch: Watch, live_server: LiveServer
) -> None:
    page = sign_in("alice")
    page.get_by_role("link", name="Robots").click()
    watch.expected.add(422)
    page.get_by_label("Name").fill("Not A Name")
    page.get_by_role("button", name="Make the robot").click()
    expect(page.get_by_role("alert")).to_contain_text("lower-case letters")
    page.get_by_label("Name").fill("ci")
    page.get_by_label("Role").select_option("contributor")
    page.get_by_role("button", name="Make the robot").click()
    first = page.locator("#secret").inner_text()
    page.get_by_role("link", name="Rotate the token of ci").click()
    page.get_by_role("button", name="Rotate the token").click()
    expect(page.locator("#secret")).not_to_have_text(first)
    second = page.locator("#secret").inner_text()
    assert TOKEN.fullmatch(second)
    page.reload()
    expect(page.get_by_text("This token was made already.")).to_be_visible()
    assert [t.prefix for t in ApiToken.objects.living()] == [second[: tokens.PREFIX_CHARS]]
    page.get_by_role("link", name="Remove ci").click()
    page.get_by_role("button", name="Remove the robot").click()
    expect(page.get_by_text("No robots yet")).to_be_visible()


def fits(page: Page) -> list[str]:
    """Return what is wrong with the page in a wide, a middle and a narrow window."""
    faults = []
    for width in (1280, 900, 768, 320):
        page.set_viewport_size({"width": width, "height": 800})
        faults += accessibility_faults(page)
        needed = page.evaluate("document.documentElement.scrollWidth")
        if needed > width:
            faults.append(f"{page.url} needs {needed} of {width} px")
        if page.evaluate(CUT_OFF):
            faults.append(f"{page.url}: a table is cut off at {width} px")
    page.set_viewport_size({"width": 1280, "height": 800})
    return faults


CUT_OFF = """[...document.querySelectorAll(".table-wrap")]
    .some(box => box.scrollWidth > box.clientWidth)"""


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_every_page_is_accessible_and_fits(
    world: World, sign_in: SignIn, live_server: LiveServer, colours: str
) -> None:
    page = sign_in("alice")
    page.context.add_cookies([{"name": "theme", "value": colours, "url": live_server.url}])
    page.goto(f"{live_server.url}{TOKENS}")
    faults = fits(page)
    page.goto(f"{live_server.url}{ROBOTS}")
    faults += fits(page)
    for name in (LONG, *HOSTILE_NAMES[:7]):
        tokens.create_token(
            world.alice, name, scope="write", tenant=world.alpha, days=13, actor=world.alice
        )
    for name in ("ci", "x" * 40):
        robot = robots.create_robot(world.alpha, name, Role.MAINTAINER, world.alice)
        robots.rotate_token(robot, scope="write", days=2, actor=world.alice)
        tokens.create_token(robot, "second", scope="read", actor=world.alice)
    token = ApiToken.objects.filter(user=world.alice)[0]
    for address in (
        *(f"{TOKENS}{token.pk}/revoke/", f"{ROBOTS}ci/rotate/", f"{ROBOTS}{'x' * 40}/remove/"),
        *(ROBOTS, "/t/team_alpha/admin/members/", "/t/team_alpha/activity/?action=token", TOKENS),
    ):
        page.goto(f"{live_server.url}{address}")
        faults += fits(page)
    make_one(page, "shown")
    faults += fits(page)
    page.goto(f"{live_server.url}{ROBOTS}")
    page.get_by_label("Name").fill("shown")
    page.get_by_role("button", name="Make the robot").click()
    expect(page.locator("#secret")).to_be_visible()
    faults += fits(page)
    assert not faults, "\n".join(faults)
