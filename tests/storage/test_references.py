"""A chunk with references decodes like one without them. The bytes that it refers to stay in their object."""

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


class StoredList:
    """A stored list, with the ranges of it that were fetched."""

    def __init__(self, texts: list[Any], **options: Any) -> None:
        self.texts = texts
        self.body = encode(texts, **options)
        self.name = digest(self.body)
        self.source = ReferenceSource.of(texts, self.body, name=self.name)
        self.fetched: list[Reference] = []

    @property
    def sources(self) -> list[ReferenceSource]:
        assert self.source is not None
        return [self.source]

    def fetch_range(self, reference: Reference) -> Content:
        assert reference.source == self.name
        self.fetched.append(reference)
        return memoryview(self.body)[reference.offset : reference.offset + reference.length]


def chunk_of(encoder: SequenceEncoder, *items: Any) -> bytes:
    for item in items:
        encoder.add(item)
    return encoder.finish()


def test_slices_become_references() -> None:
    """Consecutive slices cost only their positions, and each is one range of the list."""
    stored = StoredList(TEXTS)
    encoder = SequenceEncoder(sources=stored.sources)
    for start, stop in pairwise(range(0, 27, 13)):
        item = {"part": TEXTS[start:stop], "number": start}
        encoder.add(item)
        assert encoder.size_bytes > encoder.referenced_bytes > 130_000
        chunk = encoder.finish()
        assert len(chunk) < 200
        assert decode(chunk, fetch_range=stored.fetch_range) == [item]
    assert sum(reference.length for reference in stored.fetched) == len(stored.body) - len(encode([])) - 2


def test_consecutive_items_refer_to_one_range() -> None:
    """With one text per item, or two, a chunk still needs one request for its range."""
    stored = StoredList(TEXTS)
    items = [{"text": text, "index": index} for index, text in enumerate(TEXTS)]
    pairs = [{"a": TEXTS[0:3], "b": TEXTS[3], "c": TEXTS[4:8]}]
    for each in (items, pairs):
        assert decode(chunk_of(SequenceEncoder(sources=stored.sources), *each), fetch_range=stored.fetch_range) == each
    assert len(stored.fetched) == 2


def test_values_out_of_order_are_written() -> None:
    """A shuffled list is restored, too, and small values need no request for a range."""
    stored = StoredList(TEXTS)
    shuffled = random.Random(1).sample(TEXTS, len(TEXTS))
    items = [{"text": text} for text in shuffled]
    chunk = chunk_of(SequenceEncoder(sources=stored.sources), *items)
    assert decode(chunk) == items
    assert len(chunk) > 260_000
    assert stored.fetched == []


def test_a_small_range_is_copied() -> None:
    """A range that is too small for a request is copied into the chunk, which is read like any other."""
    stored = StoredList(TEXTS)
    encoder = SequenceEncoder(sources=stored.sources)
    encoder.add({"part": TEXTS[2:4]})
    assert encoder.referenced_bytes == 0
    assert encoder.size_bytes > 20_000
    chunk = encoder.finish()
    assert REFERENCE_BYTES > len(chunk) > 20_000
    assert decode(chunk) == [{"part": TEXTS[2:4]}]


@given(st.data())
def test_any_items_are_restored(data: st.DataObject) -> None:
    """Any items that setup makes of the list, in any order, are restored with their types."""
    element = st.sampled_from(SIZES).flatmap(
        lambda size: st.sampled_from(["x" * size, b"x" * size, "ä" * size, "\ud800" * (size % 1000)])
    )
    texts = [*data.draw(st.lists(element, max_size=8)), "x" * 70_000, "y" * 5_000]
    stored = StoredList([text[:1] + text[1:] for text in texts])
    bound = st.integers(0, len(texts))
    value = st.one_of(
        st.tuples(bound, bound).map(lambda cut: stored.texts[cut[0] : cut[1]]),
        st.integers(0, len(texts) - 1).map(lambda index: stored.texts[index]),
        st.integers(0, len(texts) - 1).map(lambda index: [stored.texts[index], 1]),
        st.integers(),
    )
    encoder = SequenceEncoder(sources=stored.sources)
    for items in data.draw(st.lists(st.lists(st.fixed_dictionaries({"a": value, "b": value}), max_size=4), max_size=4)):
        assert decode(chunk_of(encoder, *items), fetch_range=stored.fetch_range) == items


@pytest.mark.parametrize("repeated", ["one object", "equal objects"])
def test_equal_texts_can_be_referred_to(repeated: str) -> None:
    """A list that holds one text many times can be referred to at each position."""
    texts = ["x" * 10_000] * 26 if repeated == "one object" else ["x" * 10_000 + "" + str(n % 2) for n in range(26)]
    stored = StoredList(texts)
    items = [{"text": text} for text in texts]
    chunk = chunk_of(SequenceEncoder(sources=stored.sources), *items)
    assert decode(chunk, fetch_range=stored.fetch_range) == items
    assert len(chunk) < 2_000


