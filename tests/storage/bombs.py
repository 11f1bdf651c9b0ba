"""Small objects that would fill a reader's memory, if it believed what they announce."""

from __future__ import annotations

import resource
import struct
import sys
from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np
import pandas as pd  # noqa: F401 -- else `decode` imports it within the limit
import pyarrow as pa

from storage import CorruptObject, decode, load_zstd
from storage.codec.buffers import write_offsets
from storage.codec.envelope import COMPRESSED, HEADER, OUT_OF_BAND, new_stream, seal_stream
from storage.hashing import raw_checksum

FAR = 2**34
"""Members or bytes that no process of the tests may hold."""


def bombs() -> Iterator[tuple[str, bytes]]:
    """Yield each with the name of what it abuses. All have a valid checksum: whoever forges one computes it."""
    yield from _of_zstd()
    yield from _of_msgpack()
    yield from _of_constructors()
    yield from _of_numpy()
    yield from _of_pandas()
    yield from _of_arrow()


def value_of(payload: bytes) -> bytes:
    """Return an encoded value with this payload."""
    stream = new_stream()
    stream.write(payload)
    return seal_stream(stream)


def _of_zstd() -> Iterator[tuple[str, bytes]]:
    zstd = load_zstd()
    zeros = zstd.compress(bytes(2**24))
    undeclared = zstd.ZstdCompressor().compress(bytes(2**24), mode=zstd.ZstdCompressor.FLUSH_FRAME)
    for name, frame, length in (
        ("zstd: more than it declares", zeros, 1000),
        ("zstd: beyond the limit", zeros, 2**50),
        ("zstd: less than it declares", zeros[:4] + b"\xe0" + struct.pack("<Q", 2**31) + zeros[12:], 2**31),
        ("zstd: undeclared", undeclared, 2**24),
        ("zstd: a window of 2 GiB", zeros[:4] + b"\xc0\xa8" + struct.pack("<Q", 2**31) + zeros[12:], 2**31),
    ):
        checksum = raw_checksum(frame, seed=COMPRESSED)
        yield name, HEADER.pack(b"\x9fobj", 1, COMPRESSED, length, checksum) + frame


def _of_msgpack() -> Iterator[tuple[str, bytes]]:
    yield "a list of 4 billion", value_of(b"\xdd\xff\xff\xff\xff")
    yield "a mapping of 4 billion", value_of(b"\xdf\xff\xff\xff\xff")
    yield "bytes of 4 GiB", value_of(b"\xc6\xff\xff\xff\xffx")
    yield "a text of 4 GiB", value_of(b"\xdb\xff\xff\xff\xffx")
    yield "an extension of 4 GiB", value_of(b"\xc9\xff\xff\xff\xff\x02x")
    yield "lists in lists, each of a million", value_of(b"\xdd\x00\x0f\x42\x40" * 1000 + b"\xc0" * 1_000_000)
    yield "lists in lists without end", value_of(b"\x91" * 100_000)
    nested = b"\xc0"
    for _ in range(500):
        nested = msgpack.packb(msgpack.ExtType(2, b"\x91" + nested))
    yield "extensions in extensions", value_of(nested)
    yield "an unknown extension", value_of(_extension(99, None))
    yield "a key that can't be one", value_of(b"\x81\x90\xc0")


def _of_constructors() -> Iterator[tuple[str, bytes]]:
    for code in (2, 3, 4, 7, 8, 10, 11, 12, 13, 14, 23, 24, 25, 26):
        yield f"extension {code} of a range", value_of(_extension(code, _RANGE))
    yield "a fraction of a text", value_of(_extension(16, ["1e9999999999", 1]))
    yield "a time zone of a range", value_of(_extension(13, [1, 2, 3, 4, 0, _RANGE]))


def _of_numpy() -> Iterator[tuple[str, bytes]]:
    for name, plain in {
        "a shape that overflows": ["<f8", [2**62, 2**62], "C", b"12345678"],
        "a shape of a range": ["<f8", _RANGE, "C", b"12345678"],
        "a dtype of objects": ["|O", [1], "C", b"12345678"],
        "a dtype of objects in a field": [_fields(["|O"]), [1], "C", b"12345678"],
        "a dtype in NumPy's own language": ["f8," * 5000 + "f8", [1], "C", b""],
        "a dtype of nested literals": ["(" * 5000 + ")" * 5000 + "f8", [1], "C", b""],
        "names that are a range": [{**_fields(["<f8"]), "names": _RANGE}, [1], "C", b"12345678"],
        "a dtype's shape of a range": [["<f8", _RANGE], [1], "C", b"12345678"],
        "a dtype's item size": [{**_fields(["<f8"]), "itemsize": 2**40}, [1], "C", b"12345678"],
        **{
            f"a dtype whose {name} is {wrong!r}": [{**_fields(["<f8"]), name: wrong}, [1], "C", b"12345678"]
            for name, wrong in (
                ("aligned", 1),
                ("aligned", "no"),
                ("itemsize", 8.0),
                ("itemsize", True),
                ("offsets", [False]),
                ("names", [b"f0"]),
                ("titles", [0]),
            )
        },
    }.items():
        yield f"NumPy: {name}", value_of(_extension(32, plain))
    yield "NumPy: bytes of a number", value_of(_extension(33, ["S", 2**33]))
    yield "NumPy: a buffer outside", _with_buffer(_extension(32, ["<f8", [FAR], "C", [0, 8 * FAR]]))
    yield "NumPy: a buffer at a negative place", _with_buffer(_extension(32, ["<f8", [1], "C", [-8, 8]]))


