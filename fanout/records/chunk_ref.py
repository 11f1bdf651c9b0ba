"""What a message says of a chunk: where it lies, and never what is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from storage import Slice

from .keys import checked_digest, checked_id


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
        launch_id: Which launch of that id it belongs to.
        attempt: The setup attempt that wrote the chunk.
        chunk: The chunk's index.
        place: Where its input lies.
        tries: Number of the last try that was on record when this message was sent; 0 for a first message.
        nudged: Whether a sweep sent it, on the suspicion that an earlier message was lost.
        round: The round of the job that it belongs to: 0, and one more for each retry.
    """

    job_id: str
    launch_id: str
    attempt: str
    chunk: int
    place: ChunkPlace
    tries: int = 0
    nudged: bool = False
    round: int = 0

    def to_row(self) -> list[Any]:
        """The form in a message. A field that is added comes last, and is left out where it says nothing."""
        row = [
            self.job_id,
            self.launch_id,
            self.attempt,
            self.chunk,
            *self.place.to_row(),
            self.tries,
            int(self.nudged),
        ]
        return [*row, self.round] if self.round else row

    @classmethod
    def from_row(cls, row: object) -> Handle:
        """The handle in a message; every field is checked, for a message may be forged.

        Raises:
            ValueError: It is no handle.
        """
        if not isinstance(row, list | tuple) or len(row) not in (12, 13):
            raise ValueError(f"a handle has 12 or 13 fields, not {row!r:.80}")
        job_id, launch_id, attempt, chunk, *place, tries, nudged = row[:12]
        round = row[12] if len(row) > 12 else 0
        for name, number in (("chunk", chunk), ("tries", tries), ("round", round)):
            if type(number) is not int or number < 0:
                raise ValueError(f"{name} {number!r:.80} is not an index")
        if nudged not in (0, 1):
            raise ValueError(f"nudged is {nudged!r:.80}, not 0 or 1")
        return cls(
            checked_id(job_id, what="job id"),
            checked_id(launch_id, what="launch id"),
            checked_id(attempt, what="attempt"),
            chunk,
            ChunkPlace.from_row(place),
            tries,
            bool(nudged),
            round,
        )
