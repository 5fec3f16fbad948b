"""Moving in from a real MLflow server and out to one: all of it, again, in part, and past traps."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from io import StringIO
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.conf import settings
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand
from django.db import connection
from django.utils import timezone
from psycopg.conninfo import make_conninfo

from models_registry import registry
from models_registry.exchange import command, mlflow_client
from models_registry.exchange.mlflow_client import (
    BadAnswer,
    MlflowServer,
    RemoteProblem,
    ServerUnreachable,
)
from models_registry.exchange.steps import ModelReport
from models_registry.exchange.team_rules import RulesProblem, parse_rules
from models_registry.files.artifacts import add_file, open_file
from models_registry.models import ArtifactFile, ModelVersion, RegisteredModel
from tenants.identity import directory
from tenants.isolation.scope import member_scope, tenant_scope
from tenants.models import AuditEvent, Tenant
from tests.support.people import CANARY, HOSTILE_NAMES, World, committed
from tests.support.stock_mlflow import (
    Answer,
    Asked,
    Stock,
    fake_server,
    gate,
    passed_on,
    stock_server,
)

IS_PROMPT = "mlflow.prompt.is_prompt"

#: What the real client puts into the server, as people do.
FILL = f"""
from mlflow import MlflowClient

client = MlflowClient()
run = client.create_run("0").info
client.log_text(run.run_id, "name: fraud", "model/MLmodel")
client.log_text(run.run_id, "weights", "model/data/weights.bin")

client.create_registered_model("fraud", tags={{"task": "ranking"}}, description="Finds fraud.")
for number in (1, 2, 3, 4):
    client.create_model_version(
        "fraud", f"{{run.artifact_uri}}/model", run.run_id, tags={{"number": str(number)}},
        run_link="https://example.com/run", description=f"The {{number}}. try.",
    )
client.delete_model_version("fraud", "2")
client.set_registered_model_alias("fraud", "champion", "4")
client.set_registered_model_alias("fraud", "challenger", "3")
client.transition_model_version_stage("fraud", "3", "Production")
client.set_model_version_tag("fraud", "3", "note", "ünï\\n模型")

logged = client.create_logged_model("0", name="logged", source_run_id=run.run_id)
client.finalize_logged_model(logged.model_id, "READY")
client.create_registered_model("churn")
client.create_model_version(
    "churn", f"models:/{{logged.model_id}}", run.run_id, model_id=logged.model_id
)
client.create_model_version("churn", "s3://bucket/churn")
for name in {HOSTILE_NAMES!r}:
    client.create_registered_model(name, description=f"“{{name}}”")
    client.create_model_version(name, "s3://bucket/x")
client.register_prompt("greeting", "Hello {{{{name}}}}!", tags={{"tone": "warm"}})
"""


@pytest.fixture(scope="session")
def server() -> Iterator[Stock]:
    """One real server for all tests."""
    with stock_server() as stock:
        yield stock


@pytest.fixture
def stock(server: Stock) -> Stock:
    """The real server, without models."""
    server.empty()
    return server


@pytest.fixture(scope="session")
def written_by_the_client(server: Stock) -> list[Asked]:
    """What the real client asks of the server when it fills it; runs and their files stay there."""
    registry_calls = re.compile(r"/mlflow/(registered-models|model-versions)/")
    asked = server.recorded(FILL)
    return [one for one in asked if registry_calls.search(one.path) and one.method != "GET"]


@pytest.fixture
def filled(written_by_the_client: list[Asked], stock: Stock) -> Stock:
    """The real server, filled by the real client's requests."""
    for asked in written_by_the_client:
        status, body, _ = passed_on(stock, asked)
        assert status == 200, body
    return stock


@pytest.fixture
def team(db: None) -> Tenant:
    """A team without models."""
    return directory.create_tenant("team_new", "New")


def run(*words: str) -> str:
    """Run a command and return its report."""
    out = StringIO()
    call_command(*words, stdout=out, stderr=StringIO())
    return out.getvalue()


def moved(command: str, url: str, *words: str) -> dict[str, Any]:
    """Run one of the two commands and return its report, whatever it could not copy."""
    out, err = StringIO(), StringIO()
    try:
        call_command(command, "--url", url, "--json", *words, stdout=out, stderr=err)
    except CommandError as error:
        assert error.returncode == 1, error
        report: dict[str, Any] = json.loads(out.getvalue())
        assert not report["complete"]
    else:
        report = json.loads(out.getvalue())
        assert report["complete"]
    return report


def taken_in(url: str, *words: str) -> dict[str, Any]:
    """Import and return the report."""
    return moved("import_mlflow", url, *words)


def sent_out(url: str, *words: str) -> dict[str, Any]:
    """Export and return the report."""
    return moved("export_mlflow", url, *words)


def refusal(*words: str) -> str:
    """Return why a command refuses to begin, or cannot go on."""
    with pytest.raises(CommandError) as raised:
        run(*words)
    assert raised.value.returncode == 2
    return str(raised.value)


def outcomes(report: dict[str, Any]) -> dict[str, str]:
    """Return what became of each model."""
    return {model["name"]: model["outcome"] for model in report["models"]}


