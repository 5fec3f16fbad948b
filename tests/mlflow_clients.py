"""MLflow's own clients, unchanged, each in a process of its own, and the servers they talk to."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connections
from psycopg.conninfo import make_conninfo

from tests.test_serve import free_port

ROOT = Path(__file__).resolve().parent.parent
#: Where `make test` puts the clients of MLflow 2; another place can be named.
OLD_CLIENT = os.environ.get("OLD_CLIENT", f"{sys.prefix}/mlflow-2.22")
PYTHONS = {"2.22": f"{OLD_CLIENT}/bin/python", "3": sys.executable}
VERSIONS = tuple(PYTHONS)
START_SECONDS = 90
CLIENT_SECONDS = 240


def environment(home: Path, **variables: str) -> dict[str, str]:
    """Return a clean environment, in which nothing but this machine can be reached."""
    nowhere = "http://127.0.0.1:9"
    processor = {name: text for name, text in os.environ.items() if name.startswith("OPENBLAS_")}
    return processor | {
        "HOME": str(home),
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "http_proxy": nowhere,
        "https_proxy": nowhere,
        "no_proxy": "127.0.0.1,localhost",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
        **variables,
    }


# --- clients -------------------------------------------------------------------------------


@dataclass
class Client:
    """A process that runs ``tests.clients.client`` with one version of MLflow."""

    version: str
    folder: Path
    variables: dict[str, str]
    asked: dict[str, Any]
    process: "subprocess.Popen[bytes]" = field(init=False)

    def __post_init__(self) -> None:
        """Start it."""
        python = PYTHONS[self.version]
        assert Path(python).exists(), f"There is no {python}: `make test` installs it."
        self.folder.mkdir()
        (self.folder / "asked.json").write_text(json.dumps(self.asked))
        with (self.folder / "output.txt").open("wb") as output:
            self.process = subprocess.Popen(
                [python, "-W", "ignore", "-m", "tests.clients.client", str(self.folder)],
                cwd=self.folder,
                env=environment(self.folder, **self.variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def said(self) -> dict[str, Any]:
        """Wait until it is done and return what each scenario says."""
        code = self.process.wait(CLIENT_SECONDS)
        assert code == 0, (self.folder / "output.txt").read_text()
        said: dict[str, Any] = json.loads((self.folder / "said.json").read_text())
        return said

    def stop(self) -> None:
        """Stop it, if it has not ended."""
        self.process.kill()
        self.process.wait()


def all_said(clients: Iterable[Client]) -> dict[str, dict[str, Any]]:
    """Return what clients that run at the same time say, by version; none of them is left."""
    clients = list(clients)
    try:
        return {client.version: client.said() for client in clients}
    finally:
        for client in clients:
            client.stop()


# --- servers -------------------------------------------------------------------------------


@dataclass
class Server:
    """A server that is being started in a process group of its own; ``page`` tells when it is."""

    url: str
    page: str
    output: Path
    process: "subprocess.Popen[bytes]"

    def wait(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}{self.page}", timeout=5):  # noqa: S310 - ours
                    return
            except OSError:
                late = time.monotonic() > deadline
                assert not late and self.process.poll() is None, self.output.read_text()
                time.sleep(0.1)


@contextmanager
def bulkhead(folder: Path) -> Iterator[Server]:
    """Run ``manage.py serve`` on the tests' database while the block runs.

    What a test has committed, the server sees, and the other way round.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    variables = {
        "DATA_DIR": str(folder),
        "DATABASE_URL": _address("default"),
        "DATABASE_OWNER_URL": _address("owner"),
        "BULKHEAD_SECRET_KEY": settings.SECRET_KEY,
        "BULKHEAD_URL": url,
    }
    command = ["manage.py", "serve", f"--port={port}", "--workers=1"]
    with _running(command, ROOT, folder, variables) as process:
        yield Server(url, "/healthz", folder / "output.txt", process)


@contextmanager
def stock_mlflow(folder: Path, password: str) -> Iterator[Server]:
    """Run MLflow's own server, with files and a database of its own and ``admin`` as its user."""
    port = free_port()
    # Without the cache, MLflow would compute the password's hash at each request.
    (folder / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\nadmin_username = admin\n"
        f"admin_password = {password}\ndatabase_uri = sqlite:///{folder}/auth.db\n"
        f"auth_cache_ttl_seconds = 600\n"
    )
    variables = {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "not kept",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = [
        *("-m", "mlflow", "server", "--app-name=basic-auth", "--workers=1"),
        *("--host=127.0.0.1", f"--port={port}", f"--artifacts-destination={folder}/artifacts"),
        f"--backend-store-uri=sqlite:///{folder}/mlflow.db",
    ]
    with _running(command, folder, folder, variables) as process:
        yield Server(f"http://127.0.0.1:{port}", "/health", folder / "output.txt", process)


@contextmanager
def _running(
    command: list[str], cwd: Path, folder: Path, variables: dict[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=cwd,
            env=environment(folder, **variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:  # nothing of it is kept, so it need not take its time
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _address(alias: str) -> str:
    """Return the address of the tests' database for that role."""
    params = connections[alias].get_connection_params()
    names = ("user", "password", "host", "port", "dbname")
    return make_conninfo(**{name: params[name] for name in names if name in params})
