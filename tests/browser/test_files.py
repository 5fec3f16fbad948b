"""Files in a real browser: chosen, dropped, retried, finished, looked at and fetched."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from pytest_django.live_server_helper import LiveServer

from models_registry import registry
from models_registry.models import ArtifactFile, ModelVersion, RegisteredModel, Upload
from models_registry.queries import usage_of
from tenants.isolation.scope import tenant_scope
from tests.support.browser import Watch, accessibility_faults
from tests.support.people import FILES, PASSWORD, World, give_files

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])

SignIn = Callable[[str], Page]
FRAUD = "/t/team_alpha/models/fraud"
CUT_OFF = """[...document.querySelectorAll(".table-wrap, .table-wrap .scroll")]
    .some(box => box.scrollWidth > box.clientWidth)"""
# What a browser gives a page when files and a folder are dropped: the folder by entries, a
# hundred at a time at most.
DROP = """async (given) => {
    const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    const data = new DataTransfer();
    for (const [name, text] of given) data.items.add(new File([bytes(text)], name));
    const zone = document.querySelector("[data-drop]");
    for (const type of ["dragenter", "dragover", "drop"]) {
        const about = {dataTransfer: data, bubbles: true, cancelable: true};
        zone.dispatchEvent(new DragEvent(type, about));
        if (type === "dragover" && !zone.classList.contains("over")) throw Error("no sign of it");
    }
}"""


@pytest.fixture
def version(world: World) -> ModelVersion:
    """A version of team_alpha's `fraud` that waits for its files."""
    with tenant_scope(world.alpha, world.carol):
        model = RegisteredModel.objects.get(name="fraud")
        return registry.add_version(model, status=ModelVersion.Status.PENDING)


def kept(version: ModelVersion) -> dict[str, int]:
    """Return the files of the version with their sizes."""
    with tenant_scope(version.tenant):
        files = ArtifactFile.objects.filter(version=version).select_related("blob")
        return {file.path: file.blob.size for file in files}


def states(page: Page) -> list[str | None]:
    """Return the state of each upload that the page shows."""
    return [row.get_attribute("data-state") for row in page.locator(".uploads li").all()]


def chosen(name: str, content: bytes) -> Any:
    """Return a file as Playwright puts it in a field."""
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def test_a_version_is_uploaded_finished_looked_at_and_fetched(
    world: World, sign_in: SignIn, tmp_path: Path, live_server: LiveServer
) -> None:
    page = sign_in("carol")
    page.goto(f"{live_server.url}{FRAUD}/add-version/")
    page.get_by_label("On this computer").check()
    expect(page.get_by_label("Source")).to_be_hidden()
    page.get_by_role("button", name="Add version").click()
    expect(page.get_by_text("No files yet")).to_be_visible()

    # A folder that is a model goes to the top, with all that is in it.
    for path, content in FILES.items():
        (tmp_path / "model" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / path).write_bytes(content)
    page.locator("#choose-folder").set_input_files(tmp_path / "model")
    expect(page.get_by_role("status").filter(has_text="3 of 3 files uploaded")).to_be_visible()
    page.locator("#choose-files").set_input_files([chosen("été.bin", b"x" * 3_000_000)])
    expect(page.get_by_role("status").filter(has_text="4 of 4 files uploaded")).to_be_visible()
    assert states(page) == ["done"] * 4
    listed = page.locator("#files")
    for name in ("data/", "MLmodel", "notes.txt", "été.bin"):
        expect(listed.get_by_role("link", name=name, exact=True)).to_be_visible()
    expect(listed).to_contain_text("3.0 MB")

    page.get_by_role("button", name="Remove notes.txt").click()
    page.get_by_role("dialog").get_by_role("button", name="Continue").click()
    expect(page.get_by_text("“notes.txt” is removed.")).to_be_visible()
    page.get_by_role("button", name="Finish version 3").click()
    expect(page.get_by_text("Version 3 is ready.")).to_be_visible()
    expect(page.get_by_text("sklearn 1.7.2")).to_be_visible()
    with tenant_scope(world.alpha):
        version = ModelVersion.objects.get(model__name="fraud", number=3)
        assert version.status == "READY"
    assert kept(version) == {
        "MLmodel": len(FILES["MLmodel"]),
        "data/model.pkl": len(FILES["data/model.pkl"]),
        "été.bin": 3_000_000,
    }

    page.get_by_role("link", name="Files").first.click()
    page.get_by_role("link", name="MLmodel", exact=True).click()
    expect(page.get_by_role("region", name="Text of MLmodel")).to_contain_text("sklearn_version")
    with page.expect_download() as fetched:
        page.get_by_role("link", name="Download").click()
    assert fetched.value.suggested_filename == "MLmodel"
    assert Path(fetched.value.path()).read_bytes() == FILES["MLmodel"]
    with tenant_scope(world.alpha):
        assert usage_of(version).total == 1