def of(report: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the report of one model."""
    return dict(*[model for model in report["models"] if model["name"] == name])


def milliseconds(time: Any) -> int:
    """Return a time as MLflow writes it."""
    return int(time.timestamp() * 1000 + 0.5)


def pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    """Return tags as MLflow writes them."""
    return [{"key": key, "value": value} for key, value in sorted(tags.items())]


def here(tenant: Tenant, *, times: bool = True) -> dict[str, Any]:
    """Return all that the team has, in the words in which the server answers."""
    with tenant_scope(tenant):
        models = RegisteredModel.objects.prefetch_related("versions", "aliases__version")
        return {model.name: model_row(model, times) for model in models}


def model_row(model: RegisteredModel, times: bool) -> dict[str, Any]:
    """Return a model in the server's words."""
    aliases = {alias.name: str(alias.version.number) for alias in model.aliases.all()}
    return {
        "description": model.description,
        "tags": pairs(model.tags),
        "aliases": aliases,
        "versions": {v.number: version_row(v, times) for v in model.versions.all()},
        "times": [milliseconds(t) for t in (model.created_at, model.updated_at)] if times else [],
    }


def version_row(version: ModelVersion, times: bool) -> dict[str, Any]:
    """Return a version in the server's words."""
    return {
        "source": version.source,
        "run_id": version.run_id,
        "run_link": version.run_link,
        "description": version.description,
        "status": version.status,
        "stage": version.stage,
        "tags": pairs(version.tags),
        "times": [milliseconds(t) for t in (version.created_at, version.updated_at)]
        if times
        else [],
    }


def there(stock: Stock, *, times: bool = True) -> dict[str, Any]:
    """Return all that the server has in the same form; its own sources name the server."""
    host = stock.url.removeprefix("http://")

    def stamps(row: dict[str, Any]) -> list[int]:
        return [row["creation_timestamp"], row["last_updated_timestamp"]] if times else []

    def tags(row: dict[str, Any]) -> list[dict[str, str]]:
        return sorted(row.get("tags", []), key=lambda tag: str(tag["key"]))

    return {
        name: {
            "description": row.get("description", ""),
            "tags": tags(row),
            "aliases": {a["alias"]: a["version"] for a in row.get("aliases", [])},
            "versions": {
                number: {
                    "source": v["source"].replace(
                        "mlflow-artifacts:/", f"mlflow-artifacts://{host}/"
                    ),
                    "run_id": v["run_id"],
                    "run_link": v["run_link"],
                    "description": v["description"],
                    "status": v["status"],
                    "stage": v["current_stage"],
                    "tags": tags(v),
                    "times": stamps(v),
                }
                for number, v in row["versions"].items()
            },
            "times": stamps(row),
        }
        for name, row in stock.models().items()
    }


# --- in ------------------------------------------------------------------------------------


def test_everything_comes_in_and_a_second_run_changes_nothing(filled: Stock, team: Tenant) -> None:
    report = taken_in(filled.url, "--team", "team_new")
    assert set(outcomes(report).values()) == {"created"}
    assert here(team) == there(filled)
    assert {"fraud", "churn", "greeting", *HOSTILE_NAMES} == set(here(team))
    assert set(here(team)["fraud"]["versions"]) == {1, 3, 4}
    events = AuditEvent.objects
    with tenant_scope(team):
        before = events.count()
        assert events.filter(action="version.added", object_label="fraud version 4").exists()
    again = taken_in(filled.url, "--team", "team_new")
    assert set(outcomes(again).values()) == {"unchanged"}
    with tenant_scope(team):
        assert events.count() == before
    assert here(team) == there(filled)


def test_only_what_changed_there_is_copied_and_what_is_only_here_stays(
    filled: Stock, team: Tenant
) -> None:
    taken_in(filled.url, "--team", "team_new")
    with tenant_scope(team):
        model = RegisteredModel.objects.get(name="fraud")
        registry.set_tag(model, "ours", "1")
        registry.set_alias(model, "ours", 1)
        registry.register_model("native", description="made here")
        registry.update_model(RegisteredModel.objects.get(name="churn"), description="ours")
        before = AuditEvent.objects.count()
    filled.call("POST", "registered-models/set-tag", name="fraud", key="task", value="ads")
    filled.call("PATCH", "model-versions/update", name="fraud", version="1", description="new")
    filled.call("POST", "registered-models/alias", name="fraud", alias="champion", version="3")
    filled.call(
        "POST", "model-versions/transition-stage", name="fraud", version="4", stage="Staging"
    )
    filled.call("POST", "model-versions/create", name="fraud", source="gs://bucket/5")

    report = taken_in(filled.url, "--team", "team_new")
    assert of(report, "fraud") == {
        "team": "team_new",
        "name": "fraud",
        "outcome": "updated",
        "changes": [
            "tags task",
            "version 1: description",
            "version 4: stage Staging",
            "version 5",
            "@champion: 4 → 3",
        ],
        "problems": [],
        "only_here": ["tag ours", "@ours"],
    }
    assert of(report, "churn")["only_here"] == ["description"]
    assert {name for name, what in outcomes(report).items() if what != "unchanged"} == {"fraud"}
    assert report["only_here"] == {"team_new": ["native"]}
    now, wanted = here(team), there(filled)
    assert now["fraud"]["versions"] == wanted["fraud"]["versions"]
    assert now["fraud"]["times"] == wanted["fraud"]["times"]
    assert now["fraud"]["tags"] == pairs({"ours": "1", "task": "ads"})
    assert now["churn"]["description"] == "ours"
    with tenant_scope(team):
        actions = list(AuditEvent.objects.values_list("action", flat=True)[:5])
        assert AuditEvent.objects.count() == before + 5
    assert sorted(actions) == [
        "alias.set",
        "model.updated",
        "version.added",
        "version.updated",
        "version.updated",
    ]


def test_a_dry_run_reports_the_same_and_writes_nothing(filled: Stock, team: Tenant) -> None:
    dry = taken_in(filled.url, "--team", "team_new", "--dry-run")
    with tenant_scope(team):
        assert not RegisteredModel.objects.exists()
        assert not AuditEvent.objects.filter(action__startswith="model.").exists()
    wet = taken_in(filled.url, "--team", "team_new")
    assert dry == wet | {"dry_run": True}
    text = run("import_mlflow", "--url", filled.url, "--team", "team_new", "--dry-run")
    assert text.splitlines() == [
        f"team_new: 0 created, 0 updated, {len(here(team))} unchanged",
        "This was a dry run: nothing was changed.",
    ]


def test_what_only_says_its_place_at_the_server_keeps_that_place(
    filled: Stock, team: Tenant
) -> None:
    taken_in(filled.url, "--team", "team_new")
    place = place_of(filled, "churn", 1).removeprefix("mlflow-artifacts:/")
    with tenant_scope(team):
        version = ModelVersion.objects.get(model__name="churn", number=1)
    assert version.source == f"models:/{version.logged_model_id}"
    assert version.location == f"mlflow-artifacts://{filled.url.removeprefix('http://')}/{place}"


def test_rules_share_the_models_out_among_teams(
    filled: Stock, team: Tenant, tmp_path: Path
) -> None:
    other = directory.create_tenant("team_other", "Other")
    experiment = filled.call("POST", "experiments/create", name=f"wine {timezone.now()}")
    made = filled.call("POST", "runs/create", experiment_id=experiment["experiment_id"])
    filled.call("POST", "registered-models/create", name="merlot")
    run_id = made["run"]["info"]["run_id"]
    filled.call("POST", "model-versions/create", name="merlot", source="s3://b/1", run_id="f" * 32)
    filled.call("POST", "model-versions/create", name="merlot", source="s3://b/2", run_id=run_id)
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "- {experiment: 'wine *', team: team_other}\n"
        "- {name: 'fr*', tag: {task: rank*}, team: team_other}\n"
        "- {name: 'fr*', team: team_new}  # never reached\n"
        "- {tag: {task: '*'}, team: team_new}\n"
        "- {name: churn, team: team_new}\n"
    )
    report = taken_in(filled.url, "--map", str(rules))
    assert set(here(other)) == {"fraud", "merlot"}
    assert set(here(team)) == {"churn", HOSTILE_NAMES[0]}
    left_out = {name for name, outcome in outcomes(report).items() if outcome == "left out"}
    assert left_out == {"greeting", *HOSTILE_NAMES[1:]}
    text = run("import_mlflow", "--url", filled.url, "--map", str(rules))
    assert "team_new: 0 created, 0 updated, 2 unchanged" in text
    assert "left out, since no rule fits: " in text
    assert "new\\nline" in text


