"""A real API server asks our webhook, by TLS on both sides; and what it does when that fails."""

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tenants.kubernetes.bundle.objects import Team
from tenants.kubernetes.bundle.webhook import NAME, PATH, render_webhook
from tests.live_cluster.cluster import APPLY, Answer, LiveCluster
from tests.support.bundles import HERE
from tests.support.certificates import Authority
from tests.support.listener import HOST, database_address, listening, tls
from tests.support.people import CANARY, committed, make_world

Teams = tuple[Team, Team]
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


def pod(name: str, model: str | None, version: str = "1") -> dict[str, Any]:
    named = {} if model is None else {HERE.label("registered-model"): model}
    annotations = {**named, **({HERE.label("model-version"): version} if named else {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {HERE.label("tenant"): "team_alpha"},
            "annotations": annotations,
        },
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [{"name": "server", "image": "server"}],
        },
    }


@contextmanager
def asked(live: LiveCluster, port: int) -> Iterator[None]:
    """Let the API server ask at that port; it takes a moment until it does."""
    url = f"https://{HOST}:{port}{PATH}"
    found = render_webhook(HERE, ca_bundle=live.authority.file.read_bytes(), url=url)
    # This release knows no conditions yet, so it asks about each workload in tenants' namespaces.
    del found["webhooks"][0]["matchConditions"]
    path = f"{WEBHOOKS}/{NAME}?fieldManager=platform&force=true"
    assert live.call("admin", "PATCH", path, found, APPLY).status in {200, 201}
    time.sleep(1.5)
    try:
        yield
    finally:
        assert live.call("admin", "DELETE", f"{WEBHOOKS}/{NAME}").status == 200
        time.sleep(1.5)


def create(live: LiveCluster, namespace: str, obj: dict[str, Any], user: str = "admin") -> Answer:
    return live.call(user, "POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", obj)


@committed
def test_the_api_server_shows_its_certificate(
    live: LiveCluster, two_teams: Teams, tmp_path: Path
) -> None:
    """One that shows none, or another's, is not answered; and then nothing is let in."""
    make_world()
    alpha = two_teams[0].namespace
    server = live.authority.serve("listener", HOST)
    stranger = Authority(tmp_path / "stranger")
    for authority, status in ((live.authority, 201), (stranger, 500)):
        options = [*tls(live.authority, server, mutual=False), f"--client-ca={authority.file}"]
        log = tmp_path / f"log-{status}"
        with (
            listening(log, database_address(), *options) as listener,
            asked(live, listener.port),
        ):
            made = create(live, alpha, pod("own", "fraud"))
            assert made.status == status, made
            refused = create(live, alpha, pod("w", "team_gamma/model4"))
            assert refused.status == (403 if status == 201 else 500)
            assert CANARY not in refused.message


@committed
def test_a_deployments_pods_are_judged_too(
    live: LiveCluster, two_teams: Teams, tmp_path: Path
) -> None:
    make_world()
    alpha = two_teams[0].namespace
    body = pod("d", "team_gamma/model4")
    template = {"metadata": {**body["metadata"], "labels": {"app": "d"}}, "spec": body["spec"]}
    del template["metadata"]["name"]
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"app": "d"}}, "template": template},
    }
    options = tls(live.authority, live.authority.serve("listener", HOST))
    path = f"/apis/apps/v1/namespaces/{alpha}/deployments?dryRun=All"
    with (
        listening(tmp_path / "log", database_address(), *options) as listener,
        asked(live, listener.port),
    ):
        refused = live.call("carol", "POST", path, deployment)
        assert refused.status == 403
        assert "spec.template.metadata.annotations" in refused.message


ANSWERS = {
    "another uid": {"uid": "another", "allowed": True},
    "no answer": None,
    "an error": 500,
    "too late": "slow",
}


@pytest.mark.parametrize("how", ANSWERS)
def test_a_wrong_answer_lets_nothing_in(
    how: str, live: LiveCluster, two_teams: Teams, tmp_path: Path
) -> None:
    """Whatever stands in the webhook's place: what is not its answer is a denial."""
    with answering(live, ANSWERS[how]) as port, asked(live, port):
        began = time.monotonic()
        refused = create(live, two_teams[0].namespace, pod("w", "fraud"))
        assert refused.status == 500, refused
        assert time.monotonic() - began < 10


@contextmanager
def answering(live: LiveCluster, answer: Any) -> Iterator[int]:
    """Answer every question in that wrong way, by TLS that the API server trusts."""

    class Wrong(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if answer == "slow":
                time.sleep(4)
            review: dict[str, Any] = {
                "apiVersion": "admission.k8s.io/v1",
                "kind": "AdmissionReview",
            }
            body = b"{}" if answer is None else json.dumps({**review, "response": answer}).encode()
            self.send_response(answer if isinstance(answer, int) else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    certificate, key = live.authority.serve("wrong", HOST)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer((HOST, 0), Wrong)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
