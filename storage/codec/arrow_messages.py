"""Metadata of a message of Arrow's interprocess format, as far as pyarrow does not tell it.

The metadata is a FlatBuffer: `Message`, with the union `header` of a `RecordBatch` or a `DictionaryBatch`, as
the format's `Message.fbs` defines them. Arrow has verified it when a `MessageReader` returns the message.
"""

from __future__ import annotations

import struct
from typing import Final

_OFFSET: Final = struct.Struct("<I")
_BACK: Final = struct.Struct("<i")
_SLOT: Final = struct.Struct("<H")

# Numbers of fields in their tables, and of members of the union.
_HEADER_TYPE: Final = 1
_HEADER: Final = 2
_DICTIONARY_BATCH: Final = 2
_DATA: Final = 1
_COMPRESSION: Final = 3


def is_compressed(metadata: memoryview) -> bool:
    """Return whether a message of a record batch or a dictionary says that its buffers are compressed.

    Raises:
        struct.error: It is no such message.
    """
    message = _OFFSET.unpack_from(metadata)[0]
    kind, header = _find(metadata, message, _HEADER_TYPE), _find(metadata, message, _HEADER)
    if kind is None or header is None:
        return False
    batch = _follow(metadata, header)
    if metadata[kind] == _DICTIONARY_BATCH:
        data = _find(metadata, batch, _DATA)
        if data is None:
            return False
        batch = _follow(metadata, data)
    return _find(metadata, batch, _COMPRESSION) is not None


def _follow(metadata: memoryview, place: int) -> int:
    return place + int(_OFFSET.unpack_from(metadata, place)[0])


def _find(metadata: memoryview, table: int, field: int) -> int | None:
    """Return the position of a table's field, or None if it has the default."""
    slots = table - int(_BACK.unpack_from(metadata, table)[0])
    size = int(_SLOT.unpack_from(metadata, slots)[0])
    slot = 4 + 2 * field
    if slot + _SLOT.size > size:
        return None
    offset = int(_SLOT.unpack_from(metadata, slots + slot)[0])
    return table + offset if offset else None
