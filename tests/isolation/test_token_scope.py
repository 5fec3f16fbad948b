"""A token opens the scope of one team, proven anew each time, and nothing else."""

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from models_registry.models import RegisteredModel
from tenants.identity import directory, tokens
from tenants.isolation.credentials import (
    BadToken,
    ContradictsToken,
    Credential,
    NotAMember,
    WhichTeam,
)
from tenants.isolation.scope import Scope, scope_or_none, token_scope
from tenants.models import ApiToken, Membership, User
from tenants.prepared import query_as
from tests.support.api import make_token
from tests.support.people import World, committed, make_world
from tests.support.sql import NAMES_OF_ALL_MODELS, NAMES_OF_MODELS, column


def opened(secret: str, team: str = "") -> Scope:
    """Return the scope that the token opens for writing and for reading: the same."""
    credential = tokens.credential(secret, team)
    assert credential is not None
    with token_scope(credential) as scope:
        assert scope_or_none() is scope
        assert RegisteredModel.objects.filter(tenant_id=scope.tenant_id).exists()
    read, [(names,)] = query_as(credential, NAMES_OF_MODELS, [])
    assert read == scope
    assert "fraud" in names
    assert scope_or_none() is None
    assert column("SELECT current_setting('bulkhead.tenant_id', true)") in ([""], [None])
    return scope


def refused(secret: str, error: type[Exception], team: str = "") -> None:
    """Fail unless both ways of opening a scope raise ``error`` and leave none open."""
    credential = tokens.credential(secret, team)
    assert credential is not None
    with pytest.raises(error), token_scope(credential):
        pytest.fail("opened")
    with pytest.raises(error):
        query_as(credential, NAMES_OF_MODELS, [])
    assert scope_or_none() is None
    assert column("SELECT current_setting('bulkhead.tenant_id', true)") in ([""], [None])


def test_it_opens_the_only_team_of_its_holder(world: World) -> None:
    scope = opened(make_token(world.gina))
    assert (scope.slug, scope.role, scope.actor_label) == ("team_gamma", "contributor", "gina")
    assert not scope.reads_only


@pytest.mark.parametrize("team", ["team_gamma", "team-gamma"])
def test_underscore_and_dash_are_equal_in_a_teams_name(world: World, team: str) -> None:
    assert opened(make_token(world.gina), team).slug == "team_gamma"


def test_a_team_of_others_and_one_that_is_not_there_are_refused_alike(world: World) -> None:
    secret = make_token(world.gina)
    refused(secret, NotAMember, "team_alpha")
    refused(secret, NotAMember, "team_nobod")


def test_one_of_several_teams_must_be_named(world: World) -> None:
    directory.add_member(world.alpha, world.gina, "viewer")
    secret = make_token(world.gina)
    credential = tokens.credential(secret)
    assert credential is not None
    with pytest.raises(WhichTeam) as found, token_scope(credential):
        pytest.fail("opened")
    assert found.value.slugs == ["team_alpha", "team_gamma"]
    refused(secret, WhichTeam)
    assert opened(secret, "team-alpha").role == "viewer"


def test_a_bound_token_opens_its_own_team_alone(world: World) -> None:
    directory.add_member(world.alpha, world.gina, "viewer")
    secret = make_token(world.gina, tenant=world.gamma)
    assert opened(secret).slug == "team_gamma"
    refused(secret, ContradictsToken, "team_alpha")
    refused(secret, ContradictsToken, "team_nobod")


def test_expired_revoked_and_wrong_tokens_open_nothing(world: World) -> None:
    """Expired, revoked, wrong, deactivated, removed, expired membership: one and the same."""
    now = timezone.now()
    refused(make_token(world.gina, expires_at=now - timedelta(minutes=1)), BadToken)
    refused(make_token(world.gina, revoked_at=now), BadToken)
    good = make_token(world.gina)
    refused(good[:-1] + ("a" if good[-1] != "a" else "b"), BadToken)
    assert tokens.credential(f"{good}x") is None
    assert tokens.credential(good[:-1] + "ä") is None
    membership = Membership.objects.get(user=world.gina)
    membership.expires_at = now - timedelta(minutes=1)
    membership.save()
    refused(good, BadToken)
    membership.delete()
    refused(good, BadToken, "team_gamma")
    directory.deactivate_user(world.alice)
    refused(make_token(world.alice), BadToken)


def test_a_robot_opens_its_team_alone_whatever_it_is_a_member_of(world: World) -> None:
    robot = User.objects.create(username="robo", robot_of=world.gamma)
    for tenant in (world.alpha, world.gamma):
        Membership.objects.create(tenant=tenant, user=robot, role="viewer")
    assert opened(make_token(robot)).slug == "team_gamma"
    refused(make_token(robot), ContradictsToken, "team_alpha")


def test_a_token_ends_when_its_maker_leaves(world: World) -> None:
    robot = User.objects.create(username="robo", robot_of=world.gamma)
    Membership.objects.create(tenant=world.gamma, user=robot, role="viewer")
    secret = make_token(robot, created_by=world.gina)
    assert opened(secret).actor_label == "robo"
    directory.remove_member(Membership.objects.get(user=world.gina))
    refused(secret, BadToken)


def test_a_reading_token_takes_the_right_to_write_away(world: World) -> None:
    scope = opened(make_token(world.hugo, "read"))
    assert scope.reads_only and scope.role == "admin"


def test_its_use_is_marked_once_a_minute(world: World) -> None:
    secret = make_token(world.gina)
    opened(secret)
    row = ApiToken.objects.get()
    assert row.last_used_at is not None
    long_ago = timezone.now() - timedelta(minutes=2)
    for before, moved in ((timezone.now() - timedelta(seconds=30), False), (long_ago, True)):
        ApiToken.objects.update(last_used_at=before)
        opened(secret)
        row.refresh_from_db()
        assert (row.last_used_at != before) == moved


def test_without_a_scope_the_second_statement_finds_nothing(world: World) -> None:
    """Sent together with a token that opens nothing, it ran; it must have seen no row."""
    nothing = Credential("bhw_nothing0", b"0" * 32)
    with pytest.raises(BadToken):
        query_as(nothing, NAMES_OF_MODELS, [])
    assert column(NAMES_OF_ALL_MODELS) == [None]


@committed
def test_outside_a_transaction_nothing_outlives_the_two_statements() -> None:
    """PostgreSQL makes them one transaction: the scope is there for the second and then gone."""
    world = make_world()
    assert not connection.in_atomic_block
    assert opened(make_token(world.gina)).slug == "team_gamma"
    refused(make_token(world.gina), NotAMember, "team_alpha")
    assert column(NAMES_OF_ALL_MODELS) == [None]
