"""A tenant's bundle and what a cluster has once: as they are written down, and what holds of all.

What is rendered is compared with files in ``tests/kubernetes/golden``. After an intended change,
``UPDATE_GOLDEN=1`` writes them anew and fails once more, so that the difference is looked at.
"""

import os
import re
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tenants.clusters import Installation, namespace_of
from tenants.identity.directory import remove_member, suspend_tenant
from tenants.kubernetes import names
from tenants.kubernetes.bundle import cluster_wide, writers
from tenants.kubernetes.bundle.objects import Team, render, team_of
from tenants.models import RESERVED_PREFIXES, Role, Tenant
from tenants.sizes import MAX_NUMBER, MIN_NUMBERS, NUMBERS, SIZES, SizeName, check_custom, size_of
from tests.support import bundle_invariants
from tests.support.bundle_invariants import INVARIANTS, READING, Bundle, Invariant, Object
from tests.support.bundles import BY_USERS, HERE, SUSPENDED, TEAM
from tests.support.people import CANARY, World

GOLDEN = Path(__file__).parent / "golden"


def checked(team: Team, installation: Installation = HERE) -> Bundle:
    return Bundle(render(team, installation), team.namespace, team.slug)


# --- As they are written down ---


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("team_gamma.yaml", writers.bundle_yaml(TEAM, HERE)),
        ("team_gamma-users.yaml", writers.bundle_yaml(TEAM, BY_USERS)),
        ("team_gamma-suspended.yaml", writers.bundle_yaml(SUSPENDED, HERE)),
        ("cluster-wide.yaml", writers.cluster_wide_yaml(HERE)),
    ],
)
def test_what_is_rendered_is_what_is_written_down(file: str, text: str) -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / file).write_text(text)
        pytest.fail(f"Wrote {file}: look at what has changed, and run this without UPDATE_GOLDEN.")
    assert text == (GOLDEN / file).read_text()


def test_yaml_holds_the_objects_themselves() -> None:
    assert [*yaml.safe_load_all(writers.bundle_yaml(TEAM, HERE))] == render(TEAM, HERE)
    assert [*yaml.safe_load_all(writers.cluster_wide_yaml(HERE))] == [
        *cluster_wide.render(HERE),
        *cluster_wide.controller(HERE),
    ]


@pytest.mark.parametrize("text", ["y", "N", "on", "null", "~", "1e3", "0x1f", "1_000", ".5", "07"])
def test_text_that_some_reader_takes_for_something_else_is_quoted(text: str) -> None:
    """Kubernetes reads YAML by other rules than Python does: to it ``y`` is true."""
    assert f'name: "{text}"\n' in writers.to_yaml([{"name": text}])


@given(st.text(max_size=60))
def test_any_name_of_a_team_is_written_and_read_back(name: str) -> None:
    text = writers.bundle_yaml(replace(TEAM, name=name), HERE)
    [namespace, *_] = yaml.safe_load_all(text)
    shown = namespace["metadata"]["annotations"]["bulkhead.dev/display-name"]
    assert shown.isprintable() and len(shown) == len(name)
    assert not name.isprintable() or shown == name


@given(st.text(max_size=60) | st.text(" \n\t\r\x7f\x85\u2028:#-'\"a", max_size=12))
def test_any_text_is_written_without_control_characters_and_read_back(text: str) -> None:
    """A raw next-line (U+0085), for example, is to some readers a line's end and to others not."""
    written = writers.to_yaml([{"text": text}])
    assert yaml.safe_load(written) == {"text": text}
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]", written)


# --- What holds of every bundle ---

TEAMS = {
    **{f"a {name} team": replace(TEAM, size=size) for name, size in SIZES.items()},
    "a suspended team": SUSPENDED,
    "the least team": replace(
        TEAM, size=size_of("custom", {name: MIN_NUMBERS.get(name, 1) for name in NUMBERS})
    ),
    "the largest team": replace(TEAM, size=size_of("custom", dict.fromkeys(NUMBERS, MAX_NUMBER))),
    "a team with the longest name": replace(
        TEAM, slug="a" + "_" * 38 + "z", namespace="bh-a" + "-" * 38 + "z"
    ),
    "a team of nobody": replace(TEAM, members=()),
}


