"""Calls made at the same time, each through a database connection of its own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from threading import Barrier
from typing import Any

from django.db import connection


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
