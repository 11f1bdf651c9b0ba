"""Cuts objects into parts: large ones at byte ranges or row groups, small ones several to a part. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from storage import TaggedObject

MAX_OBJECTS = 64
"""Most objects of a part, so that a part stays small."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The content of one part: several whole objects of a bucket, or a range of one.

    Attributes:
        objects: The objects.
        start: First byte of the range, or first row group.
        end: End of the range, exclusive; 0 for whole objects.
        len_bytes: Bytes that the part holds, as they lie in the bucket.
    """

    objects: tuple[TaggedObject, ...]
    start: int
    end: int
    len_bytes: int


class Gatherer:
    """The small objects that are to be one part.

    Args:
        part_bytes: Size at which a part is full; None for one object a part.
    """

    def __init__(self, part_bytes: int | None) -> None:
        self._part_bytes = part_bytes
        self._objects: list[TaggedObject] = []
        self._bucket = ""
        self._size_bytes = 0

    def add(self, bucket: str, one: TaggedObject) -> Iterator[tuple[str, Cut]]:
        """Add an object; yield the part before it, if that is full with it."""
        is_full = (
            self._part_bytes is None
            or self._size_bytes + one.size_bytes > self._part_bytes
            or len(self._objects) == MAX_OBJECTS
            or bucket != self._bucket
        )
        if is_full:
            yield from self.flush()
        self._bucket = bucket
        self._objects.append(one)
        self._size_bytes += one.size_bytes

    def flush(self) -> Iterator[tuple[str, Cut]]:
        """Yield the part of the objects that were added, if there are any."""
        if self._objects:
            yield self._bucket, Cut(tuple(self._objects), 0, 0, self._size_bytes)
        self._objects, self._size_bytes = [], 0


def cut_bytes(one: TaggedObject, part_bytes: int) -> Iterator[Cut]:
    """Yield equal byte ranges of an object, each of at most `part_bytes`."""
    count = -(-one.size_bytes // part_bytes)
    start = 0
    for index in range(1, count + 1):
        end = one.size_bytes * index // count
        yield Cut((one,), start, end, end - start)
        start = end


def cut_row_groups(one: TaggedObject, sizes: list[int], part_bytes: int) -> Iterator[Cut]:
    """Yield runs of row groups, each of at most `part_bytes` or of one row group."""
    first, run_bytes = 0, 0
    for index, size_bytes in enumerate(sizes):
        if index > first and run_bytes + size_bytes > part_bytes:
            yield Cut((one,), first, index, run_bytes)
            first, run_bytes = index, 0
        run_bytes += size_bytes
    if sizes:
        yield Cut((one,), first, len(sizes), run_bytes)
