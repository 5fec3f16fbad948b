"""The real clients of MLflow, unchanged, against a real server: what a team does all day.

The last clients of MLflow 2 work in team_alpha and those of today in team_gamma, at the same time
and with the same names. A test reads what both have said, and looks at the pages.
"""

import filecmp
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client as Browser
from django.utils import timezone

from models_registry.models import ModelVersion
from tenants.identity import directory, robots, tokens
from tenants.isolation.scope import tenant_scope
from tenants.models import Role, Tenant, User
from tests.clients.readme import README
from tests.support.api import make_token
from tests.support.mlflow_clients import VERSIONS, Client, Pythons, all_said, bulkhead
from tests.support.people import CANARY, PASSWORD, World, fill_with_files
from tests.support.stock_mlflow import Stock, stock_server

#: Whose team each client works in, who it is, and what its models learn from.
TEAMS = {
    "2.22": ("team_alpha", "mia", "iris", "ALPHA"),
    "3": ("team_gamma", "hugo", "wine", CANARY),
}
each_version = pytest.mark.parametrize("version", VERSIONS)


@dataclass(frozen=True)
class Day:
    """What both clients have done: what they were asked, what they said, where their files are."""

    world: World
    folder: Path
    asked: dict[str, dict[str, Any]]
    said: dict[str, dict[str, Any]]

    def of(self, version: str, scenario: str) -> dict[str, Any]:
        """Return what a client said of a scenario, if it got to its end."""
        said: dict[str, Any] = self.said[version][scenario]
        assert "broke" not in said, said["broke"]
        return said

    def page(self, version: str, path: str) -> str:
        """Return a page of the client's team, as its person sees it."""
        slug, person, _, _ = TEAMS[version]
        answer = browser(self.world.person(person)).get(f"/t/{slug}/{path}")
        assert answer.status_code == 200
        return str(answer.content.decode())


@pytest.fixture(scope="module")
def day(
    committed_world: World, tmp_path_factory: pytest.TempPathFactory, pythons: Pythons
) -> Iterator[Day]:
    """Let both clients do everything, at the same time, at one server."""
    world, folder = committed_world, tmp_path_factory.mktemp("day")
    both = people_of_both(world)
    asked = {version: work(world, both, version) for version in VERSIONS}
    (folder / "server").mkdir()
    with bulkhead(folder / "server") as here, with_passwords(folder) as other:
        clients = []
        for version in VERSIONS:
            slug, person, _, _ = TEAMS[version]
            register_on_the_page(world.person(person), slug, "from the page")
            token = new_token(world.person(person))
            variables = {"MLFLOW_TRACKING_URI": here, "MLFLOW_TRACKING_TOKEN": token}
            asked[version]["beside"] = beside(here, other.url, slug, token, version)
            python, own = pythons(version), folder / version
            clients.append(Client(python, version, own, variables, asked[version]))
        yield Day(world, folder, asked, all_said(clients))


def people_of_both(world: World) -> str:
    """Make somebody who is in both teams and return their token."""
    pat = User.objects.create_user("pat", "pat@example.com")
    for team in (world.alpha, world.gamma):
        directory.add_member(team, pat, Role.CONTRIBUTOR)
    return new_token(pat)


def new_token(user: User, scope: str = "write") -> str:
    """Make a token as the page does, and return its secret."""
    return tokens.create_token(user, "for a client", scope=scope)[1]


def work(world: World, both: str, version: str) -> dict[str, Any]:
    """Return what the client of that version is asked to do, in order."""
    slug, person, data, word = TEAMS[version]
    other_slug, _, _, other_word = next(TEAMS[other] for other in VERSIONS if other != version)
    team, user = Tenant.objects.get(slug=slug), world.person(person)
    other = Tenant.objects.get(slug=other_slug)
    learning = {"data": data, "team": word, "seen": "from the page"}
    revoked, revoked_secret = tokens.create_token(user, "revoked", scope="write")
    tokens.revoke_token(revoked)
    return {
        "register": learning,
        "stage": {},
        "load": learning,
        "search": SEARCHES,
        "refusals": {
            "others": f"{other_word} own",
            "others files": f"mlflow-artifacts:/versions/{version_with_files(other).pk}",
        },
        "tokens": {
            "wrong": tokens.new_secret("write"),
            "revoked": revoked_secret,
            "expired": make_token(user, expires_at=timezone.now() - timedelta(minutes=1)),
            "reads": new_token(user, "read"),
            "robot": (robot := robot_token(team)),
        },
        "teams": {
            "data": data,
            "both": both,
            "makes": f"by {version} in",
            "writes": new_token(user),
            "robot": robot,
            "other team": other_slug,
        },
        "prompts": {},
        "change": learning,
        "readme": {},
    }


