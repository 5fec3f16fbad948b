"""Checking manifests in a real browser: pasted, dropped, by keyboard, and without JavaScript."""

from collections.abc import Callable

import pytest
import yaml
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from tests.support.browser import Watch, accessibility_faults
from tests.support.manifests import BROKEN, MISPLACED, but, pod
from tests.support.people import World

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])

SignIn = Callable[[str], Page]
CHECK = "/t/team_alpha/check/"
CLEAN = yaml.safe_dump(pod())

DROP = """([name, text]) => {
    const data = new DataTransfer();
    data.items.add(new File([text], name));
    const target = document.getElementById("id_manifests");
    for (const kind of ["dragover", "drop"]) {
        target.dispatchEvent(
            new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: data}));
    }
}"""
SELECTED = """() => {
    const text = document.activeElement;
    return text.value.slice(text.selectionStart, text.selectionEnd);
}"""


@pytest.fixture
def page_of_bob(world: World, sign_in: SignIn, live_server: LiveServer) -> Page:
    """The page, open for bob, who may only read."""
    page = sign_in("bob")
    page.goto(f"{live_server.url}{CHECK}")
    return page


def test_a_pasted_manifest_is_checked_and_its_lines_are_found_again(page_of_bob: Page) -> None:
    page = page_of_bob
    expect(page.get_by_role("heading", name="For example")).to_be_visible()
    page.get_by_label("Manifests").fill(MISPLACED)
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_text("2 objects: 2 errors, 1 warning.")).to_be_visible()
    page.get_by_role("link", name="line 10").press("Enter")
    assert page.evaluate(SELECTED) == "  namespace: tenant2"
    page.get_by_role("link", name="line 4").press("Enter")
    assert page.evaluate(SELECTED) == "  name: tenant1"
    page.get_by_label("Manifests").fill(CLEAN)
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_text("1 object, and nothing is wrong with it.")).to_be_visible()


def test_a_dropped_file_is_checked(page_of_bob: Page) -> None:
    page = page_of_bob
    page.evaluate(DROP, ["pods.yaml", yaml.safe_dump(but(pod(), namespace="x"))])
    expect(page.get_by_label("Files")).to_be_focused()
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_text("pods.yaml, line").first).to_be_visible()


def test_without_javascript_it_works_too(
    world: World, browser: Browser, sign_in: SignIn, live_server: LiveServer
) -> None:
    state = sign_in("bob").context.storage_state()
    context = browser.new_context(java_script_enabled=False, storage_state=state)
    page = context.new_page()
    page.goto(f"{live_server.url}{CHECK}")
    expect(page.get_by_text("you can drop them")).to_be_hidden()
    page.get_by_label("Manifests").fill(MISPLACED)
    page.get_by_label("Files").set_input_files(
        {"name": "a.yaml", "mimeType": "text/yaml", "buffer": CLEAN.encode()}
    )
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_text("3 objects: 2 errors, 1 warning.")).to_be_visible()
    page.get_by_role("link", name="line 10").click()
    assert page.url.endswith("#id_manifests")
    context.close()


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_every_state_of_the_page_is_accessible_and_fits(
    page_of_bob: Page, live_server: LiveServer, watch: Watch, colours: str
) -> None:
    page = page_of_bob
    watch.expected |= {422}
    page.context.add_cookies([{"name": "theme", "value": colours, "url": live_server.url}])
    page.reload()
    faults = []
    long = yaml.safe_dump(but(pod(), name="x" * 200, namespace="y" * 200))
    for text in (None, "", MISPLACED, long, CLEAN, BROKEN):
        if text is not None:
            page.get_by_label("Manifests").fill(text)
            page.get_by_role("button", name="Check").click()
        for width in (1280, 320):
            page.set_viewport_size({"width": width, "height": 800})
            faults += accessibility_faults(page)
            needed = page.evaluate("document.documentElement.scrollWidth")
            if needed > width:
                faults.append(f"{text!r} needs {needed} of {width} px")
    assert not faults
