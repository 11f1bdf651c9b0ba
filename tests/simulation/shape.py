"""What one schedule is like: the job, the workers, and how often what goes wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from .faults import FAULTS

STALL_S = 10.0
"""The simulated `stall_s`."""

GROUP_WIDTH = 2
"""The simulated fan-in, so that few chunks make a tree of several levels."""

ITEM_KINDS = ("well", "slow", "flaky", "fickle", "broken", "mended", "poison")
STEP_KINDS = ("well", "slow", "broken", "poison")
COMBINE_FORMS = ("pairs", "lists")


@dataclass(frozen=True, slots=True)
class Shape:
    """Everything a schedule is made from. Equal shapes play equally.

    Attributes:
        seed: Where all choices come from.
        items: Items of a job, each of one kind: `well` gives its value, `slow` takes longer than `stall_s`, `flaky`
            raises once, `fickle` gives another value each time, `broken` always raises, `mended` does until the job is
            retried, `poison` kills its worker.
        chunk_items: Items a chunk.
        setup: What setup is like: `well`, `slow`, `broken`, `poison`, or `fickle`: each run gives other items.
        join: What join is like.
        combines: The form of the task's combine, `pairs` or `lists`; None for a task without one.
        combine: What combine is like.
        jobs: Equal jobs that run at once.
        workers: Workers.
        sweepers: Processes that sweep.
        callers: Processes that wait in `Job.get`.
        launched: Whether the jobs were launched as a Celery signature, so that setup's message says what follows.
        max_attempts: Tries of a chunk.
        tolerate: How many items may fail; None for a job that fails with the first.
        retry_s: Seconds between two looks of somebody who retries the job when it has failed, until the trouble is
            over; None for nobody.
        latency_s: A store call takes at most as long.
        message_s: A message usually takes at most as long.
        trouble_s: Faults stop after this time.
        rates: How often each fault strikes where it can.
        deadline_s: The job's deadline, if any.
        expires_s: When setup's message expires, if ever.
        cancel_s: When a caller cancels the job, if ever.
        skew_s: By how much the clocks of two processes may differ from the store's, each way.
        skipped: Numbers of faults that do not strike after all.
    """

    seed: int = 0
    items: tuple[str, ...] = ("well", "well", "well")
    chunk_items: int = 1
    setup: str = "well"
    join: str = "well"
    combines: str | None = None
    combine: str = "well"
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
    trouble_s: float = 60.0
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
        """Whether the job can't succeed without a call of combine, if none of its items may fail."""
        several_a_chunk = min(self.chunk_items, len(self.items)) > 1
        return self.combines is not None and (several_a_chunk or self.chunks > GROUP_WIDTH)

    @property
    def is_calm(self) -> bool:
        """Whether nothing goes wrong but that messages overtake each other: then nobody needs a sweep."""
        return not self.rates and "slow" not in (*self.items, *self._steps) and not self._has_poison

    @property
    def _has_poison(self) -> bool:
        return "poison" in (*self.items, *self._steps)

    @property
    def _steps(self) -> tuple[str, ...]:
        return (self.setup, self.combine, self.join)

    @classmethod
    def drawn(cls, seed: int) -> Shape:
        """The shape that belongs to a seed."""
        rng = random.Random(f"shape {seed}")
        trouble = rng.random() > 0.15
        return cls(
            seed=seed,
            items=_items(rng),
            chunk_items=rng.choice((1, 1, 1, 2, 3)),
            setup=_mostly(rng, "well", "slow", "broken", "poison", "fickle", "fickle", "fickle"),
            join=_mostly(rng, "well", "slow", "slow", "broken", "poison"),
            jobs=1 if rng.random() < 0.93 else 2,
            workers=rng.choice((1, 2, 2, 3, 4)),
            sweepers=rng.choice((1, 1, 2)),
            callers=int(rng.random() < 0.15),
            launched=rng.random() < 0.75,
            max_attempts=rng.choice((1, 2, 3, 3, 3)),
            tolerate=rng.choice((0, 1, 2)) if rng.random() < 0.2 else None,
            retry_s=_spread(rng, 0.5, 2 * STALL_S) if rng.random() < 0.2 else None,
            latency_s=_spread(rng, 0.01, STALL_S / 10 if trouble else STALL_S / 50),
            message_s=_spread(rng, 0.01, 3.0 if trouble else 0.5),
            trouble_s=_spread(rng, 2.0, 20 * STALL_S),
            rates=_rates(rng) if trouble else {},
            deadline_s=_spread(rng, 1.0, 10 * STALL_S) if rng.random() < 0.06 else None,
            expires_s=_spread(rng, 1.0, 10 * STALL_S) if rng.random() < 0.05 else None,
            cancel_s=_spread(rng, 0.05, 5 * STALL_S) if rng.random() < 0.1 else None,
            combines=rng.choice(COMBINE_FORMS) if rng.random() < 0.4 else None,
            combine=_mostly(rng, "well", "slow", "broken", "poison"),
            skew_s=_spread(rng, STALL_S, 100 * STALL_S) if rng.random() < 0.3 else 0.0,
        )

    @classmethod
    def read(cls, text: str) -> Shape:
        """The shape that `str` wrote, or that belongs to a bare seed."""
        said = json.loads(text)
        if isinstance(said, int):
            return cls.drawn(said)
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in said.items()})

    def __str__(self) -> str:
        plain = asdict(Shape())
        return json.dumps({name: value for name, value in asdict(self).items() if value != plain[name]})


def _mostly(rng: random.Random, usual: str, *others: str) -> str:
    return usual if rng.random() < 0.85 else rng.choice(others)


def _spread(rng: random.Random, low: float, high: float) -> float:
    """A number whose order of magnitude is drawn evenly; short, for it is printed."""
    return float(f"{low * (high / low) ** rng.random():.3g}")


def _items(rng: random.Random) -> tuple[str, ...]:
    count = rng.choice((0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 9))
    if rng.random() < 0.5:
        return ("well",) * count
    odd = rng.choice(ITEM_KINDS[1:])
    return tuple(odd if rng.random() < 0.3 else _mostly(rng, "well", "slow", "flaky", "fickle") for _ in range(count))


def _rates(rng: random.Random) -> dict[str, float]:
    kinds = [fault for fault in FAULTS if rng.random() < 0.35]
    return {fault: _spread(rng, 0.005, 0.15 if "call" in fault or "frozen" in fault else 0.4) for fault in kinds}
