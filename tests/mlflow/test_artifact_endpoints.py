"""MLflow's artifact endpoints: who may write and read what, and what they tell of other teams."""

import ast
import base64
import hashlib
import http.client
import json
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import pytest
from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.test import Client
from pytest_django.live_server_helper import LiveServer

from models_registry.files import artifacts
from models_registry.models import ModelVersion
from tenants.identity import directory, tokens
from tenants.isolation.scope import tenant_scope
from tenants.models import ApiToken, AuditEvent, Tenant, User
from tenants.page_functions import in_words
from tests.support import answers
from tests.support.api import make_token
from tests.support.files import BAD_PATHS, add, content, count, keys, pending_version
from tests.support.mlflow_clients import Pythons
from tests.support.people import CANARY, World, committed, make_world
from tests.support.waiting import wait_until

ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
PRESIGNED = "/api/2.0/mlflow-artifacts/presigned"
PARTS = "/api/2.0/mlflow-artifacts/mpu"


class Api:
    """The API as a person with a token calls it."""

    def __init__(self, user: User, scope: str = "write") -> None:
        self.token = make_token(user, scope)

    def __call__(self, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent["Authorization"] = f"Bearer {self.token}"
        kind = sent.pop("Content-Type", "application/octet-stream")
        answer: Any = Client().generic(method, path, body, kind, headers=sent)
        answer.bytes = answer.getvalue()  # and so the file is closed
        return answer

    def put(self, path: str, body: bytes = b"content", **headers: str) -> Any:
        """Send a file."""
        return self("PUT", f"{ARTIFACTS}/{quote(path)}", body, **headers)

    def get(self, path: str, **headers: str) -> Any:
        """Fetch a file."""
        return self("GET", f"{ARTIFACTS}/{quote(path)}", b"", **headers)

    def delete(self, path: str) -> Any:
        """Delete a file or a folder."""
        return self("DELETE", f"{ARTIFACTS}/{quote(path)}")

    def list(self, path: str) -> Any:
        """List a folder."""
        return self("GET", f"{ARTIFACTS}?path={quote(path)}")

    def post(self, address: str, /, **said: Any) -> Any:
        """Send JSON."""
        return self("POST", address, json.dumps(said).encode(), Content_Type="application/json")


@pytest.fixture
def carol(world: World, folder: Path) -> Api:
    """The contributor of alpha."""
    return Api(world.carol)


def code(answer: Any) -> tuple[int, str]:
    """Return status and MLflow's error code."""
    return answer.status_code, answer.json()["error_code"]


MISSING = (404, "RESOURCE_DOES_NOT_EXIST")
INVALID = (400, "INVALID_PARAMETER_VALUE")
FORBIDDEN = (403, "PERMISSION_DENIED")


# --- what the endpoints do -----------------------------------------------------------------


def test_a_file_goes_in_is_listed_comes_out_and_is_deleted(carol: Api) -> None:
    put = carol.put("model/data/weights.bin", b"12345")
    assert (put.status_code, put.content) == (200, b"")
    assert carol.put("model/MLmodel", b"flavors").status_code == 200
    assert carol.list("model").json() == {
        "files": [
            {"path": "MLmodel", "is_dir": False, "file_size": 7},
            {"path": "data", "is_dir": True},
        ]
    }
    assert carol.list("model/").json() == carol.list("model").json()
    assert carol.list("").json() == {"files": [{"path": "model", "is_dir": True}]}
    got = carol.get("model/data/weights.bin")
    assert (got.status_code, got.bytes) == (200, b"12345")
    folder = carol.get("model/data")
    assert code(folder) == INVALID
    assert "is a folder" in folder.json()["detail"]
    assert code(carol.get("model/nothing")) == MISSING
    assert carol.list("model/nothing").json() == carol.list("model/MLmodel").json() == {}
    deleted = carol.delete("model/data")
    assert (deleted.status_code, deleted.json()) == (200, {})
    assert code(carol.delete("model/data")) == MISSING
    assert code(carol.get("model/data/weights.bin")) == MISSING


def test_all_of_it_works_below_a_teams_address(world: World, carol: Api) -> None:
    for prefix in ("/t/team_alpha", "/t/team-alpha"):
        address = f"{prefix}{ARTIFACTS}/{prefix[-5:]}.txt"
        assert carol("PUT", address, b"content").status_code == 200
        assert carol("GET", address).bytes == b"content"
    assert code(carol("PUT", f"/t/team_gamma{ARTIFACTS}/x", b"content")) == MISSING
    assert count(world.gamma)[0] == 0


def test_who_may_read_and_who_may_write(world: World, carol: Api) -> None:
    assert carol.put("a", b"1").status_code == 200
    for person in (world.alice, world.mia):
        assert Api(person).put("by/others", b"1").status_code == 200
    for reader in (Api(world.bob), Api(world.alice, "read")):
        assert reader.get("a").bytes == b"1"
        assert reader.list("").json()["files"][0]["path"] == "a"
        assert code(reader.put("b", b"2")) == FORBIDDEN
        assert code(reader.put("a", b"2")) == FORBIDDEN
        assert code(reader.delete("a")) == FORBIDDEN
    nobody = Client().put(f"{ARTIFACTS}/a", b"2")
    assert code(nobody) == (401, "UNAUTHENTICATED")
    assert content(world.alpha, "a") == b"1"
    assert count(world.alpha) == (2, 1, 0)


ENDS = ("removed", "viewer", "revoked", "suspended", "deactivated")


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("marked", ["while they come", "at the end"])
def test_who_loses_the_right_while_bytes_arrive_makes_no_file(
    world: World, carol: Api, monkeypatch: pytest.MonkeyPatch, end: str, marked: str
) -> None:
    """L21: neither in the upload area nor in a version."""
    version = pending_version(world.alpha)
    carol.put("there", b"old")
    before, stored = count(world.alpha), keys()
    membership = world.carol.memberships.get()
    ends: dict[str, Callable[[], Any]] = {
        "removed": lambda: directory.remove_member(membership),
        "viewer": lambda: directory.change_role(membership, "viewer"),
        "revoked": lambda: tokens.revoke_token(ApiToken.objects.get(user=world.carol)),
        "suspended": lambda: directory.suspend_tenant(world.alpha),
        "deactivated": lambda: directory.set_active(world.carol, active=False),
    }
    read, pieces = WSGIRequest.read, []

    def watched(request: WSGIRequest, *args: Any) -> Any:
        pieces.append(read(request, *args))
        if len(pieces) == 2:
            ends[end]()
        return pieces[-1]

    monkeypatch.setattr(WSGIRequest, "read", watched)
    if marked == "while they come":
        monkeypatch.setattr(artifacts, "SEEN_SECONDS", 0)
    path = {"removed": f"versions/{version.pk}/x", "viewer": "there"}.get(end, "x")
    refused = carol.put(path, b"x" * 5_000_000)
    assert refused.status_code in (401, 403, 404), refused.content
    assert (len(pieces) < 5) == (marked == "while they come")
    assert (count(world.alpha), keys()) == (before, stored)
    assert content(world.alpha, "there") == b"old"


def test_a_suspended_team_reads_and_does_not_write(world: World, carol: Api) -> None:
    carol.put("a", b"1")
    Tenant.objects.filter(pk=world.alpha.pk).update(status="suspended")
    assert carol.get("a").bytes == b"1"
    assert code(carol.put("b", b"2")) == code(carol.delete("a")) == FORBIDDEN


@pytest.mark.parametrize(
    ("said", "status", "part", "told"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=-20", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=9-99", 206, b"9", "bytes 9-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=3-2", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
def test_a_part_of_a_file(
    carol: Api, said: str, status: int, part: bytes | None, told: str | None
) -> None:
    carol.put("ten", b"0123456789")
    answer = carol.get("ten", Range=said)
    assert answer.status_code == status
    assert answer.headers.get("Content-Range") == told
    if part is not None:
        assert answer.bytes == part
        assert answer["Content-Length"] == str(len(part))


def test_a_file_is_sent_again_only_where_it_has_changed(carol: Api) -> None:
    carol.put("a", b"0123456789")
    etag = carol.get("a")["ETag"]
    assert etag == f'"{hashlib.sha256(b"0123456789").hexdigest()}"'
    for same in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        answer = carol.get("a", If_None_Match=same)
        assert (answer.status_code, answer.content, answer["ETag"]) == (304, b"", etag)
    assert carol.get("a", If_None_Match='"x"').status_code == 200
    assert carol.get("a", Range="bytes=0-1", If_Range=etag).status_code == 206
    assert carol.get("a", Range="bytes=0-1", If_Range='"x"').status_code == 200
    assert carol.get("a", Range="bytes=0-1", If_Range="Tue, 24 Nov 2026 00:00:00 GMT").status_code


def test_head_tells_all_but_the_bytes(carol: Api) -> None:
    carol.put("a.txt", b"0123456789")
    got, head = carol.get("a.txt"), carol("HEAD", f"{ARTIFACTS}/a.txt")
    assert head.status_code == 200 and head.content == b""
    assert head["Content-Length"] == "10"
    assert answers.headers(head) == answers.headers(got)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("page.html", "text/plain"),
        ("x.xhtml", "application/octet-stream"),
        ("x.svg", "application/octet-stream"),
        ("x.js", "text/plain"),
        ("x.xml", "application/octet-stream"),
        ("x.pdf", "application/octet-stream"),
        ("x.html.gz", "application/octet-stream"),
        ("x.png", "image/png"),
        ("x.json", "application/json"),
        ("model.pkl", "application/octet-stream"),
        ("MLmodel", "application/octet-stream"),
    ],
)
def test_whatever_a_file_is_it_is_saved_and_never_shown(carol: Api, name: str, kind: str) -> None:
    carol.put(f"dir/{name}", b"<script>alert(1)</script>", Content_Type="text/html")
    for address in (f"{ARTIFACTS}/dir/{name}",):
        answer = carol("GET", address)
        assert answer["Content-Type"].partition(";")[0] in {kind, "text/plain"}
        assert answer["Content-Type"] == kind or kind == "application/octet-stream"
        assert answer["Content-Disposition"] == f'attachment; filename="{name}"'
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert answer["Cache-Control"] == "private, no-store"


@pytest.mark.parametrize("name", ['a"b; filename=evil.exe', "模型.bin", "a'b%41.bin", "é.bin"])
def test_a_name_stays_a_name_in_the_header(carol: Api, name: str) -> None:
    assert carol.put(name, b"1").status_code == 200
    said = carol.get(name)["Content-Disposition"]
    if name.isascii():
        assert said == 'attachment; filename="{}"'.format(name.replace('"', '\\"'))
    else:
        assert said == f"attachment; filename*=utf-8''{quote(name)}"


# --- versions ------------------------------------------------------------------------------


def test_a_versions_files_are_read_at_its_id_and_written_while_it_is_pending(
    world: World, carol: Api
) -> None:
    version = pending_version(world.alpha)
    at = f"versions/{version.pk}"
    assert carol.put(f"{at}/model/MLmodel", b"flavors").status_code == 200
    assert carol.put(f"{at}/other", b"other").status_code == 200
    assert carol.delete(f"{at}/other").status_code == 200
    assert content(world.alpha, "model/MLmodel", version) == b"flavors"
    assert count(world.alpha)[0] == 1
    with tenant_scope(world.alpha):
        ModelVersion.objects.filter(pk=version.pk).update(status="READY")
    for answer in (carol.put(f"{at}/model/MLmodel", b"x"), carol.delete(f"{at}/model")):
        assert code(answer) == INVALID
        assert "complete" in answer.json()["message"]
    assert Api(world.bob).get(f"{at}/model/MLmodel").bytes == b"flavors"
    assert Api(world.bob).list(at).json() == {"files": [{"path": "model", "is_dir": True}]}
    by_name = f"/model-versions/get-artifact?name=fraud&version={version.number}&path="
    for prefix in ("", "/t/team_alpha"):
        assert carol("GET", f"{prefix}{by_name}model/MLmodel").bytes == b"flavors"
    assert code(carol("GET", f"{by_name}model")) == MISSING
    assert code(carol("GET", f"{by_name}../model")) == INVALID
    for path in ("versions", "versions/", f"versions/{str(version.pk).upper()}", "versions/x"):
        assert carol.list(path).json() == {}
    for path in ("versions/x", f"versions/{str(version.pk).upper()}/model/MLmodel", "versions/a/b"):
        assert code(carol.get(path)) == MISSING
        assert code(carol.put(path, b"x")) == MISSING
        assert code(carol.delete(path)) == MISSING


@pytest.mark.parametrize("number", ["3", "0", "-1", "1.0", "x", "9" * 30, "\u0661"])
def test_a_version_number_that_leads_nowhere(carol: Api, number: str) -> None:
    path = f"/model-versions/get-artifact?name=fraud&version={quote(number)}&path=a"
    assert code(carol("GET", path)) == MISSING


# --- other teams ---------------------------------------------------------------------------


@pytest.fixture
def others(world: World, either_store: str) -> ModelVersion:
    """gamma's upload area with a file, and a version of it with one."""
    version = pending_version(world.gamma)
    add(world.gamma, f"{CANARY}/file", CANARY.encode())
    add(world.gamma, f"{CANARY}/file", CANARY.encode(), version)
    return version


def test_what_another_team_has_and_what_nobody_has_are_answered_alike(
    world: World, either_store: str, others: ModelVersion
) -> None:
    """L3, L9, L17: by path, by version and by the workspace in the path."""
    carol = Api(world.carol)
    addresses = [("HEAD", ARTIFACTS)]
    if either_store == "bucket":
        addresses.append(("GET", PRESIGNED))
    theirs = {
        "area": (f"{CANARY}/file", "NOBODY/file"),
        "folder": (CANARY, "NOBODY"),
        "version": (f"versions/{others.pk}/{CANARY}/file", f"versions/{uuid4()}/{CANARY}/file"),
        "workspace": (
            f"workspaces/team-gamma/{CANARY}/file",
            f"workspaces/team-nobod/{CANARY}/file",
        ),
        "their slug": (f"workspaces/team_gamma/{CANARY}", f"workspaces/team_nobod/{CANARY}"),
    }
    before = count(world.gamma), keys()
    for known, unknown in theirs.values():
        for call in (carol.get, carol.list, carol.delete):
            one, other = call(known), call(unknown)
            assert answers.whole(one, known) == answers.whole(other, unknown)
            assert one.status_code in {200, 404}
        for method, address in addresses:
            one = carol(method, f"{address}/{known}")
            other = carol(method, f"{address}/{unknown}")
            assert answers.whole(one, known) == answers.whole(other, unknown)
    for name in ("version", "workspace", "their slug"):
        one, other = (carol.put(path, b"mine") for path in theirs[name])
        assert code(one) == MISSING
        assert answers.whole(one, theirs[name][0]) == answers.whole(other, theirs[name][1])
    by_name = "/model-versions/get-artifact?version=2&path={path}&name={name}"
    path = f"{CANARY}/file"
    one, other = (carol("GET", by_name.format(path=path, name=name)) for name in ("fraud", "nope"))
    assert answers.whole(one) == answers.whole(other)
    assert (count(world.gamma), keys()) == before


def test_the_header_and_the_path_cannot_say_different_teams(
    world: World, others: ModelVersion
) -> None:
    """L4: whatever names gamma, a member of alpha gets nothing of it."""
    carol = Api(world.carol)
    path = f"workspaces/team-gamma/{CANARY}/file"
    for team in ("team_gamma", "team-gamma", "nobody"):
        answer = carol.get(path, X_MLFLOW_WORKSPACE=team)
        assert code(answer) == MISSING
    # The path names gamma, so it does not mean what alpha has under the rest of it.
    carol.put("dir/file")
    for team in ("team-gamma", "nobody"):
        elsewhere = f"workspaces/{team}/dir"
        for header in ({}, {"X_MLFLOW_WORKSPACE": "team-alpha"}):
            assert code(carol.get(f"{elsewhere}/file", **header)) == MISSING
        assert carol.list(elsewhere).json() == {}
        assert code(carol.put(f"{elsewhere}/file", b"x")) == MISSING
        assert code(carol.delete(elsewhere)) == MISSING
    assert carol.get("dir/file").bytes == b"content"


def test_equal_paths_and_bytes_in_two_teams_tell_neither_of_the_other(
    world: World, carol: Api
) -> None:
    """L11, L19: the second team's upload is answered and kept as if it were the first."""
    gina = Api(world.gina)
    calls = (("PUT", "model/x"), ("GET", "model/x"), ("DELETE", "model/x"))
    first = [answers.headers(carol(verb, f"{ARTIFACTS}/{path}", b"same")) for verb, path in calls]
    carol.put("model/x", b"same")
    assert [
        answers.headers(gina(verb, f"{ARTIFACTS}/{path}", b"same")) for verb, path in calls
    ] == first
    gina.put("model/x", b"same")
    assert len(keys()) == 2
    carol.delete("model/x")
    assert gina.get("model/x").bytes == b"same"


def test_the_path_of_the_own_workspace_is_the_upload_area(world: World, carol: Api) -> None:
    carol.put("workspaces/team-alpha/dir/a", b"1")
    assert carol.get("dir/a").bytes == b"1"
    assert carol.get("workspaces/team_alpha/dir/a").bytes == b"1"
    assert carol.list("workspaces/team-alpha/dir").json() == carol.list("dir").json()
    assert carol.list("workspaces/team-alpha").json() == carol.list("").json()
    version = pending_version(world.alpha)
    carol.put(f"workspaces/team-alpha/versions/{version.pk}/a", b"2")
    assert content(world.alpha, "a", version) == b"2"
    for path in ("workspaces", "workspaces/team-alpha"):
        assert code(carol.put(path, b"3")) == MISSING
    assert carol.list("workspaces").json() == {}


def test_what_lies_below_the_own_workspaces_path_can_be_registered(
    world: World, carol: Api
) -> None:
    """A source is read just as the paths of the proxy are."""
    create = "/api/2.0/mlflow/model-versions/create"
    assert carol.put("workspaces/team-alpha/x/MLmodel", b"flavors: {}").status_code == 200
    sources = (
        "mlflow-artifacts:/workspaces/team-alpha/x",
        "mlflow-artifacts:/workspaces/team_alpha/x/MLmodel",
        "mlflow-artifacts:/x",
    )
    for source in sources:
        made = carol.post(create, name="fraud", source=source)
        assert made.status_code == 200, made.content
        number = int(made.json()["model_version"]["version"])
        with tenant_scope(world.alpha):
            version = ModelVersion.objects.get(model__name="fraud", number=number)
            assert list(version.files.values_list("path", flat=True)) == ["MLmodel"]
        own = f"mlflow-artifacts:/workspaces/team-alpha/versions/{version.pk}"
        assert carol.post(create, name="fraud", source=own).status_code == 200
    Api(world.gina).put(f"{CANARY}/MLmodel", b"theirs")
    said = {
        carol.post(create, name="fraud", source=source).content.replace(name, b"TEAM")
        for name in (b"team-gamma", b"team-nobod")
        for source in [f"mlflow-artifacts:/workspaces/{name.decode()}/{CANARY}"]
    }
    assert len(said) == 1
    assert b"There is nothing there" in said.pop()


def test_who_replaced_and_deleted_which_files_is_in_the_log(world: World, carol: Api) -> None:
    """One event for each request, in the team's log, and in the model's history if it has one."""
    version = pending_version(world.alpha)
    for folder in ("dir", f"versions/{version.pk}/dir"):
        for body in (b"first", b"second"):
            assert carol.put(f"{folder}/a", body).status_code == 200
        assert carol.put(f"{folder}/b").status_code == 200
        assert carol.delete(folder).status_code == 200
        assert code(carol.delete(folder)) == MISSING
    with tenant_scope(world.alpha):
        events = list(AuditEvent.objects.filter(action__startswith="file.").order_by("created_at"))
        name = f"fraud version {version.number}: "
        assert [(event.object_label, event.object_id, in_words(event)) for event in events] == [
            (f"{where}{path}", model, said.format(f"<strong>{where}{path}</strong>"))
            for where, model in (("", None), (name, version.model_id))
            for path, said in (
                ("dir/a", "replaced the file {}"),
                ("dir", "deleted 2 files at {}"),
            )
        ]
    for event in events:
        assert (event.actor, event.via) == (world.carol, carol.token[: tokens.PREFIX_CHARS])
    assert [event.changes for event in events[:2]] == [
        {"path": "dir/a"},
        {"path": "dir", "count": 2},
    ]
    browser = Client()
    browser.force_login(world.alice, backend="allauth.account.auth_backends.AuthenticationBackend")
    page = browser.get("/t/team_alpha/activity/?action=file").content.decode()
    assert page.count("deleted 2 files at") == 2


# --- bad requests --------------------------------------------------------------------------

#: What cannot be sent as UTF-8 arrives as text with percent signs in it: a good name.
SENT_PATHS = tuple(path for path in BAD_PATHS if "\ud800" not in path)


@pytest.mark.parametrize("path", SENT_PATHS, ids=range(len(SENT_PATHS)))
def test_a_path_that_leads_elsewhere_is_refused(world: World, carol: Api, path: str) -> None:
    """L17, also hidden behind folders of ours; nothing is written anywhere."""
    version = pending_version(world.alpha)
    for prefix in ("", "dir/", "workspaces/team-alpha/", f"versions/{version.pk}/"):
        address = f"{ARTIFACTS}/{prefix}{quote(path)}"
        for method in ("PUT", "GET", "HEAD", "DELETE"):
            answer = carol(method, address, b"evil" if method == "PUT" else b"")
            assert answer.status_code in {400, 404}, (method, prefix)
        if path and not path.endswith("/"):
            listed = carol("GET", f"{ARTIFACTS}?path={prefix}{quote(path)}")
            assert (listed.status_code, listed.content) in {(400, listed.content), (200, b"{}")}
    assert count(world.alpha) == (0, 0, 0)
    assert keys() == []


def test_what_was_announced_must_arrive(world: World, carol: Api) -> None:
    good = base64.b64encode(hashlib.sha256(b"content").digest()).decode()
    bad = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    assert carol.put("a", Content_Digest=f"sha-512=:xx:, sha-256=:{good}:").status_code == 200
    assert code(carol.put("b", Content_Digest=f"sha-256=:{bad}:")) == (400, "BAD_REQUEST")
    assert code(carol.put("b", Content_Digest="sha-256=:?:")) == INVALID
    assert count(world.alpha) == (1, 1, 0)


def test_a_file_without_a_length_is_not_kept(world: World, carol: Api) -> None:
    """Nobody could tell whether all of it has come."""
    answer: Any = Client().put(
        f"{ARTIFACTS}/a",
        b"content",
        "application/octet-stream",
        headers={"Authorization": f"Bearer {carol.token}", "Transfer-Encoding": "chunked"},
        CONTENT_LENGTH="",
    )
    assert code(answer) == (411, "BAD_REQUEST")
    bad = carol.put("a", b"x", **{"Content-Length": "1x"})
    assert code(bad) == INVALID
    assert count(world.alpha) == (0, 0, 0)


def test_a_full_store_and_one_that_is_gone(world: World, carol: Api, folder: Path) -> None:
    carol.put("a")
    full = Client().generic(
        "PUT",
        f"{ARTIFACTS}/b",
        b"begin",
        headers={"Authorization": f"Bearer {carol.token}"},
        CONTENT_LENGTH=str(10**17),
    )
    assert full.status_code == 507
    assert "collect_garbage" in full.json()["message"]
    folder.rename(folder.with_name("unmounted"))
    for answer in (carol.get("a"), carol.put("b")):
        assert code(answer) == (503, "TEMPORARILY_UNAVAILABLE")
        assert str(folder) not in answer.content.decode()
    assert count(world.alpha) == (1, 1, 0)


def test_the_whole_area_cannot_be_deleted_at_once(world: World, carol: Api) -> None:
    carol.put("a")
    for path in ("", "workspaces/team-alpha"):
        assert carol.delete(path).status_code in {400, 404}
    assert carol("DELETE", ARTIFACTS).status_code == 405
    assert count(world.alpha)[0] == 1


# --- between the client and the store ------------------------------------------------------


def test_a_folder_is_never_reached_directly(carol: Api) -> None:
    """MLflow's client falls back to sending through us when it reads just these words."""
    carol.put("a")
    create = carol.post(f"{PARTS}/create/dir", path="x", num_parts=2)
    assert code(create) == (501, "NOT_IMPLEMENTED")
    words = "is not supported for the current artifact repository"
    assert create.json()["message"] == f"Multipart upload {words}"
    presigned = carol("GET", f"{PRESIGNED}/a")
    assert presigned.json()["message"] == f"Multipart download {words}"
    for verb in ("complete", "abort"):
        answer = carol.post(f"{PARTS}/{verb}/dir", path="x", upload_id="x", parts=[])
        assert answer.status_code == 501


MB = 1024 * 1024


def direct(method: str, url: str, body: bytes = b"", **headers: str) -> Any:
    """Send a request to the store itself; return its answer, with its bytes."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)
    connection.request(method, f"{parts.path}?{parts.query}", body, headers)
    answer: Any = connection.getresponse()
    answer.bytes = answer.read()
    connection.close()
    return answer


def send(url: str, body: bytes) -> str:
    """Send a part to the store itself, and return its ETag."""
    etag: str = direct("PUT", url, body).headers["ETag"]
    return etag


@pytest.mark.usefixtures("bucket")
def test_a_file_sent_in_parts_and_fetched_directly(world: World) -> None:
    carol = Api(world.carol)
    parts = [b"a" * 5 * MB, b"b" * 100]
    made = carol.post(f"{PARTS}/create/dir", path="C:\\here\\big.bin", num_parts=2).json()
    assert [part["part_number"] for part in made["credentials"]] == [1, 2]
    assert count(world.alpha) == (0, 0, 1)
    sent = [
        {"part_number": part["part_number"], "etag": send(part["url"], body), "url": part["url"]}
        for part, body in zip(made["credentials"], parts, strict=True)
    ]
    said = {"path": "/home/me/big.bin", "upload_id": made["upload_id"], "parts": sent[::-1]}
    done = carol.post(f"{PARTS}/complete/dir", **said)
    assert (done.status_code, done.json()) == (200, {})
    assert content(world.alpha, "dir/big.bin") == b"".join(parts)
    [key] = keys()
    assert key.endswith(hashlib.sha256(b"".join(parts)).hexdigest())
    assert count(world.alpha) == (1, 1, 0)
    assert code(carol.post(f"{PARTS}/complete/dir", **said)) == MISSING
    presigned = Api(world.bob)("GET", f"{PRESIGNED}/dir/big.bin").json()
    assert presigned["file_size"] == 5 * MB + 100
    got = direct("GET", presigned["url"], Range=f"bytes={5 * MB - 1}-{5 * MB}")
    assert got.bytes == b"ab"
    assert got.headers["Content-Disposition"] == 'attachment; filename="big.bin"'
    info = Client().get("/api/3.0/mlflow/server-info").json()
    assert info["multipart_uploads_enabled"] and info["multipart_downloads_enabled"]


@pytest.mark.usefixtures("bucket")
def test_parts_given_up_leave_nothing(world: World) -> None:
    carol = Api(world.carol)
    made = carol.post(f"{PARTS}/create/", path="big.bin", num_parts=1).json()
    send(made["credentials"][0]["url"], b"some")
    said = {"path": "big.bin", "upload_id": made["upload_id"]}
    wrong = carol.post(
        f"{PARTS}/complete/", **said, parts=[{"part_number": 7, "etag": '"0"', "url": ""}]
    )
    assert code(wrong) == (400, "BAD_REQUEST")
    assert code(carol.post(f"{PARTS}/complete/", **said, parts=[{"etag": 1}])) == INVALID
    assert keys() != []
    assert carol.post(f"{PARTS}/abort/", **said).json() == {}
    assert code(carol.post(f"{PARTS}/abort/", **said)) == MISSING
    assert keys() == []
    assert count(world.alpha) == (0, 0, 0)


@pytest.mark.usefixtures("bucket")
def test_nobody_else_can_end_an_upload_in_parts(world: World) -> None:
    """L18: not another team, not a viewer, not under another path."""
    gina, carol, bob = Api(world.gina), Api(world.carol), Api(world.bob)
    made = gina.post(f"{PARTS}/create/dir", path="x", num_parts=1).json()
    etag = send(made["credentials"][0]["url"], b"gamma's")
    parts = [{"part_number": 1, "etag": etag, "url": ""}]
    known, unknown = made["upload_id"], str(uuid4())
    for verb in ("complete", "abort"):
        one, other = (
            carol.post(f"{PARTS}/{verb}/dir", path="x", upload_id=name, parts=parts)
            for name in (known, unknown)
        )
        assert code(one) == MISSING
        assert answers.whole(one, known) == answers.whole(other, unknown)
        elsewhere = gina.post(f"{PARTS}/{verb}/dir", path="y", upload_id=known, parts=parts)
        assert code(elsewhere) == MISSING
        assert code(bob.post(f"{PARTS}/{verb}/dir", path="x", upload_id=known)) == FORBIDDEN
    assert code(bob.post(f"{PARTS}/create/dir", path="x", num_parts=1)) == FORBIDDEN
    for number in (0, -1, 10_001):
        assert code(carol.post(f"{PARTS}/create/dir", path="x", num_parts=number)) == INVALID
    assert gina.post(f"{PARTS}/complete/dir", path="x", upload_id=known, parts=parts).json() == {}
    assert content(world.gamma, "dir/x") == b"gamma's"


@pytest.mark.usefixtures("bucket")
def test_addresses_are_for_one_key_and_for_a_while(world: World) -> None:
    """L33: whoever edits the key, breaks the signature; no key says what is in it."""
    carol = Api(world.carol)
    carol.put("secret-name", b"1")
    url = carol("GET", f"{PRESIGNED}/secret-name").json()["url"]
    assert f"/some/prefix/tenants/{world.alpha.pk}/blobs/" in url
    assert "X-Amz-Signature=" in url and "X-Amz-Expires=900" in url
    address, _, _ = url.partition("?")
    assert "secret-name" not in address and "X-Amz-SignedHeaders=host" in url


# --- real clients --------------------------------------------------------------------------

CLIENT = """
import sys
from pathlib import Path
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
there, here, back = sys.argv[1:]
repository = MlflowArtifactsRepository(there)
repository.log_artifacts(here, "model")
print(sorted((f.path, f.is_dir, f.file_size) for f in repository.list_artifacts("model")))
print(sorted((f.path, f.is_dir, f.file_size) for f in repository.list_artifacts("nothing")))
repository.download_artifacts("model", back)
repository.delete_artifacts("model/data")
print(sorted(f.path for f in repository.list_artifacts("model")))
"""


@committed
@pytest.mark.parametrize("team", ["", "/t/team_alpha"])
def test_mlflows_own_client(
    transactional_db: None,
    folder: Path,
    live_server: LiveServer,
    tmp_path: Path,
    pythons: Pythons,
    team: str,
) -> None:
    world = make_world()
    here, back = tmp_path / "here", tmp_path / "back"
    (here / "data").mkdir(parents=True)
    back.mkdir()
    names = {
        "MLmodel": b"flavors",
        "data/weights é 100%.bin": bytes(3 * MB),
        "data/__init__.py": b"",
    }
    for name, whole in names.items():
        (here / name).write_bytes(whole)
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "MLFLOW_TRACKING_URI": f"{live_server.url}{team}",
        "MLFLOW_TRACKING_TOKEN": make_token(world.carol),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    arguments = ["mlflow-artifacts:/some/dir", str(here), str(back)]
    program = pythons("3").start(tmp_path, variables, code=CLIENT, arguments=arguments)
    ran = program.ended()
    assert ran.code == 0, ran.errors
    assert ran.output.splitlines() == [
        "[('model/MLmodel', False, 7), ('model/data', True, None)]",
        "[]",
        "['model/MLmodel']",
    ]
    for name, whole in names.items():
        assert (back / "model" / name).read_bytes() == whole
    assert content(world.alpha, "some/dir/model/MLmodel") == b"flavors"


def begin(live_server: LiveServer, user: User) -> http.client.HTTPConnection:
    """Announce 1,000 bytes and send 9."""
    connection = http.client.HTTPConnection(live_server.thread.host, live_server.thread.port)
    connection.putrequest("PUT", f"{ARTIFACTS}/a")
    connection.putheader("Authorization", f"Bearer {make_token(user)}")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"only this")
    return connection


@committed
def test_a_client_that_sends_too_little_or_goes_away_leaves_nothing(
    transactional_db: None, folder: Path, live_server: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world()
    connection = begin(live_server, world.carol)
    connection.sock.shutdown(socket.SHUT_WR)  # the answer can still be read
    answer = connection.getresponse()
    assert answer.status == 400
    assert b"9 bytes arrived of 1000" in answer.read()
    connection.close()
    connection = begin(live_server, world.carol)
    wait_until(lambda: count(world.alpha) == (0, 0, 1))
    assert len(keys()) == 1
    reset = struct.pack("ii", 1, 0)
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    connection.close()
    wait_until(lambda: count(world.alpha) == (0, 0, 0))
    assert keys() == []
    assert not [record for record in caplog.records if record.exc_info]


# --- the files themselves ------------------------------------------------------------------


def test_no_module_of_the_product_can_load_a_model() -> None:
    """L37: what unpickles runs what it reads, so nothing here imports anything that does."""
    dangerous = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    dangerous |= {"mlflow", "sklearn", "torch", "numpy", "skops"}
    root = Path(settings.BASE_DIR)
    looked = 0
    for folder in ("models_registry", "tenants", "platform"):
        for path in (root / folder).rglob("*.py"):
            if path.parts[-2:] == ("demo", "train.py"):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    names = {alias.name for alias in node.names}
                    names.add(getattr(node, "module", None) or "")
                    assert not {name.partition(".")[0] for name in names} & dangerous, path
            looked += 1
    assert looked > 50


def test_a_hostile_pickle_is_bytes_like_any_other(carol: Api, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    evil = f"cos\nsystem\n(S'touch {mark}'\ntR.".encode()
    assert carol.put("model/model.pkl", evil).status_code == 200
    assert carol.get("model/model.pkl").bytes == evil
    assert carol.list("model").status_code == 200
    assert not mark.exists()
