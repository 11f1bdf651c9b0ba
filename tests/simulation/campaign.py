"""Many schedules, in several processes, and a summary of their results."""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from .shape import Shape
from .world import Played, play

BATCH = 100
SEEDS_SHOWN = 5


@dataclass(slots=True)
class Summary:
    """The results of some schedules.

    Attributes:
        schedules: Number of schedules.
        faults: Number of occurrences of each fault.
        outcomes: Number of jobs by status.
        virtual_s: Sum of the schedules' virtual times.
        violations: Seeds of the schedules that violated each invariant.
        examples: The first violation of each invariant, as text.
    """

    schedules: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    virtual_s: float = 0.0
    violations: dict[str, list[int]] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, played: Played) -> None:
        self.schedules += 1
        self.faults.update(played.faults)
        self.outcomes.update(played.outcomes)
        self.virtual_s += played.lasted_s
        if played.violation is not None:
            invariant = played.violation.invariant
            self.violations.setdefault(invariant, []).append(played.shape.seed)
            self.examples.setdefault(invariant, str(played.violation))

    def merge(self, other: Summary) -> None:
        self.schedules += other.schedules
        self.faults.update(other.faults)
        self.outcomes.update(other.outcomes)
        self.virtual_s += other.virtual_s
        for invariant, seeds in other.violations.items():
            self.violations.setdefault(invariant, []).extend(seeds)
            self.examples.setdefault(invariant, other.examples[invariant])

    def lines(self) -> Iterator[str]:
        """Yield the lines of the summary."""
        jobs, hours = sum(self.outcomes.values()), self.virtual_s / 3600
        yield f"{self.schedules:,} schedules, {jobs:,} jobs, {hours:,.0f} h of their time"
        yield "jobs " + ", ".join(f"{status}: {count:,}" for status, count in sorted(self.outcomes.items()))
        for fault, count in self.faults.most_common():
            yield f"  {count:>9,}  {fault}"
        yield f"{sum(map(len, self.violations.values()))} violations"
        for invariant, seeds in self.violations.items():
            yield f"  {len(seeds)} × {invariant}, e.g. {self.examples[invariant]:.300}"
            for seed in sorted(seeds)[:SEEDS_SHOWN]:
                yield f"      python -m tests.simulation --replay {seed}"


def play_many(schedules: int, *, seed: int, jobs: int) -> Iterator[Summary]:
    """Play schedules of consecutive seeds from `seed` on, and yield the summary so far after each batch."""
    batches = [(first, min(BATCH, seed + schedules - first)) for first in range(seed, seed + schedules, BATCH)]
    summary = Summary()
    if jobs == 1:
        for batch in batches:
            summary.merge(_play_batch(batch))
            yield summary
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for batch_summary in pool.imap_unordered(_play_batch, batches):
            summary.merge(batch_summary)
            yield summary


def _play_batch(batch: tuple[int, int]) -> Summary:
    # The library logs each injected fault, which would fill the log.
    logging.disable(logging.CRITICAL)
    first, count = batch
    summary = Summary()
    for seed in range(first, first + count):
        summary.add(play(Shape.draw(seed)))
    return summary


def minimise(shape: Shape, *, for_s: float = 60.0) -> Shape:
    """Return the schedule without the faults that can be dropped, one after the other, while the violation stays."""
    invariant = _invariant(shape)
    until = time.monotonic() + for_s
    number = 0
    while number < play(shape).faults_drawn and time.monotonic() < until:
        smaller = replace(shape, skipped=(*shape.skipped, number))
        if number not in shape.skipped and _invariant(smaller) == invariant:
            shape = smaller
        number += 1
    return shape


def _invariant(shape: Shape) -> str | None:
    violation = play(shape).violation
    return None if violation is None else violation.invariant
