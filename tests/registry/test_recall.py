"""Recalled and blocked versions: who says so, who sees it, and what becomes of copies."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from models_registry import registry
from models_registry.errors import Conflict
from models_registry.models import ModelVersion, RegisteredModel
from tenants.access import TenantSuspended, share
from tenants.identity import directory
from tenants.isolation.scope import member_scope, tenant_scope
from tenants.models import AuditEvent, Role, User
from tests.support.api import Api, make_token, said
from tests.support.pages import Page
from tests.support.people import CANARY, World, committed, give_files, make_world
from tests.support.threads import at_once

As = Callable[[User | None], Client]
REASON = "It answers wrongly for new customers."


def version(number: int = 1, name: str = "fraud") -> ModelVersion:
    """Return a version of the acting team's."""
    return ModelVersion.objects.get(model__name=name, number=number)


def newest_event() -> AuditEvent:
    """Return what the acting team's log says last."""
    event: AuditEvent | None = AuditEvent.objects.first()
    assert event is not None
    return event


# --- the verbs -----------------------------------------------------------------------------


def test_a_recall_is_written_down_with_its_reason(world: World) -> None:
    with member_scope(world.mia, "team_alpha"):
        before = version().model.updated_at
        recalled = registry.recall_version(version(), f"  {REASON}\n")
        assert version().is_recalled
        assert not version().is_usable
        assert (recalled.recall_reason, version().recall_reason) == (REASON, REASON)
        assert version().model.updated_at > before
        event = newest_event()
        assert (event.action, event.changes) == ("version.recalled", {"to": REASON})
        assert event.object_id == version().model_id
        registry.withdraw_recall(version())
        assert version().is_usable
        assert version().recall_reason == ""
        event = newest_event()
        assert (event.action, event.changes) == ("version.recall_withdrawn", {"from": REASON})
        registry.withdraw_recall(version())  # which changes nothing
        assert newest_event() == event


def test_a_recall_needs_a_reason_and_overwrites_none(world: World) -> None:
    with member_scope(world.mia, "team_alpha"):
        for reason in ("", " \n", "x" * 501, "a\x00b"):
            with pytest.raises(ValidationError):
                registry.recall_version(version(), reason)
        registry.recall_version(version(), "x" * 500)
        with pytest.raises(Conflict, match="recalled already"):
            registry.recall_version(version(), REASON)
        assert version().recall_reason == "x" * 500
        assert len(newest_event().changes["to"]) < 250


@committed
def test_of_two_who_recall_at_once_one_is_told() -> None:
    world = make_world()

    def recall(reason: str) -> str:
        with member_scope(world.mia, "team_alpha"):
            try:
                return registry.recall_version(version(), reason).recall_reason
            except Conflict:
                return "conflict"

    assert sorted(at_once(lambda: recall("one"), lambda: recall("two"))) in (
        ["conflict", "one"],
        ["conflict", "two"],
    )


@pytest.mark.parametrize("name", ["bob", "carol"])
def test_only_maintainers_recall(world: World, name: str) -> None:
    with member_scope(world.person(name), "team_alpha"):
        for verb, args in ((registry.recall_version, (REASON,)), (registry.withdraw_recall, ())):
            with pytest.raises(PermissionDenied, match="maintainer"):
                verb(version(), *args)


def test_another_teams_version_is_not_there_to_recall(world: World) -> None:
    with tenant_scope(world.gamma):
        theirs = version()
    with member_scope(world.mia, "team_alpha"):
        for verb, args in ((registry.recall_version, (REASON,)), (registry.withdraw_recall, ())):
            with pytest.raises((ModelVersion.DoesNotExist, RegisteredModel.DoesNotExist)):
                verb(theirs, *args)


