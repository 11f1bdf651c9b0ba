"""Tables of Arrow, made of all that holds rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

import pyarrow as pa

from .arrow import is_tabular
from .stream import RowFlaw
from .text_writers import check_rows

_ROWS_AT_ONCE: Final = 8_192
"""Rows that are turned from mappings into a table, or back, at once."""


def iterate_row_dicts(data: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table, a batch, a reader or a frame as dicts. Holds 8,192 of them."""
    for table in _iterate_tabular(data, None):
        for start in range(0, table.num_rows, _ROWS_AT_ONCE):
            yield from table.slice(start, _ROWS_AT_ONCE).to_pylist()


def iterate_tables(data: Any, schema: pa.Schema | None) -> Iterator[pa.Table]:
    """Yield tables of one schema for rows: a table, batch, reader or frame, or an iterable of these or of mappings.

    Args:
        data: The rows.
        schema: The schema; None for that of the first table.

    Raises:
        RowFlaw: Rows do not fit the schema. The error names the row or the column.
    """
    index = 0
    for table in _make_tables(data, schema):
        if schema is None:
            schema = table.schema
        try:
            fitted = _fit(table, schema)
        except (pa.ArrowException, ValueError) as error:
            raise RowFlaw(f"rows {index} to {index + table.num_rows - 1} do not fit the schema: {error}") from error
        index += table.num_rows
        yield fitted


def _make_tables(data: Any, schema: pa.Schema | None) -> Iterator[pa.Table]:
    if is_tabular(data):
        yield from _iterate_tabular(data, schema)
        return
    elements = iter(check_rows(data))
    index = 0
    rows: list[Mapping[str, Any]] = []
    for element in elements:
        if is_tabular(element):
            yield from _iterate_tabular(element, schema)
            continue
        rows = [element, *islice(elements, _ROWS_AT_ONCE - 1)]
        table = _make_table(rows, schema, index)
        schema = schema or table.schema
        yield table
        index += len(rows)


def _iterate_tabular(data: Any, schema: pa.Schema | None) -> Iterator[pa.Table]:
    if isinstance(data, pa.Table):
        yield data
    elif isinstance(data, pa.RecordBatch):
        yield pa.Table.from_batches([data])
    elif isinstance(data, pa.RecordBatchReader):
        for batch in data:
            yield pa.Table.from_batches([batch])
    else:
        yield pa.Table.from_pandas(data, preserve_index=False)


def _make_table(rows: list[Mapping[str, Any]], schema: pa.Schema | None, first: int) -> pa.Table:
    for index, row in enumerate(rows, start=first):
        if not isinstance(row, Mapping):
            raise RowFlaw(f"row {index} is no mapping of column -> value, but {type(row).__name__}")
        if schema is not None and not row.keys() <= set(schema.names):
            unknown = sorted(map(str, row.keys() - set(schema.names)))
            raise RowFlaw(f"row {index} has the column {unknown[0]!r:.80}, which the schema does not have")
    try:
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {name: [row.get(name) for row in rows] for name in (schema.names if schema is not None else names)}
        return pa.table(columns, schema=schema)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        last = first + len(rows) - 1
        raise RowFlaw(f"rows {first} to {last} fit no schema: {error}. Give the sink a schema") from error


def _fit(table: pa.Table, schema: pa.Schema) -> pa.Table:
    if table.schema.equals(schema):
        return table
    unknown = [name for name in table.column_names if name not in schema.names]
    missing = [name for name in schema.names if name not in table.column_names]
    if unknown or missing:
        flaw = f"the column {unknown[0]!r} is not in it" if unknown else f"they have no column {missing[0]!r}"
        raise RowFlaw(flaw)
    return table.select(schema.names).cast(schema)
