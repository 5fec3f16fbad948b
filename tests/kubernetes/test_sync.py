"""Syncs of a namespace: each test was run on a real API server, whose answers are played here."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone
from pytest_django.fixtures import Settings

from tenants.identity import directory, robots
from tenants.isolation.scope import tenant_scope
from tenants.kubernetes import names
from tenants.kubernetes.bundle.objects import Object, render, team_of
from tenants.kubernetes.sync import sync
from tenants.kubernetes.sync.client import Answer, ClusterApiError, OfficialClient
from tenants.kubernetes.sync.sync import sync_tenant
from tenants.models import AuditEvent, NamespaceState, Role
from tests.support.kubernetes_stage import LIMITED, NOBODY, VERSIONS, Stage, by_state
from tests.support.people import make_user

State = NamespaceState.State
COMPUTE = "ResourceQuota bh-compute"
OPEN: list[Any] = [{}]


def kept(stage: Stage) -> NamespaceState | None:
    """Return what the database says about the namespace."""
    with tenant_scope(stage.tenant):
        return NamespaceState.objects.filter(cluster="test").first()


def events(stage: Stage) -> list[dict[str, Any]]:
    """Return what the team's log says about its namespace, the oldest first."""
    with tenant_scope(stage.tenant):
        found = AuditEvent.objects.filter(action="namespace.synced").order_by("created_at")
        return [event.changes for event in found]


def entry(state: NamespaceState, kind: str, name: str) -> dict[str, Any]:
    """Return what a sync found about an object."""
    found: dict[str, Any]
    [found] = [e for e in state.objects_found if (e["kind"], e["name"]) == (kind, name)]
    return found


def wanted(stage: Stage) -> list[Object]:
    """Return the team's bundle."""
    return render(team_of(stage.tenant), settings.KUBERNETES)


def versions(stage: Stage) -> dict[tuple[str, str], str]:
    """Return the resourceVersion of each object of the bundle."""
    found = {}
    for obj in wanted(stage):
        kind, name = obj["kind"], obj["metadata"]["name"]
        found[kind, name] = stage.get(kind, name)["metadata"]["resourceVersion"]
    return found


def subjects(stage: Stage, role: str) -> list[str]:
    """Return whom the role's binding in the cluster names."""
    bound = stage.get("RoleBinding", names.binding(role)).get("subjects", [])
    return [subject["name"] for subject in bound]


# --- from nothing ----------------------------------------------------------------------------


def test_a_plan_says_what_is_missing_and_writes_nothing(stage: Stage) -> None:
    state = stage.sync("plan")
    assert (state.state, state.mode) == (State.DRIFT, "plan")
    assert len(by_state(state)["missing"]) == 18
    assert kept(stage) is None
    assert events(stage) == []
    assert not stage.has("Namespace")


def test_observing_keeps_what_is_missing_and_makes_nothing(stage: Stage) -> None:
    state = stage.sync("observe")
    assert by_state(state) == {
        "missing": [f"{o['kind']} {o['metadata']['name']}" for o in wanted(stage)]
    }
    row = kept(stage)
    assert row is not None
    assert (row.pk, row.state, row.in_sync_at) == (state.pk, State.DRIFT, None)
    assert row.version.startswith("v1.")
    assert not stage.has("Namespace")


def test_what_is_made_is_in_sync_and_a_second_time_untouched(stage: Stage) -> None:
    state = stage.sync("enforce")
    assert (state.state, state.error) == (State.IN_SYNC, "")
    assert [e["state"] for e in state.objects_found] == ["created"] * 18
    [event] = events(stage)
    assert (event["from"], event["to"], event["cluster"]) == (None, "in_sync", "test")
    assert len(event["created"]) == 18
    before = versions(stage)
    again = stage.sync("enforce")
    assert {e["state"] for e in again.objects_found} == {"in_sync"}
    assert versions(stage) == before
    assert again.pk == state.pk
    assert again.in_sync_at is not None
    assert state.in_sync_at is not None
    assert again.in_sync_at > state.in_sync_at
    assert events(stage) == [event]  # nothing new


def test_a_look_says_how_much_of_the_quota_is_used(stage: Stage) -> None:
    stage.sync("enforce")
    stage.until(lambda: "used" in stage.get("ResourceQuota", "bh-compute")["status"])
    stage.until(lambda: "used" in stage.get("ResourceQuota", "bh-objects")["status"])
    quota = stage.sync("observe").quota
    assert quota["pods"] == {"hard": "20", "used": "0"}
    assert quota["requests.cpu"] == {"hard": "4", "used": "0"}
    assert len(quota) == 19


