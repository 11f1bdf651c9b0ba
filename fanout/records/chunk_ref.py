"""References to chunks, as messages carry them: where a batch of chunks is stored, never its items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from storage import Slice

from .ids import check_digest, check_id
from .keys import GROUP_WIDTH


@dataclass(frozen=True, slots=True)
class ChunkLocation:
    """The location of a batch: of consecutive chunks whose items are encoded together in one slice of a pack.

    Attributes:
        slice_: The slice.
        first_item: Index of the batch's first item over the whole job.
        sizes: Number of items of each chunk.
        skip: Number of items in the slice before the batch, if it is a part of the batch that setup wrote.
    """

    slice_: Slice
    first_item: int
    sizes: tuple[int, ...]
    skip: int = 0

    @property
    def items(self) -> int:
        """Number of items."""
        return sum(self.sizes)

    def part(self, start: int, count: int) -> ChunkLocation:
        """Return the location of `count` of the chunks, from the one with that position in the batch."""
        before = sum(self.sizes[:start])
        return ChunkLocation(
            self.slice_, self.first_item + before, self.sizes[start : start + count], self.skip + before
        )

    def to_row(self) -> list[Any]:
        """Return the location's form in messages and records, but for `skip`.

        Its last field is the size of the only chunk, or a list of runs of equal sizes: size, number of chunks, size, …
        """
        slice_, sizes = self.slice_, self.sizes
        runs = [number for size, run in groupby(sizes) for number in (size, len(list(run)))]
        return [
            slice_.pack,
            slice_.offset,
            slice_.length,
            slice_.digest,
            self.first_item,
            runs if len(sizes) > 1 else sizes[0],
        ]

    @classmethod
    def from_row(cls, row: Sequence[Any], skip: object = 0) -> ChunkLocation:
        """Return the location in a row, with every field checked.

        Raises:
            ValueError: The row is no location.
        """
        pack, offset, length, content, first_item, sizes = row
        runs = [sizes, 1] if type(sizes) is int else sizes
        if not isinstance(runs, list | tuple) or len(runs) % 2 or not 2 <= len(runs) <= 2 * GROUP_WIDTH:
            raise ValueError(f"{sizes!r:.80} is neither a number of items nor runs of such numbers")
        for number in (pack, offset, length, first_item, skip, *runs):
            if type(number) is not int or number < 0:
                raise ValueError(f"{number!r:.80} is not an index or a size")
        if not 1 <= sum(runs[1::2]) <= GROUP_WIDTH:
            raise ValueError(f"a batch has 1 to {GROUP_WIDTH} chunks, not {sum(runs[1::2])}")
        spread = tuple(size for size, count in zip(runs[::2], runs[1::2], strict=True) for _ in range(count))
        assert isinstance(skip, int)
        return cls(Slice(pack, offset, length, check_digest(content)), first_item, spread, skip)


@dataclass(frozen=True, slots=True)
class ChunkRef:
    """A message's reference to a batch of chunks. It carries no data and can't name an object of another job.

    Attributes:
        job_id: The job.
        launch_id: The launch of that job id.
        setup_id: The run of setup that wrote the chunks.
        chunk: Index of the first chunk.
        location: Where the chunks are stored, and how many they are.
        attempts: Number of the last attempt that was recorded when this message was sent; 0 in a first message, and for
            a batch of several chunks, whose runs are not recorded.
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

    @property
    def count(self) -> int:
        """Number of chunks."""
        return len(self.location.sizes)

    @property
    def chunks(self) -> range:
        """The indices of the chunks."""
        return range(self.chunk, self.chunk + self.count)

    def part(self, start: int, count: int = 1) -> ChunkRef:
        """Return a reference to `count` of the chunks, from the one with that position in the batch."""
        return ChunkRef(
            self.job_id,
            self.launch_id,
            self.setup_id,
            self.chunk + start,
            self.location.part(start, count),
            resent=self.resent,
            generation=self.generation,
        )

    def parts(self, counts: Sequence[int], *, start: int = 0) -> Iterator[ChunkRef]:
        """Yield references to consecutive parts of the batch, of so many chunks each, from a position on."""
        for count in counts:
            yield self.part(start, count)
            start += count

    def to_row(self) -> list[Any]:
        """Return the reference's form in a message.

        A field added later comes last, and a row leaves it out while it and all after it have their defaults.
        """
        location = self.location
        row = [
            self.job_id,
            self.launch_id,
            self.setup_id,
            self.chunk,
            *location.to_row(),
            self.attempts,
            int(self.resent),
        ]
        if location.skip:
            return [*row, self.generation, location.skip]
        return [*row, self.generation] if self.generation else row

    @classmethod
    def from_row(cls, row: object) -> ChunkRef:
        """Return the reference in a row, with every field checked, because a message may be forged.

        Raises:
            ValueError: The row is no chunk ref.
        """
        if not isinstance(row, list | tuple) or not 12 <= len(row) <= 14:
            raise ValueError(f"a chunk ref has 12 to 14 fields, not {row!r:.80}")
        job_id, launch_id, setup_id, chunk, *location, attempts, resent = row[:12]
        generation, skip = (*row[12:], 0, 0)[:2]
        for name, number in (("chunk", chunk), ("attempts", attempts), ("generation", generation)):
            if type(number) is not int or number < 0:
                raise ValueError(f"{name} {number!r:.80} is not an index")
        if type(resent) is not int or resent not in (0, 1):
            raise ValueError(f"resent is {resent!r:.80}, not 0 or 1")
        ref = cls(
            check_id(job_id, what="job id"),
            check_id(launch_id, what="launch id"),
            check_id(setup_id, what="setup_id"),
            chunk,
            ChunkLocation.from_row(location, skip),
            attempts,
            bool(resent),
            generation,
        )
        if ref.chunks[0] // GROUP_WIDTH != ref.chunks[-1] // GROUP_WIDTH:
            raise ValueError(f"chunks {ref.chunks[0]} to {ref.chunks[-1]} are not in one group")
        return ref