WRONG_RULES = {
    "": "line 1: expected a list of rules",
    "team: x": "line 1: expected a list of rules",
    "- a": "line 1: expected keys and values",
    "- {team: x}\n- {name: y}": "line 2: the key team is missing",
    "- {team: x}\n- {nam: y, team: x}": "line 2: unknown key nam; those known here are name,",
    "- {team: x}\n-\n  team: x\n  tag: y": "line 4: expected keys and values",
    "- team: x\n  name: [y]": "line 2: expected text",
    "- team: x\n  name:": "line 2: expected text",
    "- team: x\n  team: y": "line 2: the key team is given twice",
    "- {team: x": "line 1: this is not YAML",
    "- {team: x}\n- {team: *y}": "line 2: this is not YAML",
    "- {team: x, \x1b: y}": "this is not YAML",
    "[" * 1000: "this is no list of rules: it is nested too deeply",
}


@pytest.mark.parametrize("document", WRONG_RULES, ids=range(len(WRONG_RULES)))
def test_wrong_rules_are_named_with_their_line(document: str) -> None:
    with pytest.raises(RulesProblem) as raised:
        parse_rules(document)
    assert str(raised.value).startswith(WRONG_RULES[document])


def test_nothing_is_written_before_the_rules_are_right(
    stock: Stock, team: Tenant, tmp_path: Path
) -> None:
    stock.call("POST", "registered-models/create", name="model")
    rules = tmp_path / "rules.yaml"
    rules.write_text("- {name: model, team: team_new}\n- {team: nobody}\n")
    words = ("import_mlflow", "--url", stock.url, "--map", str(rules))
    assert refusal(*words) == f"{rules}: line 2: there is no team nobody"
    rules.write_bytes(b"- {team: \xff}")
    assert "is not UTF-8 text: see byte 10" in refusal(*words)
    rules.unlink()
    assert "cannot be read" in refusal(*words)
    assert not here(team)


def test_what_cannot_be_kept_is_told_and_the_rest_is_copied(stock: Stock, team: Tenant) -> None:
    stock.call("POST", "registered-models/create", name="long", description="d" * 5001)
    stock.call("POST", "registered-models/create", name="n" * 257)
    stock.call("POST", "registered-models/create", name="other")
    for number in range(3):
        tags = [{"key": "k", "value": "v"}, {"key": "nul", "value": "\x00"}]
        stock.call(
            "POST", "model-versions/create", name="long", source=f"s3://b/{number}", tags=tags
        )
    report = taken_in(stock.url, "--team", "team_new")
    assert outcomes(report) == {"long": "created", "n" * 257: "left out", "other": "created"}
    nul = "The tag 'nul' holds a NUL character, which cannot be stored."
    assert of(report, "long")["problems"] == [
        "The description has 5,001 characters; at most 5,000 are allowed.",
        *(f"version {number}: tag nul: {nul}" for number in (1, 2, 3)),
    ]
    assert here(team)["long"]["versions"][3]["tags"] == pairs({"k": "v"})
    again = taken_in(stock.url, "--team", "team_new")
    assert of(again, "long")["problems"] == of(report, "long")["problems"]
    assert of(again, "long")["outcome"] == "unchanged"


def test_another_version_of_that_number_and_a_deleted_one_are_left_as_they_are(
    stock: Stock, team: Tenant
) -> None:
    stock.call("POST", "registered-models/create", name="m")
    for number in (1, 2, 3):
        stock.call("POST", "model-versions/create", name="m", source=f"s3://b/{number}")
    with tenant_scope(team):
        model = registry.register_model("m")
        registry.add_version(model, source="s3://ours/1", description="ours")
        registry.delete_version(registry.add_version(model))
    report = of(taken_in(stock.url, "--team", "team_new"), "m")
    assert report["problems"] == [
        "version 1: here it is another version, with another source; it is left as it is.",
        "version 2: There can be no version 2: the next number is 3.",
    ]
    assert report["changes"] == ["version 3"]
    versions = here(team)["m"]["versions"]
    assert {number: v["source"] for number, v in versions.items()} == {
        1: "s3://ours/1",
        3: "s3://b/3",
    }
    assert versions[1]["description"] == "ours"


def test_a_suspended_team_and_an_unknown_one_get_nothing(stock: Stock, team: Tenant) -> None:
    words = ("import_mlflow", "--url", stock.url, "--team")
    assert refusal(*words, "nobody") == "There is no team nobody."
    Tenant.objects.filter(pk=team.pk).update(status="suspended")
    assert "is suspended" in refusal(*words, "team_new")


# --- killed in the middle ------------------------------------------------------------------


def killed_at(gate_url: str, reached: Any, *words: str) -> None:
    """Run a command as a process of its own and kill it when the gate is reached."""
    params = connection.get_connection_params()
    names = ("host", "port", "user", "password", "dbname")
    address = make_conninfo("", **{name: params[name] for name in names if params.get(name)})
    process = subprocess.Popen(
        [sys.executable, "manage.py", *words, "--url", gate_url],
        cwd=settings.BASE_DIR,
        env=os.environ
        | {
            "DATABASE_URL": address,
            "BULKHEAD_SECRET_KEY": "only for this test",
            "BULKHEAD_STORAGE": str(settings.STORAGES["artifacts"]["OPTIONS"]["location"]),
            "DJANGO_SETTINGS_MODULE": "bulkhead.settings",
        },
    )
    try:
        assert reached.wait(300)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@committed