@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("installation", [HERE, BY_USERS], ids=["groups", "users"])
@pytest.mark.parametrize("team", TEAMS)
def test_each_bundle_keeps_each_promise(
    team: str, installation: Installation, invariant: Invariant
) -> None:
    invariant(checked(TEAMS[team], installation))


@pytest.mark.parametrize("installation", [HERE, BY_USERS], ids=["groups", "users"])
def test_a_suspended_teams_bundle_lets_nobody_in(installation: Installation) -> None:
    """L21. The objects are the same, so nothing has to be deleted to suspend a team."""
    bundle_invariants.nobody_is_let_in(checked(SUSPENDED, installation))
    with pytest.raises(AssertionError):
        bundle_invariants.nobody_is_let_in(checked(TEAM, installation))

    def keys(team: Team) -> list[tuple[str, str]]:
        return [(obj["kind"], obj["metadata"]["name"]) for obj in render(team, installation)]

    assert keys(SUSPENDED) == keys(TEAM)


Change = Callable[[list[Object]], None]


def at(kind: str, name: str, *path: str | int, to: Any) -> Change:
    """Return what puts another value somewhere in an object, or takes it out (``to=None``)."""

    def change(objects: list[Object]) -> None:
        value: Any
        [value] = [obj for obj in objects if (obj["kind"], obj["metadata"]["name"]) == (kind, name)]
        for key in path[:-1]:
            value = value[key]
        if to is None:
            del value[path[-1]]
        else:
            value[path[-1]] = to

    return change


def add(kind: str, **fields: Any) -> Change:
    """Return what adds an object."""

    def change(objects: list[Object]) -> None:
        [like, *_] = [obj for obj in objects if obj["kind"] == "RoleBinding"]
        objects.append(deepcopy(like) | {"kind": kind} | fields)

    return change


def the_last_is_missing(objects: list[Object]) -> None:
    objects.pop()


def first_goes_last(objects: list[Object]) -> None:
    objects.append(objects.pop(0))


def a_policy_comes_first(objects: list[Object]) -> None:
    [place, *_] = [place for place, obj in enumerate(objects) if obj["kind"] == "NetworkPolicy"]
    objects.append(objects.pop(place))


NS, LABELS = "bh-team-gamma", ("metadata", "labels")
HARD, SPEC = ("spec", "hard"), ("spec",)
DENY, DNS, SAME = "bh-default-deny", "bh-allow-dns", "bh-allow-same-namespace"
THEIRS = {"kind": "ServiceAccount", "name": "registry-sync", "namespace": "bh-team-alpha"}
RBAC = "rbac.authorization.k8s.io"


def group(name: str) -> Object:
    return {"kind": "Group", "name": name, "apiGroup": RBAC}


def cidr(block: str) -> Object:
    return {"to": [{"ipBlock": {"cidr": block}}], "ports": [{"protocol": "TCP", "port": 443}]}


