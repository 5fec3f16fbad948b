"""Importing: a document is taken as a whole or refused with the place in it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models_registry import registry, validators
from models_registry.exchange import json_document
from models_registry.exchange.json_document import ImportProblem, apply, export, parse
from models_registry.models import Alias, ModelVersion, RegisteredModel
from tenants.identity import directory
from tenants.isolation.scope import tenant_scope
from tenants.models import AuditEvent, Tenant
from tests.support.people import CANARY, HOSTILE_NAMES, World

RICH: dict[str, Any] = {
    "name": "rich",
    "description": "short",
    "card": "# Card",
    "tags": {"task": "ranking"},
    "owner": "hugo",
    "created_at": "2026-05-01T09:00:00Z",
    "versions": [
        {
            "source": "s3://bucket/1",
            "run_id": "a" * 32,
            "run_link": "https://example.com/run",
            "description": "first",
            "status": "FAILED",
            "status_message": "ValueError",
            "tags": {"kind": "baseline"},
            "params": {"C": "1.0"},
            "metrics": {"auc": 0.5, "rows": 7},
            "creator": "gina",
            "created_at": "2026-05-02T11:00:00+02:00",
        },
        {"metrics": {"auc": 0.75}},
    ],
    "aliases": {"champion": 2, "baseline": 1},
}


def run(document: Any, *, dry_run: bool = False) -> list[str]:
    """Import ``document`` and return the report's lines."""
    return [str(report) for report in apply(parse(json.dumps(document)), dry_run=dry_run)]


def problem(document: str | bytes) -> str:
    """Return why ``document`` is refused."""
    with pytest.raises(ImportProblem) as raised:
        parse(document)
    return str(raised.value)


def rows(tenant: Tenant) -> dict[str, Any]:
    """Return all that the team has, by name."""
    return {row["name"]: row for row in export(tenant)}


# --- understanding -------------------------------------------------------------------------


def test_the_three_shapes_mean_the_same() -> None:
    documents: tuple[Any, ...] = (
        {"team_alpha": ["model1", "model2"]},
        {"team_alpha": {"models": ["model1", {"name": "model2"}]}},
        {"team_alpha": [{"name": "model1"}, {"name": "model2"}]},
    )
    plans = [parse(json.dumps(document)) for document in documents]
    assert [[(t.slug, [m.name for m in t.models]) for t in plan] for plan in plans] == [
        [("team_alpha", ["model1", "model2"])]
    ] * 3


def test_versions_are_numbered_in_order_or_as_they_say() -> None:
    versions = [{}, {}, {"number": 7}, {}]
    [team] = parse(json.dumps({"t": [{"name": "m", "versions": versions}]}))
    assert [version.number for version in team.models[0].versions] == [1, 2, 7, 8]


def test_a_byte_order_mark_is_no_problem() -> None:
    [team] = parse('{"t": ["modèle"]}'.encode("utf-8-sig"))
    assert team.models[0].name == "modèle"


def version(entry: str) -> str:
    """Return a document with one version."""
    return f'{{"t": [{{"name": "m", "versions": [{entry}]}}]}}'


def model(keys: str) -> str:
    """Return a document with one model that has further ``keys``."""
    return f'{{"t": [{{"name": "m", {keys}}}]}}'