def test_a_killed_import_leaves_whole_models_and_goes_on(stock: Stock) -> None:
    team = directory.create_tenant("team_new", "New")
    for name in ("a", "b", "c"):
        stock.call("POST", "registered-models/create", name=name)
        for number in (1, 2):
            stock.call("POST", "model-versions/create", name=name, source=f"s3://b/{number}")
    with gate(stock, "model-versions/search.*%27c%27", 1) as held:
        killed_at(held.url, held.reached, "import_mlflow", "--team", "team_new")
    wanted = there(stock)
    assert here(team) == {name: wanted[name] for name in ("a", "b")}
    report = taken_in(stock.url, "--team", "team_new")
    assert outcomes(report) == {"a": "unchanged", "b": "unchanged", "c": "created"}
    assert here(team) == wanted


@committed
def test_a_killed_export_goes_on_and_clears_its_placeholder_away(stock: Stock) -> None:
    team = directory.create_tenant("team_new", "New")
    with tenant_scope(team):
        model = registry.register_model("m")
        for number in (3, 4):
            registry.add_version(model, number=number, source=f"s3://b/{number}", location="")
    with gate(stock, "model-versions/create", 3) as held:
        killed_at(held.url, held.reached, "export_mlflow", "--team", "team_new")
    assert set(stock.models()["m"]["versions"]) == {1, 2}
    report = sent_out(stock.url, "--team", "team_new")
    assert of(report, "m")["changes"] == ["version 3", "version 4"]
    assert there(stock, times=False) == here(team, times=False)


# --- out -----------------------------------------------------------------------------------


def test_a_copy_to_mlflow_and_back_is_equal(stock: Stock, world: World) -> None:
    with tenant_scope(world.alpha):
        prompt = registry.register_model("greeting", tags={IS_PROMPT: "true", "tone": "warm"})
        registry.add_version(
            prompt, source="dummy-source", tags={IS_PROMPT: "true", "mlflow.prompt.text": "Hi"}
        )
        model = registry.register_model("gaps", description="With gaps.")
        for number in (3, 5, 6):
            registry.add_version(
                model, number=number, run_link="https://example.com", logged_model_id="m-1"
            )
        registry.set_stage(model.versions.get(number=5), "Production")
        registry.set_alias(model, "champion", 6)
        for name in HOSTILE_NAMES[-3:]:
            registry.add_version(registry.register_model(name), source="s3://b/x")
    report = sent_out(stock.url, "--team", "team_alpha")
    assert set(outcomes(report).values()) == {"created"}
    assert report["notes"] == [
        "MLflow sets the times itself: what was created there has the time of today.",
        "MLflow has no place for model cards: 2; versions with parameters or metrics: 4.",
    ]
    assert set(stock.models()["gaps"]["versions"]) == {3, 5, 6}
    assert CANARY not in json.dumps(stock.models())
    again = sent_out(stock.url, "--team", "team_alpha")
    assert set(outcomes(again).values()) == {"unchanged"}

    back = directory.create_tenant("team_back", "Back")
    taken_in(stock.url, "--team", "team_back")
    assert here(back, times=False) == here(world.alpha, times=False)
    with tenant_scope(back):
        assert ModelVersion.objects.get(model__name="gaps", number=3).logged_model_id == "m-1"
    onto_itself = taken_in(stock.url, "--team", "team_alpha")
    assert set(outcomes(onto_itself).values()) == {"unchanged"}


def test_only_what_changed_here_goes_out(stock: Stock, world: World) -> None:
    sent_out(stock.url, "--team", "team_alpha")
    stock.call("POST", "registered-models/create", name="theirs")
    stock.call("POST", "registered-models/set-tag", name="fraud", key="theirs", value="1")
    with tenant_scope(world.alpha):
        model = RegisteredModel.objects.get(name="fraud")
        first = model.versions.get(number=1)
        registry.set_tag(first, "word", "changed")
        registry.set_stage(first, "Staging")
        registry.set_alias(model, "champion", 2)
        registry.add_version(model, source="s3://b/3", status="FAILED")
    dry = sent_out(stock.url, "--team", "team_alpha", "--dry-run")
    assert there(stock)["fraud"]["aliases"] == {"champion": "1"}
    report = sent_out(stock.url, "--team", "team_alpha")
    changes = ["version 1: tags word, stage Staging", "version 3", "@champion: 1 → 2"]
    assert of(report, "fraud")["changes"] == of(dry, "fraud")["changes"] == changes
    assert of(report, "fraud")["only_here"] == ["tag theirs"]
    assert of(report, "fraud")["problems"] == [
        "version 3: status FAILED: MLflow sets the status itself"
    ]
    assert report["only_here"] == {stock.url: ["theirs"]}
    assert stock.models()["fraud"]["versions"][1]["current_stage"] == "Staging"


def test_a_source_that_the_server_refuses_holds_up_the_numbers_after_it(
    stock: Stock, team: Tenant
) -> None:
    with tenant_scope(team):
        model = registry.register_model("m")
        registry.add_version(model, source="s3://b/1")
        registry.add_version(model, source="mlflow-artifacts://elsewhere:1/x", run_id="f" * 32)
        registry.add_version(model, source="s3://b/3")
        registry.set_alias(model, "champion", 1)
    report = of(sent_out(stock.url, "--team", "team_new"), "m")
    refused, waits = report["problems"]
    assert refused.startswith(f"version 2: {stock.url} refuses (400): 'source' cannot use")
    assert waits == "version 3: it waits for version 2, since numbers there only go up"
    assert report["changes"] == ["the model", "version 1", "@champion: 1"]
    assert set(stock.models()["m"]["versions"]) == {1}


def test_a_gap_too_large_uses_no_numbers_up(stock: Stock, team: Tenant) -> None:
    with tenant_scope(team):
        model = registry.register_model("m")
        registry.add_version(model, number=2_000_000_000)
    report = of(sent_out(stock.url, "--team", "team_new"), "m")
    assert report["problems"] == [
        "version 2000000000: more than 1,000 numbers before it are not in use"
    ]
    assert not stock.models()["m"]["versions"]


def test_a_number_that_the_server_gave_before_is_not_given_again(
    stock: Stock, team: Tenant
) -> None:
    stock.call("POST", "registered-models/create", name="m")
    stock.call("POST", "model-versions/create", name="m", source="s3://b/1")
    stock.call("DELETE", "model-versions/delete", name="m", version="1")
    with tenant_scope(team):
        model = registry.register_model("m")
        for number in (1, 2, 3):
            registry.add_version(model, source=f"s3://b/{number}")
    report = of(sent_out(stock.url, "--team", "team_new"), "m")
    assert report["problems"] == [
        "version 1: the server has given its number before, and now 2",
        "version 2: the server has given its number before",
    ]
    assert set(stock.models()["m"]["versions"]) == {3}


