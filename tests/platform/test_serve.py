"""``manage.py serve``: one command up, one signal down, and nothing lost in between.

Real servers, each with a data folder and a port of its own.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import ROOT

PASSWORD = "a password for the demo"


def environment(data_dir: Path) -> dict[str, str]:
    """Return a fresh machine's environment, but for the data folder."""
    ours = ("DATABASE_", "BULKHEAD_", "DJANGO_", "PORT", "WORKERS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"DATA_DIR": str(data_dir), "BULKHEAD_DEMO_PASSWORD": PASSWORD}


def manage(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of manage.py."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment(data_dir),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
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
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            body: bytes = answer.read()
        return body

    def wait_until_ready(self) -> None:
        """Wait until it says that it is."""
        wait(lambda: "Ctrl-C" in self.printed or self.process.poll() is not None)
        assert self.process.poll() is None, self.printed

    def signal(self, number: signal.Signals, *, group: bool) -> None:
        """Send a signal to the main process, or to all as a terminal does."""
        (os.killpg if group else os.kill)(self.process.pid, number)

    def is_gone(self) -> bool:
        """Tell whether nothing of it is left: no worker, no database."""
        database = self.data_dir / "postgres" / "data" / "postmaster.pid"
        with socket.socket() as probe:
            return not database.exists() and probe.connect_ex(("127.0.0.1", self.port)) != 0


def wait(until: Callable[[], bool], seconds: float = 90) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def free_port() -> int:
    """Return a port that nothing uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start servers; whatever a test leaves of them is stopped."""
    started: list[Server] = []

    def start(*arguments: str, port: int | None = None) -> Server:
        port = port or free_port()
        output = tmp_path / f"output-{len(started)}.txt"
        data_dir = tmp_path / "data"
        with output.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "manage.py", "serve", f"--port={port}", *arguments],
                cwd=ROOT,
                env=environment(data_dir),
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
    if (tmp_path / "data").exists():
        manage(tmp_path / "data", "check", "--database=default")  # the last one out stops it


def test_ctrl_c_stops_everything(serve: Serve) -> None:
    server = serve()
    server.wait_until_ready()
    assert server.get("/healthz") == b'{"status": "ok"}'
    style = re.search(rb'href="(/static/app\.[0-9a-f]+\.css)"', server.get("/sign-in/"))
    assert style is not None
    assert server.get(style[1].decode())
    server.signal(signal.SIGINT, group=True)
    assert server.process.wait(30) == 0
    assert server.is_gone()
    assert "Traceback" not in server.printed
    assert "rror" not in server.printed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_main_process_stops_everything(
    serve: Serve, number: signal.Signals
) -> None:
    server = serve()
    server.wait_until_ready()
    server.signal(number, group=False)
    assert server.process.wait(30) == 0
    assert server.is_gone()
    assert "Traceback" not in server.printed


def test_stopped_while_it_starts(serve: Serve) -> None:
    server = serve()
    wait(lambda: (server.data_dir / "postgres").exists())
    server.signal(signal.SIGINT, group=True)
    assert server.process.wait(30) == 0
    assert server.is_gone()
    assert server.printed == ""


@pytest.mark.parametrize("group", [True, False], ids=["all of it", "the main process"])
def test_killed_it_starts_again_and_has_lost_nothing(serve: Serve, group: bool) -> None:
    killed = serve()
    killed.wait_until_ready()
    made = manage(
        killed.data_dir,
        "shell",
        "-c",
        "from tenants.models import User; User.objects.create_user('kept')",
    )
    assert made.returncode == 0, made.stderr
    assert killed.get("/healthz")  # the command shared the server's database and left it running
    killed.signal(signal.SIGKILL, group=group)
    again = serve(port=killed.port)
    again.wait_until_ready()
    counted = manage(
        again.data_dir,
        "shell",
        "-c",
        "from tenants.models import User; print(User.objects.filter(username='kept').count())",
    )
    assert counted.stdout.splitlines()[-1] == "1"
    again.signal(signal.SIGTERM, group=False)
    assert again.process.wait(30) == 0
    assert again.is_gone()


def test_a_taken_port_is_refused_in_a_sentence_before_anything_starts(
    serve: Serve, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = serve(port=taken.getsockname()[1])
        assert server.process.wait(30) == 1
    assert re.fullmatch(r"CommandError: Port \d+ of 127\.0\.0\.1 is taken.*\.\n", server.printed)
    assert not (server.data_dir / "postgres").exists()


def test_the_demo_prints_its_address_and_its_sign_ins_once_it_answers(serve: Serve) -> None:
    server = serve("--demo")
    server.wait_until_ready()
    assert f"http://127.0.0.1:{server.port}" in server.printed
    assert PASSWORD in server.printed
    listed = manage(server.data_dir, "list_models", "--team", "team_gamma")
    assert listed.stdout == "['model4', 'model5', 'model6']\n"
