"""A look over packed bytes before they are unpacked: whether all that they announce is there."""

from __future__ import annotations

from typing import Final

import msgpack  # type: ignore[import-untyped]

SCANNED_BYTES: Final = 16 * 1024
"""Bytes from which packed bytes are worth it: the room that shorter ones make a reader allocate is no danger."""

_BLOCK_BYTES: Final = 2**16

_BUFFER_BYTES: Final = 2**20
"""Most bytes that msgpack's own scanner may hold. It holds a text or bytes as a whole, also to pass over them."""


def scan(packed: bytes | memoryview) -> None:
    """Refuse bytes that end before all members that they announce, without making any of these.

    The unpacker makes room for all members of a list when it meets its header. A list of a million members within a
    thousand others would take 8 GB before it finds their bytes missing. It takes a tenth of the time of unpacking, and
    a MiB. For a value with a text or bytes of more than that, it takes half a microsecond for each member.

    Raises:
        ValueError: They are not one value of msgpack.
    """
    content = memoryview(packed)
    scanner = msgpack.Unpacker(
        _Blocks(content), read_size=min(_BLOCK_BYTES, len(content)), max_buffer_size=min(_BUFFER_BYTES, len(content))
    )
    try:
        scanner.skip()
    except msgpack.OutOfData as error:
        raise _cut_off() from error
    except msgpack.BufferFull:
        _pass_over(content)


class _Blocks:
    """A file over bytes, which hands out copies of small blocks.

    Args:
        content: The bytes.
    """

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._read = 0

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`."""
        start, self._read = self._read, self._read + size
        return bytes(self._content[start : self._read])


def _fixed_sizes() -> dict[int, int]:
    """Return the sizes, in bytes, of values whose first byte tells them all."""
    sizes = dict.fromkeys((*range(0x80), *range(0xE0, 0x100), 0xC0, 0xC2, 0xC3), 1)
    sizes |= {0xA0 + length: 1 + length for length in range(32)}
    sizes |= {0xCA: 5, 0xCB: 9}
    sizes |= {first + power: 1 + 2**power for first in (0xCC, 0xD0) for power in range(4)}
    sizes |= {0xD4 + power: 2 + 2**power for power in range(5)}
    return sizes


_FIXED: Final = _fixed_sizes()
_SIZED: Final = {
    **{first + power: (2**power, 0) for first in (0xC4, 0xD9) for power in range(3)},
    **{0xC7 + power: (2**power, 1) for power in range(3)},
}
"""First byte of a text, bytes or an extension -> bytes of its length, and of its type."""
_NESTED: Final = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
"""First byte of a list or a mapping -> bytes of its count, and members for each."""


def _pass_over(content: memoryview) -> None:
    """Do as `scan`, by a hop over each value, so that nothing is held."""
    position, missing, end = 0, 1, len(content)
    while missing:
        # Each member takes a byte or more.
        if missing > end - position:
            raise _cut_off()
        first = content[position]
        missing -= 1
        if first in _FIXED:
            position += _FIXED[first]
        elif first in _SIZED:
            width, kind = _SIZED[first]
            start = position + 1 + width
            position = start + kind + int.from_bytes(content[position + 1 : start])
        elif first in _NESTED:
            width, members = _NESTED[first]
            start = position + 1 + width
            missing += members * int.from_bytes(content[position + 1 : start])
            position = start
        elif 0x80 <= first < 0xA0:
            missing += (first & 0xF) * (1 if first >= 0x90 else 2)
            position += 1
        else:
            raise ValueError(f"byte {position} is 0x{first:02x}, which begins no value")
    if position > end:
        raise _cut_off()


def _cut_off() -> ValueError:
    return ValueError("it ends before the members that it announces")
