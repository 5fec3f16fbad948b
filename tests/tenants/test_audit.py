"""The log: who did what, from where; refusals and sign-ins too; and nobody can edit it."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, transaction
from django.test import Client, override_settings
from django.utils import timezone

from models_registry import registry
from models_registry.models import RegisteredModel
from models_registry.validators import MAX_CARD_CHARS, MAX_DESCRIPTION_CHARS
from tenants import audit
from tenants.identity import directory
from tenants.isolation.credentials import NoTenant
from tenants.isolation.scope import tenant_scope
from tenants.models import AccountEvent, AuditEvent, Role, User
from tests.support.people import CANARY, PASSWORD, World
from tests.support.sql import FORBIDDEN, sqlstate

ADDRESS = "198.51.100.7"
TYPED = "hunter2, typed into the wrong field"


def team_events(world: World, action: str) -> list[AuditEvent]:
    with tenant_scope(world.alpha):
        return list(AuditEvent.objects.filter(action=action).order_by("created_at"))


def browser_of(user: User, address: str = ADDRESS) -> Client:
    browser = Client(REMOTE_ADDR=address)
    browser.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")
    return browser


# --- it stays as it was written ------------------------------------------------------------


def test_what_is_written_cannot_be_changed_or_deleted(world: World) -> None:
    audit.record_account("sign_in", world.alice)
    with tenant_scope(world.alpha):
        event = AuditEvent.objects.all()[0]
        account = AccountEvent.objects.all()[0]
        attempts: list[Any] = [
            lambda: AuditEvent.objects.update(actor_label="nobody"),
            lambda: AuditEvent.objects.all().delete(),
            lambda: event.save(),
            lambda: event.delete(),
            lambda: AccountEvent.objects.update(user=None),
            lambda: AccountEvent.objects.all().delete(),
            lambda: account.save(),
            lambda: account.delete(),
        ]
        for number, attempt in enumerate(attempts):
            with pytest.raises(DatabaseError) as caught, transaction.atomic():
                attempt()
            assert sqlstate(caught.value) == FORBIDDEN, number


def test_an_event_needs_a_team(world: World) -> None:
    with pytest.raises(NoTenant):
        audit.record("model.registered")


def test_an_event_of_the_longest_name_fits(world: World) -> None:
    with tenant_scope(world.alpha, world.alice):
        model = registry.register_model("x" * 256, description="y" * MAX_DESCRIPTION_CHARS)
        version = registry.add_version(model)
        registry.update_version(version, description="z" * MAX_DESCRIPTION_CHARS)
        registry.update_model(model, description="", card="c" * MAX_CARD_CHARS)
        longest = max(len(str(event.changes)) for event in AuditEvent.objects.all())
    assert 200 < longest < 1000


def test_events_come_newest_first_and_know_their_time(world: World) -> None:
    with tenant_scope(world.alpha):
        events = list(AuditEvent.objects.all())
    times = [event.created_at for event in events]
    assert times == sorted(times, reverse=True)
    assert timezone.now() - timedelta(minutes=5) < times[-1] <= times[0] <= timezone.now()


def test_a_command_writes_as_the_system(world: World) -> None:
    with tenant_scope(world.alpha):
        registry.register_model("by a command")
    [event] = [
        event
        for event in team_events(world, "model.registered")
        if event.object_label == "by a command"
    ]
    assert (event.actor, event.actor_label, event.ip) == (None, "system", None)


# --- requests ------------------------------------------------------------------------------


def test_a_change_made_on_a_page_names_the_person_and_the_address(world: World) -> None:
    browser_of(world.carol).post("/t/team_alpha/register/", {"name": "by hand"})
    event = team_events(world, "model.registered")[-1]
    assert (event.actor, event.actor_label, event.ip) == (world.carol, "carol", ADDRESS)
    assert event.object_label == "by hand"


def test_the_address_comes_from_a_header_only_behind_a_trusted_proxy(world: World) -> None:
    """L24: otherwise anybody could write another address into the log."""
    browser = browser_of(world.carol)
    chain = {"x-forwarded-for": "203.0.113.9, 192.0.2.1"}
    browser.post("/t/team_alpha/register/", {"name": "one"}, headers=chain)
    with override_settings(ALLAUTH_TRUSTED_PROXY_COUNT=1):
        browser.post("/t/team_alpha/register/", {"name": "two"}, headers=chain)
    assert [event.ip for event in team_events(world, "model.registered")][-2:] == [
        ADDRESS,
        "192.0.2.1",
    ]


DENIED = (
    ("bob", "POST", "register/", "models_registry.add_registeredmodel", "viewer"),
    ("bob", "GET", "models/fraud/edit/", "models_registry.change_registeredmodel", "viewer"),
    ("carol", "POST", "models/fraud/archive/", "models_registry.delete_registeredmodel", None),
    ("mia", "POST", "admin/members/", "tenants.manage_members", "maintainer"),
)


@pytest.mark.parametrize(("person", "method", "page", "perm", "role"), DENIED)
def test_a_refusal_is_written_although_nothing_else_is(
    world: World, person: str, method: str, page: str, perm: str, role: str | None
) -> None:
    data = {"name": TYPED, "user": world.bob.pk, "role": "admin"} if method == "POST" else None
    request = getattr(browser_of(world.person(person)), method.lower())
    assert request(f"/t/team_alpha/{page}", data).status_code == 403
    [event] = team_events(world, "access.denied")
    assert (event.actor_label, event.ip) == (person, ADDRESS)
    assert event.changes == {"needed": perm, "role": role or "contributor"}
    assert TYPED not in str(event.__dict__)
    assert world.bob.memberships.get().role == Role.VIEWER


def test_a_refusal_of_a_suspended_team_is_written(world: World) -> None:
    directory.suspend_tenant(world.alpha)
    answer = browser_of(world.alice).post("/t/team_alpha/register/", {"name": "new"})
    assert answer.status_code == 403
    assert len(team_events(world, "access.denied")) == 1
    with tenant_scope(world.alpha):
        assert not RegisteredModel.objects.filter(name="new").exists()


def test_what_a_stranger_tries_is_not_in_the_teams_log(world: World) -> None:
    """L15: or a stranger could fill it; and gina's own team does not see where she knocked."""
    before = {}
    for tenant in (world.alpha, world.gamma):
        with tenant_scope(tenant):
            before[tenant] = AuditEvent.objects.count()
    for person in (world.gina, world.charlie):
        assert browser_of(person).get("/t/team_alpha/models/fraud/").status_code == 404
    for tenant in (world.alpha, world.gamma):
        with tenant_scope(tenant):
            assert AuditEvent.objects.count() == before[tenant]


