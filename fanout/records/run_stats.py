"""What a step cost: when, where and how much memory."""

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
    """What a step cost: when, where and how much memory.

    Attributes:
        started_at: When it began.
        ended_at: When its last byte was on the way.
        peak_bytes: The process's largest resident size so far.
        worker: `host:pid`.
    """

    started_at: float
    ended_at: float
    peak_bytes: int
    worker: str

    @classmethod
    def since(cls, started_at: float) -> RunStats:
        unit = 1 if sys.platform == "darwin" else 1024
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return cls(started_at, time.time(), peak_bytes, f"{socket.gethostname()}:{os.getpid()}")

    def to_row(self) -> list[Any]:
        return [self.started_at, self.ended_at, self.peak_bytes, self.worker]