def _of_pandas() -> Iterator[tuple[str, bytes]]:
    index = _Extension(50, ["range", 0, FAR, 1, None])
    about = [{}, True]
    scalar = _Extension(33, ["<f8", b"12345678"])
    empty = _Extension(32, ["|V0", [FAR], "C", b""])
    point = _Extension(32, ["<f8", [], "C", b"12345678"])
    one = _Extension(32, ["|i1", [1], "C", b"\0"])
    for name, column in {
        "a scalar": ["numpy", scalar],
        "an array without dimension": ["numpy", point],
        "elements without bytes": ["numpy", empty],
        "one element": ["numpy", one],
        "a range of objects": ["object", _RANGE],
        "a range of texts": ["string", "python", True, _RANGE],
        "a range of categories": ["categorical", one, index, False],
        "times that are numbers": ["time", _Extension(32, ["<f8", [1], "C", b"12345678"]), None],
        "complex periods": ["period", _Extension(32, ["<c8", [1], "C", b"12345678"]), "M"],
        "periods of fractions": ["period", _Extension(32, ["<f8", [1], "C", b"12345678"]), "M"],
        "complex numbers below a mask": [
            "masked",
            "FloatingArray",
            _Extension(32, ["<c8", [1], "C", b"12345678"]),
            _Extension(32, ["|b1", [1], "C", b"\0"]),
        ],
    }.items():
        yield f"pandas: a series of {name}", value_of(_extension(49, [column, index, None, about]))
        yield f"pandas: a frame of {name}", value_of(_extension(48, [[column], index, index, about]))
    for code, wrong in ((51, "now"), (51, 5), (52, "1 day"), (52, 5)):
        yield f"pandas: extension {code} of {wrong!r}", value_of(_extension(code, [wrong, *[None] * (code == 51)]))
    yield "pandas: levels of a range", value_of(_extension(50, ["multi", [index], [one], [None]]))


def _of_arrow() -> Iterator[tuple[str, bytes]]:
    table = pa.table({"a": np.zeros(2**20), "b": pa.array(["x", "y"] * 2**19).dictionary_encode()})
    for codec in ("zstd", "lz4"):
        content = _stream(table, compression=codec)
        yield f"Arrow: compressed by {codec}", _with_buffer(_extension(40, [[0, len(content)]]), content)
    content = _stream(table.slice(0, 10))
    for length in (2**31 - 1, -1):
        forged = content[:4] + struct.pack("<i", length) + content[8:]
        yield f"Arrow: metadata of {length} bytes", _with_buffer(_extension(40, [[0, len(forged)]]), forged)
    yield "Arrow: nothing", value_of(_extension(40, [b""]))


def _stream(table: Any, *, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write(table)
    return bytes(sink.getvalue())


class _Extension:
    """An extension of msgpack within a plain value."""

    def __init__(self, code: int, plain: Any) -> None:
        self.code, self.plain = code, plain


_RANGE = _Extension(18, [0, FAR, 1])


def _pack(plain: Any) -> bytes:
    packed: bytes = msgpack.packb(plain, default=lambda value: msgpack.ExtType(value.code, _pack(value.plain)))
    return packed


def _extension(code: int, plain: Any) -> bytes:
    return _pack(_Extension(code, plain))


def _fields(formats: list[Any]) -> dict[str, Any]:
    names = [f"f{index}" for index in range(len(formats))]
    size = 8 * len(formats)
    offsets = [8 * index for index in range(len(formats))]
    titles = [None] * len(formats)
    return {
        "names": names,
        "formats": formats,
        "offsets": offsets,
        "titles": titles,
        "itemsize": size,
        "aligned": False,
    }


def _with_buffer(payload: bytes, content: bytes = b"12345678") -> bytes:
    stream = new_stream()
    stream.write(content)
    start = stream.tell()
    stream.write(payload)
    write_offsets(stream, payload=(start, start + len(payload)), buffers=HEADER.size)
    return seal_stream(stream, flags=OUT_OF_BAND)


def refuse_all(most_bytes: int) -> None:
    """Decode each in this process, and print those that were not refused with a typed error.

    Args:
        most_bytes: Address space that the process gets beside what it has.
    """
    made = [*bombs()]
    with open("/proc/self/statm") as file:
        own_bytes = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own_bytes + most_bytes,) * 2)
    for name, bomb in made:
        try:
            decode(bomb, key="the/key")
        except CorruptObject as error:
            if error.key == "the/key":
                continue
        except BaseException as error:
            print(f"{name}: {type(error).__name__}")
            continue
        print(f"{name}: taken")
    print(f"{len(made)} bombs")


if __name__ == "__main__":
    refuse_all(int(sys.argv[1]))
