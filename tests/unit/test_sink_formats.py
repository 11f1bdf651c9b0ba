"""What a sink's formats write is read back equal by other programs' readers, and what they can't hold is refused."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as some

from fanout import ConfigError, UnwritableRow, sinks
from fanout.sinks import parquet_writer

from .sinks import Place

OPENERS = {"none": lambda body: body, "gzip": gzip.decompress, "zstd": zstd.decompress}
TEXT = some.text(some.characters(exclude_categories=["Cs"]), max_size=8)
JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
CELL = some.text(some.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


def write_all(sink: Any, place: Place, *items: Any) -> dict[str, bytes]:
    """Write the rows of each item, commit, and return what readers see."""
    place.commit(sink, [place.write(sink, item, rows) for item, rows in enumerate(items)])
    return place.visible()


@given(rows=some.lists(some.dictionaries(TEXT, JSON, max_size=3), max_size=5), how=some.sampled_from([*OPENERS]))
@settings(max_examples=40)
def test_json_lines_are_read_back(rows: list[dict[str, Any]], how: str) -> None:
    """Any rows of JSON come back equal, one a line, in every compression; without rows there is no object."""
    found = write_all(sinks.jsonl("s3://lake/words", compression=how), Place(None), iter(rows))
    bodies = [OPENERS[how](body).decode() for body in found.values()]
    assert [json.loads(line) for body in bodies for line in body.split("\n")[:-1]] == rows
    assert len(bodies) == bool(rows)


@given(
    rows=some.lists(some.lists(CELL, min_size=2, max_size=2), min_size=1, max_size=5),
    how=some.sampled_from([*OPENERS]),
    dialect=some.sampled_from(["excel", "excel-tab", "unix"]),
    delimiter=some.sampled_from([None, ";"]),
)
@settings(max_examples=40)
def test_csv_is_read_back(rows: list[list[str]], how: str, dialect: str, delimiter: str | None) -> None:
    """Any text comes back equal from CSV, with line ends, quotes and delimiters in it."""
    sink = sinks.csv("s3://lake/words", columns=["a", "b"], dialect=dialect, delimiter=delimiter, compression=how)
    (body,) = write_all(sink, Place(None), [dict(zip("ba", reversed(row), strict=True)) for row in rows]).values()
    text = io.StringIO(OPENERS[how](body).decode(), newline="")
    options = {"delimiter": delimiter} if delimiter else {}
    assert [*csv.reader(text, dialect, **options)] == [["a", "b"], *rows]


@pytest.mark.parametrize("make", [sinks.jsonl, sinks.csv, sinks.parquet])
def test_tables_and_rows_are_written_alike(make: Any, tmp_path: Path) -> None:
    """Rows, a table, batches, a reader, a frame, and iterables of these give the same rows."""
    rows = [{"n": 1, "t": "a"}, {"n": 2, "t": None}, {"n": 3, "t": "ü"}]
    schema = pa.schema({"n": pa.int64(), "t": pa.string()})
    table = pa.Table.from_pylist(rows, schema=schema)
    forms = [
        rows,
        iter(rows),
        table,
        table.to_batches()[0],
        pa.RecordBatchReader.from_batches(schema, table.to_batches(max_chunksize=2)),
        pd.DataFrame(rows),
        iter([table.slice(0, 1), table.slice(1)]),
    ]
    more = {"schema": schema} if make is sinks.parquet else {}
    found = []
    for number, form in enumerate(forms):
        place = Place(tmp_path / str(number))
        (body,) = write_all(make(place.url, **more), place, form).values()
        found.append(pq.read_table(io.BytesIO(body)).to_pylist() if make is sinks.parquet else body)
    assert found == [rows if make is sinks.parquet else found[0]] * len(forms)


def test_parquet_keeps_types_and_row_groups(tmp_path: Path) -> None:
    """Decimals and dates come back exact, in row groups of the size that was asked for."""
    schema = pa.schema({"price": pa.decimal128(15, 2), "day": pa.date32(), "n": pa.int32()})
    rows = [{"price": Decimal("1.10") * n, "day": date(2026, 1, 1), "n": n} for n in range(2500)]
    place = Place(tmp_path / "out")
    sink = sinks.parquet(place.url, schema=schema, row_group_rows=1000, compression="snappy")
    (body,) = write_all(sink, place, (row for row in rows)).values()
    file = pq.ParquetFile(io.BytesIO(body))
    assert [file.metadata.row_group(group).num_rows for group in range(3)] == [1000, 1000, 500]
    assert file.metadata.row_group(0).column(0).compression == "SNAPPY"
    assert file.schema_arrow.equals(schema)
    assert file.read().to_pylist() == rows


def test_large_rows_are_not_held_until_their_row_group_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row group ends early once the waiting rows take too much memory."""
    monkeypatch.setattr(parquet_writer, "_PENDING_BYTES", 1_000_000)
    place = Place(tmp_path / "out")
    tables = (pa.table({"body": [bytes(400_000)]}) for _ in range(9))
    (body,) = write_all(sinks.parquet(place.url), place, tables).values()
    assert pq.ParquetFile(io.BytesIO(body)).metadata.num_row_groups == 3


