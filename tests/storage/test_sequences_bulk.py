"""Items that are encoded many at a time give the bytes, sizes and errors of items that are added one by one."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import ReferenceSource, SequenceEncoder, Unencodable, decode, digest, encode, register_type
from storage.codec.envelope import HEADER

from .test_codec import VALUES

law = settings(max_examples=60)

SEEDS = range(12)
# Kinds of items that a random mixture is made of: all fast, all slow, and both.
SMALL: list[Callable[[random.Random], Any]] = [
    lambda draw: None,
    lambda draw: draw.random() < 0.5,
    lambda draw: draw.randrange(-(2**63), 2**64),
    lambda draw: draw.choice([2**64, -(2**63) - 1, 2**63, -(2**63), 2**200, 0, -1, 127, 128]),
    lambda draw: draw.choice([draw.random(), 0.0, -0.0, float("inf"), 1e300]),
    lambda draw: draw.choice("aä€😀") * draw.choice([0, 1, 31, 32, 255, 256]),
    lambda draw: draw.randbytes(draw.choice([0, 1, 255, 256, 700])),
    lambda draw: {"n": draw.randrange(1000)},
    lambda draw: {"a": draw.random(), "b": "text", 3: None, (1, 2): b"x"},
    lambda draw: [1, [2, {"three": (3, {4})}]],
    lambda draw: (1, "two"),
    lambda draw: {"when": date(2024, 1, 1), "price": Decimal("1.5")},
    lambda draw: np.float32(1.5),
    lambda draw: np.arange(draw.randrange(20)),
]
ODD: list[Callable[[random.Random], Any]] = [
    lambda draw: "\ud800",
    lambda draw: {"text": "\udfff" * 3},
    lambda draw: np.arange(draw.randrange(100, 1000)),
    lambda draw: {"array": np.ones((20, 20)), "n": 1},
    lambda draw: "x" * 70_000,
    lambda draw: {"rows": ["y" * 1000] * draw.randrange(400)},
    lambda draw: bytearray(b"bytes"),
]


class Thing:
    """A class whose values do not travel."""


class Interrupting:
    """A registered class that is encoded only once, if at all."""

    encoded = 0


def interrupt(value: Interrupting) -> str:
    Interrupting.encoded += 1
    if Interrupting.encoded > 1:
        raise KeyboardInterrupt
    return ""


register_type(Interrupting, encode=interrupt, decode=lambda plain: Interrupting())


def mixture(seed: int) -> list[Any]:
    """Return a few hundred items of a few kinds, of which a random part is odd."""
    draw = random.Random(seed)
    kinds, share = draw.sample(SMALL, draw.randrange(1, 6)), draw.choice([0, 0, 0.005, 0.3])
    return [draw.choice(ODD if draw.random() < share else kinds)(draw) for _ in range(draw.randrange(900))]


def add_each(encoder: SequenceEncoder, items: list[Any]) -> None:
    for item in items:
        encoder.add(item)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("sequence", [list, tuple])
def test_a_mixture_gives_equal_chunks(seed: int, sequence: Callable[[list[Any]], Any]) -> None:
    """Whatever the items are, and however they are given, chunks and sizes are those of `add`."""
    one_by_one, together = SequenceEncoder(), SequenceEncoder()
    for chunk in (mixture(seed), mixture(seed + 100), []):
        cut = random.Random(seed).randrange(len(chunk) + 1)
        add_each(one_by_one, chunk)
        assert together.add_all(sequence(chunk[:cut])) == cut
        together.add_all(sequence(chunk[cut:]))
        assert (len(together), together.size_bytes) == (len(one_by_one), one_by_one.size_bytes)
        assert together.finish() == one_by_one.finish()


def replace_nothing(value: object) -> object:
    raise TypeError


@pytest.mark.parametrize("seed", SEEDS)
def test_quick_items_give_what_slow_ones_give(seed: int) -> None:
    """`add` gives the same bytes and sizes with and without `default`, which keeps items from being added quickly."""
    quick, slow = SequenceEncoder(), SequenceEncoder(default=replace_nothing)
    for item in mixture(seed) + mixture(seed + 100):
        for encoder in (quick, slow):
            encoder.add(item)
        assert (quick.last_bytes, quick.is_last_large) == (slow.last_bytes, slow.is_last_large)
        if quick.is_last_large:
            quick.remove_last()
            slow.remove_last()
            quick.add_soon(1)
            slow.add_soon(1)
        assert (len(quick), quick.size_bytes) == (len(slow), slow.size_bytes)
        if len(quick) >= 250:
            assert quick.finish() == slow.finish()
    assert quick.finish() == slow.finish()


@law
@given(st.lists(VALUES, max_size=6), st.integers(1, 100))
def test_any_values_give_the_bytes_of_each(values: list[Any], repeated: int) -> None:
    """A chunk is a list header and then the bytes that `encode` makes of each item."""
    encoder = SequenceEncoder()
    encoder.add_all(values * repeated)
    packed = b"".join(encode(value)[HEADER.size :] for value in values)
    assert encoder.size_bytes == len(packed) * repeated
    assert encoder.finish()[HEADER.size + 5 :] == packed * repeated


@pytest.mark.parametrize("bad", [0, 1, 31, 63, 126, 127, 128, 300, 511])
@pytest.mark.parametrize("odd", [None, "\ud800", np.ones(500)])
def test_the_error_names_the_item(bad: int, odd: Any) -> None:
    """Items before the refused one are in the chunk, it and later ones are not, and adding can go on."""
    items: list[Any] = [{"n": number} for number in range(512)]
    items[bad // 2] = {"n": odd}
    items[bad] = {"n": [Thing()]}
    one_by_one, together = SequenceEncoder("items", 40), SequenceEncoder("items", 40)
    with pytest.raises(Unencodable) as expected:
        add_each(one_by_one, items)
    with pytest.raises(Unencodable) as caught:
        together.add_all(items)
    assert caught.value.path == f"items[{bad + 40}].n[0]"
    assert str(caught.value) == str(expected.value)
    assert (len(together), together.size_bytes) == (bad, one_by_one.size_bytes)
    for encoder in (one_by_one, together):
        encoder.add("last")
    assert together.finish() == one_by_one.finish()


@pytest.mark.parametrize("depth", [90, 100, 101, 509, 510, 511, 512])
def test_nesting_is_refused_as_by_add(depth: int) -> None:
    """The list that holds the items for the packer counts as no level of theirs."""
    item: Any = 0
    for _ in range(depth):
        item = [item]
    outcomes = []
    for add in (add_each, SequenceEncoder.add_all):
        encoder = SequenceEncoder()
        error = None
        try:
            add(encoder, [1] * 200 + [item] + [2] * 200)
        except Unencodable as raised:
            error = str(raised)
        outcomes.append((error, encoder.finish()))
    assert outcomes[0] == outcomes[1]


def test_default_is_called_once_for_each_item() -> None:
    """Items that `default` replaces are added one by one."""
    calls: list[int] = []

    def default(value: object) -> object:
        calls.append(len(calls))
        return calls[-1]

    thing = Thing()
    encoder = SequenceEncoder(default=default)
    encoder.add_all([{"n": thing}, 1] * 150)
    encoder.add_soon(2**70)
    assert decode(encoder.finish()) == [each for number in range(150) for each in ({"n": number}, 1)] + [2**70]
    assert calls == [*range(150)]


def test_values_of_a_source_become_references() -> None:
    """References are those that `add` makes, also to a source that is known only after the encoder was made."""
    texts = [f"{number:02}" * 600 for number in range(100)]
    body = encode(texts)
    chunks = []
    for add in (add_each, SequenceEncoder.add_all):
        sources: list[ReferenceSource] = []
        encoder = SequenceEncoder(sources=sources)
        add(encoder, [{"n": 1}] * 100)
        source = ReferenceSource.of(texts, body, name=digest(body))
        assert source is not None
        sources.append(source)
        add(encoder, [{"n": 1}] * 100 + [{"text": text} for text in texts[:-1]])
        before = encoder.size_bytes
        assert encoder.referenced_bytes == 99 * 1203
        add(encoder, [{"text": texts[-1]}])
        assert 1203 < encoder.last_bytes == encoder.size_bytes - before < 1300
        chunks.append(encoder.finish())
    assert chunks[0] == chunks[1]


@pytest.mark.parametrize("seed", SEEDS)
def test_adding_stops_where_a_limit_is_reached(seed: int) -> None:
    """Both limits are met at the item at which a caller that looks after each item meets them."""
    draw, items = random.Random(seed), mixture(seed)
    one_by_one, together = SequenceEncoder(), SequenceEncoder()
    while items:
        item_limit = draw.choice([20, 300, 5_000, 2**30])
        limit = one_by_one.size_bytes + draw.choice([0, 1, 700, 20_000, 2**30])
        expected = 0
        for item in items:
            before = one_by_one.size_bytes
            one_by_one.add(item)
            expected += 1
            assert one_by_one.last_bytes == one_by_one.size_bytes - before
            if one_by_one.last_bytes > item_limit or one_by_one.size_bytes >= limit:
                break
        assert together.add_all(items, stop_bytes=limit, max_item_bytes=item_limit) == expected
        assert together.size_bytes == one_by_one.size_bytes
        assert (together.last_bytes > item_limit) == (one_by_one.last_bytes > item_limit)
        items = items[expected:]
    assert together.finish() == one_by_one.finish()


@pytest.mark.parametrize("items", [1, 127, 128, 129, 256])
def test_adding_stops_exactly_at_a_limit(items: int) -> None:
    """A chunk is full as soon as it has as many bytes as the limit, and an item may have as many."""
    encoder = SequenceEncoder()
    assert encoder.add_all([7] * 300, stop_bytes=items) == items
    assert encoder.add_all([7] * 300, stop_bytes=items) == 1
    assert encoder.add_all([7] * 300, max_item_bytes=1) == 300
    assert encoder.add_all([7] * 300, max_item_bytes=0) == 1


def test_small_items_take_few_calls_of_the_packer() -> None:
    """A thousand small items take fewer than a hundred calls, one refused item among them a few hundred more."""
    calls = 0
    encoder = SequenceEncoder()
    pack = encoder._pack_quickly

    def counted(value: object) -> bytes:
        nonlocal calls
        calls += 1
        return pack(value)

    encoder._pack_quickly = counted
    encoder.add_all([{"n": number} for number in range(1024)])
    assert calls < 100
    encoder.add_all([{"n": number} for number in range(512)] + ["\ud800"] + [{"n": number} for number in range(511)])
    assert calls < 400
    for number in range(1024):
        encoder.add_soon(number)
    assert len(encoder) == 3072
    assert calls < 450


def test_large_items_after_small_ones_are_not_held_together() -> None:
    """The chunk of 16 MiB is held, and of the rest only an item or two."""
    items = ["small"] * 1100 + ["x" * 2**19] * 32
    tracemalloc.start()
    try:
        encoder = SequenceEncoder()
        encoder.add_all(items)
        assert tracemalloc.get_traced_memory()[1] < 24 * 2**20
        assert encoder.size_bytes > 16 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "add", [SequenceEncoder.add, SequenceEncoder.add_soon, lambda encoder, item: encoder.add_all([item])]
)
def test_an_interruption_is_not_swallowed(add: Callable[[SequenceEncoder, object], object]) -> None:
    """An item whose encoding is interrupted is not tried again, and the chunk is as it was before."""
    Interrupting.encoded = 0
    encoder, untouched = SequenceEncoder(), SequenceEncoder()
    add_each(untouched, [1, np.zeros(500)])
    encoder.add(1)
    with pytest.raises(KeyboardInterrupt):
        add(encoder, [np.ones(500), Interrupting(), Interrupting()])
    assert Interrupting.encoded == 2
    encoder.add(np.zeros(500))
    assert encoder.finish() == untouched.finish()


def test_an_item_that_is_packed_slowly_is_packed_once() -> None:
    """Where the packer refuses an item that travels, its buffers are not in the chunk twice."""
    encoder = SequenceEncoder()
    encoder.add([np.ones(500), "\ud800"])
    size = encoder.size_bytes
    encoder.finish()
    encoder.add([np.ones(500), "\ud800"])
    assert encoder.size_bytes == encoder.last_bytes == size


@pytest.mark.parametrize("seed", SEEDS)
def test_items_added_soon_give_equal_chunks(seed: int) -> None:
    """Items wait or do not, and the chunk is the same; so are its length and size at any time."""
    draw = random.Random(seed)
    one_by_one, soon = SequenceEncoder(), SequenceEncoder()
    for number, item in enumerate(mixture(seed) + [draw.randrange(1000) for _ in range(500)] + mixture(seed + 50)):
        one_by_one.add(item)
        (soon.add if draw.random() < 0.02 else soon.add_soon)(item)
        if draw.random() < 0.02:
            assert len(soon) == len(one_by_one)
            assert soon.size_bytes == one_by_one.size_bytes
        if number % 400 == 399:
            given: list[bytes] = []
            soon.hand_over(lambda whole, given=given: given.append(bytes(whole)))
            assert given == [one_by_one.finish()]
    one_by_one.add_all([1, 2])
    soon.add_all([1, 2])
    assert soon.finish() == one_by_one.finish()


def test_an_object_that_changes_is_taken_as_it_is_now() -> None:
    """A function may return one object again and again, and change it in between."""
    encoder = SequenceEncoder()
    row: list[int] = []
    for number in range(3):
        row.append(number)
        encoder.add_soon(number)
        encoder.add_soon(row)
        encoder.add_soon((row,))
    expected = [each for n in range(3) for each in (n, [*range(n + 1)], ([*range(n + 1)],))]
    assert decode(encoder.finish()) == expected


@pytest.mark.parametrize("waiting", [0, 1, 127, 128, 130])
def test_an_item_added_soon_is_refused_itself(waiting: int) -> None:
    """The error is raised for its own item, with its index, and the items before it are in the chunk."""
    encoder = SequenceEncoder("results", 7)
    for number in range(waiting):
        encoder.add_soon(number)
    with pytest.raises(Unencodable) as caught:
        encoder.add_soon({"n": Thing()})
    assert caught.value.path == f"results[{waiting + 7}].n"
    encoder.add_soon(None)
    assert decode(encoder.finish()) == [*range(waiting), None]
    with pytest.raises(Unencodable, match=rf"results\[{waiting + 8}\]"):
        encoder.add_soon(Thing())
