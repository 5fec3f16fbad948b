"""The manifest check: how manifests are read, what each rule finds, and what the command says."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from django.conf import settings
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tenants.clusters import Installation
from tenants.kubernetes import workloads
from tenants.kubernetes.bundle import objects as bundle
from tenants.kubernetes.manifests import reader, reports
from tenants.kubernetes.manifests.check import ManifestFinding, OneTenant, check
from tenants.kubernetes.manifests.reader import (
    FILE_LIMITS,
    SENT_LIMITS,
    Reader,
    TooLarge,
    Unreadable,
)
from tenants.kubernetes.manifests.rules.catalogue import RULES, WARNING
from tenants.models import Tenant
from tenants.sizes import SIZES
from tests.support.commands import manage
from tests.support.manifests import (
    ALPHA,
    BROKEN,
    LABEL,
    MISPLACED,
    RBAC,
    Object,
    block,
    bound,
    but,
    chosen,
    container,
    env,
    found,
    made,
    named,
    pod,
    policy,
    read,
    rules_for,
    secured,
    spec,
)
from tests.support.people import World


def refusal(text: str | bytes) -> Unreadable:
    """Return why a file cannot be read."""
    reader = Reader(SENT_LIMITS)
    content = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(Unreadable) as raised:
        reader.read("file.yaml", reader.decode("file.yaml", content))
    return raised.value


# --- reading -------------------------------------------------------------------------------


@pytest.fixture(params=["C", "Python"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test with either of PyYAML's readers."""
    if request.param == "Python":
        monkeypatch.setattr(reader, "LOADER", yaml.BaseLoader)


def test_each_value_knows_its_line_and_column(loader: None) -> None:
    text = "# é\na: 1\nb:\n  - x: é\n    v: [1, {z: here}]\n---\n{c: d}\n"
    first, second = read(text)
    assert str(first.place(("a",))) == "file.yaml:2:4"
    assert str(first.place(("b",))) == "file.yaml:3:1"  # a list: where its key is
    assert str(first.place(("b", 0))) == "file.yaml:4:5"
    assert str(first.place(("b", 0, "x"))) == "file.yaml:4:8"
    assert str(first.place(("b", 0, "v", 1, "z"))) == "file.yaml:5:16"
    assert str(first.place(("b", 0, "none", "deeper"))) == "file.yaml:4:5"
    assert str(second.place(("c",))) == "file.yaml:7:5"
    assert (first.value["a"], first.get("b", 0, "v", 0)) == (1, 1)


def test_places_are_the_same_in_json_with_tabs_and_other_ends_of_lines() -> None:
    [manifest] = read('{\n\t"kind": "Pod",\r\n\t"a": {"b": "x\\/y", "e": 1e3}\n}')
    assert str(manifest.place(("a", "b"))) == "file.yaml:3:13"
    assert manifest.value["a"] == {"b": "x/y", "e": 1000.0}
    [manifest] = read("a: 1\r\nb: 2\rc: 3\n")
    assert str(manifest.place(("c",))) == "file.yaml:3:4"
    assert reader.lines_of("a: 1\r\nb: 2\rc: 3\n")[2] == "c: 3"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *((word, True) for word in ("yes", "Yes", "YES", "on", "ON", "true", "True", "y", "Y")),
        *((word, False) for word in ("no", "No", "off", "false", "FALSE", "n")),
        *((word, None) for word in ("", "~", "null", "Null")),
        *((f"'{word}'", word) for word in ("yes", "null", "1", "")),
        ("yEs", "yEs"),
        ("010", 8),
        ("0x1F", 31),
        ("0b11", 3),
        ("-1_000", -1000),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1:30", "1:30"),
        ("2001-01-01", "2001-01-01"),
        ("1.2.3", "1.2.3"),
        ("9" * 5000, "9" * 5000),
        ("!!str yes", "yes"),
        ("!!bool 'on'", True),
        ("!!int '3'", 3),
        ("! 3", "3"),
        ("500m", "500m"),
    ],
)
def test_words_and_numbers_mean_what_they_mean_to_kubectl(written: str, value: Any) -> None:
    [manifest] = read(f"a: {written}")
    assert manifest.value == {"a": value}
    assert type(manifest.value["a"]) is type(value)


def test_keys_are_texts_as_in_json() -> None:
    [manifest] = read("on: 1\n8080: 2\n'yes': 3")
    assert manifest.value == {"true": 1, "8080": 2, "yes": 3}


def test_halves_of_a_character_in_json_are_joined() -> None:
    [manifest] = read('{"a": "\\ud83d\\ude00 \\u00e9"}')
    assert manifest.value == {"a": "😀 é"}


def test_anchors_and_merges_give_what_they_stand_for() -> None:
    text = "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz:\n  <<: [*x, *y]\n  a: 9\nlist: [*x, *x]\n"
    [manifest] = read(text)
    assert manifest.value["z"] == {"a": 9, "b": 2, "c": 4}
    assert manifest.value["list"] == [{"a": 1, "b": 2}] * 2
    assert manifest.place(("z", "b")).line == 1
    assert manifest.place(("z", "a")).line == 5


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: [", "1:5", "not valid YAML"),
        ("a: 1\n  b: 2", "2:4", "not valid YAML"),
        ("a: {{ .Values.a }}", "1:5", "template"),
        ("{{- if .Values.a }}\na: 1\n{{- end }}", "1:2", "fill it in first"),
        ("a: {{ .a }}\n{{- if .b }}\nb: 1\n{{- end }}", "1:5", "fill it in first"),
        ("a: 1\n{{- if .b }}\nb: 1\n{{- end }}", "3:1", "helm template"),
        ("a: 1\nb:\n  c: 1\n  c: 2", "4:3", "The key c is there twice, first in line 3"),
        ('{"a": 1,\n "a": 2}', "2:2", "there twice"),
        ("on: 1\ntrue: 2", "2:1", "there twice"),
        ("m: &m {a: 1}\nb:\n  a: 2\n  <<: *m", "4:3", "stands before <<"),
        ("m: &m {a: 1}\nb:\n  <<: *m\n  <<: *m", "4:3", "<< is there twice"),
        ("b: {<<: 1}", "1:9", "Only mappings can be merged"),
        ("a: &a [*a]", "1:8", "what it stands in"),
        ("a: *b", "1:4", "no anchor"),
        ("a: &a 1\n---\nb: *a", "3:4", "no anchor"),
        ("a: !!binary dGVuYW50Mg==", "1:4", "Tags such as"),
        ("a: !!python/object/apply:os.system [x]", "1:4", "Tags such as"),
        ("a: !!bool maybe", "1:4", "not what its tag says"),
        ("? [a]\n: b", "1:3", "A key must be text"),
        ("~: b", "1:1", "A key must be text"),
        ("a: 1\nb: é\x01", "2:5", "control character"),
        (b"a: 1\nb: \xff", "2:4", "not UTF-8"),
        ("{}\n{}", "2:1", "not valid YAML"),
        ("'", "1:2", "not valid YAML"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(
    text: str | bytes, place: str, words: str
) -> None:
    problem = refusal(text)
    assert str(problem.place) == f"file.yaml:{place}"
    assert words in problem.message


def test_a_mark_of_the_byte_order_is_no_content() -> None:
    reader = Reader(SENT_LIMITS)
    [manifest] = reader.read("f", reader.decode("f", b"\xef\xbb\xbfa: 1"))
    assert manifest.value == {"a": 1}


LAUGHS = "".join(
    f"l{number}: &l{number} [{', '.join([f'*l{number - 1}'] * 10)}]\n" for number in range(1, 30)
)
DEEP = "".join(
    f"l{number}: &l{number} {'[' * 40}*l{number - 1}{']' * 40}\n" for number in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"l0: &l0 [lol, lol]\n{LAUGHS}", "400,000 values"),
        (f"l0: &l0 {{a: b}}\n{LAUGHS.replace('[', '{<<: [').replace(']', ']}')}", "400,000 values"),
        (f"t: &t {'x' * 100_000}\nl: [{', '.join(['*t'] * 1000)}]", "400,000 values"),
        ("[" * 500_000, "100 levels"),
        ("{a: " * 200_000, "100 levels"),
        ("- " * 500_000, "100 levels"),
        (f"l0: &l0 [x]\n{DEEP}", "100 levels"),
        (f"[{'1,' * 500_000}]", "400,000 values"),
        ("--- {}\n" * 6_000, "5,000 objects"),
        ("a" * (1024 * 1024 + 1), "1,024 KiB"),
    ],
    ids=range(10),
)
def test_what_would_cost_too_much_is_refused_at_once(text: str, words: str) -> None:
    started = time.process_time()
    problem = refusal(text)
    assert isinstance(problem, TooLarge)
    assert words in problem.message
    assert time.process_time() - started < 5


