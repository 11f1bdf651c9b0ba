"""Cuts of a byte range at the ends of records: the records that begin in the range, whole."""

from __future__ import annotations

from collections.abc import Iterator

from .compression import decompress, find_compression
from .pinned import PinnedRange


def line_blocks(content: PinnedRange, compression: str, *, max_record_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that begin in a range, in blocks of whole lines, each block with its offset.

    A line ends with a newline or with the object. The last line of a range may end beyond it. So the ranges that an
    object is cut into yield each of its lines once, wherever the cuts are. Memory: a block and the longest line.

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
        end = block.rfind(b"\n", begin) + 1
        if end:
            whole = block[begin:end] if begin or end < len(block) else block
            yield offset, b"".join((*started, whole)) if started else whole
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
    """Yield the records of `size` bytes that begin in a range, in blocks of whole records.

    Raises:
        SourceDamaged: The object's length is no multiple of `size`.
    """
    found = find_compression(compression, content.location.key)
    if found != "none":
        blocks, offset = decompress(content, found), 0
    else:
        offset, end = (-(-at // size) * size for at in (content.start, content.end))
        blocks = content.blocks(offset, min(end, content.size_bytes))
    rest = b""
    for block in blocks:
        rest += block
        end = len(rest) // size * size
        if end:
            yield rest[:end]
            offset, rest = offset + end, rest[end:]
    if rest:
        raise content.damaged(offset, f"its last record has {len(rest)} bytes instead of {size}")


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
