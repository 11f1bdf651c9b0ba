"""Where one chunk ends and the next begins. Pure: counts items and bytes, holds none."""

from __future__ import annotations

from collections.abc import Iterator

from .config import Options
from .errors import ConfigError

SINGLES = 128
"""Chunks of one item that a stream of unknown length begins with."""

STEP = 64
"""Chunks after which the size doubles from then on."""


def chunk_sizes(options: Options, items: int | None) -> Iterator[int]:
    """Items of the first chunk, the second, and so on, without end.

    `chunk_items` and `groups` are taken at their word. Otherwise a collection of known length is cut into about
    4 chunks for each of `parallelism` workers; a stream begins with 128 single items and then doubles every
    64 chunks, so that 700 items make 280 chunks and a million make 955. A chunk may end earlier, at `chunk_bytes`.

    Args:
        options: The job's options.
        items: How many items there are, None if nobody knows.

    Raises:
        ConfigError: `groups` was asked for, but the number of items is unknown.
    """
    if options.chunk_items is not None:
        return _constant(options.chunk_items)
    if options.groups is not None:
        if items is None:
            raise ConfigError(
                "groups needs a setup that returns a sized collection, such as a list; this one returned a stream. "
                "Use chunk_items, or neither"
            )
        return _even(items, options.groups)
    if items is not None:
        return _constant(max(1, -(-items // (4 * options.parallelism))))
    return _doubling()


def _constant(size: int) -> Iterator[int]:
    while True:
        yield size


def _even(items: int, groups: int) -> Iterator[int]:
    """`groups` sizes that differ by at most one and add up to `items`; fewer where there are fewer items."""
    groups = min(groups, items) or 1
    small, larger = divmod(items, groups)
    yield from (small + 1 for _ in range(larger))
    yield from _constant(small or 1)


def _doubling() -> Iterator[int]:
    yield from (1 for _ in range(SINGLES))
    size = 2
    while True:
        yield from (size for _ in range(STEP))
        size *= 2
