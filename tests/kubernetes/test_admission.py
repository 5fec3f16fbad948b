"""The admission webhook: recorded questions of real API servers, answered for our own teams.

The recordings were made with other names than ours. ``ours`` puts our label prefix, namespaces and
models in their place, byte for byte; all else is what kube-apiserver 1.20.2 and 1.36.2 sent.
"""

import base64
import copy
import gzip
import http.client
import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celpy.adapter import json_to_cel
from cryptography.x509.oid import ExtendedKeyUsageOID
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, connections
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import Resolver404, resolve
from kubernetes_validate import (  # type: ignore[import-untyped]  # it has none
    latest_version,
    validate,
)

from models_registry import registry
from models_registry.models import ModelVersion, RegisteredModel
from tenants.access import policy_of, share, unshare
from tenants.checks import private_patterns
from tenants.clusters import Installation
from tenants.identity import directory
from tenants.isolation.credentials import NobodysNamespace
from tenants.isolation.scope import namespace_scope, scope_or_none, tenant_scope
from tenants.kubernetes import admission
from tenants.kubernetes.bundle import webhook
from tenants.kubernetes.bundle.webhook import PATH, names_a_model, render_webhook
from tenants.kubernetes.workloads import MAX_REFERENCES, TEMPLATE_PATHS
from tenants.models import User
from tests.support.addresses import METHODS, PRIVATE, call
from tests.support.certificates import Authority
from tests.support.listener import HOST, Listener, database_address, listening, tls
from tests.support.people import CANARY, World, committed, make_world
from tests.support.policy_evaluator import evaluate
from tests.support.servers import free_port

As = Callable[[User | None], Client]

RECORDINGS = sorted((Path(__file__).parent / "recordings").glob("*/admissionreview-*"))
MODEL, VERSION = "bulkhead.dev/registered-model", "bulkhead.dev/model-version"
#: As the listener is set up, for what is asked inside the test's process.
LISTENER = override_settings(
    ROOT_URLCONF="bulkhead.admission_urls",
    MIDDLEWARE=["bulkhead.middleware.RequestIdMiddleware"],
    DATA_UPLOAD_MAX_MEMORY_SIZE=8 * 1024 * 1024,
)
#: What stands in the recordings, and what stands for it here.
NAMES = {
    "mlr-acme-vision": "bh-team-alpha",
    "registry.example.com/": "bulkhead.dev/",
    "acme-vision/fraud": "team_alpha/fraud",
    "acme-vision": "team_alpha",
    "globex/churn": "team_gamma/CANARY own",
    "mlr-serving": "bh-serving",
}


def ours(recording: Path) -> dict[str, Any]:
    """Return a recorded AdmissionReview with our names in it."""
    text = json.dumps(json.loads(recording.read_text())["body"])
    for theirs, name in NAMES.items():
        text = text.replace(theirs, name)
    review: dict[str, Any] = json.loads(text)
    return review


def recorded(name: str) -> dict[str, Any]:
    """Return one of the recordings of the newest version."""
    return ours(next(path for path in reversed(RECORDINGS) if path.stem.endswith(name)))


def posted(review: Any) -> Any:
    """Send a review to the webhook and return the answer."""
    body = review if isinstance(review, bytes) else json.dumps(review).encode()
    with LISTENER:
        return Client().post(PATH, body, content_type="application/json")