def test_files_that_belong_together_have_one_bound() -> None:
    reader = Reader(replace(SENT_LIMITS, values=10))
    assert reader.read("a", "[1, 2, 3, 4]")
    with pytest.raises(TooLarge):
        reader.read("b", "[1, 2, 3, 4, 5]")


def test_where_too_much_is_wrong_nobody_says_that_it_was_checked() -> None:
    many = f"{{apiVersion: v1, kind: Pod, spec: {{containers: [{'{},' * 6_000}]}}}}"
    done = reports.run([("f", many.encode())], SENT_LIMITS, ALPHA)
    [problem] = done.unreadable
    assert isinstance(problem, TooLarge)
    assert "more than 10,000 times" in problem.message
    assert reports.as_json(done)["clean"] is False


def test_lists_are_the_objects_in_them() -> None:
    text = """
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}
  - apiVersion: v1
    kind: PodList
    items:
      - metadata: {name: b}
      - {kind: Secret, apiVersion: v1, metadata: {name: c}}
---
---
# nothing
---
apiVersion: example.com/v1
kind: Basket
metadata: {name: d}
items:
  - {apiVersion: v1, kind: Pod, metadata: {name: e}}
"""
    objects = read(text)
    assert [(one.kind, one.name, one.value["apiVersion"]) for one in objects] == [
        ("ConfigMap", "a", "v1"),
        ("Pod", "b", "v1"),
        ("Secret", "c", "v1"),
        ("Pod", "e", "v1"),
        ("Basket", "d", "example.com/v1"),
    ]
    assert [one.place().line for one in objects] == [5, 9, 10, 19, 15]


# --- the rules -----------------------------------------------------------------------------


SERVICE_ACCOUNT = {"kind": "ServiceAccount", "name": "robot"}
GROUP, USER = {"kind": "Group"}, {"kind": "User"}
OWN = made("Namespace", name=ALPHA.namespace)
del OWN["metadata"]["namespace"]
RESTRICTED = "pod-security.kubernetes.io/enforce"
GATEWAY = "gateway.networking.k8s.io/v1"
FLUX = "kustomize.toolkit.fluxcd.io/v1"

