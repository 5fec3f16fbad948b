"""What the registry says of a model that a workload names: for its own team, and for every other.

Two answers there are: what is wrong with a version that the team may read, and one for all else.
"""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from models_registry import pod_models, registry
from models_registry.models import ModelVersion, RegisteredModel
from models_registry.pod_models import verdict_on
from tenants.access import share, unshare
from tenants.isolation.scope import member_scope, tenant_scope
from tenants.kubernetes import workloads
from tenants.kubernetes.workloads import (
    MAX_REFERENCES,
    Reference,
    Verdict,
    problems_with,
    references_of,
)
from tenants.prepared import read_in_scope
from tenants.text import MAX_SHOWN_CHARS
from tests.support.people import CANARY, HOSTILE_NAMES, World

UNKNOWN = "{} is not registered for this namespace."
MODEL, VERSION = "bulkhead.dev/registered-model", "bulkhead.dev/model-version"


def annotated(model: str, version: str = "1") -> Reference:
    """Return a reference as annotations make it."""
    return Reference((), model, version)


def addressed(uri: str) -> Reference:
    """Return a reference by MLflow's address."""
    return Reference((), "", uri=uri)


def said(world: World, reference: Reference) -> str | None:
    """Return what is said of the reference in team_alpha's namespace."""
    with tenant_scope(world.alpha):
        return verdict_on(reference).problem


@pytest.fixture
def shared(world: World) -> RegisteredModel:
    """A model of team_gamma that is shared with team_alpha."""
    model = world.model(world.gamma, "CANARY own")
    with tenant_scope(world.gamma, world.hugo):
        share(model, with_tenant=world.alpha)
    return model


# --- how a version is named ----------------------------------------------------------------


def test_a_version_of_ones_own_is_named_in_every_way(world: World) -> None:
    with tenant_scope(world.alpha, world.alice):
        registry.set_stage(ModelVersion.objects.get(model__name="fraud", number=2), "Production")
    for model in ("fraud", "team_alpha/fraud", "team-alpha/fraud"):
        for version in ("1", "2", "02", "@champion"):
            assert said(world, annotated(model, version)) is None, (model, version)
    for uri in (
        "models:/fraud/2",
        "models:/fraud/2/",
        "models:///fraud/2",
        "MODELS:/fraud/2",
        "models:/fraud@champion",
        "models:/fraud/latest",
        "models:/fraud/Production",
        "models:/fraud/production",
        "models:/fraud/2/data/model.pkl",
        "models:/fraud@champion/MLmodel",
    ):
        assert said(world, addressed(uri)) is None, uri


def test_a_version_that_is_not_there_is_said_to_be_missing(world: World) -> None:
    for version in ("3", "0", "999999999", "@nobody", "@Champion", "@\x00"):
        words = said(world, annotated("fraud", version))
        assert words is not None, version
        assert "no such version" in words or "not registered" in words, words
    for uri in ("models:/fraud/3", "models:/fraud@nobody", "models:/fraud/Staging"):
        assert said(world, addressed(uri)) == (
            f"“{uri}” does not exist: the model has no such version."
        )


def test_what_names_no_version_is_told_how_to(world: World) -> None:
    words = said(world, annotated("fraud", ""))
    assert words is not None
    assert f"say in {VERSION} which one" in words
    for version in (
        "latest",
        "Production",
        "v1",
        "1.0",
        "-1",
        "+1",
        "@",
        "champion",
        "9" * 10,
        " 1",
    ):
        words = said(world, annotated("fraud", version))
        assert words is not None
        assert "write a number, such as 3, or an alias, such as @champion" in words, version
    for uri in (
        "models:/fraud",
        "models:/",
        "models:/@champion",
        "models:/fraud@",
        "models:/fraud//3",
    ):
        words = said(world, addressed(uri))
        assert words is not None
        assert "names no version of a model" in words, uri


def test_an_address_that_clients_read_otherwise_is_refused(world: World) -> None:
    """MLflow cuts these off, or takes the beginning for an alias: it would load another version."""
    for uri in (
        "models:/fraud/2?x",
        "models:/fraud/2#x",
        "models:/fraud/2\n",
        "models:/fraud@champion/2",
        "models:/fraud@champion/latest",
        "models:/fraud@champion/staging",
    ):
        words = said(world, addressed(uri))
        assert words is not None
        assert "can be read in two ways" in words, uri


def test_a_tracking_servers_logged_model_is_no_registered_one(world: World) -> None:
    assert said(world, addressed(f"models:/m-{'0' * 32}")) is None
    assert said(world, addressed(f"models:/m-{'0' * 32}/1")) is not None  # that is a model's name
    assert said(world, addressed(f"models:/M-{'0' * 32}")) is not None


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_any_name_is_found_as_it_is_written(world: World, name: str) -> None:
    with tenant_scope(world.alpha, world.alice):
        registry.add_version(registry.register_model(name))
    assert said(world, annotated(name)) is None
    if not {"?", "\n"} & set(name):
        assert said(world, addressed(f"models:/{name}/1")) is None


