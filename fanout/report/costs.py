"""The cost of a job, from its records: chunks, bytes, time per stage, memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..progress import JobState
from ..records.batch import BatchResult
from ..records.ledger import Ledger
from ..records.models import ChunkResult, Manifest, Node
from ..records.run_stats import RunStats
from .formats import format_size

if TYPE_CHECKING:
    from ..job import Job


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
    def of(cls, stats: Iterable[RunStats]) -> StageCost:
        """Return the cost of a stage from the stats of its runs."""
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
    """The cost of a job.

    Attributes:
        state: The job's state.
        chunks: Number of chunks.
        items: Number of items.
        items_failed: Number of failed items.
        generation: Number of retries.
        input_bytes: Size of all chunks, encoded.
        stored_bytes: Size of all objects of the job.
        objects: Number of objects of the job.
        stages: Stage -> cost, in the order in which stages run; a stage that has not run has no runs. `combine` counts
            the nodes above the chunks. Combining within a chunk is part of `process`.
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
    def of(cls, job: Job[Any]) -> JobReport:
        """Read a job's records. A listing of the job, a few requests, and one per chunk and per node.

        Raises:
            JobNotFound: The store has no such job.
        """
        progress = job.progress()
        manifest, outcome = job.ledger.manifest(), job.ledger.outcome()
        sizes = [info.size for info in job.ledger.objects()]
        nodes = _read_nodes(job.ledger, manifest.setup_id) if manifest else iter(())
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
                "process": StageCost.of(RunStats(*result.stats) for result in chunk_results(job, manifest)),
                "combine": StageCost.of(RunStats(*node.stats) for node in nodes),
                "join": StageCost.of([RunStats(*outcome.stats)] if outcome else []),
            },
        )

    def lines(self) -> list[str]:
        """Return the report for a terminal, a line per entry."""
        return [f"{name:<14} {text}" for name, text in self.facts()]

    def facts(self) -> list[tuple[str, str]]:
        """Return the names and texts of the report's entries, for people."""
        failed = f", {self.items_failed:,} of which failed" if self.items_failed else ""
        sizes = f"{format_size(self.stored_bytes)} in {self.objects:,} objects"
        facts = [
            ("state", str(self.state) + (f" in generation {self.generation}" if self.generation else "")),
            ("chunks", f"{self.chunks:,} of {self.items:,} items{failed}"),
            ("in the store", f"{sizes} (input {format_size(self.input_bytes)})"),
        ]
        for name, cost in self.stages.items():
            if cost.runs:
                total = f", {cost.runs:,} runs of {cost.busy_s:.2f} s together in {cost.workers} processes"
                memory = f"at most {format_size(cost.peak_bytes)} resident"
                facts.append((name, f"{cost.wall_s:.2f} s{total if cost.runs > 1 else ''}, {memory}"))
        return facts


def chunk_results(job: Job[Any], manifest: Manifest | None = None) -> Iterator[ChunkResult | BatchResult]:
    """Yield the records of the finished chunks and batches, in chunk order: times, memory, worker. One request each.

    Args:
        job: The job.
        manifest: Its manifest; if not given, it is read, for one request more.
    """
    ledger = job.ledger
    manifest = manifest or ledger.manifest()
    if manifest is None:
        return
    for entry in ledger.result_entries(manifest.setup_id):
        result: ChunkResult | BatchResult | None
        if entry.width > 1:
            result = ledger.batch_result(manifest.setup_id, entry.index, entry.width)
        else:
            result = ledger.result(manifest.setup_id, entry.index, entry.failed)
        if result is not None:
            yield result


def _read_nodes(ledger: Ledger, setup_id: str) -> Iterator[Node]:
    """Yield the records of the combined values above the chunks, by level. One request each."""
    for level, nodes in ledger.tree(setup_id).items():
        for entry in nodes.entries:
            node = ledger.node(setup_id, level, entry.index, entry.failed)
            if node is not None:
                yield node
