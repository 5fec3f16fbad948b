"""What somebody who may write workloads in one namespace can do to the sync of all: nothing."""

import json
from typing import Any

import pytest

from tenants.identity import directory
from tenants.kubernetes.bundle.objects import Team
from tenants.kubernetes.sync import client as client_module
from tenants.kubernetes.sync.client import JSON, OfficialClient
from tenants.kubernetes.sync.sync import Mode, Order, sync_all
from tenants.models import NamespaceState, Tenant
from tests.live_cluster.cluster import CONTROLLER, LiveCluster

State = NamespaceState.State


def sync(live: LiveCluster, *tenants: Tenant) -> list[NamespaceState]:
    """Sync as Bulkhead does, one team after the other."""
    return list(sync_all(tenants, Order(live.known_as(CONTROLLER), Mode.ENFORCE), OfficialClient))


def workload(tenant: Tenant, version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Return a workload in the team's namespace."""
    metadata = {"name": "strange", "namespace": tenant.namespace}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


@pytest.fixture
def teams(request: pytest.FixtureRequest, db: None, live: LiveCluster) -> list[Tenant]:
    """Two teams whose namespaces are there."""
    name = request.node.originalname.removeprefix("test_")[:30].rstrip("_")
    made = [directory.create_tenant(f"{name}_{number}") for number in (1, 2)]
    assert {state.state for state in sync(live, *made)} == {State.IN_SYNC}
    return made


def test_a_field_that_is_nested_without_end_stops_no_team(
    live: LiveCluster, teams: list[Tenant]
) -> None:
    container = {"name": "x", "image": "y"}
    pods = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": pods}
    bad = workload(teams[0], "apps/v1", "Deployment", spec)
    manager = {"manager": "x", "operation": "Update", "apiVersion": "apps/v1"}
    manager |= {"fieldsType": "FieldsV1", "time": "2026-01-01T00:00:00Z", "fieldsV1": "DEEP"}
    bad["metadata"]["managedFields"] = [manager]
    body = json.dumps(bad).replace('"DEEP"', '{"f:a":' * 3_000 + "{}" + "}" * 3_000)
    answer = live.http.request(
        "POST",
        f"{live.address}/apis/apps/v1/namespaces/{teams[0].namespace}/deployments",
        body=body,
        headers={"Authorization": f"Bearer {live.tokens['admin']}", "Content-Type": JSON},
    )
    assert answer.status == 201
    first, second = sync(live, *teams)
    assert (first.state, second.state) == (State.DRIFT, State.IN_SYNC)
    assert first.workloads == [
        {
            "kind": "Deployment",
            "name": "",
            "problem": "An object there is nested too deeply to be read.",
        }
    ]


def test_objects_that_fill_the_memory_are_not_all_read(
    live: LiveCluster, teams: list[Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 300_000)
    container = {"name": "x", "image": "y", "args": ["z" * 200_000]}
    pods = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    spec = {"suspend": True, "schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": pods}}}
    path = f"/apis/batch/v1beta1/namespaces/{teams[0].namespace}/cronjobs"
    for number in range(4):
        bad = workload(teams[0], "batch/v1beta1", "CronJob", spec)
        bad["metadata"]["name"] += str(number)
        assert live.call("admin", "POST", path, bad).status == 201
    first, second = sync(live, *teams)
    assert (first.state, second.state) == (State.DRIFT, State.IN_SYNC)
    [problem] = first.workloads
    assert problem["kind"] == "CronJob"
    assert problem["problem"] == "There are more of these than were looked at."


def test_an_editor_makes_no_more_of_anything_than_is_counted(
    live: LiveCluster, two_teams: tuple[Team, Team]
) -> None:
    """Carol may make CronJobs and change deployments, each of which leaves a ReplicaSet."""
    own = two_teams[0]
    container = {"name": "x", "image": "y"}
    pods = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    spec = {"suspend": True, "schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": pods}}}
    path = f"/apis/batch/v1beta1/namespaces/{own.namespace}/cronjobs"
    answers = []
    for number in range(own.size.jobs + 1):
        metadata = {"name": f"c{number}", "namespace": own.namespace}
        body = {"apiVersion": "batch/v1beta1", "kind": "CronJob", "metadata": metadata}
        answers.append(live.call("carol", "POST", path, {**body, "spec": spec}))
    assert [answer.status for answer in answers] == [201] * own.size.jobs + [403]
    assert "exceeded quota: bh-objects" in answers[-1].message
    quota = live.call("admin", "GET", f"/api/v1/namespaces/{own.namespace}/resourcequotas")
    hard = {
        key: value for item in quota.body["items"] for key, value in item["status"]["hard"].items()
    }
    assert hard["count/replicasets.apps"] == str(12 * own.size.deployments)
