"""Measures how fast files go in and out, beside the least that a server can do with them.

One file after the other is uploaded through MLflow's artifact endpoints and fetched again; the
other server is the same granian with as many workers and threads, which writes the body to a file
and reads it, and knows neither database nor checksum. Both keep their files in the same folder, and
they are deleted at the end.
"""

import argparse
import http.client
import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from tests.benchmarks import plain
from tests.benchmarks.load import HOST, PATIENCE, Client
from tests.benchmarks.report import machine, say, stop_on_signals
from tests.benchmarks.servers import WORKERS, Server, running
from tests.benchmarks.sites import Site, Size, data_dir, make_site
from tests.support.servers import free_port

ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
MEGABYTE = 1 << 20
#: What the file is made of, again and again: chance, which nothing can make smaller.
BLOCK = 16 * MEGABYTE
LEAST_SPEED, LEAST_SHARE = 300, 0.70
SAMPLE_SECONDS = 0.2


@dataclass
class Side:
    """A server, who asks it, and how it did: MB/s of each transfer, and the most memory added."""

    server: Server
    client: Client
    folder: str
    speeds: dict[str, list[float]] = field(default_factory=lambda: {"upload": [], "download": []})
    growth: dict[str, float] = field(default_factory=lambda: {"upload": 0.0, "download": 0.0})

    def transfer(self, what: str, number: int, blocks: int) -> None:
        """Upload or download file ``number``, of ``blocks`` blocks, and keep its speed."""
        path = f"{self.folder}/file-{number}.bin"
        with self._weighed(what):
            seconds = (self._upload if what == "upload" else self._download)(path, blocks)
        self.speeds[what].append(blocks * BLOCK / MEGABYTE / seconds)

    def _upload(self, path: str, blocks: int) -> float:
        block = os.urandom(BLOCK)
        headers = {**self.client.headers, "Content-Length": str(blocks * BLOCK)}
        request = replace(self.client, headers=headers).request("PUT", path)
        with socket.create_connection((HOST, self.client.port), timeout=PATIENCE) as connection:
            start = time.perf_counter()
            connection.sendall(request)
            for _ in range(blocks):
                connection.sendall(block)
            _answer(connection, path).read()
            return time.perf_counter() - start

    def _download(self, path: str, blocks: int) -> float:
        piece = memoryview(bytearray(MEGABYTE))
        with socket.create_connection((HOST, self.client.port), timeout=PATIENCE) as connection:
            start = time.perf_counter()
            connection.sendall(self.client.request("GET", path))
            answer = _answer(connection, path)
            size = 0
            while taken := answer.readinto(piece):
                size += taken
            seconds = time.perf_counter() - start
        if size != blocks * BLOCK:
            raise http.client.HTTPException(f"{path} came back with {size} bytes.")
        return seconds

    @contextmanager
    def _weighed(self, what: str) -> Iterator[None]:
        """Remember how much memory the server's processes took at most during the block."""
        before, done = self.server.memory(), threading.Event()
        most = [before]

        def watch() -> None:
            while not done.wait(SAMPLE_SECONDS):
                most.append(self.server.memory())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
        self.growth[what] = max(self.growth[what], max(most) - before)


def _answer(connection: socket.socket, path: str) -> http.client.HTTPResponse:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    if answer.status != http.HTTPStatus.OK:
        raise http.client.HTTPException(f"{path} was answered {answer.status}: {answer.read()!r}")
    return answer


def main() -> None:
    """Prepare both servers, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.files", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1024, help="of the file (1024)")
    parser.add_argument("--rounds", type=int, default=4, help="rounds, in turns (4)")
    options = parser.parse_args()
    stop_on_signals()
    blocks = max(1, options.megabytes * MEGABYTE // BLOCK)
    folder = data_dir() / "files"
    shutil.rmtree(folder, ignore_errors=True)
    site = make_site(Size("files", 1, 1))
    try:
        with ExitStack() as stack:
            ours, bare = _bulkhead(site, folder, stack), _plain(folder, stack)
            for number in range(options.rounds):
                for what in ("upload", "download"):
                    for side in (ours, bare) if number % 2 else (bare, ours):
                        side.transfer(what, number, blocks)
                sys.stderr.write(f"round {number + 1} of {options.rounds}\n")
                # The folder never holds more than one file of each server.
                ours.client.ask(ours.client.request("DELETE", f"{ours.folder}/file-{number}.bin"))
                for path in folder.rglob("*"):
                    if path.is_file():
                        path.unlink()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    say(
        f"A file of {blocks * BLOCK // MEGABYTE:,} MB over loopback; the median of"
        f" {options.rounds}. Measured on {machine(site)}; {WORKERS} workers."
    )
    say()
    report(ours, bare)


def _bulkhead(site: Site, folder: Path, stack: ExitStack) -> Side:
    store = folder / "bulkhead"
    store.mkdir(parents=True)
    site = replace(site, environment=site.environment | {"BULKHEAD_STORAGE": str(store)})
    token = json.loads(site.python("tests.benchmarks.inside", "team_token"))["token"]
    server = stack.enter_context(site.served())
    return Side(server, Client(site.port, {"Authorization": f"Bearer {token}"}), ARTIFACTS)


def _plain(folder: Path, stack: ExitStack) -> Side:
    from bulkhead.management.commands.serve import THREADS

    store, port = folder / "plain", free_port()
    store.mkdir(parents=True)
    command = [sys.executable, "-m", "granian", "--interface=wsgi", f"--port={port}"]
    command += [f"--workers={WORKERS}", f"--blocking-threads={THREADS}", "--log-level=error"]
    command += [f"{plain.__name__}:application"]
    environment = os.environ | {plain.FOLDER: str(store)}
    log = data_dir() / "plain.log"
    server = stack.enter_context(running(command, environment, f"http://{HOST}:{port}/", log))
    return Side(server, Client(port, {}), "")


def report(ours: Side, bare: Side) -> None:
    """Print the speeds, and what the transfers cost in memory."""
    say("| | Bulkhead | Plain | Bulkhead / plain | Target | Memory added: Bulkhead, plain |")
    say("|:--|--:|--:|--:|--:|--:|")
    for what in ("upload", "download"):
        speed, best = median(ours.speeds[what]), median(bare.speeds[what])
        say(
            f"| {what} | {speed:,.0f} MB/s | {best:,.0f} MB/s | {speed / best:.0%}"
            f" | ≥ {LEAST_SPEED} MB/s or {LEAST_SHARE:.0%}"
            f" | {ours.growth[what]:.0f} MB, {bare.growth[what]:.0f} MB |"
        )


if __name__ == "__main__":
    main()
