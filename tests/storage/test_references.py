"""A chunk that borrows is the chunk that it would be; what it does not repeat lies with its lender."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import (
    Content,
    CorruptObject,
    Reference,
    ReferenceSource,
    SequenceEncoder,
    Unencodable,
    decode,
    digest,
    encode,
)
from storage.codec.references import REFERENCE_BYTES, ReferencedValues

SIZES = (0, 1, 31, 32, 255, 256, 0xFFFF, 0x10000)
TEXTS = [letter * 10_000 for letter in "abcdefghijklmnopqrstuvwxyz"]


class Shelf:
    """A stored list, and those who borrow from it."""

    def __init__(self, texts: list[Any], **options: Any) -> None:
        self.texts = texts
        self.body = encode(texts, **options)
        self.name = digest(self.body)
        self.source = ReferenceSource.of(texts, self.body, name=self.name)
        self.loans: list[Reference] = []

    @property
    def sources(self) -> list[ReferenceSource]:
        assert self.source is not None
        return [self.source]

    def fetch_range(self, reference: Reference) -> Content:
        assert reference.source == self.name
        self.loans.append(reference)
        return memoryview(self.body)[reference.offset : reference.offset + reference.length]


def chunk_of(encoder: SequenceEncoder, *items: Any) -> bytes:
    for item in items:
        encoder.add(item)
    return encoder.finish()


def test_slices_are_borrowed() -> None:
    """Consecutive slices cost their places alone, and each is one range of the lender."""
    shelf = Shelf(TEXTS)
    encoder = SequenceEncoder(sources=shelf.sources)
    for start, stop in pairwise(range(0, 27, 13)):
        item = {"part": TEXTS[start:stop], "number": start}
        encoder.add(item)
        assert encoder.size_bytes > encoder.referenced_bytes > 130_000
        chunk = encoder.finish()
        assert len(chunk) < 200
        assert decode(chunk, fetch_range=shelf.fetch_range) == [item]
    assert sum(reference.length for reference in shelf.loans) == len(shelf.body) - len(encode([])) - 2


def test_items_that_follow_on_each_other_borrow_one_range() -> None:
    """One text an item, or two: a chunk is still one request to the lender."""
    shelf = Shelf(TEXTS)
    items = [{"text": text, "index": index} for index, text in enumerate(TEXTS)]
    pairs = [{"a": TEXTS[0:3], "b": TEXTS[3], "c": TEXTS[4:8]}]
    for each in (items, pairs):
        assert decode(chunk_of(SequenceEncoder(sources=shelf.sources), *each), fetch_range=shelf.fetch_range) == each
    assert len(shelf.loans) == 2


def test_what_does_not_follow_is_written() -> None:
    """A shuffled list is right as well, and asks the lender for nothing that is small."""
    shelf = Shelf(TEXTS)
    shuffled = random.Random(1).sample(TEXTS, len(TEXTS))
    items = [{"text": text} for text in shuffled]
    chunk = chunk_of(SequenceEncoder(sources=shelf.sources), *items)
    assert decode(chunk) == items
    assert len(chunk) > 260_000
    assert shelf.loans == []


def test_a_small_range_is_copied() -> None:
    """What is smaller than a request is worth stands in the chunk, which is then read like any other."""
    shelf = Shelf(TEXTS)
    encoder = SequenceEncoder(sources=shelf.sources)
    encoder.add({"part": TEXTS[2:4]})
    assert encoder.referenced_bytes == 0
    assert encoder.size_bytes > 20_000
    chunk = encoder.finish()
    assert REFERENCE_BYTES > len(chunk) > 20_000
    assert decode(chunk) == [{"part": TEXTS[2:4]}]


@given(st.data())
def test_any_items_come_back(data: st.DataObject) -> None:
    """Whatever setup makes of the list, in whatever order, comes back with its types."""
    element = st.sampled_from(SIZES).flatmap(
        lambda size: st.sampled_from(["x" * size, b"x" * size, "ä" * size, "\ud800" * (size % 1000)])
    )
    texts = [*data.draw(st.lists(element, max_size=8)), "x" * 70_000, "y" * 5_000]
    shelf = Shelf([text[:1] + text[1:] for text in texts])
    bound = st.integers(0, len(texts))
    value = st.one_of(
        st.tuples(bound, bound).map(lambda cut: shelf.texts[cut[0] : cut[1]]),
        st.integers(0, len(texts) - 1).map(lambda index: shelf.texts[index]),
        st.integers(0, len(texts) - 1).map(lambda index: [shelf.texts[index], 1]),
        st.integers(),
    )
    encoder = SequenceEncoder(sources=shelf.sources)
    for items in data.draw(st.lists(st.lists(st.fixed_dictionaries({"a": value, "b": value}), max_size=4), max_size=4)):
        assert decode(chunk_of(encoder, *items), fetch_range=shelf.fetch_range) == items


@pytest.mark.parametrize("repeated", ["one object", "equal objects"])
def test_texts_that_are_equal(repeated: str) -> None:
    """A list that holds one text many times lends each place of it."""
    texts = ["x" * 10_000] * 26 if repeated == "one object" else ["x" * 10_000 + "" + str(n % 2) for n in range(26)]
    shelf = Shelf(texts)
    items = [{"text": text} for text in texts]
    chunk = chunk_of(SequenceEncoder(sources=shelf.sources), *items)
    assert decode(chunk, fetch_range=shelf.fetch_range) == items
    assert len(chunk) < 2_000


def test_a_list_that_setup_changes_is_sent_as_it_is_then() -> None:
    """Places are those of the elements, whatever became of the list."""
    shelf = Shelf(list(TEXTS))
    shelf.texts.reverse()
    shelf.texts[3] = "another"
    shelf.texts.append("more")
    items = [{"part": shelf.texts[:8]}, {"part": shelf.texts[8:]}, {"part": [TEXTS[0], TEXTS[1], "other"]}]
    assert decode(chunk_of(SequenceEncoder(sources=shelf.sources), *items), fetch_range=shelf.fetch_range) == items


def test_an_item_that_does_not_travel_borrows_nothing() -> None:
    """The chunk is as it was before, and goes on from there."""
    shelf = Shelf(TEXTS)
    encoder = SequenceEncoder(sources=shelf.sources)
    encoder.add({"part": TEXTS[:10]})
    before = encoder.size_bytes
    with pytest.raises(Unencodable, match=r"items\[1\]\.other"):
        encoder.add({"part": TEXTS[10:20], "other": object()})
    assert encoder.size_bytes == before
    chunk = chunk_of(encoder, {"part": TEXTS[10:12]})
    assert decode(chunk, fetch_range=shelf.fetch_range) == [{"part": TEXTS[:10]}, {"part": TEXTS[10:12]}]
    assert [reference.length for reference in shelf.loans] == [12 * 10_003]


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("texts", [2, 20])
def test_arrays_and_loans_in_one_chunk(texts: int, compression: Any) -> None:
    """What lies apart and what is borrowed do not get in each other's way; nor does compression."""
    shelf = Shelf(TEXTS)
    items = [{"part": TEXTS[:texts], "weights": np.arange(1000.0)}, {"part": [], "weights": np.zeros(5000)}]
    found = decode(
        chunk_of(SequenceEncoder(sources=shelf.sources, compression=compression), *items), fetch_range=shelf.fetch_range
    )
    np.testing.assert_equal(found, items)
    assert len(shelf.loans) == (texts == 20)


