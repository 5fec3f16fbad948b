"""The admission webhook as a real API server and Kubernetes' own controllers meet it.

Releases before 1.28 know no conditions of a webhook and drop ours: they ask about every workload.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from models_registry import registry
from models_registry.models import ModelVersion
from tenants.clusters import Installation
from tenants.isolation.scope import tenant_scope
from tenants.kubernetes.bundle.webhook import NAME, PATH, render_webhook
from tests.live_cluster.cluster import MERGE, LiveCluster
from tests.support.listener import HOST, Listener, database_address, listening, tls
from tests.support.people import World, committed, make_world

NAMESPACE = "bh-team-alpha"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
REPLICA_SETS = f"/apis/apps/v1/namespaces/{NAMESPACE}/replicasets"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
MODEL, VERSION = "bulkhead.dev/registered-model", "bulkhead.dev/model-version"


@pytest.fixture
def listener(live: LiveCluster, tmp_path: Path) -> Iterator[Listener]:
    """The listener, with a cluster that asks it about team_alpha's namespace."""
    namespace = {"metadata": {"name": NAMESPACE, "labels": {"bulkhead.dev/tenant": "team_alpha"}}}
    live.call("admin", "POST", "/api/v1/namespaces", namespace)
    account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default"
    until(lambda: live.call("admin", "GET", account).status == 200)
    options = tls(live.authority, live.authority.serve("admission", HOST), mutual=False)
    with listening(tmp_path / "log", database_address(), *options) as running:
        url = f"https://{HOST}:{running.port}{PATH}"
        made = render_webhook(Installation(), ca_bundle=live.authority.file.read_bytes(), url=url)
        assert live.call("admin", "POST", WEBHOOKS, made).status == 201
        until(lambda: create(live, pod("probe", "nothing")).status == 403)
        yield running
    live.call("admin", "DELETE", f"{WEBHOOKS}/{NAME}")
    for path in (DEPLOYMENTS, REPLICA_SETS, PODS):
        live.call("admin", "DELETE", path)


def until(happened: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something has happened."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.2)


def template(model: str, version: str) -> dict[str, Any]:
    """Return a pod that says which model it serves."""
    return {
        "metadata": {"labels": {"app": "x"}, "annotations": {MODEL: model, VERSION: version}},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [{"name": "server", "image": "example.invalid/server"}],
        },
    }


def pod(name: str, model: str, version: str = "1") -> dict[str, Any]:
    """Return a pod of that name."""
    made = template(model, version)
    made["metadata"]["name"] = name
    return made


def create(live: LiveCluster, made: dict[str, Any]) -> Any:
    """Create a pod, and keep nothing of it where that is possible."""
    return live.call("admin", "POST", f"{PODS}?dryRun=All", made)


def recall(world: World, number: int) -> None:
    """Recall a version of team_alpha's fraud."""
    with tenant_scope(world.alpha):
        registry.recall_version(ModelVersion.objects.get(model__name="fraud", number=number), "why")


@committed
def test_what_a_team_may_not_use_is_refused_in_our_words(
    live: LiveCluster, listener: Listener
) -> None:
    world = make_world()
    assert create(live, pod("own", "fraud")).status == 201
    answers = [create(live, pod("x", f"team_gamma/{name}")) for name in ("fraud", "none")]
    for answer, name in zip(answers, ("fraud", "none"), strict=True):
        assert answer.status == 403
        assert answer.message == (
            'admission webhook "models.admission.bulkhead.dev" denied the request: '
            f'metadata.annotations["{MODEL}"]: “team_gamma/{name}” is not registered for this'
            " namespace."
        )
    assert create(live, pod("own", "fraud", "@champion")).warning == (
        '299 - "@champion may move: pods made later follow it."'
    )
    recall(world, 1)
    assert "is recalled" in create(live, pod("own", "fraud")).message


@committed
def test_a_recalled_version_does_not_come_up_again_and_can_be_replaced(
    live: LiveCluster, listener: Listener
) -> None:
    """The controllers' own updates of what names it pass; the pods that they make do not."""
    world = make_world()
    deployment = {
        "metadata": {"name": "server"},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {"app": "x"}},
            "template": template("fraud", "1"),
        },
    }
    assert live.call("admin", "POST", DEPLOYMENTS, deployment).status == 201

    def pods() -> list[str]:
        items = live.call("admin", "GET", PODS).body["items"]
        return [item["metadata"]["annotations"][VERSION] for item in items]

    def failure() -> str:
        found = live.call("admin", "GET", REPLICA_SETS).body["items"][0]["status"]
        return str(found.get("conditions", ""))

    until(lambda: pods() == ["1"])
    recall(world, 1)
    live.call("admin", "DELETE", PODS)
    until(lambda: "“fraud” version “1” is recalled" in failure())
    assert pods() == []
    newer = {"spec": {"template": {"metadata": {"annotations": {VERSION: "2"}}}}}
    changed = live.call("admin", "PATCH", f"{DEPLOYMENTS}/server", newer, MERGE)
    assert changed.status == 200, changed
    until(lambda: pods() == ["2"])
    sets = live.call("admin", "GET", REPLICA_SETS).body["items"]
    assert sorted(found["spec"]["replicas"] for found in sets) == [0, 1]


@committed
def test_without_an_answer_nothing_is_let_in_and_everything_can_go(
    live: LiveCluster, listener: Listener
) -> None:
    make_world()
    assert live.call("admin", "POST", PODS, pod("stays", "fraud")).status == 201
    listener.process.terminate()
    listener.process.wait(20)
    answer = create(live, pod("own", "fraud"))
    assert answer.status == 500
    assert "failed calling webhook" in answer.message
    elsewhere = "/api/v1/namespaces/default/pods?dryRun=All"
    assert live.call("admin", "POST", elsewhere, pod("other", "nothing")).status == 201
    assert live.call("admin", "DELETE", f"{PODS}/stays").status == 200
