"""Tokens and robots: who may make them, what is kept of them, and when they end."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from threading import Event
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, transaction
from django.test import Client, override_settings
from django.utils import timezone

from models_registry import registry
from models_registry.models import RegisteredModel
from tenants.identity import directory, robots, tokens
from tenants.isolation.credentials import BadToken, NotAMember
from tenants.isolation.scope import Scope, member_scope, tenant_scope, token_scope
from tenants.models import AccountEvent, ApiToken, AuditEvent, Membership, Role, Tenant, User
from tests.support.answers import whole
from tests.support.people import PASSWORD, World, committed, make_user, make_world
from tests.support.sql import column
from tests.support.threads import at_once, wait_until_somebody_waits

BACKEND = "allauth.account.auth_backends.AuthenticationBackend"


def opened(secret: str, team: str = "") -> Scope:
    """Return the scope that the token opens."""
    credential = tokens.credential(secret, team)
    assert credential is not None
    with token_scope(credential) as scope:
        return scope


def is_dead(secret: str) -> bool:
    """Tell whether the token opens nothing any more."""
    try:
        opened(secret)
    except BadToken:
        return True
    return False


def token_events(tenant: Tenant) -> list[tuple[str, str, str]]:
    """Return what happened to tokens and robots in the team, oldest first: what, who, to what."""
    with tenant_scope(tenant):
        found = AuditEvent.objects.order_by("created_at", "id")
        found = found.filter(action__regex="^(token|robot)")
        return list(found.values_list("action", "actor_label", "object_label"))


def robot_with_token(
    tenant: Tenant, actor: User | None, role: str = Role.VIEWER, name: str = "ci"
) -> tuple[User, str]:
    """Make a robot and its token, as the page does."""
    robot = robots.create_robot(tenant, name, role, actor)
    _, secret = robots.rotate_token(robot, scope="write", days=30, actor=actor)
    return robot, secret


# --- making one ----------------------------------------------------------------------------


def test_a_token_is_what_was_asked_for_and_opens_the_team(world: World) -> None:
    before = timezone.now()
    token, secret = tokens.create_token(
        world.gina, " laptop ", scope="write", tenant=world.gamma, days=30, actor=world.gina
    )
    assert secret.startswith("bhw_")
    assert secret[: tokens.PREFIX_CHARS] == token.prefix
    assert (token.name, token.scope, token.tenant) == ("laptop", "write", world.gamma)
    assert token.created_by == world.gina
    assert before < token.expires_at - timedelta(days=30) < timezone.now()
    scope = opened(secret)
    assert (scope.slug, scope.role, scope.reads_only, scope.via) == (
        *("team_gamma", "contributor", False),
        token.prefix,
    )
    reading, secret = tokens.create_token(world.gina, "reader", scope="read")
    assert (reading.tenant, secret[:4]) == (None, "bhr_")
    assert (reading.expires_at - timezone.now()).days in (89, 90)
    assert opened(secret).reads_only


WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"name": ""}, "name"),
    ({"name": "  "}, "name"),
    ({"name": "x" * 101}, "name"),
    ({"name": "a\nb"}, "name"),
    ({"name": "a\x00b"}, "name"),
    ({"name": "a\x1bb"}, "name"),
    ({"name": "a\u202eb"}, "name"),
    ({"name": "a\ud800b"}, "name"),
    ({"days": 0}, "days"),
    ({"days": -1}, "days"),
    ({"days": 366}, "days"),
    ({"scope": ""}, "scope"),
    ({"scope": "admin"}, "scope"),
    # L22: another spelling would not be taken for the scope that only reads.
    ({"scope": "READ"}, "scope"),
    ({"scope": "Write"}, "scope"),
    ({"scope": "read "}, "scope"),
    ({"scope": "ｒead"}, "scope"),  # noqa: RUF001
)


@pytest.mark.parametrize(("wrong", "field"), WRONG)
def test_what_is_wrong_is_named_and_nothing_is_made(
    world: World, wrong: dict[str, Any], field: str
) -> None:
    """L22: scope names are taken as they are written, and neither folded nor trimmed."""
    asked = {"name": "good", "scope": "read", "days": 1, **wrong}
    with pytest.raises(ValidationError) as caught:
        tokens.create_token(world.gina, actor=world.gina, **asked)
    assert list(caught.value.message_dict) == [field]
    assert not ApiToken.objects.exists()


def test_limits_are_inside(world: World) -> None:
    for name, days in (("x", 1), ("模" * 100, 365), ("<script>'\"{{ 7*7 }}", 90)):
        token, _ = tokens.create_token(world.gina, name, scope="read", days=days)
        assert token.name == name


def test_the_database_takes_no_other_scope(world: World) -> None:
    """L22: not even from code that leaves the verbs out."""
    token, _ = tokens.create_token(world.gina, "x", scope="read")
    with pytest.raises(IntegrityError), transaction.atomic():
        ApiToken.objects.filter(pk=token.pk).update(scope="READ")


def test_nobody_makes_a_token_for_somebody_else_or_for_a_team_of_others(world: World) -> None:
    with pytest.raises(PermissionDenied):
        tokens.create_token(world.gina, "x", scope="read", actor=world.hugo)
    for tenant in (world.alpha, Tenant.objects.get(slug="team_alpha")):
        with pytest.raises(ValidationError):
            tokens.create_token(world.gina, "x", scope="read", tenant=tenant, actor=world.gina)
    Membership.objects.filter(user=world.gina).update(expires_at=timezone.now())
    with pytest.raises(ValidationError):
        tokens.create_token(world.gina, "x", scope="read", tenant=world.gamma, actor=world.gina)
    directory.deactivate_user(world.gina)
    with pytest.raises(ValidationError):
        tokens.create_token(world.gina, "x", scope="read")
    assert not ApiToken.objects.exists()


def test_a_person_has_so_many_living_tokens_and_no_more(world: World) -> None:
    for number in range(tokens.MAX_TOKENS):
        tokens.create_token(world.gina, f"{number}", scope="read")
    with pytest.raises(ValidationError, match="revoke one first"):
        tokens.create_token(world.gina, "one more", scope="read")
    tokens.create_token(world.hugo, "of somebody else", scope="read")
    first, second = ApiToken.objects.filter(user=world.gina)[:2]
    tokens.revoke_token(first)
    tokens.create_token(world.gina, "in its place", scope="read")
    ApiToken.objects.filter(pk=second.pk).update(expires_at=timezone.now())
    tokens.create_token(world.gina, "in the place of the expired one", scope="read")
    with pytest.raises(ValidationError):
        tokens.create_token(world.gina, "one more", scope="read")


def test_a_form_makes_one_token_however_often_it_is_sent(world: World) -> None:
    first, _ = tokens.create_token(world.gina, "x", scope="read", once="the form")
    with pytest.raises(tokens.AlreadyMade):
        tokens.create_token(world.gina, "another", scope="write", once="the form")
    other, _ = tokens.create_token(world.hugo, "x", scope="read", once="the form")
    assert first.pk != other.pk
    assert {token.pk.version for token in ApiToken.objects.all()} == {4}
    tokens.revoke_token(first)
    with pytest.raises(tokens.AlreadyMade):
        tokens.create_token(world.gina, "x", scope="read", once="the form")


# --- what is kept of it --------------------------------------------------------------------


def test_the_secret_is_in_no_table(world: World, as_: Callable[[User], Client]) -> None:
    """Of a token made by page, by verb and by rotation: not in rows, sessions, logs or caches."""
    browser = as_(world.alice)
    form = {"name": "page", "scope": "write", "team": "this", "days": "30", "once": "o" * 64}
    answer = browser.post("/t/team_alpha/tokens/", form)
    secrets = [answer.context["secret"], robot_with_token(world.alpha, world.alice)[1]]
    secrets.append(tokens.create_token(world.alice, "verb", scope="read")[1])
    browser.get("/t/team_alpha/activity/")
    tables = column("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'")
    assert len(tables) > 20
    with tenant_scope(world.alpha):
        found = 0
        for table in tables:
            if not column(f"SELECT has_table_privilege('{table}', 'SELECT')")[0]:
                continue
            text = "\n".join(column(f"SELECT t::text FROM {table} t"))
            found += text.count("bhw_")
            for secret in secrets:
                assert secret not in text, table
                assert secret[tokens.PREFIX_CHARS :] not in text, table
                assert secret[tokens.PREFIX_CHARS :].encode().hex() not in text, table
    assert found >= 4  # the prefixes are there, so the rows were read
    for secret in secrets:
        assert secret not in str(browser.session.items())


# --- ending one ----------------------------------------------------------------------------


def test_a_revoked_token_opens_nothing_and_is_revoked_once(world: World) -> None:
    token, secret = tokens.create_token(world.gina, "x", scope="read", tenant=world.gamma)
    opened(secret)
    tokens.revoke_token(token, world.gina)
    assert is_dead(secret)
    when = token.revoked_at
    assert when is not None
    tokens.revoke_token(token, world.gina)
    token.refresh_from_db()
    assert token.revoked_at == when
    assert token_events(world.gamma) == [
        ("token.created", "system", "x"),
        ("token.revoked", "gina", "x"),
    ]


def test_events_name_the_token_and_never_its_secret(world: World) -> None:
    token, secret = tokens.create_token(
        world.gina, "bound", scope="write", tenant=world.gamma, actor=world.gina
    )
    tokens.revoke_token(token, world.dana)
    with tenant_scope(world.gamma):
        made, ended = AuditEvent.objects.filter(action__startswith="token").order_by("created_at")
    assert (made.action, made.actor, made.object_label) == ("token.created", world.gina, "bound")
    assert made.object_id == token.pk
    assert made.changes == {
        "holder": "gina",
        "prefix": token.prefix,
        "scope": "write",
        "expires_at": token.expires_at.isoformat(),
    }
    assert (ended.action, ended.actor_label) == ("token.revoked", "dana")
    free, other = tokens.create_token(world.gina, "secret project", scope="read", actor=world.gina)
    tokens.revoke_token(free, world.gina)
    account = AccountEvent.objects.filter(action__startswith="token").order_by("id")
    assert [(e.action, e.user, e.changes["prefix"], e.changes["by"]) for e in account] == [
        ("token_created", world.gina, free.prefix, "gina"),
        ("token_revoked", world.gina, free.prefix, "gina"),
    ]
    assert not [e for e in account if "secret project" in str(e.__dict__)]
    for event in (made, ended, *account):
        assert secret not in str(event.__dict__)
        assert other not in str(event.__dict__)
    assert not token_events(world.alpha)


def test_a_removed_members_tokens_end_and_stay_ended(world: World) -> None:
    """L21, L22: those bound to the team; who comes back makes new ones."""
    directory.add_member(world.alpha, world.gina, Role.VIEWER)
    _, bound = tokens.create_token(world.gina, "bound", scope="read", tenant=world.gamma)
    _, elsewhere = tokens.create_token(world.gina, "elsewhere", scope="read", tenant=world.alpha)
    _, anywhere = tokens.create_token(world.gina, "anywhere", scope="read")
    _, hugos = tokens.create_token(world.hugo, "hugo's", scope="read", tenant=world.gamma)
    membership = world.gina.memberships.get(tenant=world.gamma)
    directory.remove_member(membership, world.hugo)
    assert is_dead(bound)
    assert opened(elsewhere).slug == opened(anywhere).slug == "team_alpha"
    assert opened(hugos).slug == "team_gamma"
    with pytest.raises(NotAMember):
        opened(anywhere, "team_gamma")
    assert token_events(world.gamma)[-1] == ("token.revoked", "hugo", "bound")
    directory.add_member(world.gamma, world.gina, Role.CONTRIBUTOR)
    assert is_dead(bound)
    assert opened(anywhere, "team_gamma").role == "contributor"


def test_a_deactivated_persons_tokens_open_nothing_meanwhile(world: World) -> None:
    """L21: at the next request, bound or not."""
    made = [
        tokens.create_token(world.gina, "x", scope="read", tenant=tenant)[1]
        for tenant in (None, world.gamma)
    ]
    directory.deactivate_user(world.gina)
    assert all(map(is_dead, made))


# --- robots --------------------------------------------------------------------------------


def test_a_robot_is_a_member_of_its_team_alone(world: World) -> None:
    robot, secret = robot_with_token(world.alpha, world.alice, Role.MAINTAINER)
    assert (robot.username, robot.robot_name, robot.robot_of) == (
        *("robot.team_alpha.ci", "ci"),
        world.alpha,
    )
    assert [(m.tenant, m.role) for m in robot.memberships.all()] == [(world.alpha, "maintainer")]
    assert list(robot.groups.all()) == [world.alpha.group]
    assert not robot.has_usable_password()
    token = robot.tokens.get()
    assert (token.tenant, token.created_by) == (world.alpha, world.alice)
    scope = opened(secret)
    assert (scope.actor_label, scope.role) == ("robot.team_alpha.ci", "maintainer")
    assert token_events(world.alpha) == [
        ("robot.added", "alice", "ci"),
        ("token.created", "alice", "ci"),
    ]
    assert not token_events(world.gamma)


ROBOTS = (
    ({"name": ""}, "name"),
    ({"name": "Ci"}, "name"),
    ({"name": "c.i"}, "name"),
    ({"name": "-ci"}, "name"),
    ({"name": "ci\n"}, "name"),
    ({"name": "сi"}, "name"),  # noqa: RUF001
    ({"name": "x" * 41}, "name"),
    ({"role": "admin"}, "role"),
    ({"role": "Viewer"}, "role"),
    ({"role": ""}, "role"),
)


@pytest.mark.parametrize(("wrong", "field"), ROBOTS)
def test_a_robot_that_cannot_be_made_is_explained(
    world: World, wrong: dict[str, str], field: str
) -> None:
    asked = {"name": "ci", "role": "viewer", **wrong}
    with pytest.raises(ValidationError) as caught:
        robots.create_robot(world.alpha, asked["name"], asked["role"], world.alice)
    assert list(caught.value.message_dict) == [field]
    assert not User.objects.exclude(robot_of=None).exists()


def test_only_admins_of_the_team_make_robots(world: World) -> None:
    """L22: neither members of lower roles, nor other teams, nor the platform, nor a robot."""
    robot = robots.create_robot(world.alpha, "strong", Role.MAINTAINER, world.alice)
    expired = directory.add_member(world.alpha, world.charlie, Role.ADMIN)
    Membership.objects.filter(pk=expired.pk).update(expires_at=timezone.now())
    for actor in (world.bob, world.carol, world.mia, world.hugo, world.dana, robot, world.charlie):
        with pytest.raises(PermissionDenied):
            robots.create_robot(world.alpha, "ci", Role.VIEWER, actor)
        with pytest.raises(PermissionDenied):
            tokens.create_token(robot, "x", scope="read", actor=actor)
    # Not even one that some mistake has made an admin.
    Membership.objects.filter(user=robot).update(role="admin")
    with pytest.raises(PermissionDenied):
        robots.create_robot(world.alpha, "ci", Role.VIEWER, robot)
    assert not ApiToken.objects.exists()


def test_a_robots_token_is_bound_to_its_team_whatever_is_asked(world: World) -> None:
    robot = robots.create_robot(world.alpha, "ci", Role.VIEWER)
    for tenant in (None, world.gamma):
        token, secret = tokens.create_token(robot, "x", scope="read", tenant=tenant)
        assert token.tenant == world.alpha
        assert opened(secret).slug == "team_alpha"


def test_a_name_that_another_teams_robot_has_is_free(world: World) -> None:
    """L11: the answer tells nothing of the other team; in one's own, a name is there once."""
    robots.create_robot(world.gamma, "ci", Role.VIEWER, world.hugo)
    own = robots.create_robot(world.alpha, "ci", Role.VIEWER, world.alice)
    assert own.robot_of == world.alpha
    with pytest.raises(ValidationError, match="has a robot"):
        robots.create_robot(world.alpha, "ci", Role.VIEWER, world.alice)
    found = robots.robot_named(world.alpha, "ci")
    assert found is not None and found.user == own
    for name in ("ci.removed1", "", ".ci", "c\x00i", "%"):
        assert robots.robot_named(world.alpha, name) is None


