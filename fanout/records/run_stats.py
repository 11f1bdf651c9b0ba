"""The cost of one run of a step, and the requests of its process for its job so far."""

from __future__ import annotations

import os
import resource
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def microseconds_since(began: float) -> int:
    """Return the microseconds from a moment on, by `time.monotonic()`, as records hold them."""
    return int(1e6 * (time.monotonic() - began))


@dataclass(frozen=True, slots=True)
class StoreUsage:
    """The requests to the store that one process has made for one job, from a moment on.

    Attributes:
        since: When the process began to count, in seconds since the epoch. Two counts of one process for one job are
            of the same meter if they agree in this.
        put: Requests that write an object.
        get: Requests that read one.
        head: Requests that look one up.
        list: Requests that list up to 1,000 objects.
        delete: Requests that delete up to 1,000 objects.
        uploaded_bytes: Bytes of the bodies written.
        downloaded_bytes: Bytes of the bodies read.
    """

    since: float
    put: int = 0
    get: int = 0
    head: int = 0
    list: int = 0
    delete: int = 0
    uploaded_bytes: int = 0
    downloaded_bytes: int = 0

    def to_row(self) -> tuple[float, ...]:
        """Return the fields in order, the form in records."""
        return (
            self.since,
            self.put,
            self.get,
            self.head,
            self.list,
            self.delete,
            self.uploaded_bytes,
            self.downloaded_bytes,
        )


@dataclass(frozen=True, slots=True)
class RunStats:
    """When and where a step ran, how much memory it took, and how its time was spent.

    Records of earlier versions hold the first four fields only.

    Attributes:
        started_at: When it began, in seconds since the epoch.
        ended_at: When its process began to send its last byte.
        peak_bytes: The process's largest resident size so far.
        worker: The process, as `host:pid`.
        fetched_us: Microseconds in which it fetched parameters and items.
        stored_us: Microseconds that the process's last write of a result of the job took before this run; None if this
            is the first.
        usage: Row of the `StoreUsage` of its process for the job, up to `ended_at`; empty if it was not counted.
        took_us: Microseconds of each chunk, for a batch; else empty.
    """

    started_at: float
    ended_at: float
    peak_bytes: int
    worker: str
    fetched_us: int = 0
    stored_us: int | None = None
    usage: Sequence[float] = ()
    took_us: Sequence[int] = ()

    @classmethod
    def since(
        cls,
        started_at: float,
        *,
        fetched_us: int = 0,
        stored_us: int | None = None,
        usage: StoreUsage | None = None,
        took_us: Sequence[int] = (),
    ) -> RunStats:
        """Return the cost of a run of this process that ends now; see the class for the arguments."""
        # macOS reports bytes, all others kilobytes.
        unit = 1 if sys.platform == "darwin" else 1024
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        worker = f"{socket.gethostname()}:{os.getpid()}"
        row = usage.to_row() if usage is not None else ()
        return cls(started_at, time.time(), peak_bytes, worker, fetched_us, stored_us, row, took_us)

    @property
    def store_usage(self) -> StoreUsage | None:
        """The requests of its process for the job so far; None if they were not counted."""
        return StoreUsage(self.usage[0], *map(int, self.usage[1:])) if self.usage else None

    def to_row(self) -> list[Any]:
        """Return the fields in order, the form in records."""
        return [
            self.started_at,
            self.ended_at,
            self.peak_bytes,
            self.worker,
            self.fetched_us,
            self.stored_us,
            list(self.usage),
            list(self.took_us),
        ]
