"""What the benchmarks' reports have in common."""

import os
import platform
import signal
import sys
from collections.abc import Collection
from importlib.metadata import version

import psycopg

from tests.benchmarks.load import Load
from tests.benchmarks.sites import Site


def stop_on_signals() -> None:
    """Let SIGTERM end the benchmark as Ctrl-C does: with its servers stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def say(text: str = "") -> None:
    """Print a line; what is not part of the report goes to stderr."""
    sys.stdout.write(f"{text}\n")


def own_share(loads: Collection[Load]) -> str:
    """Say how busy the asking side was: it takes from the machine what the servers lack."""
    busy = sum(load.own for load in loads) / sum(load.asked for load in loads)
    return f"The client took {busy:.0%} of one core."


def machine(site: Site) -> str:
    """Name the machine and the programs that matter."""
    with psycopg.connect(site.owner_url) as owner:
        (postgres,) = owner.execute("SHOW server_version").fetchone() or ("",)
    return (
        f"{os.cpu_count()} cores ({processor()}), which also run the client"
        f" and PostgreSQL {postgres}; Python {platform.python_version()},"
        f" granian {version('granian')}"
    )


def processor() -> str:
    """Return the processor's name where the system tells it."""
    try:
        with open("/proc/cpuinfo") as lines:  # noqa: PTH123
            names = [
                line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else platform.machine()
