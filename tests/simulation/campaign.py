"""Many schedules, on several processors, and what came of them."""

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
class Tally:
    """What came of some schedules.

    Attributes:
        schedules: How many were played.
        faults: How often each fault struck.
        endings: How the jobs ended.
        virtual_s: Time that passed in them, all together.
        violations: Law -> seeds of schedules that broke it.
        examples: Law -> what the first of them said.
    """

    schedules: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    virtual_s: float = 0.0
    violations: dict[str, list[int]] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, played: Played) -> None:
        self.schedules += 1
        self.faults.update(played.faults)
        self.endings.update(played.endings)
        self.virtual_s += played.lasted_s
        if played.violation is not None:
            law = played.violation.law
            self.violations.setdefault(law, []).append(played.shape.seed)
            self.examples.setdefault(law, str(played.violation))

    def merge(self, other: Tally) -> None:
        self.schedules += other.schedules
        self.faults.update(other.faults)
        self.endings.update(other.endings)
        self.virtual_s += other.virtual_s
        for law, seeds in other.violations.items():
            self.violations.setdefault(law, []).extend(seeds)
            self.examples.setdefault(law, other.examples[law])

    def lines(self) -> Iterator[str]:
        """The tally for a reader."""
        jobs, hours = sum(self.endings.values()), self.virtual_s / 3600
        yield f"{self.schedules:,} schedules, {jobs:,} jobs, {hours:,.0f} h of their time"
        yield "jobs " + ", ".join(f"{status}: {count:,}" for status, count in sorted(self.endings.items()))
        for fault, count in self.faults.most_common():
            yield f"  {count:>9,}  {fault}"
        yield f"{sum(map(len, self.violations.values()))} violations"
        for law, seeds in self.violations.items():
            yield f"  {len(seeds)} × {law}, e.g. {self.examples[law]:.300}"
            for seed in sorted(seeds)[:SEEDS_SHOWN]:
                yield f"      python -m tests.simulation --replay {seed}"


def play_many(schedules: int, *, seed: int, jobs: int) -> Iterator[Tally]:
    """Play the schedules of `schedules` seeds from `seed` on; yields the tally so far, again and again."""
    batches = [(first, min(BATCH, seed + schedules - first)) for first in range(seed, seed + schedules, BATCH)]
    tally = Tally()
    if jobs == 1:
        for batch in batches:
            tally.merge(_play_batch(batch))
            yield tally
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for part in pool.imap_unordered(_play_batch, batches):
            tally.merge(part)
            yield tally


def _play_batch(batch: tuple[int, int]) -> Tally:
    # A schedule of faults fills the log with what the product rightly has to say about them.
    logging.disable(logging.CRITICAL)
    first, count = batch
    tally = Tally()
    for seed in range(first, first + count):
        tally.add(play(Shape.drawn(seed)))
    return tally


def minimised(shape: Shape, *, for_s: float = 60.0) -> Shape:
    """The same schedule with only those faults that its violation needs, as far as dropping one at a time tells."""
    law = _law(shape)
    until = time.monotonic() + for_s
    number = 0
    while number < play(shape).faults_drawn and time.monotonic() < until:
        smaller = replace(shape, skipped=(*shape.skipped, number))
        if number not in shape.skipped and _law(smaller) == law:
            shape = smaller
        number += 1
    return shape


def _law(shape: Shape) -> str | None:
    violation = play(shape).violation
    return None if violation is None else violation.law
