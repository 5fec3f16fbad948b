"""People who look at pages: some at once, each asking again as soon as it is answered."""

import http.client
import random
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

CONNECTIONS = 8
WARM_SECONDS = 0.5
WARM_REQUESTS = 10


@dataclass(frozen=True)
class Visitor:
    """Somebody who is signed in at one site."""

    port: int
    cookie: str

    def connect(self) -> http.client.HTTPConnection:
        """Open a connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def look(self, connection: http.client.HTTPConnection, path: str) -> tuple[float, int]:
        """Ask for a page; return how long the answer took, and its size."""
        start = time.perf_counter()
        headers = {"Cookie": self.cookie, "Accept": "text/html"}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read()
        if response.status != http.HTTPStatus.OK:
            raise http.client.HTTPException(f"{path} answered {response.status}.")
        return time.perf_counter() - start, len(body)


def in_turns(visits: Sequence[tuple[Visitor, Sequence[str]]], turns: int) -> list[float]:
    """Let one visitor after the other ask for one page; return each one's median time, in ms.

    Nobody waits for anybody else here, and what else the machine does meanwhile hits all alike:
    so the times can be compared.
    """
    connections = [visitor.connect() for visitor, _ in visits]
    times: list[list[float]] = [[] for _ in visits]
    chance = random.Random(0)  # noqa: S311 - no secret
    for turn in range(-WARM_REQUESTS, turns):
        places = range(len(visits))
        for place in places if turn % 2 else reversed(places):
            visitor, paths = visits[place]
            taken, _ = visitor.look(connections[place], chance.choice(paths))
            if turn >= 0:
                times[place].append(taken)
    for connection in connections:
        connection.close()
    return [statistics.median(side) * 1000 for side in times]


@dataclass
class Load:
    """How one page did: how long each answer took, in all rounds together."""

    times: list[float] = field(default_factory=list)
    seconds: float = 0.0
    bytes: int = 0
    #: How busy the asking side itself was, in seconds of one core.
    own: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.times) / self.seconds

    @property
    def p50(self) -> float:
        """The time that half of the answers took at most, in ms."""
        return statistics.median(self.times) * 1000

    @property
    def p99(self) -> float:
        """The time that all but one answer in a hundred took at most, in ms."""
        return statistics.quantiles(self.times, n=100)[-1] * 1000

    def ask(self, visitor: Visitor, paths: Sequence[str], seconds: float) -> None:
        """Ask for pages, drawn by chance from ``paths``, for so many seconds."""
        start = time.perf_counter() + WARM_SECONDS
        callers = [
            _Caller(visitor, paths, start, start + seconds, seed) for seed in range(CONNECTIONS)
        ]
        own = time.process_time()
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
            if caller.problem:
                raise RuntimeError(caller.problem)
            self.times += caller.times
            self.bytes = caller.bytes
        self.own += time.process_time() - own
        self.seconds += seconds


class _Caller(threading.Thread):
    """One connection, kept open."""

    def __init__(
        self, visitor: Visitor, paths: Sequence[str], start: float, end: float, seed: int
    ) -> None:
        super().__init__()
        self.visitor = visitor
        self.paths = paths
        self.first = start
        self.end = end
        self.chance = random.Random(seed)  # noqa: S311 - no secret
        self.times: list[float] = []
        self.bytes = 0
        self.problem = ""

    def run(self) -> None:
        """Ask until the time is over; answers before the start are for warming up."""
        connection = self.visitor.connect()
        try:
            while (now := time.perf_counter()) < self.end:
                path = self.chance.choice(self.paths)
                taken, self.bytes = self.visitor.look(connection, path)
                if now >= self.first:
                    self.times.append(taken)
        except (OSError, http.client.HTTPException) as error:
            self.problem = f"{type(error).__name__}: {error}"
        finally:
            connection.close()