def with_passwords(folder: Path) -> AbstractContextManager[Stock]:
    """Run MLflow's own server so that it asks for a user and a password."""
    # Without the cache, it would compute the password's hash at each request.
    (folder / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\nadmin_username = admin\n"
        f"admin_password = {PASSWORD}\ndatabase_uri = sqlite:///{folder}/auth.db\n"
        f"auth_cache_ttl_seconds = 600\n"
    )
    return stock_server(
        "--app-name=basic-auth",
        MLFLOW_AUTH_CONFIG_PATH=str(folder / "auth.ini"),
        MLFLOW_FLASK_SERVER_SECRET_KEY="of a test",
    )


def beside(here: str, other: str, slug: str, token: str, version: str) -> dict[str, str]:
    """Return what a client is asked that keeps its runs elsewhere and its registry here."""
    return {
        "tracking": other,
        "password": PASSWORD,
        # By another name than the other server: ~/.netrc goes by names.
        "registry": f"{here.replace('127.0.0.1', 'localhost')}/t/{slug}",
        "token": token,
        "experiment": f"of {version}",
    }


def version_with_files(team: Tenant) -> ModelVersion:
    """Return a version of that team which has files."""
    with tenant_scope(team):
        version: ModelVersion = ModelVersion.objects.get(model__name="fraud", number=1)
        fill_with_files(version)
        return version


def robot_token(team: Tenant) -> str:
    """Make a robot of the team and return its token."""
    return new_token(robots.create_robot(team, "robo", Role.CONTRIBUTOR))


def browser(person: User) -> Browser:
    """Return a browser in which that person is signed in."""
    found = Browser()
    found.force_login(person, backend="allauth.account.auth_backends.AuthenticationBackend")
    return found


def register_on_the_page(person: User, slug: str, name: str) -> None:
    """Register a model as people do it."""
    answer = browser(person).post(
        f"/t/{slug}/register/",
        {"name": name, "description": "typed in", "card": "", "tags": "typed = in"},
    )
    assert answer.status_code == 302, answer.content


# --- what is searched ----------------------------------------------------------------------

MODELS = {
    f"m-{number:02}": {
        "half": "low" if number < 6 else "high",
        "extra key": str(number),
        "Name": f"Model {number}",
    }
    for number in range(12)
}
#: Five versions of one model, one of another: name, source, run and tags.
MODEL_VERSIONS = [
    ("m-00", f"s3://bucket/{number}", f"{number}" * 32, {"size": str(number)})
    for number in range(1, 6)
] + [("m-01", "s3://other/1", "a" * 32, {"size": "1"})]

MODEL_FILTERS: dict[str, set[str]] = {
    "name = 'm-03'": {"m-03"},
    "name != 'm-03' AND name LIKE 'm-0%'": {f"m-0{n}" for n in range(10)} - {"m-03"},
    "name LIKE 'm-1_'": {"m-10", "m-11"},
    "name LIKE 'M-1%'": set(),
    "name ILIKE 'M-1%'": {"m-10", "m-11"},
    "tags.half = 'low'": {f"m-0{n}" for n in range(6)},
    "tag.half != 'low' AND name LIKE 'm-0%'": {f"m-0{n}" for n in range(6, 10)},
    "tags.half LIKE 'lo%' AND tags.`extra key` = '4'": {"m-04"},
    "tags.\"Name\" ILIKE 'model 1%'": {"m-01", "m-10", "m-11"},
    "name = 'fraud'": {"fraud"},
    "name = 'nobody''s'": set(),
}
VERSION_FILTERS: dict[str, set[str]] = {
    "name = 'm-01'": {"m-01/1"},
    "name LIKE 'm-%' AND version_number > 3": {"m-00/4", "m-00/5"},
    "name = 'm-00' AND version_number >= 4": {"m-00/4", "m-00/5"},
    "name = 'm-00' AND version_number < 2": {"m-00/1"},
    "name = 'm-00' AND version_number <= 2": {"m-00/1", "m-00/2"},
    "name = 'm-00' AND version_number != 2 AND version_number < 4": {"m-00/1", "m-00/3"},
    "name = 'm-00' AND version_number = 5": {"m-00/5"},
    "name IN ('m-00', 'm-01') AND version_number = 1": {"m-00/1", "m-01/1"},
    f"run_id = '{'2' * 32}'": {"m-00/2"},
    f"run_id IN ('{'2' * 32}', '{'3' * 32}')": {"m-00/2", "m-00/3"},
    "source_path = 's3://other/1'": {"m-01/1"},
    "source_path LIKE 's3://bucket/%' AND version_number > 4": {"m-00/5"},
    "tags.size = '1'": {"m-00/1", "m-01/1"},
    "tags.size != '1' AND name = 'm-00'": {f"m-00/{n}" for n in range(2, 6)},
    "name ILIKE 'M-01'": {"m-01/1"},
}
SEARCHES: dict[str, Any] = {
    "models": MODELS,
    "versions": MODEL_VERSIONS,
    "model filters": list(MODEL_FILTERS),
    "version filters": list(VERSION_FILTERS),
    "model orders": [["name"], ["name DESC"], ["last_updated_timestamp DESC"], ["timestamp ASC"]],
    "version orders": [
        ["version_number"],
        ["name DESC", "version_number ASC"],
        ["creation_timestamp DESC"],
        ["last_updated_timestamp ASC"],
    ],
    "refused": ["name = 'a' OR name = 'b'", "name ~ 'a'", "name = a", "age = '1'"],
}


