"""The client, speaking for real to a server that answers what real API servers have answered."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tenants.clusters import Cluster
from tenants.kubernetes.sync import client as client_module
from tenants.kubernetes.sync.client import (
    Answer,
    Cause,
    ClusterApiError,
    ClusterError,
    ClusterUnreachable,
    NoAccess,
    OfficialClient,
)
from tests.support.kubernetes_stage import REGISTRY, Exchange, kubeconfig, recorded, recording

OLD, NEW = "v1.20.2", "v1.36.2"
both = pytest.mark.parametrize("version", [OLD, NEW])


def client(folder: Path, url: str, user: str = REGISTRY, **options: Any) -> OfficialClient:
    """Return a client of that server."""
    cluster = Cluster("test", kubeconfig=kubeconfig(folder, url, user))
    return OfficialClient(cluster, **{"pauses": (), **options})


def ask(api: OfficialClient, exchange: Exchange) -> Answer | None:
    """Ask by one of the verbs what was asked in the recording."""
    obj, query = exchange.body, exchange.query
    match exchange.method:
        case "PATCH":
            return api.apply(obj, force=query["force"] == "true", dry_run="dryRun" in query)
        case "POST" if query.keys() == {"fieldManager"}:
            return api.create(obj)
        case "GET":
            return api.get("v1", "Namespace", exchange.path.rpartition("/")[2])
        case "DELETE":
            named = {"namespace": exchange.path.split("/")[5], **obj["preconditions"]}
            metadata = {"name": exchange.path.rpartition("/")[2], **named}
            kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
            api.delete({**kind, "metadata": metadata})
            return None
        case _:  # what no verb does, such as making a pod
            return api._call(exchange.method, exchange.path, query, obj)


def asked(folder: Path, version: str, name: str) -> Answer | None:
    """Have a recorded answer given."""
    exchange = recording(version, name)
    with recorded(exchange) as server:
        return ask(client(folder, server.url, exchange.user), exchange)


def refused(folder: Path, version: str, name: str) -> ClusterApiError:
    """Have a recorded refusal given."""
    with pytest.raises(ClusterApiError) as caught:
        asked(folder, version, name)
    return caught.value


# --- what is answered --------------------------------------------------------------------------


@both
def test_what_is_made_is_told_from_what_was_there(version: str, tmp_path: Path) -> None:
    for name, created in (
        ("201-ssa-create-namespace", True),
        ("201-ssa-create-resourcequota", True),
        ("200-ssa-noop", False),
    ):
        answer = asked(tmp_path, version, name)
        assert answer is not None
        assert answer.created is created
        assert answer.object == recording(version, name).answer
        assert answer.warnings == ()


def test_what_a_server_warns_of_is_in_the_answer(tmp_path: Path) -> None:
    answer = asked(tmp_path, NEW, "201-psa-warning-deployment")
    assert answer is not None
    assert answer.warnings == (
        'would violate PodSecurity "restricted:v1.36": host namespaces (hostNetwork=true)',
    )


def test_several_warnings_are_several(tmp_path: Path) -> None:
    exchange = recording(NEW, "201-psa-warning-deployment")
    exchange.warning = f'{exchange.warning}, 299 - "a, \\"b\\" and \\\\"'
    with recorded(exchange) as server:
        answer = ask(client(tmp_path, server.url, exchange.user), exchange)
    assert answer is not None
    assert answer.warnings[1:] == ('a, "b" and \\',)


def test_a_list_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAGE_OBJECTS", 2)
    first = recording(NEW, "200-list-paginated")
    more = first.answer["metadata"]["continue"]
    metadata = {"resourceVersion": first.answer["metadata"]["resourceVersion"]}
    last = replace(
        first,
        query={"limit": "2", "continue": more},
        answer={**first.answer, "metadata": metadata},
    )
    with recorded(first, last) as server:
        listing = client(tmp_path, server.url).list("v1", "Namespace")
    assert listing.complete
    assert [item["metadata"]["name"] for item in listing.items] == [
        "default",
        "kube-node-lease",
    ] * 2
    assert {(item["apiVersion"], item["kind"]) for item in listing.items} == {("v1", "Namespace")}
    for most, length, complete in ((1, 1, False), (2, 2, False)):
        with recorded(first) as server:
            listing = client(tmp_path, server.url).list("v1", "Namespace", max_objects=most)
        assert (len(listing.items), listing.complete) == (length, complete)


# --- what is refused ---------------------------------------------------------------------------


@both
def test_a_conflict_names_the_field_and_who_manages_it(version: str, tmp_path: Path) -> None:
    error = refused(tmp_path, version, "409-ssa-conflict")
    [cause] = error.conflicts
    assert (error.status, error.reason) == (409, "Conflict")
    assert (cause.field, cause.manager) == (".spec.hard.pods", "kubectl-edit")
    assert not error.may_pass
    assert not error.is_of_all


@both
@pytest.mark.parametrize(
    ("name", "status", "reason", "part"),
    [
        (
            "403-rbac-escalation-rolebinding",
            403,
            "Forbidden",
            "RBAC permissions not currently held",
        ),
        ("403-rbac-cross-tenant", 403, "Forbidden", 'User "alice" cannot create resource'),
        ("403-quota-loadbalancer", 403, "Forbidden", "exceeded quota: bh-objects"),
        ("404-namespace-gone", 404, "NotFound", 'namespaces "bh-umbrella" not found'),
        ("409-delete-precondition", 409, "Conflict", "the UID in the precondition"),
        ("422-roleref-immutable", 422, "Invalid", "cannot change roleRef"),
    ],
)
def test_a_refusal_has_the_servers_own_words(
    version: str, name: str, status: int, reason: str, part: str, tmp_path: Path
) -> None:
    error = refused(tmp_path, version, name)
    assert (error.status, error.reason) == (status, reason)
    assert part in str(error)
    assert error.conflicts == ()
    assert not error.may_pass
    assert not error.is_of_all


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("403-vap-deployment-wrong-namespace", 403, "Forbidden"),
        ("409-namespace-already-exists", 409, "AlreadyExists"),
        ("422-ssa-wrong-uid", 422, "Invalid"),
    ],
)
def test_newer_servers_refuse_more(name: str, status: int, reason: str, tmp_path: Path) -> None:
    error = refused(tmp_path, NEW, name)
    assert (error.status, error.reason) == (status, reason)


@both
def test_the_field_of_an_invalid_object_is_named(version: str, tmp_path: Path) -> None:
    error = refused(tmp_path, version, "422-invalid-label")
    assert {cause.field for cause in error.causes} == {"metadata.labels"}


@both
def test_a_namespace_that_goes_away_refuses_all(version: str, tmp_path: Path) -> None:
    assert refused(tmp_path, version, "403-namespace-terminating").is_of_all


def test_an_unknown_token_is_refused_everywhere(tmp_path: Path) -> None:
    exchange = recording(NEW, "401-unauthorized")
    exchange.query = {"limit": str(client_module.PAGE_OBJECTS)}
    with recorded(exchange) as server, pytest.raises(ClusterApiError) as caught:
        client(tmp_path, server.url, exchange.user).list("v1", "Namespace")
    assert caught.value.is_of_all
    assert "does not accept what Bulkhead signs in with" in str(caught.value)


def test_a_delete_needs_to_know_exactly_what(tmp_path: Path) -> None:
    with recorded() as server, pytest.raises(ValueError, match="without a uid"):
        metadata = {"name": "x", "resourceVersion": "1"}
        obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        client(tmp_path, server.url).delete(obj)


def test_a_name_cannot_lead_to_another_object(tmp_path: Path) -> None:
    gone = recording(NEW, "404-namespace-gone")
    gone.path = "/api/v1/namespaces/bh-a%2F..%2Fbh-b%3Fforce%3Dtrue"
    with recorded(gone) as server, pytest.raises(ClusterApiError, match="not found"):
        client(tmp_path, server.url).get("v1", "Namespace", "bh-a/../bh-b?force=true")


@pytest.mark.parametrize(
    ("cause", "manager"),
    [
        ({"message": 'conflict with "kubectl" with subresource "scale" using v1'}, "kubectl"),
        ({"message": 'conflict with "a \\"b\\"" using v1 at 2026-01-01T00:00:00Z'}, 'a "b"'),
        ({"message": "conflict without a name"}, ""),
        ({}, ""),
    ],
)
def test_a_managers_name_is_read_as_the_server_quotes_it(
    cause: dict[str, str], manager: str
) -> None:
    body = {"details": {"causes": [{"reason": "FieldManagerConflict", "field": ".f", **cause}]}}
    error = client_module._error(409, body, {})
    assert error.causes == (Cause(".f", cause.get("message", ""), manager, "FieldManagerConflict"),)


# --- what is tried again -----------------------------------------------------------------------


def test_what_may_pass_is_tried_again_and_not_for_ever(tmp_path: Path) -> None:
    down = recording(NEW, "500-webhook-down")
    there = replace(down, status=201, answer={"kind": "Pod"})
    with recorded(down, down, there) as server:
        api = client(tmp_path, server.url, down.user, pauses=(0, 0))
        assert ask(api, down) == Answer({"kind": "Pod"}, created=True)
    with recorded(down, down, down) as server, pytest.raises(ClusterApiError) as caught:
        ask(client(tmp_path, server.url, down.user, pauses=(0, 0)), down)
    assert caught.value.status == 500
    assert caught.value.may_pass


@both
def test_a_permanent_error_is_not_retried(version: str, tmp_path: Path) -> None:
    denied = recording(version, "403-rbac-cross-tenant")
    with recorded(denied) as server, pytest.raises(ClusterApiError):
        ask(client(tmp_path, server.url, denied.user, pauses=(0, 0)), denied)


@pytest.mark.parametrize(
    ("status", "message", "may_pass"),
    [
        (429, "", True),
        (500, "Internal error occurred", True),
        (503, "", True),
        (500, "failed to create typed patch object: .spec.x: field not declared in schema", False),
        (500, 'unable to convert "x"', False),
        (500, "unsupported role reference kind", False),
        (400, "", False),
        (409, "", False),
    ],
)
def test_only_what_time_can_mend_is_tried_again(status: int, message: str, may_pass: bool) -> None:
    assert ClusterApiError(status, message=message).may_pass is may_pass


@pytest.mark.parametrize(
    ("asked", "waits"), [("3", 3), ("86400", 10), ("", 0), ("-1", 0), ("Wed, 01 Jan", 0)]
)
def test_a_server_may_ask_for_a_pause_but_not_for_any(asked: str, waits: int) -> None:
    assert client_module._error(429, {}, {"Retry-After": asked}).wait == waits


# --- no answer ---------------------------------------------------------------------------------


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """Serve something else than Kubernetes, and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def page(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    """Answer with a body."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    asked: list[str] = []

    def elsewhere(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.headers["Authorization"])
        page(handler, 200, b"{}")

    with answering(elsewhere) as target:
        for status in (301, 302, 307, 308):

            def lead(handler: BaseHTTPRequestHandler, status: int = status) -> None:
                page(handler, status, b"", Location=target)

            with (
                answering(lead) as url,
                pytest.raises(ClusterApiError, match="not followed") as caught,
            ):
                client(tmp_path, url).version()
            assert caught.value.status == status
    assert asked == []


def test_what_is_no_api_server_is_called_so(tmp_path: Path) -> None:
    for status, body, message in (
        (200, b"<html>", "no API server of Kubernetes"),
        (200, b"[]", "no API server of Kubernetes"),
        (200, b"\xff", "no API server of Kubernetes"),
        (502, b"<html>", "answered 502"),
    ):
        say = partial(page, status=status, body=body)
        with answering(say) as url, pytest.raises(ClusterError, match=message):
            client(tmp_path, url).version()


def test_an_answer_that_is_too_large_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 1_000)
    with (
        answering(lambda handler: page(handler, 200, b" " * 1_001)) as url,
        pytest.raises(ClusterError, match="too large"),
    ):
        client(tmp_path, url).version()


def wait(event: threading.Event) -> None:
    """Wait for what may never come, but not for ever."""
    event.wait(20)


def test_a_server_that_does_not_answer_is_waited_for_a_while_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "TIMEOUT_SECONDS", (1.0, 0.1))
    ended = threading.Event()
    with (
        answering(lambda handler: wait(ended)) as url,
        pytest.raises(ClusterUnreachable, match="no answer in time"),
    ):
        try:
            client(tmp_path, url).version()
        finally:
            ended.set()


def test_a_closed_port_is_said_without_its_address(tmp_path: Path) -> None:
    with answering(lambda handler: None) as url:
        pass
    with pytest.raises(ClusterUnreachable) as caught:
        client(tmp_path, url, pauses=(0, 0)).version()
    assert str(caught.value) == "The cluster does not answer: the connection was refused."
    assert url in caught.value.detail


# --- how a cluster is reached ------------------------------------------------------------------


def test_without_a_way_into_the_cluster_the_reason_is_the_platforms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    missing = str(tmp_path / "none")
    broken = tmp_path / "broken"
    broken.write_text("{")
    for path in (missing, str(broken)):
        with pytest.raises(NoAccess) as caught:
            OfficialClient(Cluster("mine", kubeconfig=path))
        assert str(caught.value) == "Bulkhead has no working access to this cluster."
        assert caught.value.detail.startswith("mine: ")
    with recorded() as server, pytest.raises(NoAccess):
        file = kubeconfig(tmp_path, server.url)
        OfficialClient(Cluster("mine", kubeconfig=file, context="another"))


def test_a_pod_of_the_cluster_needs_no_kubeconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "192.0.2.1")
    monkeypatch.delenv("KUBERNETES_SERVICE_PORT", raising=False)
    with pytest.raises(NoAccess) as caught:
        OfficialClient(Cluster("default"))
    assert "Service host/port is not set" in caught.value.detail


def test_what_talks_to_no_cluster_does_not_wait_for_the_official_client() -> None:
    code = (
        "import sys; sys.path[:0] = ['platform', '.']; import django; django.setup(); "
        "import tenants.kubernetes.sync.sync, bulkhead.urls; "
        "import tenants.management.commands.sync_kubernetes; print('kubernetes' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=settings.BASE_DIR,
        env={"DJANGO_SETTINGS_MODULE": "tests.settings", "DATA_DIR": str(settings.DATA_DIR)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"
