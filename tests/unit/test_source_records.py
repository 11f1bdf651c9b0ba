"""Every record of a source is read exactly once, wherever its objects are cut."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout import ConfigError, SourceDamaged, sources
from fanout.sources import compression, pinned, record_blocks

from .buckets import MemoryBucket, in_memory, records_of, within

zstd = pytest.importorskip("backports.zstd")

URL = "s3://bucket/*"
SIZES = st.integers(1, 40)
# Few letters, so that newlines, and what is like them, are met often.
BYTES = st.lists(
    st.sampled_from([b"\n", b"\n\n", b"\r\n", b"\r", b"a", b"bc", "é€😀".encode(), b"\xff", b"\0", b"x" * 25])
).map(b"".join)
TEXT = st.lists(st.sampled_from(["\n", "\r\n", "\r", "a", "bc", "é", "€😀", "\u2028", "x" * 25, '"', ","])).map("".join)
quick = settings(max_examples=40)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reads be so small that records cross their borders."""
    monkeypatch.setattr(pinned, "BLOCK_BYTES", 7)
    monkeypatch.setattr(pinned, "_FIRST_TAIL_BYTES", 3)
    monkeypatch.setattr(record_blocks, "RUN_BYTES", 5)


def lines_of(data: bytes) -> list[bytes]:
    """Return the lines of some bytes, by Python's own files."""
    return [line.removesuffix(b"\n").removesuffix(b"\r") if line.endswith(b"\n") else line for line in io.BytesIO(data)]


@quick
@given(BYTES, BYTES, SIZES)
def test_any_cut_gives_the_same_lines(one: bytes, two: bytes, part_bytes: int) -> None:
    """Lines of any bytes come once and in order, by key and offset, and so do the bytes of the parts."""
    source = in_memory(sources.lines(URL, encoding=None), a=one, b=two)
    parts = list(source.parts(part_bytes)) if one or two else []
    assert [line for part in parts for line in part] == lines_of(one) + lines_of(two)
    assert b"".join(part.read() for part in parts) == one + two
    assert sum(part.len_bytes for part in parts) == len(one) + len(two)


@quick
@given(TEXT, SIZES)
def test_text_that_is_cut_within_a_character_is_whole(text: str, part_bytes: int) -> None:
    """A cut may lie in the middle of a character; a mark at the beginning is no part of the first line."""
    expected = [line.decode() for line in lines_of(text.encode())]
    for mark in (b"", b"\xef\xbb\xbf"):
        source = in_memory(sources.lines(URL), a=mark + text.encode())
        if mark or text:
            assert records_of(source, part_bytes) == expected or (not text and records_of(source, part_bytes) == [""])


@quick
@given(st.binary(max_size=60), st.integers(1, 9), SIZES)
def test_any_cut_gives_the_same_records_of_a_fixed_size(data: bytes, size: int, part_bytes: int) -> None:
    """Records of a fixed size come once and in order; one that is cut short fails with its offset."""
    source = in_memory(sources.records(URL, size=size), a=data, z=b"0" * size)
    if len(data) % size:
        with pytest.raises(SourceDamaged, match=f"s3://bucket/a, byte {len(data) // size * size}: its last record"):
            records_of(source, part_bytes)
    else:
        whole = [data[at : at + size] for at in range(0, len(data), size)]
        assert records_of(source, part_bytes) == [*whole, b"0" * size]


ROWS = st.lists(st.lists(st.text("ab,\"' \r€", max_size=4), min_size=2, max_size=2).filter(any), max_size=8)


