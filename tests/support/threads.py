"""Calls made at the same time, each through a database connection of its own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from threading import Barrier
from typing import Any

from django.db import connection

from tests.support.sql import rows
from tests.support.waiting import wait_until


def at_once(
    *calls: Callable[[], Any], within: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> list[Any]:
    """Run the calls in threads of their own and return results or exceptions.

    They begin together, each inside a ``within()`` of its own, such as a scope.
    """
    start = Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        try:
            with within():
                start.wait(timeout=120)
                return call()
        except Exception as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def wait_until_somebody_waits() -> None:
    """Wait until another connection waits for a lock that this thread's connection holds."""
    waiting = "NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    wait_until(lambda: rows(f"SELECT FROM pg_locks WHERE {waiting}"))