@pytest.mark.parametrize("name", ["robot.team_alpha.ci", "Robot.x", "ROBOT."])
def test_a_person_cannot_take_a_robots_name(world: World, name: str) -> None:
    """L11: or the team could not use it, and would learn why."""
    with pytest.raises(ValidationError) as caught:
        User(username=name, password="x").full_clean()
    assert list(caught.value.message_dict) == ["username"]


def test_a_team_has_so_many_robots_and_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robots, "MAX_ROBOTS", 2)
    robots.create_robot(world.gamma, "a", Role.VIEWER)
    for name in ("a", "b"):
        robots.create_robot(world.alpha, name, Role.VIEWER)
    with pytest.raises(ValidationError, match="remove one first"):
        robots.create_robot(world.alpha, "c", Role.VIEWER)


# --- a robot signs in nowhere --------------------------------------------------------------


def test_a_robot_cannot_sign_in_even_with_a_password(world: World) -> None:
    """L22: by the page it gets what anybody gets who is wrong, or whose account is closed."""
    robot = robots.create_robot(world.alpha, "ci", Role.MAINTAINER, world.alice)
    assert authenticate(username=robot.username, password="") is None
    wrong = Client().post("/sign-in/", {"login": robot.username, "password": PASSWORD})
    nobody = Client().post("/sign-in/", {"login": "robot.team_alpha.no", "password": PASSWORD})
    assert whole(wrong, robot.username) == whole(nobody, "robot.team_alpha.no")
    robot.set_password(PASSWORD)
    robot.email = "ci@example.com"
    robot.save()
    for login in (robot.username, robot.email):
        browser = Client()
        answer = browser.post("/sign-in/", {"login": login, "password": PASSWORD})
        assert (answer.status_code, answer["Location"]) == (302, "/inactive/")
        assert browser.get("/t/team_alpha/models/")["Location"].startswith("/sign-in/")