# --- files ---------------------------------------------------------------------------------


def files_of(tenant: Tenant, name: str, number: int) -> dict[str, bytes]:
    """Return the files of a version."""
    with tenant_scope(tenant):
        files = ArtifactFile.objects.filter(version__model__name=name, version__number=number)
        return {f.path: b"".join(open_file(f)) for f in files.select_related("blob")}


FILES = {"MLmodel": b"name: fraud", "data/weights.bin": b"weights"}


def test_files_come_in_with_their_versions(filled: Stock, team: Tenant) -> None:
    words = (filled.url, "--team", "team_new", "--with-artifacts")
    dry = taken_in(*words, "--dry-run")
    report = taken_in(*words)
    assert dry == report | {"dry_run": True}
    assert of(report, "fraud")["changes"][-1] == "version 4: 2 files, 18 bytes"
    for number in (1, 3, 4):
        assert files_of(team, "fraud", number) == FILES
    assert here(team) == there(filled)
    nowhere = "which this server does not hand out"
    assert of(report, "churn")["problems"] == [
        f"version 1: files: there are none at {place_of(filled, 'churn', 1)}",
        f"version 2: files: they are at s3://bucket/churn, {nowhere}",
    ]
    again = taken_in(*words)
    assert set(outcomes(again).values()) == {"unchanged"}
    assert here(team) == there(filled)


def place_of(stock: Stock, name: str, number: int) -> str:
    """Return where the server says that a version's files are."""
    answer = stock.call("GET", "model-versions/get-download-uri", name=name, version=str(number))
    return str(answer["artifact_uri"])


@committed
def test_a_killed_import_of_files_leaves_the_version_pending_and_goes_on(filled: Stock) -> None:
    team = directory.create_tenant("team_new", "New")
    words = ("import_mlflow", "--team", "team_new", "--with-artifacts")
    with gate(filled, "artifacts/.*weights.bin", 2) as held:
        killed_at(held.url, held.reached, *words)
    assert files_of(team, "fraud", 1) == FILES
    assert files_of(team, "fraud", 3) == {"MLmodel": b"name: fraud"}
    statuses = {number: v["status"] for number, v in here(team)["fraud"]["versions"].items()}
    assert statuses == {1: "READY", 3: "PENDING", 4: "PENDING"}
    without = taken_in(filled.url, "--team", "team_new")
    assert of(without, "fraud")["problems"] == [
        f"version {number}: its files are not all here; use --with-artifacts" for number in (3, 4)
    ]
    report = taken_in(filled.url, "--team", "team_new", "--with-artifacts")
    assert of(report, "fraud")["changes"] == [
        "version 3: 1 file, 7 bytes",
        "version 4: 2 files, 18 bytes",
    ]
    assert files_of(team, "fraud", 3) == files_of(team, "fraud", 4) == FILES
    assert there(filled)["fraud"]["versions"].keys() == here(team)["fraud"]["versions"].keys()
    assert {v["status"] for v in here(team)["fraud"]["versions"].values()} == {"READY"}


def test_files_follow_a_version_that_came_without_them(filled: Stock, team: Tenant) -> None:
    taken_in(filled.url, "--team", "team_new")
    report = of(taken_in(filled.url, "--team", "team_new", "--with-artifacts"), "fraud")
    assert report["changes"] == [f"version {number}: 2 files, 18 bytes" for number in (1, 3, 4)]
    assert files_of(team, "fraud", 1) == FILES
    assert here(team) == there(filled)


def test_a_version_that_is_complete_keeps_its_files(filled: Stock, team: Tenant) -> None:
    with tenant_scope(team):
        version = registry.add_version(registry.register_model("fraud"), status="PENDING")
    for path in ("MLmodel", "ours"):
        add_file(partial(tenant_scope, team), version, path, [b"other"])
    with tenant_scope(team):
        registry.update_version(version, status="READY")
    report = of(taken_in(filled.url, "--team", "team_new", "--with-artifacts"), "fraud")
    assert report["problems"] == [
        "version 1: file MLmodel: 5 bytes here, 11 there",
        "version 1: files: it is complete here and takes no others",
    ]
    assert "version 1: 1 file, 7 bytes" not in report["changes"]
    assert report["only_here"] == ["version 1: file ours"]
    assert files_of(team, "fraud", 1) == {"MLmodel": b"other", "ours": b"other"}
    assert files_of(team, "fraud", 3) == FILES


#: The real client fetches by the model's name what went out.
FETCH = """
import pathlib, mlflow

folder = pathlib.Path(mlflow.artifacts.download_artifacts("models:/with files/1"))
assert (folder / "MLmodel").read_bytes() == b"x", list(folder.iterdir())
"""


def test_files_go_out_and_come_back(stock: Stock, team: Tenant) -> None:
    files = {"MLmodel": b"x", "sub dir/ünï #1;?.bin": b"\x00" * 3_000_000, "empty": b""}
    with tenant_scope(team):
        model = registry.register_model("with files")
        version = registry.add_version(model, status="PENDING", run_id="f" * 32)
        registry.add_version(model, source="s3://bucket/2")
    for path, content in files.items():
        add_file(partial(tenant_scope, team), version, path, [content])
    with tenant_scope(team):
        registry.update_version(version, status="READY")
    words = (stock.url, "--team", "team_new", "--with-artifacts")
    report = of(sent_out(*words), "with files")
    assert "version 1: 3 files, 3,000,001 bytes" in report["changes"]
    odd = "version 1: file sub dir/ünï #1;?.bin: "
    assert [problem.partition(" refuses")[0] for problem in report["problems"]] == [
        f"{odd}{stock.url}",
        f"{odd}it is not there whole",
    ]
    again = of(sent_out(*words), "with files")
    assert again["changes"] == ["version 1: 1 file, 3,000,000 bytes"]
    stock.recorded(FETCH)

    back = directory.create_tenant("team_back", "Back")
    report = of(taken_in(stock.url, "--team", "team_back", "--with-artifacts"), "with files")
    assert report["changes"][-1] == "version 1: 2 files, 1 bytes"
    assert files_of(back, "with files", 1) == {"MLmodel": b"x", "empty": b""}
    assert here(back, times=False) == here(team, times=False)


# --- servers that are none, or worse -------------------------------------------------------


