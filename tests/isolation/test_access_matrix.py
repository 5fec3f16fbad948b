"""Every address for every person by every method: the status, and nothing left out.

A new URL fails here until it says who may call it and what they get; a new tenant-owned model,
until it says at which addresses it is tried.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.cache import cache
from django.db import transaction
from django.test import Client
from django.urls import resolve
from django.utils import timezone
from pytest_django.fixtures import Settings

from models_registry import registry
from models_registry.models import RegisteredModel
from tenants.access import policy_of, role_with, share
from tenants.checks import all_patterns
from tenants.clusters import Cluster
from tenants.identity import directory, robots, tokens
from tenants.isolation.scope import tenant_scope
from tenants.models import Role, User, tenant_owned_models
from tests.support.addresses import API, METHODS, PLATFORM, Sent, Target, call, team_addresses
from tests.support.issuers import refused_identity
from tests.support.people import World, give_files, make_user

As = Callable[[User | None], Client]

MEMBERS = {
    "bob": Role.VIEWER,
    "carol": Role.CONTRIBUTOR,
    "mia": Role.MAINTAINER,
    "alice": Role.ADMIN,
}
#: Signed in, and outside team_alpha: of another team, of none, the platform's admin, and former
#: members whose sessions are still there.
OUTSIDERS = ("gina", "charlie", "dana", "removed", "expired")
#: One from inside and one from outside try every method, the others those that pages use.
BY_EVERY_METHOD = ("alice", "gina")
#: Whose session is worth nothing.
NOBODY = ("anonymous", "deactivated")


@dataclass(frozen=True)
class Row:
    """What members get: the status for each method, from which role on."""

    role: Role = Role.VIEWER
    get: int | None = 200
    post: int | None = None
    #: The role for a POST, where the page itself is for lower ones too.
    post_role: Role | None = None

    def status(self, method: str, role: Role) -> int:
        """Return the status that a member of ``role`` gets."""
        needed = self.post_role if method == "POST" and self.post_role else self.role
        if list(Role).index(role) < list(Role).index(needed):
            return 403
        known = {"GET": self.get, "HEAD": self.get, "POST": self.post}.get(method)
        return 405 if known is None else known


CONTRIBUTORS = Row(Role.CONTRIBUTOR, get=200, post=302)
MAINTAINERS = Row(Role.MAINTAINER, get=200, post=302)
MAINTAINERS_POST = Row(Role.MAINTAINER, get=None, post=302)

TEAM: dict[str, Row] = {
    "team_home": Row(),
    "models": Row(),
    "shared_models": Row(),
    "shared_model": Row(),
    "shared_version": Row(),
    "model": Row(),
    "model_access": Row(),
    "model_history": Row(),
    "compare": Row(),
    "versions": Row(),
    "version": Row(),
    "activity": Row(),
    "isolation": Row(),
    "check_manifests": Row(post=200),
    "bundle_yaml": Row(),
    "bundle_kustomize": Row(),
    "bundle_argocd": Row(),
    "star_model": Row(get=None, post=302),
    "register_model": CONTRIBUTORS,
    "edit_model": CONTRIBUTORS,
    "set_alias": CONTRIBUTORS,
    "delete_alias": Row(Role.CONTRIBUTOR, get=None, post=302),
    "add_version": CONTRIBUTORS,
    "edit_version": CONTRIBUTORS,
    "archive_model": MAINTAINERS_POST,
    "restore_model": MAINTAINERS_POST,
    "delete_model": MAINTAINERS,
    "delete_version": MAINTAINERS,
    "recall_version": MAINTAINERS,
    "withdraw_recall": MAINTAINERS,
    "files": Row(),
    "file": Row(),
    "download": Row(),
    "upload": Row(Role.CONTRIBUTOR, get=None, post=302),
    "upload_file": Row(Role.CONTRIBUTOR, get=None, post=200),
    "remove_files": Row(Role.CONTRIBUTOR, get=None, post=302),
    "finish_version": Row(Role.CONTRIBUTOR, get=None, post=302),
    "share_model": MAINTAINERS,
    "unshare_model": MAINTAINERS_POST,
    "members": Row(post=302, post_role=Role.ADMIN),
    "tokens": Row(post=200),
    "revoke_token": Row(post=302),
    "robots": Row(Role.ADMIN, post=200),
    "rotate_robot": Row(Role.ADMIN, post=200),
    "remove_robot": Row(Role.ADMIN, post=302),
    "identities": Row(Role.ADMIN, post=302),
    "identity_role": Row(Role.ADMIN, get=None, post=302),
    "trust_identity": Row(Role.ADMIN, post=302),
    "remove_identity": Row(Role.ADMIN, post=302),
}


#: What is no page, so that it says nothing of a suspension.
FILES = {"download", "bundle_yaml", "bundle_kustomize", "bundle_argocd"}


@dataclass(frozen=True)
class Open:
    """What everybody gets at an address of no team: GET and POST, signed in or not."""

    stranger: tuple[int, int]
    signed_in: tuple[int, int]
    #: Methods that Django's class-based views answer by themselves.
    more: dict[str, int] = field(default_factory=dict)


OPEN: dict[str, Open] = {
    "home": Open((302, 302), (200, 405)),
    "theme": Open((405, 302), (405, 302)),
    "health": Open((200, 405), (200, 405)),
    "account_login": Open((200, 200), (302, 302)),
    "account_logout": Open((302, 302), (200, 302)),
    "account_inactive": Open((200, 405), (200, 405)),
}

#: Each tenant-owned model, and where a stranger's try to reach or change its rows is refused.
TRIED_AT: dict[str, tuple[str, ...]] = {
    "RegisteredModel": ("models", "model", "edit_model", "delete_model", "shared_model"),
    "ModelVersion": (
        *("versions", "version", "edit_version", "delete_version", "shared_version"),
        *("recall_version", "withdraw_recall"),
    ),
    "Alias": ("model", "set_alias", "delete_alias", "shared_model"),
    "ModelUserGrant": ("model_access", "unshare_model", "shared_models"),
    "ModelGroupGrant": ("model_access", "share_model", "unshare_model", "shared_models"),
    "Bookmark": ("star_model", "team_home", "models"),
    "Blob": ("version", "file", "download", "delete_version", "delete_model"),
    "ArtifactFile": ("version", "files", "file", "download", "remove_files", "delete_version"),
    "Upload": ("files", "upload", "upload_file", "remove_files", "finish_version"),
    "DownloadCount": ("version", "download", "delete_version", "delete_model"),
    "AuditEvent": ("activity", "model_history", "team_home"),
    "NamespaceState": ("isolation",),
}


@pytest.fixture
def browsers(world: World, as_: As) -> dict[str, Client]:
    """Everybody at their browser; the former members signed in while they were members."""
    found = {name: as_(world.person(name)) for name in (*MEMBERS, "gina", "charlie", "dana")}
    former = {name: make_user(name) for name in ("removed", "expired", "deactivated")}
    for name, user in former.items():
        membership = directory.add_member(world.alpha, user, Role.ADMIN)
        found[name] = as_(user)
        assert found[name].get("/t/team_alpha/").status_code == 200
        if name == "removed":
            directory.remove_member(membership)
        elif name == "expired":
            membership.expires_at = timezone.now() - timedelta(hours=1)
            membership.save()
        else:
            directory.deactivate_user(user)
    return found | {"anonymous": as_(None)}


@pytest.fixture
def target(world: World, settings: Settings) -> Target:
    """team_alpha, with one model archived and one of team_gamma's shared with it."""
    shared = world.model(world.gamma, "CANARY own")
    with tenant_scope(world.alpha, world.alice):
        registry.archive_model(RegisteredModel.objects.get(name="ALPHA own"))
        registry.add_version(world.model(world.alpha, "fraud"), status="PENDING")
    give_files(world.alpha, "fraud")
    give_files(world.alpha, "fraud", number=3)
    with tenant_scope(world.gamma, world.hugo):
        share(shared, with_tenant=world.alpha)
    robots.create_robot(world.alpha, "ci", Role.VIEWER, world.alice)
    one = Cluster("one", issuer="https://one.example.com", keys="nowhere.json")
    settings.KUBERNETES = replace(settings.KUBERNETES, clusters=(one,))
    return Target(
        team="team_alpha",
        shared=shared.pk,
        other_team=world.gamma.pk,
        person=world.bob.pk,
        robot="ci",
        identity=refused_identity(world.alpha, "model-server", world.alice).pk,
    )


