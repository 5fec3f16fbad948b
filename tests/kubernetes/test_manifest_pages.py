"""The manifest check on its page and over the API: what a team sees of it, and nobody else."""

import logging
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import yaml
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from pytest_django.asserts import assertNumQueries

from models_registry.models import RegisteredModel
from tenants.isolation.scope import tenant_scope
from tenants.kubernetes import workloads
from tenants.models import AuditEvent, User
from tests.support.api import Api, kept, make_token, refused, said
from tests.support.manifests import BROKEN, MISPLACED, but, env, pod
from tests.support.pages import Page, page_of, url
from tests.support.people import CANARY, World

As = Callable[[User | None], Client]

CHECK = "2.0/bulkhead/manifests/check"
CLEAN = yaml.safe_dump(pod())
HOSTILE = "<script>alert(1)</script>\"'{{ 7*7 }}{% now %}&amp;"


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a model be used that the acting team has, as the registry's own verdict does."""

    def by_name(reference: workloads.Reference) -> workloads.Verdict:
        name = reference.uri.removeprefix("models:/").partition("/")[0]
        there = RegisteredModel.objects.filter(name=name).exists()
        return workloads.Verdict(None if there else "there is none")

    monkeypatch.setattr(workloads, "verdict_on", by_name)


def post(
    browser: Client, text: str = "", *files: tuple[str, bytes], team: str = "team_alpha"
) -> Any:
    """Send the page's form."""
    uploads = [SimpleUploadedFile(name, content) for name, content in files]
    return browser.post(url("check_manifests", team=team), {"manifests": text, "files": uploads})


# --- the page ------------------------------------------------------------------------------


def test_the_empty_page_checks_an_example(world: World, as_: As) -> None:
    page = page_of(as_(world.bob).get(url("check_manifests")))
    assert "bh-team-alpha" in page.text
    assert "bulkhead.dev/tenant: team_alpha" in page.text
    assert "Pod scorer is placed in namespace default" in page.text
    assert "Pod scorer uses its node's network" in page.text
    assert f"/t/team_alpha/api/{CHECK}" in page.text
    assert page.forms[-1].fields["files"] == ""


def test_findings_are_shown_with_the_lines_that_they_are_about(world: World, as_: As) -> None:
    response = post(as_(world.bob), MISPLACED)
    assert response.status_code == 200
    page = page_of(response)
    assert "2 objects: 2 errors, 1 warning." in page.text
    assert "Pod tenant1-pod is placed in namespace tenant2, and the namespace of team_alpha" in (
        page.text
    )
    assert "line 10, column 14\nnamespace: tenant2" in page.text
    assert MISPLACED in page.text  # what was typed stays
    titles = [title for title, _, found in response.context["groups"] if found]
    assert titles == ["Errors", "Warnings"]


def test_a_clean_manifest_is_said_to_be_clean(world: World, as_: As) -> None:
    page = page_of(post(as_(world.bob), CLEAN))
    assert "1 object, and nothing is wrong with it." in page.text


def test_several_files_are_checked_together(world: World, as_: As) -> None:
    wrong = f"# a line\n{yaml.safe_dump(but(pod(), namespace='x'))}"
    line = wrong.splitlines().index("  namespace: x") + 1
    page = page_of(post(as_(world.bob), CLEAN, ("a.yaml", wrong.encode()), ("a.yaml", b"{")))
    assert f"a.yaml, line {line}, column 14\nnamespace: x" in page.text
    assert "a.yaml (2), line 1" in page.text
    assert "1 file could not be read" in page.text


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        (BROKEN, 422, "line 3, column 1"),
        ("a: {{ .Values.a }}", 422, "If this is a template"),
        ("a: \x00", 422, "control character"),
        ("", 422, "Paste a manifest or choose a file."),
        (" \n", 422, "Paste a manifest or choose a file."),
        ("x" * (1024 * 1024 + 1), 413, "more than 1,024 KiB"),
        (f"[{'1,' * 450_000}]", 413, "400,000 values"),
    ],
    ids=range(7),
)
def test_what_cannot_be_read_is_answered_with_the_place(
    world: World, as_: As, text: str, status: int, words: str
) -> None:
    response = post(as_(world.bob), text)
    assert response.status_code == status
    assert words in page_of(response).text


def test_more_than_a_form_may_hold_is_refused(world: World, as_: As) -> None:
    assert post(as_(world.bob), "x" * (6 * 1024 * 1024)).status_code == 413


