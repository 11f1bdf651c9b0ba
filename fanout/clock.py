"""What time the store has: no age and no deadline is told by two clocks that may differ."""

from __future__ import annotations

import threading
import time

from storage import ObjectStore

MEASURED_S = 600.0
"""A process asks the store for its time at most this often, and counts the seconds by itself in between."""

AGREE_S = 2.0
"""Clocks that differ by no more are taken to agree: many stores give their time in whole seconds."""


class StoreClock:
    """The time of a store, in this process. Safe for threads.

    Args:
        store: Whose time it is.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._measured: tuple[float, float] | None = None
        """This process's monotonic clock, and the store's time then."""

    def now(self) -> float:
        """Seconds since the epoch. Two requests the first time and every ten minutes, see `ObjectStore.now`.

        Raises:
            StorageError: The store does not answer.
        """
        with self._lock:
            measured = self._measured
        if measured is None or time.monotonic() - measured[0] > MEASURED_S:
            there, here = self._store.now(), time.time()
            measured = time.monotonic(), here if abs(there - here) < AGREE_S else there
            with self._lock:
                self._measured = measured
        return measured[1] + time.monotonic() - measured[0]
