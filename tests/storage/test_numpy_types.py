"""Arrays of NumPy and Arrow are restored exactly, in the memory of the fetched bytes."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from storage import (
    CorruptObject,
    FileStore,
    MemoryStore,
    MissingPackage,
    PackReader,
    PackWriter,
    SequenceEncoder,
    Unencodable,
    decode,
    encode,
)
from storage.codec.envelope import new_stream, seal_stream

MIB = 2**20

law = settings(max_examples=100)

PLAIN_DTYPES = st.one_of(
    arrays.boolean_dtypes(),
    arrays.integer_dtypes(endianness="?"),
    arrays.unsigned_integer_dtypes(endianness="?"),
    arrays.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    arrays.complex_number_dtypes(endianness="?", sizes=(64, 128)),
    arrays.datetime64_dtypes(endianness="?"),
    arrays.timedelta64_dtypes(endianness="?"),
    arrays.byte_string_dtypes(endianness="?"),
    arrays.unicode_string_dtypes(endianness="?"),
)
DTYPES = st.one_of(PLAIN_DTYPES, arrays.nested_dtypes(PLAIN_DTYPES, max_leaves=4))
ARRAYS = DTYPES.flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0, max_side=20)))


def same(one: Any, other: Any) -> bool:
    """Return whether elements are equal bit by bit, of equal dtypes in equal shapes."""
    return (
        type(one) is type(other)
        and one.dtype == other.dtype
        and one.dtype.str == other.dtype.str
        and one.shape == other.shape
        and one.tobytes() == other.tobytes()
    )


def chunk_of(*items: object, compression: Any = "none") -> bytes:
    encoder = SequenceEncoder(compression=compression)
    for item in items:
        encoder.add(item)
    return encoder.finish()


@law
@given(ARRAYS)
def test_every_array_is_restored_exactly(array: np.ndarray[Any, Any]) -> None:
    """Any dtype of fixed size in any shape survives, alone, inside other values and as an item."""
    assert same(decode(encode(array)), array)
    assert same(decode(encode({"deep": [(array,)]}))["deep"][0][0], array)
    assert all(same(found, array) for found in decode(chunk_of(array, array)))


@law
@given(ARRAYS)
def test_encoding_a_decoded_array_gives_equal_bytes(array: np.ndarray[Any, Any]) -> None:
    """Encoding a decoded array gives the same bytes again, whatever the padding between its fields held."""
    assert encode(decode(encode(array))) == encode(array)


GRID = np.arange(24_000, dtype=np.float64).reshape(40, 30, 20)
PADDED = np.dtype([("flag", "u1"), ("value", "<f8"), ("place", "<i2", (2, 3))], align=True)


@pytest.mark.parametrize(
    ("array", "order"),
    [
        (GRID, "C"),
        (GRID.T, "F"),
        (np.asfortranarray(GRID), "F"),
        (GRID[::2, ::-1, 3:9], "C"),
        (np.broadcast_to(np.float32(3), (50, 60)), "C"),
        (np.array(5, dtype=">i4"), "C"),
        (np.zeros((0, 3)), "C"),
        (np.zeros((3, 0, 2), dtype=PADDED), "C"),
        (np.array(["", "a\0b", "ö" * 300]), "C"),
        (np.array([b"", b"\0x"], dtype="S4"), "C"),
        (np.zeros(2, dtype="V0"), "C"),
        (np.array(["NaT", "2024-02-29T12"], dtype="datetime64[25s]"), "C"),
        (np.zeros(3000, dtype=[(("a title", "name"), ">u2"), ("é", "m8")]), "C"),
        (np.zeros(3, dtype=np.dtype({"names": ["a"], "formats": ["<i4"], "offsets": [3], "itemsize": 9})), "C"),
        (np.array([True, False]), "C"),
        (np.array([np.nan, -0.0, np.inf], dtype=np.float16), "C"),
    ],
)
def test_layouts_are_restored(array: np.ndarray[Any, Any], order: str) -> None:
    """Fortran order is kept, a non-contiguous array is restored in C order, and odd dtypes keep every detail."""
    decoded = decode(encode(array))
    assert same(decoded, array)
    assert decoded.flags[f"{order}_CONTIGUOUS"]
    assert decoded.dtype.isalignedstruct == array.dtype.isalignedstruct
    assert decoded.dtype.fields == array.dtype.fields


def test_padding_between_fields_is_zeroed() -> None:
    """Padding is zero in the bytes, so equal arrays give equal bytes and no stale memory leaves the process."""
    array = np.empty(200, dtype=PADDED)
    array.view("u1")[:] = 0xAB
    for name in PADDED.names or ():
        array[name] = 1
    clean = np.zeros(200, dtype=PADDED)
    for name in PADDED.names or ():
        clean[name] = 1
    assert encode(array) == encode(clean)
    assert encode(array[0]) == encode(clean[0])


@pytest.mark.parametrize(
    "scalar",
    [
        *(kind(1) for kind in (np.bool_, np.int8, np.int64, np.uint16, np.longlong, np.ulonglong, np.intc)),
        *(kind(1.5) for kind in (np.float16, np.float32, np.float64, np.complex64, np.complex128)),
        np.float64("-0.0"),
        np.datetime64("2024-02-29", "D"),
        np.datetime64("NaT", "s"),
        np.zeros(1, dtype="datetime64")[0],
        np.timedelta64(-3, "ms"),
        np.str_("a\0 ü\0"),
        np.bytes_(b"\0a\0"),
        np.void(b"raw"),
        np.zeros(1, dtype=PADDED)[0],
    ],
    ids=lambda scalar: type(scalar).__name__,
)
def test_scalars_keep_their_type(scalar: Any) -> None:
    """A scalar is restored as its NumPy type, also as a key and in a set, and not as an int or a float of Python."""
    found = decode(encode([scalar, {"deep": (scalar,)}]))
    for decoded in (found[0], found[1]["deep"][0]):
        assert type(decoded) is type(scalar)
        assert decoded.dtype == scalar.dtype
        assert decoded.tobytes() == scalar.tobytes()
    if isinstance(scalar, np.number):
        assert type(next(iter(decode(encode({scalar: 1}))))) is type(scalar)
        assert type(next(iter(decode(encode({scalar}))))) is type(scalar)


class Subclass(np.ndarray[Any, Any]):
    pass


@pytest.mark.parametrize(
    ("foreign", "reason"),
    [
        (np.array([1, "a", None], dtype=object), "refers to objects: convert it"),
        (np.zeros(2, dtype=[("a", "i4"), ("b", object)]), "refers to objects"),
        # NumPy 2 has it.
        *(
            [(np.array(["a"], dtype=np.dtypes.StringDType()), "refers to objects")]
            if hasattr(np.dtypes, "StringDType")
            else []
        ),
        (np.zeros(2, dtype=np.longdouble), "another on other machines"),
        (np.longdouble(1), "another on other machines"),
        (np.zeros(2, dtype=np.dtype("i4", metadata={"unit": "m"})), "metadata"),
        (np.ma.masked_array([1], mask=[True]), "MaskedArray"),
        (np.zeros(2).view(Subclass), "Subclass"),
        (np.zeros(2, dtype=[("a", "i4")]).view(np.recarray), "recarray"),
        (np.dtype("i4"), "Int32DType"),
        (pa.scalar(1), "Int64Scalar"),
        (pa.schema([("a", pa.int8())]), "Schema"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_an_unencodable_array_is_refused_with_its_path(foreign: object, reason: str) -> None:
    """Arrays of objects, subclasses and dtypes that differ between machines are refused with their path."""
    with pytest.raises(Unencodable, match=reason) as caught:
        encode({"rows": [np.zeros(1000), foreign]}, path="result")
    assert caught.value.path == "result.rows[1]"
    encoder = SequenceEncoder()
    encoder.add({"block": np.ones(1000)})
    size = encoder.size_bytes
    with pytest.raises(Unencodable, match=r"^items\[1\]\.block"):
        encoder.add({"more": np.zeros(1000), "block": foreign})
    assert encoder.size_bytes == size
    encoder.add({"block": np.full(1000, 2.0)})
    assert [item["block"].sum() for item in decode(encoder.finish())] == [1000, 2000]


@pytest.mark.parametrize("beside", [(), "\ud800"], ids=["tuple", "surrogate"])
def test_arrays_survive_the_slow_path(beside: object) -> None:
    """Beside a value that needs the slow path, large and small arrays are restored exactly."""
    value = [np.arange(1000), beside, np.arange(3), np.float32(1)]
    for decoded in (decode(encode(value)), decode(chunk_of(1, value))[1]):
        assert same(decoded[0], value[0])
        assert decoded[1] == beside
        assert same(decoded[2], value[2])
        assert same(decoded[3], value[3])


def test_default_may_return_an_array() -> None:
    """The replacement of a foreign object may be an array."""
    decoded = decode(encode({"a": object()}, default=lambda _: np.arange(2000)))
    assert same(decoded["a"], np.arange(2000))


def test_many_arrays_of_all_sizes_share_a_chunk() -> None:
    """Thousands of arrays, inline and out of band, are restored in order, and the size of the chunk is known."""
    blocks = [np.arange(size % 150, dtype=np.float64) + size for size in range(3000)]
    encoder = SequenceEncoder()
    for number, block in enumerate(blocks):
        encoder.add({"number": number, "block": block})
    size = encoder.size_bytes
    chunk = encoder.finish()
    assert len(chunk) <= size + 35 + 58
    decoded = decode(chunk)
    assert [item["number"] for item in decoded] == list(range(3000))
    assert all(same(item["block"], block) for item, block in zip(decoded, blocks, strict=True))
    assert encoder.size_bytes == 0
    assert decode(encoder.finish()) == []


def test_an_array_is_encoded_when_it_is_added() -> None:
    """A change of an array after it was added has no effect."""
    encoder = SequenceEncoder()
    block = np.zeros(5000)
    for number in range(3):
        block[:] = number
        encoder.add(block)
    block[:] = 9
    assert [item[0] for item in decode(encoder.finish())] == [0, 1, 2]


def memory_of(value: Any) -> np.ndarray[Any, Any]:
    """Return the memory that an array of NumPy or Arrow uses for its (last) elements."""
    if isinstance(value, np.ndarray):
        return value
    columns = value.columns if hasattr(value, "columns") else [value]
    chunk = columns[0].chunk(0) if isinstance(columns[0], pa.ChunkedArray) else columns[0]
    return np.frombuffer(chunk.buffers()[-1], dtype="u1")


LARGE: dict[str, Callable[[], Any]] = {
    "numpy": lambda: np.arange(MIB, dtype=np.float64),
    "structured": lambda: np.zeros(MIB // 2, dtype=PADDED),
    "table": lambda: pa.table({"a": np.arange(MIB, dtype=np.float64)}),
    "strings": lambda: pa.table({"a": [f"row {number:09}" for number in range(MIB // 4)]}),
    "batch": lambda: pa.record_batch({"a": np.arange(MIB, dtype=np.float64)}),
    "array": lambda: pa.array(np.arange(MIB, dtype=np.float64)),
}


@pytest.mark.parametrize("kind", LARGE)
@pytest.mark.parametrize("form", ["value", "nested", "item"])
def test_decoding_allocates_no_second_copy(kind: str, form: str) -> None:
    """Decoded elements are in the memory of the fetched bytes, and hardly any other memory is taken."""
    value = LARGE[kind]()
    data = {
        "value": lambda: encode(value),
        "nested": lambda: encode({"deep": [(value,)]}),
        "item": lambda: chunk_of({"n": 1}, value),
    }[form]()
    arrow_before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        decoded = decode(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200_000
    assert pa.total_allocated_bytes() - arrow_before < 100_000
    found = {"value": lambda: decoded, "nested": lambda: decoded["deep"][0][0], "item": lambda: decoded[1]}[form]()
    assert np.shares_memory(memory_of(found), np.frombuffer(data, dtype="u1"))
    assert np.array_equal(memory_of(found), memory_of(value))


def test_decoded_arrays_cannot_be_written() -> None:
    """An array is a read-only view, even of bytes that can be written; a copy is the reader's own."""
    for data in (encode(GRID), bytearray(encode(GRID)), encode(GRID[0, 0, :2])):
        decoded = decode(data)
        with pytest.raises(ValueError, match="read-only"):
            decoded[0] = 1
        assert decoded.copy().flags.writeable


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("words", [0, 1, 7, 300, 70_000])
def test_elements_are_aligned(compression: Any, words: int) -> None:
    """After a payload of any length, each element is at a multiple of its size."""
    value = ["x" * words, *(np.zeros(100 + size, dtype=np.complex128) for size in range(5))]
    for decoded in (decode(encode(value, compression=compression)), decode(chunk_of(*value, compression=compression))):
        assert [array.flags.aligned for array in decoded[1:]] == [True] * 5
        assert [array.__array_interface__["data"][0] % 16 for array in decoded[1:]] == [0] * 5


