"""Ways around the manifest check: other makers' kinds, and places where nobody would look."""

import time
from typing import Any

import pytest
import yaml

from tenants.kubernetes import workloads
from tests.support.manifests import (
    ALPHA,
    LABEL,
    Object,
    but,
    container,
    env,
    found,
    made,
    pod,
    policy,
    rules_for,
    spec,
)

OWN = {"bulkhead.dev/tenant": "team_alpha"}
GAMMA = "bh-team-gamma"


def said(rule: str, obj: Object) -> str:
    """Return what a rule says of an object."""
    return rules_for(obj)[rule]


# --- pods in objects of other makers ---------------------------------------------------------

VOLCANO, ARGO, KSERVE = (
    "batch.volcano.sh/v1alpha1",
    "argoproj.io/v1alpha1",
    "serving.kserve.io/v1beta1",
)
ON_ITS_NODE = spec(hostNetwork=True)


@pytest.mark.parametrize(
    ("rule", "obj"),
    [
        # It is called as Kubernetes' own kind is, and keeps its pods elsewhere.
        ("BH502", made("Job", VOLCANO, spec={"tasks": [{"template": {"spec": ON_ITS_NODE}}]})),
        ("BH502", made("Deployment", "x.example.com/v1", template={"spec": ON_ITS_NODE})),
        # A pod inside what is a pod already.
        (
            "BH502",
            made("Train", "x.example.com/v1", spec=spec(workers={"spec": ON_ITS_NODE})),
        ),
        # Containers whose image the maker fills in.
        (
            "BH504",
            made(
                "InferenceService",
                KSERVE,
                spec={
                    "predictor": {
                        "containers": [{"name": "web", "securityContext": {"privileged": True}}]
                    }
                },
            ),
        ),
        # No list of containers at all.
        ("BH502", made("Workflow", ARGO, spec={"hostPID": True})),
        ("BH501", made("Workflow", ARGO, spec={"volumes": [{"hostPath": {"path": "/"}}]})),
        (
            "BH504",
            made(
                "Workflow",
                ARGO,
                spec={"templates": [{"container": {"securityContext": {"privileged": True}}}]},
            ),
        ),
    ],
)
def test_a_pod_is_found_wherever_another_maker_keeps_it(rule: str, obj: Object) -> None:
    assert rule in rules_for(obj)


def test_a_good_pod_of_another_maker_is_let_be() -> None:
    template = {"template": {"metadata": {"labels": OWN}, "spec": spec(hostNetwork=False)}}
    assert rules_for(made("Job", VOLCANO, spec={"tasks": [template]})) == {}
    assert rules_for(made("Workflow", ARGO, spec={"volumes": [{"emptyDir": {}}]})) == {}


# --- models ------------------------------------------------------------------------------------


