"""Which steps of a job ran, in which process and when: a file for each job, a line for each run."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a step of the user's.

    Attributes:
        step: `setup`, `process` or `join`.
        number: The item, for process; 0 else.
        pid: The process that ran it.
        at: When it began, on this machine's monotonic clock.
    """

    step: str
    number: int
    pid: int
    at: float


def leave(trace: str, step: str, number: int = 0) -> None:
    """Add a line to the trace. One write to a file opened for appending, so that lines stay whole."""
    file = os.open(trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{step} {number} {os.getpid()} {time.monotonic():.6f}\n".encode())
    finally:
        os.close(file)


def read(trace: Path) -> list[Run]:
    """The runs so far, in the order in which they began."""
    if not trace.exists():
        return []
    runs = []
    for line in trace.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            step, number, pid, at = line.split()
            runs.append(Run(step, int(number), int(pid), float(at)))
    return runs
