"""The number of requests of a job that goes well, by verb. The page Growth gives the formulae."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from storage import READ_AHEAD_BYTES

from ..declaration.binding import Binding
from ..prices import Prices
from ..records.ledger import INLINE_VALUE_BYTES
from ..records.result_ledger import PAGE
from ..stages.barrier import levels_of
from .shape import Shape
from .work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Numbers of requests to the store, by verb.

    Attributes:
        put: PUT.
        get: GET.
        head: HEAD.
        list: LIST, by page of 1,000 keys.
    """

    put: int = 0
    get: int = 0
    head: int = 0
    list: int = 0

    @property
    def total(self) -> int:
        """Number of all requests."""
        return self.put + self.get + self.head + self.list

    def price(self, prices: Prices) -> float:
        """Return the price of the requests, in dollars."""
        return (self.put + self.list) * prices.per_put + (self.get + self.head) * prices.per_get

    def __add__(self, other: Requests) -> Requests:
        return Requests(
            put=self.put + other.put,
            get=self.get + other.get,
            head=self.head + other.head,
            list=self.list + other.list,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """How the workers of a job make the requests that depend on time.

    Attributes:
        workers: Number of worker processes that take messages of the job.
        checks: Number of completion checks, after setup.
        polls: Number of looks for the manifest, while setup runs.
        end_checks: Number of looks for the job's end, at most one a second and worker.
        is_over_broker: Whether setup records what follows the join, and each process checks the store's probe.
    """

    workers: int
    checks: int
    polls: int
    end_checks: int
    is_over_broker: bool


def count_requests(binding: Binding, shape: Shape, work: Work, cadence: Cadence, *, result_bytes: int) -> Requests:
    """Return the requests of a job from its launch to the caller's read of the outcome.

    Args:
        binding: The task's steps.
        shape: The job's shape.
        work: Its messages and objects.
        cadence: What depends on time.
        result_bytes: Encoded size of join's value.
    """
    levels = levels_of(shape.chunks) if binding.combine is not None and shape.chunks else [shape.chunks]
    nodes = sum(levels[1:])
    parts = [
        _count_setup(binding, shape, cadence),
        _count_process(binding, shape, work, cadence),
        _count_nodes(levels, work) if nodes else _count_checks(shape, work, cadence, combines=len(levels) > 1),
        _count_join(binding, shape, work, levels, value_bytes=result_bytes),
    ]
    if binding.combine is not None and not nodes:
        # A group that is no node is listed once a message.
        parts[2] = Requests(list=work.messages)
    total = Requests()
    for part in parts:
        total += part
    return total


def _count_setup(binding: Binding, shape: Shape, cadence: Cadence) -> Requests:
    """Launch and setup: entry, intent, parameters, packs, index, manifest, and a listing if workers began before."""
    own = _count_large(binding.parameters_for(binding.setup), shape)
    extra = int(cadence.is_over_broker)
    return Requests(
        put=2 + len(shape.large_parameters) + shape.packs + shape.shards + 1 + extra,
        get=2 + own + extra,
        head=1,
        list=int(not shape.sends_last),
    )


def _count_process(binding: Binding, shape: Shape, work: Work, cadence: Cadence) -> Requests:
    """Workers' requests: intent, manifest, slices and what these refer to, results, heartbeats, looks for the end."""
    parameters = _count_large({*binding.parameters_for(binding.process), *binding.combine_parameters}, shape)
    # The worker that ran setup knows intent and manifest.
    others = cadence.workers - 1
    per_other = 2 + int(cadence.is_over_broker)
    return Requests(
        put=work.puts + work.ticks,
        get=count_reads(shape, work, cadence.workers)
        + (work.messages if shape.referenced_bytes else 0)
        + others * per_other
        + cadence.workers * parameters
        + cadence.polls,
        head=cadence.end_checks + work.ticks,
    )


def count_reads(shape: Shape, work: Work, workers: int) -> int:
    """Return the number of ranged reads of slices. A small slice is read together with those after it in its pack."""
    if not work.messages:
        return 0
    slice_bytes = shape.packed_bytes / shape.message_count
    if slice_bytes > READ_AHEAD_BYTES // 2:
        return work.messages
    slices_a_read = max(1.0, READ_AHEAD_BYTES / max(slice_bytes, 1.0))
    share = min(1.0, workers / slices_a_read)
    return min(work.messages, max(shape.packs, round(work.messages * share)))


def _count_checks(shape: Shape, work: Work, cadence: Cadence, *, combines: bool) -> Requests:
    """Completion checks: a listing each, and another one if other workers have moved the front of finished groups."""
    checks = work.messages if combines else cadence.checks
    moved = min(max(checks - 1, 0), cadence.workers * max(shape.groups - 1, 0)) if cadence.workers > 1 else 0
    return Requests(list=checks + moved)


def _count_nodes(levels: list[int], work: Work) -> Requests:
    """The tree: a listing a message, and for each node two listings, its attempt, its reads and its object."""
    nodes = sum(levels[1:])
    return Requests(put=2 * nodes, get=work.results + nodes - levels[-1], list=work.messages + 2 * nodes)


def _count_join(binding: Binding, shape: Shape, work: Work, levels: list[int], *, value_bytes: int) -> Requests:
    """Join: continuation, outcome, intent, its reads, the caller's; claim, outcome, delivery, entry; its listings."""
    nodes = sum(levels[1:])
    large = int(value_bytes > INLINE_VALUE_BYTES)
    reads = levels[-1] if nodes else work.results
    pages = _pages(work.results + work.marked) + (_pages(nodes) if nodes else 0)
    own = _count_large(binding.parameters_for(binding.join), shape)
    return Requests(put=4 + large, get=3 + own + reads + 1 + large, list=pages)


def _pages(objects: int) -> int:
    return -(-objects // PAGE) or 1


def _count_large(names: Collection[str], shape: Shape) -> int:
    return len(set(names) & set(shape.large_parameters))
