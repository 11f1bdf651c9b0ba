"""Values are restored exactly or refused, and damaged bytes are always found."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import gc
import math
import struct
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage import CorruptObject, SequenceEncoder, Unencodable, UnknownKey, checksum, decode, digest, encode
from storage.codec.envelope import new_stream, seal_stream

# Property tests draw thousands of values and do not depend on the environment fixture.
law = settings(max_examples=100)

ZONES = st.one_of(
    st.none(),
    st.sampled_from([UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), timezone(timedelta(0), "Z")]),
    st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23))),
)
FOLDS = st.sampled_from([0, 1])
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.integers(-300, 300).map(lambda power: (1 if power > 0 else -1) * 2 ** abs(power)),
    st.floats(),
    st.complex_numbers(),
    st.text(),
    st.text(st.characters(codec=None)),
    st.binary(),
    st.builds(lambda moment, fold: moment.replace(fold=fold), st.datetimes(timezones=ZONES), FOLDS),
    st.dates(),
    st.builds(lambda moment, fold: moment.replace(fold=fold), st.times(timezones=ZONES), FOLDS),
    st.timedeltas(),
    # Signalling NaN has no hash, so it is one of the edges below.
    st.one_of(st.decimals(allow_nan=False), st.just(Decimal("NaN"))),
    st.fractions(),
    st.uuids(),
    st.builds(range, st.integers(), st.integers(), st.integers().filter(bool)),
)
KEYS: st.SearchStrategy[Hashable] = st.recursive(
    ATOMS, lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=3)), max_leaves=4
)
FACTORIES = st.sampled_from([list, dict, set, int, float, str, None])


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    dicts = st.dictionaries(KEYS, inner, max_size=4)
    lists = st.lists(inner, max_size=4)
    return st.one_of(
        lists,
        lists.map(tuple),
        dicts,
        st.sets(KEYS, max_size=4),
        dicts.map(Counter),
        dicts.map(OrderedDict),
        st.builds(defaultdict, FACTORIES, dicts),
        st.builds(deque, lists, st.sampled_from([None, 0, 2, 9])),
    )


VALUES = st.recursive(ATOMS, containers, max_leaves=12)


def same(one: Any, other: Any) -> bool:
    """Return whether values and types are equal at every depth; NaN equals NaN, and 0.0 differs from -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return struct.pack(">d", one) == struct.pack(">d", other) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, Decimal):
        return one.as_tuple() == other.as_tuple()
    if isinstance(one, datetime | time):
        return (one.replace(tzinfo=None), one.fold, repr(one.tzinfo)) == (
            other.replace(tzinfo=None),
            other.fold,
            repr(other.tzinfo),
        )
    if isinstance(one, set | frozenset):
        return len(one) == len(other) and all(any(same(member, found) for found in other) for member in one)
    if isinstance(one, dict):
        if isinstance(one, defaultdict) and one.default_factory is not other.default_factory:
            return False
        return same(list(one.items()), list(other.items()))
    if isinstance(one, list | tuple | deque):
        if isinstance(one, deque) and one.maxlen != other.maxlen:
            return False
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@law
@given(VALUES)
def test_every_value_is_restored_exactly(value: Any) -> None:
    """decode(encode(x)) is x, in value and in type, at every depth."""
    assert same(decode(encode(value)), value)


@law
@given(VALUES)
def test_encoding_a_decoded_value_gives_equal_bytes(value: Any) -> None:
    """Encoding a decoded value gives the same bytes again, so a repeated write compares equal."""
    assert encode(decode(encode(value))) == encode(value)


def test_sets_have_one_order() -> None:
    """Two equal sets that were filled differently give the same bytes."""
    words = [f"word {number}" for number in range(100)]
    assert encode({*words}) == encode({*words[::-1]})
    assert encode(frozenset([1, "a", None, (2, 3)])) == encode(frozenset([(2, 3), None, "a", 1]))


@pytest.mark.parametrize(
    "value",
    [
        2**64,
        2**64 - 1,
        -(2**63),
        -(2**63) - 1,
        10**5000,
        -0.0,
        "\ud800 alone",
        {"\udfff": "\ud800"},
        {(1, (2, frozenset({3}))): {True: 1, "True": 2}},
        (),
        [],
        {},
        set(),
        frozenset(),
        deque([1, 2, 3], 2),
        defaultdict(list, {"a": [1]}),
        datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        datetime(1, 1, 1),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-5, minutes=-30, seconds=-7), "odd")),
        time(23, 59, 59, 999999, fold=1),
        date.min,
        timedelta.min,
        Decimal("-0.000"),
        Decimal("sNaN123"),
        Decimal("1E+400"),
        Fraction(-1, 3),
        UUID(int=0),
        range(5, -5, -3),
        complex(-0.0, math.inf),
    ],
    ids=lambda value: type(value).__name__,
)
def test_edge_values_are_restored_exactly(value: object) -> None:
    """The ends of ranges and the special cases of each type survive, alone and inside a tuple in a dict."""
    assert same(decode(encode(value)), value)
    assert same(decode(encode({"deep": [(value,)]})), {"deep": [(value,)]})


