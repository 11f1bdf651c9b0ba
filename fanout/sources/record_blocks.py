"""Cuts of a byte range at the ends of records: the records that begin in the range, whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .compression import decompress, find_compression
from .pinned import PinnedRange

RUN_BYTES: Final = 256 * 2**10
"""Size of a run of records, unless one is longer. Decoded records take many times the memory of their bytes."""


def line_blocks(content: PinnedRange, compression: str, *, max_record_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that begin in a range, in runs of whole lines, each run with its offset.

    A line ends with a newline or with the object. The last line of a range may end beyond it. So the ranges that an
    object is cut into yield each of its lines once, wherever the cuts are. A run has at most `RUN_BYTES`, or is one
    line. Memory: a block, a run and the longest line.

    Args:
        content: The range.
        compression: How the object is compressed.
        max_record_bytes: Longest line.

    Raises:
        SourceDamaged: A line is longer.
    """
    found = find_compression(compression, content.location.key)
    is_whole = found != "none"
    # The byte before the range tells whether a line begins with it. A compressed object is read as a whole.
    position = 0 if is_whole else max(content.start - 1, 0)
    blocks = decompress(content, found) if is_whole else content.blocks(position, content.end)
    offset, started = 0, [] if content.start == 0 or is_whole else None  # type: tuple[int, list[bytes] | None]
    carried_bytes = 0
    for block in blocks:
        begin = 0
        if started is None:
            begin = block.find(b"\n") + 1
            position += len(block)
            if not begin:
                continue
            started, offset = [], position - len(block) + begin
        else:
            position += len(block)
        while end := _end_of_run(block, begin):
            run = block[begin:end]
            yield offset, b"".join((*started, run)) if started else run
            offset, started, carried_bytes = position - len(block) + end, [], 0
            begin = end
        if begin < len(block):
            started.append(block[begin:])
            carried_bytes += len(block) - begin
            _check_length(content, offset, carried_bytes, max_record_bytes)
    if not started:
        return
    for block in () if is_whole else content.tail_blocks(content.end):
        end = block.find(b"\n") + 1
        started.append(block[:end] if end else block)
        carried_bytes += len(started[-1])
        _check_length(content, offset, carried_bytes, max_record_bytes)
        if end:
            break
    yield offset, b"".join(started)


def fixed_blocks(content: PinnedRange, compression: str, *, size: int) -> Iterator[bytes]:
    """Yield the records of `size` bytes that begin in a range, in runs of whole records.

    A run has at most `RUN_BYTES`, or is one record. Memory: a block, a run and a record.

    Raises:
        SourceDamaged: The object's length is no multiple of `size`.
    """
    found = find_compression(compression, content.location.key)
    if found != "none":
        blocks, offset = decompress(content, found), 0
    else:
        offset, end = (-(-at // size) * size for at in (content.start, content.end))
        blocks = content.blocks(offset, min(end, content.size_bytes))
    run_bytes = max(RUN_BYTES // size, 1) * size
    started: list[bytes] = []
    carried_bytes = 0
    for block in blocks:
        begin = 0
        if started:
            begin = size - carried_bytes
            started.append(block[:begin])
            carried_bytes += len(started[-1])
            if carried_bytes < size:
                continue
            yield b"".join(started)
            offset, started, carried_bytes = offset + size, [], 0
        end = len(block) - (len(block) - begin) % size
        for at in range(begin, end, run_bytes):
            yield block[at : min(at + run_bytes, end)]
        offset += end - begin
        if end < len(block):
            started, carried_bytes = [block[end:]], len(block) - end
    if started:
        raise content.damaged(offset, f"its last record has {carried_bytes} bytes instead of {size}")


def _end_of_run(block: bytes, begin: int) -> int:
    """Return the end of the whole lines of at most `RUN_BYTES` after `begin`, or of one line; 0 if there is none."""
    limit = begin + RUN_BYTES
    return block.rfind(b"\n", begin, limit) + 1 or block.find(b"\n", limit) + 1


def _check_length(content: PinnedRange, offset: int, length: int, max_record_bytes: int) -> None:
    if length > max_record_bytes:
        raise content.damaged(
            offset, f"a record is longer than max_record_bytes ({max_record_bytes:,}): raise it, if that is meant"
        )


def line_offset(block: bytes, index: int) -> int:
    """Return where the line of that index begins in a block of lines."""
    offset = 0
    for _ in range(index):
        offset = block.index(b"\n", offset) + 1
    return offset
