"""Clients of a server: some at once, each asking again as soon as it is answered.

Requests are bytes that were made before, and one thread serves all connections: beside a server
that answers some thousand requests a second, a client that does more is what one measures.
"""

import http.client
import itertools
import json
import random
import re
import selectors
import socket
import ssl
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

HOST = "127.0.0.1"
CONNECTIONS = 8
WARM_SECONDS = 0.5
WARM_REQUESTS = 10
#: How long to wait for any answer at all.
PATIENCE = 120.0
#: As much of an answer as is taken at once, in bytes.
PIECE = 1 << 18
#: How many requests are made before they are sent again in the same order.
DRAWN = 5000


@dataclass(frozen=True)
class Client:
    """Somebody who may ask a server: its port, and what each of their requests says beside."""

    port: int
    headers: Mapping[str, str]

    def request(self, method: str, path: str, body: Any = None) -> bytes:
        """Return a request as it goes over the wire; ``body`` is sent as JSON."""
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"Host": f"{HOST}:{self.port}", **self.headers}
        if body is not None:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
        lines = [f"{method} {path} HTTP/1.1", *(": ".join(item) for item in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + content

    def ask(self, request: bytes) -> bytes:
        """Send one request and return the body of its answer; raises HTTPException."""
        with socket.create_connection((HOST, self.port), timeout=PATIENCE) as connection:
            connection.sendall(request)
            response = http.client.HTTPResponse(connection)
            response.begin()
            body = response.read()
        if response.status not in {http.HTTPStatus.OK, http.HTTPStatus.CREATED}:
            raise http.client.HTTPException(f"{_shown(request)} was answered: {body[:500]!r}")
        return body


def drawn(requests: Sequence[bytes], seed: int = 0) -> Iterator[bytes]:
    """Yield requests for ever, drawn by chance, and the same at every run."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    return itertools.cycle(chance.choices(requests, k=DRAWN))


def in_turns(visits: Sequence[tuple[Client, Iterator[bytes]]], turns: int) -> list[float]:
    """Let one client after the other ask for one page; return each one's median time, in ms.

    Nobody waits for anybody else here, and what else the machine does meanwhile hits all alike:
    so the times can be compared.
    """
    connections = [_Connection(client.port) for client, _ in visits]
    times: list[list[float]] = [[] for _ in visits]
    for turn in range(-WARM_REQUESTS, turns):
        places = range(len(visits))
        for place in places if turn % 2 else reversed(places):
            connection = connections[place]
            connection.send(next(visits[place][1]))
            while not connection.receive():
                pass
            if turn >= 0:
                times[place].append(time.perf_counter() - connection.asked)
    for connection in connections:
        connection.close()
    return [statistics.median(side) * 1000 for side in times]


@dataclass
class Load:
    """How one kind of request did: how long each answer took, in all rounds together."""

    times: list[float] = field(default_factory=list)
    #: How many answers came; of one that was under way at an end, the part inside counts.
    answers: float = 0.0
    seconds: float = 0.0
    #: The size of an answer's body.
    size: int = 0
    #: How busy the asking side itself was, in seconds of one core, and for how long it asked.
    own: float = 0.0
    asked: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds

    @property
    def p50(self) -> float:
        """The time that half of the answers took at most, in ms."""
        return statistics.median(self.times) * 1000

    @property
    def p99(self) -> float:
        """The time that all but one answer in a hundred took at most, in ms."""
        if len(self.times) == 1:
            return self.p50
        return statistics.quantiles(self.times, n=100)[-1] * 1000

    def ask(
        self,
        port: int,
        requests: Iterator[bytes],
        seconds: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Send one request after the other over each connection, for ``seconds``."""
        began, own = time.perf_counter(), time.process_time()
        start = began + WARM_SECONDS
        end = start + seconds
        for asked, answered, size in _answers(port, requests, end, tls):
            inside = min(answered, end) - max(asked, start)
            if inside > 0:
                self.answers += inside / (answered - asked)
                self.times.append(answered - asked)
                self.size = size
        self.seconds += seconds
        self.own += time.process_time() - own
        self.asked += time.perf_counter() - began


def _answers(
    port: int, requests: Iterator[bytes], end: float, tls: ssl.SSLContext | None
) -> Iterator[tuple[float, float, int]]:
    """Ask until ``end``; yield when each request was sent and answered, and its answer's size."""
    connections = [_Connection(port, tls) for _ in range(CONNECTIONS)]
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send(next(requests))
        while selector.get_map():
            ready = selector.select(PATIENCE)
            if not ready:
                raise TimeoutError(f"No answer came in {PATIENCE:.0f} seconds.")
            for key, _ in ready:
                connection = key.data
                if not connection.receive():
                    continue
                now = time.perf_counter()
                yield connection.asked, now, connection.size
                if now < end:
                    connection.send(next(requests))
                else:
                    selector.unregister(connection.socket)
                    connection.close()


class _Connection:
    """A connection that is kept open; one request at a time is under way on it."""

    LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
    LAST_CHUNK = b"\r\n0\r\n\r\n"

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=HOST)
        self.request = b""
        self.received = bytearray()
        #: Where the body begins and ends; 0 while that is unknown.
        self.body = self.end = 0
        self.asked = 0.0

    @property
    def size(self) -> int:
        """The size of the answer's body in bytes."""
        return len(self.received) - self.body

    def send(self, request: bytes) -> None:
        """Send a request."""
        self.request = request
        self.received.clear()
        self.body = self.end = 0
        self.asked = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Take what has come; return whether the answer is whole. Raises HTTPException."""
        piece = self.socket.recv(PIECE)
        if not piece:
            raise http.client.HTTPException(f"{_shown(self.request)} was cut off.")
        self.received += piece
        while isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            self.received += self.socket.recv(PIECE)  # decrypted already: no selector tells of it
        if not self.body and not self._read_head():
            return False
        if self.end:
            return len(self.received) >= self.end
        return self.received.endswith(self.LAST_CHUNK)

    def _read_head(self) -> bool:
        head = self.received.find(b"\r\n\r\n")
        if head < 0:
            return False
        if self.received[9:12] != b"200":
            raise http.client.HTTPException(
                f"{_shown(self.request)} was answered: {bytes(self.received[:1000])!r}"
            )
        self.body = head + 4
        length = self.LENGTH.search(self.received, 0, head)
        if length is not None:
            self.end = self.body + int(length[1])
        return True

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()


def _shown(request: bytes) -> str:
    """Return the request's first line."""
    return request.partition(b"\r\n")[0].decode(errors="replace")
