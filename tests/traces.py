"""Traces that tasks leave for tests, and functions that wait for them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from fanout import Job

WAIT_S = 60.0


def record_run(directory: str, name: str) -> None:
    """Leave a trace of a run: an empty file, named by step, process id and time."""
    Path(directory, f"{name}.{os.getpid()}.{time.monotonic_ns()}").touch()


def find_runs(directory: Path, step: str) -> list[Path]:
    """Return the traces of a step's runs. The step may be a glob pattern."""
    return sorted(directory.glob(f"{step}.*"))


def wait_for_pid(directory: Path, step: str, *, timeout_s: float = WAIT_S) -> int:
    """Wait until a step runs, and return the id of the process that runs it."""
    wait_until(lambda: bool(find_runs(directory, step)), f"{step} runs", timeout_s=timeout_s)
    return int(find_runs(directory, step)[0].name.split(".")[1])


def record_line(path: str, line: str) -> None:
    """Append a line to a file."""
    with open(path, "a") as file:
        file.write(line + "\n")


def read_lines(path: Path) -> list[str]:
    """Return the complete lines of a file that tasks append to; none if the file does not exist."""
    text = path.read_text() if path.exists() else ""
    return [line.rstrip("\n") for line in text.splitlines(keepends=True) if line.endswith("\n")]


def wait_until(condition: Callable[[], bool], description: str, *, timeout_s: float = WAIT_S) -> None:
    """Return once the condition holds.

    Raises:
        TimeoutError: The condition did not hold in time. The message contains the description.
    """
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout_s:g} s in vain until {description}")
        time.sleep(0.02)


def wait_until_delivered(job: Job, *, timeout_s: float = WAIT_S) -> None:
    """Return once the job's outcome is delivered to callbacks and result backend."""
    wait_until(
        lambda: any(info.key.endswith("/delivered") for info in job.ledger.objects()),
        "the outcome was delivered",
        timeout_s=timeout_s,
    )
