"""What is to be run: variants, sizes, numbers of chunks, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ..text import DOCUMENT_BYTES

MB = 1_000_000

SIZES = (1 * MB, 10 * MB, 40 * MB, 100 * MB, 256 * MB)
CHUNKS = (8, 32, 128, 512)
SIZES_CHUNKS = 32
"""Number of chunks while the size of the input is swept."""
CHUNKS_SIZE = 10 * MB
"""Size of the input while the number of chunks is swept."""

STREAM_ITEMS = 4
"""Documents in a chunk of `python -m benchmarks scale`."""


class Variant(StrEnum):
    """How the word count is put together.

    `canvas`, `presliced`, `fanout` and `here` have the input as one list, `streamed` slice by slice from that list.
    In `presliced` the caller cuts it by hand, in `here` and `streamed` by running setup; in the others a worker does.
    For `stream-caller` and `stream-worker` nobody ever has it whole.
    """

    CANVAS = "canvas"
    PRESLICED = "presliced"
    FANOUT = "fanout"
    STREAMED = "streamed"
    HERE = "here"
    STREAM_CALLER = "stream-caller"
    STREAM_WORKER = "stream-worker"


BARE = (Variant.CANVAS, Variant.PRESLICED)
"""Bare Canvas: with a result backend, without a store."""
COMPARED = (*BARE, Variant.FANOUT, Variant.STREAMED, Variant.HERE)
FROM_GENERATOR = (Variant.STREAM_CALLER, Variant.STREAM_WORKER)


@dataclass(frozen=True, slots=True)
class Case:
    """One word count to be run and measured.

    Attributes:
        variant: How it is put together.
        size_bytes: Size of the input.
        chunks: Number of chunks.
        repeat: Counted from 1.
        document_bytes: Size of a document.
    """

    variant: Variant
    size_bytes: int
    chunks: int
    repeat: int = 1
    document_bytes: int = DOCUMENT_BYTES

    @property
    def chunk_items(self) -> int:
        """Documents in a chunk of a streamed case."""
        return max(1, round(self.size_bytes / self.document_bytes / self.chunks))

    @property
    def tiny(self) -> Case:
        """The same over so little that only the machinery counts; wide enough to reach every worker."""
        return replace(self, size_bytes=16 * 100, chunks=16, document_bytes=100)

    @property
    def name(self) -> str:
        """For people, and for directories."""
        return f"{self.variant}-{self.size_bytes}-{self.chunks}-{self.repeat}"

    @classmethod
    def parsed(cls, name: str, *, document_bytes: int) -> Case:
        """The case of that `name`.

        Raises:
            ValueError: It is no such name.
        """
        variant, size, chunks, repeat = name.rsplit("-", 3)
        return cls(Variant(variant), int(size), int(chunks), int(repeat), document_bytes)


def sweep(sizes: Sequence[int], chunks: Sequence[int], *, repeat: int) -> list[Case]:
    """The cases of `python -m benchmarks memory`: sizes at 32 chunks, then numbers of chunks at 10 MB.

    The variants take turns, so that a machine that grows warmer or busier wrongs none of them. A case that belongs
    to both sweeps is run once.
    """
    points = [(size, SIZES_CHUNKS) for size in sorted(sizes)] + [(CHUNKS_SIZE, number) for number in sorted(chunks)]
    return [
        Case(variant, size, number, turn)
        for turn in range(1, repeat + 1)
        for size, number in dict.fromkeys(points)
        for variant in COMPARED
    ]


def quick() -> list[Case]:
    """Enough to see the difference, in under three minutes on two cores."""
    return [
        *(
            Case(variant, size, SIZES_CHUNKS)
            for size in (1 * MB, 10 * MB, 40 * MB)
            for variant in (*BARE, Variant.FANOUT)
        ),
        Case(Variant.HERE, 40 * MB, SIZES_CHUNKS),
        *(Case(Variant.FANOUT, CHUNKS_SIZE, number) for number in (8, 128)),
    ]


def streams(sizes: Sequence[int], *, chunks: int, repeat: int = 1) -> list[Case]:
    """The cases of `python -m benchmarks scale`: chunks of the same size, `chunks` of them to a gigabyte."""
    chunk_bytes = 1000 * MB // chunks
    return [
        Case(variant, size, max(1, round(size / chunk_bytes)), turn, max(1, chunk_bytes // STREAM_ITEMS))
        for turn in range(1, repeat + 1)
        for size in sorted(sizes)
        for variant in FROM_GENERATOR
    ]
