"""What is kept of a run: a frozen value, one JSON line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from .counters import Requests, Traffic
from .machine import Context
from .processes import Footprint
from .stages import Stage
from .workloads import Workload

FORMAT = 2
"""Version of the lines. A reader refuses any other."""


class Status(StrEnum):
    """The end of a run."""

    DONE = "done"
    STOPPED = "stopped"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Run:
    """One timed run of a case, or several of a workload that is too small to be timed once.

    Attributes:
        comparison: Name of the comparison.
        contender: Name of the contender.
        workload: What was done.
        repetition: Counted from 1; each has sessions of its own.
        status: How it ended.
        reason: Why it did not end well.
        walls_s: Seconds from the call to the answer, by the caller's clock.
        warm_up_s: Seconds of the first tiny workload, in processes that had just started; None where it was not kept.
        right: Whether each answer was the expected one.
        cpu_s: CPU seconds of a run by role: `caller`, `workers`, `broker`, `results`, `store`.
        memory: By role: `caller`, `setup`, `process-1`, `process-2`, `join`, `broker`, `results`.
        traffic: What RabbitMQ counted; None if it was not asked.
        requests: What the S3 gateway counted of a run; None if it was not asked.
        noted: Further figures that the contender measured itself, by name: see `contenders.Measured`.
        recorded: Whether the stages were recorded, which takes time itself.
        stages: Where the time of a run went.
        context: What it was measured on.
    """

    comparison: str
    contender: str
    workload: Workload
    repetition: int
    status: Status
    reason: str = ""
    walls_s: tuple[float, ...] = ()
    warm_up_s: float | None = None
    right: bool | None = None
    cpu_s: dict[str, float] = field(default_factory=dict)
    memory: dict[str, Footprint] = field(default_factory=dict)
    traffic: Traffic | None = None
    requests: Requests | None = None
    noted: dict[str, float] = field(default_factory=dict)
    recorded: bool = False
    stages: dict[str, Stage] = field(default_factory=dict)
    context: Context | None = None

    def to_line(self) -> str:
        """Return the run as a JSON line, without line end."""
        body = asdict(self)
        if not self.workload.threads:
            # As in lines that are older than this number.
            del body["workload"]["threads"]
        if not self.noted:
            del body["noted"]
        return json.dumps({"format": FORMAT, **body})

    @classmethod
    def from_line(cls, line: str) -> Run:
        """Return the run of a line.

        Raises:
            ValueError: It is of another format.
        """
        body: dict[str, Any] = json.loads(line)
        if body.pop("format", None) != FORMAT:
            raise ValueError(f"not a line of benchmark format {FORMAT}: written by another version of fanout")
        parsed = {
            "workload": Workload(**body["workload"]),
            "status": Status(body["status"]),
            "walls_s": tuple(body["walls_s"]),
            "memory": {
                role: Footprint(**{**row, "series": tuple(map(tuple, row["series"]))})
                for role, row in body["memory"].items()
            },
            "traffic": Traffic(**body["traffic"]) if body["traffic"] else None,
            "requests": Requests(**body["requests"]) if body["requests"] else None,
            "stages": {name: Stage(**row) for name, row in body["stages"].items()},
            "context": Context(**body["context"]) if body["context"] else None,
        }
        return cls(**{**body, **parsed})

    def keep_series(self, roles: Iterable[str]) -> Run:
        """Return the run with at most 300 samples of the memory of these roles, and none of the others."""
        kept = set(roles)
        memory = {role: found.thin(300 if role in kept else 0) for role, found in self.memory.items()}
        return replace(self, memory=memory)


def read_runs(path: Path) -> list[Run]:
    """Read the runs in a file of JSON lines.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is of another format.
    """
    return [Run.from_line(line) for line in path.read_text().splitlines() if line.strip()]


def keep_other_runs(path: Path, cases: Iterable[tuple[str, Workload]]) -> list[Run]:
    """Return the runs in a file of earlier results that are none of these cases, so that they can be written again.

    Args:
        path: The file; there may be none.
        cases: Contenders and workloads that will run.

    Raises:
        ValueError: A line is of another format.
    """
    replaced = set(cases)
    return [run for run in read_runs(path) if (run.contender, run.workload) not in replaced] if path.exists() else []
