"""Servers as the benchmarks run them: started, waited for, weighed, and stopped however it ends."""

import os
import secrets
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.support import ROOT

WORKERS = 2
START_SECONDS = 120
STOP_SECONDS = 15
#: The variable by which a server's processes are found, wherever in the tree they are.
MARK = "BULKHEAD_BENCHMARK_SERVER"
PROCESSES = Path("/proc")


@dataclass(frozen=True)
class Server:
    """A server that runs: all processes that were started for it."""

    mark: str

    def processes(self) -> list[Path]:
        """Return the processes' folders in /proc; none where the system has no such thing."""
        mark = f"{MARK}={self.mark}".encode()
        found = []
        for process in PROCESSES.glob("[0-9]*"):
            with suppress(OSError):
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append(process)
        return found

    def memory(self) -> float:
        """Return the memory of all its processes together in MB; what they share counts once."""
        kilobytes = 0
        for process in self.processes():
            with suppress(OSError):  # it has ended meanwhile
                lines = (process / "smaps_rollup").read_text().splitlines()
                kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return kilobytes / 1024


@contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], address: str, log: Path
) -> Iterator[Server]:
    """Run a server while the block runs, which begins when ``address`` can be had.

    Of an https address it is enough that somebody listens: not everybody is answered there.

    What the server prints goes to the file ``log``. It gets a session of its own, so that Ctrl-C
    is for us alone; we stop it then as always.
    """
    server = Server(secrets.token_hex(8))
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**environment, MARK: server.mark},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process, address, log)
        yield server
    finally:
        _stop(process, server)


def _wait(process: "subprocess.Popen[Any]", address: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if _is_there(address):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    last = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    raise RuntimeError(f"The server does not start:\n{last}")


def _is_there(address: str) -> bool:
    """Tell whether the server is there, or raise OSError."""
    parts = urlsplit(address)
    if parts.scheme == "https":
        with socket.create_connection((str(parts.hostname), parts.port or 443)):
            return True
    with urllib.request.urlopen(address):  # noqa: S310 - our own
        return True


def _stop(process: "subprocess.Popen[Any]", server: Server) -> None:
    """Stop it as a supervisor would; what does not go is killed."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    for left in server.processes():
        with suppress(ProcessLookupError):
            os.kill(int(left.name), signal.SIGKILL)
    process.kill()
    process.wait()