#: With what each rule finds something in team_alpha's manifests, and the words it says.
BAD: list[tuple[str, Object, str]] = [
    ("BH100", {"kind": "Pod", "metadata": {"name": "x"}}, "The document is no Kubernetes object"),
    ("BH100", {"apiVersion": "v1", "kind": ["Pod"]}, "The document is no Kubernetes object"),
    ("BH101", but(pod(), namespace="bh-team-gamma"), "Pod scorer is placed in namespace bh-team-"),
    ("BH101", but(made("Widget", "example.com/v1"), namespace="x"), "Widget scorer is placed in"),
    ("BH103", but(pod(), namespace=None), "write namespace: bh-team-alpha"),
    ("BH103", but(pod(), namespace=7), "names no namespace"),
    (
        "BH104",
        but(pod(), labels={LABEL: "team_gamma"}),
        "team_gamma, and its namespace's is team_a",
    ),
    ("BH104", but(pod(), labels={f"{LABEL}-id": "7"}), f"{LABEL}-id: 7"),
    ("BH104", but(OWN, labels={LABEL: "team_gamma"}), LABEL),
    ("BH105", made("PersistentVolume"), "is the whole cluster's"),
    ("BH105", made("ClusterRole", RBAC), "is the whole cluster's"),
    ("BH105", made("PriorityClass", "scheduling.k8s.io/v1"), "is the whole cluster's"),
    ("BH105", made("ValidatingWebhookConfiguration", "admissionregistration.k8s.io/v1"), "whole"),
    ("BH106", bound(kind="ClusterRoleBinding"), "binds bh-tenant-viewer in all namespaces"),
    ("BH107", but(OWN, name="bh-team-gamma"), "is not the namespace of team_alpha"),
    ("BH108", but(OWN, labels={RESTRICTED: "privileged"}), "standard privileged (enforce)"),
    ("BH109", but(pod(), labels={}), "is without the label bulkhead.dev/tenant: team_alpha"),
    ("BH110", made("Kustomization", "kustomize.config.k8s.io/v1beta1"), "changes what other files"),
    ("BH201", bound(SERVICE_ACCOUNT | {"namespace": "other"}), "account robot of namespace other"),
    (
        "BH201",
        bound(USER | {"name": "system:serviceaccount:other:robot"}),
        "robot of namespace oth",
    ),
    ("BH201", bound(GROUP | {"name": "system:serviceaccounts:other"}), "all service accounts of"),
    ("BH202", pod(serviceAccountName="other/robot"), "runs as other/robot"),
    ("BH202", pod(serviceAccount="system:serviceaccount:other:robot"), "runs as system:service"),
    ("BH203", bound(GROUP | {"name": "system:serviceaccounts"}), "binds system:serviceaccounts"),
    ("BH203", bound(GROUP | {"name": "system:authenticated"}), "binds system:authenticated"),
    ("BH203", bound(GROUP | {"name": "system:unauthenticated"}), "binds system:unauthenticated"),
    ("BH203", bound(USER | {"name": "system:anonymous"}), "binds system:anonymous"),
    ("BH204", bound(GROUP | {"name": "bh:team_gamma:viewer"}), "begin with bh:team_alpha:"),
    ("BH205", bound(role="cluster-admin"), "gives the role cluster-admin"),
    ("BH206", bound(role="edit"), "Kubernetes' own role edit"),
    ("BH206", bound(role="admin"), "Kubernetes' own role admin"),
    (
        "BH301",
        made("PersistentVolume", spec={"claimRef": {"name": "data", "namespace": "other"}}),
        "refers to data in namespace other",
    ),
    (
        "BH301",
        made("HTTPRoute", GATEWAY, spec={"rules": [{"backendRefs": [{"namespace": "other"}]}]}),
        "refers to namespace other",
    ),
    (
        "BH301",
        made("ReferenceGrant", GATEWAY, spec={"from": [{"kind": "HTTPRoute", "namespace": "x"}]}),
        "HTTPRoute in namespace x",
    ),
    ("BH301", made("Kustomization", FLUX, spec={"targetNamespace": "other"}), "namespace other"),
    (
        "BH301",
        made("ServiceMonitor", "m.com/v1", spec={"namespaceSelector": {"matchNames": ["other"]}}),
        "namespace other",
    ),
    ("BH301", made("Backup", "velero.io/v1", spec={"includedNamespaces": ["*"]}), "namespace *"),
    (
        "BH301",
        made("PersistentVolumeClaim", spec={"dataSourceRef": {"name": "d", "namespace": "other"}}),
        "refers to d in namespace other",
    ),
    (
        "BH303",
        made("Service", spec={"type": "ExternalName", "externalName": "db.other.svc"}),
        "db ",
    ),
    (
        "BH303",
        made(
            "Service",
            spec={"type": "ExternalName", "externalName": "a.DB.other.svc.cluster.local."},
        ),
        "stands for db in namespace other",
    ),
    (
        "BH304",
        but(made("Secret"), annotations={"replicator.v1.mittwald.de/replicate-from": "other/db"}),
        "is a copy of other/db",
    ),
    (
        "BH304",
        but(
            made("Secret"),
            annotations={"reflector.v1.k8s.emberstack.com/reflection-allowed-namespaces": ""},
        ),
        "copied into other namespaces",
    ),
    ("BH305", env("http://db.other.svc:80/"), "names an address in namespace other"),
    ("BH305", pod(containers=[container(args=["--db=db.other.svc"])]), "namespace other"),
    ("BH401", chosen(), "opens the network to other namespaces"),
    ("BH401", chosen(matchLabels={"team": "x"}), "opens the network to other namespaces"),
    ("BH401", chosen(matchLabels={bundle.NAMESPACE_NAME: "other"}), "namespaces: other"),
    ("BH401", chosen(matchExpressions=[named("other", "bh-team-alpha")]), "namespaces: other"),
    ("BH401", policy(ingress=[{}]), "lets in everybody"),
    ("BH401", policy(egress=[{"to": [], "ports": [{"port": 53}]}]), "reach everything"),
    ("BH402", block("0.0.0.0/0"), "the addresses 0.0.0.0/0"),
    ("BH402", block("10.1.0.0/16"), "the addresses 10.1.0.0/16"),
    ("BH402", block("::/0", "fc00::/7"), "the addresses ::/0"),
    ("BH402", block("somewhere"), "the addresses somewhere"),
    ("BH402", block(7), "the addresses"),
    ("BH403", made("Service", spec={"type": "LoadBalancer"}), "is of type LoadBalancer"),
    ("BH403", made("Service", spec={"type": "NodePort"}), "is of type NodePort"),
    (
        "BH403",
        made("Service", spec={"type": "ExternalName", "externalName": "db.example.com"}),
        "is of type ExternalName, which the cluster refuses",
    ),
    ("BH403", made("Service", spec={"externalIPs": ["192.0.2.1"]}), "addresses outside the cl"),
    (
        "BH501",
        pod(volumes=[{"name": "v", "hostPath": {"path": "/etc"}}]),
        "mounts /etc of its node",
    ),
    ("BH501", made("PersistentVolume", spec={"hostPath": {"path": "/"}}), "is a path of a node"),
    *(("BH502", pod(**{key: True}), f"({key})") for key in ("hostNetwork", "hostPID", "hostIPC")),
    ("BH503", pod(containers=[container(ports=[{"hostPort": 80}])]), "takes port 80 of its node"),
    ("BH504", secured(privileged=True), "has the privileged container web"),
    ("BH504", secured(windowsOptions={"hostProcess": True}), "as a process of its node"),
    ("BH504", pod(securityContext={"windowsOptions": {"hostProcess": True}}), "(hostProcess)"),
    ("BH505", secured(capabilities={"add": ["NET_BIND_SERVICE", "SYS_ADMIN"]}), "SYS_ADMIN"),
    ("BH506", secured(procMount="Unmasked"), "unmasks /proc in container web"),
    ("BH507", secured(allowPrivilegeEscalation=True), "lets container web gain privileges"),
    ("BH507", pod(containers=[container(securityContext=None)]), "gain privileges"),
    ("BH508", pod(automountServiceAccountToken=None), "gets its service account's token"),
    ("BH508", made("ServiceAccount", automountServiceAccountToken=True), "gives its token"),
    ("BH509", pod(containers=[container(resources={})]), "no cpu request, no memory request, no"),
    (
        "BH509",
        pod(containers=[container(resources={"limits": {"cpu": 1, "memory": 0}})]),
        "container web with no memory request, no memory limit",
    ),
    (
        "BH509",
        pod(containers=[container(resources={"requests": {"cpu": 1, "memory": "1Gi"}})]),
        "container web with no cpu limit, no memory limit",
    ),
    ("BH509", pod(initContainers=[container(name="init", resources=None)]), "container init"),
    ("BH510", pod(nodeName="node1"), "chooses its node"),
    ("BH510", pod(priorityClassName="system-node-critical"), "priority system-node-critical"),
    ("BH510", pod(tolerations=[{"operator": "Exists"}]), "tolerates every taint"),
    ("BH510", pod(tolerations=[{"key": "node-role.kubernetes.io/control-plane"}]), "cluster's own"),
    ("BH510", pod(tolerations=[{"key": LABEL, "value": "team_gamma"}]), "other tenants"),
    *(
        ("BH504", made(kind, spec=template), "privileged")
        for kind, template in (
            ("Deployment", {"template": secured(privileged=True)}),
            ("CronJob", {"jobTemplate": {"spec": {"template": secured(privileged=True)}}}),
        )
    ),
    ("BH504", made("PodTemplate", template=secured(privileged=True)), "privileged"),
    (
        "BH504",
        pod(ephemeralContainers=[container(securityContext={"privileged": True})]),
        "privileged",
    ),
    (
        "BH502",
        made(
            "PyTorchJob", "kubeflow.org/v1", spec={"w": [{"template": {"spec": spec(hostPID=1)}}]}
        ),
        "hostPID",
    ),
    (
        "BH104",
        made("Job", "batch/v1", spec={"template": but(pod(), labels={LABEL: "team_gamma"})}),
        "team_gamma",
    ),
    ("BH109", made("Job", "batch/v1", spec={"template": {"spec": spec()}}), "makes pods without"),
]

