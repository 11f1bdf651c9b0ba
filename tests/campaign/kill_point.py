"""Kill points: a worker dies before or after one of the calls by which a job advances.

A kill point belongs to one job. It is a file with the job's id as its name. It kills once: the process that renames
the file dies.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from fanout.records.keys import JOBS_PREFIX, ResultKey, launch_of


class Victim(StrEnum):
    """The process that dies."""

    CHILD = "child"
    WORKER = "whole worker"


WRITES = (
    "intent",
    "setup sent",
    "continuation",
    "pack",
    "chunk ref sent",
    "index",
    "manifest",
    "share marked",
    "result",
    "join sent",
    "claim",
    "value",
    "outcome",
    "delivered",
)
"""Calls that change something, in the order of a job. The worker may die before or after each."""

READS = ("slice read", "group listed", "results listed", "results read")
"""Calls that change nothing. A death before one equals a death after the call before it."""

SINK_POINTS = {
    "start_upload": "upload started",
    "upload_part": "part uploaded",
    "complete_upload": "object published",
    "_manifest.json": "sink manifest",
    "_SUCCESS": "sink success",
}
"""Verb of a call for an object of a sink, or the name of the object that it puts -> the call."""

BOUNDARIES = [(point, when) for point in WRITES for when in ("before", "after")] + [(point, "after") for point in READS]


@dataclass(frozen=True, slots=True)
class KillPoint:
    """A call of a job at which a process dies.

    Attributes:
        point: One of `WRITES`, `READS`, or `SINK_POINTS`.
        when: `before` or `after` the call.
        victim: The process that dies.
        index: Only for this pack, chunk, batch with this chunk, group, or item. None for the first that reaches the
            point.
    """

    point: str
    when: str
    victim: Victim
    index: int | None = None

    def arm(self, directory: Path, job_id: str) -> None:
        """Write the kill point of a job that is not launched yet."""
        written = directory / f".{job_id}"
        written.write_text(json.dumps(asdict(self)))
        written.rename(directory / job_id)


def was_reached(directory: Path, job_id: str) -> bool:
    """Return whether the job's kill point has killed a process."""
    return (directory / f"{job_id}.reached").exists()


def die_if_armed(directory: Path, job_id: str, point: str, when: str, *indices: int) -> None:
    """Kill this process, or its whole worker, if the job's kill point is here."""
    path = directory / job_id
    try:
        kill_point = KillPoint(**json.loads(path.read_text()))
    except FileNotFoundError:
        return
    if (kill_point.point, kill_point.when) != (point, when):
        return
    if kill_point.index is not None and kill_point.index not in indices:
        return
    try:
        path.rename(directory / f"{job_id}.reached")
    except FileNotFoundError:
        return
    if kill_point.victim == Victim.WORKER:
        # Each worker is started in its own process group, which its pool children share.
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def find_point(verb: str, key: str) -> tuple[str, str, tuple[int, ...]] | None:
    """Return the job, the point and the index of a storage call, or None if the call is not a point."""
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
        if kind == "results":
            result = ResultKey.read(key)
            chunks = range(result.index, result.index + result.count)
            return job_id, "result" if result.shared is None else "share marked", tuple(chunks)
    if verb == "get" and kind in ("input", "results") and "index" not in rest:
        return job_id, {"input": "slice read", "results": "results read"}[kind], (_parse_number(rest[-1]),)
    if verb == "list" and kind == "results" and len(rest) == 3:
        return job_id, "group listed", (int(rest[1]),)
    if verb == "list" and kind == "results" and len(rest) == 2:
        return job_id, "results listed", ()
    return None


def find_sink_point(verb: str, key: str) -> tuple[str, str, tuple[int, ...]] | None:
    """Return the job, the point and the item of a call for an object of a sink, or None if the call is not a point.

    Args:
        verb: The call.
        key: The object's key in the bucket: folder, job, name.
    """
    _, job_id, name = key.split("/", 2)
    point = SINK_POINTS.get(name if verb == "put" else verb)
    if point is None:
        return None
    return job_id, point, () if verb == "put" else (_parse_number(name.removeprefix("part-")),)


def _parse_number(name: str) -> int:
    """Return the number at the start of a key's last part. The rest of the name is internal to the library."""
    return int(name[: len(name) - len(name.lstrip("0123456789"))])
