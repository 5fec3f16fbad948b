"""A real MLflow server for the tests, the real client beside it, and what may go wrong between."""

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import urllib3

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_TRACKING_URI": "",
}


@dataclass(frozen=True)
class Stock:
    """A running server."""

    url: str

    def call(self, method: str, path: str, **fields: Any) -> Any:
        """Call its REST API."""
        sent: dict[str, Any] = {"fields": fields} if method == "GET" else {"json": fields}
        answer = urllib3.request(method, f"{self.url}/api/2.0/mlflow/{path}", **sent)
        assert answer.status == 200, answer.data
        return answer.json()

    def models(self) -> dict[str, Any]:
        """Return all that the server says of its models and their versions."""
        found = {}
        for filter in ("", "tag.`mlflow.prompt.is_prompt` = 'true'"):
            answer = self.call("GET", "registered-models/search", filter=filter, max_results=1000)
            for model in answer.get("registered_models", []):
                found[model["name"]] = model | {"versions": {}}
            answer = self.call("GET", "model-versions/search", filter=filter)
            for version in answer.get("model_versions", []):
                found[version["name"]]["versions"][int(version["version"])] = version
        return found

    def empty(self) -> None:
        """Delete all models."""
        for name in self.models():
            self.call("DELETE", "registered-models/delete", name=name)

    def recorded(self, script: str) -> list["Asked"]:
        """Run a script with the real client, and return what it asked of the server."""
        requests: list[Asked] = []

        def answer(asked: Asked) -> Answer:
            requests.append(asked)
            return passed_on(self, asked)

        with fake_server(answer) as url:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", script],
                env=os.environ | ENVIRONMENT | {"MLFLOW_TRACKING_URI": url},
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
        assert done.returncode == 0, done.stderr
        return requests


@contextmanager
def stock_server(*options: str, **variables: str) -> Iterator[Stock]:
    """Run ``mlflow server`` with a database and files of its own."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        log = Path(folder) / "log"
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
            *("--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
            *("--artifacts-destination", f"{folder}/artifacts"),
            *options,
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | ENVIRONMENT | variables,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            _wait_until_healthy(f"http://127.0.0.1:{port}", process, log)
            yield Stock(f"http://127.0.0.1:{port}")
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 300
    while True:
        try:
            assert urllib3.request("GET", f"{url}/health", retries=False).status == 200
            return
        except urllib3.exceptions.HTTPError:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


# --- a server between, or instead ----------------------------------------------------------

Answer = tuple[int, bytes, dict[str, str]]


@dataclass
class Asked:
    """A request: ``path`` with its query, and its headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@contextmanager
def fake_server(
    answer: Callable[[Asked], Answer], certificate: Path | None = None
) -> Iterator[str]:
    """Serve on 127.0.0.1 what ``answer`` says, and return the address; https with a certificate."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body in one packet

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, self.rfile.read(length))
            status, body, more = answer(asked)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | more).items():
                self.send_header(name, value)
            with suppress(ConnectionError):  # whoever asked was killed
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    for method in ("GET", "POST", "PATCH", "DELETE", "PUT"):
        setattr(Handler, f"do_{method}", Handler.handle_any)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http{'s' * bool(certificate)}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Gate:
    """A server in front of the real one that holds the n-th request to ``path``, for ever."""

    url: str
    reached: Event


@contextmanager
def gate(stock: Stock, path: str, nth: int) -> Iterator[Gate]:
    """Pass requests on, but for the ``nth`` one to ``path``."""
    reached, opened = Event(), Event()
    count = 0

    def answer(asked: Asked) -> Answer:
        nonlocal count
        if re.search(path, asked.path):
            count += 1
            if count == nth:
                reached.set()
                opened.wait(300)
                return 503, b"", {}
        return passed_on(stock, asked)

    with fake_server(answer) as url:
        try:
            yield Gate(url, reached)
        finally:
            opened.set()


def passed_on(stock: Stock, asked: Asked) -> Answer:
    """Return the real server's answer."""
    headers = {"Content-Type": asked.headers.get("content-type", "application/json")}
    found = urllib3.request(
        asked.method, f"{stock.url}{asked.path}", body=asked.body or None, headers=headers
    )
    return found.status, found.data, {}
