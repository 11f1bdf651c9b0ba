"""Tables from sources: row groups of Parquet, CSV and JSON lines, as Arrow and as pandas."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout import ConfigError, SourceChanged, SourceDamaged, sources

from .buckets import MemoryBucket, in_memory, records_of, within

URL = "s3://bucket/*"
TABLE = pa.table(
    {
        "number": pa.array(range(100), pa.int64()),
        "price": pa.array([Decimal(number) / 100 for number in range(100)], pa.decimal128(15, 2)),
        "name": [f"name {number}" for number in range(100)],
    }
)


def parquet_of(table: pa.Table, row_group_rows: int = 10) -> bytes:
    """Return a table as Parquet with row groups of so many rows."""
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=row_group_rows, compression="none", use_dictionary=False)
    return file.getvalue()


@settings(max_examples=8)
@given(st.integers(5, 40), st.integers(1, 5000))
def test_any_cut_gives_the_same_rows(row_group_rows: int, part_bytes: int) -> None:
    """Rows of Parquet come once and in order, as dicts, as batches and as tables, whatever the parts."""
    source = in_memory(sources.parquet(URL), a=parquet_of(TABLE, row_group_rows), b=parquet_of(TABLE[:7]))
    parts = list(source.parts(part_bytes))
    expected = TABLE.to_pylist() + TABLE[:7].to_pylist()
    assert [row for part in parts for row in part] == expected
    assert [row for part in parts for batch in part.batches() for row in batch.to_pylist()] == expected
    assert pa.concat_tables([part.arrow() for part in parts]).to_pylist() == expected


def test_columns_and_filters_are_pushed_down() -> None:
    """Only the asked columns and rows come; a filter may name a column that is not asked for."""
    bucket = MemoryBucket({"a": parquet_of(TABLE)})
    source = within(sources.parquet(URL, columns=["name"], filters=[("price", "<", Decimal("0.15"))]), bucket)
    assert records_of(source, 600) == [{"name": f"name {number}"} for number in range(15)]
    assert [part.arrow().num_rows for part in source.parts(600)] == [10, 5, *[0] * 8]
    either = sources.parquet(URL, columns=["number"], filters=[[("number", "==", 3)], [("number", ">", 97)]])
    assert [row["number"] for row in within(either, bucket)] == [3, 98, 99]
    assert within(either, bucket).parts().__next__().pandas()["number"].tolist() == [3, 98, 99]


def test_setup_reads_the_footer_of_large_objects_only() -> None:
    """A table that fits a part is listed and not opened; a larger one costs a request or two."""
    bucket = MemoryBucket({"large": parquet_of(TABLE), "small": parquet_of(TABLE[:1])})
    parts = list(within(sources.parquet(URL), bucket).parts(3000))
    assert [verb for verb, key in bucket.requests if key == "large"].count("read") <= 2
    assert not [verb for verb, key in bucket.requests if key == "small"]
    assert [(part.start, part.end) for part in parts][-1] == (0, 0)
    assert sum(part.end - part.start for part in parts) == 10


def test_names_that_begin_with_an_underscore_are_no_data() -> None:
    """`_SUCCESS` and the like are left out of folders of Parquet, as Spark and Arrow do, but not if they are named."""
    bucket = MemoryBucket({"t/_SUCCESS": b"", "t/_m/a": b"x", "t/.b": b"x", "t/c=1/d": parquet_of(TABLE[:2])})
    for where in ("s3://bucket/t/", "s3://bucket/t/**"):
        assert records_of(within(sources.parquet(where), bucket)) == TABLE[:2].to_pylist()
    with pytest.raises(SourceDamaged, match="s3://bucket/t/_m/a"):
        records_of(within(sources.parquet("s3://bucket/t/_m/a"), bucket))


@pytest.mark.skipif(int(pa.__version__.partition(".")[0]) < 21, reason="this Arrow writes no views to Parquet")
def test_views_of_texts_are_texts() -> None:
    """A column that another writer declared as a view can be filtered and grouped like any text."""
    table = pa.table({"name": pa.array(["a", "b"], pa.string_view()), "number": [1, 2]})
    source = in_memory(sources.parquet(URL, filters=[("number", ">", 1)]), a=parquet_of(table))
    (part,) = source.parts()
    assert part.arrow().schema.field("name").type == pa.string()
    assert list(source) == [{"name": "b", "number": 2}]


@pytest.mark.parametrize(
    ("damage", "place"),
    [
        (lambda body: b"no parquet", "byte 2: it is no Parquet"),
        (lambda body: b"", "nothing"),
        (lambda body: body[:-4] + b"XXXX", "it is no Parquet"),
        (lambda body: body[:4] + b"\xff" * 200 + body[204:], "byte 4: row group 0 of its Parquet is damaged"),
    ],
)
def test_damaged_parquet_is_named_by_key_and_offset(damage: Any, place: str) -> None:
    """A damaged footer or row group names the object and the byte."""
    source = in_memory(sources.parquet(URL), a=damage(parquet_of(TABLE)), b=parquet_of(TABLE[:1]))
    if place == "nothing":
        assert len(list(source)) == 1
        return
    with pytest.raises(SourceDamaged, match="s3://bucket/a, byte") as caught:
        list(source)
    assert place in str(caught.value)


def test_a_table_that_changed_is_named_while_arrow_reads_it() -> None:
    """The error of a read passes through pyarrow as it is."""
    bucket = MemoryBucket({"a": parquet_of(TABLE)})
    (part,) = within(sources.parquet(URL), bucket).parts()
    bucket.bodies["a"] = parquet_of(TABLE[1:])
    with pytest.raises(SourceChanged, match="s3://bucket/a"):
        part.arrow()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"columns": ["other"]}, "s3://bucket/a has no column 'other'"),
        ({"filters": [("other", "<", 3)]}, "s3://bucket/a has no column 'other'"),
        ({"filters": [("number", "<>", 3)]}, "filters: "),
    ],
)
def test_a_wrong_column_or_filter_is_named(options: Any, named: str) -> None:
    """A column that a table lacks is an error of the source's options and no damage."""
    with pytest.raises(ConfigError, match=named):
        list(in_memory(sources.parquet(URL, **options), a=parquet_of(TABLE)))


