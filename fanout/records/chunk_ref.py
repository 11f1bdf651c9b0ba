"""What a message says of a chunk: where it lies, and never what is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from storage import Slice

from .keys import checked_digest, checked_id


@dataclass(frozen=True, slots=True)
class ChunkLocation:
    """Where a chunk lies and which items it holds."""

    slice_: Slice
    first_item: int
    items: int

    def to_row(self) -> list[Any]:
        slice_ = self.slice_
        return [slice_.pack, slice_.offset, slice_.length, slice_.digest, self.first_item, self.items]

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> ChunkLocation:
        pack, offset, length, content, first_item, items = row
        for number in (pack, offset, length, first_item, items):
            if type(number) is not int or number < 0:
                raise ValueError(f"{number!r:.80} is not an index or a size")
        return cls(Slice(pack, offset, length, checked_digest(content)), first_item, items)


@dataclass(frozen=True, slots=True)
class ChunkRef:
    """All that a message says to a process worker. No data, and nothing that names another job's objects.

    Attributes:
        job_id: The job.
        launch_id: Which launch of that id it belongs to.
        setup_id: The setup attempt that wrote the chunk.
        chunk: The chunk's index.
        location: Where its input lies.
        attempts: Number of the last try that was on record when this message was sent; 0 for a first message.
        resent: Whether a sweep sent it, on the suspicion that an earlier message was lost.
        generation: The round of the job that it belongs to: 0, and one more for each retry.
    """

    job_id: str
    launch_id: str
    setup_id: str
    chunk: int
    location: ChunkLocation
    attempts: int = 0
    resent: bool = False
    generation: int = 0

    def to_row(self) -> list[Any]:
        """The form in a message. A field that is added comes last, and is left out where it says nothing."""
        row = [
            self.job_id,
            self.launch_id,
            self.setup_id,
            self.chunk,
            *self.location.to_row(),
            self.attempts,
            int(self.resent),
        ]
        return [*row, self.generation] if self.generation else row

    @classmethod
    def from_row(cls, row: object) -> ChunkRef:
        """The handle in a message; every field is checked, for a message may be forged.

        Raises:
            ValueError: It is no handle.
        """
        if not isinstance(row, list | tuple) or len(row) not in (12, 13):
            raise ValueError(f"a handle has 12 or 13 fields, not {row!r:.80}")
        job_id, launch_id, setup_id, chunk, *location, attempts, resent = row[:12]
        generation = row[12] if len(row) > 12 else 0
        for name, number in (("chunk", chunk), ("attempts", attempts), ("generation", generation)):
            if type(number) is not int or number < 0:
                raise ValueError(f"{name} {number!r:.80} is not an index")
        if resent not in (0, 1):
            raise ValueError(f"nudged is {resent!r:.80}, not 0 or 1")
        return cls(
            checked_id(job_id, what="job id"),
            checked_id(launch_id, what="launch id"),
            checked_id(setup_id, what="setup_id"),
            chunk,
            ChunkLocation.from_row(location),
            attempts,
            bool(resent),
            generation,
        )
