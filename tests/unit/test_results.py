"""Results are a sequence that is fetched as it is read."""

from __future__ import annotations

import random
import threading
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout import Results
from fanout.results import WINDOW


class Source:
    """Chunks of results. Records which of them were fetched."""

    def __init__(self, sizes: list[int]) -> None:
        self.starts = [sum(sizes[:at]) for at in range(len(sizes))]
        self.sizes = sizes
        self.fetched: list[int] = []
        self.broken: set[int] = set()

    @property
    def all(self) -> list[int]:
        return list(range(sum(self.sizes)))

    @property
    def results(self) -> Results:
        return Results(len(self.sizes), sum(self.sizes), self.fetch, lambda: self.starts)

    def fetch(self, chunk: int) -> list[int]:
        self.fetched.append(chunk)
        if chunk in self.broken:
            raise ValueError(f"chunk {chunk} is broken")
        return list(range(self.starts[chunk], self.starts[chunk] + self.sizes[chunk]))


THREADS_BEFORE: set[threading.Thread] = set()
"""Threads of readers that other tests have left. They end when the errors of those tests are freed."""


@pytest.fixture(autouse=True)
def _threads_of_other_tests() -> None:
    THREADS_BEFORE.clear()
    THREADS_BEFORE.update(threading.enumerate())


def reading_threads() -> list[str]:
    threads = [thread for thread in threading.enumerate() if thread not in THREADS_BEFORE]
    return [thread.name for thread in threads if thread.name.startswith("fanout-results")]


SIZES = st.lists(st.integers(1, 5), max_size=20)


@given(SIZES, st.integers(-120, 120), st.slices(40))
def test_results_are_the_sequence_of_their_items(sizes: list[int], index: int, part: slice) -> None:
    """Length, iteration, index, slice, membership and equality are those of the list."""
    source = Source(sizes)
    results, expected = source.results, source.all
    assert len(results) == len(expected)
    assert list(results) == list(results) == expected
    assert list(reversed(results)) == expected[::-1]
    assert results[part] == expected[part]
    assert results == expected
    assert expected == results
    assert results == tuple(expected)
    assert results != [*expected, 1]
    assert (index in results) == (index in expected)
    if -len(expected) <= index < len(expected):
        assert results[index] == expected[index]
    else:
        with pytest.raises(IndexError, match=f"result {index} of {len(expected)}"):
            results[index]


@pytest.mark.parametrize("other", ["abc", b"abc", 3, None, {1}, iter([])])
def test_results_equal_only_sequences(other: object) -> None:
    """Results equal no text and no value that is not a sequence. They cannot be hashed."""
    results = Source([3]).results
    assert results != other
    with pytest.raises(TypeError):
        hash(results)


def test_an_index_fetches_its_chunk_only() -> None:
    """Neighbours in one chunk cost one fetch, and iteration does not ask for the index of the chunks."""
    source = Source([2, 3, 4])
    results = source.results
    assert (results[2], results[3], results[4]) == (2, 3, 4)
    assert source.fetched == [1]
    single_chunk = Results(1, 2, lambda chunk: [1, 2], lambda: pytest.fail("iteration asked for the index"))
    assert list(single_chunk) == [1, 2]


def test_reading_fetches_a_bounded_number_ahead() -> None:
    """At most 8 chunks are requested beyond those that have been read."""
    source = Source([1] * 100)
    for index, chunk in enumerate(source.results.chunks()):
        assert chunk == [index]
        assert len(source.fetched) <= index + WINDOW
    assert sorted(source.fetched) == list(range(100))


def test_chunks_that_arrive_out_of_order_are_put_in_order() -> None:
    """Chunks that arrive early wait for a late chunk before them."""
    late = threading.Event()

    def fetch(chunk: int) -> list[int]:
        if chunk == 0:
            assert late.wait(30)
        if chunk == 3:
            late.set()
        return [chunk]

    assert list(Results(10, 10, fetch, list)) == list(range(10))


def test_an_error_is_raised_in_place_of_its_chunk() -> None:
    """Results before the broken chunk are given, and the error is raised in place of the broken chunk."""
    source = Source([2] * 20)
    source.broken = {5}
    got = []
    with pytest.raises(ValueError, match="chunk 5 is broken"):
        got.extend(source.results)
    assert got == list(range(10))
    assert reading_threads() == []
    with pytest.raises(ValueError, match="chunk 5 is broken"):
        source.results[10]
    assert source.results[12] == 12


def test_threads_end_when_reading_is_abandoned() -> None:
    """After a loop that breaks no thread runs, and no further chunk is fetched."""
    source = Source([1] * 100)
    reading = iter(source.results)
    assert list(islice(reading, 3)) == [0, 1, 2]
    assert reading_threads()
    reading.close()  # type: ignore[attr-defined]
    assert reading_threads() == []
    assert len(source.fetched) <= 3 + WINDOW
    for result in source.results:
        if result == 2:
            break
    assert reading_threads() == []


def test_several_readers_do_not_disturb_each_other() -> None:
    """Two iterations and an index at the same time each see the whole sequence."""
    source = Source([3] * 12)
    results = source.results
    pick = random.Random(1)
    for first, second in zip(results, results, strict=True):
        assert first == second
        assert results[pick.randrange(36)] in source.all


def test_one_chunk_needs_no_thread() -> None:
    """The results of one chunk are read in the caller's thread."""
    names = []

    def fetch(chunk: int) -> list[int]:
        names.append(threading.current_thread().name)
        return [1]

    assert list(Results(1, 1, fetch, list)) == [1]
    assert names == [threading.current_thread().name]


def test_the_representation_fetches_nothing() -> None:
    """The representation gives the number of items and objects, and fetches none."""
    source = Source([2, 1])
    assert repr(source.results) == "<Results: 3 items in 2 objects>"
    assert source.fetched == []