MALFORMED = {
    "": "This is not JSON: Expecting value in line 1, column 1.",
    '{"t":\n ["a",]}': "This is not JSON: Expecting value in line 2, column 7.",
    "[" * 100_000: "This is not an import file: it is nested too deeply.",
    "[" + "9" * 5000 + "]": "This cannot be read: a number in it is too long.",
    "[]": "$: expected an object",
    "null": "$: expected an object",
    '{"T": []}': "$.T: no team can have this name",
    '{"": []}': '$[""]: no team can have this name',
    '{"a b\\u001b": []}': '$["a b\\u001b"]: no team can have this name',
    '{"t": "m"}': "$.t: expected a list of models, or an object with the key models",
    '{"t": {}}': "$.t: the key models is missing",
    '{"t": {"models": "m"}}': "$.t.models: expected a list",
    '{"t": {"models": [], "extra": 1}}': "$.t.extra: unknown key; those known here are models",
    '{"t": [], "t": []}': "$.t: this key is given twice",
    '{"t": ["a", 1]}': "$.t[1]: expected a model's name or an object",
    '{"t": ["a", "b", "a"]}': "$.t[2]: a is at $.t[0] already",
    '{"t": {"models": ["a", {"name": "a"}]}}': "$.t.models[1]: a is at $.t.models[0] already",
    '{"t": [{}]}': "$.t[0]: the key name is missing",
    '{"t": [{"name": 1}]}': "$.t[0].name: expected text",
    '{"t": ["a/b"]}': "$.t[0]: Invalid model name 'a/b'. Names cannot contain '/' or ':'.",
    '{"t": [".."]}': "$.t[0]: Invalid model name '..'. Names cannot be paths such as '..'.",
    '{"t": ["\\u0000"]}': "$.t[0]: The name holds a NUL character, which cannot be stored.",
    '{"t": ["\\ud800"]}': "$.t[0]: The name is not valid Unicode text.",
    '{"t": [""]}': "$.t[0]: The name is empty.",
    model('"name": "n"'): "$.t[0].name: this key is given twice",
    model('"card": null'): "$.t[0].card: expected text",
    model('"archived": 1'): "$.t[0].archived: expected true or false",
    model('"owner": 7'): "$.t[0].owner: expected text",
    model('"tags": []'): "$.t[0].tags: expected an object",
    model('"tags": {"a": 1}'): "$.t[0].tags.a: expected text",
    model('"tags": {"a": "1", "a": "2"}'): "$.t[0].tags.a: this key is given twice",
    model('"tags": {"a;b": "1"}'): '$.t[0].tags["a;b"]: Invalid tag name',
    model('"created_at": "2026-10-01"'): "$.t[0].created_at: expected a time with its zone",
    model('"created_at": "0001-01-01T00:00+01:00"'): "$.t[0].created_at: expected a time",
    model('"created_at": 5'): "$.t[0].created_at: expected a time with its zone",
    model('"versions": {}'): "$.t[0].versions: expected a list",
    model('"versions": [1]'): "$.t[0].versions[0]: expected an object",
    model('"aliases": {"champion": 1.0}'): "$.t[0].aliases.champion: expected a version number",
    model('"aliases": {"champion": true}'): "$.t[0].aliases.champion: expected a version number",
    model('"aliases": {"v1": 1}'): "$.t[0].aliases.v1: Version alias name 'v1' is reserved.",
    model('"aliases": {"a.b": 1}'): '$.t[0].aliases["a.b"]: Invalid alias name',
    model('"versions": [{}], "aliases": {"champion": 2}'): (
        "$.t[0].aliases.champion: there is no version 2 in this file"
    ),
    version('{"metrics": {"auc": "0.9"}}'): "$.t[0].versions[0].metrics.auc: expected a number",
    version('{"metrics": {"auc": true}}'): "$.t[0].versions[0].metrics.auc: expected a number",
    version('{"metrics": {"auc": null}}'): "$.t[0].versions[0].metrics.auc: expected a number",
    version('{"metrics": {"auc": NaN}}'): (
        "$.t[0].versions[0].metrics.auc: The metric 'auc' is not a finite number."
    ),
    version('{"metrics": {"auc": -Infinity}}'): "$.t[0].versions[0].metrics.auc: The metric",
    version('{"metrics": {"auc": 1e999}}'): "$.t[0].versions[0].metrics.auc: The metric",
    version('{"metrics": {"n": 1' + "0" * 400 + "}}"): "$.t[0].versions[0].metrics.n: The metric",
    version('{"params": {"C": 1.0}}'): "$.t[0].versions[0].params.C: expected text",
    version('{"status": "ready"}'): (
        "$.t[0].versions[0].status: expected one of PENDING, READY, FAILED"
    ),
    version('{"run_id": "' + "a" * 33 + '"}'): "$.t[0].versions[0].run_id: The text has 33",
    version('{"metric": {}}'): "$.t[0].versions[0].metric: unknown key; those known here are",
    version('{"number": 0}'): "$.t[0].versions[0].number: expected a version number",
    version('{}, {"number": 1}'): "$.t[0].versions[1].number: expected a number above 1",
}