def test_a_scan_is_recorded_by_commands_alone(world: World) -> None:
    with member_scope(world.alice, "team_alpha"), pytest.raises(PermissionDenied):
        registry.record_scan(version(), "passed")
    with tenant_scope(world.alpha):
        with pytest.raises(ValidationError):
            registry.record_scan(version(), "")
        registry.record_scan(version(), "blocked", "a note")
        assert (version().is_blocked, version().is_usable) == (True, False)
        event = newest_event()
        assert event.action == "version.scanned"
        assert event.changes == {"from": "", "to": "blocked", "note": "a note"}
        registry.record_scan(version(), "blocked", "a note")  # which changes nothing
        assert newest_event() == event
        registry.record_scan(version(), "passed")
        assert version().is_usable
        assert newest_event().changes == {"from": "blocked", "to": "passed", "note": ""}


def test_a_suspended_teams_version_is_scanned_and_not_recalled(world: World) -> None:
    """Others may use it, so what a scanner finds must count."""
    directory.suspend_tenant(world.alpha)
    world.alpha.refresh_from_db()
    with tenant_scope(world.alpha):
        registry.record_scan(version(), "blocked")
        assert version().is_blocked
        with pytest.raises(TenantSuspended):
            registry.recall_version(version(), REASON)


def test_what_may_still_change_does_not_pass(world: World) -> None:
    with tenant_scope(world.alpha):
        pending = registry.add_version(RegisteredModel.objects.get(name="fraud"), status="PENDING")
        with pytest.raises(ValidationError, match="not ready"):
            registry.record_scan(pending, "passed")
        registry.record_scan(pending, "blocked")
        assert version(3).is_blocked


def test_a_verdict_of_other_files_does_not_stay(world: World) -> None:
    with tenant_scope(world.alpha):
        for number, verdict in ((1, "passed"), (2, "blocked")):
            registry.record_scan(version(number), verdict, "a note")
            registry.update_version(version(number), description="the files are the same")
            assert version(number).scan == verdict
            registry.update_version(version(number), source="s3://elsewhere")
        assert (version(1).scan, version(1).scan_note) == ("", "")
        assert version(2).scan == "blocked"
        registry.record_scan(version(1), "passed")
        registry.await_files(version(1), "They follow.")
        assert version(1).scan == ""


# --- copies --------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [True, False], ids=["with files", "without"])
def test_a_copy_is_recalled_and_blocked_as_its_original(world: World, files: bool) -> None:
    """The files are the same; copying must not be the way around a recall."""
    if files:
        give_files(world.alpha, "fraud")
    with tenant_scope(world.alpha, world.alice):
        registry.recall_version(version(), REASON)
        registry.record_scan(version(), "blocked", "a note")
        target = registry.register_model("copies")
        sources = ["models:/fraud/1", "models:/fraud@champion"]
        if files:
            sources += [f"mlflow-artifacts:/versions/{version().pk}"]
            sources += [f"mlflow-artifacts:/versions/{version().pk}/data"]
        for source in sources:
            copy = registry.add_version(target, source=source)
            kept = version(copy.number, "copies")
            assert (kept.recall_reason, kept.scan, kept.scan_note) == (REASON, "blocked", "a note")
            assert kept.recalled_at == version().recalled_at
        registry.withdraw_recall(kept)
        assert version().is_recalled
        registry.withdraw_recall(version())
        registry.record_scan(version(), "passed")
        assert version(registry.add_version(target, source="models:/fraud/1").number, "copies").scan
        copy = registry.add_version(target, source="models:/fraud/1", status="PENDING")
        assert version(copy.number, "copies").scan == ""
        assert not version(
            registry.add_version(target, source="models:/fraud/2").number, "copies"
        ).scan


@committed
def test_a_recall_while_a_copy_is_made_is_not_lost() -> None:
    """Whichever comes first, the copy is recalled or made before the recall."""
    world = make_world()

    def recall() -> None:
        with tenant_scope(world.alpha):
            registry.recall_version(version(), REASON)

    def copy() -> None:
        with tenant_scope(world.alpha, world.alice):
            registry.add_version(registry.register_model("copies"), source="models:/fraud/1")

    assert at_once(recall, copy) == [None, None]
    with tenant_scope(world.alpha):
        copied, original = version(1, "copies"), version()
        assert original.recalled_at is not None
        assert copied.is_recalled or copied.created_at < original.recalled_at


