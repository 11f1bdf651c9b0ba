"""Items are cut as the options say, and as evenly as can be."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout import ConfigError, ForkJoinTask, JobFailed, Options
from fanout.stages.chunking import chunk_sizes


def cut(options: Options, items: int, *, known: bool) -> list[int]:
    """Sizes of the chunks that so many items make."""
    sizes = []
    left = items
    for size in chunk_sizes(options, range(items) if known else iter(())):
        if not left:
            break
        sizes.append(min(size, left))
        left -= sizes[-1]
    return sizes


@given(items=st.integers(0, 5000), chunk_count=st.integers(1, 300))
def test_groups_are_even_and_as_many_as_asked_for(items: int, chunk_count: int) -> None:
    """The sizes differ by at most one, add up to the items, and are as many as chunk_count or items."""
    sizes = cut(Options(chunk_count=chunk_count), items, known=True)
    assert sum(sizes) == items
    assert len(sizes) == min(chunk_count, items)
    assert not sizes or max(sizes) - min(sizes) <= 1


@given(items=st.integers(0, 5000), size=st.integers(1, 300), known=st.booleans())
def test_chunk_items_is_taken_at_its_word(items: int, size: int, known: bool) -> None:
    """All chunks but the last have exactly that many items."""
    sizes = cut(Options(chunk_items=size), items, known=known)
    assert sum(sizes) == items
    assert all(each == size for each in sizes[:-1])


@given(items=st.integers(0, 20000), parallelism=st.integers(1, 100))
def test_a_collection_makes_about_four_chunks_a_worker(items: int, parallelism: int) -> None:
    """A known number of items makes at most four chunks for each worker, and at least half as many where it can."""
    sizes = cut(Options(parallelism=parallelism), items, known=True)
    assert sum(sizes) == items
    assert min(items, 2 * parallelism) <= len(sizes) <= 4 * parallelism or len(sizes) == items


@pytest.mark.parametrize(
    ("items", "chunks"),
    [
        (0, 0),
        (1, 1),
        (128, 128),
        (129, 129),
        (130, 129),
        (700, 280),
        (1_000_000, 955),
    ],
)
def test_a_stream_begins_with_single_items_and_doubles(items: int, chunks: int) -> None:
    """A stream of slow items makes hundreds of chunks, one of a million quick ones about a thousand."""
    sizes = cut(Options(), items, known=False)
    assert sum(sizes) == items
    assert len(sizes) == chunks


def test_sizes_of_a_stream_never_fall() -> None:
    """After 128 single items the size doubles every 64 chunks."""
    sizes = list(islice(chunk_sizes(Options(), iter(())), 128 + 3 * 64))
    assert sizes == [1] * 128 + [2] * 64 + [4] * 64 + [8] * 64


def test_groups_of_a_stream_are_refused() -> None:
    """An unknown number of items can't be cut into a number of chunk_count."""
    with pytest.raises(ConfigError, match="chunk_count needs a setup that returns a sized collection"):
        chunk_sizes(Options(chunk_count=2), iter(()))


class Lying:
    """Items that say that there are more or fewer of them, or can't tell."""

    def __init__(self, items: int, says: Any) -> None:
        self._items = items
        self._says = says

    def __iter__(self) -> Iterator[dict[str, int]]:
        return ({"item": item} for item in range(self._items))

    def __len__(self) -> int:
        if isinstance(self._says, Exception):
            raise self._says
        return self._says  # type: ignore[no-any-return]


class Copy(ForkJoinTask):
    """Gives back what setup returned."""

    input_schema = {"items": {}}

    def setup(items):
        return items

    def process(item):
        return item

    def join(results):
        return list(results)


def run_here(produced: Lying, **options: int) -> Any:
    """Run the task on items that its setup makes itself."""

    class Made(Copy):
        input_schema: ClassVar[dict[str, Any]] = {}

        def setup():
            return produced

    return Made.run({}, **options)


MISLEADING = [0, 1, 7, 10_000, sys.maxsize, -1, 2.5, None, "3", TypeError("object of type 'generator' has no len()")]
MISLEADING += [RuntimeError("no idea"), NotImplementedError(), OverflowError(), sys.maxsize + 1]


@pytest.mark.parametrize("says", MISLEADING, ids=str)
@pytest.mark.parametrize("options", [{}, {"chunk_items": 3}, {"chunk_bytes": 1}, {"chunk_count": 3}], ids=str)
def test_a_length_that_lies_loses_nothing(says: Any, options: dict[str, int]) -> None:
    """Whatever len() says or raises, all items are processed, or `chunk_count` is refused with the reason."""
    produced = Lying(40, says)
    known = isinstance(says, int) and 0 <= says <= sys.maxsize
    if "chunk_count" in options and not known:
        with pytest.raises(JobFailed, match="this one returned a Lying whose len"):
            run_here(produced, **options)
    else:
        assert run_here(produced, **options) == list(range(40))


def test_a_length_is_asked_for_only_where_it_matters() -> None:
    """With `chunk_items` nothing depends on how many items there are, and a query is not run to count them."""
    asked: list[bool] = []

    class Counting(list[Any]):
        def __len__(self) -> int:
            asked.append(True)
            return super().__len__()

    for options, times in (({"chunk_items": 2}, 0), ({"chunk_count": 2}, 1), ({}, 1)):
        asked.clear()
        next(chunk_sizes(Options(**options), Counting([1, 2])))
        assert len(asked) == times


def test_items_beyond_the_length_are_cut_as_a_stream_is() -> None:
    """A loader that counts batches does not make a chunk of each of a million items."""
    sizes = list(islice(chunk_sizes(Options(parallelism=1), Lying(0, 10)), 200))
    assert sizes[:4] == [3, 3, 3, 3]
    assert sizes[-1] == 24