def test_a_session_is_never_a_robots(world: World) -> None:
    """L22: made by any other door, it is nobody's at the next request."""
    robot = robots.create_robot(world.alpha, "ci", Role.MAINTAINER, world.alice)
    browser = Client()
    browser.force_login(robot, backend=BACKEND)
    for page in ("/", "/t/team_alpha/", "/t/team_alpha/tokens/"):
        assert browser.get(page)["Location"].startswith("/sign-in/"), page
    with pytest.raises(NotAMember), member_scope(robot, "team_alpha"):
        pytest.fail("let in")


def test_a_robot_is_let_into_no_other_team_and_runs_nothing(world: World) -> None:
    """L22: no second team, no admin, no platform; and it keeps no team administrable."""
    robot = robots.create_robot(world.alpha, "ci", Role.MAINTAINER, world.alice)
    for tenant in (world.gamma, world.alpha):
        with pytest.raises(ValidationError, match="A robot belongs to the team") as caught:
            directory.add_member(tenant, robot, Role.VIEWER)
        assert caught.value.error_dict["user"][0].code == "robot"
    with pytest.raises(ValidationError, match="A robot belongs"):
        directory.create_tenant("team_omega", admin=robot)
    membership = robot.memberships.get()
    with pytest.raises(ValidationError, match="maintainer at most"):
        directory.change_role(membership, Role.ADMIN, world.alice)
    for flag in ("is_staff", "is_superuser"):
        with pytest.raises(IntegrityError), transaction.atomic():
            User.objects.filter(pk=robot.pk).update(**{flag: True})
    Membership.objects.filter(pk=membership.pk).update(role="admin")
    with pytest.raises(ValidationError, match="last admin"):
        directory.remove_member(world.alice.memberships.get())


