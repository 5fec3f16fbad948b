"""Waiting for what another thread or process does, and never for the clock alone."""

import time
from collections.abc import Callable

from tests.support.sql import rows

#: Only what never happens takes as long: the machines that run the tests are shared.
PATIENCE_SECONDS = 120


def wait_until(is_so: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until something is so; fails when it takes too long."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def wait_until_somebody_waits() -> None:
    """Wait until another connection waits for a lock that this thread's connection holds."""
    waiting = "NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    wait_until(lambda: rows(f"SELECT FROM pg_locks WHERE {waiting}"))
