"""Out-of-band buffers: bytes outside the payload, which a reader can use where they are.

The body of a value with such buffers ends with three offsets, counted from the start of the object: the start of the
payload, its end, and the start of the buffers. The payload holds the offset of each buffer, counted from the start of
the buffers, and its length. A small buffer is part of the payload.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from io import SEEK_END, BytesIO
from typing import Any, Final

from .envelope import HEADER, OUT_OF_BAND

_OFFSETS: Final = struct.Struct(">QQQ")
INLINE_BYTES: Final = 512
"""A smaller buffer is part of the payload."""

# Each buffer begins at a multiple of this from the start of the object. A fetched object is a bytes object, whose
# content begins at a multiple of 16: so does each buffer.
_ALIGNMENT: Final = 64


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes that are still to be written.

    Attributes:
        size: How many.
        fill: Writes them into a view of exactly that size, all zero. It must keep no reference to the view.
    """

    size: int
    fill: Callable[[memoryview], None]


class OutOfBandBuffers:
    """Reserves room for buffers, and then writes them there. Not for use from several threads.

    Attributes:
        size: Bytes from the first buffer to the end of the last one reserved.
    """

    def __init__(self) -> None:
        self.size = 0
        self._waiting: list[tuple[int, Buffer]] = []

    def reserve(self, buffer: Buffer) -> bytes | list[int]:
        """Reserve room for a buffer, and return its entry in the payload: its bytes, or offset and length."""
        if buffer.size < INLINE_BYTES:
            content = bytearray(buffer.size)
            buffer.fill(memoryview(content))
            return bytes(content)
        offset = self.size + -self.size % _ALIGNMENT
        self._waiting.append((offset, buffer))
        self.size = offset + buffer.size
        return [offset, buffer.size]

    def rewind(self, size: int) -> None:
        """Forget the buffers that were reserved since the size was this."""
        while self._waiting and self._waiting[-1][0] >= size:
            self._waiting.pop()
        self.size = size

    def write_to(self, stream: BytesIO, *, start: int) -> None:
        """Write the buffers that are not written yet straight to their places, which begin at `start`."""
        if not self._waiting:
            return
        if stream.seek(0, SEEK_END) < start + self.size:
            # Extend the stream by zeros, without a second copy of them.
            stream.seek(start + self.size - 1)
            stream.write(b"\0")
        waiting, self._waiting = self._waiting, []
        with stream.getbuffer() as whole:
            for offset, buffer in waiting:
                with whole[start + offset : start + offset + buffer.size] as view:
                    buffer.fill(view)


def align(end: int) -> int:
    """Return the first offset from `end` at which buffers may begin."""
    return end + -end % _ALIGNMENT


def write_offsets(stream: BytesIO, *, payload: tuple[int, int], buffers: int) -> None:
    """Write the offsets of payload and buffers to the end of a body."""
    stream.seek(0, SEEK_END)
    stream.write(_OFFSETS.pack(*payload, buffers))


def split_body(whole: memoryview, flags: int) -> tuple[memoryview, memoryview]:
    """Return the payload and the buffers of a value that `unseal` has verified.

    Raises:
        ValueError: They are not within the value.
    """
    if not flags & OUT_OF_BAND:
        return whole[HEADER.size :], whole[:0]
    end = len(whole) - _OFFSETS.size
    if end < HEADER.size:
        raise ValueError("the offsets are cut short")
    first, last, buffers = _OFFSETS.unpack_from(whole, end)
    if not HEADER.size <= first <= last <= end or not HEADER.size <= buffers <= end:
        raise ValueError("a part is outside the object")
    return whole[first:last], whole[buffers:end]


def buffer_at(location: Any, buffers: memoryview) -> memoryview:
    """Return the buffer for an entry that `OutOfBandBuffers.reserve` returned.

    Raises:
        ValueError: There is none.
    """
    if isinstance(location, bytes):
        return memoryview(location)
    offset, length = location
    if not 0 <= offset <= offset + length <= len(buffers):
        raise ValueError("a buffer is outside the object")
    return buffers[offset : offset + length]
