"""How long the phases of a job last on a number of workers."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..background.debouncer import LONGEST_S
from ..cached_job import ENDED_CHECK_S, MANIFEST_CHECK_S
from ..errors import ConfigError
from ..records.result_ledger import PAGE
from ..results import WINDOW
from ..stages.barrier import levels_of
from ..stages.setup import FIRST_PART
from .requests import Cadence
from .shape import Shape
from .work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """The speed of store, broker and processes, in seconds.

    Attributes:
        request_s: A GET, HEAD or PUT.
        page_s: A page of a listing.
        message_s: The sending of a message by setup.
        chunk_s: The encoding of a chunk by setup, if setup did not run for the plan.
        loop_s: A worker's own time for a message.
        worker_message_s: All of a worker's time for a message beside its items; two requests and `loop_s` if not given.
        hand_over_s: From the sending of a step's first message to its start on a free worker.
    """

    request_s: float = 0.05
    page_s: float = 0.1
    message_s: float = 0.001
    chunk_s: float = 0.00005
    loop_s: float = 0.002
    worker_message_s: float | None = None
    hand_over_s: float = 0.01

    def __post_init__(self) -> None:
        for entry in fields(self):
            name, value = entry.name, getattr(self, entry.name)
            if value is None and name == "worker_message_s":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                raise ConfigError(f"assumptions: {name} must be a number of seconds from 0, not {value!r:.80}")

    @classmethod
    def of_request(cls, request_s: float) -> Assumptions:
        """Return the assumptions for a store whose requests take so long, and twice as long for a page of a listing."""
        return cls(request_s=request_s, page_s=2 * request_s)

    @property
    def worker_s(self) -> float:
        """Seconds of a worker for a message, beside its items."""
        return 2 * self.request_s + self.loop_s if self.worker_message_s is None else self.worker_message_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds of a job on its workers.

    Attributes:
        setup_s: From the launch until all messages are sent.
        process_s: From the first message to the last result, if setup is not the slower one.
        join_s: From the last result to the outcome, without the user's own join.
        ideal_s: The items alone, spread evenly over all workers.
        begin_s: From the launch until the first message is sent: all of setup if all items fit into one pack.
    """

    setup_s: float
    process_s: float
    join_s: float
    ideal_s: float
    begin_s: float

    @property
    def total_s(self) -> float:
        """Seconds from the launch to the outcome."""
        return max(self.setup_s, self.begin_s + self.process_s) + self.join_s

    @property
    def efficiency(self) -> float | None:
        """The ideal time as a share of the total, 0 to 1; None if no time of an item is given."""
        return self.ideal_s / self.total_s if self.ideal_s else None


def estimate_times(
    shape: Shape, work: Work, assumptions: Assumptions, *, workers: int, item_s: float, combines: bool
) -> Times:
    """Return how long a job lasts; see `Times`. The workers do nothing else, and no process dies.

    Args:
        shape: The job's shape.
        work: Its messages and objects.
        assumptions: The speed of store, broker and processes.
        workers: Number of worker processes.
        item_s: Seconds of process for an item.
        combines: Whether the task has a `combine`.
    """
    request_s, page_s = assumptions.request_s, assumptions.page_s
    encoding_s = shape.setup_s if shape.setup_s is not None else shape.chunks * assumptions.chunk_s
    making_s = encoding_s + shape.message_count * assumptions.message_s
    setup_s = making_s + (4 + shape.packs + shape.shards) * request_s + assumptions.hand_over_s
    # Three requests of setup come before the first pack, whose own is the fourth.
    begin_s = making_s * _first_share(shape.packs) + 4 * request_s + assumptions.hand_over_s
    busy = min(workers, max(work.messages, 1))
    per_message_s = assumptions.worker_s
    longest_s = (per_message_s + shape.chunk_items * item_s) if shape.chunks else 0.0
    process_s = max((work.messages * per_message_s + shape.items * item_s) / busy, longest_s) + assumptions.hand_over_s
    levels = levels_of(shape.chunks) if combines and shape.chunks else [shape.chunks]
    reads = levels[-1] if len(levels) > 1 else work.results
    # The last node of each level: two listings, an attempt, its reads, its object.
    tree_s = (len(levels) - 1) * (2 * page_s + (2 + 32 / WINDOW) * request_s)
    pages = -(-(work.results + work.marked) // PAGE)
    join_s = assumptions.hand_over_s + page_s + tree_s + (pages * page_s) + (-(-reads // WINDOW) + 7) * request_s
    return Times(
        setup_s=setup_s,
        process_s=process_s,
        join_s=join_s,
        ideal_s=shape.items * item_s / workers,
        begin_s=setup_s if shape.sends_last else min(begin_s, setup_s),
    )


def _first_share(packs: int) -> float:
    """Return the share of the items that the first pack holds. Each is twice as large as the last, up to a limit."""
    return 1 / sum(min(1 << pack, FIRST_PART) for pack in range(max(1, packs)))


def estimate_cadence(shape: Shape, work: Work, times: Times, *, workers: int, combines: bool) -> Cadence:
    """Return the number of the requests that depend on time, over Celery.

    Args:
        shape: The job's shape.
        work: Its messages and objects.
        times: How long it lasts.
        workers: Number of worker processes.
        combines: Whether the task has a `combine`.
    """
    busy = min(workers, max(work.messages, 1))
    lasts_s = max(times.setup_s, times.process_s)
    during = 0.0 if shape.sends_last else min(1.0, times.setup_s / lasts_s if lasts_s else 0.0)
    before = work.messages * during
    after_s = lasts_s * (1 - during)
    polls = before if combines else min(before, busy * times.setup_s / MANIFEST_CHECK_S)
    # A worker checks at once after the last chunks, and else when it is idle, or four times a second.
    checks = min(work.messages - before, busy * (1 + after_s / LONGEST_S))
    return Cadence(
        workers=busy,
        checks=max(round(checks), 1),
        polls=round(polls),
        end_checks=round(min(work.messages, busy * (1 + lasts_s / ENDED_CHECK_S))),
        is_over_broker=True,
    )
