"""What a job writes, as frozen values, and their form in bytes.

Every record is one encoded mapping with its kind and format version, so that a reader of another version says so
instead of guessing. Times are seconds since the epoch, sizes are bytes, indices start at 0.
"""

from __future__ import annotations

import os
import re
import resource
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar, Self

from ._storage import CorruptObject, Slice, decode, digest, encode
from .errors import JobCancelled, JobFailed
from .keys import checked_digest, checked_id

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
    def from_bytes(cls, data: bytes, *, key: str) -> Self:
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
    if isinstance(value, Handle | ChunkPlace):
        return value.to_row()
    if isinstance(value, Failure):
        return {entry.name: getattr(value, entry.name) for entry in fields(value)}
    if isinstance(value, StrEnum):
        return value.value
    raise TypeError(f"{type(value).__name__} is no part of a record")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step did not give a value.

    Attributes:
        step: `setup`, `process`, `join` or `job`.
        error: Name of the exception's type.
        reason: Its message.
        traceback_text: The worker's traceback, credentials removed.
        chunk: Index of the chunk, for process.
        item: Index of the item over the whole job, where known.
        tries: How often the step was tried.
    """

    step: str
    error: str
    reason: str
    traceback_text: str = ""
    chunk: int | None = None
    item: int | None = None
    tries: int = 1

    @classmethod
    def of(
        cls,
        step: str,
        error: BaseException,
        *,
        chunk: int | None = None,
        item: int | None = None,
        tries: int = 1,
    ) -> Failure:
        text = "".join(traceback.format_exception(error))
        return cls(step, type(error).__name__, redacted(str(error)), redacted(text), chunk, item, tries)

    def to_error(self, job_id: str, task: str, kind: type[JobFailed] = JobFailed) -> JobFailed:
        """The error that says so to a caller."""
        reason = f"{self.error}: {self.reason}" if self.step != "job" else self.reason
        return kind(job_id, task, self.step, reason, self.chunk, self.item, self.tries, self.traceback_text)

    @classmethod
    def read(cls, body: dict[str, Any] | Failure | None) -> Failure | None:
        """The failure inside a record, which lies there as a mapping."""
        return cls(**body) if isinstance(body, dict) else body


_SECRETS = (
    re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"),
    re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    re.compile(r"(?i)(?<=secret_access_key)(\W+)[A-Za-z0-9/+=]{16,}"),
    re.compile(r"(?<=X-Amz-Signature=)[0-9a-fA-F]+"),
)


def redacted(text: str) -> str:
    """`text` without what looks like a credential."""
    for pattern in _SECRETS:
        text = pattern.sub("***", text)
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent(Record):
    """That a job is to be, written once by whoever launches it.

    Attributes:
        task: Name of the task.
        inline: The small parameters, encoded.
        references: Name of each larger parameter -> digest under which it lies in the store.
        streams: Names of the parameters that the caller streams; then setup runs in the caller.
        receives: Name of the parameter that the step before it in a chain supplies, if any.
        not_before: When setup is to start at the earliest; None for at once.
        expires_at: When it no longer makes sense to start; None for never.
        launch: The engine's own form of the message that starts setup, so that a sweep can send it again.
    """

    kind: ClassVar[str] = "intent"
    task: str
    inline: bytes
    references: dict[str, str]
    options: dict[str, Any]
    created_at: float
    deadline_at: float | None = None
    streams: tuple[str, ...] = ()
    receives: str | None = None
    not_before: float | None = None
    expires_at: float | None = None
    launch: str | None = None


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """Where a chunk lies and which items it holds."""

    piece: Slice
    first_item: int
    items: int

    def to_row(self) -> list[Any]:
        piece = self.piece
        return [piece.pack, piece.offset, piece.length, piece.digest, self.first_item, self.items]

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> ChunkPlace:
        pack, offset, length, content, first_item, items = row
        for number in (pack, offset, length, first_item, items):
            if type(number) is not int or number < 0:
                raise ValueError(f"{number!r:.80} is not an index or a size")
        return cls(Slice(pack, offset, length, checked_digest(content)), first_item, items)


@dataclass(frozen=True, slots=True)
class Handle:
    """All that a message says to a process worker. No data, and nothing that names another job's objects.

    Attributes:
        job_id: The job.
        attempt: The setup attempt that wrote the chunk.
        chunk: The chunk's index.
        place: Where its input lies.
        tries: Tries already on record when this message was sent; 0 for a first message.
        nudged: Whether a sweep sent it, on the suspicion that an earlier message was lost.
    """

    job_id: str
    attempt: str
    chunk: int
    place: ChunkPlace
    tries: int = 0
    nudged: bool = False

    def to_row(self) -> list[Any]:
        return [self.job_id, self.attempt, self.chunk, *self.place.to_row(), self.tries, int(self.nudged)]

    @classmethod
    def from_row(cls, row: object) -> Handle:
        """The handle in a message; every field is checked, for a message may be forged.

        Raises:
            ValueError: It is no handle.
        """
        if not isinstance(row, list | tuple) or len(row) != 11:
            raise ValueError(f"a handle has 11 fields, not {row!r:.80}")
        job_id, attempt, chunk, *place, tries, nudged = row
        if type(chunk) is not int or chunk < 0 or type(tries) is not int or tries < 0:
            raise ValueError(f"chunk {chunk!r:.80} or tries {tries!r:.80} is not an index")
        if nudged not in (0, 1):
            raise ValueError(f"nudged is {nudged!r:.80}, not 0 or 1")
        return cls(
            checked_id(job_id, what="job id"),
            checked_id(attempt, what="attempt"),
            chunk,
            ChunkPlace.from_row(place),
            tries,
            bool(nudged),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexShard(Record):
    """The places of up to `keys.SHARD_WIDTH` consecutive chunks."""

    kind: ClassVar[str] = "index"
    first_chunk: int
    rows: list[Any]

    @property
    def places(self) -> list[ChunkPlace]:
        return [ChunkPlace.from_row(row) for row in self.rows]


@dataclass(frozen=True, slots=True)
class Effort:
    """What a step cost: when, where and how much memory.

    Attributes:
        started_at: When it began.
        ended_at: When its last byte was on the way.
        peak_bytes: The process's largest resident size so far.
        worker: `host:pid`.
    """

    started_at: float
    ended_at: float
    peak_bytes: int
    worker: str

    @classmethod
    def since(cls, started_at: float) -> Effort:
        unit = 1 if sys.platform == "darwin" else 1024
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return cls(started_at, time.time(), peak_bytes, f"{socket.gethostname()}:{os.getpid()}")

    def to_row(self) -> list[Any]:
        return [self.started_at, self.ended_at, self.peak_bytes, self.worker]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Record):
    """What complete means: which attempt of setup counts, and how much it made. Setup writes it last, once.

    Attributes:
        attempt: The attempt that counts.
        chunks: Number of chunks.
        items: Number of items.
        input_bytes: Size of all chunks, encoded.
        shards: Digest of each index object, in order.
        effort: Row of setup's `Effort`.
    """

    kind: ClassVar[str] = "manifest"
    attempt: str
    chunks: int
    items: int
    input_bytes: int
    shards: list[str]
    effort: list[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkResult(Record):
    """The results of a chunk's items in item order, or why there are none. Written once.

    Attributes:
        chunk: The chunk's index.
        first_item: Index of its first item over the whole job.
        items: How many it has.
        values: The encoded list of the results; empty when it failed.
        failure: The failure, as a mapping; None when it succeeded.
        effort: Row of the `Effort`.
    """

    kind: ClassVar[str] = "result"
    chunk: int
    first_item: int
    items: int
    values: bytes
    effort: list[Any]
    failure: dict[str, Any] | Failure | None = None

    @property
    def failed(self) -> Failure | None:
        return Failure.read(self.failure)

    def content_digest(self) -> str:
        """Digest of what the chunk gave, without when and where: equal for two runs that agree."""
        return digest(self.values)


class TryState(StrEnum):
    """What is known of a try that gave no result."""

    STARTED = "started"
    LOST = "lost"
    RAISED = "raised"


@dataclass(frozen=True, slots=True, kw_only=True)
class Try(Record):
    """One try of a step that has given no result: it raised, its worker was lost, or it may still be running.

    Attributes:
        state: One of `TryState`.
        at: When this was written.
        failure: The failure, as a mapping, if it raised.
    """

    kind: ClassVar[str] = "try"
    state: str
    at: float
    failure: dict[str, Any] | Failure | None = None

    @property
    def failed(self) -> Failure | None:
        return Failure.read(self.failure)


class Ending(StrEnum):
    """How a job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Record):
    """How a job ended. Written once; whatever comes later finds it and does nothing.

    Attributes:
        ending: One of `Ending`.
        task: Name of the task.
        value: The encoded value, if it is small.
        value_digest: Else the digest under which it lies in the store.
        failure: The failure, as a mapping, if there is no value.
        effort: Row of the join's `Effort`.
    """

    kind: ClassVar[str] = "outcome"
    ending: str
    task: str
    effort: list[Any]
    value: bytes | None = None
    value_digest: str | None = None
    failure: dict[str, Any] | Failure | None = None

    def error(self, job_id: str) -> JobFailed:
        """The error that a caller of this job gets."""
        failed = Failure.read(self.failure)
        if failed is None:
            raise ValueError(f"job {job_id} has a value, not an error")
        return failed.to_error(job_id, self.task, JobCancelled if self.ending == Ending.CANCELLED else JobFailed)


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