# --- tests ---------------------------------------------------------------------------------


@each_version
def test_each_scenario_got_to_its_end(day: Day, version: str) -> None:
    assert list(day.said[version]) == list(day.asked[version])
    for scenario in day.said[version]:
        day.of(version, scenario)


@each_version
def test_the_versions_are_those_that_the_readme_names(day: Day, version: str) -> None:
    client = day.of(version, "register")["client"]
    assert client.startswith(f"{version}.")
    named = re.search(r"the tests run (\S+) and (\S+)\. ", README.read_text())
    assert named is not None
    assert client.rpartition(".")[0] == named[VERSIONS.index(version) + 1]


@each_version
def test_a_trained_model_is_uploaded_registered_and_described(day: Day, version: str) -> None:
    _, _, data, word = TEAMS[version]
    said = day.of(version, "register")
    uploads = "mlflow-artifacts:/models/quality"
    assert said["versions"] == [[number, "READY", f"{uploads}/{number}"] for number in ("1", "2")]
    assert said["model"] == [
        f"Tells {data} apart",
        {"team": word, "task": "classification"},
        {"champion": "1", "challenger": "2"},
    ]
    described = ["a **logistic** regression", {"data": data, "kernel": "none"}]
    assert said["version"] == [*described, ["champion"], "None"]
    assert said["by alias"] == "1"


@each_version
def test_what_is_loaded_is_what_was_trained(day: Day, version: str) -> None:
    trained, said = day.of(version, "register"), day.of(version, "load")
    assert trained["trained"][0] != trained["trained"][1]
    for address, number in said["is"].items():
        assert said["loaded"][address] == trained["trained"][int(number) - 1], address
        assert said["predicted"][address] == trained["predicted"][int(number) - 1], address


@each_version
def test_files_come_back_byte_by_byte(day: Day, version: str) -> None:
    folder = day.folder / version
    for number in (1, 2):
        saved, loaded = folder / f"saved-{number}", folder / f"downloaded-{number}"
        names = sorted(file.name for file in saved.iterdir())
        assert "MLmodel" in names
        # The client writes one file of its own beside those that it has downloaded.
        assert names == sorted(
            file.name for file in loaded.iterdir() if file.name != "registered_model_meta"
        )
        equal, different, unreadable = filecmp.cmpfiles(saved, loaded, names, shallow=False)
        assert (sorted(equal), different, unreadable) == (names, [], [])
    said = day.of(version, "load")
    assert said["one"] == (folder / "saved-1" / "MLmodel").read_text()
    assert said["listed"] == {
        file.name: file.stat().st_size for file in (folder / "saved-1").iterdir()
    }


@each_version
def test_versions_move_through_the_stages(day: Day, version: str) -> None:
    assert day.of(version, "stage") == {
        "before": ["Production", "Staging"],
        "latest": {"Production": "1", "Staging": "2"},
        "only": ["1"],
        "after": ["Archived", "Production"],
    }


