"""Where the wall time of a job went, from what `recorder` wrote in each process."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from .lap import Stage

DIRECTORY = "FANOUT_BENCH_SPANS"
"""Environment variable with the directory of the files; where it is set, the app installs the recorder."""

STAGES = (
    "validate",
    "encode",
    "put",
    "publish",
    "setup",
    "queue",
    "get",
    "decode",
    "run",
    "combine",
    "process",
    "put result",
    "barrier",
    "join",
    "put outcome",
    "notify",
)
"""In the order in which a job goes through them. Each of the steps is what is left of it."""

Segment = tuple[str, float, float]


def read(directory: Path) -> list[Segment]:
    """All that was recorded so far, in no order."""
    lines = (line for path in directory.glob("*.jsonl") for line in path.read_text().splitlines())
    return [(stage, begun, ended) for stage, begun, ended in map(json.loads, lines)]


def stages(segments: Sequence[Segment], runs: Iterable[tuple[float, float]]) -> dict[str, Stage]:
    """What each stage took of a run, on average over the runs of a lap.

    At each moment the time belongs in equal parts to all that was being worked on, so that the stages add up to the
    wall time. Where nothing was, a message was on its way: `queue`. From the outcome on it is `notify`, whatever is
    still being done.

    Args:
        segments: What was recorded, of these runs and perhaps of others.
        runs: When each run began and ended; runs do not overlap.
    """
    wall_s: defaultdict[str, float] = defaultdict(float)
    busy_s: defaultdict[str, float] = defaultdict(float)
    calls: Counter[str] = Counter()
    number = 0
    for begun, ended in runs:
        number += 1
        inside = [
            (stage, max(start, begun), min(end, ended))
            for stage, start, end in segments
            if start < ended and end > begun
        ]
        for stage, start, end in inside:
            busy_s[stage] += end - start
            calls[stage] += 1
        for stage, seconds in _shared(inside, begun, ended).items():
            wall_s[stage] += seconds
    return {
        stage: Stage(wall_s[stage] / number, busy_s[stage] / number, round(calls[stage] / number))
        for stage in STAGES
        if wall_s[stage] or busy_s[stage]
    }


def _shared(segments: Sequence[Segment], begun: float, ended: float) -> dict[str, float]:
    told_at = min((end for stage, _, end in segments if stage == "put outcome"), default=ended)
    edges: list[tuple[float, int, str]] = []
    for stage, start, end in segments:
        if stage != "notify" and start < told_at:
            edges += [(start, 1, stage), (min(end, told_at), -1, stage)]
    found: dict[str, float] = {"notify": ended - told_at}
    active: Counter[str] = Counter()
    at = begun
    for moment, change, stage in sorted(edges):
        if moment > at:
            _share(found, +active, moment - at)
            at = moment
        active[stage] += change
    if told_at > at:
        _share(found, +active, told_at - at)
    return found


def _share(found: dict[str, float], active: Counter[str], seconds: float) -> None:
    for stage, number in active.items():
        found[stage] = found.get(stage, 0.0) + seconds * number / active.total()
    if not active:
        found["queue"] = found.get("queue", 0.0) + seconds