def addresses_for(world: World, target: Target) -> dict[str, Any]:
    """Return the addresses for each person: members name tokens of their own, others alice's."""
    own = {
        name: tokens.create_token(world.person(name), "own", scope="read")[0].pk for name in MEMBERS
    }
    return {
        name: team_addresses(replace(target, token=own.get(name, own["alice"])))
        for name in (*MEMBERS, *OUTSIDERS, *NOBODY)
    }


def undone(browser: Client, method: str, path: str, data: Sent) -> Any:
    """Send the request, and undo what it did."""
    cookies = deepcopy(browser.cookies)
    with transaction.atomic():
        answer = call(browser, method, path, data)
        transaction.set_rollback(True)
    browser.cookies = cookies
    return answer


def test_every_address_of_a_team_for_every_person_and_method(
    world: World, browsers: dict[str, Client], target: Target
) -> None:
    """L1, L2: outside the team it is 404 for whatever is sent; a member gets what is theirs."""
    wrong = []
    addresses = addresses_for(world, target)
    for name in TEAM:
        for person, browser in browsers.items():
            path, data = addresses[person][name]
            for method in METHODS if person in BY_EVERY_METHOD else ("GET", "POST"):
                if person in NOBODY:
                    expected = 302
                elif person in OUTSIDERS:
                    expected = 404
                else:
                    expected = TEAM[name].status(method, MEMBERS[person])
                answer = undone(browser, method, path, data)
                if answer.status_code != expected:
                    wrong.append(f"{method} {name} by {person}: {answer.status_code}≠{expected}")
                if expected == 302 and person in NOBODY:
                    assert urlsplit(answer["Location"]).path == "/sign-in/", name
                assert answer["Cache-Control"] == "private, no-store", name
    assert not wrong, "\n".join(wrong)


