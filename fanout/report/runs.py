"""The runs of a job's steps, as its records tell of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from ..records.run_stats import RunStats, StoreUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a step that gave a result. Times are seconds since the epoch.

    Attributes:
        step: `setup`, `process`, `combine` or `join`.
        worker: The process, as `host:pid`.
        started_at: When it began.
        ended_at: When its process began to write the result.
        peak_bytes: The process's largest resident size by then.
        chunk: Index of the first chunk; -1 for a step that has none.
        chunks: Number of chunks whose results its object holds.
        failed: Number of failed items.
        object_bytes: Size of that object.
        input_bytes: Size of its items, encoded; 0 if unknown.
        fetched_s: Seconds in which it fetched parameters and items.
        stored_s: Seconds that the write of its object took, as the process's next run recorded it; None if unknown.
        ready_at: When its items were in the store, by the store's clock; None if unknown.
        took_s: Seconds of each chunk, for a batch.
        parts: Number of messages for chunks that it shared out.
        usage: Its process's requests for the job so far; None if they were not counted.
        writes: Number of objects that it wrote after that count: its result, a marker, a large value.
    """

    step: str
    worker: str
    started_at: float
    ended_at: float
    peak_bytes: int = 0
    chunk: int = -1
    chunks: int = 0
    failed: int = 0
    object_bytes: int = 0
    input_bytes: int = 0
    fetched_s: float = 0.0
    stored_s: float | None = None
    ready_at: float | None = None
    took_s: Sequence[float] = ()
    parts: int = 0
    usage: StoreUsage | None = None
    writes: int = 1

    @property
    def ran_s(self) -> float:
        """Seconds in which it ran the user's step and encoded its results."""
        return max(0.0, self.ended_at - self.started_at - self.fetched_s)

    @property
    def busy_s(self) -> float:
        """Seconds in which its worker was at it, with the write as far as that is known."""
        return self.ended_at - self.started_at + (self.stored_s or 0.0)

    @property
    def waited_s(self) -> float | None:
        """Seconds between its items in the store and its start; None if unknown."""
        return None if self.ready_at is None else max(0.0, self.started_at - self.ready_at)

    def chunk_spans(self) -> Iterator[ChunkSpan]:
        """Yield when the user's step ran on each chunk, in chunk order. A batch without times is cut evenly."""
        took = self.took_s or [self.ran_s / self.chunks] * self.chunks if self.chunks else ()
        began = self.started_at + self.fetched_s
        for position, took_s in enumerate(took):
            yield ChunkSpan(self.chunk + position, began, took_s)
            began += took_s


class ChunkSpan(NamedTuple):
    """When the user's step ran on one chunk, and for how many seconds."""

    chunk: int
    began_at: float
    took_s: float


def make_run(
    step: str,
    row: Sequence[object],
    *,
    chunk: int = -1,
    chunks: int = 0,
    failed: int = 0,
    object_bytes: int = 0,
    input_bytes: int = 0,
    ready_at: float | None = None,
    parts: int = 0,
    writes: int = 1,
) -> tuple[Run, float | None]:
    """Return the run that a record's row of stats tells of, and the seconds of its process's write before it.

    Args:
        step: The step.
        row: The row; see `RunStats`.
        chunk: See `Run`, as for all that follow.
        chunks: Number of chunks.
        failed: Number of failed items.
        object_bytes: Size of the object.
        input_bytes: Size of the items.
        ready_at: When they were in the store.
        parts: Number of messages for chunks that it shared out.
        writes: Number of objects that it wrote after its count of requests.
    """
    stats = RunStats(*row)  # type: ignore[arg-type]
    run = Run(
        step=step,
        worker=stats.worker,
        started_at=stats.started_at,
        ended_at=max(stats.started_at, stats.ended_at),
        peak_bytes=stats.peak_bytes,
        chunk=chunk,
        chunks=chunks,
        failed=failed,
        object_bytes=object_bytes,
        input_bytes=input_bytes,
        fetched_s=stats.fetched_us / 1e6,
        ready_at=ready_at,
        took_s=tuple(took_us / 1e6 for took_us in stats.took_us),
        parts=parts,
        usage=stats.store_usage,
        writes=writes,
    )
    return run, None if stats.stored_us is None else stats.stored_us / 1e6


def split_into_lanes(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Return lane -> its runs, by start. A lane is a process, or one of its threads where its runs overlap.

    Args:
        runs: The runs, in any order.
    """
    lanes: dict[str, list[list[Run]]] = {}
    for run in sorted(runs, key=lambda run: run.started_at):
        slots = lanes.setdefault(run.worker, [])
        free = next((slot for slot in slots if slot[-1].ended_at <= run.started_at + _CLOCK_S), None)
        if free is None:
            slots.append([run])
        else:
            free.append(run)
    return {
        worker if position == 0 else f"{worker} ({position + 1})": slot
        for worker, slots in sorted(lanes.items())
        for position, slot in enumerate(slots)
    }


def gaps_between(lane: Sequence[Run]) -> Iterator[float]:
    """Yield the seconds from the end of each run of a lane to the start of the next."""
    for before, after in pairwise(lane):
        yield max(0.0, after.started_at - before.ended_at - (before.stored_s or 0.0))


_CLOCK_S = 1e-3
"""Seconds by which runs that follow each other may seem to overlap."""
