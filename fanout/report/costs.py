"""What each step of a job cost: time, memory and processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..figures import format_count, format_size
from .reading import Recorded
from .runs import Run

if TYPE_CHECKING:
    from .report import Report


@dataclass(frozen=True, slots=True)
class StageCost:
    """The cost of one stage of a job.

    Attributes:
        runs: Number of completed runs: 1, one per chunk or batch, or one per node of combined results.
        wall_s: Seconds from the first start to the last end.
        busy_s: Sum of the seconds of all runs.
        peak_bytes: Largest resident size of a process that ran it.
        workers: Number of processes that ran it.
    """

    runs: int
    wall_s: float
    busy_s: float
    peak_bytes: int
    workers: int

    @classmethod
    def of(cls, runs: Iterable[Run | None]) -> StageCost:
        """Return the cost of a stage from its runs, of which those that are not there do not count."""
        found = [run for run in runs if run is not None]
        if not found:
            return cls(0, 0.0, 0.0, 0, 0)
        return cls(
            runs=len(found),
            wall_s=max(run.ended_at for run in found) - min(run.started_at for run in found),
            busy_s=sum(run.ended_at - run.started_at for run in found),
            peak_bytes=max(run.peak_bytes for run in found),
            workers=len({run.worker for run in found}),
        )


def cost_stages(recorded: Recorded) -> Mapping[str, StageCost]:
    """Return stage -> cost, in the order in which stages run. A stage that has not run has no runs."""
    return {
        "setup": StageCost.of([recorded.setup]),
        "process": StageCost.of(recorded.runs),
        "combine": StageCost.of(recorded.nodes),
        "join": StageCost.of([recorded.join]),
    }


def describe_costs(report: Report) -> list[tuple[str, str]]:
    """Return the names and texts of a job's size and of the cost of its stages, for people."""
    progress, manifest = report.progress, report.recorded.manifest
    failed = f", {progress.items_failed:,} of which failed" if progress.items_failed else ""
    sizes = f"{format_size(report.recorded.stored_bytes)} in {format_count(report.recorded.objects, 'object')}"
    facts = [
        ("state", str(progress.state) + (f" in generation {report.generation}" if report.generation else "")),
        ("chunks", f"{progress.chunks or 0:,} of {format_count(progress.items or 0, 'item')}{failed}"),
        ("in the store", f"{sizes} (input {format_size(manifest.input_bytes if manifest else 0)})"),
    ]
    for name, cost in report.stages.items():
        if cost.runs:
            total = f", {cost.runs:,} runs of {cost.busy_s:.2f} s together in {format_count(cost.workers, 'process')}"
            memory = f"at most {format_size(cost.peak_bytes)} resident"
            facts.append((name, f"{cost.wall_s:.2f} s{total if cost.runs > 1 else ''}, {memory}"))
    return facts
