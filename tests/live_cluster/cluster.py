"""A real control plane on this machine: etcd, kube-apiserver and kube-controller-manager.

It has no nodes: nothing is scheduled, no pod runs and no packet is filtered. Everything else that
an API server decides is real: server-side apply, RBAC, quota, defaults, webhooks, deletion.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid5

import pytest
import urllib3
import yaml

from tenants.clusters import Cluster, namespace_of
from tenants.kubernetes.bundle.objects import Team
from tenants.sizes import SIZES
from tests.support.addresses import NOTHING
from tests.support.certificates import Authority

SERVER, MANAGER, ETCD = "KUBE_APISERVER", "KUBE_CONTROLLER_MANAGER", "ETCD"
ISSUER = "https://kubernetes.default.svc"
#: What Bulkhead is in the cluster.
CONTROLLER = "system:serviceaccount:bulkhead:bulkhead"
CONTROLLERS = (
    *("resourcequota", "namespace", "serviceaccount", "root-ca-cert-publisher"),
    *("deployment", "replicaset", "clusterrole-aggregation"),
)
STARTS_WITHIN = 60
APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"


@dataclass(frozen=True)
class Answer:
    """What the API server answered."""

    status: int
    body: Any
    warning: str | None = None

    @property
    def message(self) -> str:
        """The server's words, where it refused."""
        return str(self.body.get("message", ""))


class LiveCluster:
    """The running control plane, and everybody who has a token for it."""

    def __init__(self, folder: Path, port: int, authority: Authority) -> None:
        self.folder = folder
        self.address = f"https://127.0.0.1:{port}"
        self.authority = authority
        self.tokens: dict[str, str] = {}
        self.http = urllib3.PoolManager(ca_certs=str(authority.file), retries=False)

    def call(
        self, user: str, method: str, path: str, body: Any = None, kind: str = "application/json"
    ) -> Answer:
        """Send a request as ``user``, on a connection of its own, and return the answer."""
        headers = {"Authorization": f"Bearer {self.tokens[user]}", "Content-Type": kind}
        data = None if body is None else json.dumps(body)
        answer = self.http.request(
            method, self.address + path, body=data, headers={**headers, "Connection": "close"}
        )
        found = json.loads(answer.data) if answer.data[:1] == b"{" else answer.data.decode()
        return Answer(answer.status, found, answer.headers.get("Warning"))

    def may(self, user: str, verb: str, resource: str, namespace: str, group: str = "") -> bool:
        """Tell whether RBAC lets ``user`` do that, as ``kubectl auth can-i`` asks it."""
        name, _, part = resource.partition("/")
        attributes = {
            "namespace": namespace,
            "verb": verb,
            "group": group,
            "resource": name,
            "subresource": part,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = self.call(
            user, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review
        )
        assert answer.status == 201, answer
        return bool(answer.body["status"]["allowed"])

    def known_as(self, user: str, name: str = "live") -> Cluster:
        """Return the cluster as Bulkhead knows it, with a kubeconfig for ``user``."""
        path = self.folder / f"{user.replace(':', '-')}.kubeconfig"
        path.write_text(yaml.safe_dump(self._kubeconfig(user)))
        return Cluster(name, kubeconfig=str(path))

    def _kubeconfig(self, user: str) -> dict[str, Any]:
        server = {"server": self.address, "certificate-authority": str(self.authority.file)}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "live", "cluster": server}],
            "users": [{"name": user, "user": {"token": self.tokens[user]}}],
            "contexts": [{"name": "live", "context": {"cluster": "live", "user": user}}],
            "current-context": "live",
        }


def programs() -> dict[str, str] | None:
    """Return where the three programs are, or None: the level cannot run here."""
    found = {SERVER: "kube-apiserver", MANAGER: "kube-controller-manager", ETCD: "etcd"}
    paths = {name: shutil.which(os.environ.get(name, usual)) for name, usual in found.items()}
    return None if None in paths.values() else {n: path for n, path in paths.items() if path}


@contextmanager
def running(folder: Path, users: dict[str, tuple[str, ...]]) -> Iterator[LiveCluster]:
    """Run a control plane in ``folder``; ``users`` are user names with their groups."""
    paths = programs()
    assert paths is not None
    etcd_port, peer_port, port, manager_port = _free_ports(4)
    authority = Authority(folder / "pki")
    cluster = LiveCluster(folder, port, authority)
    cluster.tokens = {name: f"token-of-{place}" for place, name in enumerate(users)}
    lines = [
        f'{cluster.tokens[name]},{name},uid-{place},"{",".join(groups)}"'
        for place, (name, groups) in enumerate(users.items())
    ]
    (folder / "tokens.csv").write_text("\n".join(lines))
    authority.serve("server", "127.0.0.1", "localhost", "kubernetes.default.svc")
    _show_certificate_to_webhooks(cluster)
    key = authority.key("accounts")
    commands = [
        _etcd(paths[ETCD], folder, etcd_port, peer_port),
        _server(paths[SERVER], folder, port, etcd_port, key),
    ]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            started.append(_start(command, folder))
        _wait_for(cluster, started)
        started.append(_start(_manager(paths[MANAGER], cluster, manager_port, key), folder))
        _wait_for_accounts(cluster, started)
        yield cluster
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(30)