def test_references_ignore_later_changes_to_the_list() -> None:
    """Positions are those of the elements, even after setup has changed the list."""
    stored = StoredList(list(TEXTS))
    stored.texts.reverse()
    stored.texts[3] = "another"
    stored.texts.append("more")
    items = [{"part": stored.texts[:8]}, {"part": stored.texts[8:]}, {"part": [TEXTS[0], TEXTS[1], "other"]}]
    assert decode(chunk_of(SequenceEncoder(sources=stored.sources), *items), fetch_range=stored.fetch_range) == items


def test_a_refused_item_adds_no_reference() -> None:
    """After a refused item the chunk is as it was before, and further items continue it."""
    stored = StoredList(TEXTS)
    encoder = SequenceEncoder(sources=stored.sources)
    encoder.add({"part": TEXTS[:10]})
    before = encoder.size_bytes
    with pytest.raises(Unencodable, match=r"items\[1\]\.other"):
        encoder.add({"part": TEXTS[10:20], "other": object()})
    assert encoder.size_bytes == before
    chunk = chunk_of(encoder, {"part": TEXTS[10:12]})
    assert decode(chunk, fetch_range=stored.fetch_range) == [{"part": TEXTS[:10]}, {"part": TEXTS[10:12]}]
    assert [reference.length for reference in stored.fetched] == [12 * 10_003]


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("texts", [2, 20])
def test_arrays_and_references_in_one_chunk(texts: int, compression: Any) -> None:
    """Out-of-band buffers, a reference and compression work in one chunk."""
    stored = StoredList(TEXTS)
    items = [{"part": TEXTS[:texts], "weights": np.arange(1000.0)}, {"part": [], "weights": np.zeros(5000)}]
    found = decode(
        chunk_of(SequenceEncoder(sources=stored.sources, compression=compression), *items),
        fetch_range=stored.fetch_range,
    )
    np.testing.assert_equal(found, items)
    assert len(stored.fetched) == (texts == 20)


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
def test_values_that_are_no_source(value: Any) -> None:
    """A list of small elements is no source, because looking them up takes longer than writing them.

    Nor are values that can be changed, or that are no list.
    """
    body = encode(value)
    assert ReferenceSource.of(value, body, name=digest(body)) is None


def test_a_compressed_list_is_no_source() -> None:
    """A compressed list has no offsets of its elements; one that zstd left uncompressed is a source."""
    assert StoredList(TEXTS, compression="zstd").source is None
    noise = [random.Random(seed).randbytes(10_000) for seed in range(10)]
    assert StoredList(noise, compression="zstd").source is not None


def test_a_chunk_refers_to_one_source() -> None:
    """A chunk refers to one source; values of another are written into it, and the next chunk may refer to that."""
    one, two = StoredList(TEXTS), StoredList([text + "!" for text in TEXTS])
    encoder = SequenceEncoder(sources=[*one.sources, *two.sources])
    item = {"a": one.texts[:13], "b": two.texts[:13]}
    chunk = chunk_of(encoder, item)
    assert decode(chunk, fetch_range=one.fetch_range) == [item]
    item = {"b": two.texts[13:], "a": 1}
    assert decode(chunk_of(encoder, item), fetch_range=two.fetch_range) == [item]


def test_a_changed_range_is_refused() -> None:
    """The chunk has the checksum of its range."""
    stored = StoredList(TEXTS)
    chunk = chunk_of(SequenceEncoder(sources=stored.sources), {"part": TEXTS})
    for damaged in (stored.body[:-1], stored.body[:-1] + b"!"):
        with pytest.raises(
            CorruptObject, match=rf"the object at 'pack' refers to bytes of {stored.name}, and they are not"
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
    assert decode(chunk, fetch_range=stored.fetch_range) == [{"part": TEXTS}]


def test_a_forged_position_reads_nothing() -> None:
    """Positions are read in order and once, so that few bytes cannot become many."""
    with pytest.raises(CorruptObject):
        decode(encode({"a": ReferencedValues(0, 10, None)}))
    stored = StoredList(TEXTS)
    whole = {"part": TEXTS}
    encoder = SequenceEncoder(sources=stored.sources)
    for item in (whole, {"again": ReferencedValues(0, 10_003, None)}):
        encoder.add(item)
    with pytest.raises(CorruptObject, match="cannot be read"):
        decode(encoder.finish(), fetch_range=stored.fetch_range)
    encoder.add(whole)
    encoder.add({"negative": ReferencedValues(26 * 10_003, -10_003, None)})
    with pytest.raises(CorruptObject, match="cannot be read"):
        decode(encoder.finish(), fetch_range=stored.fetch_range)


@given(st.binary(max_size=200))
def test_a_forged_reference_is_corrupt(end: bytes) -> None:
    """Random bytes under the flag of a reference are corrupt."""
    import xxhash

    from storage.codec.envelope import HEADER, REFERENCES

    forged = HEADER.pack(b"\x9fobj", 1, REFERENCES, len(end), xxhash.xxh3_128_digest(end, REFERENCES)) + end
    with pytest.raises(CorruptObject):
        decode(forged, fetch_range=lambda reference: b"")
