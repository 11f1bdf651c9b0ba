"""Rows as JSON lines and as CSV, with the standard library; tables of Arrow and frames of pandas row by row."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from storage import open_zstd

from .arrow import is_tabular, require_arrow
from .stream import ObjectStream, OpenObject, RowFlaw

_TEXT_BYTES: Final = 256 * 1024
_GZIP_LEVEL: Final = 6
_NO_CELLS: Final = (bytes, bytearray, memoryview, dict, list, tuple, set, frozenset)


def write_jsonl(rows: Any, open_object: OpenObject, *, compression: str) -> None:
    """Write rows as JSON lines. Decimals and UUIDs become text, and dates and times ISO 8601.

    Raises:
        RowFlaw: A row is no JSON: it holds NaN, or a type that JSON does not have.
    """
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_to_json).encode
    numbered = enumerate(iterate_rows(rows))
    first = next(numbered, None)
    if first is None:
        return
    with _text_file(open_object(""), compression) as (file, stream):
        for index, row in _chain(first, numbered):
            try:
                file.write(encode(row) + "\n")
            except (TypeError, ValueError) as error:
                raise RowFlaw(f"row {index} is no JSON: {error}") from error
            stream.rows += 1


def write_csv(
    rows: Any,
    open_object: OpenObject,
    *,
    columns: Sequence[str] | None,
    header: bool,
    dialect: str,
    delimiter: str | None,
    compression: str,
) -> None:
    """Write rows, mappings or sequences, as CSV. None becomes an empty field.

    Raises:
        RowFlaw: A row has a column too many or too few, or a field that is bytes or holds several values.
    """
    numbered = enumerate(iterate_rows(rows))
    first = next(numbered, None)
    if first is None:
        return
    if columns is None and isinstance(first[1], Mapping):
        columns = list(first[1])
    with _text_file(open_object(""), compression) as (file, stream):
        # The dialect's own end of a row: before Python 3.13, csv quotes no "\r" where that is "\n" alone.
        options: dict[str, Any] = {} if delimiter is None else {"delimiter": delimiter}
        writer = csv.writer(file, dialect, **options)
        if header:
            if columns is None:
                raise RowFlaw("rows that are sequences have no names for a header: give columns, or header=False")
            writer.writerow(columns)
        for index, row in _chain(first, numbered):
            try:
                writer.writerow(_to_cells(row, columns))
            except (csv.Error, ValueError) as error:
                raise RowFlaw(f"row {index}: {error}") from error
            stream.rows += 1


def iterate_rows(data: Any) -> Iterator[Any]:
    """Yield the rows of tables, of frames, or of iterables of rows, tables and frames.

    Raises:
        RowFlaw: It is no collection of rows.
    """
    if is_tabular(data):
        require_arrow()
        from .arrow_tables import iterate_row_dicts

        yield from iterate_row_dicts(data)
        return
    for element in check_rows(data):
        if is_tabular(element):
            yield from iterate_rows(element)
        else:
            yield element


def check_rows(data: Any) -> Iterable[Any]:
    """Return `data` if it may be a collection of rows.

    Raises:
        RowFlaw: It is one row, text, or no iterable.
    """
    if isinstance(data, Mapping | str | bytes) or not isinstance(data, Iterable):
        raise RowFlaw(f"write takes an iterable of rows, or a table, and not {type(data).__name__}: write [row]")
    return data


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not a type of JSON")


def _to_cells(row: Any, columns: Sequence[str] | None) -> list[Any]:
    if isinstance(row, Mapping):
        if columns is None:
            raise RowFlaw("it is a mapping, and the first row was a sequence")
        if row.keys() - set(columns):
            unknown = sorted(map(str, row.keys() - set(columns)))
            raise RowFlaw(f"it has the column {unknown[0]!r:.80}, which the object does not have: give columns")
        cells = [row.get(column) for column in columns]
    elif isinstance(row, Sequence) and not isinstance(row, str | bytes):
        cells = list(row)
        if columns is not None and len(cells) != len(columns):
            raise RowFlaw(f"it has {len(cells)} fields for {len(columns)} columns")
    else:
        raise RowFlaw(f"it is neither a mapping nor a sequence, but {type(row).__name__}")
    for cell in cells:
        if isinstance(cell, _NO_CELLS):
            raise RowFlaw(f"a field is {type(cell).__name__}, which CSV can't hold: write text, or use sinks.jsonl")
    return cells


def _chain(first: tuple[int, Any], others: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    yield first
    yield from others


@contextmanager
def _text_file(stream: ObjectStream, compression: str) -> Iterator[tuple[io.TextIOWrapper, ObjectStream]]:
    """Open an object for text, through a compressor, which is flushed at the end and leaves the object open."""
    compressor: Any = None
    if compression == "gzip":
        # Without name and time, so that equal rows give equal bytes.
        compressor = gzip.GzipFile("", "wb", _GZIP_LEVEL, stream, mtime=0)
    elif compression == "zstd":
        compressor = open_zstd(stream)
    buffered = io.BufferedWriter(compressor if compressor is not None else stream, _TEXT_BYTES)
    text = io.TextIOWrapper(buffered, encoding="utf-8", newline="", write_through=False)
    try:
        yield text, stream
        text.flush()
        if compressor is not None:
            compressor.close()
    finally:
        # Else collecting the text file would close what is below it.
        _abandon(text, buffered)


def _abandon(text: io.TextIOWrapper, buffered: io.BufferedWriter) -> None:
    for wrapper in (text, buffered):
        try:
            wrapper.detach()
        except (ValueError, OSError):
            continue
