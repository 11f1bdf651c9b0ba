"""The sizes of chunks: where one ends and the next begins. Pure functions of counts; they hold no items."""

from __future__ import annotations

from collections.abc import Iterator, Sized

from ..config.settings import Options
from ..errors import ConfigError

SINGLES = 4 * 1024
"""Number of chunks of one item with which a stream of unknown length begins. Its size doubles after that."""

STEP = 512
"""Number of chunks of one size, after which the size doubles."""

COMBINING = 8
"""Divisor of these numbers for a task with `combine`, where results are combined in each chunk first."""


def chunk_sizes(options: Options, returned: object, *, combines: bool = False) -> Iterator[int]:
    """Return the numbers of items of the chunks in order, as an iterator without end.

    `chunk_items` and `chunk_count` are exact. Without them a chunk has one item, up to some 4,000 items: small and
    quick chunks share messages and objects, so that a chunk costs little. A larger collection of known length is cut
    into 4,096 chunks of equal size. A stream begins with as many chunks of one item, and then the size doubles every
    512 chunks: a million items make 9,200. A chunk may end earlier, at `chunk_bytes`.

    The collection is asked for its length only if the sizes depend on it. Items beyond that length are cut as a stream
    is, or into further chunks of the same size. A length that raises is unknown.

    Args:
        options: The job's options.
        returned: The iterable that setup returned.
        combines: Whether the task has a `combine`. Then there are an eighth as many chunks.

    Raises:
        ConfigError: `chunk_count` is set, but the number of items is unknown.
    """
    if options.chunk_items is not None:
        return _constant(options.chunk_items)
    items, kind = _ask_length(returned)
    if options.chunk_count is not None:
        if items is None:
            raise ConfigError(
                f"chunk_count needs a setup that returns a sized collection, such as a list; this one returned {kind}. "
                "Use chunk_items, or neither"
            )
        return _even(items, options.chunk_count)
    singles, step = (SINGLES // COMBINING, STEP // COMBINING) if combines else (SINGLES, STEP)
    if items is not None:
        return _even_then_doubling(items, max(1, -(-items // singles)), step)
    return _doubling(singles, step)


def _ask_length(returned: object) -> tuple[int | None, str]:
    """Return the number of items, or None and a description of the object that does not tell it."""
    type_name = type(returned).__name__
    if not isinstance(returned, Sized):
        return None, f"a stream ({type_name})"
    try:
        return len(returned), ""
    except Exception as error:
        # A progress bar around a generator, or a loader of data, has a len() that raises.
        return None, f"a {type_name} whose len() raises {type(error).__name__}"


def _constant(size: int) -> Iterator[int]:
    while True:
        yield size


def _even_then_doubling(items: int, size: int, step: int) -> Iterator[int]:
    """Yield `size` until the sizes add up to `items`; then go on with the same size, which doubles."""
    yield from (size for _ in range(-(-items // size)))
    yield from _doubling_from(size, step)


def _even(items: int, chunk_count: int) -> Iterator[int]:
    """Yield `chunk_count` sizes that differ by at most one and add up to `items`; fewer if there are fewer items."""
    chunk_count = min(chunk_count, items) or 1
    small, larger = divmod(items, chunk_count)
    yield from (small + 1 for _ in range(larger))
    yield from _constant(small or 1)


def _doubling(singles: int, step: int) -> Iterator[int]:
    yield from (1 for _ in range(singles))
    yield from _doubling_from(2, step)


def _doubling_from(size: int, step: int) -> Iterator[int]:
    while True:
        yield from (size for _ in range(step))
        size *= 2
