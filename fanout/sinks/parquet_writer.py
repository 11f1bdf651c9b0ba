"""Rows as Parquet, with pyarrow: row groups as rows come, and an object per partition."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .arrow_tables import iterate_tables
from .stream import ObjectStream, OpenObject, RowFlaw

_PENDING_BYTES: Final = 64 * 2**20
"""Size in memory of all rows that wait for their row group to fill, from which on the largest is written."""

_ROWS_AT_ONCE: Final = 131_072
"""Rows that are spread over partitions at once."""

_OPEN_OBJECTS: Final = 64
"""Most objects that are written at the same time, each with a block of 8 MiB at most."""

_NULL: Final = "__HIVE_DEFAULT_PARTITION__"


def write_parquet(
    rows: Any,
    open_object: OpenObject,
    *,
    schema: bytes | None,
    row_group_rows: int,
    compression: str,
    partition_by: Sequence[str],
) -> None:
    """Write rows to an object, or to one per partition. Holds 64 MiB of rows, and a block per open object.

    With more than 64 partitions at a time, a partition may get several objects.

    Raises:
        RowFlaw: Rows do not fit the schema, or a column to partition by is missing.
    """
    wanted = pa.ipc.read_schema(pa.py_buffer(schema)) if schema is not None else None
    writer = _Writer(open_object, row_group_rows, compression)
    for table in iterate_tables(rows, wanted):
        for start in range(0, table.num_rows, _ROWS_AT_ONCE):
            for folder, part in _partition(table.slice(start, _ROWS_AT_ONCE), partition_by):
                writer.add(folder, part)
    writer.finish()


class _Object:
    """One open object, with the rows that wait for their row group to fill."""

    def __init__(self, stream: ObjectStream, schema: pa.Schema, compression: str) -> None:
        self._stream = stream
        self._writer = pq.ParquetWriter(stream, schema, compression=compression)
        self._waiting: list[pa.Table] = []
        self.waiting_rows = 0
        self.waiting_bytes = 0

    def add(self, table: pa.Table, row_group_rows: int) -> None:
        start = 0
        while start < table.num_rows:
            part = table.slice(start, row_group_rows - self.waiting_rows)
            self._waiting.append(part)
            self.waiting_rows += part.num_rows
            self.waiting_bytes += part.nbytes
            start += part.num_rows
            if self.waiting_rows == row_group_rows:
                self.flush()

    def flush(self) -> None:
        if self.waiting_rows:
            self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=self.waiting_rows)
            self._stream.rows += self.waiting_rows
        self._waiting, self.waiting_rows, self.waiting_bytes = [], 0, 0

    def finish(self) -> None:
        self.flush()
        self._writer.close()


class _Writer:
    """The open objects of one call of `write`."""

    def __init__(self, open_object: OpenObject, row_group_rows: int, compression: str) -> None:
        self._open_object = open_object
        self._row_group_rows = row_group_rows
        self._compression = compression
        self._objects: OrderedDict[str, _Object] = OrderedDict()

    def add(self, folder: str, table: pa.Table) -> None:
        current = self._objects.get(folder)
        if current is None:
            if len(self._objects) == _OPEN_OBJECTS:
                self._objects.popitem(last=False)[1].finish()
            current = self._objects[folder] = _Object(self._open_object(folder), table.schema, self._compression)
        self._objects.move_to_end(folder)
        current.add(table, self._row_group_rows)
        if sum(each.waiting_bytes for each in self._objects.values()) > _PENDING_BYTES:
            max(self._objects.values(), key=lambda each: each.waiting_bytes).flush()

    def finish(self) -> None:
        for each in self._objects.values():
            each.finish()


def _partition(table: pa.Table, columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
    """Yield the folder and the rows of each partition, without the columns that the folder names."""
    if not columns:
        yield "", table
        return
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise RowFlaw(f"the rows have no column {missing[0]!r}, by which the sink is partitioned")
    if len(columns) == len(table.column_names):
        raise RowFlaw("no column is left beside those by which the sink is partitioned")
    floating = next((name for name in columns if pa.types.is_floating(table.schema.field(name).type)), None)
    if floating is not None:
        raise RowFlaw(f"the column {floating!r} holds fractions, by which no sink is partitioned: round it to text")
    rest = table.drop_columns(list(columns))
    for values in table.select(list(columns)).group_by(list(columns), use_threads=False).aggregate([]).to_pylist():
        mask = None
        for name, value in values.items():
            column = table.column(name)
            own = pc.is_null(column) if value is None else pc.equal(column, pa.scalar(value, column.type))
            mask = own if mask is None else pc.and_(mask, own)
        yield "/".join(f"{quote(name, safe='')}={_to_text(value)}" for name, value in values.items()), rest.filter(mask)


def _to_text(value: Any) -> str:
    return _NULL if value is None else quote(str(value), safe="")
