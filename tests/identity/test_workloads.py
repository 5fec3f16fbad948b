"""What a pod's token opens: its own team, if an admin said so, and nothing else."""

import base64
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
from django.core.cache import cache
from django.core.exceptions import PermissionDenied, ValidationError
from django.utils import timezone
from pytest_django.fixtures import Settings

from models_registry.models import RegisteredModel
from tenants.identity import directory, pod_tokens, robots, tokens, workloads
from tenants.isolation.credentials import BadToken, ContradictsToken, teams_of
from tenants.isolation.scope import Scope, scope_or_none, token_scope
from tenants.models import ApiToken, Membership, Role, Tenant, User, WorkloadIdentity
from tenants.prepared import query_as
from tests.support.answers import whole
from tests.support.api import Api, kept, make_token, refused, said
from tests.support.audit import events
from tests.support.issuers import (
    ALPHA,
    ONE,
    TWO,
    Issuer,
    Pod,
    by_secret,
    cluster,
    key_server,
    public_pem,
    use_clusters,
)
from tests.support.people import CANARY, World, committed, make_world
from tests.support.sql import NAMES_OF_MODELS, column
from tests.support.threads import at_once

GAMMA = Pod()
WRONG = "bhr_" + "0" * 48


@pytest.fixture(autouse=True)
def clusters(settings: Settings, tmp_path: Path) -> None:
    """Two clusters, whose keys lie in files."""
    pod_tokens._logged_at.clear()
    use_clusters(settings, tmp_path)


def enrolled(
    tenant: Tenant, role: str = Role.VIEWER, where: str = "one", account: str = "model-server"
) -> WorkloadIdentity:
    """Let the team's pods sign in."""
    return workloads.create(tenant, where, account, role)


def opened(token: str, team: str = "") -> Scope:
    """Return the scope that the token opens for writing and for reading: the same."""
    pod = workloads.sign_in(token, team)
    with token_scope(pod) as scope:
        assert scope_or_none() is scope
        assert RegisteredModel.objects.filter(tenant_id=scope.tenant_id).exists()
    read, [(names,)] = query_as(pod, NAMES_OF_MODELS, [])
    assert read == scope
    assert "fraud" in names
    assert scope_or_none() is None
    assert column("SELECT current_setting('bulkhead.tenant_id', true)") in ([""], [None])
    [only] = teams_of(pod)
    assert (only.slug, only.alone) == (scope.slug, True)
    return scope


def opens_nothing(token: str, error: type[Exception] = BadToken, team: str = "") -> None:
    """Fail unless the token opens no scope, for writing or for reading."""
    pod = workloads.sign_in(token, team)
    with pytest.raises(error), token_scope(pod):
        pytest.fail("opened")
    with pytest.raises(error):
        query_as(pod, NAMES_OF_MODELS, [])
    assert scope_or_none() is None
    assert column("SELECT current_setting('bulkhead.tenant_id', true)") in ([""], [None])


# --- the team of the namespace, and no other -----------------------------------------------


def test_a_pod_opens_the_team_of_its_namespace(world: World) -> None:
    enrolled(world.gamma, Role.CONTRIBUTOR)
    token = ONE.token(GAMMA)
    scope = opened(token)
    assert (scope.slug, scope.role, scope.reads_only) == ("team_gamma", "contributor", False)
    assert scope.actor_label == "robot.team_gamma.model-server@one"
    assert scope.via == pod_tokens.verify(token).token_id


@pytest.mark.parametrize("team", ["team_gamma", "team-gamma", "bh-team-gamma", "bh-team_gamma"])
def test_the_team_may_be_named_and_also_by_its_namespace(world: World, team: str) -> None:
    enrolled(world.gamma)
    assert opened(ONE.token(GAMMA), team).slug == "team_gamma"


@pytest.mark.parametrize("team", ["team_alpha", "bh-team-alpha", "nobody", "-", "default"])
def test_another_teams_name_is_a_contradiction_whether_it_is_there_or_not(
    world: World, team: str
) -> None:
    enrolled(world.gamma)
    enrolled(world.alpha)
    opens_nothing(ONE.token(GAMMA), ContradictsToken, team)


def test_a_namespace_names_no_workspace_for_other_tokens(world: World) -> None:
    """L4: only a pod's client calls the team so."""
    api = Api(make_token(world.gina), team="bh-team-gamma")
    refused(api.get("registered-models/search"), 404, "RESOURCE_DOES_NOT_EXIST")