def test_a_long_list_of_findings_is_cut_and_says_so(world: World, as_: As) -> None:
    text = "\n---\n".join("{apiVersion: v1, kind: Widget}" for _ in range(300))
    page = page_of(post(as_(world.bob), text))
    assert "300 objects: 300 errors." in page.text
    assert "100 more are not listed." in page.text
    assert page.text.count("Widget without a name names no namespace") == 200


def test_whatever_is_pasted_is_shown_as_it_was_typed(world: World, as_: As) -> None:
    """L37: a manifest is a stranger's text."""
    text = yaml.safe_dump(but(pod(), name=HOSTILE, namespace=HOSTILE))
    page = page_of(post(as_(world.bob), text, (f"{HOSTILE}.yaml", text.encode())))
    assert HOSTILE in page.text
    assert "49" not in page.title


def test_the_form_needs_its_token(world: World) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(world.bob, backend="allauth.account.auth_backends.AuthenticationBackend")
    assert post(browser, CLEAN).status_code == 403
    page = Page(browser.get(url("check_manifests")).content.decode())
    token = page.forms[-1].fields["csrfmiddlewaretoken"]
    sent = {"manifests": CLEAN, "csrfmiddlewaretoken": token}
    assert browser.post(url("check_manifests"), sent).status_code == 200


def test_checked_manifests_are_neither_kept_nor_logged(
    world: World, as_: As, caplog: pytest.LogCaptureFixture
) -> None:
    before = kept(world.alpha)
    with tenant_scope(world.alpha):
        events = AuditEvent.objects.count()
    with caplog.at_level(logging.DEBUG):
        for text in (f"# PASTED-SECRET\n{MISPLACED}", "PASTED-SECRET: [", CLEAN):
            post(as_(world.bob), text, ("f.yaml", b"PASTED-SECRET: 1"))
            api(world).raw("POST", CHECK, text.encode(), "application/yaml")
    assert "PASTED-SECRET" not in caplog.text
    assert kept(world.alpha) == before
    with tenant_scope(world.alpha):
        assert AuditEvent.objects.count() == events


# --- what the other team sees ------------------------------------------------------------------


def test_another_teams_namespace_and_models_are_as_nobodys(world: World, as_: As) -> None:
    """L6, L9: by page and by API, what is another team's and what nobody has read alike."""

    def by_page(text: str) -> str:
        return "".join(
            line
            for line in post(as_(world.bob), text).content.decode().splitlines()
            if "csrf" not in line.lower()
        )

    def by_api(text: str) -> str:
        answer: bytes = api(world).post(CHECK, manifests=text).content
        return answer.decode()

    for ask in (by_page, by_api):
        for theirs, nobodys in (
            (but(pod(), namespace="bh-team-gamma"), but(pod(), namespace="bh-team-nobod")),
            (env(f"- models:/{CANARY} own/1"), env("- models:/ABSENT own/1")),
            (but(pod(), labels={"bulkhead.dev/tenant-id": str(world.gamma.pk)}), None),
        ):
            said_of_theirs = ask(yaml.safe_dump(theirs))
            if nobodys is None:
                zero = "00000000-0000-0000-0000-000000000000"
                nobodys = but(pod(), labels={"bulkhead.dev/tenant-id": zero})
                said_of_theirs = said_of_theirs.replace(str(world.gamma.pk), zero)
            said_of_nobodys = ask(yaml.safe_dump(nobodys))
            for one, other in (("gamma", "nobod"), (CANARY, "ABSENT")):
                said_of_theirs = said_of_theirs.replace(one, other)
            assert said_of_theirs == said_of_nobodys


def test_each_team_is_checked_against_its_own(world: World, as_: As) -> None:
    text = yaml.safe_dump(env("models:/fraud/1"))
    assert "nothing is wrong" in page_of(post(as_(world.bob), text)).text
    page = page_of(post(as_(world.gina), text, team="team_gamma"))
    assert "the namespace of team_gamma is bh-team-gamma" in page.text
    assert said(api(world).post(CHECK, manifests=text))["clean"] is True
    of_gamma = said(Api(make_token(world.gina)).post(CHECK, manifests=text))
    assert (of_gamma["tenant"], of_gamma["clean"]) == ("team_gamma", False)


# --- the API -----------------------------------------------------------------------------------