@pytest.mark.parametrize(
    "value",
    [
        [],
        ["x" * 1000] * 100,
        ["x" * 100_000, 1],
        ["x" * 100_000, bytearray(100_000)],
        ("x" * 100_000,),
        {"a": "x" * 100_000},
        "x" * 100_000,
        [["x" * 100_000]],
    ],
)
def test_what_is_not_lent(value: Any) -> None:
    """Small elements would take longer to look up than to write; others can be changed, or are no list."""
    body = encode(value)
    assert ReferenceSource.of(value, body, name=digest(body)) is None


def test_a_compressed_list_is_not_lent() -> None:
    """Nobody knows where its elements lie; one that zstd left as it is lends them."""
    assert Shelf(TEXTS, compression="zstd").source is None
    noise = [random.Random(seed).randbytes(10_000) for seed in range(10)]
    assert Shelf(noise, compression="zstd").source is not None


def test_the_first_of_several_lenders_is_the_one_of_the_chunk() -> None:
    """A chunk borrows from one; what another has is written into it, and the next chunk may borrow there."""
    one, two = Shelf(TEXTS), Shelf([text + "!" for text in TEXTS])
    encoder = SequenceEncoder(sources=[*one.sources, *two.sources])
    item = {"a": one.texts[:13], "b": two.texts[:13]}
    chunk = chunk_of(encoder, item)
    assert decode(chunk, fetch_range=one.fetch_range) == [item]
    item = {"b": two.texts[13:], "a": 1}
    assert decode(chunk_of(encoder, item), fetch_range=two.fetch_range) == [item]


def test_a_lender_that_changed_is_noticed() -> None:
    """The chunk knows the checksum of its range."""
    shelf = Shelf(TEXTS)
    chunk = chunk_of(SequenceEncoder(sources=shelf.sources), {"part": TEXTS})
    for damaged in (shelf.body[:-1], shelf.body[:-1] + b"!"):
        with pytest.raises(
            CorruptObject, match=rf"the object at 'pack' refers to bytes of {shelf.name}, and they are not"
        ):
            decode(
                chunk,
                key="pack",
                fetch_range=lambda reference, body=damaged: body[
                    reference.offset : reference.offset + reference.length
                ],
            )
    with pytest.raises(CorruptObject, match="which is not allowed here"):
        decode(chunk)
    assert decode(chunk, fetch_range=shelf.fetch_range) == [{"part": TEXTS}]


def test_a_place_that_was_forged_reads_nothing() -> None:
    """Places are read in order and once, so that few bytes can't become many."""
    with pytest.raises(CorruptObject):
        decode(encode({"a": ReferencedValues(0, 10, None)}))
    shelf = Shelf(TEXTS)
    whole = {"part": TEXTS}
    encoder = SequenceEncoder(sources=shelf.sources)
    for item in (whole, {"again": ReferencedValues(0, 10_003, None)}):
        encoder.add(item)
    with pytest.raises(CorruptObject, match="cannot be read"):
        decode(encoder.finish(), fetch_range=shelf.fetch_range)
    encoder.add(whole)
    encoder.add({"negative": ReferencedValues(26 * 10_003, -10_003, None)})
    with pytest.raises(CorruptObject, match="cannot be read"):
        decode(encoder.finish(), fetch_range=shelf.fetch_range)


@given(st.binary(max_size=200))
def test_any_end_is_refused_in_words(end: bytes) -> None:
    """Bytes that claim to borrow, and are anything, are corrupt."""
    import xxhash

    from storage.codec.envelope import HEADER, REFERENCES

    forged = HEADER.pack(b"\x9fobj", 1, REFERENCES, len(end), xxhash.xxh3_128_digest(end, REFERENCES)) + end
    with pytest.raises(CorruptObject):
        decode(forged, fetch_range=lambda reference: b"")
