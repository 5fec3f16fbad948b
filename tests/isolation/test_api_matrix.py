"""Every endpoint of the API for every kind of token by every method: the status, and no more.

A new endpoint fails here until the table says who may call it.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.core.cache import cache
from django.db import transaction
from django.urls import resolve
from django.utils import timezone

from tenants.api import ENDPOINTS
from tenants.identity import directory
from tenants.isolation.scope import tenant_scope
from tenants.models import AuditEvent, Membership, Role, User
from tests.support.answers import whole
from tests.support.api import Api, kept, make_token
from tests.support.api_endpoints import (
    FRAUD,
    MEMBERS,
    METHODS,
    TABLE,
    Row,
    place,
)
from tests.support.people import CANARY, World


@pytest.fixture
def members(world: World) -> dict[str, Api]:
    """The clients of alpha's members, each with a token that writes and opens all their teams."""
    return {name: Api(make_token(world.person(name))) for name in MEMBERS}


@pytest.fixture
def out(world: World) -> dict[str, Api]:
    """Those whose token opens nothing, or who send none: nobody may tell which."""
    now = timezone.now()
    good = make_token(world.alice)
    gone = User.objects.create(username="gone")
    directory.remove_member(directory.add_member(world.alpha, gone, Role.ADMIN))
    late = User.objects.create(username="late")
    Membership.objects.create(
        tenant=world.alpha, user=late, role=Role.ADMIN, expires_at=now - timedelta(hours=1)
    )
    left = User.objects.create(username="left", is_active=False)
    Membership.objects.create(tenant=world.alpha, user=left, role=Role.ADMIN)
    robot = User.objects.create(username="robot", robot_of=world.alpha)
    Membership.objects.create(tenant=world.alpha, user=robot, role=Role.ADMIN)
    secrets = {
        "stranger": "",
        "expired": make_token(world.alice, expires_at=now - timedelta(hours=1)),
        "revoked": make_token(world.alice, revoked_at=now),
        "wrong": good[:-1] + ("a" if good[-1] != "a" else "b"),
        "unknown": f"bhw_{'0' * 48}",
        "too short": good[:-1],
        "other kind": good.replace("bhw_", "bhr_"),
        "nonsense": "nonsense",
        "platform's admin": make_token(world.dana),
        "member of nothing": make_token(world.charlie),
        "removed": make_token(gone),
        "membership expired": make_token(late),
        "deactivated": make_token(left),
        "robot of one removed": make_token(robot, created_by=gone),
    }

    return {name: Api(secret) for name, secret in secrets.items()}


@pytest.fixture
def elsewhere(world: World) -> dict[str, Api]:
    """Members of gamma alone who name alpha, by header, address or both."""
    robot = User.objects.create(username="robo", robot_of=world.gamma)
    Membership.objects.create(tenant=world.gamma, user=robot, role=Role.ADMIN)
    secret = make_token(world.hugo)
    return {
        "header": Api(secret, team="team-alpha"),
        "address": Api(secret, prefix="team_alpha"),
        "both": Api(secret, team="team_alpha", prefix="team_gamma"),
        "robot": Api(make_token(robot), team="team-alpha"),
        "bound": Api(make_token(world.hugo, tenant=world.gamma), prefix="team-alpha"),
    }


def undone(call: Callable[[], Any]) -> Any:
    """Return the answer, and undo what the call did."""
    with transaction.atomic():
        answer = call()
        transaction.set_rollback(True)
    return answer


def send(api: Api, method: str, address: str, row: Row) -> Any:
    """Send what the row says."""
    return api.send(method, place(address, row.rest), row.fields)


def test_each_member_may_do_what_the_role_includes(world: World, members: dict[str, Api]) -> None:
    """L2: what is refused changes nothing and is in the team's log."""
    before, wrong, refusals = kept(world.alpha, world.gamma), [], 0
    for (method, address), row in TABLE.items():
        for person, role in MEMBERS.items():
            may = row.role is not None and list(Role).index(role) >= list(Role).index(row.role)
            expected = row.status if may or row.public else 403
            call = partial(send, members[person], method, address, row)
            answer = undone(call) if may else call()
            if answer.status_code != expected:
                wrong.append(f"{method} {address} by {person}: {answer.status_code}≠{expected}")
            if answer.status_code == 403:
                assert b'"error_code":"PERMISSION_DENIED"' in answer.content
                refusals += not row.of_no_team
            assert CANARY not in answer.content.decode() + str(answer.headers)
    assert not wrong, "\n".join(wrong)
    assert kept(world.alpha, world.gamma) == before
    with tenant_scope(world.alpha):
        denied = AuditEvent.objects.filter(action="access.denied")
        assert denied.count() == refusals > 10
        one = denied.filter(actor_label="bob").first()
    assert one is not None
    assert (one.ip, one.via) == ("127.0.0.1", members["bob"].token[:12])
    assert one.changes["at"].startswith("/api/2.0/mlflow")


