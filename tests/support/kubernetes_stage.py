"""A stage for syncs: a team, and an API server that answers what a real one has answered.

Recordings are of two kinds. Single exchanges, in folders by the version that gave them, hold other
names than ours and are read with ours. Whole tests, one file each, were recorded by running the
same test on a real kube-apiserver: see tests/live_cluster. Requests must come in the order in which
they were recorded, and be the same to the last byte of meaning, or the test fails: nobody here
pretends to know what a server would have answered.
"""

import gzip
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pytest_django.fixtures import Settings

from tenants.clusters import Cluster
from tenants.identity import directory
from tenants.kubernetes.bundle.objects import Object
from tenants.kubernetes.sync.client import ClusterApiError, OfficialClient
from tenants.kubernetes.sync.sync import sync_tenant
from tenants.models import NamespaceState, Tenant
from tests.support import ROOT

RECORDINGS = ROOT / "tests" / "kubernetes" / "recordings"
#: Who asks is told by the token: Bulkhead, who runs the cluster, somebody with few rights, and
#: somebody unknown.
REGISTRY, ADMIN, LIMITED, NOBODY = "registry", "admin", "limited", "nobody"
#: Stands in recordings for the id of a team, which is another one each time.
ID = "00000000-0000-4000-8000-{:012}"

#: The names of the recorded bundle, and ours.
NAMES = (
    ("mlr-", "bh-"),
    ("registry.example.com/", "bulkhead.dev/"),
    ("model-registry-tenant", "bulkhead-tenant"),
    ("model-registry", "bulkhead"),
)


@dataclass
class Exchange:
    """A request and what a server answered to it."""

    user: str
    method: str
    path: str
    query: dict[str, str]
    content: str
    body: Any
    status: int = 0
    warning: str | None = None
    answer: Any = None

    @property
    def asked(self) -> tuple[Any, ...]:
        """What was asked, and by whom."""
        return self.user, self.method, self.path, self.query, self.content, self.body


def recording(version: str, name: str) -> Exchange:
    """Return a recorded exchange, with our names in it."""
    text = (RECORDINGS / version / f"{name}.json").read_text()
    for theirs, ours in NAMES:
        text = text.replace(theirs, ours)
    whole = json.loads(text)
    request, response = whole["request"], whole["response"]
    return Exchange(
        request["user"],
        request["method"],
        request["path"],
        request["params"] or {},
        request["content_type"],
        request["body"],
        response["status"],
        response["warning"],
        response["body"],
    )


@dataclass
class Server:
    """An API server on a port of this machine; ``answer`` completes an exchange."""

    answer: Callable[[Exchange], None]
    url: str = ""
    #: What went wrong, as a client that asks for too much would not tell.
    problems: list[str] = field(default_factory=list)

    @contextmanager
    def serving(self) -> Iterator["Server"]:
        """Serve until the block ends, which fails if a request was not as it should be."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
        assert self.problems == []

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 120
            disable_nagle_algorithm = True

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                where = urlsplit(self.path)
                exchange = Exchange(
                    self.headers.get("Authorization", "").removeprefix("Bearer "),
                    self.command,
                    where.path,
                    dict(parse_qsl(where.query)),
                    self.headers.get("Content-Type", ""),
                    json.loads(body) if body else None,
                )
                outer.answer(exchange)
                answer = json.dumps(exchange.answer).encode()
                self.send_response(exchange.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                if exchange.warning:
                    self.send_header("Warning", exchange.warning)
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        return Handler


@contextmanager
def recorded(*exchanges: Exchange) -> Iterator[Server]:
    """Serve these exchanges, once each and in this order, and nothing else."""
    with _serving_in_order(list(exchanges), lambda exchange: exchange) as server:
        yield server


@contextmanager
def _serving_in_order(left: list[Any], read: Callable[[Any], Exchange]) -> Iterator[Server]:
    def answer(exchange: Exchange) -> None:
        expected = read(left.pop(0)) if left else None
        if expected is None or expected.asked != exchange.asked:
            wanted = expected.asked if expected else "nothing more"
            server.problems.append(f"asked {exchange.asked}, recorded is {wanted}")
            exchange.status, exchange.answer = 501, {"message": "This was not recorded."}
            return
        exchange.status, exchange.warning = expected.status, expected.warning
        exchange.answer = expected.answer

    server = Server(answer)
    with server.serving():
        yield server
    assert left == [], "not all that is recorded was asked for"


def kubeconfig(folder: Path, url: str, user: str = REGISTRY) -> str:
    """Write a kubeconfig for a server, and return its path."""
    file = folder / f"kubeconfig-{user}"
    file.write_text(
        json.dumps(
            {
                "current-context": "test",
                "clusters": [{"name": "test", "cluster": {"server": url}}],
                "users": [{"name": "test", "user": {"token": user}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            }
        )
    )
    return str(file)


@dataclass
class Stage:
    """A team, a cluster that belongs to the test, and the ways to look at both."""

    teams: list[Tenant]
    cluster: Cluster
    api: OfficialClient
    #: The same cluster for whoever runs it, and for others by their tokens.
    admin: OfficialClient
    as_: Callable[[str], OfficialClient]
    #: Seconds between two looks at what takes a real cluster a while.
    pause: float = 0

    @property
    def tenant(self) -> Tenant:
        """The team."""
        return self.teams[0]

    def another_team(self, slug: str) -> Tenant:
        """Make one more team."""
        self.teams.append(directory.create_tenant(slug))
        return self.teams[-1]

    def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until the cluster has done something by itself."""
        deadline = time.monotonic() + 60
        while not is_so():
            assert time.monotonic() < deadline
            time.sleep(self.pause)

    def has(self, kind: str, name: str = "") -> bool:
        """Tell whether the object is there."""
        try:
            self.get(kind, name)
        except ClusterApiError as error:
            assert error.status == 404
            return False
        return True

    def sync(self, mode: str, *, prune: bool = False) -> NamespaceState:
        """Sync the team's namespace."""
        return sync_tenant(self.tenant, self.api, self.cluster, mode, prune)

    def found(self, mode: str, *, prune: bool = False) -> dict[str, list[str]]:
        """Sync, and return the objects by their state; those in sync are left out."""
        return by_state(self.sync(mode, prune=prune))

    def get(self, kind: str, name: str = "") -> Object:
        """Return an object of the team's namespace, or the namespace."""
        if kind == "Namespace":
            return self.admin.get("v1", kind, self.tenant.namespace).object
        return self.admin.get(VERSIONS[kind], kind, name, self.tenant.namespace).object

    def edit(self, kind: str, name: str = "", **fields: Any) -> Object:
        """Change an object as somebody who uses kubectl edit would."""
        obj = {**self.get(kind, name), **fields}
        return self.admin.replace(obj, manager="kubectl-edit").object

    def add(self, kind: str, name: str, manager: str = "kubectl", **fields: Any) -> Object:
        """Add an object to the team's namespace, as somebody who uses kubectl apply would."""
        metadata = {"name": name, "namespace": self.tenant.namespace, **fields.pop("metadata", {})}
        obj = {"apiVersion": VERSIONS[kind], "kind": kind, "metadata": metadata, **fields}
        return self.admin.apply(obj, force=False, manager=manager).object

    def remove(self, kind: str, name: str = "") -> None:
        """Delete an object of the team's namespace, or the namespace."""
        self.admin.delete(self.get(kind, name))