def test_unaligned_bytes_give_aligned_arrays() -> None:
    """Bytes at any address can be decoded; an array is copied only where it would be unaligned."""
    values = [GRID, np.arange(300, dtype="u1"), GRID.T]
    data = encode(values)
    for offset in range(17):
        room = memoryview(bytes(offset) + data)[offset:]
        decoded = decode(room)
        assert all(same(found, array) for found, array in zip(decoded, values, strict=True))
        assert [array.flags.aligned for array in decoded] == [True] * 3
        assert decoded[2].flags.f_contiguous
        assert not any(array.flags.writeable for array in decoded)
        assert np.shares_memory(decoded[0], np.frombuffer(room, dtype="u1")) == (offset % 8 == 0)


def test_arrays_from_stores_and_packs_are_aligned(tmp_path: Path) -> None:
    """A chunk from the middle of a pack has aligned arrays, in the memory of the bytes that were read."""
    for store in (MemoryStore(), FileStore(tmp_path / "store")):
        with PackWriter(store, lambda pack: f"packs/{pack}") as writer:
            for number in range(5):
                writer.append(chunk_of("x" * number, np.full(2000, number, dtype=np.complex128)))
            slices = writer.close()
        for number, location in enumerate(slices):
            data = PackReader(store).read(f"packs/{location.pack}", location)
            array = decode(data)[1]
            assert array.flags.aligned
            assert np.shares_memory(array, np.frombuffer(data, dtype="u1"))
            assert (array == number).all()


