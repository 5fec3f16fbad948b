"""A real browser against a real server; run as a command of its own: ``pytest tests/browser``.

Playwright's loop stays open in the main thread, and Django would refuse the database there.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, Request, expect
from pytest_django.live_server_helper import LiveServer

from tests.support.browser import LOG_VIOLATIONS, Watch
from tests.support.people import PASSWORD, World, make_world
from tests.support.waiting import PATIENCE_SECONDS

os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
expect.set_options(timeout=PATIENCE_SECONDS * 1000)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Use the system's Chromium; as root it needs --no-sandbox."""
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    return {**browser_type_launch_args, "executable_path": shutil.which("chromium"), "args": flags}


@pytest.fixture(scope="session")
def base_url(live_server: LiveServer) -> str:
    """Let pages be opened by their path."""
    return live_server.url


@pytest.fixture
def world(transactional_db: None) -> World:
    """Two teams and everybody, committed, so that the server sees them."""
    return make_world()


@pytest.fixture
def page(page: Page) -> Page:
    """A page that waits longer than a busy machine takes."""
    page.set_default_timeout(PATIENCE_SECONDS * 1000)
    return page


@pytest.fixture
def watch(page: Page, live_server: LiveServer) -> Iterator[Watch]:
    """Fail a test on a script's error, a policy violation, an error answer, a foreign request."""
    found = Watch()

    def request(request: Request) -> None:
        if not request.url.startswith((live_server.url, "data:")):
            found.faults.append(f"asked {request.url}")

    page.add_init_script(LOG_VIOLATIONS)
    page.on("console", found.console)
    page.on("pageerror", lambda error: found.faults.append(str(error)))
    page.on("response", found.response)
    page.on("request", request)
    yield found
    assert not found.faults


@pytest.fixture
def sign_in(page: Page, live_server: LiveServer, watch: Watch) -> Callable[[str], Page]:
    """Return a function that signs a person in by the page."""

    def by_page(name: str) -> Page:
        page.goto(f"{live_server.url}/sign-in/")
        page.get_by_label("User name or e-mail").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("button", name="Sign out").wait_for(state="attached")
        return page

    return by_page
