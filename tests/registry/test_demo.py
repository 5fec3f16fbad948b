"""The demo: its teams, people and models; loaded once, and only where nothing is taken over."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django import Settings

from models_registry import registry
from models_registry.cards import render
from models_registry.exchange.json_document import export
from models_registry.management.commands.load_demo import MODELS, PEOPLE, TEAMS
from models_registry.models import RegisteredModel
from tenants.identity import directory
from tenants.isolation.scope import member_scope, tenant_scope
from tenants.models import AuditEvent, Membership, Tenant, User
from tests.support.people import committed, make_user

DOCUMENT: dict[str, list[dict[str, Any]]] = json.loads(MODELS.read_text())
EXPECTED = {
    "team_alpha": ["model1", "model2"],
    "team_beta": ["model3"],
    "team_gamma": ["model4", "model5", "model6"],
}
MAX_ENTRIES = {entry["name"]: entry for entries in DOCUMENT.values() for entry in entries}


def load() -> list[str]:
    """Load the demo and return the lines it prints."""
    out = StringIO()
    call_command("load_demo", stdout=out)
    return out.getvalue().splitlines()


@pytest.fixture
def data_dir(db: None, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A DATA_DIR of the test's own, for the kept password; the database is connected already."""
    monkeypatch.delenv("BULKHEAD_DEMO_PASSWORD", raising=False)
    settings.DATA_DIR = tmp_path / "data"
    return tmp_path / "data"


@pytest.fixture
def demo(data_dir: Path) -> list[str]:
    """The demo, loaded; the lines that were printed."""
    return load()


def everything() -> dict[str, Any]:
    """Return what there is: models, people and memberships."""
    return {
        "models": {tenant.slug: export(tenant) for tenant in Tenant.objects.all()},
        "people": list(User.objects.order_by("username").values()),
        "members": list(Membership.objects.values_list("tenant__slug", "user__username", "role")),
    }


# --- the file ------------------------------------------------------------------------------


def test_the_file_holds_exactly_the_demos_models() -> None:
    assert {team: [e["name"] for e in entries] for team, entries in DOCUMENT.items()} == EXPECTED


@pytest.mark.parametrize("team", EXPECTED)
def test_no_team_is_told_of_another_ones_models(team: str) -> None:
    text = json.dumps(DOCUMENT[team])
    for other, names in EXPECTED.items():
        if other != team:
            assert not [word for word in (other, *names) if word in text]


@pytest.mark.parametrize("name", MAX_ENTRIES)
def test_each_model_is_worth_looking_at(name: str) -> None:
    entry = MAX_ENTRIES[name]
    versions = entry["versions"]
    assert 4 <= len(versions) <= 9
    assert {"framework", "task", "dataset"} <= set(entry["tags"])
    assert {"champion", "challenger"} <= set(entry["aliases"])
    ready = [version for version in versions if version["status"] == "READY"]
    assert all(version["metrics"] and version["params"] for version in ready)
    assert all("status_message" in version for version in versions if version not in ready)
    # A metric that never changes would make a dull chart.
    for metric in ready[0]["metrics"]:
        assert len({version["metrics"][metric] for version in ready}) > 2
    times = [entry["created_at"], *(version["created_at"] for version in versions)]
    assert times == sorted(times)


@pytest.mark.parametrize("name", MAX_ENTRIES)
def test_each_card_has_front_matter_a_table_and_code_and_tells_its_versions_figures(
    name: str,
) -> None:
    entry = MAX_ENTRIES[name]
    card = entry["card"]
    for part in ("---\nlicense: ", "datasets:", "metrics:", "## Intended use", "## Limitations"):
        assert part in card
    assert f'```python\nimport mlflow\n\nmodel = mlflow.sklearn.load_model("models:/{name}@' in card
    rows = [line.strip("| ").replace("*", "").split(" | ") for line in card.splitlines()]
    for number, version in enumerate(entry["versions"], start=1):
        if version["metrics"]:
            figures = [f"{value:.4g}" for value in version["metrics"].values()]
            assert [str(number), version["params"]["algorithm"], *figures] in rows


@pytest.mark.parametrize("name", MAX_ENTRIES)
def test_each_card_can_be_rendered(name: str) -> None:
    card = render(MAX_ENTRIES[name]["card"])
    assert not card.problem
    assert dict(card.facts)["license"] == "bsd-3-clause"
    assert "<table>" in card.html
    assert "<pre><code" in card.html


# --- loading it ----------------------------------------------------------------------------


def test_each_team_has_its_models_and_people(demo: list[str]) -> None:
    found = everything()
    assert {
        team: [row["name"] for row in rows] for team, rows in found["models"].items()
    } == EXPECTED
    assert set(found["members"]) == {
        ("team_alpha", "alice", "admin"),
        ("team_alpha", "bob", "viewer"),
        ("team_beta", "bela", "admin"),
        ("team_gamma", "gina", "contributor"),
        ("team_gamma", "hugo", "admin"),
    }
    platform = [user["username"] for user in found["people"] if user["is_superuser"]]
    assert platform == ["dana"]
    assert Tenant.objects.get(slug="team_gamma").name == "Gamma Vision"