def test_a_reading_token_takes_all_rights_to_write(world: World) -> None:
    """L22: of an admin too, and whatever its holder may do elsewhere."""
    api, before = Api(make_token(world.alice, "read")), kept(world.alpha)
    for (method, address), row in TABLE.items():
        if row.writes or row.role is None:
            answer = send(api, method, address, row)
            assert answer.status_code == 403, address
        else:
            answer = undone(partial(send, api, method, address, row))
            assert answer.status_code == row.status, address
    assert kept(world.alpha) == before


def test_a_suspended_team_is_read_only(world: World, members: dict[str, Api]) -> None:
    directory.suspend_tenant(world.alpha)
    before = kept(world.alpha)
    for (method, address), row in TABLE.items():
        answer = send(members["alice"], method, address, row)
        refuses = row.writes or row.role is None
        assert answer.status_code == (403 if refuses else row.status), (method, address)
    assert kept(world.alpha) == before


def test_all_tokens_that_open_nothing_get_the_same_answer(
    world: World, out: dict[str, Api]
) -> None:
    """L1, L9, L21, L22: the same bytes for no token as for one that was good until just now."""
    before, answers = kept(world.alpha, world.gamma), []
    for (method, address), row in TABLE.items():
        if row.public:
            continue
        for name, api in out.items():
            # Each endpoint is tried with some of them, and some endpoints with all.
            if name not in ("stranger", "expired", "removed") and row.fields != FRAUD:
                continue
            for team in ("", "team-alpha", "team-nobod") if name == "removed" else ("",):
                cache.clear()  # so many refusals would be slowed down
                answer = whole(send(api.but(team=team), method, address, row))
                assert answer[0] == 401, (name, method, address)
                answers.append(answer)
    assert all(answer == answers[0] for answer in answers)
    assert len(answers) > 150
    assert "No valid token came with this request." in answers[0][2]
    assert kept(world.alpha, world.gamma) == before


def test_a_member_elsewhere_gets_what_there_is_for_no_team(
    world: World, elsewhere: dict[str, Api]
) -> None:
    """L2, L3, L9, L22: alpha and a team that nobody has are told apart by nothing."""
    before = kept(world.alpha, world.gamma)
    for (method, address), row in TABLE.items():
        if row.of_no_team:
            continue
        for name, api in elsewhere.items():
            nobodys = api.but(
                team=api.team.replace("alpha", "nobod"), prefix=api.prefix.replace("alpha", "nobod")
            )
            theirs = whole(send(api, method, address, row), "alpha")
            assert theirs == whole(send(nobodys, method, address, row), "nobod"), (name, address)
            assert theirs[0] == (403 if name in ("robot", "bound") else 404), (name, address)
            assert "ALPHA" not in str(theirs)
    assert kept(world.alpha, world.gamma) == before


def test_every_method_at_every_address(members: dict[str, Api], out: dict[str, Api]) -> None:
    """L1: a method that is not there is 405 for everybody, and asks for nothing else."""
    for address, methods in ENDPOINTS.items():
        rest = "team-alpha" if address.endswith("/") else ""
        for method in METHODS:
            if method in methods or (method == "HEAD" and "GET" in methods):
                continue
            for api in (members["alice"], out["stranger"], out["removed"]):
                answer = api.raw(method, place(address, rest), b"{}")
                assert answer.status_code == 405, (method, address)
                assert answer["Allow"] == ", ".join(sorted(methods))


# --- nothing is left out -------------------------------------------------------------------


def test_every_endpoint_is_in_the_table() -> None:
    """L1: a new one cannot be forgotten."""
    there = {(method, address) for address, methods in ENDPOINTS.items() for method in methods}
    assert there == set(TABLE)
    for (method, address), row in TABLE.items():
        assert ENDPOINTS[address][method].public == row.public


def test_every_endpoint_is_an_address_of_the_resolver() -> None:
    """L1: so that the walk over all addresses meets the API too."""
    for address in ENDPOINTS:
        for start in ("", "/t/team_alpha"):
            path = (
                f"{start}/{address}" if address.startswith("model-") else f"{start}/api/{address}"
            )
            names = {"api", "team_api", "get_artifact", "team_get_artifact"}
            assert resolve(path).view_name in names, path