@pytest.mark.parametrize("part_bytes", [7, 20, 1000])
def test_tables_of_csv_have_the_types_that_are_named(part_bytes: int) -> None:
    """Each part of CSV is a table with the columns of the header; types do not depend on a part's values."""
    body = b"carrier,delay\nUA,1\nAA,\nB6,-3\n"
    source = in_memory(sources.csv(URL, types={"delay": "int32", "carrier": "string"}), a=body, b=body)
    table = pa.concat_tables([part.arrow() for part in source.parts(part_bytes)])
    assert table.schema == pa.schema({"carrier": pa.string(), "delay": pa.int32()})
    assert table.to_pydict() == {"carrier": ["UA", "AA", "B6"] * 2, "delay": [1, None, -3] * 2}
    bare = in_memory(sources.csv(URL, header=["x", "y"]), a=b"1,2\n3,4\n")
    assert next(bare.parts()).arrow().to_pydict() == {"x": [1, 3], "y": [2, 4]}
    unnamed = in_memory(sources.csv(URL, header=False, delimiter=";"), a=b"1;2\n3;4")
    assert next(unnamed.parts()).arrow().to_pydict() == {"f0": [1, 3], "f1": [2, 4]}


def test_tables_of_json_lines() -> None:
    """JSON lines are a table, with types by name or from the values; pandas gets the same."""
    source = in_memory(sources.jsonl(URL, types={"a": "float64"}), a=b'{"a": 1, "b": "x"}\n', c=b'{"a": 2}\n')
    (part,) = source.parts()
    assert part.arrow().to_pydict() == {"a": [1.0, 2.0], "b": ["x", None]}
    assert part.pandas()["a"].tolist() == [1.0, 2.0]
    with pytest.raises(SourceDamaged, match="s3://bucket/a, byte 0: its JSON is no table"):
        next(in_memory(sources.jsonl(URL), a=b'{"a": 1}\nno\n').parts()).arrow()
    with pytest.raises(SourceDamaged, match="s3://bucket/a, byte 0: its CSV is no table"):
        next(in_memory(sources.csv(URL), a=b"a\n1,2\n").parts()).arrow()
    with pytest.raises(ConfigError, match="types: "):
        next(in_memory(sources.csv(URL, types={"a": "number"}), a=b"a\n1\n").parts()).arrow()


LONG = "x" * 1_500_000


@pytest.mark.parametrize(
    ("source", "body", "rows"),
    [
        (sources.csv(URL), b"a,b", []),
        (sources.csv(URL), b"a,b\n", []),
        (sources.csv(URL), b"a,b\n\n1,2", [{"a": "1", "b": "2"}]),
        (sources.csv(URL), b"\xef\xbb\xbfa,b\r\n1,2\r\n", [{"a": "1", "b": "2"}]),
        (sources.csv(URL, quoted_newlines=True), b'"a\nb",c\n1,2\n', [{"a\nb": "1", "c": "2"}]),
        (sources.csv(URL, header=["a"]), b"\n", []),
        (sources.csv(URL), f"a\n1\n{LONG}\n".encode(), [{"a": "1"}, {"a": LONG}]),
        (sources.csv(URL, quoted_newlines=True), f'a\n"{LONG}\n"\n1\n'.encode(), [{"a": LONG + "\n"}, {"a": "1"}]),
        (sources.jsonl(URL), b"\n", []),
        (sources.jsonl(URL), f'{{"a":"1"}}\n{{"a":"{LONG}"}}'.encode(), [{"a": "1"}, {"a": LONG}]),
    ],
)
def test_a_table_has_the_rows_that_iterating_gives(
    source: sources.Source, body: bytes, rows: list[dict[str, str]]
) -> None:
    """Headers alone, names with newlines, empty lines and rows of megabytes are the same as rows and as a table."""
    (part,) = in_memory(source, a=body).parts()
    assert list(part) == rows
    assert [{name: str(value) for name, value in row.items()} for row in part.arrow().to_pylist()] == rows


@pytest.mark.parametrize("part_bytes", [1, 2**20])
def test_parquet_without_rows_has_none(part_bytes: int) -> None:
    """A table without row groups, or with empty ones, gives no rows, whatever the parts."""
    file = io.BytesIO()
    pq.ParquetWriter(file, TABLE.schema).close()
    source = in_memory(sources.parquet(URL), a=file.getvalue(), b=parquet_of(TABLE[:0]), c=parquet_of(TABLE[:2]))
    parts = list(source.parts(part_bytes))
    assert [row for part in parts for row in part] == TABLE[:2].to_pylist()
    assert pa.concat_tables([part.arrow() for part in parts]).to_pylist() == TABLE[:2].to_pylist()