@each_version
def test_a_model_is_copied_renamed_and_deleted(day: Day, version: str) -> None:
    said = day.of(version, "change")
    assert said["copies"] == [
        ["copied", "1", "models:/quality/1"],
        ["copied", "2", "models:/quality/2"],
    ]
    assert said["loaded"] == day.of(version, "register")["trained"][0]
    assert said["left"] == ["1"]
    for what, code, words in (
        ("old name", "RESOURCE_DOES_NOT_EXIST", "Registered Model with name=copied not found"),
        ("no alias", "INVALID_PARAMETER_VALUE", "Registered model alias champion not found."),
        (
            "no version",
            "RESOURCE_DOES_NOT_EXIST",
            "Model Version (name=renamed, version=2) not found",
        ),
        ("deleted", "RESOURCE_DOES_NOT_EXIST", "Registered Model with name=renamed not found"),
    ):
        assert said[what] == [code, f"{code}: {words}"]
    assert not {"copied", "renamed"} & set(said["names"])


@each_version
def test_searches_find_what_they_ask_for(day: Day, version: str) -> None:
    said = day.of(version, "search")
    assert said["models"] == {text: sorted(found) for text, found in MODEL_FILTERS.items()}
    assert said["versions"] == {text: sorted(found) for text, found in VERSION_FILTERS.items()}
    assert [code for code, _ in said["refused"]] == ["INVALID_PARAMETER_VALUE"] * 4


@each_version
def test_searches_come_in_the_order_and_the_pages_asked_for(day: Day, version: str) -> None:
    said = day.of(version, "search")
    names = list(MODELS)
    # Its versions have touched a model: m-00 and m-01 were changed after all others.
    changed = [*names[2:], *names[:2]]
    assert said["model orders"] == [names, names[::-1], changed[::-1], changed]
    made = [f"m-00/{number}" for number in range(1, 6)] + ["m-01/1"]
    by_number = ["m-00/1", "m-01/1", *made[1:5]]
    assert said["version orders"] == [by_number, [made[-1], *made[:-1]], made[::-1], made]
    models = [f"{name}/" for name in names[::-1]]
    assert said["model pages"] == [models[:5], models[5:10], models[10:]]
    versions = ["m-01/1", "m-00/5", "m-00/4", "m-00/3", "m-00/2", "m-00/1"]
    assert said["version pages"] == [versions[:5], versions[5:]]


@each_version
def test_teams_use_the_same_names_at_once_and_see_only_their_own(day: Day, version: str) -> None:
    word = TEAMS[version][3]
    other = next(TEAMS[other] for other in VERSIONS if other != version)
    names = set(day.of(version, "tokens")["robot"])
    assert {"quality", "fraud", "taken", f"{word} own"} <= names
    assert f"{other[3]} own" not in names
    for scenario in ("register", "stage", "load", "search", "change"):
        assert other[3] not in str(day.of(version, scenario)), scenario
        assert other[2] not in str(day.of(version, scenario)), scenario


@each_version
def test_mistakes_are_told_by_the_codes_that_programs_catch(day: Day, version: str) -> None:
    said, others = day.of(version, "refusals"), day.asked[version]["refusals"]["others"]
    nothing, bad = "RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"
    assert {what: code for what, (code, _) in said.items()} == {
        "taken": "RESOURCE_ALREADY_EXISTS",
        "onto taken": "RESOURCE_ALREADY_EXISTS",
        "no model": nothing,
        "others' model": nothing,
        "no version": nothing,
        "others' version": nothing,
        "delete others'": nothing,
        "no alias": bad,
        "alias of nothing": nothing,
        "bad stage": bad,
        "bad filter": bad,
        "nothing there": bad,
        "others' files": bad,
        "load nothing": nothing,
    }
    assert said["others' model"][1] == said["no model"][1].replace("nobody's", others)
    files = day.asked[version]["refusals"]["others files"]
    assert said["others' files"][1] == said["nothing there"][1].replace(
        "mlflow-artifacts:/nothing/there", files
    )


@each_version
def test_tokens_let_in_whom_they_should(day: Day, version: str) -> None:
    said = day.of(version, "tokens")
    assert {str(said[kind]) for kind in ("wrong", "revoked", "expired", "none")} == {
        str(said["none"])
    }
    code, words = said["none"]
    assert code == "UNAUTHENTICATED" and "MLFLOW_TRACKING_TOKEN" in words
    assert said["reads"]["type"] == "PyFuncModel"
    assert "quality" in said["reads"]["names"]
    refused = [
        "PERMISSION_DENIED",
        "PERMISSION_DENIED: This token can only read; use one that can write.",
    ]
    assert (said["reads"]["register"], said["reads"]["delete"]) == (refused, refused)
    assert "mine" not in said["robot"]
    assert {"quality", "made by robo"} <= set(said["robot"])
    assert {"quality", "made with a password"} <= set(said["password"])