#: Mistakes, each with the promise that it breaks.
MISTAKES: tuple[tuple[str, Change], ...] = (
    ("all_in_its_own_namespace", at("LimitRange", "bh-defaults", "metadata", "namespace", to="x")),
    ("all_in_its_own_namespace", at("Namespace", NS, "metadata", "name", to="bh-team-alpha")),
    ("nothing_but_these_kinds", add("ClusterRoleBinding")),
    ("nothing_but_these_kinds", the_last_is_missing),
    ("each_object_once", add("RoleBinding")),
    ("the_namespace_comes_first_and_limits_before_there_is_a_way_out", first_goes_last),
    ("the_namespace_comes_first_and_limits_before_there_is_a_way_out", a_policy_comes_first),
    (
        "no_service_account_of_another_namespace",
        at("RoleBinding", "bh-registry-sync", "subjects", 0, to=THEIRS),
    ),
    (
        "no_service_account_of_another_namespace",
        at("RoleBinding", "bh-viewer", "subjects", 0, to=group("system:serviceaccounts")),
    ),
    (
        "no_service_account_of_another_namespace",
        at("RoleBinding", "bh-registry-sync", "subjects", 0, "name", to="shared"),
    ),
    (
        "no_group_but_the_tenants",
        at("RoleBinding", "bh-viewer", "subjects", 0, to=group("bh:team_alpha:viewer")),
    ),
    (
        "no_group_but_the_tenants",
        at("RoleBinding", "bh-admin", "subjects", 0, to=group("bh:team_gamma:viewer")),
    ),
    (
        "roles_are_the_tenants_three_or_its_own",
        at("RoleBinding", "bh-admin", "roleRef", "name", to="cluster-admin"),
    ),
    (
        "roles_are_the_tenants_three_or_its_own",
        at("RoleBinding", "bh-viewer", "roleRef", "name", to="bh-tenant-admin"),
    ),
    ("rights_are_named_one_by_one", at("Role", "bh-registry-sync", "rules", 0, "verbs", to=["*"])),
    (
        "rights_are_named_one_by_one",
        at("Role", "bh-registry-sync", "rules", 0, "resourceNames", to=[]),
    ),
    (
        "rights_are_named_one_by_one",
        at("Role", "bh-registry-sync", "rules", 0, "resources", to=["secrets"]),
    ),
    (
        "no_token_is_mounted_by_itself",
        at("ServiceAccount", "default", "automountServiceAccountToken", to=True),
    ),
    (
        "pods_are_restricted",
        at("Namespace", NS, *LABELS, "pod-security.kubernetes.io/enforce", to="baseline"),
    ),
    (
        "pods_are_restricted",
        at("Namespace", NS, *LABELS, "pod-security.kubernetes.io/enforce-version", to="latest"),
    ),
    (
        "all_that_pods_use_has_a_limit",
        at("ResourceQuota", "bh-compute", *HARD, "limits.memory", to=None),
    ),
    ("all_that_pods_use_has_a_limit", at("ResourceQuota", "bh-compute", *HARD, "pods", to=None)),
    (
        "all_objects_have_a_limit_and_no_port_is_opened_outside",
        at("ResourceQuota", "bh-objects", *HARD, "services.nodeports", to="1"),
    ),
    (
        "all_objects_have_a_limit_and_no_port_is_opened_outside",
        at("ResourceQuota", "bh-objects", *HARD, "count/secrets", to=None),
    ),
    *(
        (
            "what_the_quota_limits_has_a_default",
            at("LimitRange", "bh-defaults", "spec", "limits", 0, which, what, to=None),
        )
        for which in ("default", "defaultRequest")
        for what in ("cpu", "memory", "ephemeral-storage")
    ),
    (
        "what_the_quota_limits_has_a_default",
        at("LimitRange", "bh-defaults", "spec", "limits", 1, "max", "storage", to=None),
    ),
    (
        "defaults_lie_between_the_least_and_the_most",
        at("LimitRange", "bh-defaults", "spec", "limits", 0, "max", "cpu", to="400m"),
    ),
    (
        "defaults_lie_between_the_least_and_the_most",
        at("LimitRange", "bh-defaults", "spec", "limits", 0, "min", "memory", to="1Gi"),
    ),
    ("nobody_talks_to_anybody_at_first", at("NetworkPolicy", DENY, *SPEC, "ingress", to=None)),
    ("nobody_talks_to_anybody_at_first", at("NetworkPolicy", DENY, *SPEC, "egress", to=[{}])),
    (
        "nobody_talks_to_anybody_at_first",
        at("NetworkPolicy", DENY, *SPEC, "policyTypes", to=["Ingress"]),
    ),
    ("each_allowance_names_whom", at("NetworkPolicy", DNS, *SPEC, "egress", 0, "ports", to=None)),
    (
        "each_allowance_names_whom",
        at(
            *("NetworkPolicy", DNS, "spec", "egress", 0, "to", 0, "namespaceSelector"),
            to={"matchLabels": {"bulkhead.dev/tenant": "team_alpha"}},
        ),
    ),
    (
        "each_allowance_names_whom",
        at("NetworkPolicy", SAME, "spec", "ingress", 0, "from", 0, "namespaceSelector", to={}),
    ),
    ("each_allowance_names_whom", at("NetworkPolicy", SAME, "spec", "ingress", 0, "from", to=[])),
    (
        "each_allowance_names_whom",
        at("NetworkPolicy", DNS, "spec", "egress", 0, to=cidr("169.254.169.254/32")),
    ),
    ("each_allowance_names_whom", at("NetworkPolicy", DNS, *SPEC, "policyTypes", to=["Ingress"])),
    (
        "names_and_labels_are_ones_that_kubernetes_takes",
        at("Namespace", NS, *LABELS, "bulkhead.dev/tenant", to="-a"),
    ),
    (
        "names_and_labels_are_ones_that_kubernetes_takes",
        at("Namespace", NS, *LABELS, "bulkhead.dev/tenant", to="a" * 64),
    ),
    (
        "names_and_labels_are_ones_that_kubernetes_takes",
        at("Role", "bh-registry-sync", "metadata", "name", to="bh_registry"),
    ),
    (
        "each_object_says_whose_it_is",
        at("LimitRange", "bh-defaults", *LABELS, "bulkhead.dev/tenant-id", to="gamma"),
    ),
    (
        "each_object_says_whose_it_is",
        at("LimitRange", "bh-defaults", "metadata", "ownerReferences", to=[]),
    ),
    (
        "nothing_goes_by_itself",
        at(
            *("Namespace", NS, "metadata", "annotations", "argocd.argoproj.io/sync-options"),
            to="Prune=true",
        ),
    ),
)