def test_a_model_named_like_an_id_is_found_by_its_name(
    world: World, shared: RegisteredModel
) -> None:
    with tenant_scope(world.alpha, world.alice):
        registry.register_model(str(shared.pk))
    assert said(world, annotated(str(shared.pk))) == (
        f"“{shared.pk}” version “1” does not exist: the model has no such version."
    )


def test_what_a_manifest_says_is_repeated_in_one_line_and_cut(world: World) -> None:
    words = said(world, annotated(f"\x1b[2J\n\ud800{'x' * 5000}", "9"))
    assert words is not None
    assert len(words) < 3 * MAX_SHOWN_CHARS
    assert words.isprintable()
    assert said(world, annotated("fraud", f"@{'y' * 5000}")) is not None


# --- what may be used ----------------------------------------------------------------------


def change(world: World, verb: Callable[..., Any], *args: Any, number: int = 1) -> None:
    """Do something to a version of team_alpha's fraud."""
    with tenant_scope(world.alpha):
        verb(ModelVersion.objects.get(model__name="fraud", number=number), *args)


def test_a_recalled_version_may_not_be_used_until_the_recall_is_withdrawn(world: World) -> None:
    change(world, registry.recall_version, "It leaks CANARY.")
    for reference in (annotated("fraud"), annotated("fraud", "@champion")):
        words = said(world, reference)
        assert words is not None
        assert words.endswith("is recalled: nothing may use it any more.")
        assert CANARY not in words
    assert said(world, annotated("fraud", "2")) is None
    change(world, registry.withdraw_recall)
    assert said(world, annotated("fraud")) is None


def test_a_blocked_version_may_not_be_used_until_it_passes(world: World) -> None:
    change(world, registry.record_scan, "blocked", "pickle runs code")
    assert said(world, annotated("fraud")) == (
        "“fraud” version “1” is blocked by a scan: it must not run."
    )
    change(world, registry.record_scan, "passed")
    assert said(world, annotated("fraud")) is None


@pytest.mark.parametrize("status", ["PENDING", "FAILED"])
def test_a_version_that_is_not_ready_may_not_be_used(world: World, status: str) -> None:
    with tenant_scope(world.alpha):
        registry.add_version(RegisteredModel.objects.get(name="fraud"), status=status)
    words = said(world, annotated("fraud", "3"))
    assert words is not None
    assert "is not ready" in words


def test_what_is_in_the_archive_may_be_used(world: World) -> None:
    """Its aliases go on working, so what serves it must come up again after a restart."""
    with tenant_scope(world.alpha):
        registry.archive_model(RegisteredModel.objects.get(name="fraud"))
    assert said(world, annotated("fraud", "@champion")) is None


# --- other teams' models -------------------------------------------------------------------


def ways(model: RegisteredModel) -> list[tuple[str, str]]:
    """Return every way to name team_gamma's model, by annotation and by address, with its words."""
    return [
        (f"team_gamma/{model.name}", ""),
        (f"team-gamma/{model.name}", ""),
        (str(model.pk), ""),
        ("", f"models:/{model.pk}/1"),
        ("", f"models:/{model.pk}@champion"),
    ]


def references_to(model: RegisteredModel) -> list[Reference]:
    """Return the references that name it, in every way."""
    return [Reference((), name, "" if uri else "1", uri) for name, uri in ways(model)]


def test_a_shared_model_is_named_by_its_team_or_its_id(
    world: World, shared: RegisteredModel
) -> None:
    for reference in references_to(shared):
        assert said(world, reference) is None, reference
    # Its bare name is that of a model of one's own, and there is none.
    assert said(world, annotated(shared.name)) == UNKNOWN.format("“CANARY own”")
    with tenant_scope(world.gamma):
        assert verdict_on(annotated(shared.name)).problem is None


