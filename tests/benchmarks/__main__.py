"""Measures the figures of docs/performance.md and prints them as Markdown."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from tests.benchmarks.load import CONNECTIONS, Client, Load, drawn, in_turns
from tests.benchmarks.report import machine, own_share, say, stop_on_signals
from tests.benchmarks.servers import WORKERS
from tests.benchmarks.sites import Site, Size, make_site

PAGES = {"models": "models page", "model": "one model's page"}
MOST_QUERIES = {"models": 8, "model": 13}
MOST_FOR_SIZE = 1.2
MOST_FOR_WALLS = 1.25


def main() -> None:
    """Prepare both sites, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--tenants", type=int, default=1000, help="teams of the large site (1000)")
    parser.add_argument("--models", type=int, default=1000, help="models of each of them (1000)")
    parser.add_argument("--turns", type=int, default=200, help="looks at each page alone (200)")
    parser.add_argument("--rounds", type=int, default=4, help="rounds of full load (4)")
    parser.add_argument("--seconds", type=float, default=5, help="of each page in a round (5)")
    options = parser.parse_args()
    stop_on_signals()
    small = make_site(Size("small", 10, 100))
    large = make_site(Size("large", options.tenants, options.models))
    with small.served(), large.served():
        visits = [Visits.of(site) for site in (small, large)]
        queries = json.loads(small.python("tests.benchmarks.inside", "queries"))
        walls = json.loads(large.python("tests.benchmarks.inside", "walls"))
        sizes = {
            page: in_turns(
                [(visit.client, visit.requests(page)) for visit in visits], options.turns
            )
            for page in PAGES
        }
        loads = measure(visits, options.rounds, options.seconds)
    say(f"Measured on {machine(large)}; {WORKERS} workers, {CONNECTIONS} connections.")
    say()
    report_pages(loads, (small.size, large.size), queries)
    say()
    report_ratios(sizes, walls)
    say()
    say(own_share(loads.values()))


@dataclass(frozen=True)
class Visits:
    """Somebody who is signed in at a site, and the pages there."""

    size: Size
    client: Client
    paths: dict[str, list[str]]

    @classmethod
    def of(cls, site: Site) -> Self:
        """Sign in at the site."""
        signed_in = json.loads(site.python("tests.benchmarks.inside", "sign_in"))
        headers = {"Cookie": signed_in.pop("cookie"), "Accept": "text/html"}
        return cls(site.size, Client(site.port, headers), signed_in)

    def requests(self, page: str) -> Iterator[bytes]:
        """Yield requests for such pages for ever."""
        return drawn([self.client.request("GET", path) for path in self.paths[page]])


def measure(visits: Sequence[Visits], rounds: int, seconds: float) -> dict[tuple[str, str], Load]:
    """Ask for both pages of both sites, as much as each of them can answer, in turns."""
    loads = {(visit.size.name, page): Load() for visit in visits for page in PAGES}
    for turn in range(rounds):
        for page in PAGES:
            for visit in visits if turn % 2 else reversed(visits):
                load = loads[visit.size.name, page]
                load.ask(visit.client.port, visit.requests(page), seconds)
        sys.stderr.write(f"round {turn + 1} of {rounds}\n")
    return loads


def report_pages(
    loads: dict[tuple[str, str], Load], sizes: Iterable[Size], queries: dict[str, list[int]]
) -> None:
    """Print how fast the pages are."""
    say("| Page | Database | Requests/s | p50 | p99 | Size | Queries for 2 and 20 rows |")
    say("|:--|:--|--:|--:|--:|--:|--:|")
    for page, words in PAGES.items():
        few, many = queries[page]
        for size in sizes:
            load = loads[size.name, page]
            say(
                f"| {words} | {size.words} | {load.rate:.0f}"
                f" | {load.p50:.0f} ms | {load.p99:.0f} ms | {load.size / 1024:.0f} KB"
                f" | {few} and {many} (at most {MOST_QUERIES[page]}) |"
            )


def report_ratios(sizes: dict[str, list[float]], walls: dict[str, dict[str, float]]) -> None:
    """Print what many rows cost, and what the walls cost."""
    say("| | Measured | Target |")
    say("|:--|--:|--:|")
    for page, words in PAGES.items():
        few, many = sizes[page]
        target = f"≤ {MOST_FOR_SIZE}" if page == "models" else ""
        say(
            f"| {words}, one visitor alone: p50 with many rows / with few"
            f" | {many:.1f} ms / {few:.1f} ms = {many / few:.2f} | {target} |"
        )
    for page, words in PAGES.items():
        walled, bare = walls[page]["walls"], walls[page]["bare"]
        say(
            f"| {words}: its queries with the walls / without"
            f" | {walled:.2f} ms / {bare:.2f} ms = {walled / bare:.2f} | ≤ {MOST_FOR_WALLS} |"
        )


if __name__ == "__main__":
    main()
