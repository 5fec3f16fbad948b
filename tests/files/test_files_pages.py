"""The pages of files: what they show, send and take, and that nothing in a file runs or leads out.

The browser's side is tried in tests/browser/test_files.py.
"""

import ast
import hashlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.handlers.wsgi import WSGIRequest
from django.db import connection
from django.http import Http404
from django.test import Client, RequestFactory
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django.live_server_helper import LiveServer

from models_registry import registry, snippets
from models_registry.file_views import PREVIEW_BYTES, upload_file
from models_registry.files import artifacts, mlmodel, sources
from models_registry.files.folder_store import FolderStorage
from models_registry.models import (
    ArtifactFile,
    DownloadCount,
    ModelVersion,
    RegisteredModel,
    Upload,
)
from models_registry.page_functions import as_size
from models_registry.queries import MAX_LISTED_ENTRIES, USAGE_DAYS, usage_of
from tenants.access import let_send, share
from tenants.identity import directory
from tenants.isolation.scope import member_scope, scope_or_none, tenant_scope
from tenants.models import Tenant, User
from tests.support.addresses import arrived
from tests.support.answers import whole
from tests.support.api import make_token
from tests.support.mlflow_clients import Pythons
from tests.support.pages import page_of
from tests.support.people import (
    CANARY,
    FILES,
    HOSTILE_NAMES,
    World,
    committed,
    give_files,
    make_world,
)

As = Callable[[User | None], Client]


def url(name: str, *args: Any, model: str = "fraud", team: str = "team_alpha") -> str:
    """Return an address of a version's pages."""
    return reverse(name, args=[team, model, *args])


def pending(tenant: Tenant, owner: User, name: str = "fraud") -> ModelVersion:
    """Return a new version that waits for its files."""
    with tenant_scope(tenant, owner):
        model = RegisteredModel.objects.get(name=name)
        return registry.add_version(model, status=ModelVersion.Status.PENDING)


def paths(version: ModelVersion) -> list[str]:
    """Return the version's files."""
    with tenant_scope(version.tenant):
        return list(ArtifactFile.objects.filter(version=version).values_list("path", flat=True))


def send(browser: Client, version: ModelVersion, path: str, content: bytes, **more: Any) -> Any:
    """Send a file as the page's script does."""
    address = url("upload", version.number) + quote(path)
    kind = more.pop("content_type", "application/octet-stream")
    # Django's client says no type and no length of a body that is empty; a browser does.
    more.setdefault("CONTENT_LENGTH", str(len(content)))
    return browser.post(address, content, content_type=kind, CONTENT_TYPE=kind, **more)


# --- looking -------------------------------------------------------------------------------


def test_a_folder_lists_folders_first_with_sizes_and_digests(world: World, as_: As) -> None:
    give_files(world.alpha, "fraud")
    bob = as_(world.bob)
    answer = bob.get(url("files", 1))
    page = page_of(answer)
    assert [entry.name for entry in answer.context["entries"]] == ["data", "MLmodel", "notes.txt"]
    digest = hashlib.sha256(FILES["notes.txt"]).hexdigest()
    assert digest[:12] in page.text
    assert f'data-copy-text="{digest}"' in page.html
    assert "3 files" in page.text
    assert url("file", 1, "data") in page.links
    assert url("download", 1, "notes.txt") in page.links
    inside = page_of(bob.get(url("file", 1, "data")))
    assert url("file", 1, "data/model.pkl") in inside.links
    assert url("files", 1) in inside.links
    assert not inside.forms or all("remove" not in form.action for form in inside.forms)


def test_a_version_without_files_says_where_they_are(world: World, as_: As) -> None:
    page = page_of(as_(world.bob).get(url("files", 2)))
    assert "s3://ALPHA/model" in page.text
    with tenant_scope(world.alpha, world.alice):
        registry.add_version(RegisteredModel.objects.get(name="fraud"))
    page = page_of(as_(world.bob).get(url("files", 3)))
    assert "names no source" in page.text


def test_sizes_are_decimal() -> None:
    sizes = {
        0: "0 B",
        999: "999 B",
        1000: "1.0 KB",
        1024: "1.0 KB",
        99_940: "99.9 KB",
        99_960: "100 KB",
        999_499: "999 KB",
        999_500: "1.0 MB",
        5_000_000_000: "5.0 GB",
        10**18: "1000 PB",
    }
    assert {size: as_size(size) for size in sizes} == sizes


INERT = {
    "page.html": b"<script>alert(1)</script><img src=x onerror=alert(2)>",
    "drawing.svg": b"<svg onload='alert(1)'><script>alert(1)</script></svg>",
    "card.md": b"# <iframe src=//evil.example></iframe>\n\n[x](javascript:alert(1))",
    "code.js": b"</pre><script>alert(1)</script>",
    "page.xhtml": b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><script/></html>",
    "escape.txt": b"\x1b[31mred\x07",
}


