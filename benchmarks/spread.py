"""A figure over repeated trials."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over repeated trials.

    Attributes:
        median: The middle one.
        low: The smallest.
        high: The largest.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """The spread of some values; None if there are none."""
        found = list(values)
        return cls(median(found), min(found), max(found)) if found else None

    def mapped(self, change: Callable[[float], float]) -> Spread:
        """The spread of what an ascending `change` makes of the values."""
        return Spread(change(self.median), change(self.low), change(self.high))


def shown(found: Spread | None, show: Callable[[float], str]) -> str:
    """The median as text, and the range in brackets where the trials differ."""
    if found is None:
        return NOTHING
    low, high = show(found.low), show(found.high)
    return show(found.median) if low == high else f"{show(found.median)} ({low} … {high})"