def test_another_teams_model_is_none(world: World) -> None:
    """L9, L5: not shared, shared with one person, deleted, never there: equal but for the name."""
    private = world.model(world.gamma, "fraud")
    personal = world.model(world.gamma, "CANARY own")
    with tenant_scope(world.gamma, world.hugo):
        share(personal, with_user=world.alice)
        gone = registry.register_model("gone")
        registry.delete_model(gone, in_use=True)
    nothing = [annotated(name) for name in ("nothing", "team_gamma/nothing", "team_nobody/x")]
    nothing += [
        addressed("models:/nothing/1"),
        annotated("team_gamma/fraud/1"),
        annotated("/fraud"),
    ]
    for reference in (*references_to(private), *references_to(personal), *nothing):
        name = f"“{reference.uri or reference.model}”"
        assert said(world, reference) == UNKNOWN.format(name)
        with member_scope(world.alice, "team_alpha"):  # to whom one of them is shared
            assert verdict_on(reference).problem == UNKNOWN.format(name)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the statements that a judgement sends."""
    sent: list[str] = []

    def counted(statement: str, values: Any) -> list[tuple[Any, ...]]:
        sent.append(statement)
        return read_in_scope(statement, values)

    monkeypatch.setattr(pod_models, "read_in_scope", counted)
    return sent


def test_another_teams_model_costs_what_none_costs(world: World, statements: list[str]) -> None:
    """L9, L10: one and the same statement, whatever there is; and Django sends none beside it."""
    names = ("team_gamma/fraud", "team_gamma/nothing", "nothing", "fraud", "team_nobody/fraud")
    for name in names:
        with tenant_scope(world.alpha), CaptureQueriesContext(connection) as captured:
            verdict_on(annotated(name))
        assert not captured.captured_queries, name
    assert len(statements) == len(names)
    assert len(set(statements)) == 1


def test_of_a_shared_version_only_the_verdict_is_told(
    world: World, shared: RegisteredModel
) -> None:
    """L16: not the reason, not the note, and not which number an alias has."""
    with tenant_scope(world.gamma):
        version = ModelVersion.objects.get(model=shared, number=1)
        registry.recall_version(version, f"{CANARY} reason")
    name = f"team_gamma/{shared.name}"
    assert said(world, annotated(name, "@champion")) == (
        f"“{name}” version “@champion” is recalled: nothing may use it any more."
    )
    with tenant_scope(world.gamma):
        registry.withdraw_recall(version)
        registry.record_scan(version, "blocked", f"{CANARY} note")
    assert said(world, annotated(name, "@champion")) == (
        f"“{name}” version “@champion” is blocked by a scan: it must not run."
    )


def test_a_grant_that_is_taken_back_ends_at_once(world: World, shared: RegisteredModel) -> None:
    """L21."""
    reference = annotated(str(shared.pk))
    assert said(world, reference) is None
    with tenant_scope(world.gamma, world.hugo):
        unshare(shared, with_tenant=world.alpha)
    assert said(world, reference) == UNKNOWN.format(f"“{shared.pk}”")


def test_a_grant_opens_the_granted_model_alone(world: World, shared: RegisteredModel) -> None:
    other = world.model(world.gamma, "fraud")
    for reference in references_to(other):
        assert said(world, reference) is not None
    with tenant_scope(world.gamma, world.hugo):
        # What is shared cannot be named as another team's.
        assert verdict_on(annotated(f"team_alpha/{shared.name}")).problem is not None


# --- all that an object names --------------------------------------------------------------


def pod(*uris: str, **annotations: str) -> dict[str, Any]:
    """Return a pod that names models."""
    container = {"name": "server", "env": [{"name": "MODEL", "value": uri} for uri in uris]}
    return {
        "kind": "Pod",
        "metadata": {"annotations": annotations},
        "spec": {"containers": [container]},
    }


def test_each_place_is_told_and_each_model_looked_up_once(
    world: World, statements: list[str]
) -> None:
    named = {MODEL: "nothing", VERSION: "1"}
    deployment = {
        "kind": "Deployment",
        "metadata": {"annotations": named},
        "spec": {"template": pod("models:/fraud/1", **named)},
    }
    with tenant_scope(world.alpha):
        found = problems_with(references_of(deployment), {})
    assert [problem.path[0] for problem in found] == ["metadata", "spec"]
    assert {problem.message for problem in found} == {UNKNOWN.format("“nothing”")}
    assert len(statements) == 2


def test_too_many_models_are_refused_without_looking(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Reference] = []

    def counted(reference: Reference) -> Verdict:
        calls.append(reference)
        return verdict_on(reference)

    monkeypatch.setattr(workloads, "verdict_on", counted)
    with tenant_scope(world.alpha):
        uris = [f"models:/fraud/{number}" for number in range(MAX_REFERENCES + 1)]
        [problem] = problems_with(references_of(pod(*uris)), {})
        assert "More than 50 places name a model" in problem.message
        assert calls == []
        problems_with(references_of(pod(*["models:/fraud/1"] * MAX_REFERENCES)), {})
        assert len(calls) == 1


def test_a_verdict_names_the_alias_that_is_followed(world: World) -> None:
    with tenant_scope(world.alpha):
        for reference in (
            annotated("fraud", "@champion"),
            addressed("models:/fraud@champion"),
            addressed("models:/fraud@champion/MLmodel"),
        ):
            assert verdict_on(reference) == Verdict(alias="champion"), reference
        for reference in (annotated("fraud", "2"), addressed("models:/fraud/latest")):
            assert verdict_on(reference) == Verdict(), reference