# --- drift -----------------------------------------------------------------------------------


def test_a_changed_field_is_named_with_who_changed_it_and_corrected(stage: Stage) -> None:
    stage.sync("enforce")
    spec = stage.get("ResourceQuota", "bh-compute")["spec"]
    stage.edit("ResourceQuota", "bh-compute", spec={"hard": {**spec["hard"], "pods": "500"}})
    fields = [{"field": ".spec.hard.pods", "manager": "kubectl-edit"}]
    for mode in ("plan", "observe"):
        state = stage.sync(mode)
        assert by_state(state) == {"drift": [COMPUTE]}
        assert entry(state, "ResourceQuota", "bh-compute")["fields"] == fields
    assert stage.get("ResourceQuota", "bh-compute")["spec"]["hard"]["pods"] == "500"
    state = stage.sync("enforce")
    assert (state.state, by_state(state)) == (State.IN_SYNC, {"corrected": [COMPUTE]})
    assert entry(state, "ResourceQuota", "bh-compute")["fields"] == fields
    assert stage.get("ResourceQuota", "bh-compute")["spec"] == spec
    assert stage.found("observe") == {}
    assert [(e["from"], e["to"], e.get("corrected")) for e in events(stage)] == [
        (None, "in_sync", None),
        ("in_sync", "drift", None),
        ("drift", "in_sync", [COMPUTE]),
    ]


def test_a_key_that_survives_a_forced_apply_goes_too(stage: Stage) -> None:
    stage.sync("enforce")
    hard = stage.get("ResourceQuota", "bh-compute")["spec"]["hard"]
    more = {**hard, "count/pods": "1"}
    stage.edit("ResourceQuota", "bh-compute", spec={"hard": more})
    state = stage.sync("observe")
    assert entry(state, "ResourceQuota", "bh-compute")["fields"] == [
        {"field": '.spec.hard["count/pods"]', "manager": "kubectl-edit"}
    ]
    assert stage.found("enforce") == {"corrected": [COMPUTE]}
    assert stage.get("ResourceQuota", "bh-compute")["spec"]["hard"] == hard
    assert stage.found("enforce") == {}


def test_a_default_deny_that_was_opened_is_closed(stage: Stage) -> None:
    stage.sync("enforce")
    spec = stage.get("NetworkPolicy", "bh-default-deny")["spec"]
    stage.edit("NetworkPolicy", "bh-default-deny", spec={**spec, "ingress": OPEN})
    state = stage.sync("observe")
    assert entry(state, "NetworkPolicy", "bh-default-deny")["fields"] == [
        {"field": ".spec.ingress", "manager": "kubectl-edit"}
    ]
    assert stage.found("enforce") == {"corrected": ["NetworkPolicy bh-default-deny"]}
    assert stage.get("NetworkPolicy", "bh-default-deny")["spec"] == spec


def test_a_peer_that_chooses_more_is_seen_though_it_is_empty(stage: Stage) -> None:
    stage.sync("enforce")
    spec = stage.get("NetworkPolicy", "bh-allow-same-namespace")["spec"]
    wide = {**spec, "ingress": [{"from": [{"podSelector": {}, "namespaceSelector": {}}]}]}
    stage.edit("NetworkPolicy", "bh-allow-same-namespace", spec=wide)
    assert stage.found("enforce") == {"corrected": ["NetworkPolicy bh-allow-same-namespace"]}
    assert stage.get("NetworkPolicy", "bh-allow-same-namespace")["spec"] == spec


def test_somebody_who_was_bound_by_hand_is_out(stage: Stage) -> None:
    stage.sync("enforce")
    bound = stage.get("RoleBinding", "bh-admin")["subjects"]
    mallory = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory"}
    stage.edit("RoleBinding", "bh-admin", subjects=[*bound, mallory])
    state = stage.sync("enforce")
    assert entry(state, "RoleBinding", "bh-admin")["fields"] == [
        {"field": ".subjects", "manager": "kubectl-edit"}
    ]
    assert stage.get("RoleBinding", "bh-admin")["subjects"] == bound