def test_dropped_files_are_sent(
    version: ModelVersion, sign_in: SignIn, live_server: LiveServer
) -> None:
    page = sign_in("carol")
    page.goto(f"{live_server.url}{FRAUD}/versions/3/files/")
    given = [(f"{at}.bin", base64.b64encode(b"x" * at).decode()) for at in range(5)]
    page.evaluate(DROP, given)
    expect(page.get_by_role("status").filter(has_text="5 of 5 files uploaded")).to_be_visible()
    expect(page.locator("[data-drop].over")).to_have_count(0)
    assert kept(version) == {f"{at}.bin": at for at in range(5)}
    # The same name once more takes the place of the first.
    page.evaluate(DROP, [("1.bin", base64.b64encode(b"longer").decode())])
    expect(page.locator(".uploads li")).to_have_count(5)
    expect(page.get_by_role("status").filter(has_text="5 of 5 files uploaded")).to_be_visible()
    assert kept(version)["1.bin"] == 6


def test_from_the_overview_an_upload_leads_to_the_files(
    version: ModelVersion, sign_in: SignIn, live_server: LiveServer
) -> None:
    page = sign_in("carol")
    page.goto(f"{live_server.url}{FRAUD}/versions/3/")
    page.locator("#choose-files").set_input_files([chosen("a", b"a")])
    page.wait_for_url("**/versions/3/files/")
    expect(page.locator("#files").get_by_role("link", name="a", exact=True)).to_be_visible()


def test_what_fails_is_said_beside_its_file_and_can_be_retried(
    version: ModelVersion, sign_in: SignIn, watch: Watch, live_server: LiveServer
) -> None:
    watch.expected |= {422}
    page = sign_in("carol")
    page.goto(f"{live_server.url}{FRAUD}/versions/3/files/")

    def lose(route: Route) -> None:
        route.abort("connectionreset")

    page.route("**/upload/lost.bin", lose)
    files = [chosen("lost.bin", b"x"), chosen("a%2e%2e\\\\b", b"x"), chosen("good.bin", b"x")]
    page.locator("#choose-files").set_input_files(files)
    lost = page.locator(".uploads li").filter(has_text="lost.bin")
    expect(lost).to_contain_text("The connection was lost.")
    bad = page.locator(".uploads li").filter(has_text="b").filter(has_text="Invalid path")
    expect(bad).to_have_count(1)
    expect(
        page.get_by_role("status").filter(has_text="1 of 3 files uploaded, 2 failed")
    ).to_be_visible()
    page.unroute("**/upload/lost.bin", lose)
    page.get_by_role("button", name="Retry lost.bin").focus()
    page.keyboard.press("Enter")
    expect(lost).to_have_attribute("data-state", "done")
    assert set(kept(version)) == {"lost.bin", "good.bin"}
    # Nobody's place in the page is lost with the button.
    assert page.evaluate("document.activeElement.closest('.uploads li') !== null")

    page.context.clear_cookies(name="sessionid")
    page.locator("#choose-files").set_input_files([chosen("late.bin", b"x")])
    late = page.locator(".uploads li").filter(has_text="late.bin")
    expect(late).to_contain_text("session has ended")
    assert "late.bin" not in kept(version)


def test_two_at_a_time_with_progress_and_each_can_be_cancelled(
    version: ModelVersion, sign_in: SignIn, watch: Watch, live_server: LiveServer
) -> None:
    page = sign_in("carol")
    page.goto(f"{live_server.url}{FRAUD}/versions/3/files/")
    waiting: list[Route] = []
    page.route("**/upload/*", lambda route: waiting.append(route))
    page.locator("#choose-files").set_input_files([chosen(f"{at}.bin", b"x") for at in range(4)])
    expect(page.locator(".uploads li[data-state=sending]")).to_have_count(2)
    expect(page.locator(".uploads li[data-state=waiting]")).to_have_count(2)
    expect(page.get_by_role("progressbar", name="0.bin")).to_be_visible()
    assert page.evaluate("!window.dispatchEvent(new Event('beforeunload', {cancelable: true}))"), (
        "leaving the page is not asked about"
    )
    page.get_by_role("button", name="Cancel 0.bin").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Retry 0.bin")).to_be_focused()
    expect(page.locator(".uploads li[data-state=sending]")).to_have_count(2)
    page.get_by_role("button", name="Cancel all").click()
    assert states(page) == ["cancelled"] * 4
    assert page.evaluate("window.dispatchEvent(new Event('beforeunload', {cancelable: true}))")
    for route in waiting:
        route.abort()
    page.unroute_all(behavior="wait")
    for at in range(4):
        page.get_by_role("button", name=f"Retry {at}.bin").click()
    expect(page.get_by_role("status").filter(has_text="4 of 4 files uploaded")).to_be_visible()
    assert len(kept(version)) == 4