BATCH = pa.record_batch({"n": [1, None, 3], "s": ["a", "ü", None], "l": [[1], [], None]}).replace_schema_metadata(
    {"made": "by hand"}
)


@pytest.mark.parametrize(
    "value",
    [
        BATCH,
        BATCH.slice(1, 1),
        BATCH.slice(0, 0),
        pa.Table.from_batches([BATCH, BATCH]),
        pa.Table.from_batches([], schema=BATCH.schema),
        pa.table(
            {"d": pa.array(["x", "y", "x"]).dictionary_encode(), "t": pa.array([1, 2, 3], pa.timestamp("us", "UTC"))}
        ),
        pa.array([1.5, None]),
        pa.array([{"a": 1}, {"a": None}]),
        pa.array([], pa.decimal128(12, 3)),
        pa.array(["x" * number for number in range(300)])[10:200],
        pa.chunked_array([[1], [2, 3], []]),
        pa.chunked_array([], pa.int8()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_arrow_is_restored_exactly(value: Any) -> None:
    """Tables, record batches and arrays keep type, schema, metadata, nulls and slices."""
    for decoded in (decode(encode({"a": (value,)}))["a"][0], decode(chunk_of(0, value))[1]):
        assert type(decoded) is type(value)
        assert decoded.equals(value)
        if hasattr(value, "schema"):
            assert decoded.schema.equals(value.schema, check_metadata=True)


def test_any_flipped_byte_is_found() -> None:
    """A change of any byte of header, payload, padding, buffers or offsets makes decode refuse the value."""
    for data in (encode([1, np.arange(70.0)]), chunk_of(np.arange(70.0)), encode(np.zeros(700), compression="zstd")):
        for position in range(len(data)):
            for change in (1, 2, 3, 0x80, 0xFF):
                damaged = bytearray(data)
                damaged[position] ^= change
                with pytest.raises(CorruptObject):
                    decode(damaged)


def test_crafted_offsets_and_dtypes_raise_one_error() -> None:
    """Buffers outside the object, shapes beyond their buffer and dtypes that hold addresses are corrupt."""
    genuine = bytearray(encode(np.arange(100)))
    body = genuine[30:]

    def resealed(body: bytes, flags: int) -> bytes:
        stream = new_stream()
        stream.write(body)
        return seal_stream(stream, flags=flags)

    assert same(decode(resealed(body, 2)), np.arange(100))
    for crafted in (
        body[:-24] + (2**64 - 1).to_bytes(8, "big") + body[-16:],
        body[:-8] + (2**63).to_bytes(8, "big"),
        body[:-8] + (len(body)).to_bytes(8, "big"),
        body[:20],
        body.replace(b"<i8", b"|O8"),
        body.replace(b"<i8", b"<U8"),
        body.replace(b"\x91\x64", b"\x91\x65"),
        body.replace(b"\x91\x64", b"\x91\xff"),
        body.replace(b"\xcd\x03\x20", b"\xcd\x7f\x20"),
    ):
        assert crafted != body
        with pytest.raises(CorruptObject):
            decode(resealed(crafted, 2))


def test_crafted_tables_raise_one_error() -> None:
    """Offsets that lead out of a string column are found before Arrow follows them."""
    data = encode(pa.array(["one", "two", "three"] * 200))
    assert data.count((6).to_bytes(4, "little") + (11).to_bytes(4, "little")) == 1
    crafted = data[30:].replace((6).to_bytes(4, "little"), (2**31 - 1).to_bytes(4, "little"), 1)
    stream = new_stream()
    stream.write(crafted)
    with pytest.raises(CorruptObject):
        decode(seal_stream(stream, flags=2))


@pytest.mark.parametrize(
    ("package", "extra", "value"), [("numpy", "numpy", np.arange(1000)), ("pyarrow", "arrow", pa.array([1]))]
)
def test_a_missing_package_is_named(package: str, extra: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the package is not installed, the error names the extra to install, and the object."""
    data = encode([value])
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage, match=rf"in/0007.*{package} is not installed.*fanout\[{extra}\]") as caught:
        decode(data, key="in/0007")
    assert isinstance(caught.value, ImportError)
    assert caught.value.key == "in/0007"


def test_optional_packages_are_not_imported_without_need() -> None:
    """Encoding and decoding values without arrays imports neither NumPy, Arrow nor zstd."""
    program = """if True:
        import sys
        from storage import SequenceEncoder, decode, encode
        class Fake: __module__ = "numpy"
        assert decode(encode({"a": [(1, {2})]})) == {"a": [(1, {2})]}
        try: encode(Fake())
        except TypeError: pass
        encoder = SequenceEncoder()
        encoder.add({1, 2})
        decode(encoder.finish())
        print([name for name in ("numpy", "pyarrow", "backports.zstd", "compression.zstd") if name in sys.modules])
    """
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