@pytest.mark.parametrize(("promise", "mistake"), MISTAKES)
def test_a_mistake_breaks_the_promise_that_is_there_for_it(promise: str, mistake: Change) -> None:
    invariant: Invariant = getattr(bundle_invariants, promise)
    made = checked(TEAM)
    invariant(made)
    mistake(made.objects)
    with pytest.raises((AssertionError, KeyError, ValueError)):
        invariant(made)


def test_each_promise_is_tried() -> None:
    assert {promise for promise, _ in MISTAKES} == {known.__name__ for known in INVARIANTS}


# --- Two tenants share nothing ---

slugs = st.from_regex(r"[a-z]([a-z0-9_-]{0,38}[a-z0-9])?", fullmatch=True)
#: Names that look alike are what would collide.
alike = st.lists(st.sampled_from(["a", "b", "-", "_", "admin", "viewer"]), min_size=1).map("".join)


def team_named(slug: str, number: int) -> Team:
    return replace(TEAM, slug=slug, id=UUID(int=number), namespace=namespace_of(slug))


def belongings(team: Team) -> set[tuple[str, ...]]:
    """Return what must be nobody else's: places of objects, service accounts, groups, labels."""
    found: set[tuple[str, ...]] = {("namespace", team.namespace)}
    for obj in render(team, HERE):
        metadata = obj["metadata"]
        place = metadata.get("namespace", "")
        found.add((obj["kind"], place, metadata["name"]))
        found.add(("label", metadata["labels"]["bulkhead.dev/tenant"]))
        for subject in obj.get("subjects", []):
            found.add((subject["kind"], subject.get("namespace", ""), subject["name"]))
    return found


@given(st.one_of(slugs, alike), st.one_of(slugs, alike))
@examples(max_examples=300)
def test_no_two_tenants_share_a_namespace_an_account_a_group_or_an_object(
    one: str, other: str
) -> None:
    """L11, L32."""
    if not are_two_tenants(one, other):
        return
    mine, theirs = team_named(one, 1), team_named(other, 2)
    assert belongings(mine).isdisjoint(belongings(theirs))
    for team in (mine, theirs):
        made = checked(team)
        for invariant in INVARIANTS:
            invariant(made)


