"""The base class of faults, and a fault's row in the table."""

from __future__ import annotations

import abc
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from .site import Conditions, Site
from .trial_job import TrialJob, TrialResult

CONCURRENCY = 6
"""Trials that run at once, for faults whose trials are independent."""

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """Number and seeds of a fault's trials.

    Attributes:
        seed: Seed of the first trial. Each further trial has the next number.
        trials: Number of trials.
        quick: Whether this is a quick campaign. Waits are shorter then.
        concurrency: Trials that may run at once.
    """

    seed: int
    trials: int
    quick: bool
    concurrency: int = CONCURRENCY

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.trials)


@dataclass(slots=True)
class Row:
    """The results of a fault's trials.

    Attributes:
        name: The fault's name, for `--only`.
        title: Description of the fault.
        gate: Condition that must hold.
        seed: Seed of the first trial.
        trials: Number of trials.
        wrong: Trials with a wrong answer or an unexpected error.
        hung: Jobs without an outcome in time, or whose outcome was never delivered.
        doubled: Jobs with two outcomes.
        repeated: Further callbacks, with the same value.
        extra: Runs of steps beyond one per chunk, setup and join.
        met: Whether the gate is met.
        seconds: Duration of all trials.
        notes: Further measurements.
        violations: Descriptions of failed trials, each with its seed.
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

    def add(self, result: TrialResult) -> None:
        """Count a trial's result. Wrong answers, hung jobs and double outcomes miss every gate."""
        self.trials += 1
        self.wrong += bool(result.wrong)
        self.hung += result.hung
        self.doubled += result.doubled
        self.repeated += result.repeated
        self.extra += result.extra
        if result.wrong or result.hung or result.doubled:
            words = [result.wrong, "hung" * result.hung, "its outcome changed" * result.doubled]
            self.require(False, f"seed {result.seed}: {', '.join(word for word in words if word)}")

    def require(self, held: bool, otherwise: str) -> None:
        """Miss the gate unless the condition held. `otherwise` describes the violation."""
        if not held:
            self.met = False
            self.violations.append(otherwise)


class Fault(abc.ABC):
    """A fault that trials inject into jobs, workers or servers.

    Attributes:
        name: Name for `--only`.
        title: Description for the table.
        gate: Condition that must hold, for the table.
        full: Trials of a full run.
        quick: Trials of a quick run. 0 leaves the fault out.
        conditions: Conditions that workers and caller need. None if the fault needs no workers.
    """

    name: str
    title: str
    gate: str
    full: int
    quick: int
    conditions: Conditions | None = Conditions()

    def run_trials(self, site: Site, plan: Plan) -> Row:
        """Run all trials and return the row."""
        row = Row(self.name, self.title, self.gate, plan.seed)
        started = time.monotonic()
        if self.conditions is not None:
            site.set_conditions(self.conditions)
        self.run(site, plan, row)
        row.seconds = time.monotonic() - started
        return row

    @abc.abstractmethod
    def run(self, site: Site, plan: Plan, row: Row) -> None:
        """Run all trials and add their results to the row."""

    def random(self, seed: int) -> random.Random:
        """Return the random number generator of a trial."""
        return random.Random(f"{self.name} {seed}")


def run_concurrently(work: Callable[[S], T], items: Iterable[S], *, concurrency: int = CONCURRENCY) -> Iterator[T]:
    """Yield the result of `work` for each item, in order, and run `concurrency` of them at once."""
    with ThreadPoolExecutor(concurrency, thread_name_prefix="trial") as pool:
        yield from pool.map(work, items)


def add_results(trial_jobs: Sequence[TrialJob], row: Row) -> None:
    """Check the jobs again, once the workers are idle, and add their results to the row."""
    for trial_job in trial_jobs:
        row.add(trial_job.recheck())
