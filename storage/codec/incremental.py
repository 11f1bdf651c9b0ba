"""A large value packed piece by piece, so that no second copy of it is held."""

from __future__ import annotations

from collections.abc import Callable, Collection
from io import BytesIO
from itertools import islice
from sys import getsizeof
from typing import Any, Final

PIECE_BYTES: Final = 2**18
"""What is packed in one go of a large value."""
# Longer ones have the longest of msgpack's headers in any case.
_LEAF_LENGTH: Final = 2**16
_LEVELS: Final = 8
_LONG_HEADER_BYTES: Final = 5
_UNCERTAIN_RUN: Final = 64

_BYTES, _TEXT, _LIST, _DICT = 0xC6, 0xDB, 0xDD, 0xDF


def write_in_pieces(value: Any, stream: BytesIO, *, pack: Callable[[Any], bytes], levels: int = _LEVELS) -> None:
    """Write what `pack(value)` returns, without having all of it in one place outside of the stream.

    str and bytes are copied straight into the stream, lists and dicts in runs of members that are as
    long as fits into a piece; both also inside of lists and dicts, down to a few levels.

    Raises:
        OverflowError: A str, bytes, list or dict has 2**32 members or more.
        Exception: Whatever `pack` raises. The stream then holds the beginning.
    """
    kind = type(value)
    if kind is list and levels:
        _write_list(value, stream, pack, levels - 1)
    elif kind is dict and levels:
        _write_dict(value, stream, pack, levels - 1)
    elif kind in (bytes, bytearray) and len(value) >= _LEAF_LENGTH:
        stream.write(_long_header(_BYTES, len(value)))
        stream.write(value)
    elif kind is str and len(value) >= _LEAF_LENGTH:
        _write_text(value, stream)
    else:
        stream.write(pack(value))


def _write_text(text: str, stream: BytesIO) -> None:
    start = stream.tell()
    stream.write(_long_header(_TEXT, 0))
    # Never the whole text: a str keeps its UTF-8 for good once somebody has asked the way packers do.
    for first in range(0, len(text), PIECE_BYTES):
        stream.write(text[first : first + PIECE_BYTES].encode())
    end = stream.tell()
    stream.seek(start)
    stream.write(_long_header(_TEXT, end - start - _LONG_HEADER_BYTES))
    stream.seek(end)


def _write_list(members: list[Any], stream: BytesIO, pack: Callable[[Any], bytes], levels: int) -> None:
    stream.write(_header(_LIST, len(members)))
    first, run = 0, 1
    while first < len(members):
        before = stream.tell()
        piece = members[first : first + run]
        if run == 1 or _holds_large(piece):
            for member in piece:
                write_in_pieces(member, stream, pack=pack, levels=levels)
        else:
            stream.write(memoryview(pack(piece))[len(_header(_LIST, len(piece))) :])
        first += run
        run = _next_run(run, stream.tell() - before)


def _write_dict(entries: dict[Any, Any], stream: BytesIO, pack: Callable[[Any], bytes], levels: int) -> None:
    stream.write(_header(_DICT, len(entries)))
    coming = iter(entries.items())
    run = 1
    while piece := dict(islice(coming, run)):
        before = stream.tell()
        if run == 1 or _holds_large(piece.values()):
            for key, value in piece.items():
                stream.write(pack(key))
                write_in_pieces(value, stream, pack=pack, levels=levels)
        else:
            stream.write(memoryview(pack(piece))[len(_header(_DICT, len(piece))) :])
        run = _next_run(run, stream.tell() - before)


def _holds_large(piece: Collection[Any]) -> bool:
    # In a longer run the members have been small so far.
    return len(piece) <= _UNCERTAIN_RUN and max(map(getsizeof, piece)) >= _LEAF_LENGTH


def _next_run(run: int, written: int) -> int:
    if written > PIECE_BYTES:
        return max(1, run * PIECE_BYTES // written)
    return run * 2 if written <= PIECE_BYTES // 2 else run


def _header(kind: int, members: int) -> bytes:
    if members < 16:
        return bytes([(0x90 if kind == _LIST else 0x80) | members])
    if members < 2**16:
        return bytes([kind - 1]) + members.to_bytes(2, "big")
    return _long_header(kind, members)


def _long_header(kind: int, length: int) -> bytes:
    return bytes([kind]) + length.to_bytes(_LONG_HEADER_BYTES - 1, "big")
