"""Reports of jobs that were never run, from computed records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fanout.prices import Prices
from fanout.progress import JobState, Progress
from fanout.records.models import Intent, Outcome
from fanout.records.run_stats import StoreUsage
from fanout.report import Report
from fanout.report.reading import Recorded
from fanout.report.runs import Run

LAUNCHED_AT = 1_800_000_000.0
SETUP_S, QUEUE_S, FETCH_S, STORE_S = 0.2, 0.1, 0.01, 0.02
"""Seconds of setup, of the wait for a worker, and of each run's fetch and write."""


def make_report(
    took_s: Sequence[float],
    *,
    workers: int = 2,
    batch: int = 1,
    items: int | None = None,
    fetch_s: float = FETCH_S,
    setup_s: float = SETUP_S,
    join_s: float = 0.1,
    queue_s: float = QUEUE_S,
    peak_bytes: int = 100_000_000,
    **records: Any,
) -> Report:
    """Return the report of a job whose workers always take the next batch.

    Args:
        took_s: Seconds of each chunk.
        workers: Number of workers.
        batch: Chunks of a batch.
        items: Number of items; one per chunk if not given.
        fetch_s: Seconds of a run's fetch.
        setup_s: Seconds of setup.
        join_s: Seconds of join.
        queue_s: Seconds between setup and the first chunk.
        peak_bytes: Memory of each process.
        **records: Further fields of `Recorded`.
    """
    free = dict.fromkeys((f"host:{number}" for number in range(workers)), LAUNCHED_AT + setup_s + queue_s)
    done = dict.fromkeys(free, 0)
    runs: list[Run] = []
    for number, first in enumerate(range(0, len(took_s), batch)):
        took = tuple(took_s[first : first + batch])
        worker = min(free, key=lambda name: free[name])
        started_at, done[worker] = free[worker], done[worker] + 1
        ended_at = started_at + fetch_s + sum(took)
        runs.append(
            Run(
                step="process",
                worker=worker,
                started_at=started_at,
                ended_at=ended_at,
                peak_bytes=peak_bytes,
                chunk=number * batch,
                chunks=len(took),
                object_bytes=500,
                input_bytes=1_000 * len(took),
                fetched_s=fetch_s,
                stored_s=STORE_S,
                ready_at=LAUNCHED_AT + setup_s,
                took_s=took,
                usage=StoreUsage(LAUNCHED_AT, put=done[worker] - 1, get=done[worker], list=1),
            )
        )
        free[worker] = ended_at + STORE_S
    last_at = max(free.values())
    setup = Run(step="setup", worker="host:s", started_at=LAUNCHED_AT, ended_at=LAUNCHED_AT + setup_s)
    join = Run(step="join", worker="host:j", started_at=last_at, ended_at=last_at + join_s)
    recorded = Recorded(
        intent=Intent(launch_id="a", task="shop.Count", inline=b"", references={}, options={}, created_at=LAUNCHED_AT),
        began_at=LAUNCHED_AT,
        setup=replace(setup, peak_bytes=peak_bytes),
        runs=runs,
        join=replace(join, peak_bytes=peak_bytes),
        objects=len(runs),
        stored_bytes=500 * len(runs),
        batches=len(runs),
    )
    chunks = len(took_s)
    return Report(
        job_id="order-4711",
        generation=0,
        progress=Progress(JobState.SUCCEEDED, chunks, chunks, chunks if items is None else items),
        recorded=replace(recorded, **records),
        prices=Prices(),
        read_at=last_at + join_s,
    )


def failed_outcome(**failure: Any) -> Outcome:
    """Return the outcome of a job that failed."""
    return Outcome(status="failed", task="shop.Count", stats=[], failure={"step": "process", **failure})
