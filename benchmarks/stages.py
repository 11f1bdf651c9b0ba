"""Where the wall time of a job went, from what `recorder` wrote in each process."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

DIRECTORY = "FANOUT_BENCH_SPANS"
"""Environment variable with the directory of the files; where it is set, the app installs the recorder."""
STAGES = (
    *("validate", "encode", "put", "publish", "setup", "queue", "get", "decode", "run", "combine", "process"),
    *("put result", "barrier", "join", "put outcome", "notify"),
)
"""In the order in which a job goes through them. The time of a step is what its other stages leave of it."""

Span = tuple[str, float, float]
"""A stage, and from when to when it ran, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage of a run took.

    Attributes:
        wall_s: Its share of the wall time; the shares of all stages add up to the wall time.
        busy_s: Seconds that processes spent in it, added up.
        calls: How often it was entered.
    """

    wall_s: float
    busy_s: float
    calls: int


def read_spans(directory: Path) -> list[Span]:
    """Read all that was recorded so far, in no order."""
    lines = (line for path in directory.glob("*.jsonl") for line in path.read_text().splitlines())
    return [(stage, begun, ended) for stage, begun, ended in map(json.loads, lines)]


def share_time(spans: Sequence[Span], runs: Sequence[tuple[float, float]]) -> dict[str, Stage]:
    """Share out the wall time of a run, on average over several that do not overlap.

    Each moment belongs in equal parts to all stages that some process is in. Where there is none, a message is on its
    way: `queue`. From the outcome on it is `notify`.

    Args:
        spans: What was recorded, in these runs and perhaps in others.
        runs: When each run began and ended.
    """
    shares: defaultdict[str, float] = defaultdict(float)
    busy_s: defaultdict[str, float] = defaultdict(float)
    calls: Counter[str] = Counter()
    for begun, ended in runs:
        inside = [(stage, max(one, begun), min(end, ended)) for stage, one, end in spans if one < ended and end > begun]
        for stage, start, end in inside:
            busy_s[stage] += end - start
            calls[stage] += 1
        _share_run(shares, inside, begun, ended)
    number = len(runs)
    seen = [stage for stage in STAGES if shares[stage] or busy_s[stage]]
    return {one: Stage(shares[one] / number, busy_s[one] / number, round(calls[one] / number)) for one in seen}


def _share_run(shares: defaultdict[str, float], spans: Sequence[Span], begun: float, ended: float) -> None:
    told_at = min((end for stage, _, end in spans if stage == "put outcome"), default=ended)
    edges: list[tuple[float, int, str]] = [(told_at, 2, "")]
    for stage, start, end in spans:
        if stage != "notify" and start < told_at:
            edges += [(start, 1, stage), (min(end, told_at), -1, stage)]
    shares["notify"] += ended - told_at
    active: Counter[str] = Counter()
    at = begun
    for moment, change, stage in sorted(edges):
        present: Mapping[str, int] = +active or {"queue": 1}
        for one, count in present.items():
            shares[one] += (moment - at) * count / sum(present.values())
        at = moment
        active[stage] += change