def test_an_account_that_nobody_let_in_opens_nothing(world: World) -> None:
    enrolled(world.gamma, account="model-trainer")
    for pod in (
        GAMMA,
        GAMMA.but(account="default"),
        GAMMA.but(account="model-trainer.x"),
        ALPHA.but(account="model-trainer"),
        GAMMA.but(namespace="bh-nobody", account="model-trainer"),
        GAMMA.but(namespace="team-gamma", account="model-trainer"),
        GAMMA.but(namespace="kube-system", account="model-trainer"),
    ):
        opens_nothing(ONE.token(pod))
    assert opened(ONE.token(GAMMA.but(account="model-trainer")))


def test_the_same_account_in_two_namespaces_is_two(world: World) -> None:
    """L22: who may sign in here may not sign in there; each opens its own."""
    enrolled(world.alpha)
    opens_nothing(ONE.token(GAMMA))
    enrolled(world.gamma)
    assert opened(ONE.token(ALPHA)).slug == "team_alpha"
    assert opened(ONE.token(GAMMA)).slug == "team_gamma"


def test_the_same_account_in_two_clusters_is_two(world: World) -> None:
    """Equal names in another cluster are other accounts, with rights of their own."""
    enrolled(world.gamma, Role.CONTRIBUTOR, "one")
    other = GAMMA.but(uid="of the other".replace(" ", "-"))
    opens_nothing(TWO.token(other))
    enrolled(world.gamma, Role.VIEWER, "two")
    first, second = opened(ONE.token(GAMMA)), opened(TWO.token(other))
    assert (first.role, second.role) == ("contributor", "viewer")
    assert first.user_id != second.user_id
    assert {one.cluster: one.uid for one in WorkloadIdentity.objects.all()} == {
        "one": GAMMA.uid,
        "two": other.uid,
    }


def test_a_cluster_that_is_no_longer_ours_lets_nobody_in(world: World, settings: Settings) -> None:
    enrolled(world.gamma)
    token = ONE.token(GAMMA)
    assert opened(token)
    clusters = settings.KUBERNETES.clusters[1:]
    settings.KUBERNETES = replace(settings.KUBERNETES, clusters=clusters)
    with pytest.raises(BadToken):
        workloads.sign_in(token)


# --- made anew under the same name ---------------------------------------------------------


def test_the_first_account_that_signs_in_is_the_one(world: World) -> None:
    found = enrolled(world.gamma)
    assert found.uid == ""
    opened(ONE.token(GAMMA))
    found.refresh_from_db()
    assert found.uid == GAMMA.uid
    opened(ONE.token(GAMMA.but(pod_uid="another", name="another-pod")))


def test_an_account_made_anew_is_refused_until_an_admin_trusts_it(world: World) -> None:
    found = enrolled(world.gamma)
    opened(ONE.token(GAMMA))
    again = Pod(namespace=GAMMA.namespace)
    for _ in range(3):
        opens_nothing(ONE.token(again))
    [event] = events(world.gamma, "identity.refused")
    assert event.changes["uid"] == again.uid
    assert (event.actor_label, event.object_id) == ("system", found.pk)
    found.refresh_from_db()
    assert found.uid == GAMMA.uid
    with pytest.raises(ValidationError):  # only as it was seen
        workloads.trust(found, Pod().uid, world.hugo)
    workloads.trust(found, again.uid, world.hugo)
    assert opened(ONE.token(again)).slug == "team_gamma"
    opens_nothing(ONE.token(GAMMA))
    [trusted] = events(world.gamma, "identity.trusted")
    assert trusted.changes == {"from": GAMMA.uid, "to": again.uid}
    assert trusted.actor == world.hugo


def test_without_a_refusal_there_is_nobody_to_trust(world: World) -> None:
    found = enrolled(world.gamma)
    opened(ONE.token(GAMMA))
    for uid in ("", GAMMA.uid, "another"):
        with pytest.raises(ValidationError):
            workloads.trust(found, uid, world.hugo)


