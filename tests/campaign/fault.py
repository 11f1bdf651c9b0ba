"""What a fault is, and its row in the table."""

from __future__ import annotations

import abc
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from .errand import Errand, Verdict
from .site import Conditions, Site

LANES = 6
"""Trials that run at once, where they do not disturb each other."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of a fault to do.

    Attributes:
        seed: Of the first trial; each next one has the next number.
        trials: How many.
        quick: Whether minutes count; then waits are short, too.
        lanes: Trials that may run at once.
    """

    seed: int
    trials: int
    quick: bool
    lanes: int = LANES

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.trials)


@dataclass(slots=True)
class Row:
    """What a fault came to.

    Attributes:
        name: The fault's name, for `--only`.
        title: What was done.
        gate: What had to hold.
        seed: The first trial's.
        trials: How often it was done.
        wrong: Trials with a wrong answer, or an error that should not be.
        hung: Jobs that did not end, or whose outcome was never delivered.
        doubled: Jobs with two outcomes.
        repeated: Callbacks that were sent again, with the same value.
        extra: Runs of steps beyond one for each chunk, setup and join.
        met: Whether the gate is met.
        seconds: How long it took.
        notes: What else was measured.
        violations: What went wrong, each with its seed.
    """

    name: str
    title: str
    gate: str
    seed: int
    trials: int = 0
    wrong: int = 0
    hung: int = 0
    doubled: int = 0
    repeated: int = 0
    extra: int = 0
    met: bool = True
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def add(self, verdict: Verdict) -> None:
        """Count a trial's verdict; wrong answers, hung jobs and double outcomes miss every gate."""
        self.trials += 1
        self.wrong += bool(verdict.wrong)
        self.hung += verdict.hung
        self.doubled += verdict.doubled
        self.repeated += verdict.repeated
        self.extra += verdict.extra
        if verdict.wrong or verdict.hung or verdict.doubled:
            words = [verdict.wrong, "hung" * verdict.hung, "its outcome changed" * verdict.doubled]
            self.require(False, f"seed {verdict.seed}: {', '.join(word for word in words if word)}")

    def require(self, held: bool, otherwise: str) -> None:
        """The gate is missed unless this held; `otherwise` says what did not."""
        if not held:
            self.met = False
            self.violations.append(otherwise)


class Fault(abc.ABC):
    """One way to hurt jobs.

    Attributes:
        name: For `--only`.
        title: What is done, for the table.
        gate: What must hold, for the table.
        full: Trials of a full run.
        quick: Trials of a quick one; 0 leaves it out.
        conditions: What it asks of the crew; None if it needs none.
    """

    name: str
    title: str
    gate: str
    full: int
    quick: int
    conditions: Conditions | None = Conditions()

    def carry_out(self, site: Site, plan: Plan) -> Row:
        """Do all trials and return the row."""
        row = Row(self.name, self.title, self.gate, plan.seed)
        started = time.monotonic()
        if self.conditions is not None:
            site.under(self.conditions)
        self.run(site, plan, row)
        row.seconds = time.monotonic() - started
        return row

    @abc.abstractmethod
    def run(self, site: Site, plan: Plan, row: Row) -> None:
        """Do all trials, and add what became of them to the row."""

    def random(self, seed: int) -> random.Random:
        """The random numbers of a trial."""
        return random.Random(f"{self.name} {seed}")


def in_lanes(work: Callable[[int], T], seeds: Iterable[int], *, lanes: int = LANES) -> Iterator[T]:
    """What `work` gives for each trial, in order; so many of them at once."""
    with ThreadPoolExecutor(lanes, thread_name_prefix="lane") as pool:
        yield from pool.map(work, seeds)


def settled(errands: Sequence[Errand], row: Row) -> None:
    """Add the verdicts, now that nobody works on these jobs any more."""
    for errand in errands:
        row.add(errand.settle())