@each_version
def test_one_person_works_in_two_teams(day: Day, version: str) -> None:
    said = day.of(version, "teams")
    code, words = said["unnamed"]
    assert code == "INVALID_PARAMETER_VALUE"
    assert "team-alpha, team-gamma" in words and "MLFLOW_WORKSPACE" in words and "/t/" in words
    for slug, own, others in (
        ("team_alpha", "ALPHA own", "CANARY own"),
        ("team_gamma", "CANARY own", "ALPHA own"),
    ):
        assert {own, f"by {version} in {slug}"} <= set(said[slug]["names"])
        assert others not in said[slug]["names"]
        assert said[slug]["loaded"] == day.of(version, "register")["trained"][0]
    other_slug = day.asked[version]["teams"]["other team"]
    assert said["nobody's"][0] == said["others'"][0] == "RESOURCE_DOES_NOT_EXIST"
    assert said["others'"][1] == said["nobody's"][1].replace("team_nobody", other_slug)


def test_workspaces_of_mlflow_3_are_teams(day: Day) -> None:
    """MLflow 2 knows no workspaces; there the tracking URI names the team."""
    said = day.of("3", "teams")["workspaces"]
    assert said["listed"] == ["team-alpha", "team-gamma"]
    assert said["got"] == "team-gamma"
    for slug, own, others in (
        ("team-alpha", "ALPHA own", "CANARY own"),
        ("team-gamma", "CANARY own", "ALPHA own"),
    ):
        for names in (said[slug]["names"], said[f"set {slug}"]):
            assert {own, f"by 3 in {slug}", f"by 3 in {slug.replace('-', '_')}"} <= set(names)
            assert others not in names
        assert said[slug]["loaded"] == day.of("3", "register")["trained"][0]
    for what in ("nobody's", "others'"):
        assert said[what][0] == "RESOURCE_DOES_NOT_EXIST"
    assert said["robot elsewhere"][0] == "PERMISSION_DENIED"
    assert "workspaces" not in day.of("2.22", "teams")


@each_version
def test_the_readmes_program_does_what_it_says(day: Day, version: str) -> None:
    said = day.of(version, "readme")
    assert said["printed"] == said["expected"] != ""


@each_version
def test_prompts_are_kept_apart_from_models(day: Day, version: str) -> None:
    said = day.of(version, "prompts")
    assert said["template"] == "Hello {{ name }}!"
    assert said["newest"] == "Good day, Ada."
    assert "greeting" not in said["names"]
    assert said["versions"] == []
    assert said["asked for"] == ["greeting"]
    assert said["as a model"][0] == "RESOURCE_DOES_NOT_EXIST"


@each_version
def test_a_tracking_server_elsewhere_keeps_runs_and_files(day: Day, version: str) -> None:
    said = day.of(version, "beside")
    assert said["metrics"] == {"accuracy": 0.9}
    assert said["loaded"] == said["trained"]
    assert said["sources"][2] == "models:/beside/2"
    if version == "3":  # what is logged is a model of its own there, and not part of its run
        assert all(source.startswith("models:/m-") for source in said["sources"][:2])
    else:
        folder = f"/{said['run']}/artifacts"
        assert [source.partition(folder)[2] for source in said["sources"][:2]] == ["/one", "/two"]
        assert said["runs"] == [said["run"], said["run"]]
    with tenant_scope(Tenant.objects.get(slug=TEAMS[version][0])):
        versions = ModelVersion.objects.filter(model__name__startswith="beside")
        assert versions.count() == 3
        assert not any(version.files.exists() for version in versions)


@each_version
def test_each_server_wants_its_own_credentials(day: Day, version: str) -> None:
    said = day.of(version, "beside")
    assert "beside" in said["here with the token"]
    # MLflow's server answers 500, not 401, where a token comes instead of a user and a password.
    assert "/experiments/search failed" in said["there with the token"][1]
    if version == "3":
        assert "beside" in said["workspace here"]
        assert "does not support workspaces" in said["workspace there"][1]


@each_version
def test_the_pages_show_what_the_client_did(day: Day, version: str) -> None:
    _, _, data, _ = TEAMS[version]
    page = day.page(version, "models/quality/")
    for shown in (f"Tells {data} apart", "champion", "challenger", "classification"):
        assert shown in page
    assert "a **logistic** regression" in day.page(version, "models/quality/versions/1/")
    listed = day.page(version, "models/")
    assert "quality" in listed and "renamed" not in listed
    assert "added <strong>quality" in day.page(version, "models/quality/history/")


@each_version
def test_the_client_sees_what_was_registered_on_the_page(day: Day, version: str) -> None:
    assert day.of(version, "register")["seen"] == ["typed in", {"typed": "in"}]
