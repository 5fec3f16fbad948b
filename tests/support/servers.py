"""``manage.py serve`` and other commands, run on a data folder of their own."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT
from tests.support.waiting import wait_until

DEMO_PASSWORD = "a password for the demo"


def fresh_environment(data_dir: Path) -> dict[str, str]:
    """Return a fresh machine's environment, but for the data folder."""
    ours = ("DATABASE_", "BULKHEAD_", "DJANGO_", "PORT", "WORKERS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"DATA_DIR": str(data_dir), "BULKHEAD_DEMO_PASSWORD": DEMO_PASSWORD}


def manage_in(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of manage.py."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=fresh_environment(data_dir),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@dataclass
class Server:
    """A running ``manage.py serve``, in a process group of its own as in a terminal."""

    process: subprocess.Popen[bytes]
    output: Path
    data_dir: Path
    port: int

    @property
    def printed(self) -> str:
        """What it printed so far."""
        return self.output.read_text()

    def get(self, path: str) -> bytes:
        """Return a page."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            body: bytes = answer.read()
        return body

    def wait_until_ready(self) -> None:
        """Wait until it says that it is."""
        wait_until(lambda: "Ctrl-C" in self.printed or self.process.poll() is not None)
        assert self.process.poll() is None, self.printed

    def signal(self, number: signal.Signals, *, group: bool) -> None:
        """Send a signal to the main process, or to all as a terminal does."""
        (os.killpg if group else os.kill)(self.process.pid, number)

    def is_gone(self) -> bool:
        """Tell whether nothing of it is left: no worker, no database."""
        database = self.data_dir / "postgres" / "data" / "postmaster.pid"
        with socket.socket() as probe:
            return not database.exists() and probe.connect_ex(("127.0.0.1", self.port)) != 0


def free_port() -> int:
    """Return a port that nothing uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


Serve = Callable[..., Server]


@contextmanager
def servers(folder: Path) -> Iterator[Serve]:
    """Start servers on one data folder; whatever the block leaves of them is stopped."""
    started: list[Server] = []

    def start(*arguments: str, port: int | None = None) -> Server:
        port = port or free_port()
        output = folder / f"output-{len(started)}.txt"
        data_dir = folder / "data"
        with output.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "manage.py", "serve", f"--port={port}", *arguments],
                cwd=ROOT,
                env=fresh_environment(data_dir),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started.append(Server(process, output, data_dir, port))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.signal(signal.SIGTERM, group=False)
            server.process.wait(60)
    if (folder / "data").exists():
        manage_in(folder / "data", "check", "--database=default")  # the last one out stops it