def test_partitions_become_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row is in the folder of its values, whatever they are, also with more partitions than open objects."""
    monkeypatch.setattr(parquet_writer, "_OPEN_OBJECTS", 2)
    values = ["a", "b/c", "d=e %", None, "ü", "a", "b/c"]
    rows = [{"k": value, "year": 2026, "n": n} for n, value in enumerate(values)]
    place = Place(tmp_path / "out")
    schema = pa.schema({"k": pa.string(), "year": pa.int64(), "n": pa.int64()})
    tables = (pa.Table.from_pylist([row], schema=schema) for row in rows)
    found = write_all(sinks.parquet(place.url, partition_by=["year", "k"]), place, tables)
    assert len(found) == 7
    assert any(name.startswith("year=2026/k=__HIVE_DEFAULT_PARTITION__/part-00000000-000-") for name in found)
    partitioning = ds.partitioning(pa.schema({"year": pa.int64(), "k": pa.string()}), flavor="hive")
    rows_of_a = f"from read_parquet('{place.root}/**/*.parquet', hive_partitioning = true) where k = 'a'"
    assert duckdb.sql(f"select count(*), sum(n) {rows_of_a}").fetchall() == [(2, 5)]
    read = ds.dataset(place.root, partitioning=partitioning).to_table().to_pylist()
    assert sorted(read, key=lambda row: row["n"]) == rows


@pytest.mark.parametrize(
    ("make", "rows", "flaw"),
    [
        (sinks.jsonl, [{"n": 1}, {"n": float("nan")}], "row 1 is no JSON"),
        (sinks.jsonl, [{"n": b"x"}], "row 0 is no JSON: bytes is not a type of JSON"),
        (sinks.jsonl, {"n": 1}, r"an iterable of rows, or a table, and not dict: write \[row\]"),
        (sinks.jsonl, "text", "and not str"),
        (sinks.csv, [{"n": 1}, {"m": 1}], "row 1: it has the column 'm'"),
        (sinks.csv, [{"n": [1]}], "row 0: a field is list"),
        (sinks.csv, [[1, 2]], "have no names for a header"),
        (sinks.parquet, [{"n": 1}, [2]], "row 1 is no mapping"),
        (sinks.parquet, [{"n": 1}, {"n": "x"}], "rows 0 to 1 fit no schema.*Give the sink a schema"),
        (sinks.parquet, [pa.table({"n": [1]}), pa.table({"m": [1]})], "rows 1 to 1 .*: the column 'm' is not in it"),
        (lambda url: sinks.parquet(url, schema=pa.schema({"n": pa.int64()})), [{"m": 1}], "row 0 has the column 'm'"),
        (lambda url: sinks.parquet(url, partition_by="k"), [{"n": 1}], "no column 'k', by which"),
        (lambda url: sinks.parquet(url, partition_by="n"), [{"n": 0.5, "m": 1}], "'n' holds fractions"),
        (lambda url: sinks.parquet(url, partition_by="n"), [{"n": 1}], "no column is left"),
        (sinks.objects, ["text"], "a block of an object is bytes, and not str"),
        (sinks.objects, "text", "an object is bytes or blocks of bytes, and not str"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(make: Any, rows: Any, flaw: str) -> None:
    """The error names the sink, the row and the remedy, and nothing is staged."""
    place = Place(None)
    with pytest.raises(UnwritableRow, match=flaw) as caught:
        place.write(make(place.url), 0, rows)
    assert caught.value.url == place.url
    assert place.staged() == 0


def test_times_become_text_in_json() -> None:
    """Dates and times become ISO 8601, and decimals keep their digits."""
    place = Place(None)
    row = {"at": datetime(2026, 1, 2, 3, 4, 5), "price": Decimal("1.10")}
    (body,) = write_all(sinks.jsonl(place.url), place, [row]).values()
    assert body == b'{"at":"2026-01-02T03:04:05","price":"1.10"}\n'


@pytest.mark.parametrize(
    ("make", "flaw"),
    [
        (lambda: sinks.parquet("s3://lake/a", compression="zip"), "compression must be one of none, snappy"),
        (lambda: sinks.parquet("s3://lake/a", row_group_rows=0), "row_group_rows must be"),
        (lambda: sinks.parquet("s3://lake/a", partition_by=["a", "a"]), "partition_by must be names"),
        (lambda: sinks.parquet("s3://lake/a", schema="n int"), "schema must be an Arrow schema, not str"),
        (lambda: sinks.parquet("s3://lake/a", schema=pa.schema([]), partition_by="k"), "has no column 'k'"),
        (lambda: sinks.csv("s3://lake/a", dialect="mine"), "dialect must be one of"),
        (lambda: sinks.csv("s3://lake/a", delimiter=";;"), "delimiter must be one character"),
        (lambda: sinks.jsonl("s3://lake/a", compression="lz4"), "compression must be one of none, gzip, zstd"),
        (lambda: sinks.objects("s3://lake/a", suffix="/x"), "a suffix is text without"),
    ],
)
def test_a_wrong_option_is_refused_where_the_sink_is_made(make: Any, flaw: str) -> None:
    """The error comes at once, and names the option and what it may be."""
    with pytest.raises(ConfigError, match=flaw):
        make()


def test_an_object_is_written_with_a_bound_of_memory(tmp_path: Path) -> None:
    """Rows that come one by one are gone from memory before the object is complete."""
    place = Place(tmp_path / "out")
    rows = ({"n": n, "text": f"{n:030000d}"} for n in range(1_000))
    tracemalloc.start()
    try:
        written = place.write(sinks.jsonl(place.url), 0, rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert written.size_bytes > 30_000_000
    assert peak < 20_000_000
