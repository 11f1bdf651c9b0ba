"""Packing of a large value block by block, so that no second copy of it is held."""

from __future__ import annotations

from collections.abc import Callable, Collection
from io import BytesIO
from itertools import islice
from sys import getsizeof
from typing import Any, Final

BLOCK_BYTES: Final = 2**18
"""Bytes of a large value that are packed at once."""
# Values this long have the longest of msgpack's headers in any case.
_LEAF_LENGTH: Final = 2**16
_LEVELS: Final = 8
_LONG_HEADER_BYTES: Final = 5
_UNCERTAIN_RUN: Final = 64

_BYTES, _TEXT, _LIST, _DICT = 0xC6, 0xDB, 0xDD, 0xDF


def write_incrementally(value: Any, stream: BytesIO, *, pack: Callable[[Any], bytes], levels: int = _LEVELS) -> None:
    """Write the bytes of `pack(value)`, without holding all of them outside of the stream.

    str and bytes are copied straight into the stream, lists and dicts in runs of members that fit into a block. Both
    also inside of lists and dicts, down to a few levels.

    Raises:
        OverflowError: A str, bytes, list or dict has 2**32 members or more.
        Exception: Whatever `pack` raises. The stream then holds the beginning.
    """
    value_type = type(value)
    if value_type is list and levels:
        _write_list(value, stream, pack, levels - 1)
    elif value_type is dict and levels:
        _write_dict(value, stream, pack, levels - 1)
    elif value_type in (bytes, bytearray) and len(value) >= _LEAF_LENGTH:
        stream.write(_long_header(_BYTES, len(value)))
        stream.write(value)
    elif value_type is str and len(value) >= _LEAF_LENGTH:
        _write_text(value, stream)
    else:
        stream.write(pack(value))


def pack_members(members: list[Any], *, pack: Callable[[Any], bytes]) -> memoryview:
    """Return the packed members one after the other: `pack(members)` without the header of the list."""
    return memoryview(pack(members))[len(_header(_LIST, len(members))) :]


def _write_text(text: str, stream: BytesIO) -> None:
    start = stream.tell()
    stream.write(_long_header(_TEXT, 0))
    # Never the whole text: a str keeps its UTF-8 for good once a packer has asked for it.
    for first in range(0, len(text), BLOCK_BYTES):
        stream.write(text[first : first + BLOCK_BYTES].encode())
    end = stream.tell()
    stream.seek(start)
    stream.write(_long_header(_TEXT, end - start - _LONG_HEADER_BYTES))
    stream.seek(end)


def _write_list(members: list[Any], stream: BytesIO, pack: Callable[[Any], bytes], levels: int) -> None:
    stream.write(_header(_LIST, len(members)))
    first, run = 0, 1
    while first < len(members):
        before = stream.tell()
        block = members[first : first + run]
        if run == 1 or _holds_large(block):
            for member in block:
                write_incrementally(member, stream, pack=pack, levels=levels)
        else:
            stream.write(pack_members(block, pack=pack))
        first += run
        run = _next_run(run, stream.tell() - before)


def _write_dict(entries: dict[Any, Any], stream: BytesIO, pack: Callable[[Any], bytes], levels: int) -> None:
    stream.write(_header(_DICT, len(entries)))
    remaining = iter(entries.items())
    run = 1
    while block := dict(islice(remaining, run)):
        before = stream.tell()
        if run == 1 or _holds_large(block.values()):
            for key, value in block.items():
                stream.write(pack(key))
                write_incrementally(value, stream, pack=pack, levels=levels)
        else:
            stream.write(memoryview(pack(block))[len(_header(_DICT, len(block))) :])
        run = _next_run(run, stream.tell() - before)


def _holds_large(block: Collection[Any]) -> bool:
    # The members of a longer run have been small so far.
    return len(block) <= _UNCERTAIN_RUN and max(map(getsizeof, block)) >= _LEAF_LENGTH


def _next_run(run: int, written: int) -> int:
    if written > BLOCK_BYTES:
        return max(1, run * BLOCK_BYTES // written)
    return run * 2 if written <= BLOCK_BYTES // 2 else run


def _header(marker: int, members: int) -> bytes:
    if members < 16:
        return bytes([(0x90 if marker == _LIST else 0x80) | members])
    if members < 2**16:
        return bytes([marker - 1]) + members.to_bytes(2, "big")
    return _long_header(marker, members)


def _long_header(marker: int, length: int) -> bytes:
    return bytes([marker]) + length.to_bytes(_LONG_HEADER_BYTES - 1, "big")