def test_every_address_of_no_team_for_every_person(browsers: dict[str, Client]) -> None:
    wrong = []
    for name, (path, data) in PLATFORM.items():
        for person, browser in browsers.items():
            row = OPEN[name]
            get, post = row.stranger if person in NOBODY else row.signed_in
            if name == "home" and person in (*MEMBERS, "gina"):
                get = 302  # their only team
            for method, expected in (("GET", get), ("POST", post), ("DELETE", None)):
                answer = undone(browser, method, path, data)
                if expected is None:
                    assert answer.status_code in (302, 405), (name, person)
                elif answer.status_code != expected:
                    wrong.append(f"{method} {name} by {person}: {answer.status_code}≠{expected}")
                assert answer["Cache-Control"] == "private, no-store", name
    assert not wrong, "\n".join(wrong)


def test_a_session_opens_nothing_of_the_api(browsers: dict[str, Client]) -> None:
    """L1, L24: only a token does, so that no page of another site can send a member there."""
    bodies = set()
    for path in API.values():
        for browser in browsers.values():
            cache.clear()  # so many refusals would be slowed down
            answer = undone(browser, "GET", path, {})
            assert answer.status_code == 401, path
            bodies.add(answer.content)
    assert len(bodies) == 1


def test_a_suspended_team_is_read_only_for_every_role(
    world: World, browsers: dict[str, Client], target: Target
) -> None:
    directory.suspend_tenant(world.alpha)
    wrong = []
    addresses = addresses_for(world, target)
    for name, row in TEAM.items():
        for person in MEMBERS:
            path, data = addresses[person][name]
            reads = row.role == Role.VIEWER
            for method, expected in (
                ("GET", (row.get or 405) if reads else 403),
                ("POST", 403 if not reads or row.post_role else (row.post or 405)),
            ):
                answer = undone(browsers[person], method, path, data)
                # A star is the person's own note, not a change of the team's models.
                if answer.status_code != expected and name != "star_model":
                    wrong.append(f"{method} {name} by {person}: {answer.status_code}≠{expected}")
                if method == "GET" and expected == 200 and name not in FILES:
                    assert "suspended" in answer.content.decode(), name
    assert not wrong, "\n".join(wrong)


# --- nothing is left out -------------------------------------------------------------------


def test_every_url_is_in_the_table() -> None:
    """L1: the resolver is walked, so a new URL cannot be forgotten."""
    patterns = dict(all_patterns())
    assert all(pattern.name for pattern in patterns.values())
    names = [pattern.name for pattern in patterns.values()]
    assert len(names) == len(set(names))
    addresses = team_addresses(Target("team_alpha"))
    assert set(names) == {*addresses, *PLATFORM, *API}
    assert set(addresses) == set(TEAM)
    assert set(PLATFORM) == set(OPEN)


def test_each_address_is_the_one_that_its_name_says() -> None:
    pages = (team_addresses(Target("team_alpha")) | PLATFORM).items()
    for name, path in ({name: path for name, (path, _) in pages} | API).items():
        assert resolve(urlsplit(path).path).view_name == name


def test_each_view_declares_what_the_table_says() -> None:
    for route, pattern in all_patterns():
        policy = policy_of(pattern.callback)
        assert policy is not None, route
        if pattern.name in API:
            assert policy.kind == "token", route
        elif pattern.name in TEAM:
            assert route.startswith("t/<str:tenant>/"), route
            assert policy.kind == "member", route
            declared = role_with(policy.perm) if policy.perm else Role.VIEWER
            assert declared == TEAM[pattern.name].role, route
        else:
            assert not route.startswith("t/"), route
            assert policy.kind == ("signed_in" if pattern.name == "home" else "public"), route


def test_every_tenant_owned_model_is_tried_somewhere() -> None:
    assert set(TRIED_AT) == {model.__name__ for model in tenant_owned_models()}
    for model, names in TRIED_AT.items():
        assert names, model
        assert set(names) <= set(TEAM), model