def api(world: World) -> Api:
    """Return a client that may only read."""
    return Api(make_token(world.bob, "read"))


@pytest.mark.parametrize(
    "kind", ["application/yaml", "text/plain; charset=utf-8", "application/x-yaml", "text/yaml"]
)
def test_manifests_may_be_sent_as_they_are_instead_of_in_json(world: World, kind: str) -> None:
    report = said(api(world).raw("POST", CHECK, MISPLACED.encode(), kind))
    assert report == said(api(world).post(CHECK, manifests=MISPLACED))
    assert (report["clean"], report["tenant"], report["namespace"]) == (
        *(False, "team_alpha"),
        "bh-team-alpha",
    )
    [finding] = [one for one in report["findings"] if one["rule"] == "BH101"]
    assert (finding["file"], finding["line"], finding["column"]) == ("manifests", 10, 14)
    assert said(api(world).raw("POST", CHECK, b"", kind))["objects"] == 0


def test_manifests_in_json_are_read_too(world: World) -> None:
    text = orjson.dumps(pod())
    assert said(api(world).raw("POST", CHECK, text, "text/plain"))["clean"] is True


def test_the_answer_may_be_sarif(world: World) -> None:
    answer = api(world).raw("POST", f"{CHECK}?format=sarif", MISPLACED.encode(), "text/yaml")
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/sarif+json")
    log = orjson.loads(answer.content)
    assert log["version"] == "2.1.0"
    assert "BH101" in [result["ruleId"] for result in log["runs"][0]["results"]]


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (BROKEN.encode(), "application/yaml", 400, "Line 3, column 1: This is not valid YAML"),
        (b"a: \xff", "application/yaml", 400, "Line 1, column 4: This is not UTF-8 text."),
        (b"x" * (1024 * 1024 + 1), "application/yaml", 413, "more than 1,024 KiB"),
        (b"[" * 1000, "application/yaml", 413, "Line 1, column 101: This is nested"),
        (b"x" * (6 * 1024 * 1024), "application/yaml", 413, "The body is too large."),
        (b"{", "application/json", 400, 'Send {"manifests": "'),
        (b"[]", "application/json", 400, 'Send {"manifests": "'),
        (b'{"kind": "Pod"}', "application/json", 400, 'Send {"manifests": "'),
        (b'{"manifests": ["a"]}', "application/json", 400, 'Send {"manifests": "'),
        (b"a: 1", "application/x-www-form-urlencoded", 415, "Send the manifests as"),
        (b"a: 1", "", 415, "Send the manifests as"),
    ],
    ids=range(11),
)
def test_what_cannot_be_read_is_refused_with_the_place(
    world: World, body: bytes, kind: str, status: int, words: str
) -> None:
    answer = api(world).raw("POST", CHECK, body, kind)
    code = "BAD_REQUEST" if "body is" in words else "INVALID_PARAMETER_VALUE"
    assert words in refused(answer, status, code)


def test_another_format_is_refused(world: World) -> None:
    answer = api(world).raw("POST", f"{CHECK}?format=xml", b"", "text/yaml")
    assert "json and sarif" in refused(answer, 400, "INVALID_PARAMETER_VALUE")


def test_without_a_token_nothing_is_parsed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """L1: a stranger cannot make the server work."""
    from tenants.kubernetes.manifests import reports

    monkeypatch.setattr(reports, "run", lambda *_: pytest.fail("it was read"))
    answer = Api("").raw("POST", CHECK, BROKEN.encode(), "application/yaml")
    assert "No valid token" in refused(answer, 401, "UNAUTHENTICATED")


def test_many_findings_are_listed_in_part(world: World) -> None:
    text = "\n---\n".join("{apiVersion: v1, kind: Widget}" for _ in range(1_200))
    report = said(api(world).post(CHECK, manifests=text))
    assert (report["errors"], len(report["findings"]), report["left_out"]) == (1_200, 1_000, 200)


def test_it_costs_the_same_for_one_object_and_for_many(world: World) -> None:
    client, text = api(world), f"---\n{CLEAN}"
    said(client.post(CHECK, manifests=text))  # marks the token as used
    with assertNumQueries(4):  # three of them the transaction's
        said(client.post(CHECK, manifests=text))
    with assertNumQueries(4):  # three of them the transaction's
        assert said(client.post(CHECK, manifests=text * 50))["objects"] == 50