def test_what_was_removed_or_trusted_meanwhile_is_not_trusted(world: World) -> None:
    """Two admins at once: what one of them has done, the other's older page does not undo."""
    found = enrolled(world.gamma)
    opened(ONE.token(GAMMA))
    again = GAMMA.but(uid=str(uuid4()))
    opens_nothing(ONE.token(again))
    stale = WorkloadIdentity.objects.get(pk=found.pk)
    workloads.trust(found, again.uid, world.hugo)
    with pytest.raises(ValidationError):
        workloads.trust(stale, again.uid, world.hugo)
    opens_nothing(ONE.token(GAMMA))
    [membership] = workloads.identities_of(world.gamma)
    workloads.remove(membership, world.hugo)
    with pytest.raises(ValidationError):
        workloads.trust(stale, GAMMA.uid, world.hugo)


def test_another_teams_refusal_is_nobodys_to_trust(world: World) -> None:
    """L3: an account that was refused in one team is no more in another for it."""
    alphas, gammas = enrolled(world.alpha), enrolled(world.gamma)
    opened(ONE.token(ALPHA))
    opened(ONE.token(GAMMA))
    again = Pod(namespace=ALPHA.namespace)
    opens_nothing(ONE.token(again))
    with pytest.raises(ValidationError):
        workloads.trust(gammas, again.uid, world.hugo)
    with pytest.raises(PermissionDenied):
        workloads.trust(alphas, again.uid, world.hugo)
    assert not events(world.gamma, "identity.refused")


