"""The records of a job, as frozen values. Times are seconds since the epoch, sizes are bytes, indices start at 0."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from storage import digest

from ..errors import JobCancelled, JobFailed
from .chunk_ref import ChunkLocation
from .failure import FailedItem, Failure, check_failures
from .ids import check_id
from .keys import MOST_CHUNKS
from .record import Record

LISTED_FAILURES = 1_000
"""Most failed items that an outcome lists. It counts them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent(Record):
    """A job to run. Its caller writes it once, to launch the job.

    Attributes:
        launch_id: Id of this launch, unique also among launches of the same job id.
        task: Name of the task.
        inline: The small parameters, encoded.
        references: Name of each larger parameter -> its digest, which gives its key in the store.
        options: The job's options, by name.
        created_at: When the caller wrote this.
        deadline_at: When the job fails if it has not ended; None for never.
        caller_parameters: Names of the parameters that only the caller has, above all streams. If there are any, setup
            runs in the caller.
        receives: Name of the parameter that the task before it in a chain supplies, if any.
        not_before: Earliest start of setup; None for at once.
        expires_at: When the message of setup expires; None for never.
        launch: The engine's own form of the message that starts setup, for a sweep to resend.
        combines: Whether the task has a `combine`. A sweep reads it here, because it may not know the task.
        routing: The engine's own options for every message of the job, such as queue and priority.
        tags: Names and values by which the job is found again; see `tags`.
        trace: The span of the launch as W3C's `traceparent`; empty for the trace of the job's id.
    """

    kind: ClassVar[str] = "intent"
    added: ClassVar[frozenset[str]] = frozenset({"trace"})
    launch_id: str
    task: str
    inline: bytes
    references: dict[str, str]
    options: dict[str, Any]
    created_at: float
    deadline_at: float | None = None
    caller_parameters: tuple[str, ...] = ()
    receives: str | None = None
    not_before: float | None = None
    expires_at: float | None = None
    launch: str | None = None
    combines: bool = False
    routing: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    trace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexShard(Record):
    """The locations of up to `keys.SHARD_WIDTH` consecutive chunks.

    Attributes:
        first_chunk: Index of the first of them.
        rows: The locations of the batches that setup made of them, as rows.
    """

    kind: ClassVar[str] = "index"
    first_chunk: int
    rows: list[Any]

    @property
    def batches(self) -> dict[int, ChunkLocation]:
        """Index of each batch's first chunk -> its location, in chunk order."""
        locations: dict[int, ChunkLocation] = {}
        chunk = self.first_chunk
        for row in self.rows:
            location = ChunkLocation.from_row(row)
            locations[chunk] = location
            chunk += len(location.sizes)
        return locations

    def check(self) -> None:
        """Check the rows."""
        _ = self.batches


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Record):
    """The run of setup that counts, and how much it made. Setup writes it last, once.

    Attributes:
        setup_id: Id of that run.
        chunks: Number of chunks.
        items: Number of items.
        input_bytes: Size of all chunks, encoded.
        shards: Digest of each index shard, in order; none if `rows` holds the locations.
        stats: Row of setup's `RunStats`.
        rows: The batches' locations, as rows, if there are fewer chunks than `keys.INDEXED_CHUNKS`.
    """

    kind: ClassVar[str] = "manifest"
    setup_id: str
    chunks: int
    items: int
    input_bytes: int
    shards: list[str]
    stats: list[Any]
    rows: list[Any] = field(default_factory=list)

    def check(self) -> None:
        """Check the ids and rows, and that no reader makes room for more chunks than a job may have."""
        check_id(self.setup_id, what="setup id")
        if self.chunks > MOST_CHUNKS:
            raise ValueError(f"chunks is {self.chunks}, and a job has at most {MOST_CHUNKS}")
        _ = IndexShard(first_chunk=0, rows=self.rows).batches


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkResult(Record):
    """The results of a chunk: one per item, or one combined value, or a failure. Written once.

    Attributes:
        chunk: The chunk's index.
        first_item: Index of its first item over the whole job.
        items: Number of its items.
        values: The encoded list of the results, in item order, with None for a failed item; empty if the chunk failed.
            In a job with `combine` a list of one value, or of none if all items failed.
        stats: Row of the run's `RunStats`.
        failure: The failure of the whole chunk, as a mapping; else None.
        failures: The failed items of a chunk whose other items have results, as mappings.
        traceback_text: The worker's traceback for the first of these failed items.
        combined: Whether `values` is combined.
    """

    kind: ClassVar[str] = "result"
    chunk: int
    first_item: int
    items: int
    values: bytes
    stats: list[Any]
    failure: dict[str, Any] | Failure | None = None
    failures: list[Any] = field(default_factory=list)
    traceback_text: str = ""
    combined: bool = False

    def check(self) -> None:
        """Check the failures."""
        check_failures(self.failure, self.failures)

    @property
    def failed(self) -> Failure | None:
        """The failure of the whole chunk, if it failed."""
        return Failure.read(self.failure)

    @property
    def failed_count(self) -> int:
        """Number of its items without a result."""
        return self.items if self.failure is not None else len(self.failures)

    @property
    def failed_items(self) -> list[FailedItem]:
        """The items without a result, in item order."""
        failure = self.failed
        if failure is None:
            return [entry if isinstance(entry, FailedItem) else FailedItem(**entry) for entry in self.failures]
        return [FailedItem.of(failure, item=self.first_item + offset) for offset in range(self.items)]

    def content_digest(self) -> str:
        """Return the digest of the values alone. It is equal for two runs that gave the same values."""
        return digest(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node(Record):
    """The combined results of consecutive chunks: a node of the tree between the chunks and join. Written once.

    Attributes:
        level: Its level above the chunks. Level 1 combines results of chunks, level 2 combines nodes of level 1.
        index: Its index on the level.
        failed: Number of failed items below it.
        values: The encoded list of the one value, or of none if all items below it failed.
        stats: Row of the run's `RunStats`.
    """

    kind: ClassVar[str] = "node"
    level: int
    index: int
    failed: int
    values: bytes
    stats: list[Any]

    def content_digest(self) -> str:
        """Return the digest of the value alone. It is equal for two runs that gave the same value."""
        return digest(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation(Record):
    """The start of a generation: one retry of a job that has ended. The caller that retries writes it once.

    Attributes:
        by: Token of its writer.
        at: When it was written.
        options: The job's options in this generation.
        deadline_at: When the generation fails if it has not ended; None for never.
    """

    kind: ClassVar[str] = "generation"
    by: str
    at: float
    options: dict[str, Any]
    deadline_at: float | None = None


class OutcomeStatus(StrEnum):
    """How a job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Record):
    """How a job ended. Written once; a worker that finds it does no more work for the job.

    Attributes:
        status: One of `OutcomeStatus`.
        task: Name of the task.
        value: The encoded value, if it is small.
        value_digest: Else its digest, which gives the key of the object that holds it.
        failure: The failure, as a mapping, if there is no value.
        stats: Row of the join's `RunStats`.
        failed: Number of failed items, in a job that tolerates failures.
        failures: The first of them, at most `LISTED_FAILURES`, as mappings.
    """

    kind: ClassVar[str] = "outcome"
    status: str
    task: str
    stats: list[Any]
    value: bytes | None = None
    value_digest: str | None = None
    failure: dict[str, Any] | Failure | None = None
    failed: int = 0
    failures: list[Any] = field(default_factory=list)

    def check(self) -> None:
        """Check the failures."""
        check_failures(self.failure, self.failures)

    @property
    def final(self) -> bool:
        """Whether there is nothing to retry, so that no other generation can follow."""
        return self.status == OutcomeStatus.SUCCEEDED and not self.failed

    @property
    def failed_items(self) -> list[FailedItem]:
        """The listed failed items."""
        return [entry if isinstance(entry, FailedItem) else FailedItem(**entry) for entry in self.failures]

    def error(self, job_id: str) -> JobFailed:
        """Return the error that a caller of this job gets.

        Raises:
            ValueError: The job has a value.
        """
        failed = Failure.read(self.failure)
        if failed is None:
            raise ValueError(f"job {job_id} has a value, not an error")
        return failed.to_error(job_id, self.task, JobCancelled if self.status == OutcomeStatus.CANCELLED else JobFailed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note(Record):
    """A record that says no more than its key: a claim, heartbeat, resend or delivery, or that chunks are shared out.

    Attributes:
        by: Token of its writer.
        message: Id of the message for which it was written, in a claim; empty if unknown.
        at: When it was written.
        text: In a heartbeat, what the step says to the watchers of its job; empty for nothing.
    """

    kind: ClassVar[str] = "note"
    added: ClassVar[frozenset[str]] = frozenset({"text"})
    by: str
    message: str = ""
    at: float = field(default_factory=time.time)
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedSink(Record):
    """A sink to which a step has begun to write, so that the removal of the job finds what it has staged there.

    Attributes:
        url: The sink's URL.
        endpoint: Name of its endpoint; None for the one of the environment.
    """

    kind: ClassVar[str] = "sink"
    url: str
    endpoint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation(Record):
    """The engine's message to send after the join, in the engine's own form. Setup writes it once.

    Attributes:
        message: The serialised message.
    """

    kind: ClassVar[str] = "continuation"
    message: str
