"""Repeated trials of one case as medians with their spread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..spread import Spread
from ..status import Status
from .cases import Variant
from .record import Trial

Point = tuple[Variant, int, int]
"""Variant, size of the input in bytes, number of chunks."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The trials of one point of a sweep.

    Attributes:
        variant, size_bytes, chunks: What was run.
        trials: Its trials, in the order in which they ran; one at least.
    """

    variant: Variant
    size_bytes: int
    chunks: int
    trials: tuple[Trial, ...]

    @property
    def done(self) -> tuple[Trial, ...]:
        """Those that came to their end."""
        return tuple(trial for trial in self.trials if trial.status is Status.DONE)

    @property
    def remark(self) -> str:
        """Why there is no result; empty if there is one."""
        return "" if self.done else self.trials[0].reason

    @property
    def right(self) -> bool:
        """Whether every answer was right."""
        return bool(self.done) and all(trial.right for trial in self.done)

    def of(self, figure: Callable[[Trial], float | None]) -> Spread | None:
        """A figure over the trials that ended well and have it."""
        return Spread.of(value for trial in self.done if (value := figure(trial)) is not None)


def summaries(trials: Iterable[Trial]) -> list[Summary]:
    """The trials by point, in the order of first appearance."""
    points: dict[Point, list[Trial]] = {}
    for trial in trials:
        points.setdefault((trial.case.variant, trial.case.size_bytes, trial.case.chunks), []).append(trial)
    return [Summary(*point, tuple(found)) for point, found in points.items()]


def peak(*roles: str) -> Callable[[Trial], float | None]:
    """The largest peak of some process trees."""
    return lambda trial: max((trial.memory[role].peak_bytes for role in roles if role in trial.memory), default=None)


def largest_process(*roles: str) -> Callable[[Trial], float | None]:
    """The largest high-water mark of a single process in some trees."""
    return lambda trial: max((trial.memory[role].process_bytes for role in roles if role in trial.memory), default=None)


def broker_before(trial: Trial) -> float | None:
    """Memory of the broker at the start."""
    return trial.memory["broker"].before_bytes if "broker" in trial.memory else None


def broker_growth(trial: Trial) -> float | None:
    """Growth of the broker."""
    return trial.memory["broker"].growth_bytes if "broker" in trial.memory else None


def published(trial: Trial) -> float | None:
    """Bytes published; None if some were missed."""
    return trial.traffic.published_bytes if trial.traffic and not trial.traffic.lost else None


def delivered(trial: Trial) -> float | None:
    """Bytes delivered; None if some were missed."""
    return trial.traffic.delivered_bytes if trial.traffic and not trial.traffic.lost else None


def messages(trial: Trial) -> float | None:
    """Messages published."""
    return trial.traffic.published if trial.traffic else None


def wall(trial: Trial) -> float | None:
    """Seconds to the answer."""
    return trial.wall_s


def sizes_at(found: Sequence[Summary], variant: Variant, *, chunks: int) -> list[Summary]:
    """One variant's sweep of sizes, ascending, results only."""
    kept = [one for one in found if one.variant is variant and one.chunks == chunks and one.done]
    return sorted(kept, key=lambda one: one.size_bytes)


def chunks_at(found: Sequence[Summary], variant: Variant, *, size_bytes: int) -> list[Summary]:
    """One variant's sweep of numbers of chunks, ascending, results only."""
    kept = [one for one in found if one.variant is variant and one.size_bytes == size_bytes and one.done]
    return sorted(kept, key=lambda one: one.chunks)
