"""Compares Bulkhead's registry API with stock MLflow's server, and prints it as Markdown.

Three servers run beside each other on one machine and one PostgreSQL, each with as many workers:
Bulkhead, with further teams in its tables; stock MLflow, which knows no teams and lets everybody
in; and stock MLflow in its multi-tenant mode, with further workspaces, asked by a member of one.
The same requests get the same rows from each of them; that is checked before anything is measured.
"""

import argparse
import itertools
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from urllib.parse import quote, urlencode

from tests.benchmarks import contents
from tests.benchmarks.load import CONNECTIONS, Client, Load, drawn
from tests.benchmarks.report import machine, own_share, say, stop_on_signals
from tests.benchmarks.servers import WORKERS, Server
from tests.benchmarks.sites import Site, Size, make_site
from tests.benchmarks.stock import Stock

API = "/api/2.0/mlflow"
TEAMS = 10
PAGE = 100
#: How many models are passed at once on the way to a deep page: as many as both servers allow.
STEP = 1000
#: How many different requests of a kind are asked.
ASKED = 1000
MOST_MEMORY = 400
LEAST_FOR_TENANTS = 100
SETTLE_SECONDS = 3.0
#: How long each server is asked before anything is measured: workers get ready at first requests.
WARM_SECONDS = 5.0

BULKHEAD, STOCK, TENANTS = "Bulkhead", "stock", "stock, multi-tenant"
NAMED = re.compile(rb'"(?:name|version)"\s*:\s*"([^"]*)"')