def test_a_binding_to_another_role_is_made_anew(stage: Stage) -> None:
    stage.sync("enforce")
    bound = stage.get("RoleBinding", "bh-viewer")
    stage.remove("RoleBinding", "bh-viewer")
    stage.add(
        "RoleBinding",
        "bh-viewer",
        roleRef={**bound["roleRef"], "name": "cluster-admin"},
        subjects=bound["subjects"],
    )
    state = stage.sync("observe")
    assert by_state(state) == {"drift": ["RoleBinding bh-viewer"]}
    role = {"field": ".roleRef.name", "manager": "kubectl"}
    assert role in entry(state, "RoleBinding", "bh-viewer")["fields"]
    state = stage.sync("enforce")
    assert by_state(state) == {"corrected": ["RoleBinding bh-viewer"]}
    assert stage.get("RoleBinding", "bh-viewer")["roleRef"] == bound["roleRef"]
    assert stage.found("observe") == {}


def test_what_was_deleted_is_made_again(stage: Stage) -> None:
    stage.sync("enforce")
    stage.remove("NetworkPolicy", "bh-default-deny")
    assert stage.found("observe") == {"missing": ["NetworkPolicy bh-default-deny"]}
    assert stage.found("enforce") == {"created": ["NetworkPolicy bh-default-deny"]}
    assert stage.get("NetworkPolicy", "bh-default-deny")["spec"]["policyTypes"]


def test_a_namespace_keeps_its_labels_of_pod_security_and_others_theirs(stage: Stage) -> None:
    stage.sync("enforce")
    metadata = stage.get("Namespace")["metadata"]
    enforce = "pod-security.kubernetes.io/enforce"
    labels = {**metadata["labels"], enforce: "privileged", "team": "colour"}
    labels["bulkhead.dev/more"] = "forged"
    stage.edit("Namespace", metadata={**metadata, "labels": labels})
    state = stage.sync("enforce")
    fields = [
        field["field"] for field in entry(state, "Namespace", stage.tenant.namespace)["fields"]
    ]
    assert fields == ['.metadata.labels["bulkhead.dev/more"]', f'.metadata.labels["{enforce}"]']
    labels = stage.get("Namespace")["metadata"]["labels"]
    assert labels[enforce] == "restricted"
    assert labels["team"] == "colour"
    assert "bulkhead.dev/more" not in labels


def test_a_new_size_comes_into_the_cluster_without_a_culprit(stage: Stage) -> None:
    stage.sync("enforce")
    hard = stage.get("ResourceQuota", "bh-compute")["spec"]["hard"]
    # Replaced once, the quota has fields that Bulkhead wrote in two ways.
    stage.edit("ResourceQuota", "bh-compute", spec={"hard": {**hard, "count/pods": "1"}})
    stage.sync("enforce")
    stage.tenant.size, stage.tenant.custom_size = "custom", {"memory": 1024, "pods": 30}
    directory.update_tenant(stage.tenant)
    state = stage.sync("observe")
    fields = entry(state, "ResourceQuota", "bh-compute")["fields"]
    assert {"field": ".spec.hard.pods"} in fields
    assert all("manager" not in field for field in fields)
    assert stage.sync("enforce").state == State.IN_SYNC
    hard = stage.get("ResourceQuota", "bh-compute")["spec"]["hard"]
    assert (hard["requests.memory"], hard["pods"]) == ("1Ti", "30")
    before = versions(stage)
    assert stage.found("enforce") == {}
    assert versions(stage) == before


def test_what_a_gitops_tool_applied_is_in_sync(stage: Stage) -> None:
    for obj in wanted(stage):
        stage.admin.apply(obj, force=True, manager="argocd-controller")
    assert stage.sync("observe").state == State.IN_SYNC
    assert stage.found("observe") == {}
    managers = {
        e["manager"] for e in stage.get("LimitRange", "bh-defaults")["metadata"]["managedFields"]
    }
    assert managers == {"argocd-controller"}


# --- what is beside the bundle ------------------------------------------------------------------


