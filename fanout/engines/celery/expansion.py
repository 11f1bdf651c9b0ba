"""Limits on what a compressed message may become.

kombu expands a compressed message as soon as it arrives, in the worker's main process, before anything can look at it:
1 MB may become 1 GiB. So each of kombu's decompressors is replaced by one that stops at a limit. That holds for all
that this process reads from a broker or a result backend: tasks of the app's own, remote control, events and results.
"""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, Final

from kombu import compression as _compression

compression: Any = _compression  # its annotations name other types

_LZMA_MEMORY_BYTES: Final = 128 << 20
"""Memory that LZMA's own dictionary may take: twice that of its highest preset."""

limit_bytes = 64 << 20
"""The size to which a message may expand. `limit_expansion` sets it."""


class TooLarge(ValueError):
    """A compressed message is larger than the limit, or has something behind its end."""


def limit_expansion(size: int, *, used: Iterable[str | None] = ()) -> None:
    """Let compressed messages expand to `size` bytes at most, from now on in this process. Idempotent.

    A compression whose decompressor knows no limit, such as brotli, is refused, unless the app itself uses it.
    Compressing is not affected.

    Args:
        size: The limit in bytes.
        used: Names of the compressions that the app's settings name.
    """
    global limit_bytes
    limit_bytes = size
    own = {compression.get_encoder(name)[1] for name in used if name}
    for kind in compression.encoders():
        decode = compression.get_decoder(kind)
        if not getattr(decode, "is_limited", False) and (kind in _STREAMS or kind not in own):
            limited = _limited(_STREAMS[kind]) if kind in _STREAMS else _refusing(kind)
            compression.register(compression.get_encoder(kind)[0], limited, kind)


def _limited(open_stream: Callable[[], Any]) -> Callable[[bytes], bytes]:
    """Return a decompressor that stops at the limit."""

    def decompress(body: bytes) -> bytes:
        stream = open_stream()
        expanded: bytes = stream.decompress(body, limit_bytes + 1)
        if len(expanded) > limit_bytes:
            raise TooLarge(f"a message of {len(body)} bytes expands to more than {limit_bytes}")
        if not stream.eof or stream.unused_data:
            raise TooLarge(f"a compressed message of {len(body)} bytes ends too early, or is followed by something")
        return expanded

    decompress.is_limited = True  # type: ignore[attr-defined]
    return decompress


def _refusing(kind: str) -> Callable[[bytes], bytes]:
    """Return a decompressor that refuses everything."""

    def decompress(body: bytes) -> bytes:
        raise TooLarge(f"a message is compressed as {kind}, which cannot be limited: use zstd or gzip")

    decompress.is_limited = True  # type: ignore[attr-defined]
    return decompress


def _open_zstd() -> Any:
    # The module that kombu's own decompressor is from.
    return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd").ZstdDecompressor()


_STREAMS: Final[dict[str, Callable[[], Any]]] = {
    "application/x-gzip": zlib.decompressobj,
    "application/x-bz2": bz2.BZ2Decompressor,
    "application/x-lzma": lambda: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY_BYTES),
    "application/zstd": _open_zstd,
}
"""kombu's content type -> makes an object whose `decompress` takes a limit."""