def csv_of(rows: list[list[str]]) -> bytes:
    """Return rows as CSV, by the standard library."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


@quick
@given(ROWS, SIZES)
def test_any_cut_gives_the_same_rows(rows: list[list[str]], part_bytes: int) -> None:
    """Each part of CSV knows the header, and rows come once and in order."""
    rows = [[field.replace("\r", "") or "-" for field in row] for row in rows]
    body = csv_of([["one", "two"], *rows])
    expected = [dict(zip(("one", "two"), row, strict=True)) for row in rows]
    assert records_of(in_memory(sources.csv(URL), a=body), part_bytes) == expected
    bare = in_memory(sources.csv(URL, header=False), a=body)
    assert records_of(bare, part_bytes) == [["one", "two"], *rows]
    named = in_memory(sources.csv(URL, header=("x", "y")), a=csv_of(rows) or b"\n")
    assert records_of(named, part_bytes) == [{"x": one, "y": two} for one, two in rows]


@quick
@given(st.lists(st.lists(st.text('a\n",', max_size=4), min_size=2, max_size=2), max_size=8), SIZES)
def test_quoted_newlines_are_read_where_they_are_announced(rows: list[list[str]], part_bytes: int) -> None:
    """With `quoted_newlines` no object is split, and a field may hold newlines."""
    source = in_memory(sources.csv(URL, quoted_newlines=True), a=csv_of([["one", "two"], *rows]))
    assert [list(row.values()) for row in records_of(source, part_bytes)] == rows
    assert len(list(source.parts(part_bytes))) == 1


def test_quoted_newlines_are_refused_in_words() -> None:
    """A quoted newline that was not announced fails the job with its offset, and each part that holds a piece of it."""
    body = b'one,two\na,b\nc,"d\ne,e"\nf,g\n'
    for part_bytes in range(1, len(body) + 1):
        source = in_memory(sources.csv(URL), a=body)
        with pytest.raises(SourceDamaged, match=r"s3://bucket/a, byte 12: a quoted field holds a newline: pass quoted"):
            records_of(source, part_bytes)
        for read in (list, lambda part: part.arrow().to_pylist()):
            assert sum(map(len, read_good_parts(source, part_bytes, read))) <= 2


def read_good_parts(source: sources.Source, part_bytes: int, read: Callable[[sources.Part], list[Any]]) -> list[Any]:
    """Return the rows of each part that can be read, as a job that tolerates failures does."""
    found = []
    for part in source.parts(part_bytes):
        with contextlib.suppress(SourceDamaged):
            rows = read(part)
            assert all(row in ({"one": "a", "two": "b"}, {"one": "f", "two": "g"}) for row in rows)
            found.append(rows)
    return found


@quick
@given(st.lists(st.recursive(st.integers() | st.text() | st.none(), st.lists, max_leaves=4), max_size=6), SIZES)
def test_any_cut_gives_the_same_json(values: list[object], part_bytes: int) -> None:
    """Values of JSON lines come once and in order; empty lines are none."""
    body = "\r\n \n".join(json.dumps(value, ensure_ascii=False) for value in values).encode(errors="surrogatepass")
    source = in_memory(sources.jsonl(URL), a=body or b"\n")
    try:
        body.decode()
    except UnicodeDecodeError:
        return
    assert records_of(source, part_bytes) == values


@pytest.mark.parametrize("suffix", ["gz", "zst"])
@pytest.mark.parametrize("members", [1, 3])
def test_compressed_objects_are_whole(suffix: str, members: int) -> None:
    """gzip and zstd are told by the name or by the option, may have several members, and are never split."""
    text = "".join(f"line {number} é\n" for number in range(500))
    compress = gzip.compress if suffix == "gz" else zstd.compress
    step = len(text) // members + 1
    body = b"".join(compress(text[at : at + step].encode()) for at in range(0, len(text), step))
    by_name = in_memory(sources.lines(URL), **{f"a_{suffix}": body})
    by_option = in_memory(sources.lines(URL, compression="gzip" if suffix == "gz" else "zstd"), a=body)
    for source in (by_name, by_option):
        assert records_of(source, 10) == text.splitlines()
        assert [part.read() for part in source.parts(10)] == [text.encode()]
    fixed = in_memory(sources.records(URL, size=1), **{f"a_{suffix}": body})
    assert b"".join(records_of(fixed, 10)) == text.encode()


def test_header_is_read_once_a_process() -> None:
    """The parts of an object share its header, so only the first of them asks for it."""
    bucket = MemoryBucket({"a": b"header_of_this_test,two\n" + b"1,2\n" * 50})
    source = within(sources.csv(URL), bucket)
    part = list(source.parts(60))[3]
    costs = []
    for _ in range(2):
        before = len(bucket.requests)
        assert all(row == {"header_of_this_test": "1", "two": "2"} for row in part)
        costs.append(len(bucket.requests) - before)
    assert costs[0] > costs[1]


@pytest.mark.parametrize(
    ("source", "body", "place"),
    [
        (sources.lines(URL), b"good\nb\xffd\n", "byte 6: invalid start byte: not utf-8"),
        (sources.lines(URL, max_record_bytes=10), b"short\n" + b"x" * 30, "byte 6: a record is longer than max_record"),
        (sources.jsonl(URL), b'{"a": 1}\n\nno\n', "byte 10: 'no' is no JSON"),
        (sources.jsonl(URL), b"1\n" + b"[" * 9999 + b"\n", "byte 2: a line is no JSON: maximum recursion"),
        (sources.csv(URL), b"a,b\n1,2\n1,2,3\n", "byte 8: a row has 3 fields, and there are 2 columns"),
        (sources.csv(URL), b'a,b\n1,2\n1,"2"x\n', "byte 8: a line is no CSV"),
        (sources.csv(URL), b"a,a\n1,2\n", "byte 0: its header names a column twice"),
        (sources.csv(URL, quoted_newlines=True), b'a,b\n1,"2"x\n', "byte 4: a line is no CSV"),
        (sources.lines(URL, compression="gzip"), gzip.compress(b"a" * 1000, mtime=0)[:-9], "its gzip ends too soon"),
        (sources.lines(URL, compression="gzip"), b"no gzip at all", "byte 0: its gzip is damaged"),
        (sources.lines(URL, compression="zstd"), zstd.compress(b"a" * 1000)[:-3], "its zstd ends too soon"),
        (sources.lines(URL, compression="zstd"), b"no zstd at all", "byte 0: its zstd is damaged"),
    ],
)
def test_damage_is_named_by_key_and_offset(source: sources.Source, body: bytes, place: str) -> None:
    """An error about content names the object and the byte at which the record or the damage begins."""
    with pytest.raises(SourceDamaged, match=f"s3://bucket/a, byte .*{place.partition(': ')[2] or place}") as caught:
        records_of(in_memory(source, a=body), 6)
    assert place in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-le", "utf-7", "utf-8-sig", "hex", "nonsense"])
def test_an_encoding_that_cannot_be_cut_is_refused(encoding: str) -> None:
    """Text is cut at bytes, so its newlines must be bytes."""
    with pytest.raises(ConfigError, match="encoding"):
        sources.lines(URL, encoding=encoding)


def test_other_encodings_are_read() -> None:
    """An encoding of single bytes, and a multibyte one whose newlines are bytes, are cut like UTF-8."""
    for encoding, text in (("latin-1", "ä\nöü\n"), ("shift-jis", "表\n予ソ\n")):
        source = in_memory(sources.lines(URL, encoding=encoding), a=text.encode(encoding))
        assert records_of(source, 2) == text.splitlines()


def test_reading_can_be_given_up() -> None:
    """A reader that stops early leaves no thread that goes on to fetch."""
    bucket = MemoryBucket({"a": b"line\n" * 100})

    def first() -> Iterator[str]:
        yield from next(within(sources.lines(URL), bucket).parts())

    assert next(first()) == "line"
    assert len([verb for verb, _ in bucket.requests if verb == "read"]) <= 3


@pytest.mark.parametrize(
    ("make", "record", "compress"),
    [
        (sources.lines, b"to be\n", bytes),
        (partial(sources.lines, compression="gzip"), b"to be\n", gzip.compress),
        (partial(sources.lines, compression="zstd"), b"to be\n", zstd.compress),
        (sources.jsonl, b'{"a": "to be or not"}\n', bytes),
        (partial(sources.csv, header=["a", "b"]), b"to be or not,to be\n", bytes),
        (partial(sources.records, size=8), b"12345678", bytes),
    ],
    ids=["lines", "gzip", "zstd", "jsonl", "csv", "records"],
)
def test_memory_does_not_grow_with_the_part(
    monkeypatch: pytest.MonkeyPatch, make: Any, record: bytes, compress: Callable[[bytes], bytes]
) -> None:
    """Reading holds a few blocks and a run of records, whatever the size of the part and the number of its records."""
    monkeypatch.setattr(pinned, "BLOCK_BYTES", 2**14)
    monkeypatch.setattr(record_blocks, "RUN_BYTES", 2**10)
    monkeypatch.setattr(compression, "_PIECE_BYTES", 2**12)
    count = 2**19 // len(record)
    (part,) = in_memory(make(URL), a=compress(record * count)).parts(2**20)
    tracemalloc.start()
    try:
        assert sum(1 for _ in part) == count
        assert tracemalloc.get_traced_memory()[1] < 2**18
    finally:
        tracemalloc.stop()