@pytest.mark.parametrize(
    ("document", "message"), MALFORMED.items(), ids=[m[:50] for m in MALFORMED.values()]
)
def test_a_malformed_document_is_refused_with_the_place(document: str, message: str) -> None:
    assert problem(document).startswith(message)


def test_the_place_is_found_in_the_middle_of_a_file() -> None:
    document = {"team_beta": ["a", "b", "c", {"name": "d", "versions": [{"metrics": {"auc": ""}}]}]}
    assert (
        problem(json.dumps(document)) == "$.team_beta[3].versions[0].metrics.auc: expected a number"
    )


def test_bytes_that_are_no_text_are_refused() -> None:
    assert problem(b'{"t\xff": []}') == "This is not UTF-8 text: see byte 4."


def test_too_many_entries_are_refused() -> None:
    tags = {f"t{index}": "x" for index in range(validators.MAX_ENTRIES + 1)}
    assert problem(json.dumps({"t": [{"name": "m", "tags": tags}]})) == (
        "$.t[0].tags: more than 1,000 tags"
    )


def test_a_message_is_one_line_that_does_nothing_to_a_terminal() -> None:
    message = problem(json.dumps({"t": ["a\n\x1b[31m/"]}))
    assert message.isprintable()
    assert "\\n\\x1b[31m/" in message


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
KEYS = st.sampled_from([*json_document.MODEL_KEYS, *json_document.VERSION_KEYS, "champion", "auc"])