# --- a robot's token ends ------------------------------------------------------------------


def test_rotating_gives_a_new_token_and_ends_the_old_ones(world: World) -> None:
    robot, old = robot_with_token(world.alpha, world.alice)
    _, second = tokens.create_token(robot, "second", scope="read", actor=world.alice)
    _, others = robot_with_token(world.alpha, world.alice, name="other")
    token, new = robots.rotate_token(robot, scope="read", days=1, actor=world.alice, once="form")
    assert is_dead(old) and is_dead(second)
    assert opened(new).reads_only
    assert opened(others).slug == "team_alpha"
    # The same form again ends nothing.
    with pytest.raises(tokens.AlreadyMade):
        robots.rotate_token(robot, scope="read", days=1, actor=world.alice, once="form")
    opened(new)
    assert list(robot.tokens.living()) == [token]


def test_a_removed_robot_is_closed_and_its_name_is_another_robots(world: World) -> None:
    """L34: the new one is another account; nothing of the old one revives, whatever happens."""
    robot, old = robot_with_token(world.alpha, world.alice, Role.MAINTAINER)
    robots.remove_robot(robot.memberships.get(), world.alice)
    robot.refresh_from_db()
    assert not robot.is_active
    assert not robot.memberships.exists()
    assert not robot.groups.exists()
    assert is_dead(old)
    assert token_events(world.alpha)[2:] == [
        ("robot.removed", "alice", "ci"),
        ("token.revoked", "alice", "ci"),
    ]
    again, new = robot_with_token(world.alpha, world.alice)
    assert again.pk != robot.pk
    assert (again.username, opened(new).user_id) == ("robot.team_alpha.ci", again.pk)
    assert is_dead(old)
    directory.set_active(robot, active=True)
    assert is_dead(old)
    with pytest.raises(ValidationError):
        tokens.create_token(robot, "x", scope="read")
    robots.remove_robot(again.memberships.get(), world.alice)
    assert len(set(User.objects.exclude(robot_of=None).values_list("username", flat=True))) == 2