def test_a_refused_account_is_in_the_log_once_an_hour(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrolled(world.gamma)
    opened(ONE.token(GAMMA))
    again, other = Pod(), Pod()
    start = timezone.now().replace(minute=0)
    for minutes in (0, 20, 40, 70, 110):
        moment = start + timedelta(minutes=minutes)
        monkeypatch.setattr("tenants.identity.workloads.timezone.now", lambda moment=moment: moment)
        opens_nothing(ONE.token(again))
        opens_nothing(ONE.token(other))
    uids = [event.changes["uid"] for event in events(world.gamma, "identity.refused")]
    assert (uids.count(again.uid), uids.count(other.uid)) == (2, 2)


@committed
def test_of_two_that_sign_in_first_at_once_one_is_pinned(
    settings: Settings, tmp_path: Path
) -> None:
    world = make_world()
    for _ in range(5):
        found = enrolled(world.gamma)
        pods = [Pod(), Pod(), Pod()]
        found_ = at_once(*(lambda pod=pod: opened(ONE.token(pod)) for pod in pods))
        found.refresh_from_db()
        results = {pod.uid: result for pod, result in zip(pods, found_, strict=True)}
        assert isinstance(results.pop(found.uid), Scope)
        assert [type(result) for result in results.values()] == [BadToken, BadToken]
        workloads.remove(Membership.objects.get(user=found.user))


# --- who is out ----------------------------------------------------------------------------


def test_a_removed_identity_is_out_at_the_next_request(world: World) -> None:
    """L21: its token is good for an hour more, and opens nothing."""
    found = enrolled(world.gamma)
    token = ONE.token(GAMMA)
    opened(token)
    membership = Membership.objects.get(user=found.user)
    workloads.remove(membership, world.hugo)
    opens_nothing(token)
    assert not WorkloadIdentity.objects.exists()
    robot = User.objects.get(pk=found.user.pk)
    assert not robot.is_active
    # L34: let in again, it is another robot, and the first one to sign in is pinned anew.
    again = enrolled(world.gamma, Role.CONTRIBUTOR)
    assert again.user != robot
    workloads.forget(pod_tokens.verify(token))
    assert opened(token).role == "contributor"


def test_a_token_that_opened_nothing_signs_in_anew(world: World) -> None:
    """Through the API: at most one request is refused after an identity was made anew."""
    token = ONE.token(GAMMA)
    enrolled(world.gamma)
    api = Api(token)
    said(api.get("registered-models/get", name="fraud"))
    workloads.remove(Membership.objects.get(user__identity__tenant=world.gamma))
    refused(api.get("registered-models/get", name="fraud"), 401, "UNAUTHENTICATED")
    enrolled(world.gamma)
    said(api.get("registered-models/get", name="fraud"))


def test_a_lowered_role_holds_from_the_next_request_on(world: World) -> None:
    """L21."""
    enrolled(world.gamma, Role.CONTRIBUTOR)
    api = Api(ONE.token(GAMMA))
    said(api.post("registered-models/create", name="by a pod"))
    membership = Membership.objects.get(user__identity__tenant=world.gamma)
    workloads.change_role(membership, Role.VIEWER, world.hugo)
    message = refused(
        api.post("registered-models/create", name="another"), 403, "PERMISSION_DENIED"
    )
    assert "viewer" in message
    said(api.get("registered-models/get", name="by a pod"))


def test_a_deactivated_robot_and_an_expired_membership_are_out(world: World) -> None:
    found = enrolled(world.gamma)
    token = ONE.token(GAMMA)
    opened(token)
    Membership.objects.filter(user=found.user).update(
        expires_at=timezone.now() - timedelta(minutes=1)
    )
    opens_nothing(token)
    Membership.objects.filter(user=found.user).update(expires_at=None)
    assert opened(token)
    directory.deactivate_user(User.objects.get(pk=found.user.pk))
    opens_nothing(token)
    opens_nothing(ONE.token(GAMMA))


def test_a_suspended_teams_pods_only_read(world: World) -> None:
    enrolled(world.gamma, Role.MAINTAINER)
    directory.suspend_tenant(world.gamma)
    api = Api(ONE.token(GAMMA))
    said(api.get("registered-models/get", name="fraud"))
    message = refused(api.post("registered-models/create", name="x"), 403, "PERMISSION_DENIED")
    assert "suspended" in message


def test_it_stays_when_the_admin_who_let_it_in_leaves(world: World) -> None:
    """Nobody has seen a secret of it: there is none."""
    directory.add_member(world.gamma, world.alice, Role.ADMIN)
    workloads.create(world.gamma, "one", "model-server", Role.VIEWER, world.alice)
    directory.remove_member(Membership.objects.get(user=world.alice, tenant=world.gamma))
    assert opened(ONE.token(GAMMA))


# --- what admins may do --------------------------------------------------------------------


def test_only_admins_of_the_team_let_workloads_in(world: World) -> None:
    """L22: nor does a robot, nor another team's admin."""
    robot = robots.create_robot(world.gamma, "robo", Role.MAINTAINER, world.hugo)
    found = enrolled(world.gamma)
    membership = Membership.objects.get(user=found.user)
    opened(ONE.token(GAMMA))
    again = Pod()
    opens_nothing(ONE.token(again))
    for actor in (world.gina, world.alice, world.dana, world.charlie, robot):
        for attempt in (
            lambda by: workloads.create(world.gamma, "one", "default", Role.VIEWER, by),
            lambda by: workloads.change_role(membership, Role.MAINTAINER, by),
            lambda by: workloads.trust(found, again.uid, by),
            lambda by: workloads.remove(membership, by),
        ):
            with pytest.raises(PermissionDenied):
                attempt(actor)
    assert opened(ONE.token(GAMMA)).role == "viewer"


@pytest.mark.parametrize("role", ["admin", "owner", "", "VIEWER", "Contributor"])
def test_a_workload_is_maintainer_at_most(world: World, role: str) -> None:
    with pytest.raises(ValidationError) as found:
        enrolled(world.gamma, role)
    assert set(found.value.message_dict) == {"role"}
    enrolled(world.gamma, Role.MAINTAINER)
    membership = Membership.objects.get(user__identity__tenant=world.gamma)
    with pytest.raises(ValidationError):
        workloads.change_role(membership, role)
    with pytest.raises(ValidationError):
        directory.change_role(membership, Role.ADMIN)


@pytest.mark.parametrize(
    ("where", "account", "wrong"),
    [
        ("nowhere", "a", "cluster"),
        ("", "a", "cluster"),
        ("one", "", "service_account"),
        ("one", "Model", "service_account"),
        ("one", "a:b", "service_account"),
        ("one", "system:serviceaccount:bh-team-gamma:a", "service_account"),
        ("one", "a" * 254, "service_account"),
    ],
)
def test_an_identity_names_a_cluster_and_an_account(
    world: World, where: str, account: str, wrong: str
) -> None:
    with pytest.raises(ValidationError) as found:
        workloads.create(world.gamma, where, account, Role.VIEWER)
    assert set(found.value.message_dict) == {wrong}


def test_an_account_signs_in_as_one_robot(world: World) -> None:
    enrolled(world.gamma)
    with pytest.raises(ValidationError) as found:
        enrolled(world.gamma)
    assert "already" in str(found.value)


def test_there_are_fifty_at_most(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "MAX_IDENTITIES", 2)
    for name in ("a", "b"):
        enrolled(world.gamma, account=name)
    with pytest.raises(ValidationError):
        enrolled(world.gamma, account="c")
    enrolled(world.alpha, account="c")


def test_long_names_are_told_apart(world: World) -> None:
    long = "a" * 253
    for name in (long, f"{long[:-1]}b"):
        assert enrolled(world.gamma, account=name).user.username.startswith("robot.team_gamma.a")
    assert opened(ONE.token(GAMMA.but(account=long)))
    for membership in workloads.identities_of(world.gamma):
        workloads.remove(membership)
    enrolled(world.gamma, account=long)


def test_its_robot_holds_no_token_and_is_none_of_the_robots(world: World) -> None:
    """L22: there is no other way in as this robot."""
    robots.create_robot(world.gamma, "robo", Role.VIEWER, world.hugo)
    found = enrolled(world.gamma)
    assert [m.user.username for m in robots.robots_of(world.gamma)] == ["robot.team_gamma.robo"]
    assert robots.robot_named(world.gamma, "model-server@one") is None
    for actor in (world.hugo, None):
        with pytest.raises(ValidationError):
            tokens.create_token(found.user, "x", scope="read", actor=actor)
        with pytest.raises(ValidationError):
            robots.rotate_token(found.user, scope="read", days=1, actor=actor)
    assert not ApiToken.objects.filter(user=found.user).exists()
    assert not found.user.has_usable_password()


def test_whoever_removes_the_robot_removes_the_identity(world: World) -> None:
    """As a platform admin does, who sees memberships alone."""
    found = enrolled(world.gamma)
    directory.remove_member(Membership.objects.get(user=found.user))
    assert not WorkloadIdentity.objects.exists()
    enrolled(world.gamma)


# --- the log -------------------------------------------------------------------------------


def test_the_first_use_of_each_token_is_in_the_log(world: World) -> None:
    found = enrolled(world.gamma)
    token = ONE.token(GAMMA)
    pod = pod_tokens.verify(token)
    api = Api(token)
    for _ in range(3):
        said(api.get("registered-models/get", name="fraud"))
    [event] = events(world.gamma, "identity.signed_in")
    assert event.changes == {
        "cluster": "one",
        "service_account": "model-server",
        "uid": GAMMA.uid,
        "pod": GAMMA.name,
        "pod_uid": GAMMA.pod_uid,
        "token": pod.token_id,
        "token_name": pod.token_name,
        "expires_at": pod.expires_at.isoformat(),
    }
    assert (event.actor, event.object_id, event.ip) == (found.user, found.pk, "127.0.0.1")
    assert (event.via, event.object_label) == (pod.token_id, "model-server@one")
    said(Api(ONE.token(GAMMA)).get("registered-models/get", name="fraud"))
    assert len(events(world.gamma, "identity.signed_in")) == 2
    for word in token.split("."):
        assert word not in str([vars(event) for event in events(world.gamma, "")])


def test_a_sign_in_is_logged_once_by_all_processes(world: World) -> None:
    enrolled(world.gamma)
    token = ONE.token(GAMMA)
    opened(token)
    workloads.forget(pod_tokens.verify(token))  # as if this were another process
    opened(token)
    assert len(events(world.gamma, "identity.signed_in")) == 1


def test_the_log_names_the_pods_token_beside_each_write(world: World) -> None:
    enrolled(world.gamma, Role.CONTRIBUTOR)
    token = ONE.token(GAMMA)
    said(Api(token).post("registered-models/create", name="by a pod"))
    [event] = events(world.gamma, "model.registered")[-1:]
    [signed_in] = events(world.gamma, "identity.signed_in")
    assert event.via == signed_in.changes["token"] == pod_tokens.verify(token).token_id
    assert event.actor_label == "robot.team_gamma.model-server@one"


def test_who_may_not_sign_in_is_in_no_teams_log(world: World) -> None:
    """L15: neither in the log of the team that it names nor in another's."""
    enrolled(world.alpha)
    before = len(events(world.alpha, "")), len(events(world.gamma, ""))
    for token in (ONE.token(GAMMA), ONE.token(GAMMA.but(namespace="bh-nobody"))):
        for team in ("", "team_alpha"):
            refused(Api(token, team=team).get("registered-models/search"), 401, "UNAUTHENTICATED")
    assert (len(events(world.alpha, "")), len(events(world.gamma, ""))) == before


def test_letting_in_changing_and_removing_are_in_the_log(world: World) -> None:
    workloads.create(world.gamma, "one", "model-server", Role.VIEWER, world.hugo)
    membership = Membership.objects.get(user__identity__tenant=world.gamma)
    workloads.change_role(membership, Role.CONTRIBUTOR, world.hugo)
    workloads.remove(membership, world.hugo)
    found = [
        (event.action, event.object_label, event.changes["from"], event.changes["to"])
        for event in events(world.gamma)
    ]
    assert found == [
        ("identity.added", "model-server@one", None, "viewer"),
        ("identity.role_changed", "model-server@one", "viewer", "contributor"),
        ("identity.removed", "model-server@one", "contributor", None),
    ]
    assert {event.actor for event in events(world.gamma)} == {world.hugo}


def test_its_use_is_marked_once_a_minute(world: World) -> None:
    found = enrolled(world.gamma)
    token = ONE.token(GAMMA)
    opened(token)
    row = WorkloadIdentity.objects.filter(pk=found.pk)
    assert row.get().last_used_at is not None
    now = timezone.now()
    for before, moved in ((now - timedelta(seconds=30), False), (now - timedelta(minutes=2), True)):
        row.update(last_used_at=before)
        opened(token)
        assert (row.get().last_used_at != before) == moved


# --- at the API ----------------------------------------------------------------------------


def test_it_reads_and_writes_its_own_teams_models_alone(world: World) -> None:
    """L22, L28: nothing of the other team, whatever is asked and however it is named."""
    enrolled(world.alpha, Role.MAINTAINER)
    before = kept(world.gamma)
    api = Api(ONE.token(ALPHA))
    for found in (api, api.but(prefix="team_alpha"), api.but(team="bh-team-alpha")):
        names = {
            model["name"]
            for model in said(found.get("registered-models/search"))["registered_models"]
        }
        assert names == {"fraud", "ALPHA own"}
    said(api.post("registered-models/set-tag", name="fraud", key="k", value="v"))
    for answer in (
        api.get("registered-models/get", name=f"{CANARY} own"),
        api.get("registered-models/get", name="nobody's"),
        api.delete("registered-models/delete", name=f"{CANARY} own"),
        api.but(prefix="team_gamma").get("registered-models/get", name="fraud"),
        api.but(team="bh-team-gamma").get("registered-models/get", name="fraud"),
        api.but(team="team-gamma").post(
            "registered-models/set-tag", name="fraud", key="k", value="v"
        ),
    ):
        assert answer.status_code in (403, 404)
        assert "team-gamma" not in answer.content.decode()
    assert kept(world.gamma) == before


def test_it_lists_its_only_workspace(world: World) -> None:
    enrolled(world.gamma)
    api = Api(ONE.token(GAMMA))
    [only] = said(api.get("3.0/mlflow/workspaces"))["workspaces"]
    assert only["name"] == "team-gamma"
    for name in ("team-gamma", "team_gamma", "bh-team-gamma"):
        assert said(api.get(f"3.0/mlflow/workspaces/{name}"))["workspace"] == only
    for name in ("team-alpha", "bh-team-alpha", "nobody"):
        refused(api.get(f"3.0/mlflow/workspaces/{name}"), 404, "RESOURCE_DOES_NOT_EXIST")


def test_it_may_come_as_a_password(world: World) -> None:
    enrolled(world.gamma)
    token = ONE.token(GAMMA)
    for user in ("", "anybody", "token"):
        basic = base64.b64encode(f"{user}:{token}".encode()).decode()
        api = Api(headers={"Authorization": f"Basic {basic}"})
        said(api.get("registered-models/get", name="fraud"))


def test_every_refusal_is_that_of_a_wrong_token(world: World) -> None:
    """L9, L23, L28: one answer, to the last byte, whatever is wrong with the token."""
    enrolled(world.alpha)
    enrolled(world.gamma)
    opened(ONE.token(GAMMA))
    removed = enrolled(world.gamma, account="removed")
    workloads.remove(Membership.objects.get(user=removed.user))
    claims = ONE.claims(GAMMA)
    good = ONE.signed(claims)
    bad = {
        "made anew": ONE.token(Pod()),
        "removed": ONE.token(GAMMA.but(account="removed")),
        "not let in": ONE.token(GAMMA.but(account="default")),
        "nobody's namespace": ONE.token(GAMMA.but(namespace="bh-nobody")),
        "not let in from this cluster": TWO.token(GAMMA),
        "another issuer": Issuer("https://evil.example.com").token(GAMMA),
        "another audience": ONE.token(GAMMA, aud=["other"]),
        "expired": ONE.token(GAMMA, iat=1, exp=2),
        "of tomorrow": ONE.token(GAMMA, nbf=claims["nbf"] + 86400),
        "another cluster's key": TWO.signed(claims),
        "by the public key": by_secret({"alg": "HS256", "kid": "r1"}, claims, public_pem("r1")),
        "unsigned": f"{good.rpartition('.')[0]}.",
        "cut off": good[:-5],
        "too large": ONE.token(GAMMA, more="x" * 20_000),
        "nothing like one": "x",
    }
    for team in ("", "team_alpha", "bh-team-gamma", "nobody"):
        for endpoint in ("registered-models/get?name=fraud", "3.0/mlflow/workspaces"):
            cache.clear()
            expected = whole(Api(WRONG, team=team).raw("GET", endpoint))
            assert expected[0] == 401
            for what, token in bad.items():
                assert whole(Api(token, team=team).raw("GET", endpoint)) == expected, what
    assert CANARY not in expected[2]


def test_who_guesses_is_slowed_down_and_nobody_with_a_good_token_is(world: World) -> None:
    enrolled(world.gamma)
    good, bad = Api(ONE.token(GAMMA)), Api(ONE.token(GAMMA, aud=["other"]))
    cache.clear()  # tests that commit leave their counts
    statuses = [bad.get("registered-models/search").status_code for _ in range(62)]
    assert statuses == [401] * 60 + [429] * 2
    said(good.get("registered-models/get", name="fraud"))


def test_the_header_of_a_proxy_is_no_identity(world: World) -> None:
    """L24: what a mesh or a proxy says of a pod, Bulkhead does not read."""
    enrolled(world.gamma)
    opened(ONE.token(GAMMA))
    cert = f"By=spiffe://x;URI=spiffe://cluster.local/ns/{GAMMA.namespace}/sa/{GAMMA.account}"
    for headers in (
        {"X-Forwarded-Client-Cert": cert},
        {"X-Remote-User": f"system:serviceaccount:{GAMMA.namespace}:{GAMMA.account}"},
        {"kubeflow-userid": GAMMA.account},
        {"X-Forwarded-Access-Token": ONE.token(GAMMA)},
        {"Cookie": f"token={ONE.token(GAMMA)}"},
    ):
        refused(Api(headers=headers).get("registered-models/search"), 401, "UNAUTHENTICATED")


def test_a_token_in_the_address_or_the_body_is_none(world: World) -> None:
    enrolled(world.gamma)
    token = ONE.token(GAMMA)
    for name in ("token", "access_token", "Authorization"):
        refused(Api().get("registered-models/search", **{name: token}), 401, "UNAUTHENTICATED")
        refused(Api().post("registered-models/create", **{name: token}), 401, "UNAUTHENTICATED")


def test_a_pods_token_opens_no_page(world: World, client: Any) -> None:
    enrolled(world.gamma)
    bearer = {"Authorization": f"Bearer {ONE.token(GAMMA)}"}
    assert client.get("/t/team_gamma/", headers=bearer).status_code == 302


def test_without_keys_the_answer_is_to_try_again(world: World, settings: Settings) -> None:
    """Who waits may get in; neither a good token nor a bad one is told anything else."""
    with key_server(b"") as server:
        unreachable = cluster(server.url, ONE, "one")
    settings.KUBERNETES = replace(settings.KUBERNETES, clusters=(unreachable,))
    enrolled(world.gamma)
    for token in (ONE.token(GAMMA), ONE.token(GAMMA.but(account="default"))):
        answer = Api(token).get("registered-models/search")
        message = refused(answer, 503, "TEMPORARILY_UNAVAILABLE")
        assert "one" not in message.split()
    refused(Api(TWO.token(GAMMA)).get("registered-models/search"), 401, "UNAUTHENTICATED")


def test_public_endpoints_ask_for_no_token(world: World) -> None:
    assert orjson.loads(Api("a.b.c").get("3.0/mlflow/server-info").content)


def test_a_denial_is_in_the_log_with_the_token(world: World) -> None:
    enrolled(world.gamma)
    token = ONE.token(GAMMA)
    refused(Api(token).post("registered-models/create", name="x"), 403, "PERMISSION_DENIED")
    [event] = events(world.gamma, "access.denied")
    assert event.via == pod_tokens.verify(token).token_id
