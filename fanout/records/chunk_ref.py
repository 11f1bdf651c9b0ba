"""References to chunks, as messages carry them: the location of a chunk, never its items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from storage import Slice

from .keys import check_digest, check_id


@dataclass(frozen=True, slots=True)
class ChunkLocation:
    """The slice of a pack that holds a chunk, and the items in it.

    Attributes:
        slice_: The slice.
        first_item: Index of the chunk's first item over the whole job.
        items: Number of its items.
    """

    slice_: Slice
    first_item: int
    items: int

    def to_row(self) -> list[Any]:
        """Return the location's form in messages and records."""
        slice_ = self.slice_
        return [slice_.pack, slice_.offset, slice_.length, slice_.digest, self.first_item, self.items]

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> ChunkLocation:
        """Return the location in a row, with every field checked.

        Raises:
            ValueError: The row is no location.
        """
        pack, offset, length, content, first_item, items = row
        for number in (pack, offset, length, first_item, items):
            if type(number) is not int or number < 0:
                raise ValueError(f"{number!r:.80} is not an index or a size")
        return cls(Slice(pack, offset, length, check_digest(content)), first_item, items)


@dataclass(frozen=True, slots=True)
class ChunkRef:
    """A message's reference to one chunk. It carries no data and can't name an object of another job.

    Attributes:
        job_id: The job.
        launch_id: The launch of that job id.
        setup_id: The run of setup that wrote the chunk.
        chunk: The chunk's index.
        location: Where the chunk is stored.
        attempts: Number of the last attempt that was recorded when this message was sent; 0 in a first message.
        resent: Whether a sweep sent the message, because an earlier one seems lost.
        generation: The generation of the job: 0 at first, and one more for each retry.
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
        """Return the reference's form in a message.

        A field added later comes last, and a row leaves it out while it has its default.
        """
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
        """Return the reference in a row, with every field checked, because a message may be forged.

        Raises:
            ValueError: The row is no chunk ref.
        """
        if not isinstance(row, list | tuple) or len(row) not in (12, 13):
            raise ValueError(f"a chunk ref has 12 or 13 fields, not {row!r:.80}")
        job_id, launch_id, setup_id, chunk, *location, attempts, resent = row[:12]
        generation = row[12] if len(row) > 12 else 0
        for name, number in (("chunk", chunk), ("attempts", attempts), ("generation", generation)):
            if type(number) is not int or number < 0:
                raise ValueError(f"{name} {number!r:.80} is not an index")
        if resent not in (0, 1):
            raise ValueError(f"resent is {resent!r:.80}, not 0 or 1")
        return cls(
            check_id(job_id, what="job id"),
            check_id(launch_id, what="launch id"),
            check_id(setup_id, what="setup_id"),
            chunk,
            ChunkLocation.from_row(location),
            attempts,
            bool(resent),
            generation,
        )