#: What is close to it, and right.
GOOD: list[Object] = [
    pod(),
    OWN,
    made("Job", "batch/v1", spec={"template": pod()}),
    made("Widget", "example.com/v1", spec={"namespace": ALPHA.namespace, "name": "x"}),
    bound(SERVICE_ACCOUNT | {"namespace": ALPHA.namespace}),
    bound(USER | {"name": "system:serviceaccount:bh-team-alpha:robot"}),
    bound(GROUP | {"name": "system:serviceaccounts:bh-team-alpha"}),
    bound(
        GROUP | {"name": "bh:team_alpha:viewer"}, GROUP | {"name": "others"}, USER | {"name": "a"}
    ),
    chosen(matchLabels={bundle.NAMESPACE_NAME: "gateway", "more": "x"}),
    chosen(matchExpressions=[named("bulkhead", "bh-team-alpha")]),
    policy(ingress=[], egress=[{"to": [{"podSelector": {}}]}]),
    block("93.184.216.0/24"),
    block("0.0.0.0/0", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
    | {"kind": "Policy"},
    made("NetworkPolicy", "crd.projectcalico.org/v1", spec={"ingress": [{"action": "Deny"}]}),
    made("Service", spec={"type": "ClusterIP"}),
    made("ConfigMap", data={"namespace": "other", "a": "db.other.svc"}),
    made("HTTPRoute", GATEWAY, spec={"parentRefs": [{"name": "g", "namespace": "gateway"}]}),
    made("Widget", "example.com/v1", spec={"labels": {"namespace": "other"}, "namespace": ""}),
    env("http://db.bh-team-alpha.svc http://bulkhead.bulkhead.svc https://kubernetes.default.svc"),
    env("other.svc .svc x.svc-y a.b.svcs example.com"),
    secured(capabilities={"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}, procMount="Default"),
    pod(containers=[container(resources={"limits": {"cpu": 1, "memory": "1Gi"}})]),
    pod(containers=[container(resources={})], resources={"limits": {"cpu": 1, "memory": "1Gi"}}),
    pod(ephemeralContainers=[container(resources={})]),
    pod(tolerations=[{"key": "nvidia.com/gpu"}, {"key": LABEL, "value": "team_alpha"}]),
    pod(hostNetwork=False, hostPID=None, priorityClassName="bh-batch", serviceAccountName="x"),
    pod(containers=[container(ports=[{"containerPort": 80, "hostPort": 0}])]),
    made("ServiceAccount", automountServiceAccountToken=False),
    but(
        made("Secret"), annotations={"replicator.v1.mittwald.de/replicate-from": "bh-team-alpha/d"}
    ),
]


@pytest.mark.parametrize(("rule", "obj", "words"), BAD)
def test_each_rule_finds_what_it_is_for(rule: str, obj: Object, words: str) -> None:
    assert words in rules_for(obj)[rule]


@pytest.mark.parametrize("obj", GOOD)
def test_a_good_manifest_has_no_findings(obj: Object) -> None:
    assert rules_for(obj) == {}


def test_every_rule_is_tried() -> None:
    """A new rule fails here until there are manifests that it finds."""
    in_sets = {"BH102", "BH111", "BH302", "BH601"}  # below
    assert {rule for rule, _, _ in BAD} | in_sets == set(RULES)
    assert all(rule.help.endswith(".") for rule in RULES.values())
    assert len({rule.name for rule in RULES.values()}) == len(RULES)


def test_only_what_the_cluster_would_refuse_or_change_anyway_is_a_warning() -> None:
    warnings = {rule.name for rule in RULES.values() if rule.severity == WARNING}
    assert warnings == {
        *("unlabelled-pod", "kustomization", "no-quota", "broad-role", "address-block"),
        *("other-namespace-address", "privilege-escalation", "mounted-token"),
    }


def test_a_switch_is_on_however_it_is_written() -> None:
    text = yaml.safe_dump(pod(hostNetwork="SWITCH"))
    for word in ("yes", "on", "y", "true", "True", "1", '"true"', "!!bool yes"):
        assert "BH502" in str(found(text.replace("SWITCH", word))), word
    for word in ("no", "off", "n", "false", "", "null"):
        assert found(text.replace("SWITCH", word)) == [], word


def test_another_tenants_namespace_is_spoken_of_as_nobodys() -> None:
    """L9: nothing tells whether a namespace that is not one's own is anybody's."""
    for rule, obj, _ in BAD:
        for name in ("other", "bh-team-gamma"):
            theirs = json.loads(json.dumps(obj).replace(f'"{name}"', '"bh-team-delta"'))
            nobodys = json.loads(json.dumps(obj).replace(f'"{name}"', '"bh-team-nobod"'))
            said = str(rules_for(theirs)).replace("delta", "nobod")
            assert said == str(rules_for(nobodys)), rule


def test_findings_come_in_the_order_of_the_files_and_once() -> None:
    reader = Reader(SENT_LIMITS)
    text = yaml.safe_dump_all([pod(hostPID=True, nodeName="a1"), pod(hostIPC=True, nodeName="a1")])
    objects = [*reader.read("z", text), *reader.read("a", text)]
    places = [(one.place.file, one.place.line) for one in check(objects, ALPHA)]
    assert len(places) == 8
    assert places == sorted(places, key=lambda place: (place[0] == "a", place[1]))
    shared = "x: &x {name: a, namespace: other}"
    own = "{namespace: bh-team-alpha}"
    twice = f"{shared}\nspec: [*x, *x]\napiVersion: a.b/v1\nkind: K\nmetadata: {own}"
    assert found(twice) == [
        "1:28 BH301 K without a name refers to a in namespace other, which is not its tenant's."
    ]


def test_names_do_nothing_to_a_terminal_and_are_not_repeated_whole() -> None:
    obj = but(pod(), name="x\x1b[2J\n" + "y" * 5000, namespace="\u202egamma")
    for message in rules_for(obj).values():
        assert message.isprintable()
        assert len(message) < 400


# --- a set whose own Namespace objects are the tenants ---------------------------------------


def declared(name: str, tenant: str = "") -> Object:
    """Return a Namespace, and its quota."""
    metadata: Object = {"name": name}
    if tenant:
        metadata["labels"] = {LABEL: tenant}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def quota(namespace: str) -> Object:
    """Return a ResourceQuota."""
    return lying(made("ResourceQuota", name="quota"), namespace)


def lying(obj: Object, namespace: str, **metadata: Any) -> Object:
    """Return the object in a namespace, without a label."""
    return but(obj, namespace=namespace, **{"labels": None} | metadata)


def in_set(*objects: Object) -> dict[str, str]:
    """Return what is found without a tenant."""
    return rules_for(*objects, tenant=None)


TENANT1, TENANT2 = declared("tenant1"), declared("tenant2")
BOTH = (TENANT1, TENANT2, quota("tenant1"), quota("tenant2"))


def test_a_pod_of_one_tenant_in_the_namespace_of_another_is_the_bug_to_catch() -> None:
    assert found(MISPLACED, tenant=None) == [
        "4:9 BH111 Namespace tenant1 has no ResourceQuota here.",
        "10:14 BH102 Pod tenant1-pod is placed in namespace tenant2, which no Namespace object "
        "here declares (declared: tenant1).",
    ]


def test_a_set_in_which_everything_is_at_home_is_clean() -> None:
    assert in_set(*BOTH, lying(pod(), "tenant1"), lying(pod(), "tenant2")) == {}
    # Cluster-wide objects are the platform's, which such a set may be.
    assert in_set(*BOTH, but(made("ClusterRole", RBAC), namespace=None)) == {}


def test_by_its_name_an_object_belongs_to_the_tenant_with_the_longest_one() -> None:
    message = in_set(*BOTH, lying(pod(), "tenant2", name="tenant1-pod"))["BH101"]
    assert message == (
        "Pod tenant1-pod is placed in namespace tenant2, and by its name it belongs to tenant1; "
        "label it bulkhead.dev/tenant: tenant2 if it does belong to tenant2."
    )
    longer = (*BOTH, declared("tenant1-b"), quota("tenant1-b"))
    assert in_set(*longer, lying(pod(), "tenant1-b", name="tenant1-b-pod")) == {}
    assert "BH101" in in_set(*longer, lying(pod(), "tenant1", name="tenant1-b-pod"))
    assert in_set(*BOTH, lying(pod(), "tenant2", name="tenant1pod")) == {}
    generated = lying(pod(), "tenant2", name=None, generateName="tenant1-")
    assert "BH101" in in_set(*BOTH, generated)


def test_the_tenants_label_settles_whose_it_is() -> None:
    labelled = lying(pod(), "tenant2", name="tenant1-pod", labels={LABEL: "tenant2"})
    assert in_set(*BOTH, labelled) == {}
    other = (declared("tenant1"), declared("tenant2", "second"), quota("tenant1"), quota("tenant2"))
    for said in ("second", "tenant2"):
        assert in_set(*other, but(labelled, labels={LABEL: said})) == {}
    wrong = in_set(*other, but(labelled, labels={LABEL: "tenant1"}))
    assert set(wrong) == {"BH101", "BH104"}
    assert "tenant1, and its namespace's is second" in wrong["BH104"]


def test_namespaces_with_one_label_are_one_tenants() -> None:
    both = (declared("a-dev", "a"), declared("a-prod", "a"), quota("a-dev"), quota("a-prod"))
    binding = lying(bound(SERVICE_ACCOUNT | {"namespace": "a-dev"}), "a-prod")
    assert in_set(*both, binding, lying(pod(), "a-dev", name="a-prod-pod")) == {}
    apart = (declared("a-dev"), declared("a-prod"), quota("a-dev"), quota("a-prod"))
    assert set(in_set(*apart, binding)) == {"BH201"}


@pytest.mark.parametrize("namespace", ["kube-system", "default", "kube-public", "openshift-x"])
def test_the_clusters_own_namespaces_belong_to_no_tenant(namespace: str) -> None:
    """L32: not even where the set declares them."""
    found = in_set(*BOTH, declared(namespace), lying(pod(), namespace))
    assert found["BH102"].endswith("which is the cluster's own and belongs to no tenant.")


def test_without_any_namespace_object_nothing_belongs_to_anybody() -> None:
    assert "(declared: none)" in in_set(lying(pod(), "x"))["BH102"]
    assert "names no namespace" in in_set(*BOTH, but(pod(), namespace=None))["BH103"]
    many = [declared(f"t{number}") for number in range(9)]
    assert "t0, t1, t2, t3, t4 and 4 more" in in_set(*many, lying(pod(), "x"))["BH102"]


def test_a_kind_that_a_definition_makes_cluster_wide_needs_no_namespace() -> None:
    widget = but(made("Widget", "example.com/v1"), namespace=None, labels=None)
    assert set(in_set(*BOTH, widget)) == {"BH103"}
    definition = but(made("CustomResourceDefinition", "apiextensions.k8s.io/v1"), namespace=None)
    definition["spec"] = {"group": "example.com", "names": {"kind": "Widget"}, "scope": "Cluster"}
    assert in_set(*BOTH, definition, widget) == {}


def test_a_service_account_that_two_tenants_share_is_named_with_both_places() -> None:
    third = (declared("tenant3"), quota("tenant3"))
    subject = SERVICE_ACCOUNT | {"namespace": "tenant3"}
    one, two = lying(bound(subject), "tenant1"), lying(bound(subject), "tenant2")
    text = yaml.safe_dump_all([*BOTH, *third, one, two], sort_keys=False)
    said = [line for line in found(text, None) if "BH201" in line]
    lines = [int(line.split(":")[0]) for line in said]
    assert said == [
        f"{lines[0]}:9 BH201 RoleBinding scorer binds service account robot of namespace tenant3, "
        f"which is bound in namespace tenant2 (file.yaml:{lines[1] - 1}:3) too.",
        f"{lines[1]}:9 BH201 RoleBinding scorer binds service account robot of namespace tenant3, "
        f"which is bound in namespace tenant1 (file.yaml:{lines[0] - 1}:3) too.",
    ]


USERS: list[tuple[str, Object]] = [
    ("Secret", pod(volumes=[{"name": "v", "secret": {"secretName": "thing"}}])),
    ("ConfigMap", pod(volumes=[{"name": "v", "configMap": {"name": "thing"}}])),
    (
        "PersistentVolumeClaim",
        pod(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "thing"}}]),
    ),
    ("Secret", pod(volumes=[{"projected": {"sources": [{"secret": {"name": "thing"}}]}}])),
    ("ConfigMap", pod(volumes=[{"projected": {"sources": [{"configMap": {"name": "thing"}}]}}])),
    ("Secret", pod(imagePullSecrets=[{"name": "thing"}])),
    ("ServiceAccount", pod(serviceAccountName="thing")),
    ("ConfigMap", pod(containers=[container(envFrom=[{"configMapRef": {"name": "thing"}}])])),
    ("Secret", pod(initContainers=[container(envFrom=[{"secretRef": {"name": "thing"}}])])),
    (
        "Secret",
        pod(containers=[container(env=[{"valueFrom": {"secretKeyRef": {"name": "thing"}}}])]),
    ),
    (
        "ConfigMap",
        pod(containers=[container(env=[{"valueFrom": {"configMapKeyRef": {"name": "thing"}}}])]),
    ),
    ("Secret", made("Ingress", "networking.k8s.io/v1", spec={"tls": [{"secretName": "thing"}]})),
    ("Secret", made("ServiceAccount", secrets=[{"name": "thing"}])),
    (
        "Secret",
        made(
            "CronJob",
            spec={
                "jobTemplate": {
                    "spec": {"template": {"spec": spec(imagePullSecrets=[{"name": "thing"}])}}
                }
            },
        ),
    ),
]


