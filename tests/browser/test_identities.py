"""The pages about pods that sign in, and about recalling a version, in a real browser."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page
from pytest_django.fixtures import Settings
from pytest_django.live_server_helper import LiveServer

from models_registry import registry
from models_registry.models import ModelVersion
from tenants.isolation.scope import tenant_scope
from tests.support.browser import accessibility_faults
from tests.support.issuers import refused_identity, use_clusters
from tests.support.people import World

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])

SignIn = Callable[[str], Page]
IDENTITIES = "/t/team_alpha/admin/identities/"
VERSION = "/t/team_alpha/models/fraud/versions/1/"


def faults_of(page: Page, address: str) -> list[str]:
    """Return what is wrong with the page at several widths."""
    page.goto(address)
    faults = []
    for width in (1280, 320):
        page.set_viewport_size({"width": width, "height": 800})
        faults += accessibility_faults(page)
        needed = page.evaluate("document.documentElement.scrollWidth")
        if needed > width:
            faults.append(f"{address} needs {needed} of {width} px")
    return faults


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_every_page_is_accessible_and_fits(
    world: World,
    sign_in: SignIn,
    live_server: LiveServer,
    settings: Settings,
    tmp_path: Path,
    colours: str,
) -> None:
    page = sign_in("alice")
    page.context.add_cookies([{"name": "theme", "value": colours, "url": live_server.url}])
    faults = faults_of(page, f"{live_server.url}{IDENTITIES}")  # where no cluster is accepted
    found = refused_identity(world.alpha, "model-server", world.alice)
    use_clusters(settings, tmp_path)
    identity = f"{IDENTITIES}{found.pk}/"
    for address in (IDENTITIES, f"{identity}trust/", f"{identity}remove/", f"{VERSION}recall/"):
        faults += faults_of(page, f"{live_server.url}{address}")
    with tenant_scope(world.alpha):
        version = ModelVersion.objects.get(model__name="fraud", number=1)
        registry.recall_version(version, "Trained on the wrong table.")
    for address in (f"{VERSION}withdraw-recall/", VERSION, "/t/team_alpha/models/fraud/versions/"):
        faults += faults_of(page, f"{live_server.url}{address}")
    assert not faults, "\n".join(faults)
