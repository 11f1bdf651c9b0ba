"""Measures over the runs of a job: its workers, its stragglers, its requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from ..records.run_stats import StoreUsage
from .reading import Recorded
from .runs import ChunkSpan, Run

MESSAGE_BYTES = 850
"""Bytes of a message on the wire, frames included, as the benchmarks measured it on RabbitMQ."""

STRAGGLER_TIMES = 5.0
"""A straggler takes more than so many times the median of all chunks, …"""

STRAGGLER_SHARE = 0.02
"""… and more than this share of the job's time."""

LEAST_S = 1e-6
"""Shortest time that a run records for a chunk, in seconds."""


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """A process that ran steps of the job.

    Attributes:
        name: The process, as `host:pid`.
        steps: The steps that it ran, in the order of a job.
        chunks: Number of chunks that it ran.
        started_at: When its first run began, in seconds since the epoch.
        ended_at: When its last run ended.
        ran_s: Seconds of the user's steps.
        fetched_s: Seconds of fetching.
        stored_s: Seconds of writing, as far as they are known.
        peak_bytes: Its largest resident size.
    """

    name: str
    steps: tuple[str, ...]
    chunks: int
    started_at: float
    ended_at: float
    ran_s: float
    fetched_s: float
    stored_s: float
    peak_bytes: int

    @property
    def span_s(self) -> float:
        """Seconds from its first run to the end of its last."""
        return self.ended_at - self.started_at


@dataclass(frozen=True, slots=True)
class Straggler:
    """A chunk that took far longer than the others.

    Attributes:
        chunk: Its index.
        worker: The process that ran it.
        began_at: When the user's step began, in seconds since the epoch.
        took_s: Seconds that it took.
        times: How many times the median of all chunks that is.
    """

    chunk: int
    worker: str
    began_at: float
    took_s: float
    times: float


def all_runs(recorded: Recorded) -> list[Run]:
    """Return the runs of all steps, in the order of the steps."""
    first = [recorded.setup] if recorded.setup is not None else []
    last = [recorded.join] if recorded.join is not None else []
    return [*first, *recorded.runs, *recorded.nodes, *last]


def measure_workers(recorded: Recorded) -> list[WorkerFacts]:
    """Return the processes that ran steps, by name."""
    by_name: dict[str, list[Run]] = {}
    for run in all_runs(recorded):
        by_name.setdefault(run.worker, []).append(run)
    return [_measure(name, runs) for name, runs in sorted(by_name.items())]


def _measure(name: str, runs: Sequence[Run]) -> WorkerFacts:
    return WorkerFacts(
        name=name,
        steps=tuple(dict.fromkeys(run.step for run in runs)),
        chunks=sum(run.chunks for run in runs),
        started_at=min(run.started_at for run in runs),
        ended_at=max(run.ended_at for run in runs),
        ran_s=sum(run.ran_s for run in runs),
        fetched_s=sum(run.fetched_s for run in runs),
        stored_s=sum(run.stored_s or 0.0 for run in runs),
        peak_bytes=max(run.peak_bytes for run in runs),
    )


def find_stragglers(runs: Iterable[Run], spans: Sequence[ChunkSpan], *, wall_s: float) -> list[Straggler]:
    """Return the chunks of some runs that took far longer than others, the longest first.

    Args:
        runs: The runs of process.
        spans: When each chunk of the job ran.
        wall_s: Seconds of the whole job.
    """
    if len(spans) < 3:
        return []
    middle_s = median(span.took_s for span in spans)
    limit_s = max(STRAGGLER_TIMES * middle_s, STRAGGLER_SHARE * wall_s)
    found = [
        Straggler(span.chunk, run.worker, span.began_at, span.took_s, span.took_s / max(middle_s, LEAST_S))
        for run in runs
        if run.ran_s > limit_s
        for span in run.chunk_spans()
        if span.took_s > limit_s
    ]
    return sorted(found, key=lambda one: -one.took_s)


def sum_usage(recorded: Recorded) -> StoreUsage | None:
    """Return the requests of all processes for the job, from the last record of each; None if none has counted.

    A record tells of the requests before its own writes, so those are added.
    """
    last: dict[tuple[str, float], Run] = {}
    for run in all_runs(recorded):
        if run.usage is None:
            continue
        meter = (run.worker, run.usage.since)
        if meter not in last or run.ended_at >= last[meter].ended_at:
            last[meter] = run
    if not last:
        return None
    usages = [run.usage for run in last.values() if run.usage is not None]
    return StoreUsage(
        since=min(usage.since for usage in usages),
        put=sum(usage.put for usage in usages) + sum(run.writes for run in last.values()),
        get=sum(usage.get for usage in usages),
        head=sum(usage.head for usage in usages),
        list=sum(usage.list for usage in usages),
        delete=sum(usage.delete for usage in usages),
        uploaded_bytes=sum(usage.uploaded_bytes for usage in usages) + sum(run.object_bytes for run in last.values()),
        downloaded_bytes=sum(usage.downloaded_bytes for usage in usages),
    )
