"""What a job cost: chunks, bytes, time a stage, memory; read from its records after it has ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .job import Job, JobState
from .records.run_stats import RunStats


@dataclass(frozen=True, slots=True)
class StageCost:
    """What one stage of a job cost.

    Attributes:
        runs: How often it ran to its end: 1, once a chunk, or once a node of combined results.
        wall_s: From the first start to the last end.
        busy_s: Sum of the times that each run took.
        peak_bytes: The largest resident size of a process that ran it.
        workers: Number of processes that ran it.
    """

    runs: int
    wall_s: float
    busy_s: float
    peak_bytes: int
    workers: int

    @classmethod
    def of(cls, stats: Iterable[RunStats]) -> StageCost:
        """The cost of a stage from the effort of each of its runs."""
        runs = list(stats)
        if not runs:
            return cls(0, 0.0, 0.0, 0, 0)
        return cls(
            runs=len(runs),
            wall_s=max(run.ended_at for run in runs) - min(run.started_at for run in runs),
            busy_s=sum(run.ended_at - run.started_at for run in runs),
            peak_bytes=max(run.peak_bytes for run in runs),
            workers=len({run.worker for run in runs}),
        )


@dataclass(frozen=True, slots=True)
class JobReport:
    """What a job cost.

    Attributes:
        state: How it stands.
        chunks: Number of chunks.
        items: Number of items.
        items_failed: How many of them failed.
        generation: How often the job was retried.
        input_bytes: Size of all chunks, encoded.
        stored_bytes: Size of everything that the store holds of the job.
        objects: Number of objects that the store holds of it.
        stages: Cost by stage, in the order in which they run; a stage that has not run has no runs. `combine` is what
            was combined above the chunks; within one it is part of `process`.
    """

    state: JobState
    chunks: int
    items: int
    items_failed: int
    generation: int
    input_bytes: int
    stored_bytes: int
    objects: int
    stages: dict[str, StageCost]

    @classmethod
    def of(cls, job: Job) -> JobReport:
        """Read a job's records: a listing of the job, and one request a chunk and a node.

        Raises:
            JobNotFound: The store has no such job.
        """
        progress = job.progress()
        manifest, outcome = job.manifest(), job.outcome()
        sizes = [found.size for found in job.objects()]
        return cls(
            state=progress.state,
            chunks=manifest.chunks if manifest else 0,
            items=manifest.items if manifest else 0,
            items_failed=progress.items_failed,
            generation=job.generation,
            input_bytes=manifest.input_bytes if manifest else 0,
            stored_bytes=sum(sizes),
            objects=len(sizes),
            stages={
                "setup": StageCost.of([RunStats(*manifest.stats)] if manifest else []),
                "process": StageCost.of(RunStats(*result.stats) for result in job.chunk_results()),
                "combine": StageCost.of(RunStats(*node.stats) for node in job.nodes()),
                "join": StageCost.of([RunStats(*outcome.stats)] if outcome else []),
            },
        )

    def lines(self) -> list[str]:
        """The report for a terminal."""
        lines = [
            f"state          {self.state}" + (f" in round {self.generation}" if self.generation else ""),
            f"chunks         {self.chunks:,} of {self.items:,} items"
            + (f", {self.items_failed:,} of which failed" if self.items_failed else ""),
            f"in the store   {readable(self.stored_bytes)} in {self.objects:,} objects "
            f"(input {readable(self.input_bytes)})",
        ]
        for name, cost in self.stages.items():
            if cost.runs:
                several = f", {cost.runs:,} runs of {cost.busy_s:.2f} s together in {cost.workers} processes"
                lines.append(
                    f"{name:<14} {cost.wall_s:.2f} s{several if cost.runs > 1 else ''}, "
                    f"at most {readable(cost.peak_bytes)} resident"
                )
        return lines


def readable(size_bytes: int) -> str:
    """A size for people, in powers of 1,000."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
