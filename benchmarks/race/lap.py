"""What is kept of one run of one entry: a frozen value, one JSON line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..machine import Context
from ..spread import Spread
from ..status import Status
from .works import Load

FORMAT = 1
"""Version of the lines. A reader refuses any other."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage of a job took; see `spans`.

    Attributes:
        wall_s: Seconds of the job's wall time that it accounts for; those of all stages add up to the wall time.
        busy_s: Seconds that processes spent in it, added up.
        calls: How often it was entered.
    """

    wall_s: float
    busy_s: float
    calls: int


@dataclass(frozen=True, slots=True)
class Lap:
    """One run of one entry, or several of a load that is too small to be run once.

    Attributes:
        race: Name of the race.
        entry: Name of the entry.
        load: What was done.
        turn: Counted from 1: each turn of an entry has fresh processes.
        status: How it ended.
        reason: Why it did not end well.
        walls_s: Seconds from the call to the answer, by the caller's clock, of each run.
        right: Whether every answer was the expected one.
        cpu_s: CPU seconds of a run by role: `caller`, `workers`, `broker`, `results`, `store`.
        requests: Requests to the store in a run, by kind; empty where they were not counted.
        recorded: Whether it was recorded where the time went, which takes time itself.
        stages: Where the time of a run went, if it was recorded.
        context: What it was measured on.
    """

    race: str
    entry: str
    load: Load
    turn: int
    status: Status
    reason: str = ""
    walls_s: tuple[float, ...] = ()
    right: bool | None = None
    cpu_s: dict[str, float] = field(default_factory=dict)
    requests: dict[str, float] = field(default_factory=dict)
    recorded: bool = False
    stages: dict[str, Stage] = field(default_factory=dict)
    context: Context | None = None

    def to_line(self) -> str:
        """The lap as a JSON line, without line end."""
        return json.dumps({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_line(cls, line: str) -> Lap:
        """The reverse of `to_line`.

        Raises:
            ValueError: It is of another format.
        """
        body: dict[str, Any] = json.loads(line)
        if body.pop("format", None) != FORMAT:
            raise ValueError(f"not a line of race format {FORMAT}: made by another fanout")
        return cls(
            **{
                **body,
                "load": Load(**body["load"]),
                "status": Status(body["status"]),
                "walls_s": tuple(body["walls_s"]),
                "stages": {name: Stage(**stage) for name, stage in body["stages"].items()},
                "context": Context(**body["context"]) if body["context"] else None,
            }
        )


@dataclass(frozen=True, slots=True)
class Completion:
    """All laps of one entry over one load.

    Attributes:
        entry: Name of the entry.
        load: The load.
        laps: At least one, in the order in which they were run.
    """

    entry: str
    load: Load
    laps: tuple[Lap, ...]

    @property
    def done(self) -> tuple[Lap, ...]:
        """Those that came to their end."""
        return tuple(lap for lap in self.laps if lap.status is Status.DONE)

    @property
    def remark(self) -> str:
        """Why there is no result; empty if there is one."""
        return "" if self.done else self.laps[0].reason

    @property
    def right(self) -> bool:
        """Whether every answer was right."""
        return bool(self.done) and all(lap.right for lap in self.done)

    @property
    def wall(self) -> Spread | None:
        """Seconds to the answer, over all runs."""
        return Spread.of(wall_s for lap in self.done for wall_s in lap.walls_s)

    def cpu(self, role: str) -> Spread | None:
        """CPU seconds of a run in one role."""
        return Spread.of(lap.cpu_s[role] for lap in self.done if role in lap.cpu_s)

    @property
    def requests(self) -> Spread | None:
        """Requests to the store in a run."""
        return Spread.of(sum(lap.requests.values()) for lap in self.done if lap.requests)


def standings(laps: Iterable[Lap]) -> list[Completion]:
    """The laps by entry and load, in the order of first appearance."""
    found: dict[tuple[str, Load], list[Lap]] = {}
    for lap in laps:
        found.setdefault((lap.entry, lap.load), []).append(lap)
    return [Completion(entry, load, tuple(them)) for (entry, load), them in found.items()]


def read(path: Path) -> list[Lap]:
    """The laps in a file of JSON lines.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is of another format.
    """
    return [Lap.from_line(line) for line in path.read_text().splitlines() if line.strip()]
