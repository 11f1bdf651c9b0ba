"""What a job writes, as frozen values, and their form in bytes.

Every record is one encoded mapping with its kind and format version, so that a reader of another version says so
instead of guessing. Times are seconds since the epoch, sizes are bytes, indices start at 0.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar, Self

from storage import Content, CorruptObject, decode, digest, encode

from ..errors import JobCancelled, JobFailed
from .chunk_ref import ChunkLocation
from .failure import FailedItem, Failure

LISTED_FAILURES = 1_000
"""Failed items that an outcome lists; it counts them all."""

FORMAT = 1
"""Version of the records. A reader refuses what a newer one wrote."""


class Record:
    """A frozen value that lies in the store as one object."""

    __slots__ = ()
    kind: ClassVar[str]

    def to_bytes(self) -> bytes:
        body = {entry.name: getattr(self, entry.name) for entry in fields(self)}  # type: ignore[arg-type]
        return encode({"record": self.kind, "format": FORMAT, **body}, path=self.kind, default=_plain)

    @classmethod
    def from_bytes(cls, data: Content, *, key: str) -> Self:
        """The record that `data` holds.

        Raises:
            CorruptObject: It is no such record, or a newer fanout wrote it. Names `key`.
        """
        body = decode(data, key=key)
        if not isinstance(body, dict) or body.pop("record", None) != cls.kind:
            raise CorruptObject(f"{key} is no {cls.kind} record of fanout", key=key)
        version = body.pop("format", None)
        if version != FORMAT:
            raise CorruptObject(
                f"{key} has record format {version!r}, this fanout reads {FORMAT}: corrupt, or upgrade fanout",
                key=key,
            )
        try:
            return cls(**body)
        except TypeError as error:
            raise CorruptObject(f"{key} lacks fields of a {cls.kind} record: {error}", key=key) from error


def _plain(value: object) -> object:
    """The form of the values that stand inside a record."""
    if isinstance(value, ChunkLocation):
        return value.to_row()
    if isinstance(value, Failure):
        return {entry.name: getattr(value, entry.name) for entry in fields(value)}
    if isinstance(value, FailedItem):
        return value.to_dict()
    if isinstance(value, StrEnum):
        return value.value
    raise TypeError(f"{type(value).__name__} is no part of a record")


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent(Record):
    """That a job is to be, written once by whoever launches it.

    Attributes:
        launch_id: Tells this launch from every other one, also from those under the same job id.
        task: Name of the task.
        inline: The small parameters, encoded.
        references: Name of each larger parameter -> digest under which it lies in the store.
        caller_parameters: Names of the parameters that only the caller has: what it streams, above all. Setup runs
            there.
        receives: Name of the parameter that the step before it in a chain supplies, if any.
        not_before: When setup is to start at the earliest; None for at once.
        expires_at: When it no longer makes sense to start; None for never.
        launch: The engine's own form of the message that starts setup, so that a sweep can send it again.
        combines: Whether the task has a `combine`, so that whoever moves the job need not know the task.
        routing: The engine's own options of every message of the job: a queue, a priority.
    """

    kind: ClassVar[str] = "intent"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexShard(Record):
    """The places of up to `keys.SHARD_WIDTH` consecutive chunks."""

    kind: ClassVar[str] = "index"
    first_chunk: int
    rows: list[Any]

    @property
    def locations(self) -> list[ChunkLocation]:
        return [ChunkLocation.from_row(row) for row in self.rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Record):
    """What complete means: which attempt of setup counts, and how much it made. Setup writes it last, once.

    Attributes:
        setup_id: The attempt that counts.
        chunks: Number of chunks.
        items: Number of items.
        input_bytes: Size of all chunks, encoded.
        shards: Digest of each index object, in order; none if the places of the chunks stand here.
        stats: Row of setup's `RunStats`.
        rows: The places of the chunks, if there are few.
    """

    kind: ClassVar[str] = "manifest"
    setup_id: str
    chunks: int
    items: int
    input_bytes: int
    shards: list[str]
    stats: list[Any]
    rows: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkResult(Record):
    """The results of a chunk's items in item order, or combined, or why there are none. Written once.

    Attributes:
        chunk: The chunk's index.
        first_item: Index of its first item over the whole job.
        items: How many it has.
        values: The encoded list of the results; empty when it failed. In a job with `combine` a list of one value, or
            of none if all items failed.
        stats: Row of the `RunStats`.
        failure: Why all of them failed, as a mapping; else None.
        failures: The items that failed while the others have results, as mappings; None stands in their places.
        traceback_text: The worker's traceback for the first of these.
        combined: Whether the results are combined.
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

    @property
    def failed(self) -> Failure | None:
        return Failure.read(self.failure)

    @property
    def failed_count(self) -> int:
        """How many of its items have no result."""
        return self.items if self.failure is not None else len(self.failures)

    @property
    def failed_items(self) -> list[FailedItem]:
        """A mark for each item without a result, in item order."""
        failure = self.failed
        if failure is None:
            return [mark if isinstance(mark, FailedItem) else FailedItem(**mark) for mark in self.failures]
        return [FailedItem.of(failure, item=self.first_item + place) for place in range(self.items)]

    def content_digest(self) -> str:
        """Digest of what the chunk gave, without when and where: equal for two runs that agree."""
        return digest(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node(Record):
    """The results of consecutive chunks, combined: a node of the tree between the chunks and join. Written once.

    Attributes:
        level: How far it is above the chunks: 1 combines results of chunks, 2 combines nodes of level 1.
        index: Its place on the level.
        failed: Items below it that failed.
        values: The encoded list of the one value; of none if all items below it failed.
        stats: Row of the `RunStats`.
    """

    kind: ClassVar[str] = "node"
    level: int
    index: int
    failed: int
    values: bytes
    stats: list[Any]

    def content_digest(self) -> str:
        """Digest of the value, without when and where: equal for two runs that agree."""
        return digest(self.values)


class AttemptState(StrEnum):
    """What is known of a try that gave no result."""

    STARTED = "started"
    LOST = "lost"
    RAISED = "raised"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt(Record):
    """One try of a step that has given no result: it raised, its worker was lost, or it may still be running.

    Attributes:
        state: One of `AttemptState`.
        at: When this was written.
        failure: The failure, as a mapping, if it raised.
        by: Who began it, where that matters: for a node of combined results, the chunk whose message it was.
    """

    kind: ClassVar[str] = "try"
    state: str
    at: float
    failure: dict[str, Any] | Failure | None = None
    by: str = ""

    @property
    def failed(self) -> Failure | None:
        return Failure.read(self.failure)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation(Record):
    """That a job which has ended is run once more. Written once by whoever retries it, and so starts the round.

    Attributes:
        by: Who wrote it: a token that tells two writers apart.
        at: When.
        options: The job's options from now on.
        deadline_at: When the round fails if it has not ended; None for never.
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
    """How a job ended. Written once; whatever comes later finds it and does nothing.

    Attributes:
        status: One of `OutcomeStatus`.
        task: Name of the task.
        value: The encoded value, if it is small.
        value_digest: Else the digest under which it lies in the store.
        failure: The failure, as a mapping, if there is no value.
        stats: Row of the join's `RunStats`.
        failed: How many items failed, in a job that tolerates it.
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

    @property
    def final(self) -> bool:
        """Whether nothing is left to retry, so that no other round can follow."""
        return self.status == OutcomeStatus.SUCCEEDED and not self.failed

    @property
    def failed_items(self) -> list[FailedItem]:
        """The listed failures."""
        return [entry if isinstance(entry, FailedItem) else FailedItem(**entry) for entry in self.failures]

    def error(self, job_id: str) -> JobFailed:
        """The error that a caller of this job gets."""
        failed = Failure.read(self.failure)
        if failed is None:
            raise ValueError(f"job {job_id} has a value, not an error")
        return failed.to_error(job_id, self.task, JobCancelled if self.status == OutcomeStatus.CANCELLED else JobFailed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note(Record):
    """A mark whose being there is the message: a full group, a claim, a beat, a nudge, a delivery.

    Attributes:
        by: Who wrote it: a token that tells two writers apart.
        at: When.
    """

    kind: ClassVar[str] = "note"
    by: str
    at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation(Record):
    """What the engine does after the join: its own serialised form of the next message. Written once, by setup."""

    kind: ClassVar[str] = "continuation"
    message: str
