"""Waiting for what another thread or process does, and never for the clock alone."""

import time
from collections.abc import Callable

#: Only what never happens takes as long: the machines that run the tests are shared.
PATIENCE_SECONDS = 120


def wait_until(is_so: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until something is so; fails when it takes too long."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)
