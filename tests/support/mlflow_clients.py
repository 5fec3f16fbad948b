"""MLflow's own clients, unchanged, each in a process of its own, and a server for them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connections
from psycopg.conninfo import make_conninfo

from tests.support import ROOT
from tests.support.servers import free_port
from tests.support.waiting import wait_until

#: Where `make test` puts the clients of MLflow 2; another place can be named.
OLD_CLIENT = Path(os.environ.get("OLD_CLIENT", f"{sys.prefix}/mlflow-2.22")).absolute()
PYTHONS = {"2.22": f"{OLD_CLIENT}/bin/python", "3": sys.executable}
VERSIONS = tuple(PYTHONS)
CLIENT_SECONDS = 600


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


# --- the server ----------------------------------------------------------------------------


@contextmanager
def bulkhead(folder: Path, **more: str) -> Iterator[str]:
    """Run ``manage.py serve`` on the tests' database while the block runs; return its address.

    What a test has committed, the server sees, and the other way round. ``more`` are further
    variables of its environment.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    variables = {
        "DATA_DIR": str(folder),
        "DATABASE_URL": _address("default"),
        "DATABASE_OWNER_URL": _address("owner"),
        "BULKHEAD_SECRET_KEY": settings.SECRET_KEY,
        "BULKHEAD_URL": url,
        **more,
    }
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "serve", f"--port={port}", "--workers=1"],
            cwd=ROOT,
            env=environment(folder, **variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until(
            lambda: "Ctrl-C" in (folder / "output.txt").read_text() or process.poll() is not None
        )
        assert process.poll() is None, (folder / "output.txt").read_text()
        yield url
    finally:
        process.terminate()
        process.wait(120)


def _address(alias: str) -> str:
    """Return the address of the tests' database for that role."""
    params = connections[alias].get_connection_params()
    names = ("user", "password", "host", "port", "dbname")
    return make_conninfo(**{name: params[name] for name in names if name in params})