@pytest.fixture
def none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no model be used."""
    monkeypatch.setattr(
        workloads, "verdict_on", lambda reference: workloads.Verdict(f"no {reference.uri}")
    )


@pytest.mark.parametrize(
    "obj",
    [
        made("InferenceService", KSERVE, spec={"predictor": {"storageUri": "models:/secret/1"}}),
        made("Job", VOLCANO, spec={"tasks": [{"template": {"args": ["models:/secret/1"]}}]}),
        made("ConfigMap", data={"MODEL": "models:/secret/1"}),
        made("Secret", stringData={"MODEL": " Models:/secret/1\n"}),
    ],
)
def test_a_model_is_asked_for_wherever_it_is_named(obj: Object, none: None) -> None:
    assert "no " in said("BH601", obj)


def test_a_text_in_a_config_map_that_speaks_of_models_is_none(none: None) -> None:
    text = "Write models:/name/version, such as models:/fraud/3."
    assert rules_for(made("ConfigMap", data={"README": text})) == {}


# --- amounts, standards, addresses ----------------------------------------------------------------


@pytest.mark.parametrize("nothing", ["0", "0e3", "+0", "-1", ".0", "0.00Gi", "much", True])
def test_a_limit_of_zero_or_nothing_counts_as_missing(nothing: Any) -> None:
    limits = {"cpu": nothing, "memory": "1Gi"}
    bad = pod(containers=[container(resources={"limits": limits})])
    assert said("BH509", bad).endswith("has container web with no cpu request, no cpu limit.")


@pytest.mark.parametrize("amount", ["1", "500m", 2, 0.5, "1e3", "16Gi"])
def test_any_amount_is_a_limit(amount: Any) -> None:
    limits = {"cpu": amount, "memory": "1Gi"}
    assert rules_for(pod(containers=[container(resources={"limits": limits})])) == {}


@pytest.mark.parametrize("release", ["v1.0", "v1.29", "", "v2", "v1.30", "v1.31", "latest"])
def test_the_standard_is_not_one_of_a_release_that_asked_for_less(release: str) -> None:
    is_enough = release in ("v1.30", "v1.31", "latest")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    labels["pod-security.kubernetes.io/enforce-version"] = release
    namespace = but(made("Namespace", name=ALPHA.namespace), namespace=None, labels=labels)
    assert ("BH108" not in rules_for(namespace)) is is_enough


@pytest.mark.parametrize("block", ["::ffff:10.0.0.0/104", "::ffff:0:0/96", "::1/128"])
def test_an_address_block_is_internal_also_when_it_is_written_as_ipv6(block: str) -> None:
    ingress = [{"from": [{"ipBlock": {"cidr": block}}]}]
    assert block in said("BH402", policy(ingress=ingress))


def test_blocks_that_are_left_out_are_not_read_without_end() -> None:
    """Of a few kilobytes aliases make many thousands of blocks."""
    left_out = ", ".join(["192.0.2.1/32"] * 600)
    block = f"&block {{ipBlock: {{cidr: 0.0.0.0/0, except: [{left_out}]}}}}"
    peers = f"[{block}, {', '.join(['*block'] * 300)}]"
    text = yaml.safe_dump(policy(ingress="PEERS")).replace("PEERS", f"[{{from: {peers}}}]")
    start = time.process_time()
    assert "BH402" in "".join(found(text))
    assert time.process_time() - start < 1
    internal = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8"]
    internal += ["169.254.0.0/16"]
    whole = {"ipBlock": {"cidr": "0.0.0.0/0", "except": internal}}
    assert rules_for(policy(ingress=[{"from": [whole]}])) == {}


@pytest.mark.parametrize("address", ["10.1.2.3", "fd00::1", "::ffff:10.1.2.3", "10.1", 5])
def test_a_service_is_not_led_to_another_tenants_pod_by_its_address(address: Any) -> None:
    parts = [{"addresses": [address]}]
    listed = made("EndpointSlice", "discovery.k8s.io/v1", endpoints=parts)
    older = made("Endpoints", subsets=[{"addresses": [{"ip": address}]}])
    for obj in (listed, older):
        assert "leads to the address" in said("BH402", obj)


def test_an_endpoint_slice_with_public_addresses_has_no_findings() -> None:
    parts = [{"addresses": ["93.184.216.34", "2606:2800:220:1::1"]}]
    assert rules_for(made("EndpointSlice", "discovery.k8s.io/v1", endpoints=parts)) == {}


# --- other namespaces ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "obj",
    [
        made(
            "ServiceMonitor", "monitoring.coreos.com/v1", spec={"namespaceSelector": {"any": True}}
        ),
        made("Prometheus", "monitoring.coreos.com/v1", spec={"podMonitorNamespaceSelector": {}}),
        made(
            "Gateway",
            "gateway.networking.k8s.io/v1",
            spec={"listeners": [{"allowedRoutes": {"namespaces": {"from": "All"}}}]},
        ),
        pod(affinity={"podAffinity": {"wanted": [{"namespaceSelector": {}, "topologyKey": "x"}]}}),
    ],
)
def test_a_selector_of_all_namespaces_includes_other_tenants(obj: Object) -> None:
    assert said("BH301", obj).endswith("takes in namespaces that are not its tenant's.")


@pytest.mark.parametrize(
    "choice",
    [{"matchNames": [ALPHA.namespace]}, {"any": False, "matchNames": [ALPHA.namespace]}],
)
def test_the_tenants_own_namespace_may_be_chosen(choice: Object) -> None:
    monitor = made("ServiceMonitor", "monitoring.coreos.com/v1", spec={"namespaceSelector": choice})
    assert rules_for(monitor) == {}


def test_an_ingress_uses_no_secret_of_another_namespace() -> None:
    ingress = made("Ingress", "networking.k8s.io/v1")
    for key in ("auth-secret", "auth-tls-secret", "proxy-ssl-secret"):
        name = f"nginx.ingress.kubernetes.io/{key}"
        other = but(ingress, annotations={name: f"{GAMMA}/users"})
        assert f"refers to Secret users in namespace {GAMMA}" in said("BH301", other)
        for own in ("users", f"{ALPHA.namespace}/users"):
            assert rules_for(but(ingress, annotations={name: own})) == {}


@pytest.mark.parametrize(
    "obj",
    [
        made("CronJob", "batch/v1", spec={"jobTemplate": {"metadata": {"labels": {LABEL: "x"}}}}),
        made(
            "StatefulSet",
            "apps/v1",
            spec={"volumeClaimTemplates": [{"metadata": {"labels": {LABEL: "x"}}}]},
        ),
    ],
)
def test_what_a_workload_makes_beside_pods_carries_no_other_tenants_label(obj: Object) -> None:
    assert f"carries the label {LABEL}: x" in said("BH104", obj)


def test_what_two_rules_see_at_one_place_is_said_once(none: None) -> None:
    obj = made("Job", VOLCANO, spec={"template": env("models:/secret/1")})
    obj["spec"]["template"]["spec"]["hostNetwork"] = True
    said_of = [one.split(" ", 2)[1] for one in found(yaml.safe_dump(obj))]
    assert (said_of.count("BH502"), said_of.count("BH601")) == (1, 1)