def test_an_ordered_dict_keeps_its_own_order() -> None:
    """An OrderedDict keeps the order that move_to_end gave it."""
    ordered = OrderedDict(a=1, b=2, c=3)
    ordered.move_to_end("a")
    assert list(decode(encode(ordered))) == ["b", "c", "a"]


class Thing:
    pass


class Name(str):
    __slots__ = ()


class Colour(enum.IntEnum):
    RED = 1


@dataclass
class Record:
    number: int


Pair = namedtuple("Pair", "one two")
marked = Counter(a=1)
marked.note = "would be lost"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "foreign",
    [
        Thing(),
        Thing,
        Name("x"),
        type("Sub", (dict,), {})(),
        type("Sub", (bytes,), {})(b"x"),
        (number for number in ()),
        len,
        marked,
        defaultdict(lambda: 1),
        datetime(2024, 1, 1, tzinfo=type("Zone", (type(UTC).__base__,), {})()),
        NotImplemented,
        ...,
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_unencodable_value_is_refused_with_its_path(foreign: object) -> None:
    """A value that cannot be restored exactly is refused with its path, at any depth."""
    with pytest.raises(Unencodable, match=r"^value is .*(Convert|Register)") as caught:
        encode(foreign)
    assert caught.value.path == "value"
    with pytest.raises(TypeError) as nested:
        encode({"a": [0, ({"odd key": foreign},)]}, path="result")
    assert isinstance(nested.value, Unencodable)
    assert nested.value.path == "result.a[1][0]['odd key']"


def test_the_error_shows_the_beginning_of_the_value() -> None:
    """The text of the error has the path and an excerpt of the value, and stays short whatever the value is."""

    class Rows(list[int]):
        pass

    with pytest.raises(Unencodable) as caught:
        encode({"rows": [1, Rows(range(1000))]}, path="result")
    text = str(caught.value)
    assert text.startswith("result.rows[1] is a ")
    assert "Rows ([0, 1, 2, 3, ...997, 998, 999])" in text
    endless = type("X" * 500, (), {"__repr__": lambda self: "é\n" * 10_000})()
    mute = type("Mute", (), {"__repr__": lambda self: 1 / 0})()
    registrable = dataclasses.make_dataclass("Y" * 500, ["text"])("z" * 500)
    for value in (endless, mute, registrable, marked, len, Thing()):
        with pytest.raises(Unencodable) as caught:
            encode({"k" * 500: {"l" * 500: [value]}})
        assert len(str(caught.value)) <= 300


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([1, 2, Thing()], "value[2]"),
        ({"a": {"b": Thing()}}, "value.a.b"),
        ({3: Thing()}, "value[3]"),
        ({(1, 2): Thing()}, "value[a tuple]"),
        ({(1, Thing()): 2}, "value.<key a tuple>[1]"),
        ({Thing}, "value.<member>"),
        (deque([0, Thing()]), "value[1]"),
        (defaultdict(list, {"a": [Thing()]}), "value.a[0]"),
        (OrderedDict(a=Thing()), "value.a"),
        ({"k" * 100: Thing()}, f"value.{'k' * 100}"),
        ({"k " * 100: Thing()}, "value['" + "k " * 19 + "k…]"),
    ],
)
def test_the_error_names_the_path(value: object, path: str) -> None:
    """The path in the error is written as in Python, or nearly so."""
    with pytest.raises(Unencodable) as caught:
        encode(value)
    assert caught.value.path == path


def test_a_cycle_and_a_deep_nesting_are_refused() -> None:
    """A value that contains itself, or is nested too deep, is refused instead of exhausting the stack."""
    cycle: list[Any] = [1]
    cycle.append({"again": (cycle,)})
    with pytest.raises(Unencodable, match="contains itself") as caught:
        encode(cycle)
    assert caught.value.path == "value[1].again[0]"
    tower: Any = ()
    for _ in range(5000):
        tower = (tower,)
    with pytest.raises(Unencodable, match="nested deeper"):
        encode(tower)


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: (inner,), lambda inner: {"a": inner}])
def test_the_guaranteed_depth_is_restored(wrap: Any) -> None:
    """98 levels around a lone surrogate, which needs the slow path, are restored exactly."""
    value: Any = "\ud800"
    for _ in range(98):
        value = wrap(value)
    assert same(decode(encode(value)), value)


