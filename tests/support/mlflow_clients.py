"""MLflow's own clients, unchanged, each in a process of its own, and a server for them.

Importing MLflow takes seconds, so each version is imported once, and its programs are forked.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
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


# --- programs ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it has printed."""

    code: int
    output: str
    errors: str


@dataclass(frozen=True)
class Program:
    """A program that runs, with its files in a folder of its own."""

    process: int
    files: Path

    def ended(self) -> Ended:
        """Wait until it ends."""
        wait_until((self.files / "ended").exists, CLIENT_SECONDS)
        code, output, errors = (
            (self.files / name).read_text() for name in ("ended", "output", "errors")
        )
        return Ended(int(code), output, errors)

    def stop(self) -> None:
        """Stop it, if it has not ended."""
        if not (self.files / "ended").exists():
            with suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)


@dataclass(frozen=True)
class Python:
    """A process that has imported one version of MLflow, and starts programs."""

    process: "subprocess.Popen[str]"
    folder: Path
    numbers: Iterator[int] = field(default_factory=count)

    def start(self, folder: Path, variables: dict[str, str], **program: Any) -> Program:
        """Start a program in ``folder``: ``code``, or ``module`` with ``arguments``."""
        files = self.folder / str(next(self.numbers))
        files.mkdir()
        program |= {"folder": str(folder), "variables": variables}
        program |= {name: str(files / name) for name in ("output", "errors", "ended")}
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps(program), file=self.process.stdin, flush=True)
        return Program(int(self.process.stdout.readline()), files)


@contextmanager
def mlflow_imported(version: str, folder: Path) -> Iterator[Python]:
    """Import that version of MLflow in a process, which starts programs while the block runs."""
    python = PYTHONS[version]
    assert Path(python).exists(), f"There is no {python}: `make test` installs it."
    with (
        (folder / "errors").open("wb") as errors,
        subprocess.Popen(
            [python, "-W", "ignore", "-m", "tests.clients.ready"],
            env=environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        yield Python(process, folder)


#: Returns the process that has imported a version of MLflow.
Pythons = Callable[[str], Python]


@dataclass
class Client:
    """A program that runs ``tests.clients.client`` with one version of MLflow."""

    python: Python
    version: str
    folder: Path
    variables: dict[str, str]
    asked: dict[str, Any]
    program: Program = field(init=False)

    def __post_init__(self) -> None:
        """Start it."""
        self.folder.mkdir()
        (self.folder / "asked.json").write_text(json.dumps(self.asked))
        self.program = self.python.start(
            self.folder,
            environment(self.folder, **self.variables),
            module="tests.clients.client",
            arguments=[str(self.folder)],
        )

    def said(self) -> dict[str, Any]:
        """Wait until it is done and return what each scenario says."""
        ended = self.program.ended()
        assert ended.code == 0, ended.errors
        said: dict[str, Any] = json.loads((self.folder / "said.json").read_text())
        return said


def all_said(clients: Iterable[Client]) -> dict[str, dict[str, Any]]:
    """Return what clients that run at the same time say, by version; none of them is left."""
    clients = list(clients)
    try:
        return {client.version: client.said() for client in clients}
    finally:
        for client in clients:
            client.program.stop()


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
