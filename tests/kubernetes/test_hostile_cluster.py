"""Clusters, and people who write objects there, that try to stop the sync or to speak through it.

Whatever a server here answers is allowed: nothing is asked of it but that others are left alone.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from itertools import count, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core.management import call_command
from pytest_django.fixtures import Settings

from tenants.clusters import Cluster
from tenants.isolation.scope import tenant_scope
from tenants.kubernetes.sync import client as client_module
from tenants.kubernetes.sync import sync
from tenants.kubernetes.sync.client import (
    AnswerTooLarge,
    ClusterError,
    ClusterUnreachable,
    OfficialClient,
)
from tenants.kubernetes.sync.sync import Mode, Order, sync_all, sync_tenant
from tenants.models import AuditEvent, NamespaceState, Tenant
from tests.support.kubernetes_stage import kubeconfig, set_clusters
from tests.support.people import World

State = NamespaceState.State
#: Gives the body for a method, a path and what was sent; or what it gives piece by piece.
Says = Callable[[str, str, Any], bytes | Iterator[bytes]]


@contextmanager
def answering(says: Says) -> Iterator[str]:
    """Serve answers, always with status 200, and give the address."""

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            said = says(self.command, self.path, json.loads(body) if body else None)
            self.send_response(200)
            if isinstance(said, bytes):
                self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            try:
                for part in [said] if isinstance(said, bytes) else said:
                    self.wfile.write(part)
            except OSError:
                pass  # nobody listens any more

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def client(folder: Path, url: str) -> OfficialClient:
    """Return a client of that server."""
    return OfficialClient(Cluster("test", kubeconfig=kubeconfig(folder, url)), pauses=())


def nested(depth: int) -> bytes:
    """Return an object of whose fields somebody says something very deep."""
    return b'{"a":' * depth + b"1" + b"}" * depth


def named(name: str, **more: Any) -> dict[str, Any]:
    """Return an object."""
    return {"metadata": {"name": name}, **more}


def ticking_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Let the client find the clock a second later at each look; return the clock."""
    seconds = count()
    monkeypatch.setattr(client_module, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    return seconds


# --- lists -------------------------------------------------------------------------------------


def test_a_list_that_never_ends_is_left(tmp_path: Path) -> None:
    asked: list[str] = []

    def says(method: str, path: str, body: Any) -> bytes:
        asked.append(path)
        items = [named("one")] if len(asked) == 1 else []
        return json.dumps({"items": items, "metadata": {"continue": "more"}}).encode()

    with answering(says) as url:
        listing = client(tmp_path, url).list("v1", "Pod")
    assert (len(listing.items), listing.complete, len(asked)) == (1, False, 2)


def test_a_list_takes_no_more_memory_or_time_than_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = {"items": [named("x" * 600)], "metadata": {"continue": "more"}}
    with answering(lambda *asked: json.dumps(page).encode()) as url:
        api = client(tmp_path, url)
        monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 1_500)
        listing = api.list("v1", "Pod")
        assert (len(listing.items), listing.complete) == (3, False)
        monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 1_500_000)
        monkeypatch.setattr(client_module, "MAX_LIST_SECONDS", 20)
        seconds = ticking_clock(monkeypatch)
        assert not api.list("v1", "Pod").complete
        assert next(seconds) < 30


def test_large_objects_are_listed_in_smaller_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 10_000)
    limits: list[int] = []

    def says(method: str, path: str, body: Any) -> bytes:
        query = parse_qs(urlsplit(path).query)
        limits.append(int(query["limit"][0]))
        start = int(query.get("continue", ["0"])[0])
        end = min(start + limits[-1], 9)
        items = [named(f"{place}" * 1_000) for place in range(start, end)]
        after = {"continue": str(end)} if end < 9 else {}
        return json.dumps({"items": items, "metadata": after}).encode()

    with answering(says) as url:
        listing = client(tmp_path, url).list("v1", "Pod")
        assert (len(listing.items), listing.complete) == (9, True)
        assert limits == [250]
        monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 9_000)
        limits.clear()
        found = client(tmp_path, url).list("v1", "Pod")
    assert limits[:3] == [250, 31, 3]
    assert [item["metadata"]["name"][0] for item in found.items] == list("012345678")
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 500)
    with answering(says) as url, pytest.raises(AnswerTooLarge):
        client(tmp_path, url).list("v1", "Pod")