def test_shared_values_are_no_cycle() -> None:
    """One list in two places is encoded twice, on the fast path and on the slow one."""
    shared = ["\ud800"]
    assert decode(encode([shared, shared])) == [shared, shared]
    assert decode(encode([shared[:0], shared[:0]])) == [[], []]


def test_default_replaces_unencodable_objects() -> None:
    """The encoder calls default once per foreign object, at any depth, and encodes its result instead."""
    seen: list[object] = []

    def default(value: object) -> object:
        seen.append(value)
        return {"number": value.number, "raw": "\ud800"} if isinstance(value, Record) else value

    one, two = Record(1), Record(2)
    value = {"a": [one, (two,)], "b": one, "c": "\ud801"}
    expected = {"number": 1, "raw": "\ud800"}
    decoded = decode(encode(value, default=default))
    assert same(decoded, {"a": [expected, ({**expected, "number": 2},)], "b": expected, "c": "\ud801"})
    assert seen == [one, two]
    with pytest.raises(Unencodable, match="Thing"):
        encode([Thing()], default=default)


def test_a_replacement_may_not_contain_itself() -> None:
    """A default that returns a cycle, or a new foreign object each time, is refused like any other value."""
    cycle: list[Any] = []
    cycle += [cycle, cycle]
    with pytest.raises(Unencodable, match="contains itself"):
        encode([Thing()], default=lambda _: cycle)
    with pytest.raises(Unencodable, match="deeper"):
        encode([Thing()], default=lambda _: Thing())


def test_errors_of_default_reach_the_caller() -> None:
    """A TypeError from default means a refusal and keeps its text; any other error passes through."""

    def refuse(value: object) -> object:
        raise TypeError("not on my watch")

    def fail(value: object) -> object:
        raise ValueError("disk full")

    with pytest.raises(Unencodable, match="not on my watch"):
        encode([Thing()], default=refuse)
    with pytest.raises(ValueError, match="disk full"):
        encode([Thing()], default=fail)


def test_any_flipped_byte_is_found() -> None:
    """A change of any single byte to any other makes decode refuse the value."""
    data = encode({"a": [1, "two", (3.0,)]})
    for position in range(len(data)):
        for change in range(1, 256):
            damaged = bytearray(data)
            damaged[position] ^= change
            with pytest.raises(CorruptObject):
                decode(damaged)


@law
@given(VALUES, st.data())
def test_a_damaged_value_is_found(value: Any, data: st.DataObject) -> None:
    """A changed, missing or added byte anywhere in any value is found."""
    encoded = encode(value)
    position = data.draw(st.integers(0, len(encoded) - 1))
    flipped = bytearray(encoded)
    flipped[position] ^= data.draw(st.integers(1, 255))
    for damaged in (flipped, encoded[:position], encoded + b"\x00"):
        with pytest.raises(CorruptObject):
            decode(damaged)


def envelope_of(payload: bytes) -> bytes:
    """Return the payload in an envelope with a valid checksum."""
    stream = new_stream()
    stream.write(payload)
    return seal_stream(stream)


@law
@given(st.binary(max_size=400))
@example(b"\x9fenc")
def test_hostile_bytes_raise_one_error(payload: bytes) -> None:
    """Random bytes decode or raise CorruptObject, or UnknownKey for the mark of a sealed object.

    They come bare, or as a payload with a valid checksum.
    """
    for data in (payload, envelope_of(payload)):
        with contextlib.suppress(CorruptObject, UnknownKey):
            decode(data)


@pytest.mark.parametrize(
    "payload",
    [
        b"\xdd\xff\xff\xff\xff" * 20,
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x02",
        b"\x91" * 5000,
        b"\x81\x90\x01",
        b"\xc7\x01\x63\xc0",
        b"\xc7\x03\x10\x92\x01\x00",
        b"\xd4\x02\xc0",
        b"",
        b"\x01\x01",
        b"\xc1",
        b"\xa2\xff\xff",
    ],
)
def test_crafted_payloads_raise_one_error(payload: bytes) -> None:
    """Huge lengths, deep nesting, unhashable keys, unknown codes, zero divisors: all are corrupt."""
    with pytest.raises(CorruptObject, match="upgrade"):
        decode(envelope_of(payload))