def model_row_there(name: Any = "m", **fields: Any) -> dict[str, Any]:
    """Return a model as a server lists it."""
    return {"name": name, "creation_timestamp": 1, "last_updated_timestamp": 1} | fields


def version_row_there(**fields: Any) -> dict[str, Any]:
    """Return a version as a server lists it."""
    return {"name": "m", "version": "1", "source": "s3://b/1"} | fields


def saying(*answers: tuple[str, Any]) -> Callable[[Asked], Answer]:
    """Return a server's answers by a part of the path; `{}` to everything else."""

    def answer(asked: Asked) -> Answer:
        found: Any = next((body for part, body in answers if part in asked.path), {})
        if isinstance(found, tuple):
            return found
        body = found if isinstance(found, bytes) else json.dumps(found).encode()
        return 200, body, {}

    return answer


ONE_MODEL = ("registered-models/search", {"registered_models": [model_row_there()]})


def one_version(**fields: Any) -> tuple[str, Any]:
    """Return the answer of a server with one version."""
    return ("model-versions/search", {"model_versions": [version_row_there(**fields)]})


def models_answer(*rows: Any, **fields: Any) -> tuple[str, Any]:
    """Return the answer of a server that lists these models."""
    return ("registered-models/search", {"registered_models": list(rows)} | fields)


#: What a server may answer to the first question, and what is said of it.
NO_SERVER: dict[str, tuple[tuple[str, Any], str]] = {
    "the same page again": (
        models_answer(model_row_there(), next_page_token="again"),
        "its list of registered_models never ends",
    ),
    "a page with nothing on it": (
        models_answer(next_page_token="more"),
        "its list of registered_models never ends",
    ),
    "HTML": (("", b"<html>"), "answers no JSON object: is it an MLflow server?"),
    "a list": (("", []), "answers no JSON object: is it an MLflow server?"),
    "nesting": (("", b"[" * 1_000_000), "answers no JSON object"),
    "no models but a text": (
        ("registered-models/search", {"registered_models": "x"}),
        "$.registered_models: expected a list",
    ),
    "texts for models": (models_answer("x"), "$.registered_models[0]: expected an object"),
    "a number for a name": (
        models_answer(model_row_there(1)),
        "$.registered_models[0].name: expected text",
    ),
    "a huge time": (
        models_answer(model_row_there(creation_timestamp=10**17)),
        "$.registered_models[0].creation_timestamp: expected a time",
    ),
    "a time before all": (
        models_answer(model_row_there(creation_timestamp=-1)),
        "$.registered_models[0].creation_timestamp: expected a whole number",
    ),
    "a fraction of a time": (
        models_answer(model_row_there(creation_timestamp=0.5)),
        "$.registered_models[0].creation_timestamp: expected a whole number",
    ),
    "aliases of no version": (
        models_answer(model_row_there(aliases=[{"alias": "a"}])),
        "$.registered_models[0].aliases[0].version: expected a whole number",
    ),
    "404": (("", (404, b"<html>", {})), "knows no such address (404): is it an MLflow server?"),
    "500": (("", (501, b"<b>broken</b>\n\x1b[2J", {})), "refuses (501): <b>broken</b> \\x1b[2J"),
    "401": (("", (401, b"", {})), "asks who you are (401): give --token, or --username"),
    "a redirect": (
        ("", (302, b"", {"Location": "https://user:pw@elsewhere.example/steal"})),
        "redirects to https://elsewhere.example; no redirect is followed",
    ),
}


@pytest.mark.parametrize("case", NO_SERVER)
def test_what_is_no_mlflow_server_is_told_in_one_line(team: Tenant, case: str) -> None:
    said, expected = NO_SERVER[case]
    with fake_server(saying(said)) as url:
        why = refusal("import_mlflow", "--url", url, "--team", "team_new")
    assert expected in why
    assert why.isprintable()


#: What a server may say of the one version of its one model, and what is reported of the model.
BAD_VERSIONS: dict[str, tuple[tuple[str, Any], str]] = {
    "number 0": (one_version(version="0"), "$.model_versions[0].version: expected a whole number"),
    "a number beyond all": (
        one_version(version=str(2**31)),
        "$.model_versions[0].version: expected a version number",
    ),
    "a number of 5,000 digits": (
        one_version(version="9" * 5000),
        "$.model_versions[0].version: expected a whole number",
    ),
    "true": (one_version(version=True), "$.model_versions[0].version: expected a whole number"),
    "tags that are none": (
        one_version(tags={"a": "b"}),
        "$.model_versions[0].tags: expected a list",
    ),
    "a tag that is a number": (
        one_version(tags=[{"key": "k", "value": 7}]),
        "$.model_versions[0].tags[0].value: expected text",
    ),
    "an endless list": (
        (
            "model-versions/search",
            {"model_versions": [version_row_there()], "next_page_token": "again"},
        ),
        "its list of model_versions never ends",
    ),
    "a refusal": (("model-versions/search", (403, b"not yours", {})), "refuses (403): not yours"),
}


@pytest.mark.parametrize("case", BAD_VERSIONS)
def test_a_bad_answer_about_one_model_leaves_that_model_out(team: Tenant, case: str) -> None:
    said, expected = BAD_VERSIONS[case]
    with fake_server(saying(ONE_MODEL, said)) as url:
        report = taken_in(url, "--team", "team_new")
    [problem] = of(report, "m")["problems"]
    assert expected in problem
    assert of(report, "m")["outcome"] == "left out"
    assert not here(team)


NAMES_THAT_NOBODY_TAKES = ("a/b", "..", "a:b", "", "   ", "n" * 300, "nul\x00")


def test_names_and_values_that_nobody_takes_are_reported_each(team: Tenant) -> None:
    rows = [model_row_there(name) for name in NAMES_THAT_NOBODY_TAKES]
    good = model_row_there(
        "m",
        aliases=[{"alias": "v1", "version": "1"}, {"alias": "gone", "version": "7"}],
        tags=[{"key": "../k", "value": "v"}, {"key": "long", "value": "v" * 100_001}],
    )
    version = one_version(
        current_stage="Deleted_Internal", status="ODD", run_id="f" * 33, source="s" * 501
    )
    with fake_server(saying(models_answer(*rows, good), version)) as url:
        report = taken_in(url, "--team", "team_new")
    left_out = {name for name, outcome in outcomes(report).items() if outcome == "left out"}
    assert left_out == set(NAMES_THAT_NOBODY_TAKES)
    starts = [problem.partition(": ")[0] for problem in of(report, "m")["problems"]]
    assert starts == [
        *("tag ../k", "tag long", "version 1", "version 1", "version 1", "version 1"),
        *("@gone", "@v1"),
    ]
    row = here(team)["m"]["versions"][1]
    assert (row["stage"], row["status"], row["run_id"], row["source"]) == ("None", "READY", "", "")