def test_by_mlflows_client_a_copy_is_recalled_too(world: World) -> None:
    with tenant_scope(world.alpha):
        registry.recall_version(version(), REASON)
    api = Api(make_token(world.carol, tenant=world.alpha))
    said(api.post("registered-models/create", name="copies"))
    said(api.post("model-versions/create", name="copies", source="models:/fraud/1"))
    with tenant_scope(world.alpha):
        assert version(1, "copies").is_recalled


def test_a_file_of_models_brings_recalls_and_blocks_along(world: World, tmp_path: Path) -> None:
    with tenant_scope(world.alpha):
        registry.recall_version(version(1), REASON)
        registry.record_scan(version(1), "passed", "says a scanner of these files")
        registry.record_scan(version(2), "blocked", "a note")
    from models_registry.exchange.json_document import apply, export, parse

    exported = export(world.alpha)
    first, second = exported[1]["versions"]
    assert (first["recalled"], second["blocked"]) == (REASON, "a note")
    assert not {"blocked", "scan", "passed"} & set(first)
    assert "recalled" not in second
    directory.create_tenant("team_new", "New", admin=world.alice)
    document = json.dumps(
        {
            "team_new": [
                {
                    **exported[1],
                    "owner": None,
                    "versions": [{**row, "creator": None} for row in exported[1]["versions"]],
                }
            ]
        }
    )
    [report] = apply(parse(document))
    assert report.created == ["fraud"]
    [report] = apply(parse(document))
    assert report.unchanged == ["fraud"]
    with tenant_scope(type(world.alpha).objects.get(slug="team_new")):
        assert version(1).recall_reason == REASON
        assert not version(1).scan
        assert (version(2).scan, version(2).scan_note) == ("blocked", "a note")
    # What an older document does not say, it did not know: nothing is withdrawn.
    old = json.dumps({"team_new": [{"name": "fraud", "versions": [{"number": 1}, {"number": 2}]}]})
    [report] = apply(parse(old))
    assert report.unchanged == ["fraud"]
    with tenant_scope(type(world.alpha).objects.get(slug="team_new")):
        assert version(1).is_recalled
        assert version(2).is_blocked


# --- the API says what MLflow's says -------------------------------------------------------


def test_a_recall_changes_no_answer_of_the_api(world: World) -> None:
    api = Api(make_token(world.bob, tenant=world.alpha))

    def answers() -> str:
        found = [
            said(api.get("model-versions/get", name="fraud", version="1")),
            said(api.get("registered-models/get", name="fraud")),
            said(api.get("registered-models/alias", name="fraud", alias="champion")),
            said(api.get("model-versions/search", order_by=["name", "version_number"])),
        ]
        text = json.dumps(found, sort_keys=True)
        return re.sub(r'"last_updated_timestamp": \d+', "", text)

    before = answers()
    with tenant_scope(world.alpha):
        registry.recall_version(version(), REASON)
        registry.record_scan(version(), "blocked", "a note")
    assert answers() == before


# --- the pages -----------------------------------------------------------------------------


def url(name: str, *args: Any) -> str:
    """Return a page's address in team_alpha."""
    return reverse(name, args=["team_alpha", *args])


def read(browser: Client, address: str) -> Page:
    """Return a page without faults."""
    response = browser.get(address)
    assert response.status_code == 200, address
    page = Page(response.content.decode())
    assert not page.faults
    return page


