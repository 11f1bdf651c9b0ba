"""Objects that are compressed as a whole, by gzip or zstd, read as a stream."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Final, Literal

from storage import load_zstd

from ..errors import ConfigError
from .pinned import PinnedRange

Compression = Literal["infer", "none", "gzip", "zstd"]
"""How objects are compressed; `infer` tells it by the end of each key: .gz, .zst, .zstd."""

COMPRESSIONS: Final = ("infer", "none", "gzip", "zstd")
_BY_SUFFIX: Final = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
_PIECE_BYTES: Final = 2**20
_FED_BYTES: Final = 256 * 2**10
"""Bytes that a decoder takes at a time. It copies what is left of them after each piece and each member."""


def check_compression(compression: str) -> None:
    """Check the option `compression`.

    Raises:
        ConfigError: There is no such compression.
    """
    if compression not in COMPRESSIONS:
        raise ConfigError(f"compression must be one of {', '.join(COMPRESSIONS)}, not {compression!r}")


def find_compression(compression: str, key: str) -> str:
    """Return how an object is compressed: `none`, `gzip` or `zstd`."""
    if compression != "infer":
        return compression
    return next((found for suffix, found in _BY_SUFFIX.items() if key.endswith(suffix)), "none")


def decompress(content: PinnedRange, compression: str) -> Iterator[bytes]:
    """Yield the content of a compressed object, in pieces of at most a megabyte. Several frames or members are one.

    Raises:
        SourceDamaged: The object is damaged or ends too soon. Its offset is one of the compressed object.
        MissingPackage: zstd is not installed.
    """
    if compression == "gzip":
        new, failure = _new_gzip, zlib.error
    else:
        zstd = load_zstd("in which the object is compressed")
        new, failure = zstd.ZstdDecompressor, zstd.ZstdError
    decoder, offset = None, 0
    for block in _cut(content.blocks(0, content.size_bytes)):
        rest = block
        while rest:
            decoder = decoder or new()
            try:
                yield from _feed(decoder, rest)
            except failure as error:
                at = offset + len(block) - len(rest)
                raise content.damaged(at, f"its {compression} is damaged: {error}") from error
            rest = decoder.unused_data if decoder.eof else b""
            if decoder.eof:
                decoder = None
                if compression == "gzip" and not rest.strip(b"\0"):
                    # gzip pads with zeros, on tapes
                    rest = b""
        offset += len(block)
    if decoder is not None:
        raise content.damaged(content.size_bytes, f"its {compression} ends too soon")


def _cut(blocks: Iterator[bytes]) -> Iterator[bytes]:
    for block in blocks:
        yield from (block[at : at + _FED_BYTES] for at in range(0, len(block), _FED_BYTES))


def _feed(decoder: Any, data: bytes) -> Iterator[bytes]:
    """Yield what the decoder makes of some bytes, until it has taken all, or a frame ends."""
    piece = decoder.decompress(data, _PIECE_BYTES)
    while True:
        if piece:
            yield piece
        rest = getattr(decoder, "unconsumed_tail", b"")
        if decoder.eof or not (rest or piece):
            return
        piece = decoder.decompress(rest, _PIECE_BYTES)


def _new_gzip() -> Any:
    return zlib.decompressobj(wbits=31)
