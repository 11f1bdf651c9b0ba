"""The results of a batch of chunks in one object, and the objects that hold the results of a job."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from storage import digest

from .record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult(Record):
    """The fate of a batch of several chunks: the results of all of them, or of the first few. Written once.

    No item of these chunks failed. Later chunks were shared out: consecutive parts of them have messages and objects of
    their own, and are batches or single chunks again.

    Attributes:
        chunk: Index of the first chunk.
        done: Number of the first chunks, whose results are in here.
        values: The encoded list of the results of each of them, in chunk order, as in a `ChunkResult`. In a job with
            `combine` a batch that is whole has one list, of the one value of all chunks.
        stats: Row of the run's `RunStats`.
        parts: Number of chunks of each part that the other chunks were shared out into, in chunk order.
        begun: Whether the run that wrote this was at the first of these chunks, which is then a part of its own. The
            run goes on with it, and no message was sent for it.
        by: Token of that run.
    """

    kind: ClassVar[str] = "batch"
    chunk: int
    done: int
    values: list[bytes]
    stats: list[Any]
    parts: list[int] = field(default_factory=list)
    begun: bool = False
    by: str = ""

    def content_digest(self) -> str:
        """Return the digest of the values alone. It is equal for two runs that gave the same values."""
        return digest(b"".join(self.values))


@dataclass(frozen=True, slots=True)
class Share:
    """How a batch was shared out, which never changes.

    Attributes:
        done: Number of its first chunks whose results are in its object.
        parts: Number of chunks of each part of the others.
    """

    done: int
    parts: tuple[int, ...]

    @classmethod
    def of(cls, result: BatchResult) -> Share:
        """Return the share in a batch's object. A batch that was not shared out has no parts."""
        return cls(result.done, tuple(result.parts))


@dataclass(frozen=True, slots=True)
class ResultEntry:
    """An object that holds results of consecutive chunks, or one node of combined results.

    Attributes:
        index: Index of the first chunk, or of the node.
        count: Number of chunks whose results it holds.
        width: Number of chunks in its key: more than one for a batch.
        failed: Number of failed items; 0 for a batch.
    """

    index: int
    count: int = 1
    width: int = 1
    failed: int = 0

    @property
    def combined_values(self) -> int:
        """Number of values that it holds in a job with `combine`, if no item failed."""
        return 1 if self.count == self.width else self.count


@dataclass(frozen=True, slots=True)
class ResultPage:
    """The objects with results that one request listed.

    Attributes:
        entries: The objects, ascending.
        next_chunk: The chunk with which the next page begins; None if this page ends the listing.
    """

    entries: tuple[ResultEntry, ...]
    next_chunk: int | None


class Landed:
    """The chunks that have a result, or the nodes that exist on a level.

    Memory: about 100 bytes for each object, whatever number of chunks it holds.

    Args:
        entries: The objects, ascending.

    Attributes:
        entries: The objects, ascending.
        failed: Index of each chunk or node with failed items -> their number.
    """

    def __init__(self, entries: Iterable[ResultEntry] = ()) -> None:
        self.entries: Sequence[ResultEntry] = tuple(entries)
        self.failed = {entry.index: entry.failed for entry in self.entries if entry.failed}
        self._starts = [entry.index for entry in self.entries]

    def __len__(self) -> int:
        """Return the number of chunks or nodes."""
        return sum(entry.count for entry in self.entries)

    def __contains__(self, index: int) -> bool:
        position = bisect_right(self._starts, index) - 1
        return position >= 0 and index < self._starts[position] + self.entries[position].count

    @property
    def failed_count(self) -> int:
        """Number of failed items."""
        return sum(self.failed.values())

    def missing(self, count: int) -> array[int]:
        """Return the indices below `count` that are not here, ascending. Memory: four bytes for each."""
        missing = array("I")
        following = 0
        for entry in self.entries:
            missing.extend(range(following, entry.index))
            following = entry.index + entry.count
        missing.extend(range(following, count))
        return missing