def test_a_thousand_tags_are_taken_and_the_others_told(team: Tenant) -> None:
    tags = [{"key": f"k{number:04}", "value": ""} for number in range(1002)]
    with fake_server(saying(models_answer(model_row_there(tags=tags)))) as url:
        report = of(taken_in(url, "--team", "team_new"), "m")
    assert report["problems"] == [
        f"tag {key}: 1,000 tags are allowed." for key in ("k1000", "k1001")
    ]
    assert here(team)["m"]["tags"] == tags[:1000]


def test_a_status_is_taken_in_the_words_used_here(team: Tenant) -> None:
    version = one_version(status="FAILED_REGISTRATION", status_message="no file")
    with fake_server(saying(ONE_MODEL, version)) as url:
        taken_in(url, "--team", "team_new")
    with tenant_scope(team):
        found = ModelVersion.objects.get(model__name="m")
    assert (found.status, found.status_message) == ("FAILED", "no file")


def artifacts_saying(*entries: dict[str, Any]) -> tuple[str, Any]:
    """Return a proxy's answer that lists these entries in each of its folders."""
    return ("mlflow-artifacts/artifacts?", {"files": list(entries)})


BAD_FILES: dict[str, tuple[tuple[str, Any], str]] = {
    "..": (artifacts_saying({"path": "..", "is_dir": True}), "which is no file's name"),
    "a path": (artifacts_saying({"path": "a/b", "file_size": 1}), "which is no file's name"),
    "out": (artifacts_saying({"path": "..\\x", "file_size": 1}), "which is no file's name"),
    "an odd size": (
        artifacts_saying({"path": "a", "file_size": -1}),
        "$.files[0].file_size: expected a whole number",
    ),
    "folders for ever": (artifacts_saying({"path": "a", "is_dir": True}), "of files never ends"),
    "another size": (artifacts_saying({"path": "a", "file_size": 3}), "2 bytes arrived of 3"),
    "decoded it leads out": (
        artifacts_saying({"path": "%2e%2e", "file_size": 2}),
        "Invalid path: '%2e%2e'",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_files_that_are_none_are_not_taken(team: Tenant, case: str) -> None:
    listing, expected = BAD_FILES[case]
    place = ("get-download-uri", {"artifact_uri": "mlflow-artifacts:/folder"})
    content = ("mlflow-artifacts/artifacts/", b"{}")
    with fake_server(saying(ONE_MODEL, one_version(), place, listing, content)) as url:
        report = taken_in(url, "--team", "team_new", "--with-artifacts")
    [problem] = of(report, "m")["problems"]
    assert expected in problem
    assert files_of(team, "m", 1) == {}


def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_client, "MAX_ANSWER_BYTES", 1000)
    with (
        fake_server(saying(("", b" " * 1001))) as url,
        pytest.raises(BadAnswer, match="answers more than 1,000 bytes at once"),
    ):
        MlflowServer(url).models()


# --- trying again, and secrets -------------------------------------------------------------


def test_a_busy_server_is_asked_again_and_then_no_more() -> None:
    asked: list[Asked] = []

    def busy_twice(one: Asked) -> Answer:
        asked.append(one)
        return (429 if len(asked) < 2 else 503, b"", {}) if len(asked) < 3 else (200, b"{}", {})

    with fake_server(busy_twice) as url:
        assert MlflowServer(url, backoff=0.01).models() == []
    assert len(asked) == 4  # models, twice again, and prompts

    asked.clear()
    with (
        fake_server(lambda one: asked.append(one) or (503, b"later", {})) as url,  # type: ignore[func-returns-value]
        pytest.raises(ServerUnreachable, match=r"is not available \(503\): later"),
    ):
        MlflowServer(url, backoff=0.01).models()
    assert len(asked) == 6


def test_what_makes_a_second_one_is_not_sent_again() -> None:
    asked: list[Asked] = []
    with fake_server(lambda one: asked.append(one) or (500, b"", {})) as url:  # type: ignore[func-returns-value]
        server = MlflowServer(url, backoff=0.01)
        with pytest.raises(RemoteProblem):
            server.create_model("m", "", {})
        assert len(asked) == 1
        with pytest.raises(RemoteProblem):
            server.tag_model("m", "k", "v")
        assert len(asked) == 7


def test_a_server_that_goes_away_ends_the_run_with_what_was_done(team: Tenant) -> None:
    def answer(asked: Asked) -> Answer:
        if "%27b%27" in asked.path:
            return 302, b"", {"Location": "https://sso.example"}
        return saying(models_answer(model_row_there("a"), model_row_there("b")))(asked)

    out = StringIO()
    with fake_server(answer) as url, pytest.raises(CommandError) as raised:
        call_command("import_mlflow", "--url", url, "--team", "team_new", "--json", stdout=out)
    assert raised.value.returncode == 2
    assert "1 of 2 models are done; run the command again to go on." in str(raised.value)
    report = json.loads(out.getvalue())
    assert (report["complete"], outcomes(report)) == (False, {"a": "created"})
    assert set(here(team)) == {"a"}


def test_a_server_that_refuses_the_connection_is_named(
    team: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_client, "MAX_RETRIES", 0)
    why = refusal("import_mlflow", "--url", "http://127.0.0.1:9", "--team", "team_new")
    assert why.startswith("http://127.0.0.1:9 does not answer: ")
    assert "Connection refused" in why


def test_ctrl_c_ends_the_run_with_what_was_done(team: Tenant) -> None:
    def interrupted() -> Iterator[ModelReport]:
        yield ModelReport("team_new", "a", "created")
        raise KeyboardInterrupt

    out = StringIO()
    run = command.CommandRun(
        BaseCommand(stdout=out, stderr=StringIO()), {"json": False, "dry_run": False}
    )
    assert not run.follow(interrupted(), 2)
    with pytest.raises(CommandError, match=r"^Interrupted\. 1 of 2 models are done"):
        run.end({})
    assert "created a" in out.getvalue()


def self_signed(folder: Path) -> Path:
    """Return a file with a key and a certificate for 127.0.0.1 that nobody has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mlflow")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    certificate = (
        builder.not_valid_before(timezone.now() - timedelta(days=1))
        .not_valid_after(timezone.now() + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = folder / "server.pem"
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return file


def test_a_certificate_that_nobody_signed_ends_it_unless_it_is_named(
    team: Tenant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mlflow_client, "MAX_RETRIES", 0)
    asked: list[Asked] = []
    certificate = self_signed(tmp_path)
    with fake_server(lambda one: asked.append(one) or (200, b"{}", {}), certificate) as url:  # type: ignore[func-returns-value]
        words = ("import_mlflow", "--url", url, "--team", "team_new", "--token", SECRET)
        assert url.startswith("https://")
        assert "no trusted TLS connection" in refusal(*words)
        assert not asked
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        run(*words)
    assert asked


SECRET = "s3cr3t-token"


@pytest.mark.parametrize("how", ["option", "environment", "file", "password"])
def test_secrets_go_to_the_server_and_nowhere_else(
    team: Tenant, how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words: tuple[str, ...] = ()
    if how == "option":
        words = ("--token", SECRET)
    elif how == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    elif how == "file":
        file = tmp_path / "token"
        file.write_text(f"{SECRET}\n")
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN_FILE", str(file))
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
        words = ("--username", "ann")
    given: list[str] = []

    def echo(asked: Asked) -> Answer:
        given.append(asked.headers["authorization"])
        return 400, json.dumps({"message": f"{given[-1]} {SECRET}"}).encode(), {}

    with fake_server(echo) as url:
        why = refusal("import_mlflow", "--url", url, "--team", "team_new", *words)
    secret = base64.b64encode(f"ann:{SECRET}".encode()).decode() if how == "password" else SECRET
    assert given == [f"{'Basic' if how == 'password' else 'Bearer'} {secret}"]
    assert secret not in why
    assert SECRET not in why
    assert "***" in why


def test_a_redirect_takes_the_token_nowhere(team: Tenant) -> None:
    elsewhere: list[Asked] = []
    with (
        fake_server(lambda one: elsewhere.append(one) or (200, b"{}", {})) as other,  # type: ignore[func-returns-value]
        fake_server(saying(("", (307, b"", {"Location": f"{other}/x"})))) as url,
    ):
        refusal("import_mlflow", "--url", url, "--team", "team_new", "--token", SECRET)
    assert not elsewhere


BAD_ADDRESSES = {
    "ftp://mlflow.example.com": "is no address of a server",
    "https://": "is no address of a server",
    "https://[::1": "is no address of a server",
    "https://host:port": "is no address of a server",
    "https://host/?query": "is no address of a server",
    "https://host\n": "is no address of a server",
    "https://ann:pw@mlflow.example.com": "Give the user name with --username",
    "http://mlflow.example.com": "is not https: everybody on the way could read the token",
}


@pytest.mark.parametrize("url", BAD_ADDRESSES)
def test_an_address_is_checked_before_anything_is_sent(team: Tenant, url: str) -> None:
    why = refusal("import_mlflow", "--url", url, "--team", "team_new", "--token", SECRET)
    assert BAD_ADDRESSES[url] in why


def test_how_to_sign_in_must_be_clear(team: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("import_mlflow", "--url", "https://mlflow.example.com", "--team", "team_new")
    assert "MLFLOW_TRACKING_PASSWORD_FILE, is not set" in refusal(*words, "--username", "ann")
    assert "not both" in refusal(*words, "--username", "ann", "--token", SECRET)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "")
    assert "MLFLOW_TRACKING_TOKEN is empty" in refusal(*words)


def test_sources_name_their_server_and_are_its_own_again() -> None:
    for url, absolute in (
        ("http://127.0.0.1:5000", "mlflow-artifacts://127.0.0.1:5000/1/run/model"),
        ("mlflow.example.com", "mlflow-artifacts://mlflow.example.com/1/run/model"),
        (
            "https://example.com/mlflow/",
            "https://example.com/mlflow/api/2.0/mlflow-artifacts/artifacts/1/run/model",
        ),
    ):
        server = MlflowServer(url)
        assert server.absolute("mlflow-artifacts:/1/run/model") == absolute
        assert server.relative(absolute) == "mlflow-artifacts:/1/run/model"
        for other in ("s3://b/x", "runs:/r/model", "models:/m-1", "/local/path", "http://[", ""):
            assert server.absolute(other) == server.relative(other) == other
        assert server.proxied("mlflow-artifacts://elsewhere:1/x") is None


# --- the registry's verbs ------------------------------------------------------------------


def test_a_number_of_ones_own_leaves_a_gap_and_comes_once(team: Tenant) -> None:
    with tenant_scope(team):
        model = registry.register_model("m")
        assert registry.add_version(model, number=5).number == 5
        for number in (5, 4, 0, -1, 2**31):
            with pytest.raises(ValidationError, match="the next number is 6"):
                registry.add_version(model, number=number)
        assert registry.add_version(model).number == 6
        assert registry.add_version(model, number=2**31 - 1).number == 2**31 - 1
        with pytest.raises(ValidationError, match="no number is left"):
            registry.add_version(model)


def test_a_location_of_ones_own_is_kept_and_the_source_looked_up_nowhere(team: Tenant) -> None:
    with tenant_scope(team):
        model = registry.register_model("m")
        with pytest.raises(ValidationError, match="There is nothing there"):
            registry.add_version(model, source="models:/elsewhere/1")
        version = registry.add_version(model, source="models:/elsewhere/1", location="s3://b/x")
        assert (version.source, version.location) == ("models:/elsewhere/1", "s3://b/x")
        with pytest.raises(ValidationError, match="location"):
            registry.add_version(model, location="x" * 501)


def test_nobody_but_a_command_sets_times_and_makes_a_version_pending_again(world: World) -> None:
    model = world.model(world.alpha, "fraud")
    with member_scope(world.alice, "team_alpha"):
        with pytest.raises(PermissionDenied):
            registry.set_times(model, timezone.now(), {})
        with pytest.raises(PermissionDenied):
            registry.await_files(model.versions.get(number=1), "")


def test_a_version_that_is_complete_is_not_made_pending_again(team: Tenant) -> None:
    with tenant_scope(team):
        version = registry.add_version(registry.register_model("m"), status="PENDING")
    add_file(partial(tenant_scope, team), version, "file", [b"x"])
    with tenant_scope(team):
        registry.update_version(version, status="READY")
        with pytest.raises(ValidationError, match="takes no more files"):
            registry.await_files(version, "")