def test_deeply_nested_extensions_raise_one_error() -> None:
    """Extensions inside extensions, hundreds deep, are refused before the stack ends."""
    payload = b"\x90"
    for _ in range(3000):
        payload = b"\xc9" + len(payload).to_bytes(4, "big") + b"\x02" + payload
    with pytest.raises(CorruptObject):
        decode(envelope_of(payload))


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (
            "9f6f626a0100000000000000002f258dadabc06657fb8a2b1f8ca66f8e3484a1619301a374776fc70b0292cb4008000000000000"
            "c0a162c40178a163c70303920405a164c7060c93cd07e8021d",
            {"a": [1, "two", (3.0, None)], "b": b"x", "c": {4, 5}, "d": date(2024, 2, 29)},
        ),
        ("9f6f626a0100000000000000000996a41de4e2b6c15d5c47fcf2a19b68059281a16e0181a16e02", [{"n": 1}, {"n": 2}]),
    ],
)
def test_the_wire_format_is_stable(written: str, value: Any) -> None:
    """Bytes that an earlier version wrote are read, and a plain value still gives the same bytes."""
    assert same(decode(bytes.fromhex(written)), value)
    assert encode(value).hex() == written


@pytest.mark.parametrize(
    "value",
    [
        "a" * 700_000,
        "ä€😀" * 300_000,
        "x" * 300_000 + "\ud800",
        b"\xc4" * 700_000,
        ["y" * 70_000, b"z" * 70_000, 1] * 20,
        list(range(100_000)),
        {number: str(number) for number in range(100_000)},
        [*range(500), "x" * 400_000, *range(500), {"deep": {"er": [b"y" * 400_000, (1, "\ud800")]}}],
        {**{f"key {number}": number for number in range(20)}, "large": b"x" * 2**20, "last": [None] * 70_000},
        [[[[[[[[[["a" * 70_000]]]]]]]]]],
        ["x" * 70_000, (b"y" * 70_000, ["z" * 70_000])],
        [b"y" * 300_000, "x" * 300_000],
        [{"n": number, "text": "Ā" * 40} for number in range(5000)],
    ],
    ids=range(13),
)
def test_large_values_are_packed_like_small_ones(value: Any) -> None:
    """A value that is written incrementally gives the same bytes as the packer alone, and is restored exactly."""
    encoded = encode(value)
    assert same(decode(encoded), value)
    encoder = SequenceEncoder()
    encoder.add(value)
    assert encoder.finish()[35:] == encoded[30:]
    # After a small item the encoder expects the next one to be small.
    encoder.add(None)
    encoder.add(value)
    assert encoder.finish()[36:] == encoded[30:]


@pytest.mark.parametrize(
    "where",
    [
        lambda thing: [*range(300), thing],
        lambda thing: {"a" * 70_000: 1, "b": ["x" * 70_000, {"c": thing}]},
        lambda thing: [{"n": number} for number in range(5000)] + [{"n": thing}],
        lambda thing: ["ascii only " * 50] * 500 + [thing],
    ],
    ids=range(4),
)
def test_a_large_value_is_checked_throughout(where: Callable[[object], object]) -> None:
    """Among thousands of other values, a lone surrogate survives and a foreign object is refused."""
    assert same(decode(encode(where("\ud800"))), where("\ud800"))
    with pytest.raises(Unencodable):
        encode(where(Thing()))


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 300_000])
@pytest.mark.parametrize("beside", ["", "\ud800"], ids=["fast", "slow"])
def test_bytes_like_values_arrive_as_bytes(content: bytes, beside: str) -> None:
    """A bytearray or memoryview arrives as equal bytes, at any depth, on the fast path and on the slow one."""
    every_other = memoryview(content)[::2]
    value = [bytearray(content), (memoryview(content), {"a": every_other}), {memoryview(content)}, beside]
    expected = [content, (content, {"a": content[::2]}), {content}, beside]
    assert same(decode(encode(value)), expected)
    encoder = SequenceEncoder()
    encoder.add(value)
    assert same(decode(encoder.finish()), [expected])


def test_a_newer_version_says_upgrade() -> None:
    """The error for an unknown version names the version and its two possible reasons."""
    data = bytearray(encode(1))
    data[4] = 2
    with pytest.raises(
        CorruptObject, match=r"in/0007.*version 2.*corrupt, or written by a newer fanout: upgrade"
    ) as caught:
        decode(data, key="in/0007")
    assert caught.value.key == "in/0007"


