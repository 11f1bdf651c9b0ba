"""A discrete-event model of a large job: setup, messages, workers, and S3's partitions.

A worker takes a message, reads its slice, works, writes the results, and takes the next one. From time to time it looks
at how far the job is. Before each request it needs a token of the partition; a refused request is made again after a
pause. Messages are delivered in the order in which they were sent. The same plan and seed give the same figures.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

from fanout.background.debouncer import LONGEST_S, PAUSE_S
from fanout.cached_job import ENDED_CHECK_S, MANIFEST_CHECK_S
from fanout.records.keys import GROUP_WIDTH

from ..prices import DOLLARS_A_READ, DOLLARS_A_WRITE
from .limits import READS_A_SECOND, WRITES_A_SECOND, TokenBucket, backoff_s
from .plan import PAGE_KEYS, SHARE_AFTER_S, TICK_S, Plan
from .queue import Queue

_PLANNED, _LISTED, _AGAIN = 1, 2, 3
"""States of a check: results that land behind its listing need another one."""
GROUPS_AT_ONCE = 32
"""Groups whose batches are read one after another in one event of the model."""

Act = Callable[[float, int, int, int, int], None]
"""Takes the time, the worker, two numbers, and how often the request was refused."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a plan comes to.

    Attributes:
        phases: Name of each phase -> its seconds. `setup` lasts until all messages are sent, and workers work
            meanwhile; `process` from then on to the last result; `completion` until a worker has seen that; `join` to
            the outcome.
        requests: Requests that S3 took, by kind: `get`, `put`, `list`.
        refused: Requests that it refused with 503.
        most_refusals: How often the unluckiest request was refused.
        messages: Messages through the broker, without those of setup and join.
        results: Objects with results.
        shared: Batches that were shared out; each has a marker beside its object.
    """

    phases: dict[str, float]
    requests: dict[str, int]
    refused: int
    most_refusals: int
    messages: int
    results: int
    shared: int

    @property
    def duration_s(self) -> float:
        """Seconds from the start of setup to the outcome."""
        return sum(self.phases.values())

    @property
    def refused_share(self) -> float:
        """Share of 503s among all answers."""
        return self.refused / (self.refused + sum(self.requests.values()))

    @property
    def slowest(self) -> str:
        """The phase that lasts longest."""
        return max(self.phases, key=lambda name: self.phases[name])

    @property
    def dollars(self) -> float:
        """Price of the requests; S3 takes nothing for a 503."""
        writes = self.requests["put"] + self.requests["list"]
        return writes * DOLLARS_A_WRITE + self.requests["get"] * DOLLARS_A_READ


def simulate(plan: Plan, *, seed: int = 1) -> Figures:
    """Return what a plan comes to. A million chunks take 10 to 30 seconds."""
    return _Simulation(plan, seed).run()


class _Simulation:
    def __init__(self, plan: Plan, seed: int) -> None:
        self._plan, self._chance = plan, random.Random(seed)  # noqa: S311 - not a secret
        self._objects_a_chunk = plan.objects_a_chunk
        # Heartbeats are many and alike: they take their share of the rates without events of their own.
        beats = plan.workers / TICK_S / plan.prefixes if plan.ticks else 0.0
        self._reads = [TokenBucket(READS_A_SECOND - beats) for _ in range(plan.prefixes)]
        self._writes = [TokenBucket(WRITES_A_SECOND - beats) for _ in range(plan.prefixes)]
        self._events: list[tuple[float, int, Act, int, int, int, int]] = []
        self._number = 0
        self._queue = Queue(plan)
        self._idle: deque[int] = deque()
        self._awaits_setup = False
        self._broker_free_s = 0.0
        self._landed = bytearray(plan.chunks)
        self._front = 0
        self._landed_s = 0.0
        self._complete_s: float | None = None
        self._seen = [0] * plan.workers
        """Chunk before which a worker has seen every chunk done."""
        self._checks = bytearray(plan.workers)
        """State of a worker's check; 0 if it has none to make."""
        self._ended_s = [-ENDED_CHECK_S] * plan.workers
        self._manifest_s = [-MANIFEST_CHECK_S] * plan.workers
        self._requests: Counter[str] = Counter({"get": 0, "put": 0, "list": 0})
        self._refused = self._most_refusals = self._messages = self._results = self._shared = 0

    def run(self) -> Figures:
        plan, events = self._plan, self._events
        for worker in range(plan.workers):
            self._at(0.0, self._take, worker)
        while self._complete_s is None:
            at_s, _, act, worker, first, count, refusals = heappop(events)
            act(at_s, worker, first, count, refusals)
        self._requests["put"] += plan.chunks * plan.ticks + plan.index_shards
        self._requests["get"] += plan.chunks * plan.ticks + self._results + plan.reads_shared * self._shared
        self._requests["list"] += -(-(self._results + self._shared) // PAGE_KEYS)
        setup_s = self._queue.setup_s
        landed_s = max(self._landed_s, setup_s)
        phases = {
            "setup": setup_s,
            "process": landed_s - setup_s,
            "completion": self._complete_s - landed_s,
            "join": plan.join_s(self._results, self._shared),
        }
        totals = (self._refused, self._most_refusals, self._messages, self._results, self._shared)
        return Figures(phases, dict(self._requests), *totals)

    def _at(self, at_s: float, act: Act, worker: int, first: int = 0, count: int = 0, refusals: int = 0) -> None:
        self._number += 1
        heappush(self._events, (at_s, self._number, act, worker, first, count, refusals))

    def _is_refused(
        self, bucket: TokenBucket, at_s: float, needs: int, act: Act, worker: int, first: int, count: int, refusals: int
    ) -> bool:
        """Take tokens; if there are too few, let the act come again after a pause, and return True."""
        if bucket.take(at_s, needs):
            return False
        self._refused += 1
        self._most_refusals = max(self._most_refusals, refusals + 1)
        pause_s = backoff_s(self._chance, refusals + 1)
        self._at(at_s + self._plan.request_s + pause_s, act, worker, first, count, refusals + 1)
        return True

    def _prefix(self, chunk: int) -> int:
        return chunk // GROUP_WIDTH % self._plan.prefixes

    # A worker

    def _take(self, at_s: float, worker: int, *_: int) -> None:
        message = self._queue.take(at_s)
        if message is None:
            self._idle.append(worker)
            self._await_setup()
            return
        self._messages += 1
        self._broker_free_s = max(self._broker_free_s + 1 / self._plan.broker_rate, at_s)
        self._at(self._broker_free_s, self._get, worker, *message)

    def _await_setup(self) -> None:
        """Wake an idle worker for setup's next message."""
        next_s = self._queue.next_s
        if next_s is not None and self._idle and not self._awaits_setup:
            self._awaits_setup = True
            self._at(next_s, self._wake_by_setup, 0)

    def _wake_by_setup(self, at_s: float, *_: int) -> None:
        self._awaits_setup = False
        self._wake(at_s)
        self._await_setup()

    def _wake(self, at_s: float, *_: int) -> None:
        """Let an idle worker take a message."""
        if self._idle:
            self._take(at_s, self._idle.popleft())

    def _get(self, at_s: float, worker: int, first: int, count: int, refusals: int) -> None:
        """Look for the job's end, once a second; read the slice, and work on it."""
        plan = self._plan
        reads = 2 if at_s - self._ended_s[worker] >= ENDED_CHECK_S else 1
        bucket = self._reads[self._prefix(first)]
        if self._is_refused(bucket, at_s, reads, self._get, worker, first, count, refusals):
            return
        if reads == 2:
            self._ended_s[worker] = at_s
        self._requests["get"] += reads
        begun_s = at_s + reads * plan.request_s + plan.loop_s
        if not plan.is_shared_out(count):
            self._at(begun_s + count * plan.chunk_s, self._put, worker, first, count)
            return
        done = plan.done_in_time
        self._at(begun_s + SHARE_AFTER_S, self._share, worker, first, count)
        self._at(begun_s + (done + 1) * plan.chunk_s, self._put, worker, first + done, 1)

    def _share(self, at_s: float, worker: int, first: int, count: int, refusals: int) -> None:
        """Write a batch's marker and object, and send messages for the chunks that are not begun."""
        bucket = self._writes[self._prefix(first)]
        if self._is_refused(bucket, at_s, 2, self._share, worker, first, count, refusals):
            return
        self._requests["put"] += 2
        self._results += 1
        self._shared += 1
        self._land(at_s, first, self._plan.done_in_time)
        sent_s = at_s + 2 * self._plan.request_s
        for part in self._plan.parts(first, count):
            self._queue.put(sent_s, part)
            self._at(sent_s, self._wake, 0)

    def _put(self, at_s: float, worker: int, first: int, count: int, refusals: int) -> None:
        """Write results."""
        bucket = self._writes[self._prefix(first)]
        if self._is_refused(bucket, at_s, 1, self._put, worker, first, count, refusals):
            return
        self._requests["put"] += 1
        self._results += 1
        self._at(at_s + self._plan.request_s, self._go_on, worker, first, count)

    def _go_on(self, written_s: float, worker: int, first: int, count: int, _: int) -> None:
        """Take the next message, unless the manifest is to be looked for first; plan a completion check."""
        self._land(written_s, first, count)
        if not self._checks[worker]:
            self._checks[worker] = _PLANNED
            is_idle = self._queue.is_empty(written_s)
            self._at(written_s + (PAUSE_S if is_idle else LONGEST_S), self._check, worker)
        elif self._checks[worker] == _LISTED:
            self._checks[worker] = _AGAIN
        is_due = written_s - self._manifest_s[worker] >= MANIFEST_CHECK_S
        if written_s < self._queue.setup_s and is_due:
            self._manifest_s[worker] = written_s
            self._at(written_s, self._poll, worker, first)
        else:
            self._take(written_s, worker)

    def _poll(self, at_s: float, worker: int, first: int, count: int, refusals: int) -> None:
        """Look for the manifest, which is not there yet."""
        bucket = self._reads[self._prefix(first)]
        if self._is_refused(bucket, at_s, 1, self._poll, worker, first, count, refusals):
            return
        self._requests["get"] += 1
        self._at(at_s + self._plan.request_s, self._take, worker)

    def _land(self, at_s: float, first: int, count: int) -> None:
        self._landed[first : first + count] = b"\1" * count
        self._landed_s = at_s

    # Completion, beside a worker's work

    def _find_front(self) -> int:
        """Return the first chunk without a result."""
        found = self._landed.find(0, self._front)
        self._front = len(self._landed) if found < 0 else found
        return self._front

    def _check(self, at_s: float, worker: int, first: int, count: int, refusals: int) -> None:
        """List from the first group on that the worker has not seen complete; before the manifest, look for that."""
        plan, seen = self._plan, self._seen[worker]
        if at_s < self._queue.setup_s:
            bucket = self._reads[self._prefix(seen)]
            if not self._is_refused(bucket, at_s, 1, self._check, worker, first, count, refusals):
                self._requests["get"] += 1
                self._checks[worker] = 0
            return
        pages, front = 1, self._find_front()
        if front == plan.chunks or front // GROUP_WIDTH > seen // GROUP_WIDTH:
            # The worker's group is full, so it lists on to the first gap.
            pages += max(1, round((front - seen) * self._objects_a_chunk / PAGE_KEYS))
        self._list(at_s, worker, seen, pages, 0)

    def _list(self, at_s: float, worker: int, seen: int, pages: int, refusals: int) -> None:
        bucket = self._reads[self._prefix(seen)]
        if self._is_refused(bucket, at_s, 1, self._list, worker, seen, pages, refusals):
            return
        self._requests["list"] += 1
        if pages > 1:
            self._at(at_s + self._plan.page_s, self._list, worker, seen, pages - 1)
            return
        self._at(at_s + self._plan.page_s, self._read_shared, worker, seen)

    def _read_shared(self, at_s: float, worker: int, seen: int, front: int, refusals: int) -> None:
        """Read the batches that were shared out up to the first gap, if that is needed; then the check is over.

        Args:
            at_s: The time.
            worker: The worker.
            seen: Chunk before which it has seen every chunk done.
            front: First chunk without a result at the last listing; 0 if no batch was read yet.
            refusals: How often the request was refused.
        """
        if not front:
            front = self._find_front()
            self._checks[worker] = _LISTED
        groups = front // GROUP_WIDTH - seen // GROUP_WIDTH if self._plan.reads_shared and self._shared else 0
        if groups > 0:
            groups = min(groups, GROUPS_AT_ONCE)
            reads = groups * self._plan.batches_a_group
            bucket = self._reads[self._prefix(seen)]
            if not self._is_refused(bucket, at_s, reads, self._read_shared, worker, seen, front, refusals):
                self._requests["get"] += reads
                read_s = at_s + reads * self._plan.request_s
                self._at(read_s, self._read_shared, worker, seen + groups * GROUP_WIDTH, front)
            return
        self._seen[worker] = front
        if front == self._plan.chunks:
            self._complete_s = at_s
        elif self._checks[worker] == _AGAIN:
            self._checks[worker] = _PLANNED
            self._at(at_s + PAUSE_S, self._check, worker)
        else:
            self._checks[worker] = 0