def are_two_tenants(*slugs: str) -> bool:
    """Tell whether the database could hold both."""
    try:
        for slug in slugs:
            Tenant._meta.get_field("slug").run_validators(slug)
    except ValidationError:
        return False
    return len({slug.replace("_", "-") for slug in slugs}) == len(slugs)


@pytest.mark.parametrize("slug", ["team_a", "x", "kubernetes1", "system1"])
def test_no_tenants_namespace_is_one_of_the_clusters(slug: str) -> None:
    """L32. A slug cannot reach past the fixed beginning."""
    taken = {HERE.registry_namespace, HERE.gateway_namespace, HERE.dns_namespace, "default"}
    namespace = namespace_of(slug)
    assert namespace not in taken
    assert not namespace.startswith(RESERVED_PREFIXES)


# --- Sizes ---

custom_sizes = st.fixed_dictionaries(
    {}, optional={name: st.integers(MIN_NUMBERS.get(name, 1), MAX_NUMBER) for name in NUMBERS}
)


@given(custom_sizes)
def test_any_custom_size_renders_a_bundle_that_keeps_all_promises(custom: dict[str, int]) -> None:
    made = checked(replace(TEAM, size=size_of(SizeName.CUSTOM, custom)))
    for invariant in INVARIANTS:
        invariant(made)


def test_a_quota_is_what_the_size_says() -> None:
    custom = {name: number for number, name in enumerate(NUMBERS, start=3)}
    made = checked(replace(TEAM, size=size_of(SizeName.CUSTOM, custom)))
    assert made.named("ResourceQuota", "bh-compute")["spec"]["hard"] == {
        "requests.cpu": "3",
        "limits.cpu": "6",
        "requests.memory": "4Gi",
        "limits.memory": "8Gi",
        "requests.ephemeral-storage": "5Gi",
        "limits.ephemeral-storage": "10Gi",
        "requests.nvidia.com/gpu": "6",
        "pods": "7",
    }
    assert made.named("ResourceQuota", "bh-objects")["spec"]["hard"] == {
        "persistentvolumeclaims": "8",
        "requests.storage": "9Gi",
        "services": "10",
        "services.loadbalancers": "0",
        "services.nodeports": "0",
        "count/secrets": "11",
        "count/configmaps": "13",
        "count/jobs.batch": "13",
        "count/cronjobs.batch": "13",
        "count/deployments.apps": "14",
        "count/replicasets.apps": "168",
    }


@pytest.mark.parametrize(
    ("custom", "wrong"),
    [
        ({"cores": 0}, "cores: Use a whole number from 1 to 1,000,000."),
        ({"gpus": -1}, "gpus: Use a whole number from 0 to 1,000,000."),
        ({"pods": True}, "pods: Use"),
        ({"memory": 1.5}, "memory: Use"),
        ({"memory": "16Gi"}, "memory: Use"),
        ({"storage": MAX_NUMBER + 1}, "storage: Use"),
        ({"disks": 1}, "A size has no disks; it has cores,"),
        ({1: 1}, "A size has no 1;"),
        ([1], "A custom size is an object"),
        ("small", "A custom size is an object"),
        (None, "A custom size is an object"),
    ],
)
def test_a_custom_size_says_what_is_wrong_with_it(custom: Any, wrong: str) -> None:
    """Also where a form's field asks, which takes errors by no names."""
    with pytest.raises(ValidationError) as caught:
        check_custom(custom)
    assert wrong in caught.value.messages[0]
    with pytest.raises(ValidationError):
        Tenant._meta.get_field("custom_size").run_validators(custom or 0)
    with pytest.raises(ValidationError):
        size_of(SizeName.CUSTOM, custom)


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(ValidationError, match="There is no size huge"):
        size_of("huge", {})
    assert size_of("small", {"cores": 0}) == SIZES["small"]


