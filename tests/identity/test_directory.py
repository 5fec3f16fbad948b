"""Tenants, memberships and roles: who gets in as what, and the events that say so."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.exceptions import ValidationError
from django.db import DatabaseError, IntegrityError, transaction
from django.utils import timezone

from tenants.access import ABILITIES, share
from tenants.identity import directory
from tenants.isolation.credentials import NotAMember
from tenants.isolation.scope import member_scope, tenant_scope
from tenants.models import (
    RESERVED_SLUGS,
    AccountEvent,
    AuditEvent,
    Membership,
    Role,
    Tenant,
    User,
)
from tests.support.people import World, committed, make_user, make_world
from tests.support.threads import at_once

GOOD_SLUGS = ("a", "a1", "team-x", "team_x-2", "x" * 40, "administrators", "apis", "kube")
BAD_SLUGS = (
    *("", "A", "Team", "1a", "-a", "_a", "a-", "a_", "a b", "a.b", "a/b", "é", "x" * 41, "a\n"),
    *(" a", "a ", "\u0430", "a\x00", "%61", "..", "kube-system", "kube_system", "openshift-x"),
    *("ajax_api", "static_files"),
)


def events(tenant: Tenant) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Return the team's events about people and itself, oldest first."""
    with tenant_scope(tenant):
        found = AuditEvent.objects.order_by("created_at").exclude(
            object_type__in=["registeredmodel", "modelversion"]
        )
        return [(e.action, e.actor_label, e.object_label, e.changes) for e in found]


# --- tenants -------------------------------------------------------------------------------


def test_good_slugs(db: None) -> None:
    for slug in GOOD_SLUGS:
        tenant = directory.create_tenant(slug)
        assert (tenant.slug, tenant.name, tenant.is_suspended) == (slug, slug, False)


def test_bad_and_reserved_slugs_are_refused_and_nothing_is_made(db: None) -> None:
    for slug in (*BAD_SLUGS, *RESERVED_SLUGS):
        with pytest.raises(ValidationError) as caught:
            directory.create_tenant(slug)
        assert "slug" in caught.value.message_dict, slug
    assert not Tenant.objects.exists()


def test_the_database_refuses_a_bad_slug_too(db: None) -> None:
    for slug in ("", "A", "1a", "a-", "a/b", "é", "a b"):
        with pytest.raises(DatabaseError), transaction.atomic():
            directory.add_tenant(Tenant(slug=slug, name="x"), admin=None)


@pytest.mark.parametrize("slug", ["team_alpha", "team-alpha"])
def test_slugs_are_unique_with_dash_and_underscore_equal(world: World, slug: str) -> None:
    with pytest.raises(ValidationError):
        directory.create_tenant(slug)
    with pytest.raises(IntegrityError), transaction.atomic():
        directory.add_tenant(Tenant(slug=slug, name="x"), admin=None)


def test_a_slug_never_changes(world: World) -> None:
    world.alpha.slug = "other"
    with pytest.raises(IntegrityError), transaction.atomic():
        world.alpha.save()
    assert directory.update_tenant(world.alpha).pk == world.alpha.pk
    assert Tenant.objects.get(pk=world.alpha.pk).slug == "team_alpha"


def test_a_new_tenant_has_its_first_admin_and_says_so(world: World) -> None:
    tenant = directory.create_tenant(
        "fresh", "Fresh", contact="c", description="d", admin=world.charlie, actor=world.dana
    )
    assert (tenant.name, tenant.contact, tenant.description) == ("Fresh", "c", "d")
    assert [(m.user, m.role) for m in tenant.memberships.all()] == [(world.charlie, Role.ADMIN)]
    assert set(tenant.group.user_set.all()) == {world.charlie}
    assert events(tenant) == [
        ("tenant.created", "dana", "fresh", {"name": "Fresh", "size": "small"}),
        ("member.added", "dana", "charlie", {"from": None, "to": "admin", "reason": ""}),
    ]
    # Making a tenant lets its maker into nothing.
    with pytest.raises(NotAMember), member_scope(world.dana, "fresh"):
        pytest.fail("let in")


def test_suspending_and_resuming_is_written_once(world: World) -> None:
    before = events(world.alpha)
    directory.suspend_tenant(world.alpha, world.dana)
    directory.suspend_tenant(world.alpha, world.dana)
    assert Tenant.objects.get(pk=world.alpha.pk).is_suspended
    with member_scope(world.alice, "team_alpha") as scope:
        assert scope.suspended
    directory.resume_tenant(world.alpha, world.dana)
    assert not Tenant.objects.get(pk=world.alpha.pk).is_suspended
    assert events(world.alpha)[len(before) :] == [
        ("tenant.suspended", "dana", "team_alpha", {"from": "active", "to": "suspended"}),
        ("tenant.resumed", "dana", "team_alpha", {"from": "suspended", "to": "active"}),
    ]