@pytest.mark.parametrize("name", INERT)
def test_a_file_is_shown_as_text_and_sent_to_be_saved(world: World, as_: As, name: str) -> None:
    """L37: HTML, SVG and Markdown as they were written; nothing of them is a part of the page."""
    give_files(world.alpha, "fraud", {f"d/{name}": INERT[name]})
    browser = as_(world.bob)
    page = page_of(browser.get(url("file", 1, f"d/{name}")))
    shown = INERT[name].decode().translate({0x1B: "␛", 0x07: "␇"})
    assert shown in page.text
    plain = page_of(browser.get(url("file", 1, "d/" + name))).html
    for live in ("<script>alert", "<iframe", "onerror=alert(2)>", "<svg onload", "\x1b"):
        assert live not in plain
    answer = browser.get(url("download", 1, f"d/{name}"))
    assert b"".join(answer) == INERT[name]
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Disposition"] == f'attachment; filename="{name}"'
    assert answer["Content-Length"] == str(len(INERT[name]))
    assert "sandbox" in answer["Content-Security-Policy"]
    assert answer["Cache-Control"] == "private, no-store"


PREVIEWS = {
    b"": "This file is empty.",
    b"a\x00b": "Binary file",
    b"\xff\xfe": "Binary file",
    b"\x80\x04\x95": "Binary file",
    b"caf\xc3": "Binary file",  # whole, so the last character is broken and not cut
    b"x" * (PREVIEW_BYTES + 1): "Too large to show",
    # The limit cuts a character of two, three and four bytes.
    b"x" * (PREVIEW_BYTES - 1) + "é".encode(): "Too large to show",
    b"x" * (PREVIEW_BYTES - 1) + "模".encode(): "Too large to show",
    b"x" * (PREVIEW_BYTES - 3) + "😀".encode(): "Too large to show",
    b"x" * (PREVIEW_BYTES - 1) + b"\xff\xff": "Binary file",
}


def test_a_preview_is_capped_and_says_why_there_is_none(world: World, as_: As) -> None:
    files = {f"f{at}": content for at, content in enumerate(PREVIEWS)}
    give_files(world.alpha, "fraud", files)
    browser = as_(world.bob)
    for name, content in files.items():
        page = page_of(browser.get(url("file", 1, name)))
        assert PREVIEWS[content] in page.text, content[:9]
        assert page.text.count("x") <= PREVIEW_BYTES + 100


def test_a_folder_with_very_many_entries_is_shown_in_part(world: World, as_: As) -> None:
    version = give_files(world.alpha, "fraud", {"0": b"x"})
    with tenant_scope(world.alpha):
        blob = ArtifactFile.objects.get(version=version).blob
        ArtifactFile.objects.bulk_create(
            ArtifactFile(version=version, path=f"{at:05}", blob=blob)
            for at in range(MAX_LISTED_ENTRIES + 50)
        )
    answer = as_(world.bob).get(url("files", 1))
    page = page_of(answer)
    assert len(answer.context["entries"]) == MAX_LISTED_ENTRIES
    assert f"The first {MAX_LISTED_ENTRIES} of {MAX_LISTED_ENTRIES + 51} entries" in page.text


def test_a_store_that_is_away_is_told_and_breaks_no_page(world: World, as_: As) -> None:
    """The bytes are really gone: every page works, and the download says what is wrong."""
    version = give_files(world.alpha, "fraud")
    with tenant_scope(world.alpha):
        for file in ArtifactFile.objects.filter(version=version).select_related("blob"):
            artifacts.store().discard(file.blob.key)
    browser = as_(world.bob)
    for address in (url("version", 1), url("files", 1), url("file", 1, "MLmodel")):
        page_of(browser.get(address))
    assert "does not answer" in page_of(browser.get(url("file", 1, "MLmodel"))).text
    answer = browser.get(url("download", 1, "MLmodel"), follow=True)
    assert answer.redirect_chain == [(url("file", 1, "MLmodel"), 302)]
    assert "cannot be fetched now" in page_of(answer).text
    with tenant_scope(world.alpha):
        assert not DownloadCount.objects.exists()


def test_a_bucket_sends_the_file_itself(world: World, as_: As, bucket: Any) -> None:
    give_files(world.alpha, "fraud")
    answer = as_(world.bob).get(url("download", 1, "data/model.pkl"))
    assert answer.status_code == 302
    asked = parse_qs(urlsplit(answer["Location"]).query)
    assert asked["response-content-disposition"] == ['attachment; filename="model.pkl"']
    assert "X-Amz-Signature" in asked
    assert "some/prefix/tenants" in answer["Location"]


# --- paths that lead nowhere ---------------------------------------------------------------

NOWHERE = (
    *("..", "../1/files/MLmodel", "data/..", "./MLmodel", "data//model.pkl", "data/", "/MLmodel"),
    *("%2e%2e", "%2e%2e%2fMLmodel", "%252e%252e", "..%5c..", "data\\model.pkl", "%00", "a%00b"),
    *("MLmodel;v=1", "MLMODEL", "mlmodel", "MLmodel%20", "x" * 1001, "%FF", "e%CC%81", "a%0Ab"),
    *("etc/passwd", "%2fetc%2fpasswd", "data%2f..%2f..%2fMLmodel", "data/model.pkl/x", "dat"),
    *("%E2%80%A6", "%EF%BC%8E%EF%BC%8E", "data%5C..%5CMLmodel", "C%3A%5Cx", "~", "."),
)