def test_a_robots_token_does_not_outlive_its_makers_membership(world: World) -> None:
    """L22: who was put out has seen the secret."""
    maker = directory.add_member(world.alpha, world.charlie, Role.ADMIN)
    robot, secret = robot_with_token(world.alpha, world.charlie)
    _, kept = robot_with_token(world.alpha, world.alice, name="kept")
    _, system = robot_with_token(world.alpha, None, name="system")
    directory.remove_member(maker, world.alice)
    assert is_dead(secret)
    assert token_events(world.alpha)[-1] == ("token.revoked", "alice", "ci")
    assert {opened(s).slug for s in (kept, system)} == {"team_alpha"}
    # Back in, what was made before stays ended.
    directory.add_member(world.alpha, world.charlie, Role.ADMIN)
    assert is_dead(secret)
    _, again = robots.rotate_token(robot, scope="read", days=1, actor=world.charlie)
    opened(again)


def test_a_robots_token_does_not_give_its_maker_more_than_the_role(world: World) -> None:
    """L22: an admin who becomes a viewer would go on as a maintainer, through the robot."""
    maker = directory.add_member(world.alpha, world.charlie, Role.ADMIN)
    _, strong = robot_with_token(world.alpha, world.charlie, Role.MAINTAINER, "strong")
    weak, weakly = robot_with_token(world.alpha, world.charlie, Role.CONTRIBUTOR, "weak")
    directory.change_role(maker, Role.MAINTAINER, world.alice)
    opened(strong)
    directory.change_role(maker, Role.CONTRIBUTOR, world.alice)
    assert is_dead(strong)
    opened(weakly)
    # Nor when the robot rises above its maker.
    directory.change_role(weak.memberships.get(), Role.MAINTAINER, world.alice)
    assert is_dead(weakly)
    assert token_events(world.alpha)[-2:] == [
        ("robot.role_changed", "alice", "weak"),
        ("token.revoked", "alice", "weak"),
    ]