def nearly(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return objects with keys that mean something, and values that may fit."""
    return st.dictionaries(KEYS, inner, max_size=8) | st.lists(inner, max_size=3)


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-1, 4)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["READY", "2026-10-01T09:00:00Z", "9999-12-31T23:59:59-14:00", "a/b"])
)
NEARLY_RIGHT = st.dictionaries(
    st.sampled_from(["team_alpha", "t", "T"]),
    st.lists(st.recursive(VALUES, nearly, max_leaves=30), max_size=4)
    | st.fixed_dictionaries({"models": st.lists(st.text(max_size=4) | nearly(VALUES))}),
    max_size=3,
)


def planned_or_refused(document: str | bytes) -> None:
    """Fail on anything but a plan or an ImportProblem that can be printed."""
    try:
        plan = parse(document)
    except ImportProblem as refusal:
        assert str(refusal).isprintable()
        str(refusal).encode()
    else:
        assert isinstance(plan, tuple)


@given(JSON_VALUES | NEARLY_RIGHT)
@settings(max_examples=200, deadline=None)
def test_any_json_is_a_plan_or_a_problem(value: Any) -> None:
    planned_or_refused(json.dumps(value))


@given(st.text() | st.binary())
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_plan_or_a_problem(document: str | bytes) -> None:
    planned_or_refused(document)


# --- carrying it out -----------------------------------------------------------------------


def test_everything_in_the_file_arrives(world: World) -> None:
    assert run({"team_gamma": [RICH]}) == ["team_gamma: 1 created, 0 updated, 0 unchanged"]
    row = rows(world.gamma)["rich"]
    first, second = row.pop("versions")
    assert row == {
        "name": "rich",
        "description": "short",
        "card": "# Card",
        "tags": {"task": "ranking"},
        "owner": "hugo",
        "created_at": "2026-05-01T09:00:00+00:00",
        "archived": False,
        "aliases": {"baseline": 1, "champion": 2},
    }
    assert first == RICH["versions"][0] | {
        "number": 1,
        "created_at": "2026-05-02T09:00:00+00:00",
    }
    assert (second["number"], second["status"], second["metrics"]) == (2, "READY", {"auc": 0.75})
    assert second["creator"] is None


def test_importing_twice_changes_nothing(world: World) -> None:
    document = {"team_gamma": [RICH, "plain"], "team_alpha": {"models": ["plain"]}}
    run(document)
    before = rows(world.gamma), rows(world.alpha)
    with tenant_scope(world.gamma):
        events = AuditEvent.objects.count()
    assert run(document) == [
        "team_gamma: 0 created, 0 updated, 2 unchanged",
        "team_alpha: 0 created, 0 updated, 1 unchanged",
    ]
    assert (rows(world.gamma), rows(world.alpha)) == before
    with tenant_scope(world.gamma):
        assert AuditEvent.objects.count() == events


CHANGES: dict[str, Any] = {
    "description": "longer",
    "card": "# Other card",
    "tags": {"task": "ranking", "more": "yes"},
    "owner": None,
    "archived": True,
    "versions": [{"metrics": {"auc": 0.6}}],
    "aliases": {"champion": 1},
}


@pytest.mark.parametrize("key", CHANGES)
def test_what_differs_is_updated_and_the_rest_left_alone(world: World, key: str) -> None:
    run({"team_gamma": [RICH]})
    before = rows(world.gamma)
    change = {"name": "rich", key: CHANGES[key]}
    assert run({"team_gamma": [change]}) == ["team_gamma: 0 created, 1 updated, 0 unchanged"]
    assert run({"team_gamma": [change]}) == ["team_gamma: 0 created, 0 updated, 1 unchanged"]
    after = rows(world.gamma)
    if key == "versions":
        assert after["rich"]["versions"][0]["metrics"] == {"auc": 0.6}
        before["rich"]["versions"][0]["metrics"] = {"auc": 0.6}
    elif key == "aliases":
        before["rich"]["aliases"]["champion"] = 1
    else:
        before["rich"][key] = CHANGES[key]
    assert after == before


def test_a_further_version_is_added(world: World) -> None:
    run({"team_gamma": [RICH]})
    more = RICH | {"versions": [*RICH["versions"], {"description": "third"}]}
    assert run({"team_gamma": [more]}) == ["team_gamma: 0 created, 1 updated, 0 unchanged"]
    versions = rows(world.gamma)["rich"]["versions"]
    assert [entry["description"] for entry in versions] == ["first", "", "third"]


def test_a_bare_name_leaves_a_model_as_it_is(world: World) -> None:
    before = rows(world.gamma)
    assert run({"team_gamma": ["fraud"]}) == ["team_gamma: 0 created, 0 updated, 1 unchanged"]
    assert rows(world.gamma) == before


def test_a_model_of_the_same_name_in_another_team_is_another_model(world: World) -> None:
    before = rows(world.gamma)
    run({"team_alpha": [{"name": "fraud", "description": "changed"}, f"{CANARY} own"]})
    assert rows(world.gamma) == before
    assert rows(world.alpha)["fraud"]["description"] == "changed"


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_any_name_can_be_imported(world: World, name: str) -> None:
    run({"team_gamma": [{"name": name, "versions": [{}], "aliases": {"champion": 1}}]})
    assert name in rows(world.gamma)


def test_a_dry_run_reports_the_same_and_changes_nothing(world: World) -> None:
    before = rows(world.gamma)
    document = {"team_gamma": [RICH, {"name": "fraud", "description": "changed"}]}
    report = run(document, dry_run=True)
    assert rows(world.gamma) == before
    assert run(document) == report == ["team_gamma: 1 created, 1 updated, 0 unchanged"]


def test_each_change_is_in_the_teams_log(world: World) -> None:
    run({"team_gamma": [RICH]})
    with tenant_scope(world.gamma):
        key = RegisteredModel.objects.get(name="rich").pk
        events = AuditEvent.objects.filter(object_id=key).values_list("action", "actor_label")
        assert set(events) == {
            ("model.registered", "system"),
            ("version.added", "system"),
            ("alias.set", "system"),
        }


REFUSED: dict[str, tuple[Any, str]] = {
    "unknown team": ({"team_omega": []}, "$.team_omega: there is no such team"),
    "other spelling": ({"team-alpha": []}, "$.team-alpha: there is no such team"),
    "owner outside": (
        {"team_alpha": {"models": [{"name": "x", "owner": "gina"}]}},
        "$.team_alpha.models[0].owner: gina is no member of this team",
    ),
    "new owner outside": (
        {"team_alpha": [{"name": "fraud", "owner": "nobody"}]},
        "$.team_alpha[0].owner: nobody is no member of this team",
    ),
    "creator outside": (
        {"team_alpha": [{"name": "x", "versions": [{"creator": "gina"}]}]},
        "$.team_alpha[0].versions[0].creator: gina is no member of this team",
    ),
    "alias to nothing": (
        {"team_alpha": [{"name": "x", "aliases": {"champion": 1}}]},
        "$.team_alpha[0].aliases.champion: Model Version (name=x, version=1) not found",
    ),
    "version too high": (
        {"team_alpha": [{"name": "x", "versions": [{"number": 3}]}]},
        "$.team_alpha[0].versions[0]: version 3 cannot be added yet; the next version of x is 1",
    ),
}


@pytest.mark.parametrize(("document", "message"), REFUSED.values(), ids=list(REFUSED))
def test_what_cannot_be_carried_out_imports_nothing(
    world: World, document: Any, message: str
) -> None:
    before = rows(world.gamma), rows(world.alpha)
    with pytest.raises(ImportProblem) as raised:
        run({"team_gamma": [RICH, "new"]} | document)
    assert str(raised.value) == message
    assert (rows(world.gamma), rows(world.alpha)) == before


def test_a_suspended_team_gets_nothing(world: World) -> None:
    directory.suspend_tenant(world.gamma)
    with pytest.raises(ImportProblem, match=r"^\$\.team_gamma\[0\]: This team is suspended"):
        run({"team_gamma": ["new"]})
    assert run({"team_gamma": ["fraud"]}) == ["team_gamma: 0 created, 0 updated, 1 unchanged"]


def test_a_deleted_versions_number_is_not_given_again(world: World) -> None:
    with tenant_scope(world.gamma):
        registry.delete_version(ModelVersion.objects.get(model__name="fraud", number=2))
    with pytest.raises(ImportProblem) as raised:
        run({"team_gamma": [{"name": "fraud", "versions": [{}, {}]}]})
    assert str(raised.value) == (
        "$.team_gamma[0].versions[1]: version 2 was deleted; the next version of fraud is 3"
    )
    # What is written out names its numbers and so can be read again.
    again = {"team_gamma": export(world.gamma)}
    assert run(again) == ["team_gamma: 0 created, 0 updated, 2 unchanged"]


def test_what_is_written_out_can_be_read_by_another_team(world: World) -> None:
    numbers = {"a": 1e23, "b": 1e308, "c": 5e-324, "d": -0.0, "e": 0.1 + 0.2, "f": 2**60}
    run({"team_gamma": [RICH, {"name": "numbers", "versions": [{"metrics": numbers}]}]})
    again = run({"team_gamma": export(world.gamma)})
    assert again == ["team_gamma: 0 created, 0 updated, 4 unchanged"]
    omega = directory.create_tenant("team_omega", "Omega", admin=world.hugo)
    directory.add_member(omega, world.gina, "viewer")
    run({"team_omega": export(world.gamma)})
    assert rows(omega) == rows(world.gamma)


def test_many_models_are_imported_in_pieces(world: World) -> None:
    names = [f"m{index}" for index in range(json_document.CHUNK_MODELS + 3)]
    assert run({"team_gamma": names}) == [
        f"team_gamma: {len(names)} created, 0 updated, 0 unchanged"
    ]
    assert run({"team_gamma": names}) == [
        f"team_gamma: 0 created, 0 updated, {len(names)} unchanged"
    ]


def test_aliases_of_several_models_do_not_mix(world: World) -> None:
    run(
        {
            "team_gamma": [
                {"name": name, "versions": [{}, {}], "aliases": {"champion": number}}
                for name, number in (("one", 1), ("two", 2))
            ]
        }
    )
    with tenant_scope(world.gamma):
        aliases = Alias.objects.filter(model__name__in=["one", "two"], name="champion")
        assert dict(aliases.values_list("model__name", "version__number")) == {"one": 1, "two": 2}


#: What a document does not say of a version: whose it is, where its files lie, what happened since.
NOT_IN_A_DOCUMENT = {
    *("id", "tenant", "model", "location", "logged_model_id", "stage", "updated_at"),
    # A recall and a blocked scan are written by their reasons.
    *("recalled_at", "recall_reason", "scan", "scan_note"),
}


def test_each_field_of_a_version_is_in_the_document_or_left_out_on_purpose() -> None:
    fields = {field.name for field in ModelVersion._meta.concrete_fields}
    assert fields - NOT_IN_A_DOCUMENT == fields & set(json_document.VERSION_KEYS)
