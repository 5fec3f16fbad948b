"""Measures how long the admission webhook takes, as an API server calls it.

The real listener of ``manage.py serve_admission``, over TLS with certificates on both sides, beside
a registry in which the team that is asked about has many models, and another team as many. Half of
the questions are allowed; of the rest one in two names a model of the other team, the other one
none. What is asked are real AdmissionReviews with other names in them.
"""

import argparse
import http.client
import json
import random
import ssl
import sys
from dataclasses import dataclass
from typing import Any, Self

import psycopg

from tests.benchmarks.load import CONNECTIONS, HOST, Client, Load, drawn
from tests.benchmarks.report import machine, own_share, say, stop_on_signals
from tests.benchmarks.servers import WORKERS, running
from tests.benchmarks.sites import Site, Size, data_dir, make_site
from tests.support import ROOT
from tests.support.certificates import Authority
from tests.support.servers import free_port

PATH = "/kubernetes/admission?timeout=3s"
RECORDING = "tests/kubernetes/recordings/v1.36.2/admissionreview-pod-create-allowed.json"
PREFIX = "bulkhead.dev"
MOST_MILLISECONDS = 50
#: How many different questions there are of each kind.
QUESTIONS = 1000

TEAMS = "SELECT id, slug, namespace FROM tenants_tenant ORDER BY slug LIMIT 2"
READY = """
SELECT model.name, version.number FROM models_registry_modelversion version
  JOIN models_registry_registeredmodel model ON model.id = version.model_id
 WHERE version.tenant_id = %(id)s AND version.status = 'READY' ORDER BY random() LIMIT %(most)s"""


@dataclass(frozen=True)
class Questions:
    """What is asked about one team's namespace: models of its own, of another team, and none."""

    namespace: str
    own: list[tuple[str, str]]
    foreign: list[tuple[str, str]]
    missing: list[tuple[str, str]]

    @classmethod
    def of(cls, site: Site) -> Self:
        """Look for models in the registry, as its owner in the scope of each team."""
        with psycopg.connect(site.owner_url) as owner:
            (own_id, _, namespace), (their_id, slug, _) = owner.execute(TEAMS).fetchall()
            own, theirs = _ready(owner, own_id), _ready(owner, their_id)
        return cls(
            namespace,
            own,
            [(f"{slug}/{name}", version) for name, version in theirs],
            [(f"missing-{number}", "1") for number in range(QUESTIONS)],
        )

    def bodies(self) -> list[Any]:
        """Return the AdmissionReviews: as many allowed as denied, in any order."""
        half = QUESTIONS // 2
        asked = [*self.own, *self.foreign[:half], *self.missing[:half]]
        random.Random(0).shuffle(asked)  # noqa: S311 - no secret
        return [self.review(model, version) for model, version in asked]

    def review(self, model: str, version: str) -> Any:
        """Return the question whether a pod of the namespace may use that version."""
        review = json.loads((ROOT / RECORDING).read_text())["body"]
        review["request"]["namespace"] = self.namespace
        review["request"]["object"]["metadata"]["annotations"] = {
            f"{PREFIX}/registered-model": model,
            f"{PREFIX}/model-version": version,
        }
        return review


def _ready(owner: "psycopg.Connection[Any]", tenant: Any) -> list[tuple[str, str]]:
    owner.execute("SELECT set_config('bulkhead.tenant_id', %s, true)", [str(tenant)])
    rows = owner.execute(READY, {"id": tenant, "most": QUESTIONS}).fetchall()
    return [(name, str(number)) for name, number in rows]


def main() -> None:
    """Prepare, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.admission", description=__doc__
    )
    parser.add_argument("--models", type=int, default=10_000, help="of each team (10000)")
    parser.add_argument("--rounds", type=int, default=4, help="rounds (4)")
    parser.add_argument("--seconds", type=float, default=5, help="of each round (5)")
    options = parser.parse_args()
    stop_on_signals()
    site = make_site(Size("admission", 2, options.models))
    authority = Authority(data_dir() / "certificates")
    (cert, key), caller = authority.serve("listener", HOST), authority.serve("api-server")
    tls = ssl.create_default_context(cafile=str(authority.file))
    tls.load_cert_chain(*caller)
    port = free_port()
    questions = Questions.of(site)
    client = Client(port, {"User-Agent": "kube-apiserver-admission"})
    requests = [client.request("POST", PATH, body) for body in questions.bodies()]
    command = [sys.executable, "manage.py", "serve_admission", f"--bind={HOST}:{port}"]
    command += [f"--cert={cert}", f"--key={key}", f"--client-ca={authority.file}"]
    command.append(f"--workers={WORKERS}")
    log = data_dir() / "admission.log"
    load = Load()
    with running(command, site.environment, f"https://{HOST}:{port}", log) as server:
        check(port, tls, questions)
        for number in range(options.rounds):
            load.ask(port, drawn(requests, number), options.seconds, tls)
            sys.stderr.write(f"round {number + 1} of {options.rounds}\n")
        memory = server.memory()
    say(f"Measured on {machine(site)}; {WORKERS} workers, {CONNECTIONS} connections, mutual TLS.")
    say()
    report(load, options.models, memory)


def check(port: int, tls: ssl.SSLContext, questions: Questions) -> None:
    """Fail unless the answers are what the questions were made for."""
    caller = http.client.HTTPSConnection(HOST, port, context=tls)
    for asked, expected in (
        (questions.own, True),
        (questions.foreign, False),
        (questions.missing, False),
    ):
        for model, version in asked[:50]:
            body = json.dumps(questions.review(model, version))
            caller.request("POST", PATH, body, {"Content-Type": "application/json"})
            allowed = json.loads(caller.getresponse().read())["response"]["allowed"]
            if allowed is not expected:
                raise RuntimeError(f"{model} version {version} was answered {allowed}.")
    caller.close()


def report(load: Load, models: int, memory: float) -> None:
    """Print how long the answers took."""
    say("| Admission | Answers/s | p50 | p99 | Target | Memory |")
    say("|:--|--:|--:|--:|--:|--:|")
    say(
        f"| {models:,} models in the team, half allowed, half denied | {load.rate:,.0f}"
        f" | {load.p50:.1f} ms | {load.p99:.1f} ms | p99 < {MOST_MILLISECONDS} ms"
        f" | {memory:.0f} MB |"
    )
    say()
    say(own_share([load]))


if __name__ == "__main__":
    main()