def test_an_edit_of_a_tenant_is_written_with_what_changed(world: World) -> None:
    before = events(world.alpha)
    world.alpha.name, world.alpha.contact = "New", "somebody"
    directory.update_tenant(world.alpha, actor=world.dana)
    directory.update_tenant(world.alpha, actor=world.dana)
    changes = {
        "from": {"name": "Alpha", "contact": ""},
        "to": {"name": "New", "contact": "somebody"},
    }
    assert events(world.alpha)[len(before) :] == [("tenant.updated", "dana", "team_alpha", changes)]


# --- members -------------------------------------------------------------------------------


def test_adding_changing_and_removing_is_written_and_the_group_follows(world: World) -> None:
    before = events(world.alpha)
    until = timezone.now() + timedelta(hours=1)
    member = directory.add_member(
        world.alpha, world.dana, Role.VIEWER, reason="help", expires_at=until, actor=world.dana
    )
    assert world.alpha.group in world.dana.groups.all()
    directory.change_role(member, Role.MAINTAINER, world.alice)
    directory.change_role(member, Role.MAINTAINER, world.alice)
    directory.remove_member(member, world.alice)
    assert not world.dana.groups.exists()
    added = {"from": None, "to": "viewer", "reason": "help", "expires_at": until.isoformat()}
    assert events(world.alpha)[len(before) :] == [
        ("member.added", "dana", "dana", added),
        ("member.role_changed", "alice", "dana", {"from": "viewer", "to": "maintainer"}),
        ("member.removed", "alice", "dana", {"from": "maintainer", "to": None}),
    ]
    # No event of it reached the other team.
    assert "dana" not in str(events(world.gamma))


def test_group_and_memberships_are_the_same_people(world: World) -> None:
    for tenant in (world.alpha, world.gamma):
        members = {membership.user for membership in tenant.memberships.all()}
        assert set(tenant.group.user_set.all()) == members


def test_nobody_is_added_twice_or_in_an_unknown_role(world: World) -> None:
    before = events(world.alpha)
    for user, role in ((world.bob, Role.ADMIN), (world.charlie, "owner"), (world.charlie, "")):
        with pytest.raises(ValidationError):
            directory.add_member(world.alpha, user, role)
    with pytest.raises(ValidationError):
        directory.change_role(world.bob.memberships.get(), "owner")
    assert world.bob.memberships.get().role == Role.VIEWER
    assert events(world.alpha) == before


def test_the_last_admin_stays(world: World) -> None:
    alice = world.alice.memberships.get()
    before = events(world.alpha)
    other = directory.add_member(world.alpha, world.charlie, Role.ADMIN)
    # One whose time is over, or whose account is closed, is no admin who could help.
    other.expires_at = timezone.now() - timedelta(seconds=1)
    other.save()
    _assert_kept(alice)
    Membership.objects.filter(pk=other.pk).update(expires_at=None)
    directory.deactivate_user(world.charlie)
    _assert_kept(alice)
    assert world.alice.memberships.get().role == Role.ADMIN
    assert len(events(world.alpha)) == len(before) + 1
    directory.set_active(world.charlie, active=True)
    directory.remove_member(alice)
    assert not world.alice.memberships.exists()


def _assert_kept(admin: Membership) -> None:
    with pytest.raises(ValidationError, match="last admin"):
        directory.remove_member(admin)
    with pytest.raises(ValidationError, match="last admin"):
        directory.change_role(admin, Role.MAINTAINER)


def test_an_admin_of_one_team_counts_for_no_other(world: World) -> None:
    directory.add_member(world.gamma, world.alice, Role.ADMIN)
    with pytest.raises(ValidationError, match="last admin"):
        directory.remove_member(world.alice.memberships.get(tenant=world.alpha))


def test_accounts_are_closed_and_opened_in_writing(world: World) -> None:
    directory.deactivate_user(world.bob, world.dana)
    directory.deactivate_user(world.bob, world.dana)
    directory.set_active(world.bob, active=True)
    found = AccountEvent.objects.filter(user=world.bob).order_by("id")
    assert [(event.action, event.changes) for event in found] == [
        ("account_deactivated", {"by": "dana"}),
        ("account_activated", {"by": "system"}),
    ]


# --- permissions ---------------------------------------------------------------------------

EVERY_PERMISSION = sorted(frozenset().union(*ABILITIES.values()))


def may(person: User, perm: str, obj: Any = None) -> bool:
    """Ask as a new request does: with an account that has cached no permissions."""
    return User.objects.get(pk=person.pk).has_perm(perm, obj)


def test_every_role_includes_the_ones_below(db: None) -> None:
    roles = [ABILITIES[role] for role in Role]
    for lower, higher in pairwise(roles):
        assert lower < higher
    assert {perm for perm in EVERY_PERMISSION if not _exists(perm)} == set()


def _exists(perm: str) -> bool:
    app, codename = perm.split(".")
    return Permission.objects.filter(content_type__app_label=app, codename=codename).exists()