@pytest.mark.parametrize(("kind", "obj"), USERS)
def test_what_only_another_tenants_namespace_has_is_not_used(kind: str, obj: Object) -> None:
    user = lying(obj, "tenant1")
    theirs, own = (
        lying(made(kind, name="thing"), "tenant2"),
        lying(made(kind, name="thing"), "tenant1"),
    )
    assert in_set(*BOTH, user) == in_set(*BOTH, user, theirs, own) == {}
    said = in_set(*BOTH, user, theirs)["BH302"]
    assert (
        f"uses {kind} thing, which is declared here only in namespace tenant2 (file.yaml:" in said
    )


def test_a_volume_is_kept_for_a_claim_of_a_tenants() -> None:
    volume = but(made("PersistentVolume"), namespace=None, labels=None)
    for namespace, ids in (("tenant1", set()), ("other", {"BH301"})):
        volume["spec"] = {"claimRef": {"name": "data", "namespace": namespace}}
        assert set(in_set(*BOTH, volume)) == ids


# --- models --------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[workloads.Reference]:
    """Let only the model `fraud` be used, and collect what is asked for."""
    references: list[workloads.Reference] = []

    def verdict(reference: workloads.Reference) -> workloads.Verdict:
        references.append(reference)
        good = "fraud" in (reference.model, *reference.uri.split("/"))
        return workloads.Verdict(None if good else "there is no such model in this team")

    monkeypatch.setattr(workloads, "verdict_on", verdict)
    return references


