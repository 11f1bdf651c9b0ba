"""Mutated objects against the codec and the records, in this process."""

from __future__ import annotations

import array
import random
import struct
import time
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa

from fanout.records.attempt import Attempt
from fanout.records.batch import BatchResult
from fanout.records.models import ChunkResult, Generation, Intent, Manifest, Node, Note, Outcome, Record
from storage import EncryptedStore, Keyring, MemoryStore, ReferenceSource, SequenceEncoder, StorageError, decode, encode
from storage.codec.envelope import COMPRESSED, HEADER
from storage.hashing import raw_checksum

MOST_CPU_S = 5.0
"""CPU time beyond which a case is a finding: the objects have a few kilobytes."""

NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1]
HEADERS = [b"\xdc", b"\xdd", b"\xde", b"\xdf", b"\xc4", b"\xc6", b"\xdb", b"\xc7", b"\xc8", b"\xc9", b"\xd4", b"\xd8"]


def _values() -> Iterator[Any]:
    yield [None, True, -1, 2**64 - 1, 2**200, 0.5, "text", "\ud800", b"bytes", (1, (2, 3)), {"a": {"b": [1, {2: 3}]}}]
    yield [{1, 2}, frozenset("ab"), 1j, Counter("aab"), OrderedDict(a=1), defaultdict(list, a=[1]), deque([1, 2], 3)]
    yield [datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=ZoneInfo("Europe/Berlin")), date(2026, 1, 2)]
    yield [timedelta(1, 2, 3), Decimal("1.50"), Fraction(1, 3), UUID(int=5), range(1, 10, 2)]
    yield datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=1), "name"))
    yield [PurePosixPath("a/b"), PureWindowsPath("a"), UserDict(a=1), UserList([1]), ChainMap({"a": 1}, {})]
    yield [array.array("i", [1, 2]), array.array("d", [0.5])]
    yield {"block": np.arange(200.0).reshape(20, 10), "small": np.arange(3, dtype=">i2"), "scalar": np.float32(1)}
    yield np.zeros(4, dtype=[("a", "<i4"), ("b", "S3"), ("c", "<f8", (2,))])
    yield [np.array(["2026-01-02"], dtype="M8[s]"), np.array(["a", "bc"]), np.datetime64(5, "D"), np.str_("a\0")]
    yield pa.table({"a": [1, 2, None], "b": ["x", "y", "z"], "c": [[1], [], None]})
    yield pa.table({"d": pa.array(["x", "y"] * 50).dictionary_encode(), "e": pa.array([{"f": 1}] * 100)})
    yield [pa.array([1, 2]), pa.chunked_array([[1], [2, 3]]), pa.record_batch({"a": [True]})]
    yield pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.Categorical(["u", "v"]), "d": [{"e": 1}, [2]]})
    yield pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": pd.date_range("2026", periods=2, tz="UTC")})
    yield pd.Series([0.5] * 100, index=pd.MultiIndex.from_product([range(10), range(10)]), name="s")
    yield pd.Series(pd.period_range("2026-01", periods=3, freq="M"), index=pd.interval_range(0, 3))


def _records() -> Iterator[Record]:
    failure = {"step": "process", "error": "E", "reason": "r"}
    stats = [0.5, 1.0, 100, "host:1", 5, None, [], []]
    row = [0, 0, 100, "0" * 32, 0, [1, 3]]
    yield Intent(
        launch_id="l", task="t", inline=encode({}), references={"a": "0" * 32}, options={"x": 1}, created_at=1.0
    )
    yield Manifest(setup_id="s", chunks=3, items=3, input_bytes=100, shards=[], stats=stats, rows=[row])
    yield ChunkResult(chunk=1, first_item=1, items=1, values=b"", stats=stats, failure=failure)
    yield BatchResult(chunk=0, done=2, values=[encode([1]), encode([2])], stats=stats, parts=[1, 2])
    yield Node(level=1, index=0, failed=0, values=encode([1]), stats=stats)
    yield Attempt(state="raised", at=1.0, failure=failure)
    yield Generation(by="b", at=1.0, options={})
    yield Outcome(status="succeeded", task="t", stats=stats, value=encode(5))
    yield Note(by="b", text="n")


