"""The live audit finds what admission let in before, and no object's text can stop it."""

from typing import Any

import pytest

from models_registry import registry
from models_registry.models import ModelVersion
from tenants.isolation.scope import tenant_scope
from tenants.kubernetes.sync import running
from tenants.kubernetes.sync.running import audit_workloads
from tenants.models import NamespaceState
from tests.support.people import World

MODEL, VERSION = "bulkhead.dev/registered-model", "bulkhead.dev/model-version"


def workload(kind: str, name: str, model: str, **fields: Any) -> dict[str, Any]:
    """Return an object of a namespace as a client of Kubernetes reads it."""
    metadata = {"name": name, "annotations": {MODEL: model, VERSION: "1"}}
    return {"kind": kind, "metadata": metadata, "spec": {}, **fields}


def test_a_look_at_what_runs_finds_what_admission_let_in_before(world: World) -> None:
    objects = [
        workload("Pod", "good", "ALPHA own"),
        workload("Pod", "recalled", "fraud"),
        workload("Deployment", "foreign", "team_gamma/CANARY own"),
        {"kind": "Service", "metadata": {"name": "no workload"}},
    ]
    with tenant_scope(world.alpha):
        registry.recall_version(ModelVersion.objects.get(model__name="fraud", number=1), "why")
        found = audit_workloads(objects)
    place = f'metadata.annotations["{MODEL}"]: '
    assert found == [
        {
            "kind": "Pod",
            "name": "recalled",
            "problem": f"{place}“fraud” version “1” is recalled: nothing may use it any more.",
        },
        {
            "kind": "Deployment",
            "name": "foreign",
            "problem": f"{place}“team_gamma/CANARY own” is not registered for this namespace.",
        },
    ]


def test_what_has_no_pods_any_more_does_not_run(world: World) -> None:
    """After each rollout away from a recalled version its ReplicaSet stays, without pods."""
    idle = [
        workload("ReplicaSet", "old", "nothing", spec={"replicas": 0}),
        workload("Pod", "done", "nothing", status={"phase": "Succeeded"}),
        workload("Pod", "failed", "nothing", status={"phase": "Failed"}),
        *(
            workload(
                "Job", kind, "nothing", status={"conditions": [{"type": kind, "status": "True"}]}
            )
            for kind in ("Complete", "Failed")
        ),
        workload("CronJob", "paused", "nothing", spec={"suspend": True}),
    ]
    busy = [
        workload("ReplicaSet", "new", "nothing", spec={"replicas": 1}),
        workload("Pod", "runs", "nothing", status={"phase": "Running"}),
        workload("Job", "runs", "nothing", status={"conditions": [{"type": "Failed"}, None]}),
        workload("CronJob", "waits", "nothing", status={}),
    ]
    with tenant_scope(world.alpha):
        assert audit_workloads(idle) == []
        assert [entry["name"] for entry in audit_workloads(busy)] == [
            "new",
            "runs",
            "runs",
            "waits",
        ]


#: What a database, a terminal or a page must not be given as it is.
HOSTILE = "a\x00\x1b[2J\nfake\u202e"


def hostile() -> dict[str, Any]:
    """Return a pod with a volume whose attribute has a name of anybody's choice."""
    attributes = {HOSTILE: "models:/nothing/1"}
    spec = {"volumes": [{"name": "v", "csi": {"driver": "d", "volumeAttributes": attributes}}]}
    return workload("Pod", "named", "fraud", spec=spec)


def test_a_look_at_what_runs_can_be_kept_and_printed_whatever_it_finds(world: World) -> None:
    """Or a pod with a NUL in it would keep all that is wrong in its namespace out of the state."""
    odd = hostile()
    odd["metadata"]["name"] = HOSTILE
    with tenant_scope(world.alpha):
        found = audit_workloads([odd])
        NamespaceState.objects.create(cluster="one", state="drift", mode="plan", workloads=found)
        [kept] = NamespaceState.objects.get().workloads
    place = r'spec.volumes[0].csi.volumeAttributes["a\u0000\u001b[2J\nfake\u202e"]: '
    assert kept["problem"].startswith(place)
    assert "".join(kept.values()).isprintable()


def test_the_live_audit_is_bounded_in_objects_and_findings(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "MAX_AUDITED_OBJECTS", 5)
    monkeypatch.setattr(running, "MAX_AUDIT_FINDINGS", 3)
    more = {"kind": "", "name": "", "problem": "There is more: not all was looked at."}
    with tenant_scope(world.alpha):
        good = [workload("Pod", "p", "fraud")] * 5
        assert audit_workloads(good) == []
        assert audit_workloads([*good, *good]) == [more]
        bad = audit_workloads([workload("Pod", "p", "nothing")] * 5)
        assert len(bad) == 4
        assert bad[-1] == more
        monkeypatch.setattr(running, "MAX_AUDITED_MODELS", 2)
        several = [workload("Pod", "p", model) for model in ("fraud", "ALPHA own", "fraud")]
        assert audit_workloads(several[:2]) == []
        assert audit_workloads(several) == [more]
