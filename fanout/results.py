"""The results of a job, as join gets them: a lazy sequence in item order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar, overload

from .background.ahead import call_ahead
from .records.failure import FailedItem

T = TypeVar("T")

WINDOW = 8
"""Most objects in memory while the results are iterated."""


class Results(Sequence[Any]):
    """The results of process, one per item, in the order in which setup yielded the items.

    If the task has a `combine`, they are the combined values in the same order, at most 32.

    The sequence fetches object by object as it is read. `for`, `len`, `sum`, indices and slices work, and it may be
    read more than once. Reading holds at most 8 chunks or batches in memory; `list(results)` holds them all.

    In a job that tolerates failures, a `FailedItem` takes the place of each failed item's result. `good` skips them,
    and `failures` gives only them. Combined values contain no failed items; `failed` is their number.

    Args:
        objects: Number of objects that hold the results: of a chunk, or of a batch of chunks.
        items: Number of items.
        fetch: Returns the results in the object with an index.
        first_items: Returns the index of each object's first item, ascending. Called for an index or a slice.
        failed: Number of failed items.

    Attributes:
        failed: Number of failed items.
    """

    def __init__(
        self,
        objects: int,
        items: int,
        fetch: Callable[[int], list[Any]],
        first_items: Callable[[], list[int]],
        failed: int = 0,
    ) -> None:
        self.failed = failed
        self._objects = objects
        self._items = items
        self._fetch = fetch
        self._first_items = first_items
        self._starts: list[int] | None = None
        self._last: tuple[int, list[Any]] | None = None

    def __len__(self) -> int:
        return self._items

    def __iter__(self) -> Iterator[Any]:
        for chunk in self.chunks():
            yield from chunk

    def good(self) -> Iterator[Any]:
        """Return the results of the items that did not fail, in item order."""
        return (result for result in self if not isinstance(result, FailedItem))

    def failures(self) -> Iterator[FailedItem]:
        """Return the failed items, in item order."""
        return (result for result in self if isinstance(result, FailedItem)) if self.failed else iter(())

    def chunks(self) -> Iterator[list[Any]]:
        """Yield the results in each object, fetching ahead."""
        return read_ahead([partial(self._fetch, index) for index in range(self._objects)])

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(self._items))]
        position = index + self._items if index < 0 else index
        if not 0 <= position < self._items:
            raise IndexError(f"result {index} of {self._items}")
        if self._starts is None:
            self._starts = self._first_items()
        held_by = bisect_right(self._starts, position) - 1
        last = self._last
        if last is None or last[0] != held_by:
            last = self._last = (held_by, self._fetch(held_by))
        return last[1][position - self._starts[held_by]]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Results: {self._items} items in {self._objects} objects>"


def read_ahead(reads: Sequence[Callable[[], T]]) -> Iterator[T]:
    """Yield what functions that read from a store return, in their order. Calls at most `WINDOW` of them ahead.

    Args:
        reads: The functions. Each is called once, in a thread of its own if there are several.
    """
    if len(reads) <= 1:
        for read in reads:
            yield read()
        return
    yield from call_ahead(reads, threads=min(WINDOW, len(reads)), ahead=WINDOW, name="fanout-results")