def test_what_opens_the_namespace_is_reported_and_left_alone(stage: Stage) -> None:
    stage.sync("enforce")
    spec = {"podSelector": {}, "ingress": OPEN, "policyTypes": ["Ingress"]}
    stage.add("NetworkPolicy", "let-everybody-in", spec=spec)
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"}
    stage.add("RoleBinding", "a-friend", "Mozilla", roleRef=role)
    foreign = ["NetworkPolicy let-everybody-in", "RoleBinding a-friend"]
    for mode in ("observe", "enforce"):
        state = stage.sync(mode, prune=mode == "enforce")
        assert (state.state, by_state(state)) == (State.DRIFT, {"foreign": foreign})
    assert entry(state, "RoleBinding", "a-friend")["detail"] == (
        "It is not Bulkhead's, and adds to what is allowed here. It was made with Mozilla."
    )
    assert stage.get("NetworkPolicy", "let-everybody-in")["spec"]["ingress"] == OPEN
    assert stage.get("RoleBinding", "a-friend")


def test_only_what_bulkhead_made_itself_is_pruned(stage: Stage) -> None:
    stage.sync("enforce")
    [deny] = [o for o in wanted(stage) if o["metadata"]["name"] == "bh-default-deny"]
    old = {**deny, "metadata": {**deny["metadata"], "name": "bh-old"}}
    stage.api.apply(old, force=False)
    # A copy has all of our labels, but another manager.
    stage.add(
        "NetworkPolicy", "copy", metadata={"labels": deny["metadata"]["labels"]}, spec=deny["spec"]
    )
    found = {"foreign": ["NetworkPolicy copy"], "stale": ["NetworkPolicy bh-old"]}
    assert stage.found("observe") == found
    assert stage.found("plan", prune=True) == found
    assert stage.found("enforce") == found
    assert stage.get("NetworkPolicy", "bh-old")
    state = stage.sync("enforce", prune=True)
    assert by_state(state) == {
        "foreign": ["NetworkPolicy copy"],
        "pruned": ["NetworkPolicy bh-old"],
    }
    assert events(stage)[-1]["pruned"] == ["NetworkPolicy bh-old"]
    assert not stage.has("NetworkPolicy", "bh-old")
    assert stage.get("NetworkPolicy", "copy")


class Meddling(OfficialClient):
    """A cluster in which somebody acts between two calls of ours; each once."""

    def __init__(self, stage: Stage, **acts: Any) -> None:
        super().__init__(stage.cluster, pauses=())
        self.acts = acts

    def get(self, version: str, kind: str, name: str, namespace: str = "") -> Answer:
        try:
            return super().get(version, kind, name, namespace)
        finally:
            self.acts.pop("after_get", lambda: None)()

    def delete(self, obj: Object) -> None:
        self.acts.pop("before_delete", lambda: None)()
        super().delete(obj)

    def replace(self, obj: Object, *, manager: str = names.FIELD_MANAGER) -> Answer:
        self.acts.pop("before_replace", lambda: None)()
        return super().replace(obj, manager=manager)


def test_what_changed_since_it_was_looked_at_is_not_pruned(stage: Stage) -> None:
    stage.sync("enforce")
    [deny] = [o for o in wanted(stage) if o["metadata"]["name"] == "bh-default-deny"]
    old = {**deny, "metadata": {**deny["metadata"], "name": "bh-old"}}
    stage.api.apply(old, force=False)
    api = Meddling(
        stage,
        before_delete=lambda: stage.edit(
            "NetworkPolicy", "bh-old", spec={**deny["spec"], "ingress": OPEN}
        ),
    )
    state = sync_tenant(stage.tenant, api, stage.cluster, "enforce", prune=True)
    assert by_state(state) == {"stale": ["NetworkPolicy bh-old"]}
    assert "could not be deleted" in entry(state, "NetworkPolicy", "bh-old")["detail"]
    assert stage.get("NetworkPolicy", "bh-old")


def test_what_somebody_changes_meanwhile_is_corrected_all_the_same(stage: Stage) -> None:
    stage.sync("enforce")
    hard = stage.get("ResourceQuota", "bh-compute")["spec"]["hard"]

    def add(key: str) -> None:
        now = stage.get("ResourceQuota", "bh-compute")["spec"]["hard"]
        stage.edit("ResourceQuota", "bh-compute", spec={"hard": {**now, key: "1"}})

    add("count/pods")
    api = Meddling(stage, before_replace=lambda: add("count/secrets"))
    state = sync_tenant(stage.tenant, api, stage.cluster, "enforce")
    assert by_state(state) == {"corrected": [COMPUTE]}
    assert stage.get("ResourceQuota", "bh-compute")["spec"]["hard"] == hard


# --- namespaces of others -------------------------------------------------------------------------


