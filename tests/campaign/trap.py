"""Where a worker is to die: before or after one of the calls by which a job moves on.

A trap is set for one job, as a file with the job's name, and springs once: whoever takes the file away dies.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from fanout.records.keys import JOBS_PREFIX, launch_of


class Victim(StrEnum):
    """Who dies."""

    CHILD = "child"
    WORKER = "whole worker"


WRITES = (
    "intent",
    "setup sent",
    "continuation",
    "pack",
    "handle sent",
    "index",
    "manifest",
    "result",
    "mark",
    "join sent",
    "claim",
    "value",
    "outcome",
    "delivered",
)
"""Calls that change something, in the order of a job: the worker may die before one, or after it."""

READS = ("slice read", "group listed", "marks listed", "results read")
"""Calls that change nothing: to die before one is to die after the call before it."""

BOUNDARIES = [(point, when) for point in WRITES for when in ("before", "after")] + [(point, "after") for point in READS]


@dataclass(frozen=True, slots=True)
class Trap:
    """A place in a job, and who dies there.

    Attributes:
        point: One of `WRITES` or `READS`.
        when: `before` or `after` the call.
        victim: Who dies.
        index: Only for this pack, chunk or group; None for whichever comes first.
    """

    point: str
    when: str
    victim: Victim
    index: int | None = None

    def set(self, directory: Path, job_id: str) -> None:
        """Set it for a job that is not launched yet."""
        written = directory / f".{job_id}"
        written.write_text(json.dumps(asdict(self)))
        written.rename(directory / job_id)


def sprung(directory: Path, job_id: str) -> bool:
    """Whether the trap of that job has killed."""
    return (directory / f"{job_id}.sprung").exists()


def step_on(directory: Path, job_id: str, point: str, when: str, *indices: int) -> None:
    """Die here if that is where the job's trap is set."""
    path = directory / job_id
    try:
        trap = Trap(**json.loads(path.read_text()))
    except FileNotFoundError:
        return
    if (trap.point, trap.when) != (point, when) or (trap.index is not None and trap.index not in indices):
        return
    try:
        path.rename(directory / f"{job_id}.sprung")
    except FileNotFoundError:
        return
    if trap.victim == Victim.WORKER:
        # A worker is started in a process group of its own, which its pool children share.
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def point_of(verb: str, key: str) -> tuple[str, str, tuple[int, ...]] | None:
    """The job, the point and the index that a storage call stands for; None if it stands for none."""
    job_id = key.removeprefix(JOBS_PREFIX).partition("/")[0]
    kind, *rest = launch_of(key)[1].split("/")
    if verb == "put":
        plain = ("intent", "continuation", "manifest", "claims", "value", "outcome", "delivered")
        if kind in plain:
            return job_id, kind.removesuffix("s"), ()
        if kind == "input" and len(rest) == 2:
            return job_id, "pack", (int(rest[1]),)
        if kind == "input":
            return job_id, "index", (int(rest[2]),)
        if kind in ("results", "complete"):
            return job_id, {"results": "result", "complete": "mark"}[kind], (_number(rest[-1]),)
    if verb == "get" and kind in ("input", "results") and "index" not in rest:
        return job_id, {"input": "slice read", "results": "results read"}[kind], (_number(rest[-1]),)
    if verb == "list" and kind == "results" and len(rest) == 3:
        return job_id, "group listed", (int(rest[1]),)
    if verb == "list" and kind == "complete":
        return job_id, "marks listed", ()
    return None


def _number(name: str) -> int:
    """The number that a key's last part begins with; what follows it is the product's own business."""
    return int(name[: len(name) - len(name.lstrip("0123456789"))])
