"""Traces of the steps that ran, with process and time: one file per job, one line per run."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a step of the task.

    Attributes:
        step: `setup`, `process` or `join`.
        number: The item of a process step, else 0.
        pid: Process id.
        at: Start of the run, on this machine's monotonic clock.
    """

    step: str
    number: int
    pid: int
    at: float


def record_run(trace: str, step: str, number: int = 0) -> None:
    """Append a line to the trace, with one write to a file opened for appending, so that lines are never mixed."""
    file = os.open(trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{step} {number} {os.getpid()} {time.monotonic():.6f}\n".encode())
    finally:
        os.close(file)


def read_runs(trace: Path) -> list[Run]:
    """Return the runs so far, in the order of their starts."""
    if not trace.exists():
        return []
    runs = []
    for line in trace.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            step, number, pid, at = line.split()
            runs.append(Run(step, int(number), int(pid), float(at)))
    return runs
