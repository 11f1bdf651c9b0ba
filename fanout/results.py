"""The results of a job as join gets them: a lazy sequence in item order."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, overload

from .records.failure import FailedItem

WINDOW = 8
"""Chunks that are fetched ahead of the one being read."""


class Results(Sequence[Any]):
    """The results of `process`, one an item, in the order in which `setup` yielded the items.

    In a job whose task has a `combine`: what that made of them, at most 32 values in the same order.

    A sequence that is fetched chunk by chunk as it is read: `for`, `len`, `sum`, indices and slices work, and it may
    be read more than once. Reading holds at most 8 chunks; `list(results)` holds them all.

    In a job that tolerates failures a `FailedItem` stands in the place of each result that there is not; `good` passes
    them by, `failures` gives them alone. Where results are combined, those that there are not are left out; `failed`
    says how many.

    Args:
        chunks: Number of chunks.
        items: Number of items.
        fetch: Gives the results of the chunk with that index.
        first_items: Gives the index of each chunk's first item, ascending; called if an index or a slice is asked for.
        failed: How many items failed.

    Attributes:
        failed: How many of them are no results but a `FailedItem`.
    """

    def __init__(
        self,
        chunks: int,
        items: int,
        fetch: Callable[[int], list[Any]],
        first_items: Callable[[], list[int]],
        failed: int = 0,
    ) -> None:
        self.failed = failed
        self._chunks = chunks
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
        """The results of the items that did not fail, in item order."""
        return (result for result in self if not isinstance(result, FailedItem))

    def failures(self) -> Iterator[FailedItem]:
        """The items that failed, in item order."""
        return (result for result in self if isinstance(result, FailedItem)) if self.failed else iter(())

    def chunks(self) -> Iterator[list[Any]]:
        """The results chunk by chunk, fetching ahead."""
        if self._chunks <= 1:
            yield from map(self._fetch, range(self._chunks))
            return
        # no limit: each fetch ends with the limits of the store
        with ThreadPoolExecutor(min(WINDOW, self._chunks), thread_name_prefix="fanout-results") as pool:
            ahead: deque[Future[list[Any]]] = deque()
            coming = iter(range(self._chunks))
            try:
                for chunk in coming:
                    ahead.append(pool.submit(self._fetch, chunk))
                    if len(ahead) >= WINDOW:
                        yield ahead.popleft().result()  # no limit: each fetch ends with those of the store
                while ahead:
                    yield ahead.popleft().result()  # no limit: each fetch ends with those of the store
            finally:
                for future in ahead:
                    future.cancel()

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
        chunk = bisect_right(self._starts, position) - 1
        last = self._last
        if last is None or last[0] != chunk:
            last = self._last = (chunk, self._fetch(chunk))
        return last[1][position - self._starts[chunk]]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Results: {self._items} items in {self._chunks} chunks>"
