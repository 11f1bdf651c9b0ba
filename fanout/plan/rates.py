"""The rates that a plan computes from: given, assumed, or those of a job that has run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from ..config.checks import check_kind, check_number
from ..errors import ConfigError
from ..figures import format_duration
from ..report import Report
from ..report.runs import Run
from ..results import WINDOW
from .times import Assumptions

RESULT_BYTES = 100
"""Encoded size of a result, if neither a caller nor a report tells it."""

RESULT_OVERHEAD_BYTES = 250
"""Bytes of an object with results beside the results."""

_LAUNCH_REQUESTS = 5
"""Requests of a setup with one pack, which are not part of the time of its messages."""

_JOIN_REQUESTS = 4
"""Requests of a join that follow each other, beside its reads of results."""

_HAND_OVERS = 3
"""Queues that a job waits in: that of setup, that of the first chunk, that of the join."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How long items and requests take, and how large items and results are.

    Attributes:
        item_s: Seconds of process for an item.
        items: Number of items of the job that they are of; None if they are of no job.
        item_bytes: Mean encoded size of an item; None if it is not known.
        result_bytes: Encoded size of a result.
        assumptions: The speed of store, broker and processes.
        source: Where they come from, in words.
        covers_setup: Whether the assumed time of a message holds setup's own work for it.
    """

    item_s: float = 0.0
    items: int | None = None
    item_bytes: float | None = None
    result_bytes: int = RESULT_BYTES
    assumptions: Assumptions = field(default_factory=Assumptions)
    source: str = "assumed"
    covers_setup: bool = False

    @classmethod
    def choose(
        cls, like: Report | None, *, item_s: float | None, result_bytes: int | None, assumptions: Assumptions | None
    ) -> Rates:
        """Return the rates that a caller gives, then those of a report, then those that are assumed.

        Raises:
            ConfigError: One is no number from 0, or the report is of a job without a result.
        """
        for name, value in (("item_s", item_s), ("result_bytes", result_bytes)):
            if value is not None:
                check_number(name, value)
        if like is not None:
            check_kind("like", like, Report, expected="the report of a job, as job.report() returns it")
        if assumptions is not None:
            check_kind("assumptions", assumptions, Assumptions, expected="Assumptions")
        base = cls() if like is None else measure_rates(like)
        if assumptions is not None:
            base = replace(base, assumptions=assumptions, source="given", covers_setup=False)
        return replace(
            base,
            item_s=base.item_s if item_s is None else item_s,
            result_bytes=base.result_bytes if result_bytes is None else result_bytes,
        )

    def __str__(self) -> str:
        """Describe them in a line."""
        speed = self.assumptions
        return (
            f"{format_duration(self.item_s)} an item, {format_duration(speed.request_s)} a request, "
            f"{format_duration(speed.worker_s)} a message and worker: {self.source}"
        )


def measure_rates(report: Report) -> Rates:
    """Return the rates of a job that has run, such that a plan of the same job gives its times.

    Raises:
        ConfigError: The job has no result yet.
    """
    runs, setup, progress = report.runs, report.recorded.setup, report.progress
    if setup is None or not runs or not progress.items or not progress.chunks:
        raise ConfigError(f"like: job {report.job_id} has no result to take rates from: give a job that has succeeded")
    request_s = _request_s(report)
    setup_s = max(0.0, setup.ended_at - setup.started_at - _LAUNCH_REQUESTS * request_s)
    # The items of the runs that the report has read, in its latest generation.
    items = progress.items * sum(run.chunks for run in runs) / progress.chunks
    return Rates(
        item_s=report.work_s / items,
        items=progress.items,
        item_bytes=sum(run.input_bytes for run in runs) / items,
        result_bytes=_mean_result_bytes(runs, len(runs) if report.recorded.intent.combines else items),
        assumptions=Assumptions(
            request_s=request_s,
            page_s=2 * request_s,
            message_s=setup_s / max(report.recorded.batches, 1),
            chunk_s=0.0,
            worker_message_s=_mean_overhead_s(report.lanes.values()),
            hand_over_s=_queued_s(report) / _HAND_OVERS,
        ),
        source=f"as in job {report.job_id}",
        covers_setup=True,
    )


def _mean_result_bytes(runs: Sequence[Run], results: float) -> int:
    """Return the mean size of so many results in the objects of some runs."""
    held = sum(max(0, run.object_bytes - RESULT_OVERHEAD_BYTES) for run in runs)
    return round(held / results)


def _request_s(report: Report) -> float:
    """Return the seconds of a request: the median of writes of results, or what the join's run leaves for each.

    The smaller one counts, since both hold other work as well.
    """
    known = [run.stored_s for run in report.runs if run.stored_s]
    samples = [median(known)] if known else []
    join = report.recorded.join
    if join is not None:
        reads = -(-len(report.recorded.nodes or report.runs) // WINDOW)
        samples.append((join.ended_at - join.started_at) / (_JOIN_REQUESTS + reads))
    return min(samples, default=Assumptions().request_s)


def _mean_overhead_s(lanes: Iterable[Sequence[Run]]) -> float:
    """Return the mean seconds of a worker for a message, from the start of one to that of the next, without items."""
    beside_s, count = 0.0, 0
    for lane in lanes:
        last = lane[-1]
        span_s = last.ended_at + (last.stored_s or 0.0) - lane[0].started_at
        beside_s += max(0.0, span_s - sum(run.ran_s for run in lane))
        count += len(lane)
    return beside_s / max(count, 1)


def _queued_s(report: Report) -> float:
    return sum(segment.took_s for segment in report.critical_path if segment.name.startswith("queue"))