def make_namespace(stage: Stage, **labels: str) -> Object:
    """Make a namespace of the team's name with these labels."""
    metadata = {"name": stage.tenant.namespace, "labels": labels}
    return stage.admin.create(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    ).object


def is_left_alone(stage: Stage) -> bool:
    """Tell whether an enforcing sync changes nothing in the namespace, and says so."""
    before = stage.get("Namespace")
    state = stage.sync("enforce", prune=True)
    assert state.state == State.CONFLICT
    assert by_state(state) == {"conflict": [f"Namespace {stage.tenant.namespace}"]}
    assert len(state.objects_found) == 1
    assert "somebody else's" in state.error
    assert stage.get("Namespace") == before
    policies = stage.admin.list(VERSIONS["NetworkPolicy"], "NetworkPolicy", stage.tenant.namespace)
    assert policies.items == ()
    return True


def test_a_namespace_without_our_labels_is_not_taken_over(stage: Stage) -> None:
    make_namespace(stage)
    assert is_left_alone(stage)
    assert events(stage)[-1]["to"] == "conflict"


def test_a_namespace_of_another_team_is_not_taken_over(stage: Stage) -> None:
    other = "11111111-1111-4111-8111-111111111111"
    labels = {"app.kubernetes.io/managed-by": "bulkhead", "bulkhead.dev/tenant-id": other}
    make_namespace(stage, **labels)
    assert is_left_alone(stage)
    row = kept(stage)
    assert row is not None
    assert other not in str(vars(row))  # whose it is, is not this team's to know


def test_a_namespace_that_others_manage_is_not_taken_over(stage: Stage) -> None:
    make_namespace(stage, **{"bulkhead.dev/tenant-id": str(stage.tenant.pk)})
    assert is_left_alone(stage)


def test_a_namespace_that_came_since_it_was_asked_for_is_not_taken_over(stage: Stage) -> None:
    api = Meddling(stage, after_get=lambda: make_namespace(stage))
    state = sync_tenant(stage.tenant, api, stage.cluster, "enforce")
    assert by_state(state) == {"conflict": [f"Namespace {stage.tenant.namespace}"]}
    assert "labels" not in stage.get("Namespace")["metadata"]


def test_a_namespace_whose_name_another_took_meanwhile_is_not_touched(stage: Stage) -> None:
    stage.sync("enforce")

    def exchange() -> None:
        stage.remove("Namespace")
        stage.until(lambda: not stage.has("Namespace"))
        make_namespace(stage)

    api = Meddling(stage, after_get=exchange)
    state = sync_tenant(stage.tenant, api, stage.cluster, "enforce")
    assert state.state == State.ERROR
    assert "labels" not in stage.get("Namespace")["metadata"]
    policies = stage.admin.list(VERSIONS["NetworkPolicy"], "NetworkPolicy", stage.tenant.namespace)
    assert policies.items == ()


def test_a_namespace_that_is_being_deleted_is_left_to_go(stage: Stage) -> None:
    stage.sync("enforce")
    last = stage.sync("observe")
    stage.add("Pod", "last", metadata={"finalizers": ["example.com/hold"]}, spec=POD)
    stage.remove("Namespace")
    state = stage.sync("enforce")
    assert state.state == State.ERROR
    assert "is being deleted" in state.error
    # What was seen before is kept, with its time.
    row = kept(stage)
    assert row is not None
    assert (row.objects_found, row.checked_at) == (last.objects_found, last.checked_at)
    assert row.in_sync_at == last.in_sync_at


# --- errors ------------------------------------------------------------------------------------


def test_an_error_of_one_object_does_not_stop_the_others(stage: Stage, settings: Settings) -> None:
    settings.KUBERNETES = replace(settings.KUBERNETES, pod_security="no version")
    state = stage.sync("enforce")
    found = by_state(state)
    assert found["error"] == [f"Namespace {stage.tenant.namespace}"]
    assert len(found["created"]) == 17
    assert state.state == State.ERROR
    assert "a valid label" in state.error
    assert stage.get("NetworkPolicy", "bh-default-deny")