def test_a_maintainer_recalls_and_withdraws_on_pages(world: World, as_: As) -> None:
    browser = as_(world.mia)
    recall, withdraw = url("recall_version", "fraud", 1), url("withdraw_recall", "fraud", 1)
    assert recall in read(browser, url("version", "fraud", 1)).links
    empty = browser.post(recall, {"reason": " "})
    assert empty.status_code == 422
    assert not Page(empty.content.decode()).faults
    assert browser.post(recall, {"reason": REASON})["Location"] == url("version", "fraud", 1)
    again = browser.post(recall, {"reason": "another"})
    assert again.status_code == 422
    assert "recalled already" in again.content.decode()
    page = read(browser, url("version", "fraud", 1))
    assert withdraw in page.links
    assert recall not in page.links
    for text in (REASON, "recalled"):
        assert text in page.text
    assert "mlflow.pyfunc" not in page.text
    assert REASON in read(browser, withdraw).text
    for name in ("model", "versions"):
        assert read(browser, url(name, "fraud")).text.count("recalled") >= 1, name
    assert (
        f"recalled fraud version 1: {REASON}" in read(browser, url("model_history", "fraud")).text
    )
    assert browser.post(withdraw)["Location"] == url("version", "fraud", 1)
    page = read(browser, url("version", "fraud", 1))
    assert "mlflow.pyfunc" in page.text
    assert (
        f"withdrew the recall of fraud version 1: {REASON}" in read(browser, url("activity")).text
    )


def test_what_is_blocked_is_told_with_the_note(world: World, as_: As) -> None:
    with tenant_scope(world.alpha):
        registry.record_scan(version(1), "blocked", "pickle runs code")
        registry.record_scan(version(2), "passed", "nothing found")
    browser = as_(world.bob)
    page = read(browser, url("version", "fraud", 1))
    assert "blocked by scan" in page.text
    assert "pickle runs code" in page.text
    assert url("recall_version", "fraud", 1) not in page.links
    assert "passed: nothing found" in read(browser, url("version", "fraud", 2)).text
    assert "blocked by scan" in read(browser, url("versions", "fraud")).text
    assert "scanned fraud version 1: blocked" in read(browser, url("activity")).text


def test_whoever_it_is_shared_with_sees_the_badge_and_no_reason(world: World, as_: As) -> None:
    """L16: no reason, no note, no name of whoever recalled it."""
    shared = world.model(world.gamma, "CANARY own")
    with tenant_scope(world.gamma, world.hugo):
        share(shared, with_tenant=world.alpha)
    addresses = (url("shared_model", shared.pk), url("shared_version", shared.pk, 1))
    before = [read(as_(world.bob), address).text for address in addresses]
    with member_scope(world.hugo, "team_gamma"):
        registry.recall_version(version(1, "CANARY own"), "a secret reason")
    with tenant_scope(world.gamma):
        registry.record_scan(version(1, "CANARY own"), "blocked", "a secret note")
    for address, text in zip(addresses, before, strict=True):
        page = read(as_(world.bob), address)
        assert page.text.count("recalled") == page.text.count("blocked by scan") == 1
        assert "recalled" not in text
        for word in ("secret", "hugo"):
            assert word not in page.html
    assert CANARY in page.text


# --- the command ---------------------------------------------------------------------------


def test_record_scan_writes_the_result_of_a_scan(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("record_scan", "team_alpha", "fraud", "1", "blocked", "--note", "a note")
    assert capsys.readouterr().out == "fraud version 1: blocked.\n"
    with tenant_scope(world.alpha):
        assert (version().scan, version().scan_note) == ("blocked", "a note")
        assert newest_event().actor_label == "system"
    with tenant_scope(world.gamma):
        assert version().scan == ""
    for words, message in (
        (("team_nobody", "fraud", "1", "passed"), "no team"),
        (("team_alpha", "CANARY own", "1", "passed"), "has no version 1 of CANARY own"),
        (("team_alpha", "fraud", "9", "passed"), "has no version 9"),
        (("team_alpha", "fraud", str(2**40), "passed"), "has no version"),
        (("team_alpha", "fraud", "1", "fine"), "invalid choice"),
        (("team_alpha", "fraud", "1", "passed", "--note", "x" * 501), "at most 500"),
    ):
        with pytest.raises(CommandError, match=message):
            call_command("record_scan", *words)


def test_each_role_that_may_delete_may_recall() -> None:
    from tenants.access import ABILITIES

    for role in Role:
        may = "models_registry.recall_modelversion" in ABILITIES[role]
        assert may == ("models_registry.delete_modelversion" in ABILITIES[role])
