"""Items are cut as the options say, and as evenly as can be."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout import ConfigError, Options
from fanout.chunking import chunk_sizes


def cut(options: Options, items: int, *, known: bool) -> list[int]:
    """Sizes of the chunks that so many items make."""
    sizes = []
    left = items
    for size in chunk_sizes(options, items if known else None):
        if not left:
            break
        sizes.append(min(size, left))
        left -= sizes[-1]
    return sizes


@given(items=st.integers(0, 5000), groups=st.integers(1, 300))
def test_groups_are_even_and_as_many_as_asked_for(items: int, groups: int) -> None:
    """The sizes differ by at most one, add up to the items, and are as many as groups or items."""
    sizes = cut(Options(groups=groups), items, known=True)
    assert sum(sizes) == items
    assert len(sizes) == min(groups, items)
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
    sizes = list(islice(chunk_sizes(Options(), None), 128 + 3 * 64))
    assert sizes == [1] * 128 + [2] * 64 + [4] * 64 + [8] * 64


def test_groups_of_a_stream_are_refused() -> None:
    """An unknown number of items can't be cut into a number of groups."""
    with pytest.raises(ConfigError, match="groups needs a setup that returns a sized collection"):
        chunk_sizes(Options(groups=2), None)
