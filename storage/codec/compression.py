"""zstd at its fastest level, from Python 3.14 itself or from `backports.zstd`; imported when first needed."""

from __future__ import annotations

import importlib
import io
from functools import cache
from typing import IO, Any, Final

from ..errors import MissingPackage

_LEVEL: Final = 1
_BLOCK_BYTES: Final = 2**20
_WINDOW_LOG: Final = 23
"""Logarithm of the most bytes that a frame may have kept for looking back. Our own level needs 19."""


class DecompressionError(Exception):
    """The bytes are no zstd frame of the expected length."""


def compress(data: memoryview) -> bytes:
    """Return one zstd frame that states the length of its content.

    Raises:
        MissingPackage: zstd is not installed.
    """
    frame: bytes = load_zstd().compress(data, level=_LEVEL)
    return frame


def decompress(frame: memoryview, *, length: int, reserve_bytes: int) -> bytearray:
    """Return `reserve_bytes` empty bytes, followed by the content of the frame.

    Memory: the result and up to 10 MB, whatever the frame holds. Nothing is allocated before the frame has confirmed
    the length.

    Raises:
        DecompressionError: It is no frame, or not of that length.
        MissingPackage: zstd is not installed.
    """
    zstd = load_zstd()
    try:
        announced_bytes = zstd.get_frame_info(frame).decompressed_size
        if announced_bytes != length:
            raise DecompressionError(f"it announces {announced_bytes} bytes")
        content = bytearray(reserve_bytes + length)
        decompressor = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})
        end = reserve_bytes
        block = decompressor.decompress(frame, max_length=_BLOCK_BYTES)
        while block and end + len(block) <= len(content):
            content[end : end + len(block)] = block
            end += len(block)
            block = b"" if decompressor.eof else decompressor.decompress(b"", max_length=_BLOCK_BYTES)
        if block or end != len(content) or not decompressor.eof or decompressor.unused_data:
            raise DecompressionError(f"it holds other than {length} bytes")
    except zstd.ZstdError as error:
        raise DecompressionError(str(error)) from error
    return content


def open_zstd(file: io.RawIOBase) -> IO[bytes]:
    """Return a file for writing whose content is compressed into another one, which stays open when it is closed.

    Raises:
        MissingPackage: zstd is not installed.
    """
    compressor: IO[bytes] = load_zstd().ZstdFile(file, "wb")
    return compressor


@cache
def load_zstd(purpose: str = "in which values are compressed") -> Any:
    """Return Python's module for zstd, or its backport.

    Args:
        purpose: What it is needed for, as a clause for the error.

    Raises:
        MissingPackage: Neither is installed.
    """
    for module in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(module)
        except ImportError:
            continue
    raise MissingPackage(f"zstd, {purpose}, is not installed here", extra="zstd")