class ObjectFuzz:
    """Cases by number: each is one mutated object."""

    name = "objects"

    def __init__(self) -> None:
        self._values: list[tuple[bytes, type[Record] | None]] = [(encode(value), None) for value in _values()]
        self._values += [(encode([value] * 20, compression="zstd"), None) for value in _values()]
        self._values.append((self._chunk(), None))
        self._records: list[tuple[bytes, type[Record] | None]] = [
            (record.to_bytes(), type(record)) for record in _records()
        ]
        self._sealed = MemoryStore()
        self._encrypted = EncryptedStore(self._sealed, Keyring({"a": bytes(32)}), required=True)

    @property
    def originals(self) -> list[tuple[bytes, type[Record] | None]]:
        """The objects that are mutated, with their kind of record."""
        return [*self._values, *self._records]

    @staticmethod
    def _chunk() -> bytes:
        texts = ["x" * 2000 + str(index) for index in range(4)]
        source = ReferenceSource.of(texts, encode(texts), name="0" * 32)
        assert source is not None
        encoder = SequenceEncoder(sources=[source])
        encoder.add({"texts": texts[:2]})
        return encoder.finish()

    def run(self, source: random.Random) -> str:
        """Run one case; return how it ended.

        Raises:
            BaseException: Any error but a `StorageError` with the object's key is a finding, and so is a value that
                differs from the original although the checksum was not made anew.
        """
        original, kind = source.choice(source.choice([self._values, self._records]))
        if source.random() < 0.1:
            return self._open(original, source)
        reseals = source.random() < 0.9
        mutated = _mutate(original, source) if not reseals else _reseal(original, source)
        began = time.process_time()
        try:
            if kind is None:
                value = decode(mutated, key="the/key", limit_bytes=2**26)
            else:
                value = kind.from_bytes(mutated, key="the/key")
                value.to_bytes()
        except StorageError as error:
            if error.key != "the/key":
                raise AssertionError("the error does not name the key") from error
            return "refused"
        finally:
            if time.process_time() - began > MOST_CPU_S:
                raise AssertionError(f"it took {time.process_time() - began:.0f} s of CPU")
        if not reseals and bytes(mutated) != original and encode(value) != original:
            raise AssertionError("another value, although the checksum is the old one")
        return "taken"

    def _open(self, original: bytes, source: random.Random) -> str:
        """Read a sealed object that was mutated in the store."""
        self._encrypted.put("the/key", original)
        sealed = bytes(self._sealed.get("the/key"))
        mutated = _mutate(sealed, source)
        self._sealed.put("the/key", mutated)
        try:
            content = self._encrypted.get("the/key")
        except StorageError as error:
            if error.key != "the/key":
                raise AssertionError("the error does not name the key") from error
            return "refused"
        if mutated != sealed:
            raise AssertionError(f"a sealed object was changed, and {len(content)} bytes of it were taken")
        return "taken"


def _reseal(original: bytes, source: random.Random) -> bytes:
    """Mutate a body, and give it a header that fits, as a program would that forges an object."""
    magic, version, flags, length, _ = HEADER.unpack_from(original)
    body = _mutate(original[HEADER.size :], source)
    if source.random() < 0.03:
        flags = source.randrange(8)
    if not flags & COMPRESSED:
        length = len(body)
    elif source.random() < 0.05:
        length = source.choice(NUMBERS)
    return HEADER.pack(magic, version, flags, length, raw_checksum(body, seed=flags)) + body


def _mutate(body: bytes, source: random.Random) -> bytes:
    """Return a body with one to four places changed."""
    changed = bytearray(body)
    for _ in range(source.choice([1, 1, 1, 2, 4])):
        at = source.randrange(len(changed) + 1)
        act = source.randrange(8)
        if act == 0 and at < len(changed):
            changed[at] ^= 1 << source.randrange(8)
        elif act == 1 and at < len(changed):
            changed[at] = source.randrange(256)
        elif act == 2:
            packed = struct.pack(source.choice([">Q", "<Q"]), source.choice(NUMBERS))
            packed = packed[-source.choice([1, 2, 4, 8]) :]
            changed[at : at + len(packed)] = packed
        elif act == 3:
            changed[at:at] = source.choice(HEADERS) + source.choice(NUMBERS).to_bytes(8, "big")[-4:]
        elif act == 4:
            del changed[at : at + source.choice([1, 4, 50])]
        elif act == 5:
            start = source.randrange(len(changed) + 1)
            changed[at:at] = changed[start : start + source.choice([1, 8, 64])]
        elif act == 6 and at < len(changed):
            changed[at] = source.choice(HEADERS)[0]
        else:
            changed[at:at] = source.randbytes(source.choice([1, 4, 16]))
    return bytes(changed)