@dataclass(frozen=True)
class Side:
    """One of the servers: who asks it, and for which models."""

    name: str
    server: Server
    client: Client
    names: Sequence[str]

    @property
    def page_size(self) -> int:
        """How many models a page has: of a small registry, fewer."""
        return min(PAGE, max(1, len(self.names) // 5))

    def get(self, path: str, **query: str | int) -> bytes:
        """Return a request that reads."""
        return self.client.request("GET", f"{API}/{path}?{urlencode(query, quote_via=quote)}")

    def post(self, path: str, **body: object) -> bytes:
        """Return a request that writes."""
        return self.client.request("POST", f"{API}/{path}", body)

    def for_each(self, request: Callable[[str], bytes]) -> Iterator[bytes]:
        """Yield requests for models drawn by chance, for ever."""
        step = max(1, len(self.names) // ASKED)
        return drawn([request(name) for name in self.names[::step]])


def get(side: Side) -> Iterator[bytes]:
    """Ask for models."""
    return side.for_each(lambda name: side.get("registered-models/get", name=name))


def get_by_alias(side: Side) -> Iterator[bytes]:
    """Ask for the versions at which an alias points."""
    return side.for_each(
        lambda name: side.get("registered-models/alias", name=name, alias=contents.ALIAS)
    )


def get_version(side: Side) -> Iterator[bytes]:
    """Ask for versions."""
    return side.for_each(lambda name: side.get("model-versions/get", name=name, version="1"))


def versions_of_model(side: Side) -> Iterator[bytes]:
    """Ask for all versions of models, with the page size that MLflow's client sends."""
    return side.for_each(
        lambda name: side.get("model-versions/search", filter=f"name='{name}'", max_results=10_000)
    )


def first_page(side: Side) -> Iterator[bytes]:
    """Ask for the first page of all models."""
    return itertools.repeat(side.get("registered-models/search", max_results=side.page_size))


def deep_page(side: Side) -> Iterator[bytes]:
    """Ask for the last but one page, to which one has to walk; once here."""
    query: dict[str, str | int] = {}
    left = (len(side.names) // side.page_size - 2) * side.page_size
    while left > 0:
        query["max_results"] = min(STEP, left)
        answer = json.loads(side.client.ask(side.get("registered-models/search", **query)))
        query["page_token"] = answer["next_page_token"]
        left -= len(answer["registered_models"])
    query["max_results"] = side.page_size
    return itertools.repeat(side.get("registered-models/search", **query))


def name_like(side: Side) -> Iterator[bytes]:
    """Ask for the first models with certain digits in their names."""
    return drawn(
        [
            side.get("registered-models/search", filter=f"name LIKE '%{digits}%'", max_results=PAGE)
            for digits in ("77", "33", "19")
        ]
    )


def create(side: Side) -> Iterator[bytes]:
    """Register models with names that nobody has had."""
    tags = [{"key": key, "value": value} for key, value in contents.MODEL_TAGS.items()]
    path, start = "registered-models/create", f"{contents.MADE}{time.time_ns():x}"
    for number in itertools.count():
        name = f"{start}-{number}"
        yield side.post(path, name=name, description=contents.DESCRIPTION, tags=tags)


def create_version(side: Side) -> Iterator[bytes]:
    """Add versions to models drawn by chance."""
    tags = [{"key": key, "value": value} for key, value in contents.VERSION_TAGS.items()]
    return side.for_each(
        lambda name: side.post(
            "model-versions/create",
            name=name,
            source=contents.SOURCE.format(name=name, number="new"),
            description=contents.VERSION_DESCRIPTION,
            tags=tags,
        )
    )


@dataclass(frozen=True)
class Operation:
    """Something to ask, and how many times as fast as stock MLflow it shall be answered."""

    words: str
    requests: Callable[[Side], Iterator[bytes]]
    target: str = ""


READING = {
    "get": Operation("get a model", get, "≥ 8, aim 12"),
    "alias": Operation("get a version by alias", get_by_alias, "≥ 8, aim 12"),
    "version": Operation("get a version", get_version, "≥ 8, aim 12"),
    "versions": Operation("search a model's versions", versions_of_model),
    "search": Operation("search models: first page", first_page, "≥ 10, aim 15"),
    "deep": Operation("search models: last page but one", deep_page, "≥ 25"),
    "like": Operation("search models: `name LIKE`", name_like),
}
#: Measured after the others, which would find what these have written.
WRITING = {
    "create": Operation("register a model", create, "≥ 5"),
    "create-version": Operation("add a version", create_version, "≥ 5"),
}
OPERATIONS = READING | WRITING


def main() -> None:
    """Prepare the servers, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.mlflow", description=__doc__)
    parser.add_argument("--models", type=int, default=10_000, help="models of our team (10,000)")
    parser.add_argument("--rounds", type=int, default=4, help="rounds, in turns (4)")
    parser.add_argument("--seconds", type=float, default=5, help="of each in a round (5)")
    parser.add_argument("--only", choices=OPERATIONS, action="append", help="of the operations")
    options = parser.parse_args()
    if options.models < TEAMS:
        parser.error(f"Fewer than {TEAMS} models make no pages.")
    stop_on_signals()
    chosen = options.only or list(OPERATIONS)
    site = make_site(Size(f"registry_{options.models}", TEAMS, options.models // TEAMS))
    stock, tenants = Stock("stock", options.models), Stock("tenants", options.models, TEAMS)
    with ExitStack() as stack:
        sides = [
            _bulkhead(site, options.models, stack),
            Side(STOCK, *stack.enter_context(stock.served()), contents.names(options.models)),
            Side(TENANTS, *stack.enter_context(tenants.served()), contents.names(options.models)),
        ]
        time.sleep(SETTLE_SECONDS)
        idle = {side.name: side.server.memory() for side in sides}
        loads = measure(sides, chosen, options.rounds, options.seconds)
        after = {side.name: side.server.memory() for side in sides}
    say(
        f"{options.models:,} models with {contents.VERSIONS} versions each; MLflow"
        f" {version('mlflow')}. Measured on {machine(site)}, uvicorn {version('uvicorn')};"
        f" {WORKERS} workers each, {CONNECTIONS} connections."
    )
    say()
    report(loads, chosen)
    say()
    report_memory(idle, after)
    say()
    say(own_share([load for per_side in loads.values() for load in per_side.values()]))


def _bulkhead(site: Site, models: int, stack: ExitStack) -> Side:
    filled = json.loads(site.python("tests.benchmarks.inside", "fill_team", str(models)))
    server = stack.enter_context(site.served())
    client = Client(site.port, {"Authorization": f"Bearer {filled['token']}"})
    return Side(BULKHEAD, server, client, contents.names(models))


def measure(
    sides: Sequence[Side], chosen: Sequence[str], rounds: int, seconds: float
) -> dict[str, dict[str, Load]]:
    """Ask all sides in turns for what is chosen; return how each did, by operation and side."""
    loads = {name: {side.name: Load() for side in sides} for name in chosen}
    for side in sides:
        Load().ask(side.client.port, get(side), WARM_SECONDS)
    for operations in (READING, WRITING):
        asked = {
            name: {side.name: operation.requests(side) for side in sides}
            for name, operation in operations.items()
            if name in chosen
        }
        if operations is READING:
            for name, requests in asked.items():
                _compare(name, sides, [next(requests[side.name]) for side in sides])
        for turn in range(rounds):
            for name, requests in asked.items():
                for side in sides if turn % 2 else reversed(sides):
                    loads[name][side.name].ask(side.client.port, requests[side.name], seconds)
                    sys.stderr.write(
                        f"round {turn + 1} of {rounds}: {name}, {side.name}:"
                        f" {loads[name][side.name].rate:.1f}/s so far\n"
                    )
    return loads


def _compare(name: str, sides: Sequence[Side], requests: Sequence[bytes]) -> None:
    """Fail unless all sides find the same models and versions."""
    found = []
    for side, request in zip(sides, requests, strict=True):
        body = side.client.ask(request)
        found.append(sorted(NAMED.findall(body)))
        if not found[-1]:
            raise RuntimeError(f"{name}: {side.name} finds nothing.")
    if any(other != found[0] for other in found[1:]):
        raise RuntimeError(f"{name}: the servers find different models; they cannot be compared.")


def report(loads: dict[str, dict[str, Load]], chosen: Sequence[str]) -> None:
    """Print how fast the servers answer, and how many times as fast Bulkhead is."""
    say(
        "| Requests/s (p50, p99) | Bulkhead | Stock | Stock, multi-tenant"
        " | Bulkhead / stock | Bulkhead / multi-tenant | Answer: Bulkhead, stock |"
    )
    say("|:--|--:|--:|--:|--:|--:|--:|")
    for name in chosen:
        ours, stock, tenants = (loads[name][side] for side in (BULKHEAD, STOCK, TENANTS))
        target = OPERATIONS[name].target
        say(
            f"| {OPERATIONS[name].words} | {_speed(ours)} | {_speed(stock)} | {_speed(tenants)}"
            f" | {ours.rate / stock.rate:.1f}{f' ({target})' if target else ''}"
            f" | {ours.rate / tenants.rate:.0f} (≥ {LEAST_FOR_TENANTS})"
            f" | {ours.size / 1024:.1f} KB, {stock.size / 1024:.1f} KB |"
        )


def _speed(load: Load) -> str:
    rate = f"{load.rate:,.0f}" if load.rate >= 10 else f"{load.rate:.2f}"
    digits = 1 if load.p50 < 100 else 0
    return f"{rate} ({load.p50:,.{digits}f} ms, {load.p99:,.{digits}f} ms)"


def report_memory(idle: dict[str, float], after: dict[str, float]) -> None:
    """Print how much memory the servers have."""
    say("| Memory of all processes, without PostgreSQL | Idle | After the load | Target |")
    say("|:--|--:|--:|--:|")
    for name in idle:
        target = f"≤ {MOST_MEMORY} MB" if name == BULKHEAD else ""
        say(f"| {name} | {idle[name]:.0f} MB | {after[name]:.0f} MB | {target} |")


if __name__ == "__main__":
    main()
