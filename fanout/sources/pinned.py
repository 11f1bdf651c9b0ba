"""A range of one external object, whose every read asks for the entity tag that was listed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from storage import Bucket

from ..background.ahead import call_ahead
from ..errors import SourceDamaged
from ..external.location import Location
from ..external.reading import read_pinned

BLOCK_BYTES: Final = 4 * 2**20
"""Size of a read. A reader holds two blocks: one at work, and the next one on its way."""

SMALL_BYTES: Final = 2**20
"""Size up to which whole objects of a part are fetched several at a time."""

_FIRST_TAIL_BYTES: Final = 64 * 2**10
_SMALL_READS: Final = 8


@dataclass(frozen=True, slots=True)
class PinnedRange:
    """A range of an object as it was when it was listed.

    Attributes:
        bucket: The bucket of the object.
        location: The object.
        size_bytes: Size of the object.
        tag: Its entity tag.
        start: First byte; the first row group in Parquet.
        end: End of the range, exclusive; the row group after the last one in Parquet.
        body: The bytes of the whole object, if they were fetched already.
    """

    bucket: Bucket
    location: Location
    size_bytes: int
    tag: str
    start: int
    end: int
    body: bytes | None = field(default=None, repr=False)

    def read(self, start: int, end: int) -> bytes:
        """Return bytes of the object, in or beyond the range. One request, or none if the body was fetched.

        Raises:
            SourceMissing: The object does not exist any more.
            SourceChanged: The object is another one by now.
        """
        if self.body is not None:
            return self.body[start:end]
        return read_pinned(self.bucket, self.location, start, end, tag=self.tag)

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from `start` to `end` in blocks, each fetched while the caller works on the one before."""
        reads = (partial(self.read, at, min(at + BLOCK_BYTES, end)) for at in range(start, end, BLOCK_BYTES))
        return call_ahead(reads, threads=1, ahead=2) if end - start > BLOCK_BYTES else (read() for read in reads)

    def tail_blocks(self, start: int) -> Iterator[bytes]:
        """Yield the bytes from `start` to the object's end, in blocks that begin small and grow."""
        size_bytes = _FIRST_TAIL_BYTES
        while start < self.size_bytes:
            end = min(start + size_bytes, self.size_bytes)
            yield self.read(start, end)
            start, size_bytes = end, min(2 * size_bytes, BLOCK_BYTES)

    def damaged(self, offset: int | None, flaw: str) -> SourceDamaged:
        """Return the error for a flaw of the object."""
        return SourceDamaged(self.location.url, offset, flaw)


def fetch_small(contents: Iterator[PinnedRange]) -> Iterator[PinnedRange]:
    """Yield whole objects in order, the small ones with their bodies: eight are on their way at a time.

    Memory: eight times `SMALL_BYTES`.
    """
    fetches = (partial(_fetch_if_small, content) for content in contents)
    return call_ahead(fetches, threads=_SMALL_READS, ahead=_SMALL_READS)


def _fetch_if_small(content: PinnedRange) -> PinnedRange:
    is_small = content.size_bytes <= SMALL_BYTES
    return replace(content, body=content.read(0, content.size_bytes)) if is_small else content