def test_a_path_leads_to_a_file_or_nowhere(world: World, as_: As) -> None:
    """L17: whatever is not the one spelling of a path that is there answers as nothing does."""
    give_files(world.alpha, "fraud")
    browser = as_(world.alice)
    nothing = whole(browser.get(url("file", 1, "nothing-like-it")))
    assert nothing[0] == 404
    base = url("files", 1)
    for path in NOWHERE:
        if path == "data/":
            continue
        for address in (f"{base}{path}", base.replace("files/", "download/") + path):
            assert whole(browser.get(address)) == nothing, address


def test_another_teams_files_answer_as_none(world: World, as_: As) -> None:
    """L2, L3, L17: under either team's address, by every page and method."""
    mine = give_files(world.alpha, "fraud", {"mine.txt": b"mine"})
    theirs = give_files(world.gamma, "fraud", {f"{CANARY}.txt": CANARY.encode()})
    browser = as_(world.alice)
    for name in ("file", "download"):
        answers = [
            whole(browser.get(url(name, 1, path, team=team)))
            for team, path in (
                ("team_alpha", f"{CANARY}.txt"),
                ("team_alpha", "nothing.txt"),
                ("team_gamma", f"{CANARY}.txt"),
                ("team_gamma", "mine.txt"),
                ("team_nobod", "mine.txt"),
            )
        ]
        assert answers[0][0] == 404
        assert all(answer == answers[0] for answer in answers), name
    for name in ("remove_files", "finish_version", "upload"):
        for team in ("team_gamma", "team_nobod"):
            answer = browser.post(url(name, 1, team=team), {"path": f"{CANARY}.txt"})
            assert answer.status_code == 404
    for team in ("team_gamma", "team_nobod"):
        answer = browser.post(
            url("upload_file", 1, "x", team=team), b"x", content_type="application/octet-stream"
        )
        assert answer.status_code == 404
    assert (paths(mine), paths(theirs)) == (["mine.txt"], [f"{CANARY}.txt"])


def test_a_shared_models_files_stay_with_their_team(world: World, as_: As) -> None:
    """L16: a grant shows the model; its files are asked of the team that has it."""
    give_files(world.gamma, "fraud", {"secret.txt": b"x"})
    model = world.model(world.gamma, "fraud")
    with tenant_scope(world.gamma, world.hugo):
        share(model, with_tenant=world.alpha)
    browser = as_(world.bob)
    shared = f"/t/team_alpha/shared/{model.pk}/versions/1/"
    page = page_of(browser.get(shared))
    assert "secret.txt" not in page.html
    for part in ("files/", "files/secret.txt", "download/secret.txt", "upload/", "finish/"):
        assert browser.get(shared + part).status_code == 404


HEADERS_IN_NAMES = (
    'a"; filename="evil.exe',
    "a; filename*=UTF-8''evil.exe",
    "été.txt",
    "模型.bin",
    "-o evil",
    "a'b",
    "\u202egnp.exe",
    "<script>alert(1)<",
    "a&b?c=d#e",
)


def test_a_files_name_cannot_write_headers_or_markup(world: World, as_: As) -> None:
    """L18: quotes, line ends, semicolons and other scripts in the name of a file."""
    give_files(world.alpha, "fraud", {f"d/{name}": name.encode() for name in HEADERS_IN_NAMES})
    browser = as_(world.bob)
    version, carol = pending(world.alpha, world.carol), as_(world.carol)
    for name in ("a\r\nSet-Cookie: x=y", "a%0d%0aSet-Cookie: x=y", "a\nb", "a\x00b", "a\x7fb"):
        assert send(carol, version, name, b"x").status_code in (404, 422), name
    assert paths(version) == []
    listed = page_of(browser.get(url("file", 1, "d")))
    for name in HEADERS_IN_NAMES:
        assert name in listed.text
        address = url("download", 1, f"d/{name}")
        assert address in listed.links
        answer = browser.get(address)
        assert b"".join(answer) == name.encode()
        said = answer["Content-Disposition"]
        assert said.startswith("attachment; filename")
        assert "\r" not in said and "\n" not in said
        assert said.isascii()
        assert not answer.cookies
        # One file name and no second one.
        assert (
            len(re.findall(r"(?:^|; )filename\*?=", re.sub(r'"(?:\\.|[^"\\])*"', '""', said))) == 1
        )
        page = page_of(browser.get(url("file", 1, f"d/{name}")))
        assert name in page.text


# --- counting ------------------------------------------------------------------------------


def test_a_download_is_counted_once_and_a_look_is_not(world: World, as_: As) -> None:
    version = give_files(world.alpha, "fraud")
    browser = as_(world.bob)
    for address in (url("files", 1), url("file", 1, "MLmodel"), url("version", 1)):
        browser.get(address)
        browser.head(url("download", 1, "MLmodel"))
    for _ in range(3):
        arrived(browser.get(url("download", 1, "MLmodel")))
    browser.get(url("download", 1, "nothing"))
    with tenant_scope(world.alpha):
        assert usage_of(version).total == 3
    directory.suspend_tenant(world.alpha)
    assert b"".join(browser.get(url("download", 1, "MLmodel"))) == FILES["MLmodel"]
    with tenant_scope(world.alpha):
        assert usage_of(version).total == 3


