"""The critical path of a job: the chain of waits and runs that its time consists of, from launch to end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .reading import SECOND_S, Recorded
from .runs import Run

OWN_SHARE = 0.1
"""Share of the path from which a run is a segment of its own."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the critical path.

    Attributes:
        name: The part: `queue of setup`, `setup`, `queue`, `chunk 7`, `120 chunks`, `combine`, `queue of join`, `join`.
        started_at: When it began, in seconds since the epoch.
        ended_at: When it ended.
        worker: The process at work; empty for a queue.
    """

    name: str
    started_at: float
    ended_at: float
    worker: str = ""

    @property
    def took_s(self) -> float:
        """Seconds from its begin to its end."""
        return max(0.0, self.ended_at - self.started_at)


def find_critical_path(recorded: Recorded, lanes: Mapping[str, Sequence[Run]], ended_at: float) -> list[Segment]:
    """Return the critical path of the latest generation, in order of time.

    It goes back from the end: from the join to the last run before it, to the run before that of the same worker while
    that kept the worker from starting sooner, to setup, to the launch or the retry.

    Args:
        recorded: The job's records.
        lanes: Lane -> its runs of process and combine, by start.
        ended_at: The end of the path: of the job, or now.
    """
    launched_at = recorded.began_at
    runs = _walk_back(_leave_out_later(lanes, recorded.join))
    segments = []
    setup = recorded.setup if recorded.setup is None or recorded.setup.ended_at > launched_at else None
    first_at = runs[0].started_at if runs else None
    if setup is not None:
        segments.append(Segment("queue of setup", launched_at, setup.started_at))
        setup_ended_at = setup.ended_at if first_at is None else min(setup.ended_at, _ready_at(runs[0], setup))
        segments.append(Segment("setup", setup.started_at, setup_ended_at, setup.worker))
    if runs:
        after = segments[-1].ended_at if segments else launched_at
        segments.append(Segment("queue", after, runs[0].started_at))
        segments += _merge(runs, own_s=OWN_SHARE * (ended_at - launched_at))
    if recorded.join is not None:
        after = segments[-1].ended_at if segments else launched_at
        segments.append(Segment("queue of join", after, recorded.join.started_at))
        segments.append(Segment("join", recorded.join.started_at, recorded.join.ended_at, recorded.join.worker))
    return [segment for segment in segments if segment.took_s > 0]


def _leave_out_later(lanes: Mapping[str, Sequence[Run]], join: Run | None) -> Mapping[str, Sequence[Run]]:
    """Return the lanes without the runs that were still at work when the outcome was made, as in a job that failed."""
    if join is None:
        return lanes
    before = {name: [run for run in lane if run.ended_at <= join.started_at] for name, lane in lanes.items()}
    return before if any(before.values()) else lanes


def _walk_back(lanes: Mapping[str, Sequence[Run]]) -> list[Run]:
    """Return the runs of one lane up to the last of all runs, from the one that did not wait for the lane."""
    last_lane = max((lane for lane in lanes.values() if lane), key=lambda lane: lane[-1].ended_at, default=None)
    if last_lane is None:
        return []
    position = len(last_lane) - 1
    while position > 0:
        run, before = last_lane[position], last_lane[position - 1]
        if run.ready_at is not None and run.ready_at > before.ended_at + SECOND_S:
            break
        position -= 1
    return list(last_lane[position:])


def _ready_at(run: Run, setup: Run) -> float:
    """Return when setup had made a run's items, by its worker's clock as far as that can be known."""
    ready_at = run.ready_at if run.ready_at is not None else setup.ended_at
    return min(max(ready_at, setup.started_at), max(run.started_at, setup.started_at))


def _merge(runs: Sequence[Run], *, own_s: float) -> Iterator[Segment]:
    """Yield the segments of consecutive runs of one lane: long runs by themselves, others together."""
    first, chunks = 0, 0
    for position, run in enumerate(runs):
        ends_at = runs[position + 1].started_at if position + 1 < len(runs) else run.ended_at + (run.stored_s or 0.0)
        is_own = ends_at - run.started_at >= own_s
        if chunks and is_own:
            yield _segment(runs[first:position], run.started_at)
        if is_own:
            yield _segment([run], ends_at)
            first, chunks = position + 1, 0
        else:
            chunks += 1
    if chunks:
        last = runs[-1]
        yield _segment(runs[first:], last.ended_at + (last.stored_s or 0.0))


def _segment(runs: Sequence[Run], ended_at: float) -> Segment:
    chunks = sum(run.chunks for run in runs)
    name = f"{chunks:,} chunks"
    if not chunks:
        name = "combine"
    elif chunks == 1:
        name = f"chunk {max(run.chunk for run in runs):,}"
    return Segment(name, runs[0].started_at, ended_at, runs[0].worker)