def test_models_are_asked_for_where_they_are_named(asked: list[workloads.Reference]) -> None:
    text = yaml.safe_dump(
        but(
            made(
                "Deployment",
                "apps/v1",
                spec={"template": env("- models:/fraud/1, models:/secret/2")},
            ),
            annotations={"bulkhead.dev/registered-model": "secret"},
        ),
        sort_keys=False,
    )
    lines = text.splitlines()
    said = {int(one.split(":")[0]): one for one in found(text)}
    assert len(said) == 2
    for line, message in said.items():
        assert "secret" in lines[line - 1]
        assert message.endswith("uses a model it cannot have: there is no such model in this team.")
    assert {one.model or one.uri for one in asked} == {
        "secret",
        "models:/fraud/1",
        "models:/secret/2",
    }


def test_each_model_is_asked_for_once_and_so_many_at_most(asked: list[workloads.Reference]) -> None:
    """L6, L10: a request cannot make the registry search without end."""
    assert rules_for(env("- models:/fraud/1 " * 50), env("models:/fraud/1")) == {}
    assert len(asked) == 1
    asked.clear()
    many = env(
        "- " + " ".join(f"models:/fraud/{number}" for number in range(OneTenant.MAX_MODELS + 9))
    )
    assert "more models than the 500" in rules_for(many, many)["BH601"]
    assert len(asked) == OneTenant.MAX_MODELS


def test_without_a_tenant_nobody_asks_for_models(asked: list[workloads.Reference]) -> None:
    assert in_set(*BOTH, lying(env("models:/secret/1"), "tenant1")) == {}
    assert asked == []


# --- our own bundle --------------------------------------------------------------------------


def team(slug: str = "team_alpha", **fields: Any) -> bundle.Team:
    """Return a team as its bundle is rendered from it."""
    known: Object = {
        "slug": slug,
        "id": ALPHA.pk,
        "name": slug,
        "namespace": f"bh-{slug.replace('_', '-')}",
        "size": SIZES["small"],
        "members": (("alice", "admin"), ("bob", "viewer")),
    }
    return bundle.Team(**known | fields)


INSTALLATIONS = (
    Installation(),
    Installation(binds_users=True, user_prefix="oidc:"),
    Installation(prefix="ml.example.com", group_prefix="oidc:", registry_namespace="registry"),
)


