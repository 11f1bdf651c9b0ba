"""The cost of one run of a step."""

from __future__ import annotations

import os
import resource
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RunStats:
    """When and where a step ran, and how much memory it took.

    Attributes:
        started_at: When it began, in seconds since the epoch.
        ended_at: When its process began to send its last byte.
        peak_bytes: The process's largest resident size so far.
        worker: The process, as `host:pid`.
    """

    started_at: float
    ended_at: float
    peak_bytes: int
    worker: str

    @classmethod
    def since(cls, started_at: float) -> RunStats:
        """Return the cost of a run of this process that ends now."""
        # macOS reports bytes, all others kilobytes.
        unit = 1 if sys.platform == "darwin" else 1024
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return cls(started_at, time.time(), peak_bytes, f"{socket.gethostname()}:{os.getpid()}")

    def to_row(self) -> list[Any]:
        """Return the fields in order, the form in records."""
        return [self.started_at, self.ended_at, self.peak_bytes, self.worker]