def count(version: ModelVersion, counts: dict[int, int]) -> None:
    """Write down downloads, by how many days ago they were."""
    today = datetime.now(UTC).date()
    with tenant_scope(version.tenant):
        for ago, number in counts.items():
            DownloadCount.objects.create(
                version=version, day=today - timedelta(days=ago), count=number
            )


def test_usage_is_shown_where_it_matters(world: World, as_: As) -> None:
    with tenant_scope(world.alpha):
        first, second = ModelVersion.objects.filter(model__name="fraud").order_by("number")
    count(first, {0: 5, 6: 7, 7: 100, USAGE_DAYS - 1: 300, USAGE_DAYS: 9000})
    count(second, {1: 1})
    alice = as_(world.alice)
    page = page_of(alice.get(url("version", 1)))
    assert "Pulled 412 times in 90 days, 12 this week." in page.text
    assert 'class="chart spark"' in page.html
    day = (datetime.now(UTC).date() - timedelta(days=USAGE_DAYS - 1)).isoformat()
    assert f"at most 300, on {day}" in page.html
    drawn = re.search(r'polyline class="line" points="([^"]*)"', page.html)
    assert drawn is not None
    assert len(drawn[1].split()) == USAGE_DAYS
    model = page_of(alice.get(url("model")))
    assert "Pulled 413 times in 90 days, 13 this week." in model.text
    rows = alice.get(url("versions")).context["page"].rows
    assert {row.number: row.pulls for row in rows} == {1: 412, 2: 1}
    assert "fetched 12 times this week" in page_of(alice.get(url("delete_version", 1))).text
    alice.post(url("archive_model"))
    assert "fetched 13 times this week" in page_of(alice.get(url("delete_model"))).text
    other = page_of(alice.get(url("model", model="ALPHA own")))
    assert "Not pulled in the last 90 days." in other.text


# --- sending -------------------------------------------------------------------------------


def test_a_file_is_sent_kept_listed_and_removed(world: World, as_: As) -> None:
    version, carol = pending(world.alpha, world.carol), as_(world.carol)
    assert "No files yet" in page_of(carol.get(url("files", 3))).text
    answer = send(carol, version, "data/été.bin", b"some bytes")
    assert answer.json() == {
        "path": "data/été.bin",
        "size": 10,
        "sha256": hashlib.sha256(b"some bytes").hexdigest(),
    }
    send(carol, version, "top", b"")
    assert paths(version) == ["data/été.bin", "top"]
    part = carol.get(url("files", 3), headers={"HX-Request": "true"}).content.decode()
    assert "<!DOCTYPE" not in part
    assert 'id="files"' in part
    removed = carol.post(url("remove_files", 3), {"path": "data"})
    assert removed["Location"] == url("files", 3)
    assert paths(version) == ["top"]
    for gone in ("data", "nothing", "", "../x"):
        answer = carol.post(url("remove_files", 3), {"path": gone})
        assert answer.status_code == 404 or gone == "../x", gone
    assert paths(version) == ["top"]


