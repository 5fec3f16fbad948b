"""The real clients of MLflow in pods: with the files that a cluster mounts, and no secret.

The client of today reads them by itself, with or without the namespace; those of MLflow 2 get the
token from their shell. Keys come from a real server, and Bulkhead is another process.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.test import override_settings

from tenants.identity import workloads
from tenants.isolation.scope import tenant_scope
from tenants.models import AuditEvent, Role, WorkloadIdentity
from tests.support.issuers import Issuer, Pod, cluster, jwks, key_server
from tests.support.mlflow_clients import Client, Pythons, all_said, bulkhead
from tests.support.people import CANARY, World

ONE = Issuer()
ALPHA, GAMMA = Pod(namespace="bh-team-alpha"), Pod()
TRAINER = Pod(account="model-trainer", name="train-x1")

#: Each client: its MLflow, its pod, and how it comes by its token.
CLIENTS = {
    "2.22": ("2.22", ALPHA, "shell"),
    "today's": ("3", GAMMA, "kubernetes-namespaced"),
    "without a namespace": ("3", TRAINER, "kubernetes"),
}


@dataclass(frozen=True)
class Day:
    """What the clients said, and whose models they worked with."""

    world: World
    said: dict[str, Any]


@pytest.fixture(scope="module")
def day(
    committed_world: World, tmp_path_factory: pytest.TempPathFactory, pythons: Pythons
) -> Iterator[Day]:
    """Let a client of each kind work in its pod, all at the same time."""
    world, folder = committed_world, tmp_path_factory.mktemp("pods")
    (folder / "server").mkdir()
    with key_server(jwks("r1")) as keys:
        one = cluster(keys.url, ONE)
        listed = [{"name": one.name, "issuer": one.issuer, "keys": one.keys}]
        (folder / "clusters.yaml").write_text(yaml.safe_dump(listed))
        with override_settings(KUBERNETES=replace(settings.KUBERNETES, clusters=(one,))):
            workloads.create(world.alpha, "one", "model-server", Role.CONTRIBUTOR)
            workloads.create(world.gamma, "one", "model-server", Role.CONTRIBUTOR)
            workloads.create(world.gamma, "one", "model-trainer", Role.CONTRIBUTOR)
        with bulkhead(folder / "server", BULKHEAD_CLUSTERS=str(folder / "clusters.yaml")) as here:
            said = {}
            for group in (("2.22", "today's"), ("without a namespace",)):
                clients = [in_pod(pythons, folder, here, name) for name in group]
                for name, answer in zip(group, all_said(clients).values(), strict=True):
                    said[name] = answer["pod"]
        yield Day(world, said)


def in_pod(pythons: Pythons, folder: Path, address: str, name: str) -> Client:
    """Start a client in its pod."""
    version, pod, how = CLIENTS[name]
    mounted = folder / f"mounted-{pod.name}-{pod.namespace}"
    mounted.mkdir()
    token = ONE.token(pod)
    (mounted / "token").write_text(token)
    (mounted / "namespace").write_text(pod.namespace)
    variables = {"MLFLOW_TRACKING_URI": address}
    if how == "shell":
        variables["MLFLOW_TRACKING_TOKEN"] = (mounted / "token").read_text()
    else:
        variables["MLFLOW_TRACKING_AUTH"] = how
    other = ALPHA if pod.namespace == GAMMA.namespace else GAMMA
    asked = {
        "mounted": "" if how == "shell" else str(mounted),
        "data": "iris",
        "makes": f"made by {name}",
        "others": "ALPHA own" if other is ALPHA else f"{CANARY} own",
        "other workspace": other.namespace,
    }
    return Client(pythons(version), version, folder / f"client {name}", variables, {"pod": asked})


@pytest.mark.parametrize("name", CLIENTS)
def test_a_pod_works_with_its_teams_models_and_no_others(day: Day, name: str) -> None:
    said = day.said[name]
    assert "broke" not in said, said["broke"]
    own = "ALPHA own" if name == "2.22" else f"{CANARY} own"
    assert {own, "fraud"} <= set(said["before"])
    assert set(said["after"]) - set(said["before"]) == {f"made by {name}"}
    assert said["same"]
    assert ("ALPHA own" in said["after"]) == (name == "2.22")
    assert (f"{CANARY} own" in said["after"]) == (name != "2.22")
    [code, message], [other_code, other_message] = said["others"], said["nobody's"]
    others = f"{CANARY} own" if name == "2.22" else "ALPHA own"
    assert code == other_code == "RESOURCE_DOES_NOT_EXIST"
    assert message.replace(others, "X") == other_message.replace("nobody's", "X")
    assert said["delete"][0] == "PERMISSION_DENIED"  # a contributor


@pytest.mark.parametrize("name", ["today's", "without a namespace"])
def test_its_only_workspace_is_its_team(day: Day, name: str) -> None:
    said = day.said[name]
    assert said["workspaces"] == ["team-gamma"]
    assert said["other workspace"][0] == "PERMISSION_DENIED"
    assert "'team-gamma' alone" in said["other workspace"][1]


@pytest.mark.django_db(databases=["default", "owner"])
def test_each_pod_is_in_its_teams_log(day: Day) -> None:
    for team, pods in ((day.world.alpha, [ALPHA]), (day.world.gamma, [GAMMA, TRAINER])):
        with tenant_scope(team):
            events = AuditEvent.objects.filter(action="identity.signed_in").order_by("created_at")
            found = [(event.changes["pod"], event.changes["uid"]) for event in events]
            assert found == [(pod.name, pod.uid) for pod in pods]
            made = AuditEvent.objects.filter(object_label__startswith="made by")
            made = made.filter(action="model.registered")
            assert {event.via for event in made} == {event.changes["token"] for event in events}
    for identity in WorkloadIdentity.objects.all():
        assert identity.last_used_at is not None
        assert identity.uid