def test_the_role_answers_in_its_own_team_and_nowhere_else(world: World) -> None:
    own, theirs = world.model(world.alpha, "fraud"), world.model(world.gamma, "fraud")
    directory.add_member(world.gamma, world.mia, Role.VIEWER)
    for person, role in (("bob", "viewer"), ("carol", "contributor"), ("mia", "maintainer")):
        with member_scope(world.person(person), "team_alpha"):
            for perm in EVERY_PERMISSION:
                expected = perm in ABILITIES[role]
                assert may(world.person(person), perm) == expected, (person, perm)
                if perm.startswith("models_registry."):
                    assert may(world.person(person), perm, own) == expected, (person, perm)
                    assert not may(world.person(person), perm, theirs), (person, perm)
            # Asked about somebody else it says nothing.
            assert not may(world.alice, "models_registry.view_registeredmodel")
        assert not may(world.person(person), "models_registry.view_registeredmodel", own)
    with member_scope(world.mia, "team_gamma"):
        assert not may(world.mia, "models_registry.change_registeredmodel")


def test_no_superuser_and_no_bare_permission_gets_past_the_role(world: World) -> None:
    """Django's own backend would say yes to both, for the rows of every team."""
    fraud = world.model(world.alpha, "fraud")
    directory.add_member(world.alpha, world.dana, Role.VIEWER, reason="help")
    everything = Permission.objects.all()
    world.bob.user_permissions.set(everything)
    world.alpha.group.permissions.set(everything)
    for person in (world.dana, world.bob):
        for scope in (member_scope(person, "team_alpha"), tenant_scope(world.gamma, person)):
            with scope:
                for perm in EVERY_PERMISSION:
                    if perm in ABILITIES[Role.VIEWER] or perm == "tenants.change_tenant":
                        continue
                    assert not may(person, perm), (person, perm)
                    assert not may(person, perm, fraud), (person, perm)
        assert not may(person, "models_registry.view_registeredmodel")


def test_a_grant_answers_for_reading_the_one_model(world: World) -> None:
    shared, other = world.model(world.gamma, "fraud"), world.model(world.gamma, "CANARY own")
    view, change = (f"models_registry.{verb}_registeredmodel" for verb in ("view", "change"))
    with tenant_scope(world.gamma, world.hugo):
        share(shared, with_tenant=world.alpha)
    directory.add_member(world.gamma, world.charlie, Role.VIEWER)
    with member_scope(world.bob, "team_alpha"):
        assert may(world.bob, view, shared)
        assert not may(world.bob, view, other)
        assert not may(world.bob, change, shared)
    with member_scope(world.gina, "team_gamma"):
        assert may(world.gina, view, shared)
    # What was shared with a team is no longer read by whom the team lost.
    directory.remove_member(world.bob.memberships.get())
    with tenant_scope(world.gamma, world.bob):
        assert not may(world.bob, view, shared)


def test_a_closed_account_may_nothing(world: World) -> None:
    with member_scope(world.alice, "team_alpha"):
        assert may(world.alice, "models_registry.view_registeredmodel")
        directory.deactivate_user(world.alice)
        assert not may(world.alice, "models_registry.view_registeredmodel")
        assert not may(world.alice, "tenants.manage_members")


# --- at the same time ----------------------------------------------------------------------


@committed
def test_changes_of_members_at_the_same_time() -> None:
    """Two admins who remove each other leave one; two who add one person add them once."""
    world = make_world()
    for _ in range(3):
        both = [
            world.alice.memberships.filter(tenant=world.alpha).first()
            or directory.add_member(world.alpha, world.alice, Role.ADMIN),
            world.charlie.memberships.filter(tenant=world.alpha).first()
            or directory.add_member(world.alpha, world.charlie, Role.ADMIN),
        ]
        results = at_once(*[lambda m=m: directory.remove_member(m) for m in both])
        assert sorted(type(result).__name__ for result in results) == [
            "NoneType",
            "ValidationError",
        ]

    left = Membership.objects.get(tenant=world.alpha, role=Role.ADMIN)
    dana = directory.add_member(world.alpha, world.dana, Role.ADMIN)
    demoted = at_once(*[lambda m=m: directory.change_role(m, Role.VIEWER) for m in (left, dana)])
    assert sorted(type(result).__name__ for result in demoted) == ["NoneType", "ValidationError"]
    assert Membership.objects.filter(tenant=world.alpha, role=Role.ADMIN).count() == 1

    erin = make_user("erin")
    added = at_once(*[lambda: directory.add_member(world.alpha, erin, Role.VIEWER)] * 3)
    assert sorted(type(result).__name__ for result in added) == [
        "Membership",
        "ValidationError",
        "ValidationError",
    ]

    made = at_once(
        *[lambda s=s: directory.create_tenant(s) for s in ("team-new", "team_new", "team-new")]
    )
    assert len([tenant for tenant in made if isinstance(tenant, Tenant)]) == 1
    assert all(isinstance(r, Tenant | ValidationError | IntegrityError) for r in made)
    assert Tenant.objects.filter(slug__startswith="team").count() == 3