VERSIONS = {
    "ServiceAccount": "v1",
    "ResourceQuota": "v1",
    "LimitRange": "v1",
    "Pod": "v1",
    "Role": "rbac.authorization.k8s.io/v1",
    "RoleBinding": "rbac.authorization.k8s.io/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "ClusterRole": "rbac.authorization.k8s.io/v1",
    "ClusterRoleBinding": "rbac.authorization.k8s.io/v1",
}


def by_state(state: NamespaceState) -> dict[str, list[str]]:
    """Return what a sync found as lists of kind and name, by state; what is in sync is left out."""
    found: dict[str, list[str]] = {}
    for entry in state.objects_found:
        if entry["state"] != "in_sync":
            found.setdefault(entry["state"], []).append(f"{entry['kind']} {entry['name']}")
    return found


def transcript(name: str) -> Path:
    """Return the file of a test's recording."""
    return RECORDINGS / "sync" / f"{name}.jsonl.gz"


@contextmanager
def replayed(name: str, tenant: Tenant, folder: Path) -> Iterator[Stage]:
    """Play a test's recording."""
    teams = [tenant]

    def read(line: str) -> Exchange:
        for place, team in enumerate(teams):
            line = line.replace(ID.format(place), str(team.pk))
        return Exchange(**json.loads(line))

    lines = gzip.decompress(transcript(name).read_bytes()).decode().splitlines()
    with _serving_in_order(lines, read) as server:
        yield staged(teams, server, folder)


@contextmanager
def played(
    name: str, tenant: Tenant, folder: Path, ask: Callable[[Exchange], None]
) -> Iterator[Stage]:
    """Play a test on a real server, which ``ask`` asks; with BULKHEAD_RECORD keep a recording."""
    teams, kept = [tenant], list[Exchange]()

    def answer(exchange: Exchange) -> None:
        ask(exchange)
        kept.append(exchange)

    with Server(answer).serving() as server:
        yield staged(teams, server, folder, pause=0.3)
    if "BULKHEAD_RECORD" not in os.environ:
        return
    text = "".join(json.dumps(vars(exchange)) + "\n" for exchange in kept)
    for place, team in enumerate(teams):
        text = text.replace(str(team.pk), ID.format(place))
    transcript(name).parent.mkdir(exist_ok=True)
    transcript(name).write_bytes(gzip.compress(text.encode(), mtime=0))


def team_for(test: str) -> Tenant:
    """Make the team of a test, named after it: a cluster of many tests has a namespace for each."""
    return directory.create_tenant(test.removeprefix("test_")[:40].rstrip("_"))


def staged(teams: list[Tenant], server: Server, folder: Path, pause: float = 0) -> Stage:
    """Return the stage on which a team meets that server."""

    def cluster(user: str = REGISTRY) -> Cluster:
        return Cluster("test", kubeconfig=kubeconfig(folder, server.url, user))

    def client(user: str) -> OfficialClient:
        return OfficialClient(cluster(user), pauses=())

    return Stage(teams, cluster(), client(REGISTRY), client(ADMIN), client, pause)


def set_clusters(settings: Settings, *clusters: Cluster) -> None:
    """Say which clusters there are."""
    settings.KUBERNETES = replace(settings.KUBERNETES, clusters=clusters)
