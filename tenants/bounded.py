"""A dict that cannot grow without end, for what a process remembers of its callers."""

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


class BoundedDict(Generic[KeyT, ValueT]):
    """At most ``max_entries`` values by key; forgets the oldest key first. Safe for threads."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._values: dict[KeyT, ValueT] = {}
        self._lock = threading.Lock()

    def __contains__(self, key: KeyT) -> bool:
        return key in self._values

    def get(self, key: KeyT) -> ValueT | None:
        """Return the key's value, None where there is none."""
        return self._values.get(key)

    def put(self, key: KeyT, value: ValueT) -> None:
        """Remember a value, and forget the oldest one if there are too many."""
        with self._lock:
            self._values[key] = value
            if len(self._values) > self._max_entries:
                del self._values[next(iter(self._values))]

    def discard(self, key: KeyT) -> None:
        """Forget a key, if it is there."""
        with self._lock:
            self._values.pop(key, None)
