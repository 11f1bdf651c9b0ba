"""The store's clock. All ages and deadlines are by it, because the clocks of machines may differ."""

from __future__ import annotations

import threading
import time

from storage import ObjectStore

MEASURED_S = 600.0
"""Seconds between two measurements of the store's time. In between a process counts by its own clock."""

AGREE_S = 2.0
"""Largest difference between clocks that agree. Many stores give their time in whole seconds."""


class StoreClock:
    """The clock of one store, as this process measured it. Safe for threads."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._measured: tuple[float, float] | None = None
        """Monotonic time of the last measurement, and the store's time then."""

    def now(self) -> float:
        """Return the store's time, in seconds since the epoch. Two requests at first and every ten minutes.

        Raises:
            StorageError: The store does not answer.
        """
        with self._lock:
            measured = self._measured
        if measured is None or time.monotonic() - measured[0] > MEASURED_S:
            remote, local = self._store.now(), time.time()
            measured = time.monotonic(), local if abs(remote - local) < AGREE_S else remote
            with self._lock:
                self._measured = measured
        return measured[1] + time.monotonic() - measured[0]