def _show_certificate_to_webhooks(cluster: LiveCluster) -> None:
    """Write what makes the API server show a certificate of its own to whatever it asks."""
    certificate, key = cluster.authority.serve("api-server")
    user = {"client-certificate": str(certificate), "client-key": str(key)}
    callers = {
        "apiVersion": "v1",
        "kind": "Config",
        "users": [{"name": "*", "user": user}],
    }
    (cluster.folder / "webhooks.kubeconfig").write_text(yaml.safe_dump(callers))
    plugin = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "WebhookAdmissionConfiguration",
        "kubeConfigFile": str(cluster.folder / "webhooks.kubeconfig"),
    }
    admission = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": [{"name": "ValidatingAdmissionWebhook", "configuration": plugin}],
    }
    (cluster.folder / "admission.yaml").write_text(yaml.safe_dump(admission))


def _etcd(program: str, folder: Path, port: int, peer_port: int) -> list[str]:
    here, peers = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    return [
        program,
        f"--data-dir={folder / 'etcd'}",
        "--unsafe-no-fsync",
        f"--listen-client-urls={here}",
        f"--advertise-client-urls={here}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
    ]


def _server(program: str, folder: Path, port: int, etcd_port: int, key: Path) -> list[str]:
    return [
        program,
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={folder / 'pki' / 'server.crt'}",
        f"--tls-private-key-file={folder / 'pki' / 'server.key'}",
        f"--cert-dir={folder / 'certs'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        f"--admission-control-config-file={folder / 'admission.yaml'}",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-signing-key-file={key}",
        f"--service-account-key-file={key}",
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=10.0.0.0/24",
    ]


def _manager(program: str, cluster: LiveCluster, port: int, key: Path) -> list[str]:
    return [
        program,
        f"--kubeconfig={cluster.known_as('admin').kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        "--port=0",
        f"--cert-dir={cluster.folder / 'certs'}",
        "--leader-elect=false",
        f"--controllers={','.join(CONTROLLERS)}",
        f"--service-account-private-key-file={key}",
        f"--root-ca-file={cluster.authority.file}",
        "--use-service-account-credentials=false",
    ]


def _start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)


def _wait_for(cluster: LiveCluster, started: list[subprocess.Popen[bytes]]) -> None:
    def ready() -> bool:
        try:
            return bool(cluster.call("admin", "GET", "/readyz").body == "ok")
        except urllib3.exceptions.HTTPError:
            return False

    _until(ready, cluster.folder, started)


def _wait_for_accounts(cluster: LiveCluster, started: list[subprocess.Popen[bytes]]) -> None:
    """Wait until the controllers work: they make each namespace's default account."""
    path = "/api/v1/namespaces/default/serviceaccounts/default"
    _until(
        lambda: cluster.call("admin", "GET", path).status == 200,
        cluster.folder,
        started,
    )


def _until(ready: Any, folder: Path, started: list[subprocess.Popen[bytes]]) -> None:
    end = time.monotonic() + STARTS_WITHIN
    while not ready():
        ended = [process.args for process in started if process.poll() is not None]
        assert not ended, f"{ended} ended; see the logs in {folder}"
        assert time.monotonic() < end, f"the control plane does not start; see the logs in {folder}"
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def team(slug: str, size: str = "small", **more: object) -> Team:
    """Return a team that has a namespace."""
    facts: dict[str, object] = {
        "slug": slug,
        "id": uuid5(NOTHING, slug),
        "name": slug.title(),
        "namespace": namespace_of(slug),
        "size": SIZES[size],
        **more,
    }
    return Team(**facts)  # type: ignore[arg-type]  # named one by one above


def wait_for_quota(live: LiveCluster, namespace: str, pods: str) -> None:
    """Wait until both quotas are counted as they are now; until then they refuse nothing."""
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    for _ in range(150):
        found = [item.get("status", {}) for item in live.call("admin", "GET", path).body["items"]]
        hard = [status["hard"] for status in found if status.get("hard")]
        if len(hard) == 2 and any(limits.get("pods") == pods for limits in hard):
            return
        time.sleep(0.1)
    pytest.fail(f"the quotas of {namespace} are not counted")