def test_what_bulkhead_may_not_do_is_said_of_each_object(stage: Stage) -> None:
    name = stage.tenant.slug.replace("_", "-")
    may = ["serviceaccounts", "resourcequotas", "limitranges", "namespaces", "networkpolicies"]
    rules = [
        {
            "apiGroups": ["", "networking.k8s.io"],
            "resources": may,
            "verbs": ["get", "list", "create"],
        },
        {"apiGroups": [""], "resources": may, "verbs": ["patch"]},
    ]
    rbac = "rbac.authorization.k8s.io"
    user = {"apiGroup": rbac, "kind": "User", "name": LIMITED}
    role = {"apiGroup": rbac, "kind": "ClusterRole", "name": name}
    for kind, fields in (
        ("ClusterRole", {"rules": rules}),
        ("ClusterRoleBinding", {"subjects": [user], "roleRef": role}),
    ):
        obj = {"apiVersion": f"{rbac}/v1", "kind": kind, "metadata": {"name": name}, **fields}
        stage.admin.apply(obj, force=True)
    api = stage.as_(LIMITED)
    stage.until(lambda: may_list(api))
    state = sync_tenant(stage.tenant, api, stage.cluster, "enforce")
    found = by_state(state)
    assert state.state == State.ERROR
    assert len(found["created"]) == 8
    kinds = [name.split()[0] for name in found["error"]]
    assert kinds == ["NetworkPolicy"] * 5 + ["Role"] + ["RoleBinding"] * 4
    assert f'User "{LIMITED}" cannot patch resource "networkpolicies"' in state.error
    assert state.error.endswith("(9 more)")
    assert (
        'cannot list resource "rolebindings"' in entry(state, "RoleBinding", "bh-viewer")["detail"]
    )
    # That it may not look at what runs is no error, but said.
    assert len(state.warnings) == 6
    assert state.warnings[0].startswith("What runs could not be looked at (Pod): ")


def may_list(api: OfficialClient) -> bool:
    """Tell whether the rights that were given have come into force."""
    try:
        api.list("v1", "Namespace")
    except ClusterApiError:
        return False
    return True


def test_a_cluster_that_does_not_know_bulkhead_is_an_error_and_what_was_seen_is_kept(
    stage: Stage,
) -> None:
    stage.sync("enforce")
    seen = stage.sync("observe")
    state = sync_tenant(stage.tenant, stage.as_(NOBODY), stage.cluster, "observe")
    assert state.state == State.ERROR
    assert "does not accept what Bulkhead signs in with" in state.error
    row = kept(stage)
    assert row is not None
    assert row.state == State.ERROR
    assert (row.objects_found, row.quota) == (seen.objects_found, seen.quota)
    assert (row.checked_at, row.in_sync_at) == (seen.checked_at, seen.in_sync_at)
    assert stage.sync("observe").error == ""
    assert [event["to"] for event in events(stage)] == ["in_sync", "error", "in_sync"]


def test_what_no_server_could_take_is_not_tried_again(stage: Stage) -> None:
    stage.sync("enforce")
    api = OfficialClient(stage.cluster, pauses=(0, 0))
    [deny] = [o for o in wanted(stage) if o["metadata"]["name"] == "bh-default-deny"]
    deny = {**deny, "spec": {"podSelector": {}, "no such field": 1}}
    with pytest.raises(ClusterApiError) as refused:
        api.apply(deny, force=True)
    assert refused.value.status in (400, 500)
    assert not refused.value.may_pass


# --- people -------------------------------------------------------------------------------------


def test_whoever_is_no_member_any_more_is_out_at_the_next_sync(
    stage: Stage, settings: Settings
) -> None:
    settings.KUBERNETES = replace(settings.KUBERNETES, binds_users=True, user_prefix="oidc:")
    roles = {"ann": Role.ADMIN, "mel": Role.MAINTAINER, "cid": Role.CONTRIBUTOR, "vic": Role.VIEWER}
    users = {name: make_user(name) for name in (*roles, "eve", "dan")}
    for name, role in roles.items():
        directory.add_member(stage.tenant, users[name], role)
    soon = timezone.now() + timedelta(days=1)
    directory.add_member(stage.tenant, users["eve"], Role.ADMIN, expires_at=soon)
    directory.add_member(stage.tenant, users["dan"], Role.VIEWER)
    robots.create_robot(stage.tenant, "builder", Role.CONTRIBUTOR)
    stage.sync("enforce")
    assert subjects(stage, "admin") == ["oidc:ann", "oidc:eve"]
    assert subjects(stage, "editor") == ["oidc:cid", "oidc:mel"]
    assert subjects(stage, "viewer") == ["oidc:dan", "oidc:vic"]
    directory.remove_member(stage.tenant.memberships.get(user=users["mel"]))
    directory.change_role(stage.tenant.memberships.get(user=users["cid"]), Role.ADMIN)
    stage.tenant.memberships.filter(user=users["eve"]).update(expires_at=timezone.now())
    directory.deactivate_user(users["dan"])
    state = stage.sync("enforce")
    assert len(by_state(state)["corrected"]) == 3
    assert subjects(stage, "admin") == ["oidc:ann", "oidc:cid"]
    assert subjects(stage, "editor") == []
    assert subjects(stage, "viewer") == ["oidc:vic"]


