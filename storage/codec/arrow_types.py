"""The kinds of Arrow: tables, record batches and arrays, whose memory is the buffer they were fetched into.

Each travels as a stream of Arrow's own interprocess format, with its schema and the metadata of that. Part of the
wire format. The only importer of pyarrow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa

from .buffers import Buffer
from .extension_types import ExtensionType, ExtensionTypeError

_COLUMN: Final = ""


def _apart(wrap: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    def take_apart(value: Any) -> list[Any]:
        try:
            whole = wrap(value)
            # Written once for its size alone, which copies nothing, and then straight to where it belongs.
            size = pa.MockOutputStream()
            _write(whole, size)
        except (pa.ArrowException, ValueError) as error:
            raise ExtensionTypeError(f"Arrow cannot write it: {error}") from error
        return [Buffer(size.size(), lambda place: _write(whole, pa.FixedSizeBufferWriter(pa.py_buffer(place))))]

    return take_apart


def _write(whole: Any, sink: Any) -> None:
    with pa.ipc.new_stream(sink, whole.schema) as writer:
        writer.write(whole)


def _together(unwrap: Callable[[Any], Any]) -> Callable[[list[Any]], Any]:
    def put_together(plain: list[Any]) -> Any:
        (buffer,) = plain
        with pa.ipc.open_stream(pa.py_buffer(buffer)) as reader:
            return unwrap(reader)

    return put_together


def _table(reader: Any) -> Any:
    table = reader.read_all()
    # Offsets that lead outside a buffer would be followed.
    table.validate(full=True)
    return table


def _batch(reader: Any) -> Any:
    batch = reader.read_next_batch()
    batch.validate(full=True)
    return batch


_EXTENSIONS: Final = (
    ExtensionType(40, pa.Table, _apart(lambda table: table), _together(_table), is_buffered=True),
    ExtensionType(41, pa.RecordBatch, _apart(lambda batch: batch), _together(_batch), is_buffered=True),
    ExtensionType(
        42,
        pa.Array,
        _apart(lambda array: pa.RecordBatch.from_arrays([array], names=[_COLUMN])),
        _together(lambda reader: _batch(reader).column(0)),
        is_buffered=True,
    ),
    ExtensionType(
        43,
        pa.ChunkedArray,
        _apart(lambda array: pa.Table.from_arrays([array], names=[_COLUMN])),
        _together(lambda reader: _table(reader).column(0)),
        is_buffered=True,
    ),
)
EXTENSION_BY_CODE: Final = {kind.code: kind for kind in _EXTENSIONS}


def extension_type_of(of: type[Any]) -> ExtensionType | None:
    """Return the kind of values of this type, or None. Arrays have a class for each type of Arrow."""
    return next((kind for kind in _EXTENSIONS if issubclass(of, kind.type)), None)