# --- at the same time ----------------------------------------------------------------------


@committed
def test_tokens_and_robots_made_at_the_same_time() -> None:
    world = make_world()
    form = [lambda: tokens.create_token(world.gina, "x", scope="read", once="form")] * 4
    results = at_once(*form)
    assert sorted(type(result).__name__ for result in results) == [*["AlreadyMade"] * 3, "tuple"]

    for number in range(tokens.MAX_TOKENS - 2):
        tokens.create_token(world.gina, f"{number}", scope="read")
    results = at_once(*[lambda: tokens.create_token(world.gina, "last", scope="read")] * 4)
    assert [type(r).__name__ for r in results].count("tuple") == 1
    assert ApiToken.objects.living().filter(user=world.gina).count() == tokens.MAX_TOKENS

    made = at_once(*[lambda: robots.create_robot(world.alpha, "ci", Role.VIEWER, world.alice)] * 3)
    assert sorted(type(r).__name__ for r in made) == ["User", *["ValidationError"] * 2]

    # A member who is put out while making a token keeps none that a return would revive.
    for turn in range(5):
        erin = make_user(f"erin{turn}")
        membership = directory.add_member(world.gamma, erin, Role.VIEWER)
        at_once(
            partial(tokens.create_token, erin, "late", scope="read", tenant=world.gamma),
            partial(directory.remove_member, membership, world.hugo),
        )
        assert not ApiToken.objects.living().filter(user=erin).exists()

    token = ApiToken.objects.filter(user=world.gina)[0]
    before = AccountEvent.objects.count()
    at_once(*[lambda: tokens.revoke_token(ApiToken.objects.get(pk=token.pk), world.gina)] * 3)
    assert AccountEvent.objects.count() == before + 1


@committed
def test_a_member_is_put_out_while_a_token_of_theirs_writes() -> None:
    """The write ends, then the token; or each would wait for a row that the other holds."""
    world = make_world()
    _, secret = tokens.create_token(world.gina, "x", scope="write", tenant=world.gamma)
    credential = tokens.credential(secret)
    assert credential is not None
    membership = Membership.objects.get(user=world.gina, tenant=world.gamma)
    written = Event()

    def write() -> None:
        with token_scope(credential):
            registry.register_model("late")
            written.set()
            wait_until_somebody_waits()

    def put_out() -> None:
        assert written.wait(120)
        directory.remove_member(membership, world.hugo)

    assert at_once(write, put_out) == [None, None]
    assert is_dead(secret)
    with tenant_scope(world.gamma):
        assert RegisteredModel.objects.filter(name="late").exists()


def test_a_new_key_of_the_installation_ends_every_token(world: World) -> None:
    """What the table holds is worth nothing without the key."""
    _, secret = tokens.create_token(world.gina, "x", scope="read")
    opened(secret)
    with override_settings(SECRET_KEY="another"):
        assert is_dead(secret)
    opened(secret)
