"""The admission webhook's listener, run as ``manage.py serve_admission``, and a caller for it."""

import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connections
from psycopg.conninfo import make_conninfo

from tenants.kubernetes.bundle.webhook import PATH
from tests.support.certificates import Authority
from tests.support.servers import free_port
from tests.support.waiting import wait_until

HOST = "127.0.0.1"
#: The files of a certificate and of its key.
Pair = tuple[Path, Path]


def database_address(**changes: Any) -> str:
    """Return the address of the tests' database as the web role, for another process."""
    given = connections["default"].get_connection_params()
    named = ("host", "port", "user", "password", "dbname")
    return make_conninfo("", **{key: given[key] for key in named if given.get(key)} | changes)


@dataclass
class Listener:
    """A running ``manage.py serve_admission``."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    def ask(
        self, review: Any, authority: Authority, client: Pair | None = None, path: str = PATH
    ) -> tuple[int, bytes]:
        """Ask as an API server does; raises OSError where TLS or the network refuses."""
        context = ssl.create_default_context(cafile=str(authority.file))
        if client is not None:
            context.load_cert_chain(*client)
        caller = http.client.HTTPSConnection(HOST, self.port, timeout=60, context=context)
        try:
            body = json.dumps(review).encode()
            caller.request("POST", f"{path}?timeout=3s", body, {"Content-Type": "application/json"})
            answer = caller.getresponse()
            return answer.status, answer.read()
        finally:
            caller.close()

    def is_up(self) -> bool:
        """Tell whether it listens; fails where it has ended."""
        assert self.process.poll() is None, self.log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0


@contextmanager
def listening(log: Path, database: str, *options: str) -> Iterator[Listener]:
    """Run the listener while the block runs."""
    port = free_port()
    names = ("DATABASE_", "BULKHEAD_", "DJANGO_", "PORT", "WORKERS")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(names)}
    environment |= {
        "DATABASE_URL": database,
        "BULKHEAD_SECRET_KEY": "only for this test",
        "BULKHEAD_STORAGE": str(log.parent),
    }
    command = [sys.executable, "manage.py", "serve_admission", f"--bind={HOST}:{port}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--workers=1", *options],
            cwd=settings.BASE_DIR,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    listener = Listener(process, port, log)
    try:
        wait_until(listener.is_up)
        yield listener
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


def tls(authority: Authority, server: Pair, *, mutual: bool = True) -> list[str]:
    """Return the listener's options."""
    options = [f"--cert={server[0]}", f"--key={server[1]}"]
    return [*options, f"--client-ca={authority.file}"] if mutual else options
