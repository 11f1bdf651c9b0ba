"""Extension types for Arrow: tables, record batches and arrays, which use the memory that was fetched.

Each travels as a stream of Arrow's interprocess format, with its schema and metadata. Part of the wire format. The only
importer of pyarrow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa

from .arrow_messages import is_compressed
from .buffers import Buffer
from .extension import ExtensionType, ExtensionTypeError

_COLUMN: Final = ""
_BATCHES: Final = ("record batch", "dictionary")


def _write_stream_of(wrap: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    def take_apart(value: Any) -> list[Any]:
        try:
            whole = wrap(value)
            # Written once to learn the size, which copies nothing, and then straight to its place.
            size = pa.MockOutputStream()
            _write(whole, size)
        except (pa.ArrowException, ValueError) as error:
            raise ExtensionTypeError(f"Arrow cannot write it: {error}") from error
        return [Buffer(size.size(), lambda view: _write(whole, pa.FixedSizeBufferWriter(pa.py_buffer(view))))]

    return take_apart


def _write(whole: Any, sink: Any) -> None:
    with pa.ipc.new_stream(sink, whole.schema) as writer:
        writer.write(whole)


def _read_stream_into(unwrap: Callable[[Any], Any]) -> Callable[[list[Any]], Any]:
    def put_together(plain: list[Any]) -> Any:
        (buffer,) = plain
        _refuse_compression(buffer)
        with pa.ipc.open_stream(pa.py_buffer(buffer)) as reader:
            return unwrap(reader)

    return put_together


def _refuse_compression(buffer: memoryview) -> None:
    """Refuse a stream with a compressed batch: Arrow would make room for as many bytes as that says.

    Raises:
        ValueError: A batch is compressed.
    """
    for message in pa.ipc.MessageReader.open_stream(pa.py_buffer(buffer)):
        if message.type in _BATCHES and is_compressed(memoryview(message.metadata)):
            raise ValueError("a batch is compressed")


def _read_table(reader: Any) -> Any:
    table = reader.read_all()
    # Arrow would follow offsets that lead outside a buffer.
    table.validate(full=True)
    return table


def _read_batch(reader: Any) -> Any:
    batch = reader.read_next_batch()
    batch.validate(full=True)
    return batch


_EXTENSIONS: Final = (
    ExtensionType(
        40, pa.Table, _write_stream_of(lambda table: table), _read_stream_into(_read_table), is_buffered=True
    ),
    ExtensionType(
        41, pa.RecordBatch, _write_stream_of(lambda batch: batch), _read_stream_into(_read_batch), is_buffered=True
    ),
    ExtensionType(
        42,
        pa.Array,
        _write_stream_of(lambda array: pa.RecordBatch.from_arrays([array], names=[_COLUMN])),
        _read_stream_into(lambda reader: _read_batch(reader).column(0)),
        is_buffered=True,
    ),
    ExtensionType(
        43,
        pa.ChunkedArray,
        _write_stream_of(lambda array: pa.Table.from_arrays([array], names=[_COLUMN])),
        _read_stream_into(lambda reader: _read_table(reader).column(0)),
        is_buffered=True,
    ),
)
EXTENSION_BY_CODE: Final = {extension.code: extension for extension in _EXTENSIONS}


def extension_type_of(of: type[Any]) -> ExtensionType | None:
    """Return the extension type for values of this type, or None. Arrays have a class per type of Arrow."""
    return next((extension for extension in _EXTENSIONS if issubclass(of, extension.type)), None)
