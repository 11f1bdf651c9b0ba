"""The time that a store takes for small and for large objects."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from .object_store import ObjectStore
from .probe import PREFIX

_SMALL_BYTES = 1024
_LARGE_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Speed:
    """The measured times of a store.

    Attributes:
        write_s: Median time to write an object of 1 KiB.
        read_s: Median time to read it.
        written_bytes_s: Bytes per second at which one large object was written.
        read_bytes_s: Bytes per second at which it was read.
    """

    write_s: float
    read_s: float
    written_bytes_s: float
    read_bytes_s: float


def measure_speed(store: ObjectStore, *, repetitions: int = 10) -> Speed:
    """Measure a store: small objects one after the other, and one object of 4 MiB.

    `2 × repetitions + 4` requests, below `_probe/`; nothing stays.

    Args:
        store: The store.
        repetitions: How often a small object is written, and read.
    """
    key = f"{PREFIX}{secrets.token_hex(8)}/speed"
    # Random bytes, which no server and no proxy compresses.
    small, large = secrets.token_bytes(_SMALL_BYTES), secrets.token_bytes(_LARGE_BYTES)
    try:
        # The first request makes the client.
        store.put(key, small)
        write_s = statistics.median(_time(lambda: store.put(key, small)) for _ in range(repetitions))
        read_s = statistics.median(_time(lambda: store.get(key)) for _ in range(repetitions))
        written_s = _time(lambda: store.put(key, large))
        fetched_s = _time(lambda: store.get(key))
    finally:
        store.delete([key])
    return Speed(write_s, read_s, _LARGE_BYTES / written_s, _LARGE_BYTES / fetched_s)


def _time(act: Callable[[], object]) -> float:
    began_at = time.perf_counter()
    act()
    return max(time.perf_counter() - began_at, 1e-9)
