"""The parameters of one schedule: jobs, processes, and rates of faults."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .faults import FAULTS

STALL_S = 10.0
"""The simulated `stall_s`."""

ITEM_KINDS = ("good", "slow", "flaky", "varying", "broken", "repaired", "poison")
STEP_KINDS = ("good", "slow", "broken", "poison")
COMBINE_FORMS = ("pairs", "lists")


@dataclass(frozen=True, slots=True)
class Shape:
    """The parameters of a schedule. Equal shapes give equal schedules.

    Attributes:
        seed: The seed of all random choices.
        items: Kinds of a job's items: `good` returns its value, `slow` takes longer than `stall_s`, `flaky` raises
            once, `varying` returns another value in each run, `broken` always raises, `repaired` raises until the job
            is retried, `poison` kills its worker.
        chunk_items: Items per chunk.
        batch_chunks: Most chunks per batch.
        share_s: Time after which a batch is shared out.
        group_width: Chunks per group, and the fan-in of the tree. It is small, so that few chunks make several levels.
        setup: Kind of setup: `good`, `slow`, `broken`, `poison`, or `varying`, which yields other items in each run.
        join: Kind of join.
        combines: Form of the task's combine, `pairs` or `lists`. None for a task without combine.
        combine: Kind of combine.
        jobs: Number of equal jobs that run at once.
        workers: Number of workers.
        sweepers: Number of processes that sweep.
        callers: Number of processes that wait in `Job.get`.
        launched: Whether the jobs are launched as Celery signatures, so that setup's message names the callbacks.
        max_attempts: Attempts per chunk.
        tolerate: Number of items that may fail. None for a job that fails with the first failed item.
        retry_s: Interval in seconds at which a process retries the job if it has failed, until the faults end. None
            for no such process.
        latency_s: Longest time of a storage call.
        message_s: Usual longest time of a message.
        faults_s: Time after which no fault occurs.
        rates: Probability of each fault at each of its points.
        deadline_s: The job's deadline, if any.
        expires_s: Time at which setup's message expires, if any.
        cancel_s: Time at which a caller cancels the job, if any.
        skew_s: Largest difference between a process's clock and the store's, in either direction.
        skipped: Numbers of faults that are drawn and not injected.
    """

    seed: int = 0
    items: tuple[str, ...] = ("good", "good", "good")
    chunk_items: int = 1
    batch_chunks: int = 1
    share_s: float = 0.1
    group_width: int = 2
    setup: str = "good"
    join: str = "good"
    combines: str | None = None
    combine: str = "good"
    jobs: int = 1
    workers: int = 2
    sweepers: int = 1
    callers: int = 0
    launched: bool = True
    max_attempts: int = 3
    tolerate: int | None = None
    retry_s: float | None = None
    latency_s: float = 0.05
    message_s: float = 0.5
    faults_s: float = 60.0
    rates: Mapping[str, float] = field(default_factory=dict)
    deadline_s: float | None = None
    expires_s: float | None = None
    cancel_s: float | None = None
    skew_s: float = 0.0
    skipped: tuple[int, ...] = ()

    @property
    def chunks(self) -> int:
        return -(-len(self.items) // self.chunk_items)

    @property
    def must_combine(self) -> bool:
        """Whether the job cannot succeed without a call of combine, if none of its items may fail."""
        several_a_chunk = min(self.chunk_items, len(self.items)) > 1
        return self.combines is not None and (several_a_chunk or self.chunks > self.group_width)

    @property
    def is_calm(self) -> bool:
        """Whether no fault occurs, apart from messages out of order. Such a job needs no sweep."""
        return not self.rates and "slow" not in (*self.items, *self._steps) and not self._has_poison

    @property
    def _has_poison(self) -> bool:
        return "poison" in (*self.items, *self._steps)

    @property
    def _steps(self) -> tuple[str, ...]:
        return (self.setup, self.combine, self.join)

    @classmethod
    def draw(cls, seed: int) -> Shape:
        """Return the shape of a seed."""
        rng = random.Random(f"shape {seed}")
        has_faults = rng.random() > 0.15
        return cls(
            seed=seed,
            items=_items(rng),
            chunk_items=rng.choice((1, 1, 1, 2, 3)),
            batch_chunks=rng.choice((1, 2, 5, 5)),
            share_s=_spread(rng, 0.003, 3.0),
            group_width=rng.choice((2, 2, 5)),
            setup=_usually(rng, "good", "slow", "broken", "poison", "varying", "varying", "varying"),
            join=_usually(rng, "good", "slow", "slow", "broken", "poison"),
            jobs=1 if rng.random() < 0.93 else 2,
            workers=rng.choice((1, 2, 2, 3, 4)),
            sweepers=rng.choice((1, 1, 2)),
            callers=int(rng.random() < 0.15),
            launched=rng.random() < 0.75,
            max_attempts=rng.choice((1, 2, 3, 3, 3)),
            tolerate=rng.choice((0, 1, 2)) if rng.random() < 0.2 else None,
            retry_s=_spread(rng, 0.5, 2 * STALL_S) if rng.random() < 0.2 else None,
            latency_s=_spread(rng, 0.01, STALL_S / 10 if has_faults else STALL_S / 50),
            message_s=_spread(rng, 0.01, 3.0 if has_faults else 0.5),
            faults_s=_spread(rng, 2.0, 20 * STALL_S),
            rates=_rates(rng) if has_faults else {},
            deadline_s=_spread(rng, 1.0, 10 * STALL_S) if rng.random() < 0.06 else None,
            expires_s=_spread(rng, 1.0, 10 * STALL_S) if rng.random() < 0.05 else None,
            cancel_s=_spread(rng, 0.05, 5 * STALL_S) if rng.random() < 0.1 else None,
            combines=rng.choice(COMBINE_FORMS) if rng.random() < 0.4 else None,
            combine=_usually(rng, "good", "slow", "broken", "poison"),
            skew_s=_spread(rng, STALL_S, 100 * STALL_S) if rng.random() < 0.3 else 0.0,
        )

    @classmethod
    def read(cls, text: str) -> Shape:
        """Return the shape that `str` wrote, or the shape of a plain seed."""
        values: int | dict[str, Any] = json.loads(text)
        if isinstance(values, int):
            return cls.draw(values)
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**given)

    def __str__(self) -> str:
        plain = asdict(Shape())
        return json.dumps({name: value for name, value in asdict(self).items() if value != plain[name]})


def _usually(rng: random.Random, usual: str, *others: str) -> str:
    return usual if rng.random() < 0.85 else rng.choice(others)


def _spread(rng: random.Random, low: float, high: float) -> float:
    """Return a number whose logarithm is drawn evenly, rounded because it is printed."""
    return float(f"{low * (high / low) ** rng.random():.3g}")


def _items(rng: random.Random) -> tuple[str, ...]:
    count = rng.choice((0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 9))
    if rng.random() < 0.5:
        return ("good",) * count
    odd = rng.choice(ITEM_KINDS[1:])
    return tuple(odd if rng.random() < 0.3 else _usually(rng, "good", "slow", "flaky", "varying") for _ in range(count))


def _rates(rng: random.Random) -> dict[str, float]:
    kinds = [fault for fault in FAULTS if rng.random() < 0.35]
    return {fault: _spread(rng, 0.005, 0.15 if "call" in fault or "suspended" in fault else 0.4) for fault in kinds}
