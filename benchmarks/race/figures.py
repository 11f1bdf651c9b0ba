"""What each race is judged by: the figure of a standing, its unit, and how it is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from ..spread import Spread, shown
from .lap import Completion, Lap
from .works import Load, waits


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure.

    Attributes:
        name: What it is called, with its unit.
        of: Seconds of one run -> the figure.
        show: The figure as text.
        rising: Whether more is better.
        is_derived: Whether it is not simply the time of a run.
    """

    name: str
    of: Callable[[Load, float], float]
    show: Callable[[float], str]
    rising: bool = False
    is_derived: bool = True

    def spread(self, one: Completion) -> Spread | None:
        """The figure of a standing."""
        return Spread.of(self.of(one.load, wall_s) for lap in one.done for wall_s in lap.walls_s)

    def text(self, one: Completion) -> str:
        """The figure of a standing with its spread, or why there is none."""
        return shown(self.spread(one), self.show) if one.done else one.remark

    def median_text(self, one: Completion) -> str:
        """The figure of a standing without its spread, or why there is none."""
        spread = self.spread(one)
        return self.show(spread.median) if spread else one.remark


@cache
def waited_s(load: Load) -> float:
    """Seconds that a serial run of `wait` could not undercut."""
    return sum(waits(load))


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.0f} ms"


def _milliseconds(value: float) -> str:
    return f"{value:,.1f} ms" if value >= 10 else f"{value:.2f} ms"


FIGURES = {
    "job": Figure("a job", lambda load, wall_s: wall_s, _seconds, is_derived=False),
    "overhead": Figure("ms a chunk", lambda load, wall_s: 1000 * wall_s / load.chunks, _milliseconds),
    "wordcount": Figure("seconds", lambda load, wall_s: wall_s, _seconds, is_derived=False),
    "store": Figure(
        "MB a second",
        lambda load, wall_s: load.size_bytes / 1e6 / wall_s,
        lambda value: f"{value:,.0f} MB/s",
        rising=True,
    ),
    "shape": Figure(
        "speed-up over serial",
        lambda load, wall_s: waited_s(load) / wall_s,
        lambda value: f"{value:.1f} ×",
        rising=True,
    ),
    "tiny": Figure("µs an item", lambda load, wall_s: 1e6 * wall_s / load.items, lambda value: f"{value:.2f} µs"),
}
"""By name of the race."""


def ratios(laps: Sequence[Lap], entry: str, other: str, load: Load) -> Spread | None:
    """How many times as long one entry takes as another, turn by turn: of medians, and so of what ran close in time."""
    found = []
    for turn in sorted({lap.turn for lap in laps}):
        pair = [
            Spread.of(
                wall_s
                for lap in laps
                if (lap.entry, lap.load, lap.turn) == (name, load, turn)
                for wall_s in lap.walls_s
            )
            for name in (entry, other)
        ]
        if pair[0] is not None and pair[1] is not None:
            found.append(pair[0].median / pair[1].median)
    return Spread.of(found)
