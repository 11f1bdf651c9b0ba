"""The shape of a job: how its items become chunks, messages and objects. By arithmetic, for items of one size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from ..config.settings import Config, Options
from ..records.keys import GROUP_WIDTH, INDEXED_CHUNKS, SHARD_WIDTH
from ..stages.batch_writer import BATCH_BYTES
from ..stages.chunking import chunk_sizes
from ..stages.setup import FIRST_PART


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The number and size of the parts of a job.

    Attributes:
        items: Number of items.
        chunks: Number of chunks.
        messages: Number of chunks in a message of setup's -> number of such messages.
        input_bytes: Encoded size of all items.
        referenced_bytes: Those of them that lie in parameters, where workers read them: they are not written again.
        slice_bytes: Encoded size of the largest message's items.
        slice_items: Number of the largest message's items.
        packs: Number of objects that hold the items.
        sends_last: Whether setup sends its messages after the manifest, as it does if all items fit into one pack.
        setup_s: Seconds that setup took; None if it did not run.
        is_partial: Whether setup was stopped before it had yielded all items.
        parameter_bytes: Name of each parameter -> its encoded size.
        large_parameters: Names of the parameters that are objects of their own.
    """

    items: int
    chunks: int
    messages: Mapping[int, int]
    input_bytes: int
    slice_bytes: int
    slice_items: int
    packs: int
    sends_last: bool
    referenced_bytes: int = 0
    setup_s: float | None = None
    is_partial: bool = False
    parameter_bytes: Mapping[str, int] = field(default_factory=dict)
    large_parameters: tuple[str, ...] = ()

    @property
    def message_count(self) -> int:
        """Number of messages of setup's for process."""
        return sum(self.messages.values())

    @property
    def packed_bytes(self) -> int:
        """Encoded size of the items in packs."""
        return self.input_bytes - self.referenced_bytes

    @property
    def shards(self) -> int:
        """Number of objects that hold the locations of chunks."""
        return 0 if self.chunks < INDEXED_CHUNKS else -(-self.chunks // SHARD_WIDTH)

    @property
    def groups(self) -> int:
        """Number of groups of chunks."""
        return -(-self.chunks // GROUP_WIDTH)

    @property
    def chunk_items(self) -> float:
        """Mean number of items of a chunk."""
        return self.items / self.chunks if self.chunks else 0.0

    @property
    def item_bytes(self) -> float:
        """Mean encoded size of an item."""
        return self.input_bytes / self.items if self.items else 0.0


class _SizedRange(Sequence[int]):
    """A collection of a known length, for the sizes of chunks."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: object) -> int:  # type: ignore[override]
        raise IndexError(index)


def estimate_shape(
    items: int,
    item_bytes: float,
    options: Options,
    config: Config,
    *,
    combines: bool,
    is_stream: bool,
    batch_chunks: int = GROUP_WIDTH,
) -> Shape:
    """Return the shape of a job whose items have one size.

    Args:
        items: Number of items.
        item_bytes: Encoded size of each.
        options: The job's options.
        config: Settings of the process that runs setup.
        combines: Whether the task has a `combine`.
        is_stream: Whether setup is a generator, so that the number of items is not known beforehand.
        batch_chunks: Most chunks of a message.
    """
    batch_chunks = batch_chunks if options.max_attempts > 1 else 1
    messages: Counter[int] = Counter()
    chunks = slice_bytes = slice_items = 0
    for size, count in _chunk_runs(items, item_bytes, options, combines=combines, is_stream=is_stream):
        together = min(batch_chunks, GROUP_WIDTH, max(1, int(BATCH_BYTES / max(size * item_bytes, 1e-9))))
        full, rest = divmod(count, GROUP_WIDTH)
        for width, times in ((GROUP_WIDTH, full), (rest, 1)):
            for cut, number in Counter(min(together, width - start) for start in range(0, width, together)).items():
                messages[cut] += number * times
        chunks += count
        largest = min(together, count)
        slice_bytes = max(slice_bytes, round(largest * size * item_bytes))
        slice_items = max(slice_items, largest * size)
    input_bytes = round(items * item_bytes)
    packs = _count_packs(input_bytes, slice_bytes, config.pack_bytes)
    return Shape(
        items=items,
        chunks=chunks,
        messages=dict(+messages),
        input_bytes=input_bytes,
        slice_bytes=slice_bytes,
        slice_items=slice_items,
        packs=packs,
        sends_last=packs <= 1,
    )


def _count_packs(input_bytes: int, slice_bytes: int, pack_bytes: int) -> int:
    """Return the number of packs. Each is twice as large as the last, up to `pack_bytes`, and half a slice short."""
    packs, left_bytes, size_bytes = 0, input_bytes, max(1, pack_bytes // FIRST_PART)
    while left_bytes > 0:
        held_bytes = max(1, slice_bytes, size_bytes - slice_bytes // 2)
        if size_bytes == pack_bytes:
            return packs - (-left_bytes // held_bytes)
        packs, left_bytes, size_bytes = packs + 1, left_bytes - held_bytes, min(2 * size_bytes, pack_bytes)
    return packs


def _chunk_runs(
    items: int, item_bytes: float, options: Options, *, combines: bool, is_stream: bool
) -> Iterator[tuple[int, int]]:
    """Yield runs of chunks of equal size: number of items of each, and number of chunks."""
    most = max(1, -int(-options.chunk_bytes // item_bytes)) if item_bytes > 0 else items
    if options.chunk_items is not None:
        most = min(most, options.chunk_items)
    left = items
    if options.chunk_items is None:
        sizes = chunk_sizes(options, iter(()) if is_stream else _SizedRange(items), combines=combines)
        for size, run in groupby(sizes):
            if size >= most or not left:
                break
            count = sum(1 for _ in _until(run, -(-left // size)))
            taken = min(left, count * size)
            yield from _with_rest(taken, size)
            left -= taken
    yield from _with_rest(left, most)


def _until(run: Iterator[int], most: int) -> Iterator[int]:
    for _ in range(most):
        size = next(run, None)
        if size is None:
            return
        yield size


def _with_rest(items: int, size: int) -> Iterator[tuple[int, int]]:
    full, rest = divmod(items, size)
    if full:
        yield size, full
    if rest:
        yield rest, 1