def test_a_suspended_team_has_its_namespace_emptied(stage: Stage) -> None:
    stage.sync("enforce")
    assert subjects(stage, "admin") == [f"bh:{stage.tenant.slug}:admin"]
    directory.suspend_tenant(stage.tenant)
    assert stage.sync("enforce").state == State.IN_SYNC
    assert [subjects(stage, role) for role in names.CLUSTER_ROLES] == [[], [], []]
    assert stage.get("ResourceQuota", "bh-compute")["spec"]["hard"]["pods"] == "0"
    assert "egress" not in stage.get("NetworkPolicy", "bh-allow-dns")["spec"]
    directory.resume_tenant(stage.tenant)
    stage.sync("enforce")
    assert subjects(stage, "admin") == [f"bh:{stage.tenant.slug}:admin"]


# --- what runs -----------------------------------------------------------------------------------

POD: dict[str, Any] = {
    "automountServiceAccountToken": False,
    "containers": [
        {
            "name": "main",
            "image": "example.com/image:1",
            "resources": {"limits": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}},
        }
    ],
}


def test_pods_that_are_no_pods_of_the_team_are_found(stage: Stage) -> None:
    labels = next(iter(wanted(stage)))["metadata"]["labels"]
    make_namespace(stage, **labels)
    stage.until(lambda: stage.has("ServiceAccount", "default"))
    label = "bulkhead.dev/tenant"
    free = {**POD, "containers": [{"name": "main", "image": "example.com/image:1"}]}
    stage.add("Pod", "good", metadata={"labels": {label: stage.tenant.slug}}, spec=POD)
    stage.add("Pod", "strange", metadata={"labels": {label: "team_gamma"}}, spec=POD)
    stage.add("Pod", "unlabelled", spec=free)
    serving = {"bulkhead.dev/registered-model": "fraud"}
    stage.add(
        "Pod",
        "serving",
        metadata={"labels": {label: stage.tenant.slug}, "annotations": serving},
        spec=POD,
    )
    state = stage.sync("enforce")
    assert state.state == State.DRIFT
    assert state.in_sync_at is None
    assert state.workloads[:3] == [
        {
            "kind": "Pod",
            "name": "strange",
            "problem": f"Its label {label} names another tenant than this namespace's.",
        },
        {"kind": "Pod", "name": "unlabelled", "problem": f"It has no label {label}."},
        {
            "kind": "Pod",
            "name": "unlabelled",
            "problem": "Its container main has no limit of cpu and memory.",
        },
    ]
    assert {problem["name"] for problem in state.workloads} <= {"strange", "unlabelled", "serving"}


# --- what is kept of it --------------------------------------------------------------------------


def test_no_list_grows_without_end(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "MAX_ENTRIES", 5)
    state = stage.sync("observe")
    assert len(state.objects_found) == 5
    assert state.warnings == ["13 more were found than are listed."]
    assert state.state == State.DRIFT


@pytest.mark.parametrize(
    ("states", "worst"),
    [
        ([], State.IN_SYNC),
        (["in_sync", "created", "corrected", "pruned"], State.IN_SYNC),
        *((["in_sync", one], State.DRIFT) for one in ("missing", "drift", "foreign", "stale")),
        (["drift", "conflict"], State.CONFLICT),
        (["drift", "error", "conflict"], State.ERROR),
    ],
)
def test_a_namespace_is_as_good_as_its_worst_object(states: list[str], worst: str) -> None:
    assert sync.Observation(entries=[{"state": one} for one in states]).state == worst


def test_a_warning_is_kept_once_and_on_one_line() -> None:
    found = sync.Observation()
    found.warn(["careful\nnow", "careful now", "\x00" + "x" * 5_000])
    assert found.warnings[0] == "careful now"
    assert len(found.warnings) == 2
    assert len(found.warnings[1]) == 1_000