def test_an_answer_that_comes_byte_by_byte_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_ANSWER_SECONDS", 5)
    seconds = ticking_clock(monkeypatch)
    with (
        answering(lambda *asked: repeat(b" ")) as url,
        pytest.raises(ClusterUnreachable, match="no answer in time"),
    ):
        client(tmp_path, url).version()
    assert next(seconds) < 10


# --- objects that are none ----------------------------------------------------------------------


NO_OBJECTS = [b"{}", b"[]", b"{", b'{"metadata":[]}', b'{"metadata":{"name":7}}', nested(100_000)]


@pytest.mark.parametrize("body", NO_OBJECTS)
def test_what_is_no_object_is_an_error_and_nothing_else(body: bytes, tmp_path: Path) -> None:
    obj = {"apiVersion": "v1", "kind": "Namespace", **named("x")}
    with answering(lambda *asked: body) as url:
        api = client(tmp_path, url)
        for ask in (
            partial(api.get, "v1", "Namespace", "x"),
            partial(api.create, obj),
            partial(api.apply, obj, force=True),
            partial(api.replace, obj),
        ):
            with pytest.raises(ClusterError):
                ask()


@pytest.mark.parametrize(
    "body",
    [
        *(b"{}", b"[]", b'{"items":7,"metadata":{}}', b'{"items":[7],"metadata":{}}'),
        *(b'{"items":[{}],"metadata":{}}', b'{"items":[],"metadata":[]}', nested(100_000)),
    ],
)
def test_what_is_no_list_is_an_error_and_nothing_else(body: bytes, tmp_path: Path) -> None:
    with answering(lambda *asked: body) as url, pytest.raises(ClusterError):
        client(tmp_path, url).list("v1", "Pod")


class Echo:
    """A server that takes all that is applied, and adds to it what a test says."""

    def __init__(self, *tenants: Tenant) -> None:
        self.tenants = {tenant.namespace: tenant for tenant in tenants}
        #: What each object of a team's has too, and what lists of a kind hold, by namespace.
        self.strange: dict[str, dict[str, Any]] = {}
        self.listed: dict[tuple[str, str], bytes | list[Any]] = {}

    def __call__(self, method: str, path: str, body: Any) -> bytes:
        parts = urlsplit(path).path.split("/")
        namespace = parts[parts.index("namespaces") + 1] if "namespaces" in parts else ""
        if method == "GET" and parts[-1] == namespace:
            labels = {"app.kubernetes.io/managed-by": "bulkhead"}
            labels["bulkhead.dev/tenant-id"] = str(self.tenants[namespace].pk)
            found = {"metadata": {"name": namespace, "uid": "1", "labels": labels}}
            return json.dumps(self._with(namespace, found)).encode()
        if method == "GET":
            listed = self.listed.get((namespace, parts[-1]), [])
            if isinstance(listed, bytes):
                return listed
            return json.dumps({"items": listed, "metadata": {}}).encode()
        return json.dumps(self._with(namespace, body or {})).encode()

    def _with(self, namespace: str, obj: dict[str, Any]) -> dict[str, Any]:
        more = self.strange.get(namespace, {})
        return {**obj, **more, "metadata": {**obj.get("metadata", {}), **more.get("metadata", {})}}


def states_of(echo: Echo, folder: Path, *tenants: Tenant, mode: Mode) -> list[NamespaceState]:
    """Sync the teams, one after the other."""
    with answering(echo) as url:
        order = Order(Cluster("test", kubeconfig=kubeconfig(folder, url)), mode)
        return list(sync_all(tenants, order, lambda cluster: OfficialClient(cluster, ())))


def deep(depth: int) -> Any:
    """Return a value that is nested so deeply that reading it is fine and walking it is not."""
    value: Any = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "strange",
    [
        {"metadata": {"labels": ["x"]}},
        {"metadata": {"managedFields": [7]}},
        {"metadata": {"managedFields": {"x": "y"}}},
        {"metadata": {"annotations": 7, "uid": None}},
        {"spec": deep(900)},
        {"status": 7, "spec": [7], "rules": "x", "subjects": {}},
    ],
)
@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.ENFORCE])
def test_strange_objects_of_one_team_do_not_stop_another(
    strange: dict[str, Any], mode: Mode, world: World, tmp_path: Path
) -> None:
    echo = Echo(world.alpha, world.gamma)
    echo.strange[world.alpha.namespace] = strange
    pods = [{"metadata": {"name": "p", "labels": 7}, "spec": 7, "status": 7}]
    echo.listed[world.alpha.namespace, "pods"] = pods
    first, second = states_of(echo, tmp_path, world.alpha, world.gamma, mode=mode)
    assert first.state != State.IN_SYNC
    assert second.state != State.ERROR
    assert first.tenant == world.alpha


