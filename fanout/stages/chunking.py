"""Where one chunk ends and the next begins. Pure: counts items and bytes, holds none."""

from __future__ import annotations

from collections.abc import Iterator, Sized

from ..config.settings import Options
from ..errors import ConfigError

SINGLES = 128
"""Chunks of one item that a stream of unknown length begins with."""

STEP = 64
"""Chunks after which the size doubles from then on."""


def chunk_sizes(options: Options, produced: object) -> Iterator[int]:
    """Items of the first chunk, the second, and so on, without end.

    `chunk_items` and `chunk_count` are taken at their word. Otherwise a collection of known length is cut into about
    4 chunks for each of `parallelism` workers; a stream begins with 128 single items and then doubles every
    64 chunks, so that 700 items make 280 chunks and a million make 955. A chunk may end earlier, at `chunk_bytes`.

    A length is asked for only where the cut depends on it, and is believed only as far as it reaches: what comes
    beyond it is cut as a stream is, or into further chunk_count of the same size. One that can't be told is unknown.

    Args:
        options: The job's options.
        produced: What setup returned.

    Raises:
        ConfigError: `chunk_count` was asked for, but the number of items is unknown.
    """
    if options.chunk_items is not None:
        return _constant(options.chunk_items)
    items, why = _length(produced)
    if options.chunk_count is not None:
        if items is None:
            raise ConfigError(
                f"chunk_count needs a setup that returns a sized collection, such as a list; this one returned {why}. "
                "Use chunk_items, or neither"
            )
        return _even(items, options.chunk_count)
    if items is not None:
        return _about(items, max(1, -(-items // (4 * options.parallelism))))
    return _doubling()


def _length(produced: object) -> tuple[int | None, str]:
    """How many items there are, as far as they say; else None, and why not."""
    of = type(produced).__name__
    if not isinstance(produced, Sized):
        return None, f"a stream ({of})"
    try:
        return len(produced), ""
    except Exception as error:
        # A progress bar around a generator, or a loader of data, has a len() that knows nothing.
        return None, f"a {of} whose len() raises {type(error).__name__}"


def _constant(size: int) -> Iterator[int]:
    while True:
        yield size


def _about(items: int, size: int) -> Iterator[int]:
    """Sizes that add up to `items`; those beyond begin with the same size, and double."""
    yield from (size for _ in range(-(-items // size)))
    yield from _doubling_from(size)


def _even(items: int, chunk_count: int) -> Iterator[int]:
    """`chunk_count` sizes that differ by at most one and add up to `items`; fewer where there are fewer items."""
    chunk_count = min(chunk_count, items) or 1
    small, larger = divmod(items, chunk_count)
    yield from (small + 1 for _ in range(larger))
    yield from _constant(small or 1)


def _doubling() -> Iterator[int]:
    yield from (1 for _ in range(SINGLES))
    yield from _doubling_from(2)


def _doubling_from(size: int) -> Iterator[int]:
    while True:
        yield from (size for _ in range(STEP))
        size *= 2