def test_the_buttons_open_the_browsers_dialogs_by_keyboard(
    version: ModelVersion, sign_in: SignIn, live_server: LiveServer
) -> None:
    page = sign_in("carol")
    page.goto(f"{live_server.url}{FRAUD}/versions/3/files/")
    for name in ("Files", "Folder"):
        button = page.locator("#uploads").get_by_role("button", name=name, exact=True)
        with page.expect_file_chooser() as opened:
            button.press("Enter")
        assert opened.value.is_multiple()


def test_digests_and_code_are_copied_whole(
    world: World, sign_in: SignIn, live_server: LiveServer
) -> None:
    give_files(world.alpha, "fraud")
    page = sign_in("bob")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{live_server.url}{FRAUD}/versions/1/files/")
    page.get_by_role("button", name="Copy the SHA-256 of notes.txt").click()
    expect(page.get_by_role("status").filter(has_text="Copied.")).to_be_visible()
    with tenant_scope(world.alpha):
        digest = ArtifactFile.objects.select_related("blob").get(path="notes.txt").blob.digest
    assert page.evaluate("navigator.clipboard.readText()") == digest
    page.goto(f"{live_server.url}{FRAUD}/")
    page.get_by_text("Shell", exact=True).click()
    page.get_by_role("button", name="Copy the code: Shell").click()
    expect(page.get_by_role("status").filter(has_text="Copied.")).to_be_visible()
    assert "MLFLOW_TRACKING_TOKEN" in page.evaluate("navigator.clipboard.readText()")


def test_without_javascript_files_are_uploaded_one_by_one(
    version: ModelVersion, browser: Browser, live_server: LiveServer
) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 360, "height": 800})
    page = context.new_page()
    page.goto(f"{live_server.url}{FRAUD}/versions/3/files/")
    page.get_by_label("User name or e-mail").fill("carol")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("Drop files")).to_be_hidden()
    page.get_by_label("File", exact=True).set_input_files([chosen("a.txt", b"text")])
    page.get_by_label("Folder optional").fill("notes")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_text("“notes/a.txt” is uploaded.")).to_be_visible()
    page.get_by_role("button", name="Finish version 3").click()
    expect(page.get_by_text("Version 3 is ready.")).to_be_visible()
    assert kept(version) == {"notes/a.txt": 4}
    context.close()


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_every_page_of_files_is_accessible_and_fits(
    world: World,
    version: ModelVersion,
    sign_in: SignIn,
    watch: Watch,
    live_server: LiveServer,
    colours: str,
) -> None:
    watch.expected |= {422}
    long = "a-very-long-name-without-a-single-place-to-break-it-" * 3
    give_files(world.alpha, "fraud", FILES | {long: b"x" * 5_000, "d/page.html": b"<b>" * 30_000})
    give_files(world.alpha, "fraud", FILES, number=3)
    with tenant_scope(world.alpha):
        Upload.objects.create(version=version, path="late.bin")
    page = sign_in("carol")
    page.context.add_cookies([{"name": "theme", "value": colours, "url": live_server.url}])
    addresses = [
        *("/", "/add-version/", "/versions/", "/versions/1/", "/versions/1/files/"),
        *("/versions/1/files/d", "/versions/1/files/d/page.html", f"/versions/1/files/{long}"),
        *("/versions/1/files/data/model.pkl", "/versions/2/files/"),
        *("/versions/3/", "/versions/3/files/"),
    ]
    faults = []
    for address in addresses:
        page.set_viewport_size({"width": 1280, "height": 800})
        page.goto(f"{live_server.url}{FRAUD}{address}")
        if address == "/versions/3/files/":
            files = [chosen("fine", b"x"), chosen("a\\\\b", b"x")]
            page.locator("#choose-files").set_input_files(files)
            expect(page.get_by_role("status").filter(has_text="1 failed")).to_be_visible()
            expect(page.locator("#files:not(.htmx-request) a", has_text="fine")).to_be_visible()
        faults += accessibility_faults(page)
        for width in (1280, 768, 320):
            page.set_viewport_size({"width": width, "height": 800})
            needed = page.evaluate("document.documentElement.scrollWidth")
            if needed > width:
                faults.append(f"{address} needs {needed} of {width} px")
            if page.evaluate(CUT_OFF):
                faults.append(f"{address}: a table is cut off at {width} px")
    assert not faults, "\n".join(faults)
