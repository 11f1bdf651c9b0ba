"""Buffers that lie apart from the payload, so that a reader can use them where they are.

Where an encoded value has such buffers, its body ends with three places, counted from the start of the object: where
the payload begins, where it ends, and where the annex begins. In the payload a buffer is given by its offset in the
annex and its length. A small buffer is not worth the places: it stands in the payload.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from io import SEEK_END, BytesIO
from typing import Any, Final

from .envelope import HEADER, OUT_OF_BAND

_PLACES: Final = struct.Struct(">QQQ")
INLINE_BYTES: Final = 512
"""A buffer of fewer bytes stands in the payload."""

# Whatever is fetched arrives as a bytes object. Its content lies at a multiple of 16, and, if it is large and comes
# from glibc, 48 bytes behind a multiple of 64: then the first buffer, and so each, lies at a multiple of 64.
_ALIGNMENT: Final = 64


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes that are still to be written.

    Attributes:
        size: How many.
        fill: Writes them into a view of exactly that size, all zero; must keep nothing of it.
    """

    size: int
    fill: Callable[[memoryview], None]


class OutOfBandBuffers:
    """Gives buffers their places, and then writes them there. Not for use from several threads.

    Attributes:
        size: From the first buffer to the end of the last one placed.
    """

    def __init__(self) -> None:
        self.size = 0
        self._waiting: list[tuple[int, Buffer]] = []

    def place(self, buffer: Buffer) -> bytes | list[int]:
        """Return what stands for the buffer in the payload: its bytes, or offset and length."""
        if buffer.size < INLINE_BYTES:
            content = bytearray(buffer.size)
            buffer.fill(memoryview(content))
            return bytes(content)
        offset = self.size + -self.size % _ALIGNMENT
        self._waiting.append((offset, buffer))
        self.size = offset + buffer.size
        return [offset, buffer.size]

    def rewind(self, size: int) -> None:
        """Forget the buffers that were placed since the annex had this size."""
        while self._waiting and self._waiting[-1][0] >= size:
            self._waiting.pop()
        self.size = size

    def write_to(self, stream: BytesIO, *, start: int) -> None:
        """Write the buffers that wait into an annex that begins at `start`, straight to where they belong."""
        if not self._waiting:
            return
        if stream.seek(0, SEEK_END) < start + self.size:
            # Room for the rest, all zero, without a second copy of it.
            stream.seek(start + self.size - 1)
            stream.write(b"\0")
        waiting, self._waiting = self._waiting, []
        with stream.getbuffer() as whole:
            for offset, buffer in waiting:
                with whole[start + offset : start + offset + buffer.size] as place:
                    buffer.fill(place)


def buffers_start(end: int) -> int:
    """Return the first place from `end` where an annex may begin."""
    return end + -end % _ALIGNMENT


def write_places(stream: BytesIO, *, payload: tuple[int, int], buffers: int) -> None:
    """Write to the end of a body where its payload and its annex lie."""
    stream.seek(0, SEEK_END)
    stream.write(_PLACES.pack(*payload, buffers))


def parts(whole: memoryview, flags: int) -> tuple[memoryview, memoryview]:
    """Return the payload and the annex of a value that `unseal` has verified.

    Raises:
        ValueError: They lie outside of it.
    """
    if not flags & OUT_OF_BAND:
        return whole[HEADER.size :], whole[:0]
    end = len(whole) - _PLACES.size
    if end < HEADER.size:
        raise ValueError("the places are cut short")
    first, last, buffers = _PLACES.unpack_from(whole, end)
    if not HEADER.size <= first <= last <= end or not HEADER.size <= buffers <= end:
        raise ValueError("a part lies outside the object")
    return whole[first:last], whole[buffers:end]


def buffer_at(place: Any, buffers: memoryview) -> memoryview:
    """Return the buffer that `OutOfBandBuffers.place` gave this place.

    Raises:
        ValueError: There is none.
    """
    if isinstance(place, bytes):
        return memoryview(place)
    offset, length = place
    if not 0 <= offset <= offset + length <= len(buffers):
        raise ValueError("a buffer lies outside the object")
    return buffers[offset : offset + length]