def asked(review: dict[str, Any]) -> dict[str, Any]:
    """Return the response to a review, which repeats its uid."""
    answer = posted(review)
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == "application/json"
    said = json.loads(answer.content)
    assert (said["apiVersion"], said["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert set(said) == {"apiVersion", "kind", "response"}
    response: dict[str, Any] = said["response"]
    assert response["uid"] == review["request"]["uid"]
    return response


def denial(review: dict[str, Any]) -> str:
    """Return the words with which a review is denied."""
    response = asked(review)
    assert response["allowed"] is False
    assert response["status"]["code"] == 403
    words: str = response["status"]["message"]
    return words


def pod(model: str = "fraud", version: str = "1", *, namespace: str = "bh-team-alpha") -> Any:
    """Return a review of a new pod that names a model, as recorded but for the names."""
    review = recorded("pod-create-allowed")
    review["request"]["namespace"] = namespace
    review["request"]["object"]["metadata"]["annotations"] |= {MODEL: model, VERSION: version}
    return review


def updated(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return a review of a change of the object of one review into that of another."""
    review = copy.deepcopy(after)
    review["request"] |= {"operation": "UPDATE", "oldObject": before["request"]["object"]}
    return review


@pytest.fixture
def three(world: World) -> World:
    """The world with a third version of fraud, which the recordings name."""
    with tenant_scope(world.alpha):
        registry.add_version(RegisteredModel.objects.get(name="fraud"))
    return world


UNASKED = "The pods of this Deployment name no model: annotate their template too."

# --- what real API servers asked -----------------------------------------------------------


@pytest.mark.parametrize(
    "recording", RECORDINGS, ids=lambda path: f"{path.parent.name} {path.stem[16:]}"
)
def test_each_recorded_question_is_answered(three: World, recording: Path) -> None:
    review = ours(recording)
    if "denied" in recording.stem:
        assert denial(review) == (
            f'metadata.annotations["{MODEL}"]: “team_gamma/CANARY own” is not registered for this'
            " namespace."
        )
    else:
        said = asked(review)
        # The recorded Deployment is annotated, and its template is not.
        warnings = said.pop("warnings", [])
        assert warnings == ([UNASKED] if "deployment" in recording.stem else [])
        assert said == {"uid": review["request"]["uid"], "allowed": True}


def test_pods_that_nobody_will_be_asked_about_are_warned_of(three: World) -> None:
    """With the annotation on their template too, each of them is asked about by itself."""
    review = recorded("deployment-create-allowed")
    assert asked(review)["warnings"] == [UNASKED]
    obj = review["request"]["object"]
    annotations = obj["metadata"]["annotations"]
    obj["spec"]["template"]["metadata"]["annotations"] = annotations
    assert "warnings" not in asked(review)


def test_both_versions_are_there_with_all_their_questions() -> None:
    names = {path.stem for path in RECORDINGS}
    assert len(RECORDINGS) == 2 * len(names) == 12


# --- whose namespace it is -----------------------------------------------------------------


def test_the_namespace_of_the_request_decides(world: World) -> None:
    """L32: not the one that the object names, its labels, or who sends it."""
    theirs = pod("CANARY own", namespace="bh-team-gamma")
    assert asked(theirs)["allowed"]
    lying = pod("CANARY own")
    lying["request"]["object"]["metadata"] |= {
        "namespace": "bh-team-gamma",
        "labels": {"bulkhead.dev/tenant": "team_gamma"},
    }
    lying["request"]["userInfo"]["groups"] = ["bh:team_gamma:admin", "system:masters"]
    assert "is not registered for this namespace" in denial(lying)


@pytest.mark.parametrize(
    "namespace",
    ["kube-system", "bh-nobody", "", "bh-team_alpha", "BH-TEAM-ALPHA", "team_alpha", "a\x00b"],
)
def test_a_namespace_of_no_team_takes_nothing(world: World, namespace: str) -> None:
    assert denial(pod(namespace=namespace)) == "This namespace belongs to no team here."


def test_a_request_without_a_namespace_is_of_no_team(world: World) -> None:
    review = pod()
    del review["request"]["namespace"]
    assert denial(review) == "This namespace belongs to no team here."


def test_a_suspended_teams_namespace_takes_nothing_new(world: World) -> None:
    directory.suspend_tenant(world.alpha)
    assert denial(pod()) == "The team of this namespace is suspended: nothing new runs in it."
    assert "suspended" in denial(updated(pod(), pod(version="2")))
    scaled = pod()
    scaled["request"]["object"]["metadata"]["labels"]["changed"] = "yes"
    assert asked(updated(pod(), scaled))["allowed"]


# --- what is judged ------------------------------------------------------------------------


def test_what_is_recalled_or_no_longer_shared_is_out_at_the_next_question(world: World) -> None:
    """L21: nothing is kept from one question to the next."""
    shared = world.model(world.gamma, "CANARY own")
    own, theirs = pod("fraud"), pod(str(shared.pk))
    assert asked(own)["allowed"]
    assert "not registered" in denial(theirs)
    with tenant_scope(world.gamma, world.hugo):
        share(shared, with_tenant=world.alpha)
    assert asked(theirs)["allowed"]
    with tenant_scope(world.alpha):
        registry.recall_version(ModelVersion.objects.get(model__name="fraud", number=1), "why")
    assert denial(own).endswith("“fraud” version “1” is recalled: nothing may use it any more.")
    with tenant_scope(world.gamma):
        registry.record_scan(ModelVersion.objects.get(model=shared, number=1), "blocked", "why")
    assert "is blocked by a scan" in denial(theirs)
    with tenant_scope(world.gamma, world.hugo):
        unshare(shared, with_tenant=world.alpha)
    assert "not registered" in denial(theirs)


def test_an_update_is_judged_by_what_it_adds(world: World) -> None:
    """A recalled version must still be scaled down and deleted, or nobody gets rid of it."""
    with tenant_scope(world.alpha):
        registry.recall_version(ModelVersion.objects.get(model__name="fraud", number=1), "why")
    recalled, good, bad = pod(), pod(version="2"), pod("nothing")
    finalized = copy.deepcopy(recalled)
    finalized["request"]["object"]["metadata"]["finalizers"] = []
    assert asked(updated(recalled, finalized))["allowed"]
    assert asked(updated(recalled, good))["allowed"]
    assert "is recalled" in denial(updated(good, recalled))
    assert "not registered" in denial(updated(recalled, bad))
    bare = copy.deepcopy(recalled)
    del bare["request"]["object"]["metadata"]["annotations"]
    assert asked(updated(recalled, bare))["allowed"]
    assert "is recalled" in denial(updated(bare, recalled))
    nothings: tuple[Any, ...] = (None, [], "text", {})
    for missing in nothings:
        review = updated(recalled, recalled)
        review["request"]["oldObject"] = missing
        assert "is recalled" in denial(review)


def test_an_ephemeral_container_is_judged(world: World) -> None:
    before, after = pod(), pod()
    after["request"] |= {"subResource": "ephemeralcontainers"}
    after["request"]["object"]["spec"]["ephemeralContainers"] = [
        {"name": "debug", "image": "busybox", "args": ["--model=models:/nothing/1"]}
    ]
    assert denial(updated(before, after)) == (
        "spec.ephemeralContainers[0].args[0]: “models:/nothing/1” is not registered for this"
        " namespace."
    )


@pytest.mark.parametrize("kind", sorted({*TEMPLATE_PATHS} - {"Pod"}))
def test_each_kind_that_makes_pods_is_judged_by_their_template(world: World, kind: str) -> None:
    template = {"metadata": {"annotations": {MODEL: "nothing", VERSION: "1"}}}
    inner: Any = template
    for key in reversed(TEMPLATE_PATHS[kind]):
        inner = {key: inner}
    review = pod()
    review["request"] |= {"kind": {"group": "", "version": "v1", "kind": kind}}
    review["request"]["object"] = {"kind": kind, "metadata": {"name": "x"}, **inner}
    place = ".".join(map(str, TEMPLATE_PATHS[kind]))
    assert denial(review).startswith(f'{place}.metadata.annotations["{MODEL}"]: “nothing” is not')


@pytest.mark.parametrize("operation", ["DELETE", "CONNECT"])
def test_nothing_stands_in_the_way_of_deleting(world: World, operation: str) -> None:
    review = pod("nothing", namespace="bh-nobody")
    review["request"] |= {"operation": operation, "object": None}
    with CaptureQueriesContext(connection) as captured:
        assert asked(review)["allowed"]
    assert not captured.captured_queries


def test_an_alias_is_allowed_with_a_warning(world: World) -> None:
    words = "@champion may move: pods made later follow it."
    assert asked(pod(version="@champion"))["warnings"] == [words]
    by_address = pod()
    container = by_address["request"]["object"]["spec"]["containers"][0]
    container["env"] = [{"name": "MODEL", "value": "models:/fraud@champion/MLmodel"}]
    assert asked(by_address)["warnings"] == [words]
    container["env"][0]["value"] = "models:/fraud/1/path@with"
    assert "warnings" not in asked(by_address)
    assert "warnings" not in asked(pod(version="1"))


def test_many_models_are_refused_and_many_problems_counted(world: World) -> None:
    review = pod()
    container = review["request"]["object"]["spec"]["containers"][0]
    container["args"] = [f"models:/nothing/{number}" for number in range(MAX_REFERENCES - 1)]
    words = denial(review)
    assert words.endswith(f"And {MAX_REFERENCES - 1 - admission.MAX_NAMED_PROBLEMS} more.")
    container["args"] *= 2
    assert "More than 50 places name a model" in denial(review)
    assert len(words) < 5000


# --- what is told to whom ------------------------------------------------------------------


def test_another_teams_model_and_none_are_answered_alike(world: World) -> None:
    """L9, L5, L10: byte for byte, but for the name that the manifest says itself."""
    with tenant_scope(world.gamma, world.hugo):
        share(RegisteredModel.objects.get(name="CANARY own"), with_user=world.alice)
    bodies, costs = set(), set()
    for name in ("team_gamma/fraud", "team_gamma/CANARY own", "team_gamma/none", "team_none/x"):
        review = pod(name)
        with CaptureQueriesContext(connection) as captured:
            answer = posted(review)
        costs.add(len(captured))
        bodies.add(answer.content.replace(name.encode(), b"NAME"))
        assert not {"X-Request-ID", "Set-Cookie"} & set(answer.headers)
    assert len(bodies) == len(costs) == 1


def test_no_answer_tells_anything_of_another_team(world: World) -> None:
    """L28: also where the model is shared, recalled and blocked with words."""
    shared = world.model(world.gamma, "CANARY own")
    with tenant_scope(world.gamma, world.hugo):
        share(shared, with_tenant=world.alpha)
        version = ModelVersion.objects.get(model=shared, number=1)
        registry.recall_version(version, "CANARY reason")
        registry.record_scan(version, "blocked", "CANARY note")
    for review in (pod(str(shared.pk)), pod(str(shared.pk), "@champion"), pod(str(shared.pk), "9")):
        body = posted(review).content.decode()
        for word in (CANARY, "hugo", "gina", "Gamma"):
            assert word not in body


def test_a_question_writes_nothing_by_force(world: World) -> None:
    """The database itself refuses; after the answer, what was open before may write again."""
    with namespace_scope("bh-team-alpha", 1000):
        model = RegisteredModel.objects.get(name="fraud")
        with pytest.raises(DatabaseError, match="read-only transaction"):
            RegisteredModel.objects.filter(pk=model.pk).update(description="changed")
    assert scope_or_none() is None
    with pytest.raises(NobodysNamespace), namespace_scope("nobodys", 1000):
        pass
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('bulkhead.tenant_id', true),"
            " current_setting('transaction_read_only'), current_setting('statement_timeout')"
        )
        tenant, read_only, timeout = cursor.fetchone()
    assert (tenant or "", read_only, timeout) == ("", "off", "0")
    with tenant_scope(world.gamma):
        with namespace_scope("bh-team-alpha", 1000) as scope:
            assert scope.slug == "team_alpha"
            assert not RegisteredModel.objects.filter(name="CANARY own").exists()
        RegisteredModel.objects.filter(name="CANARY own").update(description="changed")


def test_a_dry_run_is_answered_as_what_is_meant(three: World) -> None:
    review = recorded("pod-create-dryrun")
    assert review["request"]["dryRun"] is True
    assert asked(review)["allowed"]
    review["request"]["object"]["metadata"]["annotations"][VERSION] = "9"
    assert "no such version" in denial(review)


# --- what is no question -------------------------------------------------------------------


def without(*keys: str, **changes: Any) -> dict[str, Any]:
    """Return a good review without some of its request, or with something else in it."""
    review: dict[str, Any] = pod()
    review["request"] = {k: v for k, v in review["request"].items() if k not in keys} | changes
    return review


MALFORMED: dict[str, tuple[Any, str]] = {
    "empty": (b"", "This is not JSON."),
    "text": (b"models", "This is not JSON."),
    "half": (b'{"kind": "Admission', "This is not JSON."),
    "no UTF-8": (b'{"kind": "\xff"}', "This is not JSON."),
    "very deep": (b"[" * 100_000, "This is not JSON."),
    "null": (b"null", "This is no AdmissionReview of admission.k8s.io/v1."),
    "a list": (b"[]", "This is no AdmissionReview"),
    "another kind": ({"apiVersion": "admission.k8s.io/v1", "kind": "Pod"}, "no AdmissionReview"),
    "another version": (
        {"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview"},
        "no AdmissionReview",
    ),
    "no request": (
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"},
        "$.request: expected an object",
    ),
    "gzip": (gzip.compress(b"{}"), "This is not JSON."),
}
OPERATION = "$.request.operation: expected CREATE, UPDATE, DELETE or CONNECT"
OBJECT = "$.request.object: expected an object of the request's kind"
BAD_REQUESTS: dict[str, tuple[tuple[str, ...], dict[str, Any], str]] = {
    "no uid": (("uid",), {}, "$.request.uid: expected text"),
    "an empty uid": ((), {"uid": ""}, "$.request.uid: expected a uid"),
    "a number for a uid": ((), {"uid": 5}, "$.request.uid: expected text"),
    "no operation": (("operation",), {}, OPERATION),
    "an unknown operation": ((), {"operation": "PATCH"}, OPERATION),
    "a list for an operation": ((), {"operation": ["DELETE"]}, OPERATION),
    "no kind": (("kind",), {}, OBJECT),
    "no object": (("object",), {}, OBJECT),
    "null": ((), {"object": None}, OBJECT),
    "an object of another kind": ((), {"object": {"kind": "Service"}}, OBJECT),
    "an object of no kind": ((), {"object": {"metadata": {}}}, OBJECT),
}


@pytest.mark.parametrize("case", [*MALFORMED, *BAD_REQUESTS])
def test_what_cannot_be_answered_is_refused_with_words(world: World, case: str) -> None:
    """The API server takes that for a failure, and so denies."""
    if case in MALFORMED:
        body, words = MALFORMED[case]
    else:
        keys, changes, words = BAD_REQUESTS[case]
        body = without(*keys, **changes)
    answer = posted(body)
    assert answer.status_code == 400, answer.content
    assert answer["Content-Type"].startswith("text/plain")
    assert words in answer.content.decode()
    assert b"fraud" not in answer.content


def test_an_object_that_is_too_deep_is_refused(world: World) -> None:
    review = pod()
    deep: Any = "models:/nothing/1"
    for _ in range(900):
        deep = [deep]
    review["request"]["object"]["spec"]["containers"][0]["args"] = deep
    body = json.dumps(review).encode()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(800)
    try:
        answer = posted(body)
    finally:
        sys.setrecursionlimit(limit)
    assert (answer.status_code, answer.content) == (400, b"Its object is nested too deeply.\n")


def test_a_question_of_any_size_that_an_api_server_sends_is_read(world: World) -> None:
    review = pod()
    review["request"]["object"]["metadata"]["annotations"]["x"] = "x" * 3 * 1024 * 1024
    assert asked(updated(review, review))["allowed"]
    review["request"]["oldObject"] = {"x": "x" * 8 * 1024 * 1024}
    answer = posted(review)
    assert answer.status_code == 413
    assert answer.content == b"An AdmissionReview has 8,388,608 bytes at most.\n"


@pytest.mark.parametrize("odd", [None, 5, "text", [], {"a": 1}, [None, 3, "x", {}]])
def test_odd_shapes_inside_an_object_are_no_fault_of_ours(world: World, odd: Any) -> None:
    """What the API server would never send is answered all the same."""
    for key in ("metadata", "spec", "status"):
        review = pod()
        review["request"]["object"][key] = odd
        assert posted(review).status_code in (200, 400)
    review = pod()
    review["request"]["object"]["metadata"]["annotations"] = {MODEL: odd, VERSION: odd}
    review["request"]["object"]["spec"]["containers"] = odd
    assert posted(review).status_code == 200
    assert posted(without(namespace=odd)).status_code == 200


def test_only_posts_are_answered(world: World) -> None:
    with LISTENER:
        for method in METHODS:
            answer = Client().generic(method, PATH)
            assert answer.status_code == (400 if method == "POST" else 405), method


# --- where it is ---------------------------------------------------------------------------


def test_the_site_has_no_such_address(world: World, as_: As) -> None:
    """Nobody finds it there, whoever it is and however they ask."""
    for person in (None, world.alice, world.dana):
        browser = as_(person)
        for path in PRIVATE.values():
            with pytest.raises(Resolver404):
                resolve(path)
            for method in METHODS:
                answer = call(browser, method, path)
                nowhere = call(browser, method, f"{path}-nowhere")
                assert answer.status_code == nowhere.status_code == 404, method
                assert answer.content.replace(path.encode(), b"") == (
                    nowhere.content.replace(f"{path}-nowhere".encode(), b"")
                )


def test_the_listener_has_nothing_else(world: World) -> None:
    with LISTENER:
        for path in ("/", "/healthz", "/sign-in/", "/admin/", "/t/team_alpha/", "/api/2.0/x", "/k"):
            answer = Client().get(path)
            assert (answer.status_code, answer.content) == (404, b"Not Found.\n"), path


def test_each_address_of_a_private_listener_is_in_the_table() -> None:
    """L1: the listeners' own resolvers are walked, so none can be forgotten."""
    patterns = dict(private_patterns())
    assert {pattern.name: f"/{route}" for route, pattern in patterns.items()} == PRIVATE
    for pattern in patterns.values():
        policy = policy_of(pattern.callback)
        assert policy is not None
        assert policy.kind == "public"


# --- how an API server is told of it -------------------------------------------------------

INSTALLATION = Installation()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs the listener's certificate and the API server's."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("version", ["1.30", latest_version()])
@pytest.mark.parametrize("url", ["", "https://admission.example.com:8443/kubernetes/admission"])
def test_what_is_rendered_is_valid(authority: Authority, version: str, url: str) -> None:
    made = render_webhook(INSTALLATION, ca_bundle=authority.file.read_text(), url=url)
    validate(made, version, strict=True)
    [hook] = made["webhooks"]
    assert ("url" in hook["clientConfig"]) == bool(url)
    assert hook["name"].count(".") >= 2
    assert hook["failurePolicy"] == "Fail"
    assert hook["sideEffects"] == "None"
    assert hook["timeoutSeconds"] == 3
    assert hook["admissionReviewVersions"] == ["v1"]
    assert hook["namespaceSelector"] == {
        "matchExpressions": [{"key": "bulkhead.dev/tenant", "operator": "Exists"}]
    }
    assert made == render_webhook(INSTALLATION, ca_bundle=authority.file.read_bytes(), url=url)


def test_the_rules_are_for_each_kind_that_makes_pods_and_nothing_else(authority: Authority) -> None:
    [hook] = render_webhook(INSTALLATION, ca_bundle=authority.file.read_bytes())["webhooks"]
    resources = {name for rule in hook["rules"] for name in rule["resources"]}
    assert resources == {f"{kind.lower()}s" for kind in TEMPLATE_PATHS} | {
        "pods/ephemeralcontainers"
    }
    for rule in hook["rules"]:
        assert rule["operations"] == ["CREATE", "UPDATE"]
        assert rule["scope"] == "Namespaced"
        assert "*" not in json.dumps(rule)


def test_the_prefix_and_the_namespace_are_the_installations(authority: Authority) -> None:
    here = Installation(prefix="corp", registry_namespace="models")
    [hook] = render_webhook(here, ca_bundle=authority.file.read_bytes())["webhooks"]
    validate(render_webhook(here, ca_bundle=authority.file.read_bytes()), "1.30", strict=True)
    assert hook["name"] == "models.admission.corp"  # three parts at least, says Kubernetes
    assert hook["namespaceSelector"]["matchExpressions"][0]["key"] == "corp/tenant"
    assert "'corp/registered-model' in object.metadata.annotations" in names_a_model(here)
    assert hook["clientConfig"]["service"] == {
        "namespace": "models",
        "name": "bulkhead-admission",
        "path": PATH,
        "port": 8443,
    }


def test_a_key_in_the_same_file_is_not_published(authority: Authority) -> None:
    cert, key = authority.serve("both", HOST)
    pem = key.read_bytes() + authority.file.read_bytes() + cert.read_bytes()
    [hook] = render_webhook(INSTALLATION, ca_bundle=pem)["webhooks"]
    published = base64.b64decode(hook["clientConfig"]["caBundle"])
    assert published == authority.file.read_bytes() + cert.read_bytes()


def test_what_is_no_certificate_and_no_https_is_refused(authority: Authority) -> None:
    with pytest.raises(ValueError, match="no certificate"):
        render_webhook(INSTALLATION, ca_bundle=authority.key("alone").read_bytes())
    with pytest.raises(ValueError, match="https"):
        render_webhook(INSTALLATION, ca_bundle=authority.file.read_bytes(), url="http://x/y")


def matched(obj: Any) -> bool:
    """Tell whether the condition matches an object, by a real implementation of CEL."""
    return bool(evaluate(names_a_model(INSTALLATION), {"object": json_to_cel(obj)}))


def test_the_condition_matches_what_names_a_model_on_itself_or_on_its_pods() -> None:
    annotated = {"metadata": {"annotations": {MODEL: "fraud"}}}
    others = {"metadata": {"annotations": {"other": "fraud", VERSION: "1"}}}
    for path in set(TEMPLATE_PATHS.values()):
        for template, expected in (
            (annotated, True),
            (others, False),
            ({"metadata": {"labels": {MODEL: "fraud"}}}, False),
            ({"metadata": {}}, False),
            ({"spec": {"containers": []}}, False),
        ):
            obj: Any = template
            for key in reversed(path):
                obj = {key: obj}
            for around in ({"kind": "X"}, {"metadata": {"name": "x"}, "spec": {}, "status": {}}):
                whole = around | obj
                assert matched(whole) is expected, whole
        # On the object itself, beside a template that has none.
        assert matched({"spec": {"template": others}} | annotated)


def test_the_condition_matches_what_was_recorded_but_for_what_was_deleted() -> None:
    for recording in RECORDINGS:
        obj = ours(recording)["request"]["object"]
        assert obj is None or matched(obj), recording.name


def test_a_denial_is_one_line_that_does_nothing_to_a_terminal(world: World) -> None:
    review = pod()
    attributes = {"a\x00\x1b[2J\nfake\u202e": "models:/nothing/1"}
    volume = {"name": "v", "csi": {"driver": "d", "volumeAttributes": attributes}}
    review["request"]["object"]["spec"]["volumes"] = [volume]
    assert denial(review).isprintable()


# --- the listener --------------------------------------------------------------------------


class Gate:
    """A way to the database that can be closed: as if it were down, or were there and silent."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.mode = "open"
        self.server = socket.create_server((HOST, 0))
        self.port: int = self.server.getsockname()[1]
        self.held: list[socket.socket] = []
        self.threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, work: Callable[..., None], *args: Any) -> None:
        self.threads.append(threading.Thread(target=work, args=args, daemon=True))
        self.threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self.server.accept()
                self.held.append(caller)
                if self.mode == "open":
                    behind = socket.socket(socket.AF_UNIX)
                    self.held.append(behind)
                    behind.connect(self.target)
                    self._start(self._carry, caller, behind)
                    self._start(self._carry, behind, caller)

    @staticmethod
    def _carry(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                target.sendall(piece)
        _cut(source, target)

    def close(self, mode: str) -> None:
        """Cut what is connected, and from now on be ``down`` or ``silent``."""
        self.mode = mode
        if mode == "down":
            _cut(self.server)
            self.server.close()
        _cut(*self.held)

    def open(self) -> None:
        """Lead to the database again, after a silence."""
        self.mode = "open"

    def end(self) -> None:
        """Leave nothing behind."""
        self.close("down")
        for thread in self.threads:
            thread.join(60)
        for end in self.held:
            end.close()


def _cut(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate before the tests' database."""
    given = connections["default"].get_connection_params()
    made = Gate(f"{given['host']}/.s.PGSQL.{given.get('port') or 5432}")
    yield made
    made.end()


@committed
def test_only_an_api_server_with_the_right_certificate_is_answered(
    authority: Authority, tmp_path: Path
) -> None:
    make_world()
    server, client = authority.serve("listener", HOST), authority.serve("api-server")
    stranger = Authority(tmp_path / "stranger")
    review = pod()
    with listening(tmp_path / "log", database_address(), *tls(authority, server)) as listener:
        status, body = listener.ask(review, authority, client)
        assert status == 200, body
        assert json.loads(body)["response"] == {"uid": review["request"]["uid"], "allowed": True}
        status, body = listener.ask(pod("team_gamma/fraud"), authority, client)
        assert status == 200
        assert json.loads(body)["response"]["status"]["code"] == 403
        assert listener.ask({}, authority, client) == (
            400,
            b"This is no AdmissionReview of admission.k8s.io/v1.\n",
        )
        assert listener.ask(review, authority, client, "/healthz") == (404, b"Not Found.\n")
        for wrong in (
            None,
            stranger.serve("api-server"),
            authority.serve("late", age=timedelta(minutes=-1)),
            authority.serve("another-server", HOST, use=ExtendedKeyUsageOID.SERVER_AUTH),
        ):
            with pytest.raises(OSError, match=r"(?i)alert|reset|closed|eof|broken"):
                listener.ask(review, authority, wrong)
        with pytest.raises(ssl.SSLCertVerificationError):  # whom the API server trusts
            listener.ask(review, stranger, client)
        with (
            closing(http.client.HTTPConnection(HOST, listener.port, timeout=60)) as plain,
            pytest.raises((OSError, http.client.HTTPException)),  # no TLS at all
        ):
            plain.request("POST", PATH, b"{}")
            plain.getresponse()
        assert listener.ask(review, authority, client)[0] == 200
        listener.process.terminate()
        assert listener.process.wait(120) == 0
    assert "Traceback" not in listener.log.read_text()


def timed(listener: Listener, authority: Authority) -> tuple[int, bytes, float]:
    """Return status, words and seconds of an answer."""
    began = time.monotonic()
    status, body = listener.ask(pod(), authority)
    return status, body, time.monotonic() - began


GONE = b"The registry's database does not answer.\n"


@committed
@pytest.mark.parametrize("mode", ["down", "silent"])
def test_without_its_database_it_answers_before_the_api_server_gives_up(
    authority: Authority, gate: Gate, tmp_path: Path, mode: str
) -> None:
    """L28, and closed by failing: 503 is a denial, and tells nothing."""
    make_world()
    database = database_address(host=HOST, port=gate.port, sslmode="disable")
    options = tls(authority, authority.serve("listener", HOST), mutual=False)
    with listening(tmp_path / "log", database, *options) as listener:
        status, body, _ = timed(listener, authority)
        assert status == 200, body
        gate.close(mode)
        for _ in range(2):
            status, body, seconds = timed(listener, authority)
            assert (status, body) == (503, GONE)
            assert seconds < webhook.TIMEOUT_SECONDS
        if mode == "silent":
            gate.open()
            assert timed(listener, authority)[0] == 200
    log = listener.log.read_text()
    assert "The database did not answer: OperationalError" in log
    for word in ("fraud", "team_alpha", "bh-team-alpha", "Traceback"):
        assert word not in log


@committed
def test_a_slow_database_is_given_up_and_asked_again(authority: Authority, tmp_path: Path) -> None:
    make_world()
    options = tls(authority, authority.serve("listener", HOST), mutual=False)
    with listening(tmp_path / "log", database_address(), *options) as listener:
        assert timed(listener, authority)[0] == 200
        owner = connections["owner"]
        owner.set_autocommit(False)
        try:
            with owner.cursor() as cursor:
                cursor.execute("LOCK TABLE tenants_tenant IN ACCESS EXCLUSIVE MODE")
            status, body, seconds = timed(listener, authority)
            assert (status, body) == (503, GONE)
            assert seconds < webhook.TIMEOUT_SECONDS
        finally:
            owner.rollback()
            owner.set_autocommit(True)
        assert timed(listener, authority)[0] == 200


def refusal(*options: str) -> str:
    """Return why the command refuses."""
    with pytest.raises(CommandError) as raised:
        call_command("serve_admission", *options)
    return str(raised.value)


def test_what_everybody_could_reach_is_refused(authority: Authority) -> None:
    files = tls(authority, authority.serve("listener", HOST), mutual=False)
    for bind in ("0.0.0.0:8443", "[::]:8443", "192.0.2.1:8443", "admission.example.com:8443"):
        words = refusal(f"--bind={bind}", *files)
        assert "Anybody who reaches" in words, bind
        assert "nobody but the API server may reach it" in words


def test_what_is_of_no_use_is_refused_with_words(authority: Authority, tmp_path: Path) -> None:
    server = authority.serve("listener", HOST)
    files = tls(authority, server, mutual=False)
    for bind in ("8443", ":8443", "127.0.0.1:", "127.0.0.1:https", "127.0.0.1:123456"):
        assert "is no HOST:PORT" in refusal(f"--bind={bind}", *files)
    assert "--workers" in refusal("--workers=0", *files)
    assert "--cert" in refusal(f"--key={server[1]}")
    missing = tmp_path / "missing"
    assert f"--cert {missing} cannot be read" in refusal(f"--cert={missing}", f"--key={server[1]}")
    assert f"--client-ca {missing} cannot be read" in refusal(*files, f"--client-ca={missing}")
    with socket.create_server((HOST, 0)) as taken:
        assert "is taken" in refusal(f"--bind={HOST}:{taken.getsockname()[1]}", *files)
    bind = f"--bind={HOST}:{free_port()}"
    assert "of no use" in refusal(bind, f"--cert={server[1]}", f"--key={server[0]}")
    assert "of no use" in refusal(bind, f"--cert={server[0]}", f"--key={authority.key('another')}")