@pytest.mark.parametrize("bytes_type", [bytes, bytearray, memoryview])
def test_decode_accepts_any_bytes_type(bytes_type: type) -> None:
    """decode accepts bytes, a bytearray or a memoryview."""
    assert decode(bytes_type(encode([1, (2,)]))) == [1, (2,)]


def test_digest_is_stable() -> None:
    """The digest is 32 hex digits and part of the format: it never changes."""
    assert digest(b"") == "af1349b9f5f9a1a6a0404dea36dcc949"
    assert digest(b"x") == digest(bytearray(b"x")) == digest(memoryview(b"x"))
    assert len(digest(b"x")) == 32


def test_checksum_is_stable() -> None:
    """The checksum is 32 hex digits and part of the format: it never changes."""
    assert checksum(b"") == "99aa06d3014798d86001c324468d497f"
    assert checksum(b"x") == checksum(bytearray(b"x")) == checksum(memoryview(b"x"))
    assert len(checksum(b"x")) == 32


@law
@given(st.lists(VALUES, max_size=8), st.integers(1, 4), st.booleans())
def test_chunks_of_any_size_give_the_items_in_order(items: list[Any], chunk_items: int, in_place: bool) -> None:
    """However a sequence is cut into chunks, the decoded chunks give its items in order."""
    encoder = SequenceEncoder()
    chunks: list[bytes] = []
    for item in items:
        encoder.add(item)
        if len(encoder) == chunk_items:
            if in_place:
                encoder.hand_over(lambda chunk: chunks.append(bytes(chunk)))
            else:
                chunks.append(encoder.finish())
            assert (len(encoder), encoder.size_bytes) == (0, 0)
    chunks.append(encoder.finish())
    assert same([item for chunk in chunks for item in decode(chunk)], items)


def test_hand_over_reuses_the_memory_of_a_chunk() -> None:
    """A reused buffer keeps nothing of an earlier, longer chunk or of a refused item.

    The last chunk may be finished.
    """
    items: list[list[Any]] = [["x" * 600_000, "y" * 300_000], [1], [], [b"z" * 300_000, 2]]
    reused, fresh = SequenceEncoder(), SequenceEncoder()
    for chunk in items:
        for item in chunk:
            reused.add(item)
            fresh.add(item)
        with pytest.raises(Unencodable):
            reused.add(["w" * 400_000, Thing()])
        given: list[bytes] = []
        reused.hand_over(lambda whole, given=given: given.append(bytes(whole)))
        assert given == [fresh.finish()]
    reused.add(3)
    assert decode(reused.finish()) == [3]


def test_a_view_of_a_chunk_must_not_be_kept() -> None:
    """A view of a chunk that was handed over makes the next item fail; copies may be kept."""
    encoder = SequenceEncoder()
    kept: list[memoryview] = []
    encoder.add("first")
    encoder.hand_over(lambda chunk: kept.append(memoryview(chunk)))
    with pytest.raises(BufferError):
        encoder.add("second")
    kept.clear()
    encoder.add("second")
    with pytest.raises(ZeroDivisionError):
        encoder.hand_over(lambda chunk: 1 // 0)
    encoder.add("third")
    assert decode(encoder.finish()) == ["third"]


def test_a_sequence_knows_its_size_and_its_index() -> None:
    """size_bytes grows with each item. A refused item changes nothing. The index continues across chunks."""
    encoder = SequenceEncoder("items", 15)
    encoder.add({"document": "x" * 100})
    size = encoder.size_bytes
    assert 100 < size < 130
    with pytest.raises(Unencodable) as caught:
        encoder.add({"document": Thing()})
    assert caught.value.path == "items[16].document"
    assert (len(encoder), encoder.size_bytes) == (1, size)
    encoder.add(2)
    chunk = encoder.finish()
    assert decode(chunk) == [{"document": "x" * 100}, 2]
    assert len(chunk) <= size + 1 + 35
    with pytest.raises(Unencodable) as caught:
        encoder.add([Thing()])
    assert caught.value.path == "items[17][0]"


def test_an_item_is_encoded_when_it_is_added() -> None:
    """An item is encoded when it is added, and later changes to it have no effect."""
    encoder = SequenceEncoder()
    row = [1]
    encoder.add(row)
    row.append(2)
    assert decode(encoder.finish()) == [[1]]


def test_an_encoder_is_freed_without_the_garbage_collector() -> None:
    """The buffers of an encoder, as large as its largest value, are freed with it."""
    encoder = SequenceEncoder()
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            encode({"text": "x" * 1000, "nested": ((1,), {2})})
            encoder.add({"nested": ((1,), {2})})
            encoder.finish()
        assert gc.collect() == 0
    finally:
        gc.enable()
