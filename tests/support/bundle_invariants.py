"""What must hold of every bundle, whoever's it is: each a function that fails if it does not.

They read only the objects, as an API server would get them, and none of what rendered them.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tenants.kubernetes.quantities import parse

Object = dict[str, Any]

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
LABEL_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
#: All that a bundle may hold, and how many of each.
KINDS = {
    "Namespace": 1,
    "ServiceAccount": 4,
    "RoleBinding": 4,
    "Role": 1,
    "ResourceQuota": 2,
    "LimitRange": 1,
    "NetworkPolicy": 5,
}
READING = {"get", "list", "watch"}
#: What would let somebody become more than they are.
ESCALATING = {"bind", "escalate", "impersonate", "approve", "sign", "use"}
PREFIX = "bulkhead.dev"


@dataclass(frozen=True)
class Bundle:
    """Rendered objects, and whose they should be."""

    objects: list[Object]
    namespace: str
    slug: str

    def of_kind(self, *kinds: str) -> list[Object]:
        return [obj for obj in self.objects if obj["kind"] in kinds]

    def named(self, kind: str, name: str) -> Object:
        [found] = [obj for obj in self.of_kind(kind) if obj["metadata"]["name"] == name]
        return found


def all_in_its_own_namespace(bundle: Bundle) -> None:
    [namespace] = bundle.of_kind("Namespace")
    assert namespace["metadata"]["name"] == bundle.namespace
    assert "namespace" not in namespace["metadata"]
    for obj in bundle.objects:
        if obj is not namespace:
            assert obj["metadata"]["namespace"] == bundle.namespace


def nothing_but_these_kinds(bundle: Bundle) -> None:
    """Above all no ClusterRoleBinding: a tenant has rights in its namespace and nowhere else."""
    kinds = [obj["kind"] for obj in bundle.objects]
    assert {kind: kinds.count(kind) for kind in kinds} == KINDS


def each_object_once(bundle: Bundle) -> None:
    keys = [(obj["apiVersion"], obj["kind"], obj["metadata"]["name"]) for obj in bundle.objects]
    assert len(keys) == len(set(keys))


def the_namespace_comes_first_and_limits_before_there_is_a_way_out(bundle: Bundle) -> None:
    kinds = [obj["kind"] for obj in bundle.objects]
    assert kinds[0] == "Namespace"
    names = [obj["metadata"]["name"] for obj in bundle.of_kind("NetworkPolicy")]
    assert names[0] == "bh-default-deny"


def no_service_account_of_another_namespace(bundle: Bundle) -> None:
    own = {obj["metadata"]["name"] for obj in bundle.of_kind("ServiceAccount")}
    for binding, subject in subjects(bundle):
        if subject["kind"] == "ServiceAccount":
            assert subject["namespace"] == bundle.namespace, binding
            assert subject["name"] in own, binding
        assert not subject["name"].startswith("system:"), binding


def no_group_but_the_tenants(bundle: Bundle) -> None:
    for binding, subject in subjects(bundle):
        assert subject["kind"] in {"ServiceAccount", "User", "Group"}
        if subject["kind"] == "Group":
            role = binding["metadata"]["name"].removeprefix("bh-")
            assert subject["name"].endswith(f"bh:{bundle.slug}:{role}")


def roles_are_the_tenants_three_or_its_own(bundle: Bundle) -> None:
    own = {obj["metadata"]["name"] for obj in bundle.of_kind("Role")}
    for binding in bundle.of_kind("RoleBinding"):
        name, role = binding["metadata"]["name"], binding["roleRef"]
        if role["kind"] == "ClusterRole":
            # A roleRef cannot be changed, so the role is part of the binding's name.
            assert role["name"] == f"bh-tenant-{name.removeprefix('bh-')}"
            assert role["name"] in {"bh-tenant-viewer", "bh-tenant-editor", "bh-tenant-admin"}
        else:
            assert role["kind"] == "Role" and role["name"] in own


def rights_are_named_one_by_one(bundle: Bundle) -> None:
    for role in bundle.of_kind("Role", "ClusterRole"):
        for rule in role["rules"]:
            for what in ("apiGroups", "resources", "verbs"):
                assert rule[what] and not any("*" in name for name in rule[what]), role
            assert not ESCALATING & set(rule["verbs"]), role
            assert "secrets" not in rule["resources"], role
        if role["kind"] == "Role":
            assert all(rule["resourceNames"] for rule in role["rules"])


def no_token_is_mounted_by_itself(bundle: Bundle) -> None:
    accounts = bundle.of_kind("ServiceAccount")
    assert "default" in {account["metadata"]["name"] for account in accounts}
    assert all(account["automountServiceAccountToken"] is False for account in accounts)


def pods_are_restricted(bundle: Bundle) -> None:
    labels = bundle.named("Namespace", bundle.namespace)["metadata"]["labels"]
    for mode in ("enforce", "audit", "warn"):
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"
        assert re.fullmatch(r"v1\.\d+", labels[f"pod-security.kubernetes.io/{mode}-version"])


def all_that_pods_use_has_a_limit(bundle: Bundle) -> None:
    hard = bundle.named("ResourceQuota", "bh-compute")["spec"]["hard"]
    for what in ("cpu", "memory", "ephemeral-storage"):
        assert 0 < parse(hard[f"requests.{what}"]) <= parse(hard[f"limits.{what}"])
    assert parse(hard["requests.nvidia.com/gpu"]) >= 0
    assert parse(hard["pods"]) >= 0


def all_objects_have_a_limit_and_no_port_is_opened_outside(bundle: Bundle) -> None:
    hard = bundle.named("ResourceQuota", "bh-objects")["spec"]["hard"]
    assert set(hard) == {
        *("persistentvolumeclaims", "requests.storage", "services", "count/secrets"),
        *("count/configmaps", "count/jobs.batch", "count/deployments.apps"),
        *("count/cronjobs.batch", "count/replicasets.apps"),
        *("services.loadbalancers", "services.nodeports"),
    }
    assert hard["services.loadbalancers"] == hard["services.nodeports"] == "0"
    # Each namespace has a ConfigMap of the cluster's own.
    assert parse(hard["count/configmaps"]) >= 1


def what_the_quota_limits_has_a_default(bundle: Bundle) -> None:
    """Otherwise a pod that says nothing about it would be refused."""
    container = limits(bundle, "Container")
    quotas = bundle.of_kind("ResourceQuota")
    limited = [name for quota in quotas for name in quota["spec"]["hard"]]
    for name in limited:
        which, _, resource = name.partition(".")
        if which in {"requests", "limits"} and resource in {"cpu", "memory", "ephemeral-storage"}:
            assert resource in container["default" if which == "limits" else "defaultRequest"]
    assert "storage" in limits(bundle, "PersistentVolumeClaim")["max"]


def defaults_lie_between_the_least_and_the_most(bundle: Bundle) -> None:
    container = limits(bundle, "Container")
    hard = bundle.named("ResourceQuota", "bh-compute")["spec"]["hard"]
    for what in ("cpu", "memory", "ephemeral-storage"):
        least, request, default, most = (
            parse(container[which][what]) for which in ("min", "defaultRequest", "default", "max")
        )
        assert 0 < least <= request <= default <= most, what
        # One container of the usual kind fits, and none may be larger than all together.
        assert request <= parse(hard[f"requests.{what}"])
        assert most <= parse(hard[f"limits.{what}"])


def nobody_talks_to_anybody_at_first(bundle: Bundle) -> None:
    assert bundle.named("NetworkPolicy", "bh-default-deny")["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [],
        "egress": [],
    }


def each_allowance_names_whom(bundle: Bundle) -> None:
    """Each is for whole namespaces by their own name, and for ports; within its own, for all."""
    for policy in bundle.of_kind("NetworkPolicy"):
        spec = policy["spec"]
        ways = {way.lower() for way in spec["policyTypes"]}
        assert ways and ways == set(spec) & {"ingress", "egress"}, policy
        for way, ends in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(way, []):
                assert rule[ends], policy
                for peer in rule[ends]:
                    assert_named(peer, rule)


def assert_named(peer: Object, rule: Object) -> None:
    assert "ipBlock" not in peer
    if "namespaceSelector" not in peer:
        assert peer == {"podSelector": {}}
        return
    selector = peer["namespaceSelector"]
    assert set(selector) == {"matchLabels"}
    assert set(selector["matchLabels"]) == {"kubernetes.io/metadata.name"}
    assert rule["ports"] and all(port["port"] > 0 for port in rule["ports"])


def names_and_labels_are_ones_that_kubernetes_takes(bundle: Bundle) -> None:
    assert LABEL.fullmatch(bundle.namespace)
    for obj in bundle.objects:
        metadata = obj["metadata"]
        assert SUBDOMAIN.fullmatch(metadata["name"]) and len(metadata["name"]) <= 63
        for key, value in metadata["labels"].items():
            assert LABEL_VALUE.fullmatch(value), value
            assert_key(key)
        for key in metadata["annotations"]:
            assert_key(key)


def assert_key(key: str) -> None:
    prefix, slash, name = key.rpartition("/")
    assert LABEL_NAME.fullmatch(name)
    assert not slash or (SUBDOMAIN.fullmatch(prefix) and len(prefix) <= 253)


def each_object_says_whose_it_is(bundle: Bundle) -> None:
    for obj in bundle.objects:
        metadata = obj["metadata"]
        labels = metadata["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "bulkhead"
        assert labels["app.kubernetes.io/part-of"] == "bulkhead-tenant"
        assert labels[f"{PREFIX}/tenant"] == bundle.slug
        assert re.fullmatch(r"[0-9a-f-]{36}", labels[f"{PREFIX}/tenant-id"])
        assert f"{PREFIX}/bundle-version" in metadata["annotations"]
        # A cascade from another object would delete the tenant's.
        assert "ownerReferences" not in metadata


def nothing_goes_by_itself(bundle: Bundle) -> None:
    annotations = bundle.named("Namespace", bundle.namespace)["metadata"]["annotations"]
    options = annotations["argocd.argoproj.io/sync-options"]
    assert set(options.split(",")) == {"Prune=confirm", "Delete=confirm"}


def nobody_is_let_in(bundle: Bundle) -> None:
    """Of a suspended tenant."""
    assert [*subjects(bundle)] == []
    assert bundle.named("ResourceQuota", "bh-compute")["spec"]["hard"]["pods"] == "0"
    for policy in bundle.of_kind("NetworkPolicy"):
        for way in policy["spec"]["policyTypes"]:
            assert policy["spec"][way.lower()] == [], policy


def subjects(bundle: Bundle) -> Iterator[tuple[Object, Object]]:
    """Yield each subject with the binding that names it."""
    for binding in bundle.of_kind("RoleBinding", "ClusterRoleBinding"):
        for subject in binding["subjects"]:
            yield binding, subject


def limits(bundle: Bundle, kind: str) -> Object:
    [spec] = [obj["spec"] for obj in bundle.of_kind("LimitRange")]
    found: Object
    [found] = [limit for limit in spec["limits"] if limit["type"] == kind]
    return found


Invariant = Callable[[Bundle], None]

INVARIANTS: tuple[Invariant, ...] = (
    all_in_its_own_namespace,
    nothing_but_these_kinds,
    each_object_once,
    the_namespace_comes_first_and_limits_before_there_is_a_way_out,
    no_service_account_of_another_namespace,
    no_group_but_the_tenants,
    roles_are_the_tenants_three_or_its_own,
    rights_are_named_one_by_one,
    no_token_is_mounted_by_itself,
    pods_are_restricted,
    all_that_pods_use_has_a_limit,
    all_objects_have_a_limit_and_no_port_is_opened_outside,
    what_the_quota_limits_has_a_default,
    defaults_lie_between_the_least_and_the_most,
    nobody_talks_to_anybody_at_first,
    each_allowance_names_whom,
    names_and_labels_are_ones_that_kubernetes_takes,
    each_object_says_whose_it_is,
    nothing_goes_by_itself,
)