def test_the_activity_page_shows_the_teams_events_alone(world: World) -> None:
    """L15: neither the other team's events nor its people."""
    page = browser_of(world.bob).get("/t/team_alpha/activity/").content.decode()
    assert "ALPHA own" in page
    for word in (CANARY, "team_gamma", "gina", "hugo"):
        assert word not in page


# --- accounts ------------------------------------------------------------------------------


def account_events() -> list[tuple[str, str | None, str | None]]:
    found = AccountEvent.objects.select_related("user").order_by("id")
    return [
        (event.action, event.user.username if event.user else None, event.ip) for event in found
    ]


def test_signing_in_and_out_is_written(world: World) -> None:
    browser = Client(REMOTE_ADDR=ADDRESS)
    browser.post("/sign-in/", {"login": "alice", "password": PASSWORD})
    browser.post("/sign-out/")
    assert account_events() == [("sign_in", "alice", ADDRESS), ("sign_out", "alice", ADDRESS)]
    # Signing out without having signed in is nobody's event.
    browser.post("/sign-out/")
    assert len(account_events()) == 2


def test_a_failed_sign_in_is_written_without_what_was_typed(world: World) -> None:
    """People type their password into the field for the name."""
    directory.deactivate_user(world.mia)
    before = len(account_events())
    browser = Client(REMOTE_ADDR=ADDRESS)
    for login, password in (("alice", TYPED), (TYPED, PASSWORD), ("mia", TYPED)):
        browser.post("/sign-in/", {"login": login, "password": password})
    events = account_events()[before:]
    assert events == [("sign_in_failed", None, ADDRESS)] * 3
    for event in AccountEvent.objects.all():
        assert TYPED not in str(event.__dict__)
        assert PASSWORD not in str(event.__dict__)


def test_the_log_of_accounts_is_on_no_teams_page(world: World) -> None:
    Client().post("/sign-in/", {"login": "gina", "password": PASSWORD})
    page = browser_of(world.alice).get("/t/team_alpha/activity/").content.decode()
    assert "sign_in" not in page
    assert "gina" not in page