def test_workloads_that_cannot_be_read_are_drift_and_the_rest_is_done(
    world: World, tmp_path: Path
) -> None:
    """A team writes its workloads itself: they hide nothing and stop nothing."""
    echo = Echo(world.alpha, world.gamma)
    own = world.alpha.namespace
    echo.listed[own, "deployments"] = b'{"metadata":{},"items":[' + nested(100_000) + b"]}"
    echo.listed[own, "jobs"] = b'{"metadata":{"continue":"x"},"items":[]}'
    first, second = states_of(echo, tmp_path, world.alpha, world.gamma, mode=Mode.ENFORCE)
    assert first.error == second.error == ""
    assert (first.state, second.state) == (State.DRIFT, State.IN_SYNC)
    assert [(one["kind"], one["problem"]) for one in first.workloads] == [
        ("Deployment", "An object there is nested too deeply to be read."),
        ("Job", "There are more of these than were looked at."),
    ]
    assert {entry["state"] for entry in first.objects_found} == {"corrected", "created"}


def test_a_workload_says_nothing_to_a_terminal_or_the_database(
    world: World, tmp_path: Path, settings: Settings
) -> None:
    """What a team calls a key is in what is said of its workload."""
    source = {"csi": {"volumeAttributes": {"\x1b[2J\x00\u202e": "models:/nothing/1"}}}
    limits = {"limits": {"cpu": "1", "memory": "1Gi"}}
    pod = {
        "metadata": {"name": "p\x1b[31m", "labels": {"bulkhead.dev/tenant": "team_alpha"}},
        "spec": {"containers": [{"name": "c", "resources": limits}], "volumes": [source]},
    }
    echo = Echo(world.alpha)
    echo.listed[world.alpha.namespace, "pods"] = [pod]
    with answering(echo) as url:
        set_clusters(settings, Cluster("test", kubeconfig=kubeconfig(tmp_path, url)))
        out = StringIO()
        words = ("sync_kubernetes", "--tenant", "team_alpha", "--mode", "observe")
        with pytest.raises(SystemExit):
            call_command(*words, stdout=out)
    assert "is not registered for this namespace" in out.getvalue()
    assert all(line.isprintable() for line in out.getvalue().splitlines())
    with tenant_scope(world.alpha):
        [problem] = NamespaceState.objects.get().workloads
    assert problem["name"] == "p [31m"


def test_what_a_quota_counts_is_kept_up_to_a_bound(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "MAX_ENTRIES", 20)
    counted = {f"count/{place}.example.com": "1" for place in range(50)}
    quota = named("bh-objects", spec={"hard": counted}, status={"hard": counted, "used": counted})
    echo = Echo(world.alpha)
    echo.listed[world.alpha.namespace, "resourcequotas"] = [quota]
    [state] = states_of(echo, tmp_path, world.alpha, mode=Mode.OBSERVE)
    assert len(state.quota) == 20


# --- a cluster that goes away in the middle -----------------------------------------------------


def test_what_was_corrected_before_a_cluster_went_away_is_in_the_log(
    world: World, tmp_path: Path
) -> None:
    echo = Echo(world.alpha)

    def says(method: str, path: str, body: Any) -> bytes | Iterator[bytes]:
        if "/pods" in path:
            raise ConnectionAbortedError
        return echo(method, path, body)

    with answering(says) as url:
        where = Cluster("test", kubeconfig=kubeconfig(tmp_path, url))
        state = sync_tenant(world.alpha, OfficialClient(where, ()), where, "enforce")
    assert state.state == State.ERROR
    with tenant_scope(world.alpha):
        event = AuditEvent.objects.get(action="namespace.synced")
    assert "ResourceQuota bh-compute" in event.changes["created"]
    assert event.changes["to"] == "error"