# --- From the database ---


def members(tenant: Tenant) -> dict[str, set[str]]:
    """Return who is bound to each role in a cluster that knows no groups."""
    made = Bundle(render(team_of(tenant), BY_USERS), tenant.namespace, tenant.slug)
    return {
        role: {
            subject["name"].removeprefix("oidc:")
            for subject in made.named("RoleBinding", f"bh-{role}")["subjects"]
        }
        for role in names.CLUSTER_ROLES
    }


def test_members_have_their_roles_in_the_cluster_and_strangers_none(world: World) -> None:
    """L32, and L21: who is removed is out of the next bundle."""
    assert members(world.alpha) == {
        "viewer": {"bob"},
        "editor": {"carol", "mia"},
        "admin": {"alice"},
    }
    assert members(world.gamma) == {"viewer": set(), "editor": {"gina"}, "admin": {"hugo"}}
    remove_member(world.alpha.memberships.get(user=world.bob))
    world.mia.is_active = False
    world.mia.save()
    assert members(world.alpha) == {"viewer": set(), "editor": {"carol"}, "admin": {"alice"}}


def test_each_role_here_is_one_role_in_a_cluster() -> None:
    held = [(role, name) for name, roles in names.CLUSTER_ROLES.items() for role in roles]
    assert len(held) == len(Role.values)
    assert {str(role): name for role, name in held} == {
        "viewer": "viewer",
        "contributor": "editor",
        "maintainer": "editor",
        "admin": "admin",
    }


def test_a_bundle_tells_nothing_of_another_team(world: World) -> None:
    """L28."""
    for installation in (HERE, BY_USERS):
        text = writers.bundle_yaml(team_of(world.alpha), installation)
        assert CANARY not in text
        assert "gamma" not in text


def test_a_suspended_team_is_rendered_suspended(world: World) -> None:
    suspend_tenant(world.alpha)
    assert team_of(world.alpha).suspended
    assert members(world.alpha) == {"viewer": set(), "editor": set(), "admin": set()}


# --- What a cluster has once ---

ONCE = cluster_wide.render(HERE)
CONTROLLER = cluster_wide.controller(HERE)


def rules(role: str, objects: Iterable[Object] = (*ONCE, *CONTROLLER)) -> list[Object]:
    found: list[Object]
    [found] = [
        obj["rules"]
        for obj in objects
        if obj["kind"] == "ClusterRole" and obj["metadata"]["name"] == role
    ]
    return found


def verbs(role: str, resource: str) -> set[str]:
    """Return what a role may do with a resource."""
    return {verb for rule in rules(role) if resource in rule["resources"] for verb in rule["verbs"]}


VIEWER, EDITOR, ADMIN = (f"bh-tenant-{role}" for role in ("viewer", "editor", "admin"))
WRITING = {"create", "update", "patch", "delete", "deletecollection"}
#: What limits a namespace, or gives rights in it: Bulkhead's to write, and nobody's in a tenant.
GUARDS = (
    *("namespaces", "resourcequotas", "limitranges", "networkpolicies", "serviceaccounts"),
    *("roles", "rolebindings"),
)


def test_a_cluster_has_eleven_objects_once() -> None:
    assert [(obj["kind"], obj["metadata"]["name"]) for obj in ONCE] == [
        *(("ClusterRole", role) for role in (VIEWER, EDITOR, ADMIN)),
        ("PriorityClass", "bh-serving"),
        ("PriorityClass", "bh-batch"),
        *(
            (kind, f"bh-tenant-{name}")
            for name in ("namespace", "label-guard", "subjects")
            for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
        ),
    ]
    assert all("namespace" not in obj["metadata"] for obj in ONCE)


def test_a_viewer_only_reads_and_only_an_admin_sees_secrets() -> None:
    assert {verb for rule in rules(VIEWER) for verb in rule["verbs"]} == READING
    for role in (VIEWER, EDITOR):
        assert verbs(role, "secrets") == set()
    assert verbs(ADMIN, "secrets") == READING | WRITING - {"deletecollection"}


