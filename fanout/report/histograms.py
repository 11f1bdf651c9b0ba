"""Figures of many chunks as a few numbers: histograms, and counts over time."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

BINS = 40
"""Bars of a histogram."""

POINTS = 300
"""Points of a curve."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of values by size, in bins of equal width on a logarithmic scale.

    Attributes:
        edges: The edges of the bins, ascending; one more than counts.
        counts: Number of values in each bin.
    """

    edges: Sequence[float]
    counts: Sequence[int]


def make_histogram(values: Sequence[float], *, least: float) -> Histogram:
    """Return a histogram. Values below `least` count as that, since a logarithm needs a lower end."""
    clipped = [max(value, least) for value in values]
    if not clipped:
        return Histogram([least, 10 * least], [0])
    low, high = math.log10(min(clipped)), math.log10(max(clipped))
    if high - low < 0.3:
        low, high = low - 0.15, high + 0.15
    width = (high - low) / BINS
    counts = [0] * BINS
    for value in clipped:
        counts[min(BINS - 1, max(0, int((math.log10(value) - low) / width)))] += 1
    return Histogram([10 ** (low + width * edge) for edge in range(BINS + 1)], counts)


def count_until(moments: Sequence[tuple[float, int]], at: Sequence[float]) -> list[int]:
    """Return how many chunks had come by each of some times.

    Args:
        moments: Times, each with a number of chunks that came then, in any order.
        at: The times to count at.
    """
    ordered = sorted(moments)
    times = [moment for moment, _ in ordered]
    sums = [0]
    for _, chunks in ordered:
        sums.append(sums[-1] + chunks)
    return [sums[bisect_right(times, time)] for time in at]