@pytest.mark.parametrize("suspended", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("installation", INSTALLATIONS)
def test_our_own_bundle_stays_inside_its_tenant_and_no_other(
    settings: Any, installation: Installation, size: str, suspended: bool
) -> None:
    settings.KUBERNETES = installation
    own = team(size=SIZES[size], suspended=suspended)
    objects = bundle.render(own, installation)
    assert rules_for(*objects) == {}
    assert rules_for(*objects, tenant=None) == {}
    theirs = bundle.render(team("team_gamma", id=UUID(int=2)), installation)
    assert rules_for(*objects, *theirs, tenant=None) == {}
    for obj in theirs:
        errors = {rule for rule in rules_for(obj) if RULES[rule].severity != WARNING}
        assert errors & {"BH101", "BH107"}, obj["kind"]


# --- how it is written ------------------------------------------------------------------------


def report(*files: tuple[str, str], tenant: Tenant | None = None) -> reports.ManifestReport:
    """Check files."""
    return reports.run([(name, text.encode()) for name, text in files], FILE_LIMITS, tenant)


def test_lines_are_as_compilers_write_them() -> None:
    lines = [*reports.as_lines(report(("dir/a b.yaml", MISPLACED), ("x\n.yaml", BROKEN)))]
    assert lines[0].startswith("x\\n.yaml:3:1: error This is not valid YAML: ")
    assert lines[1:] == [
        "dir/a b.yaml:4:9: warning BH111 Namespace tenant1 has no ResourceQuota here.",
        "dir/a b.yaml:10:14: error BH102 Pod tenant1-pod is placed in namespace tenant2, which no "
        "Namespace object here declares (declared: tenant1).",
        "2 objects: 1 error, 1 warning; 1 file could not be read.",
    ]
    assert [*reports.as_lines(report(("a", "")))] == ["no objects: nothing wrong."]


def test_json_has_what_it_says_it_has() -> None:
    written = reports.as_json(report(("a.yaml", MISPLACED), ("b.yaml", BROKEN)))
    assert json.loads(json.dumps(written)) == written
    assert {key: written[key] for key in written if key not in ("findings", "unreadable")} == {
        "clean": False,
        "tenant": None,
        "namespace": None,
        "objects": 2,
        "errors": 1,
        "warnings": 1,
        "left_out": 0,
    }
    assert written["findings"][1] == {
        "rule": "BH102",
        "name": "undeclared-namespace",
        "severity": "error",
        "message": "Pod tenant1-pod is placed in namespace tenant2, which no Namespace object here "
        "declares (declared: tenant1).",
        "help": RULES["BH102"].help,
        "file": "a.yaml",
        "line": 10,
        "column": 14,
        "path": ".metadata.namespace",
        "object": {"kind": "Pod", "name": "tenant1-pod", "namespace": "tenant2"},
    }
    [problem] = written["unreadable"]
    assert (problem["file"], problem["line"], problem["column"]) == ("b.yaml", 3, 1)
    for key, value in written.items():
        assert f"``{key}``" in str(reports.as_json.__doc__), (key, value)
    few = reports.as_json(report(("a.yaml", MISPLACED)), max_findings=1)
    assert (len(few["findings"]), few["left_out"], few["errors"]) == (1, 1, 1)
    whose = reports.as_json(report(("a.yaml", yaml.safe_dump(pod())), tenant=ALPHA))
    assert (whose["clean"], whose["tenant"], whose["namespace"]) == (
        *(True, "team_alpha"),
        "bh-team-alpha",
    )


def test_sarif_is_what_its_standard_asks_for() -> None:
    """SARIF 2.1.0, sections 3.13 to 3.49: what is required, and the values that are allowed."""
    files = (("dir/a b.yaml", MISPLACED), ("/tmp/é.yaml", BROKEN))  # noqa: S108 - a name only
    log = reports.as_sarif(report(*files))
    assert set(log) == {"$schema", "version", "runs"}
    assert log["version"] == "2.1.0"
    [run] = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert run["tool"]["driver"]["name"] == "Bulkhead"
    assert [rule["id"] for rule in rules] == list(RULES)
    for rule in rules:
        assert rule["name"].isalpha(), rule
        assert rule["defaultConfiguration"]["level"] in ("error", "warning")
        for text in ("shortDescription", "fullDescription", "help"):
            assert rule[text]["text"], rule
    assert [result["level"] for result in run["results"]] == ["warning", "error"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        [location] = result["locations"]
        physical = location["physicalLocation"]
        assert physical["artifactLocation"] == {"uri": "dir/a%20b.yaml"}
        assert min(physical["region"].values()) >= 1
    assert run["results"][1]["locations"][0]["physicalLocation"]["region"] == {
        "startLine": 10,
        "startColumn": 14,
    }
    assert run["columnKind"] == "unicodeCodePoints"
    [invocation] = run["invocations"]
    assert invocation["executionSuccessful"] is False
    [notification] = invocation["toolExecutionNotifications"]
    assert notification["level"] == "error"
    [location] = notification["locations"]
    uri = location["physicalLocation"]["artifactLocation"]["uri"]
    assert uri == "file:///tmp/%C3%A9.yaml"
    assert reports.as_sarif(report(files[0]))["runs"][0]["invocations"] == [
        {"executionSuccessful": True}
    ]


# --- the command -----------------------------------------------------------------------------


def run(*words: str) -> tuple[int, str, str]:
    """Run the command: its exit code, what it prints, and its last sentence."""
    out = StringIO()
    try:
        call_command("check_manifests", *words, stdout=out)
    except CommandError as error:
        return error.returncode, out.getvalue(), str(error)
    return 0, out.getvalue(), ""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with manifests."""
    monkeypatch.chdir(tmp_path)
    clean = yaml.safe_dump_all([*BOTH, lying(pod(), "tenant1")])
    warned = yaml.safe_dump_all([TENANT1, lying(pod(), "tenant1")])
    for name, text in {
        "wrong.yaml": MISPLACED,
        "clean.yaml": clean,
        "warned.yaml": warned,
        "broken.yaml": BROKEN,
        "empty.yaml": "# nothing\n",
        "folder/b/pods.yml": yaml.safe_dump(lying(pod(), "tenant1")),
        "folder/a.json": json.dumps({"kind": "List", "apiVersion": "v1", "items": [*BOTH]}),
        "folder/notes.txt": "no: [manifest",
        "folder/.git/x.yaml": "no: [manifest",
        "bare/notes.txt": "",
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def test_the_exit_code_says_how_it_ended(here: Path) -> None:
    assert run("clean.yaml") == (0, "5 objects: nothing wrong.\n", "")
    code, out, _ = run("warned.yaml")
    assert (code, out.splitlines()[-1]) == (0, "2 objects: 1 warning.")
    code, out, sentence = run("wrong.yaml")
    assert (code, sentence) == (1, "The manifests do not stay inside their tenant.")
    assert "wrong.yaml:10:14: error BH102 Pod tenant1-pod is placed in namespace tenant2" in out
    code, out, sentence = run("broken.yaml", "wrong.yaml")
    assert (code, sentence) == (2, "Not all of it could be read.")
    assert "broken.yaml:3:1: error This is not valid YAML" in out
    assert "wrong.yaml:10:14: error BH102" in out
    nothing = "There is no object in it: nothing was checked."
    assert run("empty.yaml") == (2, "no objects: nothing wrong.\n", nothing)
    assert run("empty.yaml", "clean.yaml")[0] == 0


def test_several_files_are_one_set_and_a_folder_is_its_files(here: Path) -> None:
    assert run("folder") == (0, "5 objects: nothing wrong.\n", "")
    assert run(str(here / "folder")) == run("folder", "folder/a.json")
    code, out, _ = run("folder/b")
    assert (code, out.split(":")[0]) == (1, "folder/b/pods.yml")
    assert run("folder/b/pods.yml", "folder/a.json")[0] == 0


def test_what_is_not_there_is_named_and_the_rest_is_checked(here: Path) -> None:
    code, out, _ = run("none.yaml", "bare", "clean.yaml", "--format", "json")
    assert code == 2
    written = json.loads(out)
    assert {one["file"]: one["message"] for one in written["unreadable"]} == {
        "none.yaml": "This cannot be read: No such file or directory.",
        "bare": "This cannot be read: no .yaml, .yml or .json is in this folder.",
    }
    assert (written["objects"], written["errors"], written["clean"]) == (5, 0, False)
    sarif = json.loads(run("none.yaml", "--format", "sarif")[1])
    assert sarif["runs"][0]["invocations"][0]["executionSuccessful"] is False


def test_the_same_files_give_the_same_bytes(here: Path) -> None:
    for kind in ("text", "json", "sarif"):
        words = ("folder", "wrong.yaml", "warned.yaml", "--format", kind)
        assert run(*words) == run(*words)


def test_with_a_tenant_everything_must_be_its_own(world: World, here: Path) -> None:
    own = pod()
    (here / "own.yaml").write_text(yaml.safe_dump(own))
    assert run("own.yaml", "--tenant", "team_alpha") == (0, "1 object: nothing wrong.\n", "")
    code, out, _ = run("own.yaml", "--tenant", "team_gamma")
    assert code == 1
    assert "own.yaml:5:26: error BH104" in out
    assert "BH101 Pod scorer is placed in namespace bh-team-alpha, and the namespace of " in out
    code, out, sentence = run("own.yaml", "--tenant", "team_omega")
    assert (code, out, sentence) == (2, "", "There is no team team_omega.")


def test_models_are_looked_up_in_the_tenants_scope(
    world: World, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models_registry.models import RegisteredModel

    def verdict(reference: workloads.Reference) -> workloads.Verdict:
        name = reference.uri.removeprefix("models:/").partition("/")[0]
        there = RegisteredModel.objects.filter(name=name).exists()
        return workloads.Verdict(None if there else "no such model")

    monkeypatch.setattr(workloads, "verdict_on", verdict)
    (here / "own.yaml").write_text(yaml.safe_dump(env("models:/fraud/1")))
    assert run("own.yaml", "--tenant", "team_alpha")[0] == 0
    (here / "own.yaml").write_text(yaml.safe_dump(env("models:/CANARY own/1")))
    code, out, _ = run("own.yaml", "--tenant", "team_alpha")
    assert code == 1
    assert "uses a model it cannot have: no such model" in out


def without_database(*words: str, feed: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """Run the command as a process where no database answers."""
    return subprocess.run(
        [sys.executable, str(settings.BASE_DIR / "manage.py"), "check_manifests", *words],
        env=os.environ
        | {
            "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
            "BULKHEAD_SECRET_KEY": "only for this test",
        },
        input=feed,
        capture_output=True,
        check=False,
    )


def test_without_a_tenant_no_database_is_needed(here: Path) -> None:
    done = without_database("-", feed=MISPLACED.encode())
    assert done.returncode == 1
    assert b"stdin:10:14: error BH102 Pod tenant1-pod is placed in namespace tenant2" in done.stdout
    assert done.stderr == b"CommandError: The manifests do not stay inside their tenant.\n"
    done = without_database(str(here / "folder"), "--format", "sarif")
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["version"] == "2.1.0"
    done = without_database("-", feed=b"a: \xff")
    assert done.returncode == 2
    assert b"stdin:1:4: error This is not UTF-8 text." in done.stdout
    assert without_database().returncode == 2


# --- whatever is written ----------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        *("apiVersion: ", "kind: ", "Pod", "List", "metadata:", "name: ", "namespace: ", "items:"),
        *("\n", "\n  ", "\n    - ", "- ", ": ", "{", "}", "[", "]", ",", "'", '"', "|", ">", "#"),
        *("&a ", "*a", "<<: ", "!!str ", "!!binary ", "!x ", "---\n", "...\n", "? ", "%YAML 1.1\n"),
        *("yes", "~", "1e9", "0x", "{{ .x }}", "\t", "\r", "\x00", "\x85", "\u2028", "é", "\ufeff"),
        *('"\\ud83d\\ude00"', '"\\ud800"', "🙂", "spec: {containers: [{}]}", "models:/a/1"),
    ]
)
KEYS = st.sampled_from(
    [
        *("apiVersion", "kind", "metadata", "name", "namespace", "labels", "annotations", "spec"),
        *("template", "jobTemplate", "containers", "initContainers", "volumes", "hostPath", "env"),
        *("securityContext", "capabilities", "add", "resources", "limits", "requests", "cpu"),
        *("subjects", "roleRef", "ingress", "egress", "from", "to", "namespaceSelector", "ipBlock"),
        *("cidr", "except", "matchLabels", "matchExpressions", "key", "operator", "values"),
        *("items", "tolerations", "ports", "hostPort", "claimRef", "externalName", "type", "names"),
        *(
            "tls",
            "secrets",
            "image",
            "args",
            "envFrom",
            "valueFrom",
            "group",
            "scope",
            "targetNamespace",
        ),
        *(
            "matchNames",
            "namespaces",
            LABEL,
            bundle.NAMESPACE_NAME,
            "bulkhead.dev/registered-model",
        ),
        *("kubed.appscode.com/sync", "replicator.v1.mittwald.de/replicate-from", RESTRICTED),
    ]
)
LEAVES = st.sampled_from(
    [
        *(
            "v1",
            "apps/v1",
            RBAC,
            "networking.k8s.io/v1",
            "kustomize.config.k8s.io/v1",
            "a.b/v1",
            "/",
        ),
        *("Pod", "Deployment", "CronJob", "Namespace", "RoleBinding", "ClusterRoleBinding", "List"),
        *("NetworkPolicy", "Service", "PersistentVolume", "CustomResourceDefinition", "Secret"),
        *("ServiceAccount", "Group", "User", "ClusterRole", "In", "ExternalName", "db.x.svc", ""),
        *(
            "bh-team-alpha",
            "other",
            "kube-system",
            "system:serviceaccount:a:b",
            "10.0.0.0/8",
            "::/0",
        ),
        *("bh:x:viewer", "models:/a/1", "a-b", "a", None, True, False, 0, 1, -1, 1e300, "\x1b"),
    ]
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=40,
)
KINDS = st.sampled_from([obj["kind"] for _, obj, _ in BAD if isinstance(obj["kind"], str)])
OBJECTS = st.builds(
    lambda kind, version, metadata, rest: {
        "apiVersion": version,
        "kind": kind,
        "metadata": metadata,
        **rest,
    },
    KINDS,
    st.sampled_from(["v1", RBAC, "networking.k8s.io/v1", "a.b/v1"]),
    VALUES,
    st.dictionaries(KEYS, VALUES, max_size=5),
)


@st.composite
def spoilt(draw: Callable[..., Any]) -> Object:
    """Return one of the manifests above with something in it replaced."""
    obj: Any = deepcopy(draw(st.sampled_from([obj for _, obj, _ in BAD])))
    at = obj
    while isinstance(at, dict | list) and at:
        key = draw(st.sampled_from([*at] if isinstance(at, dict) else [*range(len(at))]))
        if draw(st.integers(0, 3)) == 0 or not isinstance(at[key], dict | list):
            at[key] = draw(VALUES)
            break
        at = at[key]
    return obj  # type: ignore[no-any-return]


def judged(text: str) -> None:
    """Check a file in both ways; whatever is found has a place that is there."""
    lines = len(reader.lines_of(text))
    for tenant in (None, ALPHA):
        done = reports.run([("f", text.encode(errors="replace"))], SENT_LIMITS, tenant)
        said: list[ManifestFinding | Unreadable] = [*done.findings, *done.unreadable]
        for one in said:
            assert 1 <= one.place.line <= lines
            assert one.place.column >= 1
            assert one.message.isprintable()
        json.dumps([reports.as_json(done), reports.as_sarif(done)])
        assert all(line.isprintable() for line in reports.as_lines(done))


often = examples(max_examples=300, deadline=None, derandomize=True, database=None)


@pytest.fixture(autouse=True)
def no_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask nobody for models, unless a test says who is asked: no scope is open."""
    monkeypatch.setattr(workloads, "verdict_on", lambda reference: workloads.Verdict())


@given(st.lists(WORDS, max_size=30).map("".join) | st.text(max_size=100))
@often
def test_no_text_does_more_than_be_refused(text: str) -> None:
    judged(text)


@given(st.lists(OBJECTS | spoilt() | VALUES, min_size=1, max_size=3))
@often
def test_no_values_do_more_than_be_found(objects: list[Any]) -> None:
    judged(yaml.safe_dump_all(objects))
    judged(json.dumps(objects[0]))


def test_the_command_is_one_of_the_products() -> None:
    assert "check_manifests" in manage("help").stdout