def test_an_editor_writes_workloads_and_nothing_that_limits_them() -> None:
    written = {
        resource
        for rule in rules(EDITOR)
        if set(rule["verbs"]) & WRITING
        for resource in rule["resources"]
    }
    assert written == {
        *("deployments", "deployments/scale", "jobs", "cronjobs"),
        *("configmaps", "persistentvolumeclaims", "services"),
    }


@pytest.mark.parametrize("role", [VIEWER, EDITOR, ADMIN])
def test_no_role_of_a_tenant_leads_beyond_it(role: str) -> None:
    """L22: no wildcards, no way into a pod, no tokens of others, nothing that guards."""
    for rule in rules(role):
        for what in ("apiGroups", "resources", "verbs"):
            assert not any("*" in name for name in rule[what])
        assert not bundle_invariants.ESCALATING & set(rule["verbs"])
    for resource in GUARDS:
        assert not verbs(role, resource) & WRITING, resource
    for way in ("exec", "attach", "portforward", "proxy", "ephemeralcontainers", "status"):
        assert verbs(role, f"pods/{way}") == set()
    assert verbs(role, "serviceaccounts/token") == set()
    assert not verbs(role, "pods") & {"create", "update", "patch"}
    assert not verbs(role, "endpointslices") & WRITING


def test_each_role_may_do_what_the_one_before_it_may() -> None:
    def rights(role: str) -> set[tuple[str, str, str]]:
        return {
            (group, resource, verb)
            for rule in rules(role)
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }

    assert rights(VIEWER) < rights(EDITOR) < rights(ADMIN)


def test_servers_go_before_jobs_and_jobs_push_nobody_out() -> None:
    classes = {obj["metadata"]["name"]: obj for obj in ONCE if obj["kind"] == "PriorityClass"}
    serving, batch = classes["bh-serving"], classes["bh-batch"]
    assert (serving["value"], batch["value"]) == (100_000, 1_000)
    assert batch["preemptionPolicy"] == "Never"
    # Above that begin the cluster's own.
    assert serving["value"] < 1_000_000_000
    assert not serving["globalDefault"] and not batch["globalDefault"]


def test_bulkheads_own_account_writes_bundles_and_no_workload() -> None:
    [account, role, binding] = CONTROLLER
    assert account["metadata"]["namespace"] == HERE.registry_namespace
    assert binding["roleRef"]["name"] == role["metadata"]["name"] == "bh-controller"
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "bulkhead", "namespace": "bulkhead"}
    ]
    for kind in GUARDS:
        assert verbs("bh-controller", kind) == READING | WRITING - {"deletecollection"}
    for kind in ("pods", "deployments", "statefulsets", "daemonsets", "jobs", "cronjobs"):
        assert verbs("bh-controller", kind) == {"get", "list"}
    assert verbs("bh-controller", "secrets") == set()


def test_bulkhead_binds_the_three_roles_and_holds_what_it_grants() -> None:
    """Kubernetes lets nobody grant what they have not themselves, unless they may bind it."""
    [bound] = [rule for rule in rules("bh-controller") if "bind" in rule["verbs"]]
    assert bound["resources"] == ["clusterroles"]
    assert set(bound["resourceNames"]) == {VIEWER, EDITOR, ADMIN}
    for rule in rules("bh-controller"):
        assert not {"escalate", "impersonate"} & set(rule["verbs"])
        assert not any("*" in name for what in rule.values() for name in what)
    [granted] = [obj["rules"] for obj in render(TEAM, HERE) if obj["kind"] == "Role"]
    assert all(rule in rules("bh-controller") for rule in granted)


def test_all_that_a_bundle_refers_to_is_there() -> None:
    known = {(obj["kind"], obj["metadata"]["name"]) for obj in (*ONCE, *render(TEAM, HERE))}
    for binding in (obj for obj in render(TEAM, HERE) if obj["kind"] == "RoleBinding"):
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in known
