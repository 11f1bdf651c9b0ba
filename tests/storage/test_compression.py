"""Compressed values are restored exactly, and cannot exhaust the memory of their reader."""

from __future__ import annotations

import importlib
import random
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from backports import zstd

from storage import CorruptObject, MissingPackage, SequenceEncoder, decode, encode
from storage.codec import compression
from storage.codec.envelope import COMPRESSED, HEADER

MIB = 2**20
WORDS = ["some words that repeat themselves"] * 1000


def forged(body: bytes, *, length: int) -> bytes:
    """Return a compressed value with a header of any length and a valid checksum."""
    import xxhash

    return HEADER.pack(b"\x9fobj", 1, COMPRESSED, length, xxhash.xxh3_128_digest(body, COMPRESSED)) + body


@pytest.mark.parametrize("value", [WORDS, "ä" * 2**20, {"a": np.zeros(5000), "b": (np.arange(10),)}, 1, b"", [[]]])
def test_a_compressed_value_is_restored(value: Any) -> None:
    """Any compressed value decodes to an equal value, even if compression saved nothing."""
    encoded = encode(value, compression="zstd")
    np.testing.assert_equal(decode(encoded), value)
    assert len(encoded) <= len(encode(value))
    assert encode(value, compression="zstd") == encoded


def test_each_chunk_is_compressed_by_itself() -> None:
    """Each chunk of a sequence is compressed by itself."""
    encoder = SequenceEncoder(compression="zstd")
    for _ in range(2):
        for word in WORDS:
            encoder.add({"word": word})
        chunk = encoder.finish()
        assert decode(chunk) == [{"word": word} for word in WORDS]
        assert len(chunk) < 1000


def test_incompressible_values_are_stored_plainly() -> None:
    """Random bytes, and values too small to gain, are stored plainly, so that a reader of them needs no zstd."""
    for value in (random.Random(1).randbytes(100_000), "short"):
        assert encode(value, compression="zstd") == encode(value)


def test_an_unknown_compression_is_refused() -> None:
    """A compression that does not exist is refused."""
    with pytest.raises(ValueError, match="'none' or 'zstd', not 'gzip'"):
        encode(1, compression="gzip")  # type: ignore[arg-type]


def test_a_value_beyond_the_readers_limit_is_refused() -> None:
    """A value larger than the reader allows is refused, with the remedy, before memory is allocated."""
    bomb = encode(bytes(64 * MIB), compression="zstd")
    assert len(bomb) < 10_000
    tracemalloc.start()
    try:
        with pytest.raises(CorruptObject, match=r"in/1.*is 67108869 bytes .*1048576 are allowed.*limit_bytes"):
            decode(bomb, key="in/1", limit_bytes=MIB)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000
    assert decode(bomb) == bytes(64 * MIB)


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (zstd.compress(bytes(64 * MIB), level=1), 1000),
        (zstd.compress(bytes(1000), level=1), 999),
        (zstd.compress(bytes(1000), level=1), 1001),
        (zstd.compress(b"\xc0", level=1) + zstd.compress(b"\xc0", level=1), 1),
        (zstd.compress(bytes(1000), level=1)[:-1], 1000),
        (zstd.compress(bytes(1000), options={zstd.CompressionParameter.content_size_flag: 0}), 1000),
        # A frame that announces 1,000 bytes and holds a megabyte.
        (b"\x28\xb5\x2f\xfd\x60\xe8\x02" + b"".join([b"\x02\x00\x10\x00"] * 7) + b"\x03\x00\x10\x00", 1000),
        (b"no zstd at all", 14),
        (b"", 0),
    ],
)
def test_a_frame_with_a_wrong_length_is_refused(body: bytes, length: int) -> None:
    """A frame that is cut short, doubled, invalid or of a wrong length is refused, and takes hardly any memory."""
    tracemalloc.start()
    try:
        with pytest.raises(CorruptObject):
            decode(forged(body, length=length))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * MIB


def test_missing_zstd_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without zstd, writing and reading compressed values name the extra to install. Plain values are read."""
    compressed, plain = encode(WORDS, compression="zstd"), encode(WORDS)
    for module in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, module, None)
    compression.load_zstd.cache_clear()
    try:
        with pytest.raises(MissingPackage, match=r"fanout\[zstd\]"):
            encode(WORDS, compression="zstd")
        with pytest.raises(MissingPackage, match=r"fanout\[zstd\]"):
            decode(compressed)
        assert decode(plain) == WORDS
    finally:
        compression.load_zstd.cache_clear()
        importlib.invalidate_caches()
