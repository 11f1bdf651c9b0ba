"""zstd at its fastest, from Python 3.14 itself or else from `backports.zstd`; imported when it is first needed."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, Final

from ..errors import MissingPackage

_LEVEL: Final = 1
_PIECE_BYTES: Final = 2**20


class Undecompressible(Exception):
    """The bytes are no zstd frame of the length that was announced."""


def compressed(data: memoryview) -> bytes:
    """Return one zstd frame that knows the length of its content.

    Raises:
        MissingPackage: zstd is not installed.
    """
    frame: bytes = _zstd().compress(data, level=_LEVEL)
    return frame


def decompressed(frame: memoryview, *, length: int, room: int) -> bytearray:
    """Return `room` empty bytes and then the content of the frame.

    Memory: the result and a megabyte, whatever the frame holds; nothing is allocated before the frame itself has
    confirmed the length.

    Raises:
        Undecompressible: It is no frame, or not of that length.
        MissingPackage: zstd is not installed.
    """
    zstd = _zstd()
    try:
        announced = zstd.get_frame_info(frame).decompressed_size
        if announced != length:
            raise Undecompressible(f"it announces {announced} bytes")
        content = bytearray(room + length)
        decompressor = zstd.ZstdDecompressor()
        end = room
        piece = decompressor.decompress(frame, max_length=_PIECE_BYTES)
        while piece and end + len(piece) <= len(content):
            content[end : end + len(piece)] = piece
            end += len(piece)
            piece = b"" if decompressor.eof else decompressor.decompress(b"", max_length=_PIECE_BYTES)
        if piece or end != len(content) or not decompressor.eof or decompressor.unused_data:
            raise Undecompressible(f"it holds other than {length} bytes")
    except zstd.ZstdError as error:
        raise Undecompressible(str(error)) from error
    return content


@cache
def _zstd() -> Any:
    for module in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(module)
        except ImportError:
            continue
    raise MissingPackage("zstd, in which values are compressed, is not installed here", extra="zstd")