def test_versions_arrive_with_their_figures_owners_and_times(demo: list[str]) -> None:
    [model4, *_] = export(Tenant.objects.get(slug="team_gamma"))
    entry = MAX_ENTRIES["model4"]
    assert model4["owner"] == "gina"
    assert model4["aliases"] == entry["aliases"]
    for row, version in zip(model4["versions"], entry["versions"], strict=True):
        assert row["metrics"] == version["metrics"]
        assert row["creator"] == version["creator"]
        assert row["created_at"].replace("+00:00", "Z") == version["created_at"]


def test_the_lines_tell_how_to_sign_in(demo: list[str], data_dir: Path) -> None:
    password = (data_dir / "demo-password").read_text().strip()
    assert [line.split(maxsplit=2) for line in demo] == [
        ["alice", password, "admin of team_alpha"],
        ["bob", password, "viewer of team_alpha"],
        ["bela", password, "admin of team_beta"],
        ["gina", password, "contributor of team_gamma"],
        ["hugo", password, "admin of team_gamma"],
        ["dana", password, "platform admin"],
    ]
    assert demo[0] == f"alice  {password}  admin of team_alpha"
    assert len(password) >= 16
    assert all(user.check_password(password) for user in User.objects.all())


def test_the_kept_password_is_for_its_owner_only(demo: list[str], data_dir: Path) -> None:
    assert [path.name for path in data_dir.iterdir()] == ["demo-password"]
    assert stat.S_IMODE((data_dir / "demo-password").stat().st_mode) == 0o600


def test_beta_reads_model5_and_gamma_learns_nothing_of_others(demo: list[str]) -> None:
    with member_scope(User.objects.get(username="bela"), "team_beta"):
        assert [model.name for model in RegisteredModel.shared.all()] == ["model5"]
    for name, team in (("gina", "team_gamma"), ("hugo", "team_gamma"), ("alice", "team_alpha")):
        with member_scope(User.objects.get(username=name), team):
            assert not RegisteredModel.shared.exists()
    with tenant_scope(Tenant.objects.get(slug="team_gamma")):
        log = str(list(AuditEvent.objects.values()))
    assert not [word for word in ("team_alpha", "model1", "model2", "model3") if word in log]
    with tenant_scope(Tenant.objects.get(slug="team_gamma")):
        [grant] = AuditEvent.objects.filter(action="grant.given")
        assert (grant.object_label, grant.actor_label) == ("model5", "hugo")


def test_loading_twice_changes_nothing(demo: list[str]) -> None:
    before = everything()
    assert load() == demo
    assert everything() == before


def test_what_people_did_in_the_demo_stays(demo: list[str]) -> None:
    gamma = Tenant.objects.get(slug="team_gamma")
    with tenant_scope(gamma):
        model = RegisteredModel.objects.get(name="model4")
        registry.update_model(model, description="mine", card="# Mine")
        registry.set_alias(model, "champion", 1)
        registry.archive_model(RegisteredModel.objects.get(name="model6"))
    directory.remove_member(Membership.objects.get(user__username="gina"))
    directory.deactivate_user(User.objects.get(username="bob"))
    before = everything()
    lines = load()
    assert everything() == before
    assert [line.split()[0] for line in lines] == ["alice", "bela", "gina", "hugo", "dana"]
    assert lines[2].endswith("member of no team")


def test_a_password_can_be_given(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_DEMO_PASSWORD", "given by hand")
    assert load()[0] == "alice  given by hand  admin of team_alpha"
    assert not data_dir.exists()
    assert User.objects.get(username="gina").check_password("given by hand")
    monkeypatch.setenv("BULKHEAD_DEMO_PASSWORD", "another one")
    assert load()[0] == "alice  another one  admin of team_alpha"
    assert User.objects.get(username="gina").check_password("another one")


def test_somebody_elses_account_is_not_taken_over(data_dir: Path) -> None:
    make_user("dana")
    before = everything()
    with pytest.raises(CommandError, match="take over what is not the demo's: dana"):
        load()
    assert everything() == before


def test_somebody_elses_team_is_not_taken_over(data_dir: Path) -> None:
    directory.create_tenant("team_gamma", "Ours")
    before = everything()
    with pytest.raises(CommandError, match="take over what is not the demo's: team_gamma"):
        load()
    assert everything() == before


def test_other_teams_and_people_are_no_obstacle(data_dir: Path) -> None:
    directory.create_tenant("team_omega", "Ours", admin=make_user("zoe"))
    assert len(load()) == len(PEOPLE)
    assert Tenant.objects.count() == len(TEAMS) + 1


@committed
def test_two_that_load_at_once_load_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_DEMO_PASSWORD", "given by hand")

    def work() -> list[str]:
        try:
            return load()
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(work) for _ in range(2))
        assert first.result() == second.result()
    assert User.objects.count() == len(PEOPLE)
    with tenant_scope(Tenant.objects.get(slug="team_gamma")):
        assert AuditEvent.objects.filter(action="model.registered").count() == 3
