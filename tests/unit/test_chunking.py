"""Items are cut into chunks as the options say, and as evenly as possible."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout import ConfigError, ForkJoinTask, JobFailed, Options
from fanout.stages.chunking import COMBINING, SINGLES, STEP, chunk_sizes


def cut(options: Options, items: int, *, known: bool, combines: bool = False) -> list[int]:
    """Return the sizes of the chunks of so many items."""
    sizes = []
    left = items
    for size in chunk_sizes(options, range(items) if known else iter(()), combines=combines):
        if not left:
            break
        sizes.append(min(size, left))
        left -= sizes[-1]
    return sizes


@given(items=st.integers(0, 5000), chunk_count=st.integers(1, 300))
def test_chunk_count_gives_that_many_even_chunks(items: int, chunk_count: int) -> None:
    """The sizes differ by at most one and add up to the items. There are `chunk_count` chunks, or one per item."""
    sizes = cut(Options(chunk_count=chunk_count), items, known=True)
    assert sum(sizes) == items
    assert len(sizes) == min(chunk_count, items)
    assert not sizes or max(sizes) - min(sizes) <= 1


@given(items=st.integers(0, 5000), size=st.integers(1, 300), known=st.booleans())
def test_chunk_items_is_exact(items: int, size: int, known: bool) -> None:
    """All chunks but the last have exactly `chunk_items` items."""
    sizes = cut(Options(chunk_items=size), items, known=known)
    assert sum(sizes) == items
    assert all(each == size for each in sizes[:-1])


@given(items=st.integers(0, 100_000), combines=st.booleans())
def test_a_collection_makes_a_chunk_per_item_up_to_a_limit(items: int, combines: bool) -> None:
    """Chunks of a known number of items have one item each, or equal sizes in a larger job."""
    sizes = cut(Options(), items, known=True, combines=combines)
    limit = SINGLES // COMBINING if combines else SINGLES
    assert sum(sizes) == items
    assert len(sizes) == items if items <= limit else limit / 2 < len(sizes) <= limit
    assert len(set(sizes[:-1])) <= 1


@pytest.mark.parametrize(
    ("items", "chunks"),
    [
        (0, 0),
        (1, 1),
        (4096, 4096),
        (4097, 4097),
        (4098, 4097),
        (1_000_000, 9_166),
    ],
)
def test_a_stream_begins_with_single_items_and_doubles(items: int, chunks: int) -> None:
    """A stream of a few thousand items makes a chunk of each. One of a million items makes some 9,000."""
    sizes = cut(Options(), items, known=False)
    assert sum(sizes) == items
    assert len(sizes) == chunks


@pytest.mark.parametrize("combines", [False, True])
def test_sizes_of_a_stream_never_fall(combines: bool) -> None:
    """After 4,096 chunks of a single item, the size doubles every 512 chunks; with combine, after an eighth."""
    step = STEP // COMBINING if combines else STEP
    sizes = list(islice(chunk_sizes(Options(), iter(()), combines=combines), 8 * step + 3 * step))
    assert sizes == [1] * 8 * step + [2] * step + [4] * step + [8] * step


def test_chunk_count_of_a_stream_is_refused() -> None:
    """`chunk_count` is refused if the number of items is unknown."""
    with pytest.raises(ConfigError, match="chunk_count needs a setup that returns a sized collection"):
        chunk_sizes(Options(chunk_count=2), iter(()))


class Lying:
    """Items whose `len` is wrong or raises."""

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
    """Returns the items that setup returned."""

    input_schema = {"items": {}}

    def setup(items):
        return items

    def process(item):
        return item

    def join(results):
        return list(results)


def run_on(produced: Lying, **options: int) -> Any:
    """Run the task on items that its setup makes."""

    class Made(Copy):
        input_schema: ClassVar[dict[str, Any]] = {}

        def setup():
            return produced

    return Made.run({}, **options)


MISLEADING = [0, 1, 7, 10_000, sys.maxsize, -1, 2.5, None, "3", TypeError("object of type 'generator' has no len()")]
MISLEADING += [RuntimeError("no idea"), NotImplementedError(), OverflowError(), sys.maxsize + 1]


@pytest.mark.parametrize("says", MISLEADING, ids=str)
@pytest.mark.parametrize("options", [{}, {"chunk_items": 3}, {"chunk_bytes": 1}, {"chunk_count": 3}], ids=str)
def test_a_wrong_length_loses_no_items(says: Any, options: dict[str, int]) -> None:
    """Whatever `len` returns or raises, all items are processed, or `chunk_count` is refused with the reason."""
    produced = Lying(40, says)
    known = isinstance(says, int) and 0 <= says <= sys.maxsize
    if "chunk_count" in options and not known:
        with pytest.raises(JobFailed, match="this one returned a Lying whose len"):
            run_on(produced, **options)
    else:
        assert run_on(produced, **options) == list(range(40))


def test_the_length_is_read_only_if_it_matters() -> None:
    """With `chunk_items` setup does not call `len`, so that no query runs only to count the items."""
    len_calls: list[bool] = []

    class Counting(list[Any]):
        def __len__(self) -> int:
            len_calls.append(True)
            return super().__len__()

    for options, times in (({"chunk_items": 2}, 0), ({"chunk_count": 2}, 1), ({}, 1)):
        len_calls.clear()
        next(chunk_sizes(Options(**options), Counting([1, 2])))
        assert len(len_calls) == times


def test_items_beyond_the_length_are_cut_like_a_stream() -> None:
    """A million items beyond the length, as of a loader that counts batches, do not make one chunk each."""
    sizes = list(islice(chunk_sizes(Options(), Lying(0, 10)), 10 + 2 * STEP + 1))
    assert sizes[:10] == [1] * 10
    assert sizes[-1] == 4