def test_what_is_refused_is_said_in_words(
    world: World, as_: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, carol = pending(world.alpha, world.carol), as_(world.carol)
    send(carol, version, "file", b"x")
    for path, status, words in (
        ("file/below", 422, "is a file, so"),
        ("..%2fx", 422, "Invalid path"),
        ("a\\b", 422, "Invalid path"),
        ("é".encode().decode() + "e\u0301", 422, "NFC"),
        ("x" * 256, 422, "255 bytes"),
    ):
        answer = send(carol, version, path, b"x")
        assert (answer.status_code, words in answer.json()["error"]) == (status, True), path
    answer = send(carol, version, "x", b"x", content_type="text/plain")
    assert answer.status_code == 415
    for length, status, words in (("", 411, "Content-Length"), ("1x", 400, "no number of bytes")):
        answer = send(carol, version, "x", b"xyz", CONTENT_LENGTH=length)
        assert (answer.status_code, words in answer.json()["error"]) == (status, True)
    monkeypatch.setattr(FolderStorage, "has_room_for", lambda store, length: False)
    full = send(carol, version, "x", b"x")
    assert (full.status_code, "no room" in full.json()["error"]) == (507, True)
    assert paths(version) == ["file"]
    with tenant_scope(world.alpha):
        assert not Upload.objects.exists()


def test_a_pending_version_gets_another_status_by_finishing_alone(world: World, as_: As) -> None:
    version, carol = pending(world.alpha, world.carol), as_(world.carol)
    (form,) = [
        form
        for form in page_of(carol.get(url("edit_version", 3))).forms
        if "description" in form.fields
    ]
    assert "status" not in form.fields
    for status in ("READY", "FAILED"):
        saved = carol.post(url("edit_version", 3), {"status": status, "description": status})
        assert saved["Location"] == url("version", 3)
        with member_scope(world.alice, "team_alpha"):
            with pytest.raises(ValidationError, match="finish it"):
                registry.update_version(version, status=status)
            version.refresh_from_db()
        assert (version.status, version.description) == ("PENDING", status)
    with tenant_scope(world.alpha):  # a command that copies from elsewhere
        assert registry.update_version(version, status="READY").status == "READY"
    for status in ("FAILED", "READY"):
        carol.post(url("edit_version", 3), {"status": status})
        with tenant_scope(world.alpha):
            version.refresh_from_db()
        assert version.status == status


def test_a_complete_version_takes_and_loses_no_files(world: World, as_: As) -> None:
    """L18: whatever is asked of it, and it never becomes pending again."""
    version, carol = give_files(world.alpha, "fraud"), as_(world.carol)
    before = paths(version)
    answer = send(carol, version, "more", b"x")
    assert (answer.status_code, "complete" in answer.json()["error"]) == (422, True)
    assert send(carol, version, "MLmodel", b"other").status_code == 422
    carol.post(url("remove_files", 1), {"path": "MLmodel"})
    carol.post(url("finish_version", 1))
    form = {"chosen": SimpleUploadedFile("x", b"x")}
    assert "complete" in page_of(carol.post(url("upload", 1), form, follow=True)).text
    edit = carol.post(url("edit_version", 1), {"status": "PENDING"})
    assert edit.status_code == 422
    assert paths(version) == before
    page = page_of(carol.get(url("files", 1)))
    assert not [form for form in page.forms if "remove" in form.action or "upload" in form.action]


def test_without_a_script_a_form_sends_files_one_by_one(world: World, as_: As) -> None:
    version, carol = pending(world.alpha, world.carol), as_(world.carol)
    (form,) = [
        form
        for form in page_of(carol.get(url("files", 3))).forms
        if form.action == url("upload", 3)
    ]
    assert {"chosen", "folder", "csrfmiddlewaretoken"} <= set(form.fields)
    for name, content in (("a.bin", b"a" * 3_000_000), ("b", b"")):
        typed = {"chosen": SimpleUploadedFile(name, content), "folder": "/data/"}
        answer = carol.post(url("upload", 3), typed, follow=True)
        assert f"“data/{name}” is uploaded." in page_of(answer).text
    assert paths(version) == ["data/a.bin", "data/b"]
    none = carol.post(url("upload", 3), {"folder": ""}, follow=True)
    assert "Choose a file." in page_of(none).text
    bad = {"chosen": SimpleUploadedFile("x", b"x"), "folder": "../up"}
    assert "was not kept" in page_of(carol.post(url("upload", 3), bad, follow=True)).text
    assert len(paths(version)) == 2


class Watched(BytesIO):
    """A body that notes whether a scope, and so a transaction, is open while it arrives."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.open: set[bool] = set()

    def read(self, size: int | None = -1) -> bytes:
        """Read on."""
        self.open.add(scope_or_none() is not None)
        return super().read(size)


@pytest.mark.parametrize("who", ["bob", "carol"])
@pytest.mark.parametrize("page", ["upload", "finish_version", "edit_version"])
@pytest.mark.parametrize("kind", [MULTIPART_CONTENT, "application/x-www-form-urlencoded"])
def test_no_transaction_waits_for_a_form_to_arrive(
    world: World, as_: As, who: str, page: str, kind: str
) -> None:
    pending(world.alpha, world.carol)
    browser, token = as_(getattr(world, who)), "x" * 32
    browser.handler.enforce_csrf_checks = True
    browser.cookies["csrftoken"] = token
    typed = {"csrfmiddlewaretoken": token, "description": "typed"}
    form = kind == MULTIPART_CONTENT
    content = encode_multipart(BOUNDARY, typed) if form else urlencode(typed).encode()
    body = Watched(content)
    more = {"wsgi.input": body, "CONTENT_LENGTH": str(len(content))}
    answer = browser.generic("POST", url(page, 3), content, kind, **more)  # type: ignore[arg-type]
    assert answer.status_code == (302 if who == "carol" else 403)
    assert body.open == {False}


def test_a_body_larger_than_forms_is_refused_but_where_files_go(world: World, as_: As) -> None:
    version, carol = pending(world.alpha, world.carol), as_(world.carol)
    large = b"x" * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)

    def typed() -> dict[str, Any]:
        return {"chosen": SimpleUploadedFile("large", large), "description": "typed"}

    assert carol.post(url("upload", 3), typed())["Location"] == url("files", 3)
    assert paths(version) == ["large"]
    refused = carol.post(url("edit_version", 3), typed())
    assert refused.status_code == 413
    assert as_(world.bob).post(url("upload", 3), typed()).status_code == 413
    with tenant_scope(world.alpha):
        version.refresh_from_db()
    assert version.description == ""
    foreign, nowhere = (
        as_(world.carol).post(f"/t/{slug}/models/x/edit/", typed())
        for slug in ("team_gamma", "no_such_team")
    )
    assert (foreign.status_code, foreign.content) == (413, refused.content)
    assert nowhere.content == foreign.content


@committed
def test_of_a_file_that_breaks_off_nothing_is_kept(live_server: LiveServer, as_: As) -> None:
    """A real connection ends before all that was announced has come."""
    world = make_world()
    version, token = pending(world.alpha, world.carol), "x" * 32
    session = as_(world.carol).cookies["sessionid"].value
    said = (
        f"POST {url('upload', 3)}short HTTP/1.1",
        f"Host: {urlsplit(live_server.url).netloc}",
        f"Cookie: sessionid={session}; csrftoken={token}",
        f"X-CSRFToken: {token}",
        "Content-Type: application/octet-stream",
        "Content-Length: 1000",
    )
    with socket.create_connection((live_server.thread.host, live_server.thread.port)) as line:
        line.sendall("\r\n".join((*said, "", "only this")).encode())
        line.shutdown(socket.SHUT_WR)
        answer = line.makefile("rb").read().decode()
    assert " 400 " in answer.splitlines()[0]
    assert "9 bytes arrived of 1000" in answer
    assert paths(version) == []
    with tenant_scope(world.alpha):
        assert not Upload.objects.exists()


def test_a_file_is_sent_from_this_site_only(world: World) -> None:
    """The token is read from a header, before a byte of the file is."""
    version = pending(world.alpha, world.carol)
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(world.carol, backend="allauth.account.auth_backends.AuthenticationBackend")
    page = browser.get(url("files", 3)).content.decode()
    assert send(browser, version, "x", b"x").status_code == 403
    token = re.search(r'"X-CSRFToken": "(\w+)"', page)
    assert token is not None
    assert send(browser, version, "x", b"x", headers={"X-CSRFToken": token[1]}).status_code == 200
    assert paths(version) == ["x"]


def test_bytes_arrive_outside_any_scope_and_in_pieces(
    world: World, as_: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is open while they come, and nobody holds more of them than a piece."""
    version, seen = pending(world.alpha, world.carol), []
    read = WSGIRequest.read

    def watched(request: WSGIRequest, *args: Any) -> Any:
        seen.append((scope_or_none(), args))
        return read(request, *args)

    monkeypatch.setattr(WSGIRequest, "read", watched)
    assert send(as_(world.carol), version, "x", b"x" * 3_000_000).status_code == 200
    assert len(seen) >= 3
    for scope, (size,) in seen:
        assert scope is None
        assert size <= 1024 * 1024


def test_nobody_reaches_a_view_of_bytes_but_through_the_middleware(world: World) -> None:
    """L1: without its word the view is not there, and inside a scope it refuses."""
    version = pending(world.alpha, world.carol)
    request = RequestFactory().post("/", b"x", content_type="application/octet-stream")
    request.user = world.carol
    where = ("team_alpha", "fraud", version.number, "x")
    with pytest.raises(Http404):
        upload_file(request, *where)
    let_send(request, "models_registry.view_modelversion")
    with pytest.raises(Http404):
        upload_file(request, *where)
    let_send(request, "models_registry.add_modelversion")
    with member_scope(world.carol, "team_alpha"):
        assert upload_file(request, *where).status_code == 403
    # It asks again by itself: the word alone opens no other team.
    with pytest.raises(Http404):
        upload_file(request, "team_gamma", "fraud", 1, "x")
    assert paths(version) == []
    assert upload_file(request, *where).status_code == 200
    assert paths(version) == ["x"]


@committed
def test_no_transaction_is_open_while_bytes_arrive(
    transactional_db: None, as_: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    version, seen = pending(world.alpha, world.carol), []
    read = WSGIRequest.read

    def watched(request: WSGIRequest, *args: Any) -> Any:
        seen.append(connection.in_atomic_block)
        return read(request, *args)

    monkeypatch.setattr(WSGIRequest, "read", watched)
    browser = as_(world.carol)
    assert send(browser, version, "x", b"x").status_code == 200
    form = {"chosen": SimpleUploadedFile("y", b"y" * 3_000_000)}
    assert browser.post(url("upload", 3), form).status_code == 302
    assert seen
    assert not any(seen)
    assert paths(version) == ["x", "y"]


def test_who_loses_the_right_sends_nothing_more(world: World, as_: As) -> None:
    """L21: at the next file; a viewer, a former member and a suspended team send none."""
    version, carol = pending(world.alpha, world.carol), as_(world.carol)
    assert send(carol, version, "1", b"x").status_code == 200
    membership = world.carol.memberships.get()
    directory.change_role(membership, "viewer")
    assert send(carol, version, "2", b"x").status_code == 403
    directory.change_role(membership, "contributor")
    directory.suspend_tenant(world.alpha)
    assert send(carol, version, "3", b"x").status_code == 403
    directory.resume_tenant(world.alpha)
    directory.remove_member(membership)
    assert send(carol, version, "4", b"x").status_code == 404
    assert paths(version) == ["1"]


@pytest.mark.parametrize(("end", "status"), [("removed", 404), ("viewer", 403), ("suspended", 403)])
def test_who_loses_the_right_while_bytes_arrive_makes_no_file(
    world: World, as_: As, monkeypatch: pytest.MonkeyPatch, end: str, status: int
) -> None:
    version, carol = pending(world.alpha, world.carol), as_(world.carol)
    membership, pieces = world.carol.memberships.get(), []
    stored = [found.key for found in artifacts.store().stored("tenants")]
    ends: dict[str, Callable[[], Any]] = {
        "removed": lambda: directory.remove_member(membership),
        "viewer": lambda: directory.change_role(membership, "viewer"),
        "suspended": lambda: directory.suspend_tenant(world.alpha),
    }
    read = WSGIRequest.read

    def watched(request: WSGIRequest, *args: Any) -> Any:
        pieces.append(read(request, *args))
        if len(pieces) == 2:
            ends[end]()
        return pieces[-1]

    monkeypatch.setattr(WSGIRequest, "read", watched)
    assert send(carol, version, "x", b"x" * 5_000_000).status_code == status
    assert paths(version) == []
    assert [found.key for found in artifacts.store().stored("tenants")] == stored
    with tenant_scope(world.alpha):
        assert not Upload.objects.exists()


# --- adding and finishing ------------------------------------------------------------------


def test_a_version_is_added_filled_and_finished_by_its_pages(world: World, as_: As) -> None:
    carol = as_(world.carol)
    typed = {"how": "upload", "source": "s3://left/over", "description": "new", "params": "C = 1"}
    added = carol.post(url("add_version"), typed)
    assert added["Location"] == url("files", 3)
    with tenant_scope(world.alpha):
        version = ModelVersion.objects.get(model__name="fraud", number=3)
    assert (version.status, version.source, version.params) == ("PENDING", "", {"C": "1"})
    page = page_of(carol.get(url("version", 3)))
    assert f'data-uploads="{url("upload", 3)}"' in page.html
    assert "Use this version" not in page.text
    refused = carol.post(url("finish_version", 3), follow=True)
    assert "no files yet" in page_of(refused).text
    send(carol, version, "MLmodel", FILES["MLmodel"])
    refused = carol.post(url("finish_version", 3), follow=True)
    assert "names files that are not here: data/model.pkl" in page_of(refused).text
    send(carol, version, "data/model.pkl", b"x")
    with tenant_scope(world.alpha):
        upload = Upload.objects.create(version=version, path="late.bin", user=world.carol)
    page = page_of(carol.get(url("files", 3)))
    assert "late.bin" in page.text
    refused = carol.post(url("finish_version", 3), follow=True)
    assert "“late.bin” has not ended" in page_of(refused).text
    carol.post(url("remove_files", 3), {"path": upload.path})
    done = carol.post(url("finish_version", 3), follow=True)
    assert done.redirect_chain == [(url("version", 3), 302)]
    assert "Version 3 is ready." in page_of(done).text
    with tenant_scope(world.alpha):
        version.refresh_from_db()
        assert version.status == "READY"
        assert not Upload.objects.exists()
    assert "sklearn 1.7.2" in page_of(carol.get(url("version", 3))).text
    history = page_of(as_(world.bob).get(url("model_history"))).text
    assert "carol" in history


def unfinished(browser: Client) -> list[str]:
    """Return the uploads that the page of version 3's files says have not ended."""
    answer = browser.get(url("files", 3))
    found = [upload.path for upload in answer.context["unfinished"]]
    assert ("Discard" in page_of(answer).text) == bool(found)
    return found


def test_a_file_that_came_again_whole_makes_up_for_one_that_broke_off(
    world: World, as_: As
) -> None:
    version, carol = pending(world.alpha, world.carol), as_(world.carol)
    with tenant_scope(world.alpha):
        Upload.objects.create(version=version, path="big.bin")
    send(carol, version, "notes.txt", FILES["notes.txt"])
    refused = carol.post(url("finish_version", 3), follow=True)
    assert "“big.bin” has not ended" in page_of(refused).text
    assert unfinished(carol) == ["big.bin"]
    send(carol, version, "big.bin", b"whole")
    assert paths(version) == ["big.bin", "notes.txt"]
    assert unfinished(carol) == []
    assert carol.post(url("finish_version", 3))["Location"] == url("version", 3)


def test_viewers_see_files_and_no_way_to_change_them(world: World, as_: As) -> None:
    version = pending(world.alpha, world.carol)
    send(as_(world.carol), version, "x", b"x")
    page = page_of(as_(world.bob).get(url("files", 3)))
    assert url("download", 3, "x") in page.links
    assert "data-uploads" not in page.html
    assert not [form for form in page.forms if "/versions/" in form.action]


# --- code to copy --------------------------------------------------------------------------

URI = "http://127.0.0.1:8000/t/team_alpha"
NAMES = (
    *HOSTILE_NAMES,
    "$(touch /tmp/x)",
    "`id`",
    "a'b\"c\\d",
    "'''\"\"\"",
    "x;y|z&w>q<r",
    "{name}",
    "a\tb\rc",
    "\u2028\u2029\x7f",
)


def texts_in(code: str) -> list[Any]:
    """Return each text that the Python code holds, as Python reads it."""
    return [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("alias", ["", "champion"])
def test_code_means_the_model_whatever_its_name(name: str, alias: str) -> None:
    path = f"d/{name.replace('/', '')}".strip()
    pieces = {piece.key: piece.text for piece in snippets.for_version(URI, name, 3, alias, path)}
    texts = texts_in(pieces["python"])
    assert URI in texts
    address = f"models:/{name}@champion" if alias else f"models:/{name}/3"
    if sources.is_unambiguous(address):
        assert address in texts
    else:
        assert name in texts
        assert ("champion" if alias else "3") in texts
    texts = texts_in(pieces["register"])
    assert name in texts
    assert URI in texts
    words = shlex.split(pieces["shell"])
    assert words == [
        "export",
        f"MLFLOW_TRACKING_URI={URI}",
        "export",
        "MLFLOW_TRACKING_TOKEN=<your token>",
    ]
    words = shlex.split(pieces["curl"].replace("\\\n", ""))
    assert words.count("curl") == 2
    assert words.count(f"name={name}") == 2
    assert ("alias=champion" if alias else "version=3") in words
    assert f"path={path}" in words
    assert f"{URI}/model-versions/get-artifact" in words
    # A shell that reads it runs curl and nothing else.
    known = {
        *("curl", "--get", "--fail", "--location", "--output", "--header", "--data-urlencode"),
        *(f"name={name}", "alias=champion", "version=3", f"path={path}"),
        "Authorization: Bearer $MLFLOW_TRACKING_TOKEN",
        f"./{path.split('/')[-1]}",
    }
    assert all(word in known or word.startswith(URI) for word in words)


TRAIN = """
from functools import partial
from sklearn.linear_model import LogisticRegression
import mlflow.sklearn
# Naming the packages spares MLflow from looking for them in a process of its own.
mlflow.sklearn.save_model = partial(mlflow.sklearn.save_model, pip_requirements=["scikit-learn"])
model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
"""


@committed
@pytest.mark.parametrize("name", ["wine", 'it\'s "a&b" 100% {c}?d#e'])
def test_the_code_works(
    transactional_db: None,
    folder: Path,
    live_server: LiveServer,
    tmp_path: Path,
    pythons: Pythons,
    name: str,
) -> None:
    """Train, upload, register, load and predict with MLflow's client; then ask with curl."""
    world = make_world()
    uri = f"{live_server.url}/t/team_alpha"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "MLFLOW_TRACKING_TOKEN": make_token(world.carol),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }

    def run(code: str) -> str:
        done = pythons("3").start(tmp_path, environment, code=code).ended()
        assert done.code == 0, done.errors
        return done.output

    run(TRAIN + snippets.register(uri, name))
    with tenant_scope(world.alpha, world.carol):
        model = RegisteredModel.objects.get(name=name)
        registry.set_alias(model, "champion", 1)
        assert mlmodel.of_version(model.versions.get()) is not None
    pieces = {
        piece.key: piece.text for piece in snippets.for_version(uri, name, 1, "champion", "MLmodel")
    }
    predict = pieces["python"] + "print(model.predict([[0.0], [1.0]]))"
    assert run(predict).strip() == "[0 1]"
    if shutil.which("curl"):
        said = subprocess.run(
            ["sh", "-c", pieces["curl"]],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(said.stdout)["model_version"]["version"] == "1"
        assert "flavors:" in (tmp_path / "MLmodel").read_text()


def test_pages_give_code_with_the_address_that_they_were_asked_at(world: World, as_: As) -> None:
    for name in HOSTILE_NAMES:
        with tenant_scope(world.alpha, world.alice):
            model = registry.register_model(name)
            registry.add_version(model)
    browser = as_(world.bob)
    for name in HOSTILE_NAMES:
        for address in (url("model", model=name), url("version", 1, model=name)):
            page = page_of(browser.get(address))
            (python,) = re.findall(
                r"import mlflow\n\nmlflow\.set_tracking_uri.*?\n(?=<)", page.html, re.S
            ) or [""]
            assert python
            assert "http://testserver/t/team_alpha" in page.text
    page = page_of(browser.get(url("model")))
    assert 'load_model("models:/fraud@champion")' in page.text
    page = page_of(browser.get(url("version", 2)))
    assert 'load_model("models:/fraud/2")' in page.text


def test_an_empty_list_shows_the_first_steps_with_the_client(world: World, as_: As) -> None:
    with tenant_scope(world.alpha):
        RegisteredModel.objects.all().delete()
    for address in ("/t/team_alpha/models/", "/t/team_alpha/"):
        page = page_of(as_(world.carol).get(address))
        assert "export MLFLOW_TRACKING_URI=http://testserver/t/team_alpha" in page.text
        assert "mlflow.register_model(" in page.text


# --- what a page costs ---------------------------------------------------------------------


def cost(browser: Client, address: str) -> int:
    """Return how many statements a page needs."""
    browser.get(address)
    with CaptureQueriesContext(connection) as captured:
        assert browser.get(address).status_code == 200
    return len(captured.captured_queries)


def test_files_and_counters_cost_the_same_for_two_and_for_twenty(world: World, as_: As) -> None:
    addresses = {
        "files": url("files", 1),
        "folder": url("file", 1, "data"),
        "file": url("file", 1, "MLmodel"),
        "version": url("version", 1),
        "model": url("model"),
        "versions": url("versions"),
    }
    browser = as_(world.carol)
    version = give_files(world.alpha, "fraud")
    count(version, {1: 1, 2: 1})
    few = {name: cost(browser, address) for name, address in addresses.items()}
    more = {f"data/{at}": b"%d" % at for at in range(20)} | {f"d{at}/x": b"" for at in range(20)}
    give_files(world.alpha, "fraud", more)
    count(version, dict.fromkeys(range(3, 23), 1))
    with tenant_scope(world.alpha, world.alice):
        for _ in range(20):
            added = registry.add_version(RegisteredModel.objects.get(name="fraud"))
            count(added, {1: 1, 5: 2})
    assert {name: cost(browser, address) for name, address in addresses.items()} == few
    assert max(few.values()) <= 22
