"""The commands for teams, people and models, as an operator types them."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from models_registry import registry
from tenants.identity import robots, tokens
from tenants.isolation.scope import tenant_scope, token_scope
from tenants.models import AccountEvent, ApiToken, AuditEvent, Membership, Tenant, User
from tests.support.commands import manage, refusal, run
from tests.support.people import CANARY, World, committed, make_world

GOOD_PASSWORD = "a long and unusual sentence"


# --- list_models ---------------------------------------------------------------------------


def register(tenant: Tenant, *names: str) -> None:
    """Register models of these names."""
    with tenant_scope(tenant):
        for name in names:
            registry.register_model(name)


@pytest.fixture
def gamma(db: None) -> Tenant:
    """A team with three models, registered out of order; another team has two."""
    for slug, names in (
        ("team_gamma", ["model6", "model4", "model5"]),
        ("tenant1", ["modelA"]),
        ("team_empty", []),
    ):
        run("create_tenant", slug)
        register(Tenant.objects.get(slug=slug), *names)
    return Tenant.objects.get(slug="team_gamma")


def test_one_teams_models_are_listed_by_name(gamma: Tenant) -> None:
    assert run("list_models", "--team", "team_gamma") == "['model4', 'model5', 'model6']\n"
    assert run("list_models", "--team", "team_empty") == "[]\n"


def test_all_teams_have_a_line_each(gamma: Tenant) -> None:
    assert run("list_models", "--all-teams").splitlines() == [
        "team_empty has no models",
        "team_gamma has models: model4, model5, model6",
        "tenant1 has models: modelA",
    ]


def test_a_name_cannot_forge_a_line(gamma: Tenant) -> None:
    register(gamma, "x\nteam_alpha has no models\x1b[2J")
    assert len(run("list_models", "--all-teams").splitlines()) == 3
    assert "\x1b" not in run("list_models", "--all-teams")


def test_list_models_needs_a_team_or_all_teams(gamma: Tenant) -> None:
    assert "one of the arguments --team --all-teams is required" in refusal("list_models")
    assert "not allowed with" in refusal("list_models", "--team", "tenant1", "--all-teams")


def test_json_gives_full_rows_of_that_team_only(world: World) -> None:
    text = run("list_models", "--team", "team_alpha", "--json")
    assert CANARY not in text
    [(team, [own, fraud])] = json.loads(text).items()
    assert (team, own["name"], fraud["name"]) == ("team_alpha", "ALPHA own", "fraud")
    assert fraud["tags"] == {"ALPHA": "ALPHA"}
    assert fraud["card"] == "# ALPHA card"
    assert fraud["owner"] == "alice"
    assert fraud["aliases"] == {"champion": 1}
    assert [version["metrics"] for version in fraud["versions"]] == [{"auc": 0.91}, {"auc": 0.92}]
    assert {"params", "tags", "source", "run_id", "status", "creator"} <= set(fraud["versions"][0])


def test_all_teams_json_can_be_imported(world: World, tmp_path: Path) -> None:
    file = tmp_path / "all.json"
    file.write_text(run("list_models", "--all-teams", "--json"))
    assert run("import_models", str(file)).splitlines() == [
        "team_alpha: 0 created, 0 updated, 2 unchanged",
        "team_gamma: 0 created, 0 updated, 2 unchanged",
    ]


def test_an_unknown_team_is_said_to_be_unknown(db: None) -> None:
    assert refusal("list_models", "--team", "team_omega") == "There is no team team_omega."


# --- import_models -------------------------------------------------------------------------


def test_a_file_is_imported_and_reported_by_team(world: World, tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    file.write_text('{"team_alpha": ["fraud", "new"], "team_gamma": {"models": ["new"]}}')
    dry = run("import_models", str(file), "--dry-run").splitlines()
    assert dry == [
        "team_alpha: 1 created, 0 updated, 1 unchanged",
        "  created new",
        "team_gamma: 1 created, 0 updated, 0 unchanged",
        "  created new",
        "This was a dry run: nothing was changed.",
    ]
    assert "new" not in run("list_models", "--all-teams")
    assert run("import_models", str(file)).splitlines() == [dry[0], dry[2]]
    assert "'new'" in run("list_models", "--team", "team_alpha")


def test_a_malformed_file_names_the_place(world: World, tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    wrong = {"name": "x", "versions": [{"metrics": {"auc": "high"}}]}
    file.write_text(json.dumps({"team_alpha": ["new"], "team_gamma": [wrong]}))
    assert refusal("import_models", str(file)) == (
        "$.team_gamma[0].versions[0].metrics.auc: expected a number"
    )
    assert "new" not in run("list_models", "--all-teams")


def test_a_file_that_cannot_be_read_is_named(db: None, tmp_path: Path) -> None:
    missing = tmp_path / "none.json"
    assert refusal("import_models", str(missing)) == (
        f"{missing} cannot be read: No such file or directory."
    )
    assert refusal("import_models", str(tmp_path)).endswith("cannot be read: Is a directory.")


# --- create_tenant -------------------------------------------------------------------------


def test_a_team_is_made_with_its_first_admin(world: World) -> None:
    out = run(
        *("create_tenant", "team_omega", "--name", "Omega", "--contact", "charlie"),
        *("--description", "The last one", "--admin", "charlie"),
    )
    assert out == "Made team_omega.\ncharlie is its admin.\n"
    tenant = Tenant.objects.get(slug="team_omega")
    assert (tenant.name, tenant.contact, tenant.description) == ("Omega", "charlie", "The last one")
    [membership] = tenant.memberships.all()
    assert (membership.user, membership.role) == (world.charlie, "admin")
    with tenant_scope(tenant):
        events = set(AuditEvent.objects.values_list("action", "actor_label"))
    assert events == {("tenant.created", "system"), ("member.added", "system")}


def test_a_team_without_an_admin_says_how_it_gets_one(db: None) -> None:
    assert "manage.py add_member team_omega" in run("create_tenant", "team_omega")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Team"], "Use 1 to 40 lower-case letters"),
        (["kube-system"], "“kube-system” is reserved"),
        (["team-alpha"], "A tenant with this slug"),
        (["team_alpha"], "Tenant with this Slug already exists."),
        (["team_omega", "--admin", "nobody"], "There is no account nobody."),
    ],
)
def test_a_team_that_cannot_be_made_is_explained(
    world: World, words: list[str], message: str
) -> None:
    assert message in refusal("create_tenant", *words)
    assert Tenant.objects.count() == 2


# --- add_member ----------------------------------------------------------------------------


def test_a_person_is_let_in(world: World) -> None:
    expires = (timezone.now() + timedelta(days=3)).date()
    out = run(
        *("add_member", "team_gamma", "charlie", "--role", "maintainer"),
        *("--reason", "incident 7", "--expires", str(expires)),
    )
    assert out == f"charlie is maintainer of team_gamma until {expires} 00:00 UTC.\n"
    membership = Membership.objects.get(user=world.charlie)
    assert (membership.tenant, membership.role) == (world.gamma, "maintainer")
    assert membership.reason == "incident 7"
    midnight = datetime.combine(expires, datetime.min.time(), UTC)
    assert membership.expires_at == midnight
    with tenant_scope(world.gamma):
        event = AuditEvent.objects.get(action="member.added", object_label="charlie")
    assert event.changes["reason"] == "incident 7"


def test_a_member_is_a_viewer_for_ever_unless_told_otherwise(world: World) -> None:
    assert run("add_member", "team_gamma", "charlie") == "charlie is viewer of team_gamma.\n"
    assert Membership.objects.get(user=world.charlie).expires_at is None


def test_an_account_is_made_if_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_PASSWORD", GOOD_PASSWORD)
    out = run("add_member", "team_gamma", "zoe", "--create", "--email", "Zoe@EXAMPLE.com")
    assert out == "zoe is viewer of team_gamma.\n"
    zoe = User.objects.get(username="zoe")
    assert zoe.check_password(GOOD_PASSWORD)
    assert zoe.email == "Zoe@example.com"
    assert not zoe.is_staff
    assert not zoe.is_superuser
    assert AccountEvent.objects.filter(user=zoe, action="account_created").exists()


def test_a_password_is_read_from_a_file(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(f"{GOOD_PASSWORD}\n")
    monkeypatch.setenv("BULKHEAD_PASSWORD_FILE", str(file))
    run("add_member", "team_gamma", "zoe", "--create")
    assert User.objects.get(username="zoe").check_password(GOOD_PASSWORD)


def test_without_a_password_nobody_can_sign_in_with_one(world: World) -> None:
    assert "has no password" in run("add_member", "team_gamma", "zoe", "--create")
    assert not User.objects.get(username="zoe").has_usable_password()


def test_an_account_that_is_there_is_left_as_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BULKHEAD_PASSWORD", GOOD_PASSWORD)
    before = User.objects.filter(username="charlie").values().get()
    run("add_member", "team_gamma", "charlie", "--create", "--email", "other@example.com")
    assert User.objects.filter(username="charlie").values().get() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["team_omega", "charlie"], "There is no team team_omega."),
        (["team_gamma", "zoe"], "There is no account zoe."),
        (["team_gamma", "gina"], "This person is a member already; change the role instead."),
        (["team_gamma", "charlie", "--role", "king"], "invalid choice: 'king'"),
        (["team_gamma", "charlie", "--expires", "soon"], "--expires soon is no date such as"),
        (["team_gamma", "charlie", "--expires", "2020-01-01"], "--expires is in the past."),
        (["team_gamma", "z z", "--create"], "Enter a valid username."),
        (["team_gamma", "zoe", "--create", "--email", "zoe"], "Enter a valid email address."),
    ],
)
def test_a_person_who_cannot_be_let_in_is_explained(
    world: World, words: list[str], message: str
) -> None:
    people, members = User.objects.count(), Membership.objects.count()
    assert message in refusal("add_member", *words)
    assert (User.objects.count(), Membership.objects.count()) == (people, members)


def test_a_weak_password_makes_no_account(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_PASSWORD", "short")
    assert "too short" in refusal("add_member", "team_gamma", "zoe", "--create")
    assert not User.objects.filter(username="zoe").exists()


def test_a_deactivated_account_is_not_let_in(world: World) -> None:
    User.objects.filter(username="charlie").update(is_active=False)
    assert refusal("add_member", "team_gamma", "charlie") == "The account charlie is deactivated."


# --- create_token, revoke_token ------------------------------------------------------------


def printed(*words: str) -> tuple[str, str]:
    """Run create_token; return the token, which must stand alone, and what is said beside it."""
    out, err = StringIO(), StringIO()
    call_command("create_token", *words, stdout=out, stderr=err)
    secret = out.getvalue().removesuffix("\n")
    assert tokens.TOKEN.fullmatch(secret)
    assert secret not in err.getvalue()
    return secret, err.getvalue()


def opened(secret: str, team: str = "") -> tuple[str, str, str | None, bool]:
    """Return which team the token opens, as whom, in which role, and whether it only reads."""
    credential = tokens.credential(secret, team)
    assert credential is not None
    with token_scope(credential) as scope:
        return scope.slug, scope.actor_label, scope.role, scope.reads_only


def test_a_persons_token_is_printed_alone(world: World) -> None:
    secret, said = printed("gina")
    assert opened(secret) == ("team_gamma", "gina", "contributor", True)
    assert said.startswith("Made a token for gina: scope read, opens any team of the person, ")
    token = ApiToken.objects.get()
    assert (token.name, token.tenant, token.created_by) == ("command line", None, None)
    assert (token.expires_at - timezone.now()).days in (89, 90)
    secret, said = printed(
        *("gina", "--team", "team_gamma", "--scope", "write", "--days", "7", "--name", "laptop")
    )
    assert opened(secret) == ("team_gamma", "gina", "contributor", False)
    assert "scope write, opens team_gamma" in said
    with tenant_scope(world.gamma):
        event = AuditEvent.objects.get(action="token.created")
    assert (event.actor_label, event.object_label) == ("system", "laptop")


def test_a_robot_is_made_if_there_is_none(world: World) -> None:
    ci = ("--robot", "ci", "--team", "team_alpha")
    first, said = printed(*ci, "--role", "contributor", "--scope", "write")
    assert opened(first) == ("team_alpha", "robot.team_alpha.ci", "contributor", False)
    assert said.splitlines()[0] == "Made the robot robot.team_alpha.ci as contributor."
    second, said = printed(*ci)
    assert opened(second)[1:] == ("robot.team_alpha.ci", "contributor", True)
    assert len(said.splitlines()) == 1
    assert opened(first)[0] == "team_alpha"
    viewer, _ = printed("--robot", "reader", "--team", "team_alpha")
    assert opened(viewer)[2] == "viewer"
    assert [robot.user.robot_name for robot in robots.robots_of(world.alpha)] == ["ci", "reader"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "one of the arguments username --robot is required"),
        (["gina", "--robot", "ci"], "not allowed with argument"),
        (["nobody"], "There is no account nobody."),
        (["gina", "--team", "team_omega"], "There is no team team_omega."),
        (["gina", "--team", "team_alpha"], "Only a member of the team"),
        (["gina", "--scope", "READ"], "invalid choice: 'READ'"),
        (["gina", "--days", "0"], "A token lives for 1 to 365 days."),
        (["gina", "--days", "366"], "A token lives for 1 to 365 days."),
        (["gina", "--days", "soon"], "invalid int value"),
        (["gina", "--name", ""], "Use 1 to 100 characters"),
        (["gina", "--role", "viewer"], "--role is for a robot"),
        (["--robot", "ci"], "--robot needs the --team"),
        (["--robot", "C I", "--team", "team_alpha"], "Use 1 to 40 lower-case letters"),
        (["--robot", "ci", "--team", "team_alpha", "--role", "admin"], "invalid choice: 'admin'"),
        (["--robot", "ci", "--team", "team_alpha", "--days", "999"], "1 to 365 days"),
        (["--robot", "old", "--team", "team_alpha", "--role", "viewer"], "already, as maintainer"),
        (["robot.team_alpha.old"], "is a robot: name it by --robot, --team."),
    ],
)
def test_a_token_that_cannot_be_made_is_explained(
    world: World, words: list[str], message: str
) -> None:
    robots.create_robot(world.alpha, "old", "maintainer")
    assert message in refusal("create_token", *words)
    assert not ApiToken.objects.exists()
    assert User.objects.exclude(robot_of=None).count() == 1


def test_a_deactivated_person_gets_no_token(world: World) -> None:
    User.objects.filter(username="gina").update(is_active=False)
    assert refusal("create_token", "gina") == "This account is deactivated."


def test_a_token_is_revoked_by_its_beginning(world: World) -> None:
    secret, _ = printed("gina", "--team", "team_gamma")
    prefix = secret[: tokens.PREFIX_CHARS]
    assert run("revoke_token", prefix) == f"{prefix} of gina is revoked.\n"
    assert not ApiToken.objects.living().exists()
    # A whole token that leaked is taken too, and nothing but its beginning is repeated.
    assert run("revoke_token", secret) == f"{prefix} of gina was revoked already.\n"
    assert refusal("revoke_token", "bhw_nothing0") == "There is no token bhw_nothing0."
    with tenant_scope(world.gamma):
        assert AuditEvent.objects.filter(action="token.revoked").count() == 1


# --- as processes --------------------------------------------------------------------------


@committed
def test_commands_end_with_a_status_and_one_sentence() -> None:
    make_world()
    done: dict[str, Any] = {
        "import": manage("import_models", "-", feed='{"team_gamma": ["model4"]}'),
        "list": manage("list_models", "--team", "team_gamma"),
    }
    assert {name: process.returncode for name, process in done.items()} == dict.fromkeys(done, 0)
    token = manage("create_token", "gina", "--days", "1")
    assert (token.returncode, token.stderr.split(":")[0]) == (0, "Made a token for gina")
    assert tokens.TOKEN.fullmatch(token.stdout.removesuffix("\n"))
    assert done["import"].stdout == "team_gamma: 1 created, 0 updated, 0 unchanged\n"
    assert done["list"].stdout == f"['{CANARY} own', 'fraud', 'model4']\n"
    for process, sentence in (
        (manage("list_models", "--team", "team_omega"), "There is no team team_omega."),
        (manage("import_models", "-", feed="{"), "This is not JSON: Expecting property name"),
    ):
        assert process.returncode == 1
        assert process.stdout == ""
        assert process.stderr.startswith(f"CommandError: {sentence}")
        assert process.stderr.count("\n") == 1
