"""Files through a real ``manage.py serve``: how the server streams, and what a kill leaves."""

import http.client
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from tests.support.servers import Serve, Server, manage_in
from tests.support.waiting import wait_until

MB = 1024 * 1024
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
MAKE_TOKENS = """
from datetime import timedelta
from django.utils import timezone
from tenants.identity import directory, tokens
from tenants.models import ApiToken, Role, User
for name in ("carol", "bob"):
    user = User.objects.create_user(name)
    if name == "carol":
        team = directory.create_tenant("team_alpha", "Alpha", admin=user)
    else:
        directory.add_member(team, user, Role.VIEWER)
    secret = tokens.new_secret("write")
    ApiToken.objects.create(user=user, scope="write", name="test", digest=tokens.digest(secret),
        prefix=secret[:tokens.PREFIX_CHARS], expires_at=timezone.now() + timedelta(days=1))
    print(secret)
"""


def make_tokens(server: Server) -> list[str]:
    """Make a team, and a token of an admin and of a viewer of it."""
    made = manage_in(server.data_dir, "shell", "-c", MAKE_TOKENS)
    assert made.returncode == 0, made.stderr
    return made.stdout.split()[-2:]


def send(
    server: Server, token: str, method: str, path: str, body: Any = None, **headers: str
) -> Any:
    """Send a request; return the answer, of which ``content`` is the body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    sent["Authorization"] = f"Bearer {token}"
    with suppress(BrokenPipeError):  # refused before all of it was sent: the answer is there
        connection.request(method, path, body, sent, encode_chunked="Transfer-Encoding" in sent)
    answer: Any = connection.getresponse()
    answer.size = 0
    while piece := answer.read(MB):
        answer.size += len(piece)
        answer.content = piece
    connection.close()
    return answer


def megabytes(count: int) -> Iterator[bytes]:
    """Yield ``count`` megabytes, each with other content."""
    for number in range(count):
        yield number.to_bytes(8, "big") * (MB // 8)


def files(server: Server) -> list[int]:
    """Return the sizes of all files in the store."""
    found = (server.data_dir / "artifacts").rglob("*")
    return [path.stat().st_size for path in found if path.is_file()]


@contextmanager
def growth(server: Server) -> Iterator[list[int]]:
    """Watch the memory of server and workers; a list of one: by how many bytes it grew at most."""
    processes = psutil.Process(server.process.pid).children(recursive=True)
    workers = [process for process in processes if "postgres" not in process.name()]
    assert len(workers) >= 2
    before = {worker: worker.memory_info().rss for worker in workers}
    grown, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            now = [worker.memory_info().rss - before[worker] for worker in workers]
            grown[0] = max(grown[0], sum(now))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield grown
    finally:
        done.set()
        thread.join()


def test_bytes_stream_through_in_constant_memory(serve: Serve) -> None:
    server = serve()
    server.wait_until_ready()
    carol, bob = make_tokens(server)
    send(server, carol, "PUT", f"{ARTIFACTS}/warm", b"up")
    with growth(server) as grown:
        size = 300 * MB
        put = send(
            server, carol, "PUT", f"{ARTIFACTS}/big", megabytes(300), Content_Length=str(size)
        )
        got = send(server, bob, "GET", f"{ARTIFACTS}/big")
    assert (put.status, put.size) == (200, 0)
    assert (got.status, got.size) == (200, size)
    assert got.content == list(megabytes(300))[-1]
    assert grown[0] < 100 * MB
    head = send(server, bob, "HEAD", f"{ARTIFACTS}/big")
    assert (head.status, head.headers["Content-Length"], head.size) == (200, str(size), 0)
    part = send(server, bob, "GET", f"{ARTIFACTS}/big", Range=f"bytes={MB - 1}-{MB + 7}")
    assert (part.status, part.content) == (206, b"\0" + (1).to_bytes(8, "big"))
    same = send(server, bob, "GET", f"{ARTIFACTS}/big", If_None_Match=got.headers["ETag"])
    assert (same.status, same.size) == (304, 0)
    refused = send(
        server, bob, "PUT", f"{ARTIFACTS}/no", megabytes(50), Content_Length=str(50 * MB)
    )
    assert refused.status == 403
    # MLflow's client sends an empty file without a length; a longer one could have broken off.
    empty = send(server, carol, "PUT", f"{ARTIFACTS}/empty", iter(()), Transfer_Encoding="chunked")
    assert empty.status == 200
    assert send(server, bob, "GET", f"{ARTIFACTS}/empty").size == 0
    chunked = send(
        server, carol, "PUT", f"{ARTIFACTS}/no", iter([b"x"]), Transfer_Encoding="chunked"
    )
    assert chunked.status == 411
    begin_upload(server, carol, 20).close()
    wait_until(lambda: sorted(files(server)) == [0, 2, size])
    listed = send(server, bob, "GET", f"{ARTIFACTS}?path=")
    assert b'"half"' not in listed.content and b'"no"' not in listed.content
    assert "Traceback" not in server.printed


def begin_upload(server: Server, token: str, count: int) -> socket.socket:
    """Announce twice as many megabytes as are sent; return when they have arrived."""
    client = socket.create_connection(("127.0.0.1", server.port))
    client.sendall(
        f"PUT {ARTIFACTS}/half HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Length: {2 * count * MB}\r\n\r\n".encode()
    )
    for piece in megabytes(count):
        client.sendall(piece)
    wait_until(lambda: any(size >= (count - 2) * MB for size in files(server) if size < 100 * MB))
    return client


def test_a_server_killed_in_the_middle_leaves_garbage_and_no_file(serve: Serve) -> None:
    killed = serve()
    killed.wait_until_ready()
    carol, _ = make_tokens(killed)
    client = begin_upload(killed, carol, 20)
    killed.signal(signal.SIGKILL, group=True)
    client.close()
    again = serve(port=killed.port)
    again.wait_until_ready()
    assert send(again, carol, "GET", f"{ARTIFACTS}/half").status == 404
    assert send(again, carol, "GET", f"{ARTIFACTS}?path=").content == b"{}"
    [left] = files(again)
    said = manage_in(again.data_dir, "collect_garbage")
    assert said.stdout == "Freed 0 bytes: nothing was left over.\n"  # it might be running still
    said = manage_in(again.data_dir, "collect_garbage", "--older-than=0")
    assert said.stdout == f"Freed {left:,} bytes: 1 broken uploads.\n", said.stderr
    assert files(again) == []
