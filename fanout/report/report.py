"""The report of a job: where its time went, what it cost, and what to change."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from ..config.checks import check_kind
from ..prices import Prices
from ..progress import JobState, Progress
from ..records.failure import FailedItem, Failure
from ..records.run_stats import StoreUsage
from .advice import Advice, find_advice
from .costs import StageCost, cost_stages
from .critical_path import Segment, find_critical_path
from .measures import MESSAGE_BYTES, Straggler, WorkerFacts, find_stragglers, measure_workers, sum_usage
from .pricing import price_requests, price_storage, price_traffic
from .reading import Recorded
from .runs import ChunkSpan, Run, split_into_lanes
from .texts import describe_facts, describe_fields, summarize_as_html

CLOCKS_S = 1.0
"""Seconds by which the clocks of a caller and a worker may differ."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The report of a job, as its records tell of it. Times are seconds since the epoch, sizes are bytes.

    Attributes:
        job_id: The job.
        generation: Number of retries.
        progress: State, chunks and items.
        recorded: The records that it was made of. Their form may change from one version to the next.
        prices: The prices.
        read_at: When they were read.
    """

    job_id: str
    generation: int
    progress: Progress
    recorded: Recorded
    prices: Prices
    read_at: float

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.recorded.intent.task

    @property
    def state(self) -> JobState:
        """The job's state."""
        return self.progress.state

    @property
    def launched_at(self) -> float:
        """When the caller launched it."""
        return self.recorded.intent.created_at

    @property
    def ended_at(self) -> float | None:
        """When it ended; None if it has not."""
        return self.recorded.join.ended_at if self.recorded.join is not None else None

    @property
    def began_at(self) -> float:
        """When its latest generation began: at the launch, or at its retry."""
        return self.recorded.began_at

    @cached_property
    def wall_s(self) -> float:
        """Seconds from the begin of its latest generation to the end, or to now."""
        return max(0.0, (self.ended_at or self.read_at) - self.began_at)

    @property
    def stretch(self) -> str:
        """The time that `wall_s` is of, in words: `from launch to end`."""
        begin = f"retry {self.generation}" if self.generation else "launch"
        return f"from {begin} to {'end' if self.ended_at else 'now'}"

    @property
    def failure(self) -> Failure | None:
        """The failure that ended the job, if one did."""
        return Failure.read(self.recorded.outcome.failure) if self.recorded.outcome is not None else None

    @property
    def failed_items(self) -> list[FailedItem]:
        """The failed items, at most 1,000."""
        return self.recorded.outcome.failed_items if self.recorded.outcome is not None else []

    @cached_property
    def spans(self) -> Sequence[ChunkSpan]:
        """When the user's step ran on each chunk, in chunk order, in any generation."""
        return [span for run in self.recorded.runs for span in run.chunk_spans()]

    @cached_property
    def median_s(self) -> float:
        """Median of the seconds of a chunk; 0 if none is done."""
        return median(span.took_s for span in self.spans) if self.spans else 0.0

    @cached_property
    def runs(self) -> Sequence[Run]:
        """The runs of process in its latest generation, in chunk order. Others gave their results before."""
        return [run for run in self.recorded.runs if run.started_at >= self.began_at - CLOCKS_S]

    @cached_property
    def work_s(self) -> float:
        """Seconds of these chunks together."""
        return sum(span.took_s for run in self.runs for span in run.chunk_spans())

    @cached_property
    def fetched_s(self) -> float:
        """Seconds of these runs together in which they fetched parameters and items."""
        return sum(run.fetched_s for run in self.runs)

    @cached_property
    def stored_s(self) -> float:
        """Seconds of these runs together in which they wrote results, as far as that is known."""
        return sum(run.stored_s or 0.0 for run in self.runs)

    @cached_property
    def waited_s(self) -> float | None:
        """Median of the seconds that items lay in the store before their run began; None if no run knows them."""
        waited = [run.waited_s for run in self.runs if run.waited_s is not None]
        return median(waited) if waited else None

    @cached_property
    def lanes(self) -> Mapping[str, Sequence[Run]]:
        """Lane -> its runs of process and combine in the latest generation, by start.

        A lane is a process, or one of its threads where its runs overlap.
        """
        nodes = [run for run in self.recorded.nodes if run.started_at >= self.began_at - CLOCKS_S]
        return split_into_lanes([*self.runs, *nodes])

    @cached_property
    def process_s(self) -> float:
        """Seconds from the start of the first of these runs to the end of the last."""
        runs = self.runs
        return max(run.ended_at for run in runs) - min(run.started_at for run in runs) if runs else 0.0

    @property
    def ideal_s(self) -> float:
        """Seconds that the chunks would have taken if every lane had run user code all the time."""
        return self.work_s / len(self.lanes) if self.lanes else 0.0

    @property
    def efficiency(self) -> float | None:
        """Share of the job's time that the ideal would have taken, 0 to 1; None before the first result."""
        return min(1.0, self.ideal_s / self.wall_s) if self.spans and self.wall_s else None

    @cached_property
    def tail_s(self) -> float:
        """Seconds from the end of half of the lanes to the end of the last."""
        ends = [lane[-1].ended_at for lane in self.lanes.values()]
        return max(ends) - median(ends) if ends else 0.0

    @cached_property
    def stages(self) -> Mapping[str, StageCost]:
        """Stage -> cost, in any generation: `setup`, `process`, `combine` for the nodes above the chunks, `join`."""
        return cost_stages(self.recorded)

    @cached_property
    def workers(self) -> Sequence[WorkerFacts]:
        """The processes that ran a step, by name."""
        return measure_workers(self.recorded)

    @cached_property
    def stragglers(self) -> Sequence[Straggler]:
        """The chunks that took far longer than the others, the longest first."""
        return find_stragglers(self.runs, self.spans, wall_s=self.wall_s)

    @cached_property
    def critical_path(self) -> Sequence[Segment]:
        """The chain of waits and runs that the job's time consists of, in order."""
        return find_critical_path(self.recorded, self.lanes, self.ended_at or self.read_at)

    @cached_property
    def usage(self) -> StoreUsage | None:
        """The requests of all processes that ran a step; None if their versions of fanout did not count them.

        The requests of a process after its last record are missing, but for the write of that record. So are those of
        callers that wait, of sweeps, and for external objects.
        """
        return sum_usage(self.recorded)

    @property
    def messages(self) -> int:
        """Number of messages, computed from the records: of steps, shared parts, and attempts that raised."""
        recorded = self.recorded
        raised = recorded.attempts.by_state()["raised"]
        parts = recorded.early_parts + sum(run.parts for run in recorded.runs)
        return recorded.batches + parts + raised + 2

    @property
    def broker_bytes(self) -> int:
        """Bytes that these publish, at the size of a message in fanout's benchmarks; an estimate."""
        return self.messages * MESSAGE_BYTES

    @property
    def requests_dollars(self) -> float | None:
        """Price of the requests and their traffic; None if they were not counted."""
        usage = self.usage
        return None if usage is None else price_requests(self.prices, usage) + price_traffic(self.prices, usage)

    @property
    def workers_dollars(self) -> float:
        """Price of the workers, each from its first run to its last."""
        return sum(worker.span_s for worker in self.workers) / 3600 * self.prices.per_worker_hour

    @property
    def storage_dollars_month(self) -> float:
        """Price of keeping the job's objects for 30 days."""
        return price_storage(self.prices, self.recorded.stored_bytes, days=30)

    @cached_property
    def advice(self) -> Sequence[Advice]:
        """What to change, in words, each with the figure that it rests on."""
        return find_advice(self)

    def __str__(self) -> str:
        """Describe the job in lines, as a terminal shows them."""
        return "\n".join(self.lines())

    def __repr__(self) -> str:
        # The records hold values of the user's.
        return f"<Report of job {self.job_id}: {self.state}>"

    def facts(self) -> list[tuple[str, str]]:
        """Return the names and texts of its main figures, for people."""
        return describe_facts(self)

    def lines(self) -> list[str]:
        """Return its main figures and its advice for a terminal, a line each."""
        return [*(f"{name:<12} {text}" for name, text in self.facts()), *(f"- {advice}" for advice in self.advice)]

    def to_dict(self) -> dict[str, Any]:
        """Return its figures in types of JSON, for programs; of runs and spans only sums."""
        return describe_fields(self)

    def page(self) -> str:
        """Return it as one HTML page that works offline, with a timeline of every chunk.

        Raises:
            MissingPackage: Bokeh is not installed: `pip install 'fanout[report]'`.
        """
        from .page import make_page

        return make_page(self)

    def save(self, path: str | Path) -> Path:
        """Write the page to a file, and return its path.

        Raises:
            MissingPackage: Bokeh is not installed: `pip install 'fanout[report]'`.
            ConfigError: `path` is no path.
        """
        check_kind("path", path, (str, os.PathLike), expected="the path of the page")
        written = Path(path)
        written.write_text(self.page(), encoding="utf-8")
        return written

    def _repr_html_(self) -> str:
        """Return figures and advice for a notebook."""
        return summarize_as_html(self)
