"""Who is an active member: the scopes ask PostgreSQL, the pages ask Django, and both agree."""

from datetime import timedelta
from itertools import product

import pytest
from django.db import connection
from django.utils import timezone

from tenants.identity import robots, tokens
from tenants.isolation.credentials import BadToken, NotAMember
from tenants.isolation.scope import member_scope, token_scope
from tenants.isolation.statements import active
from tenants.models import Membership, User
from tests.support.api import make_token
from tests.support.people import World, make_user

#: When each membership ends, from now on; None: never. PostgreSQL's now() is the transaction's
#: beginning, so nothing ends within the time that a test takes.
ENDS = {
    "never": None,
    "in a year": timedelta(days=365),
    "in an hour": timedelta(hours=1),
    "an hour ago": timedelta(hours=-1),
    "a year ago": timedelta(days=-365),
    "no membership": None,
}
ACTIVE = {"never", "in a year", "in an hour"}


def let_in_until(world: World, user: User, end: str) -> None:
    """Give the person a membership of team_alpha that ends then, or none."""
    Membership.objects.filter(tenant=world.alpha, user=user).delete()
    if end == "no membership":
        return
    after = ENDS[end]
    Membership.objects.create(
        tenant=world.alpha,
        user=user,
        role="viewer",
        expires_at=None if after is None else timezone.now() + after,
    )


def opens_a_scope(user: User) -> bool:
    """Tell whether the person's session opens team_alpha."""
    try:
        with member_scope(user, "team_alpha"):
            return True
    except NotAMember:
        return False


def token_opens(secret: str) -> bool:
    """Tell whether the person's token opens team_alpha."""
    found = tokens.credential(secret, "team_alpha")
    assert found is not None
    try:
        with token_scope(found):
            return True
    except (BadToken, NotAMember):
        return False


@pytest.mark.parametrize(("end", "is_active"), list(product(ENDS, (True, False))))
def test_both_conditions_agree_on_who_is_an_active_member(
    world: World, end: str, is_active: bool
) -> None:
    secret = make_token(world.charlie)
    let_in_until(world, world.charlie, end)
    User.objects.filter(pk=world.charlie.pk).update(is_active=is_active)
    listed = Membership.objects.active().filter(tenant=world.alpha, user=world.charlie).exists()
    expected = is_active and end in ACTIVE
    assert (listed, opens_a_scope(world.charlie), token_opens(secret)) == (expected,) * 3


@pytest.mark.parametrize(("end", "is_active"), list(product(ENDS, (True, False))))
def test_a_robots_token_lasts_as_long_as_its_makers_membership(
    world: World, end: str, is_active: bool
) -> None:
    robot = robots.create_robot(world.alpha, "ci", "viewer", world.alice)
    secret = make_token(robot, tenant=world.alpha, created_by=world.mia)
    let_in_until(world, world.mia, end)
    User.objects.filter(pk=world.mia.pk).update(is_active=is_active)
    listed = Membership.objects.active().filter(tenant=world.alpha, user=world.mia).exists()
    assert listed == token_opens(secret) == (is_active and end in ACTIVE)


def test_the_sql_finds_the_memberships_that_the_orm_finds(world: World) -> None:
    """The scopes' statements and the queries on pages are two ways to ask one question."""
    people = []
    for number, (end, is_active) in enumerate(product(ENDS, (True, False))):
        person = make_user(f"person{number}", is_active=is_active)
        let_in_until(world, person, end)
        people.append(person)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT member.id FROM tenants_membership member"
            f" JOIN tenants_user person ON person.id = member.user_id WHERE {active()}"
        )
        found = {row[0] for row in cursor.fetchall()}
    listed = Membership.objects.active()
    assert found == set(listed.values_list("id", flat=True))
    assert listed.filter(user__in=people).count() == len(ACTIVE)
