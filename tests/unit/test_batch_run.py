"""A batch of chunks costs one read and one write, unless it lasts or fails: then its chunks run apart."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from fanout import BrokerUnavailable, FailedItem, ForkJoinTask
from fanout.abc import Delivery
from fanout.background.timers import Timers
from fanout.engines.stub import Chunk, WorkerDied
from fanout.records.batch import BatchResult
from fanout.records.failure import Failure
from fanout.records.keys import process_step
from fanout.records.ledger import Ledger
from fanout.records.models import OutcomeStatus
from fanout.stages import batch_run, conclude, run_process
from fanout.sweep import sweep_job
from storage import StorageError, StorageUnavailable, decode
from tests.stores import fail_each_request, kind_of

from .behaviour import ItemBehaviour, failure_of, outcome_of, task_with
from .sharing import Clock
from .tasks import Words
from .world import World

CHUNK_S = 1 / 32
"""Seconds that a chunk takes by the clock of these tests."""

CHUNKS_PER_PART = 4
"""Number of chunks that a run gets done in `PART_S` by that clock."""


@pytest.fixture
def world() -> World:
    """Return a world whose setup makes batches."""
    return World(batch_chunks=32)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the clock of batches, so that their parts have the same sizes on any machine."""
    clock = Clock()
    clock.replace_in(monkeypatch)
    monkeypatch.setattr(batch_run, "PART_S", CHUNKS_PER_PART * CHUNK_S)
    return clock


class Job:
    """A job of a few chunks of one item, all in one batch, whose message waits.

    Args:
        world: The world.
        clock: The clock, which each run of process advances by `CHUNK_S`.
        chunks: Number of chunks.
        **options: Options of the job.
    """

    def __init__(self, world: World, clock: Clock, chunks: int = 12, **options: Any) -> None:
        self.world = world
        self.behaviour = ItemBehaviour()
        self.at: dict[tuple[int, int], Callable[[], object]] = {}
        """Number and run -> what process does then, before it returns the number."""
        self.clock = clock
        self.behaviour.act = self._act
        self.numbers = list(range(chunks))
        self.ledger = world.prepare(task_with(self.behaviour), {"numbers": self.numbers}, **options)
        (self.ref,) = world.refs
        world.store.log.clear()

    def _act(self, number: int, run: int) -> int:
        self.at.get((number, run), lambda: None)()
        self.clock.now += CHUNK_S
        return number

    @property
    def runs(self) -> list[int]:
        return self.behaviour.runs

    @property
    def fate(self) -> BatchResult | None:
        """The object of the batch."""
        return self.ledger.batch_result(self.ref.setup_id, self.ref.chunk, self.ref.count)

    @property
    def sent(self) -> list[tuple[int, int]]:
        """First chunk and number of chunks of each message after that of the batch."""
        return [(ref.chunk, ref.count) for ref in self.world.refs[1:]]

    def finish(self) -> None:
        """Run all messages, sweep the job until it ends, and check that it has the right value."""
        self.world.dispatcher.drain(self.world.process())
        for _ in range(20):
            if self.ledger.has_outcome():
                break
            self.world.store.age(10**7)
            sweep_job(self.world.process(), self.ledger.job_id)
            self.world.dispatcher.drain(self.world.process())
        assert self.ledger.value(outcome_of(self.ledger)) == self.numbers

    def share_at(self, number: int) -> None:
        """Have the batch shared out while the first run of a chunk is at work."""
        self.at[number, 1] = self.world.timers.share_out


def raising(error: BaseException) -> Callable[[], object]:
    def act() -> object:
        raise error

    return act


def attempts_of(job: Job, chunk: int) -> int:
    return job.ledger.attempts(process_step(job.ref.setup_id, chunk)).count


def shared_batches(world: World) -> list[str]:
    """Return the keys that announce that chunks of a batch were shared out."""
    return [info.key for info in world.store.list() if ".shared-" in info.key]


# A batch that is quick


@pytest.mark.parametrize("size", [1, 5000])
def test_a_batch_costs_three_requests(world: World, size: int) -> None:
    """A batch of any number of chunks costs one message, one read, one write and one listing.

    A small batch is read with its neighbour, and costs two requests.
    """
    ledger = world.launch(Words, {"documents": iter(["x" * size] * 128)}, chunk_items=1)
    _, first, second, _ = world.refs
    assert [ref.count for ref in world.refs] == [32] * 4
    runtime = world.process()
    run_process(runtime, first)
    world.store.log.clear()
    run_process(runtime, second)
    requests = [(verb, kind_of(key)) for verb, key in world.store.log]
    assert requests == [("get", "input"), ("put", "results"), ("list", "results")][size == 1 :]
    assert len(ledger.landed(second.setup_id)) == 64
    assert len(world.refs) == 4


def test_a_batch_keeps_the_results_of_each_chunk(world: World, clock: Clock) -> None:
    """The object of a batch has a list of results for each chunk, in chunk order, and the stats of the run."""
    job = Job(world, clock, chunks=7, chunk_items=3)
    assert job.ref.location.sizes == (3, 3, 1)
    run_process(world.runtime, job.ref)
    assert job.fate is not None
    assert [decode(values) for values in job.fate.values] == [[0, 1, 2], [3, 4, 5], [6]]
    assert (job.fate.chunk, job.fate.done, job.fate.parts, job.fate.begun) == (0, 3, [], False)
    started_at, ended_at, _, worker = job.fate.stats[:4]
    assert 0 < started_at <= ended_at
    assert ":" in worker
    job.finish()


def test_the_batches_of_a_job_are_joined_in_order(world: World) -> None:
    """Whatever the order of the batches, join gets the results in item order."""
    behaviour = ItemBehaviour()
    ledger = world.prepare(task_with(behaviour), {"numbers": list(range(100))})
    assert [ref.count for ref in world.refs] == [32, 32, 32, 4]
    for ref in reversed(world.refs):
        run_process(world.process(), ref)
    world.dispatcher.lose(Chunk)
    world.dispatcher.drain(world.process())
    assert ledger.value(outcome_of(ledger)) == list(range(100))
    assert len(behaviour.runs) == 100


def test_a_batch_writes_no_attempt_and_no_heartbeat(world: World, clock: Clock) -> None:
    """A batch that is quick leaves its results and nothing else."""
    job = Job(world, clock)
    before = world.store.keys()
    run_process(world.runtime, job.ref)
    assert set(world.store.keys()) - set(before) == {job.ledger.keys.batch_result(job.ref.setup_id, 0, 12)}


# A chunk that raises


def test_a_chunk_that_raises_keeps_the_results_before_it(world: World, clock: Clock) -> None:
    """The results of its predecessors are kept. It is sent alone as attempt 2, and the chunks after it in parts."""
    job = Job(world, clock)
    error = ValueError("not yet")
    job.at[4, 1] = raising(error)
    world.dispatcher.deliver(world.process())
    fate = job.fate
    assert fate is not None
    assert (fate.done, fate.parts, fate.begun) == (4, [1, 4, 3], True)
    assert sorted(job.sent) == [(4, 1), (5, 4), (9, 3)]
    assert {ref.chunk: ref.attempts for ref in world.refs[1:]} == {4: 1, 5: 0, 9: 0}
    assert not any(ref.resent for ref in world.refs)
    assert attempts_of(job, 4) == 1
    assert world.errors == [error]
    job.finish()
    assert Counter(job.runs) == Counter([*job.numbers, 4])


@pytest.mark.parametrize("number", [0, 11])
def test_the_first_or_the_last_chunk_of_a_batch_may_raise(world: World, clock: Clock, number: int) -> None:
    """If the first chunk raises, the others are sent alone, since none is done. If the last does, no other is sent."""
    job = Job(world, clock)
    job.at[number, 1] = raising(ValueError("not yet"))
    world.dispatcher.deliver(world.process())
    assert sorted(job.sent) == ([(chunk, 1) for chunk in range(12)] if number == 0 else [(11, 1)])
    job.finish()
    assert Counter(job.runs) == Counter([*job.numbers, number])


@pytest.mark.parametrize("attempts", [2, 3, 5])
def test_a_chunk_of_a_batch_that_always_raises_fails_the_job(world: World, clock: Clock, attempts: int) -> None:
    """The chunk runs `max_attempts` times, its run in the batch included. The failure names chunk and item."""
    job = Job(world, clock, chunks=24, chunk_items=2, max_attempts=attempts)
    for run in range(1, attempts + 1):
        job.at[9, run] = raising(ValueError(f"no, {run}"))
    world.dispatcher.drain(world.process())
    failure = failure_of(job.ledger)
    assert job.runs.count(9) == attempts
    assert (failure.step, failure.error, failure.reason) == ("process", "ValueError", f"no, {attempts}")
    assert (failure.chunk, failure.item, failure.attempts) == (4, 9, attempts)


def test_a_tolerated_failure_is_that_of_a_single_chunk(world: World, clock: Clock) -> None:
    """In a job that tolerates failures, only the failing item has no result."""
    job = Job(world, clock, tolerate=1, max_attempts=2)
    for run in (1, 2):
        job.at[5, run] = raising(ValueError("no"))
    world.dispatcher.drain(world.process())
    value = job.ledger.value(outcome_of(job.ledger))
    assert isinstance(value, list)
    assert outcome_of(job.ledger).failed == 1
    (item,) = outcome_of(job.ledger).failed_items
    assert (item.item, item.chunk, item.attempts) == (5, 5, 2)
    assert [number for number in value if isinstance(number, int)] == [n for n in job.numbers if n != 5]
    assert Counter(job.runs) == Counter([*job.numbers, 5])


def test_two_chunks_of_a_batch_may_raise(world: World, clock: Clock) -> None:
    """A part in which a chunk raises is shared out as its batch was."""
    job = Job(world, clock, chunks=32)
    job.at[8, 1] = raising(ValueError("first"))
    job.at[14, 1] = raising(ValueError("second"))
    job.finish()
    assert Counter(job.runs) == Counter([*job.numbers, 8, 14])


def test_a_pack_that_is_damaged_fails_the_job(world: World, clock: Clock) -> None:
    """A batch whose slice is damaged ends its job with the key of the pack, after the attempts of a chunk."""
    job = Job(world, clock)
    key = job.ledger.keys.pack(job.ref.setup_id, 0)
    world.store.flip(key, at=job.ref.location.slice_.offset + 5)
    world.dispatcher.drain(world.process())
    failure = failure_of(job.ledger)
    assert (failure.step, failure.error, failure.attempts) == ("process", "CorruptObject", 3)
    assert key in failure.reason


# A batch that lasts


def test_a_batch_that_lasts_is_shared_out(world: World, clock: Clock) -> None:
    """While a chunk is at work, its batch is shared out in parts. The run goes on with this chunk alone."""
    job = Job(world, clock)
    job.share_at(3)
    world.dispatcher.deliver(world.process())
    fate = job.fate
    assert fate is not None
    assert (fate.done, fate.parts, fate.begun) == (3, [1, 4, 4], True)
    assert job.sent == [(4, 4), (8, 4)]
    assert job.runs == [0, 1, 2, 3]
    assert job.ledger.result(job.ref.setup_id, 3) is not None
    assert attempts_of(job, 3) == 0
    job.finish()
    assert sorted(job.runs) == job.numbers
    assert len(job.sent) == 2


def test_a_real_timer_shares_a_batch_out(world: World, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch whose first chunk takes longer than `SHARE_AFTER_S` is shared out before this chunk is done."""
    monkeypatch.setattr(batch_run, "SHARE_AFTER_S", 0.001)
    job = Job(world, clock)
    sent = threading.Event()
    send = world.dispatcher.send_chunks

    def send_chunks(*args: Any) -> None:
        send(*args)
        sent.set()

    monkeypatch.setattr(world.dispatcher, "send_chunks", send_chunks)
    job.at[0, 1] = lambda: sent.wait(30)
    runtime = world.process()
    runtime.timers = Timers()
    world.dispatcher.deliver(runtime)
    assert job.runs == [0]
    assert job.sent == [(chunk, 1) for chunk in range(1, 12)]
    job.finish()
    assert sorted(job.runs) == job.numbers


def test_a_batch_shared_out_at_its_last_chunk_sends_nothing(world: World, clock: Clock) -> None:
    """The last chunk becomes a part of its own, with which the run goes on, and the job ends."""
    job = Job(world, clock, chunks=6)

    def share_late() -> None:
        clock.now += 100.0
        world.timers.share_out()

    job.at[5, 1] = share_late
    world.dispatcher.deliver(world.process())
    fate = job.fate
    assert fate is not None
    assert (fate.done, fate.parts, fate.begun) == (5, [1], True)
    assert job.sent == []
    assert len(world.dispatcher.joins) == 1
    job.finish()


def test_a_batch_that_is_nearly_done_is_not_shared_out(world: World, clock: Clock) -> None:
    """A run that has less than `PART_S` ahead of it keeps its batch, and writes one object."""
    job = Job(world, clock, chunks=6)
    job.at[4, 1] = world.timers.fire
    world.dispatcher.deliver(world.process())
    assert job.fate is not None
    assert (job.fate.done, job.fate.parts) == (6, [])
    assert job.sent == []
    assert shared_batches(world) == []
    job.finish()


def test_a_batch_whose_last_chunks_take_long_is_shared_out(
    world: World, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that seemed nearly done, and then takes longer than twice `PART_S`, shares the rest out."""
    monkeypatch.setattr(batch_run, "PART_S", 0.001)
    job = Job(world, clock, chunks=6)

    def share_early() -> None:
        clock.now = 0.0
        world.timers.share_out()

    job.at[4, 1] = share_early
    world.dispatcher.deliver(world.process())
    assert job.fate is not None
    assert (job.fate.done, job.fate.parts[0], job.fate.begun) == (4, 1, True)
    assert job.sent == [(5, 1)]
    job.finish()


def test_a_part_may_be_shared_out_again(world: World, clock: Clock) -> None:
    """A part that lasts is shared out as its batch was. Every chunk runs once."""
    job = Job(world, clock, chunks=32)
    for number in (8, 10, 18):
        job.share_at(number)
    job.finish()
    assert sorted(job.runs) == job.numbers
    assert len(shared_batches(world)) == 3


def test_the_chunk_at_work_may_raise(world: World, clock: Clock) -> None:
    """If the chunk with which the run goes on raises, that was its first attempt. It is sent again alone."""
    job = Job(world, clock)

    def share_and_raise() -> None:
        world.timers.share_out()
        raise ValueError("not yet")

    job.at[3, 1] = share_and_raise
    world.dispatcher.deliver(world.process())
    assert job.sent == [(4, 4), (8, 4), (3, 1)]
    assert [ref.attempts for ref in world.refs[1:]] == [0, 0, 1]
    assert attempts_of(job, 3) == 1
    job.finish()
    assert Counter(job.runs) == Counter([*job.numbers, 3])


def test_the_chunk_at_work_has_a_heartbeat(world: World, clock: Clock) -> None:
    """After sharing out, heartbeats show that this chunk runs, so that a sweep does not send it again."""
    world.config = replace(world.config, stall_s=0.03)
    job = Job(world, clock)
    beat = threading.Event()
    key = job.ledger.keys.heartbeat(process_step(job.ref.setup_id, 3))
    world.store.after = lambda verb, written: beat.set() if written == key else None

    def share_and_wait() -> None:
        world.timers.share_out()
        assert beat.wait(30)

    job.at[3, 1] = share_and_wait
    world.dispatcher.deliver(world.process())
    job.finish()
    assert sorted(job.runs) == job.numbers


# Messages that come again


def test_a_batch_whose_worker_died_falls_apart(world: World, clock: Clock) -> None:
    """If a worker dies before the fate of its batch is decided, each chunk runs by itself, and none is to blame."""
    job = Job(world, clock)
    job.at[5, 1] = raising(WorkerDied())
    world.dispatcher.deliver(world.process())
    assert job.fate is None
    world.dispatcher.deliver(world.process())
    fate = job.fate
    assert fate is not None
    assert (fate.done, fate.parts, fate.begun) == (0, [1] * 12, False)
    assert job.sent == [(chunk, 1) for chunk in range(12)]
    assert all(ref.attempts == 0 and not ref.resent for ref in world.refs)
    assert job.runs == [0, 1, 2, 3, 4, 5]
    job.finish()
    assert Counter(job.runs) == Counter([*job.numbers, *range(6)])


@pytest.mark.parametrize("attempts", [2, 3])
def test_a_chunk_that_always_kills_its_worker_is_found(world: World, clock: Clock, attempts: int) -> None:
    """The chunk has one run more than `max_attempts`, that in the batch. No other chunk is given up."""
    job = Job(world, clock, max_attempts=attempts)
    for run in range(1, 10):
        job.at[5, run] = raising(WorkerDied())
    world.dispatcher.drain(world.process())
    failure = failure_of(job.ledger)
    assert (failure.error, failure.chunk, failure.attempts) == ("WorkerLost", 5, attempts)
    assert job.runs.count(5) == attempts + 1
    assert max(Counter(number for number in job.runs if number != 5).values()) == 2


def test_a_batch_that_a_sweep_sent_again_falls_apart(world: World, clock: Clock) -> None:
    """A sweep sends a lost batch again as one message. Its worker sends each chunk by itself."""
    job = Job(world, clock)
    world.dispatcher.lose()
    world.store.age(10**6)
    sweep_job(world.process(), job.ledger.job_id)
    assert job.sent == [(0, 12)]
    assert world.refs[-1].resent
    world.dispatcher.deliver(world.process())
    assert job.sent[1:] == [(chunk, 1) for chunk in range(12)]
    job.finish()
    assert sorted(job.runs) == job.numbers


def test_a_resumed_batch_runs_as_a_whole(world: World, clock: Clock) -> None:
    """A batch that an outage interrupted is not to blame, so it stays together."""
    job = Job(world, clock)
    job.at[5, 1] = raising(StorageUnavailable("no answer", key="k"))
    with pytest.raises(StorageUnavailable):
        run_process(world.process(), job.ref)
    run_process(world.process(), job.ref, Delivery(resumed=True))
    assert job.sent == []
    assert job.fate is not None
    assert job.fate.done == 12


def test_a_redelivered_batch_that_is_done_is_not_run(world: World, clock: Clock) -> None:
    """The worker checks whether the job is complete, and starts the join."""
    job = Job(world, clock)
    run_process(world.process(), job.ref)
    world.dispatcher.lose()
    run_process(world.process(), job.ref, Delivery(redelivered=True))
    assert sorted(job.runs) == job.numbers
    assert len(world.dispatcher.joins) == 2
    assert job.sent == []


def test_a_redelivered_batch_follows_its_fate(world: World, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a worker dies between the object and the messages, the next one sends the parts that have no result."""
    job = Job(world, clock)
    job.at[4, 1] = raising(ValueError("not yet"))

    def die(*_: object) -> None:
        monkeypatch.undo()
        clock.replace_in(monkeypatch)
        raise WorkerDied

    monkeypatch.setattr(world.dispatcher, "send_chunks", die)
    world.dispatcher.deliver(world.process())
    assert job.sent == []
    first = job.fate
    assert first is not None
    assert (first.done, first.begun) == (4, True)
    run_process(world.process(), job.ref, Delivery(redelivered=True))
    assert job.fate == first
    assert job.sent == [(5, 4), (9, 3)]
    assert all(ref.resent for ref in world.refs[1:])
    assert job.runs == [0, 1, 2, 3, 4, 4]
    job.finish()


@pytest.mark.parametrize("way", ["redelivered", "resumed", "requeued"])
def test_a_message_that_comes_again_goes_on_with_the_chunk_at_work(world: World, clock: Clock, way: str) -> None:
    """If a run ends within the chunk with which it went on, its message runs this chunk again, and no other."""
    job = Job(world, clock)

    def share_and_end() -> None:
        world.timers.share_out()
        raise WorkerDied

    job.at[3, 1] = share_and_end
    with suppress(WorkerDied):
        run_process(world.process(), job.ref)
    assert job.sent == [(4, 4), (8, 4)]
    for _ in range(2):
        world.dispatcher.deliver(world.process(), at=1)
    assert sorted(job.runs) == job.numbers
    run_process(world.process(), job.ref, Delivery(**{way: True}))
    assert Counter(job.runs) == Counter([*job.numbers, 3])
    assert job.sent == [(4, 4), (8, 4)]
    assert attempts_of(job, 3) == (2 if way == "redelivered" else 0)
    job.finish()


def test_the_chunk_at_work_that_always_kills_its_worker_is_given_up(world: World, clock: Clock) -> None:
    """After sharing out, a chunk that kills its worker has exactly `max_attempts` runs."""
    job = Job(world, clock, max_attempts=3)

    def share_and_die() -> None:
        world.timers.share_out()
        raise WorkerDied

    job.at[3, 1] = share_and_die
    for run in range(2, 9):
        job.at[3, run] = raising(WorkerDied())
    world.dispatcher.drain(world.process())
    failure = failure_of(job.ledger)
    assert (failure.error, failure.chunk, failure.attempts) == ("WorkerLost", 3, 3)
    assert job.runs.count(3) == 3
    assert set(Counter(number for number in job.runs if number != 3).values()) == {1}


def test_a_message_that_comes_again_after_all_is_done_sends_nothing(world: World, clock: Clock) -> None:
    """The message of a batch that was shared out finds all chunks done, and starts the join."""
    job = Job(world, clock)
    job.share_at(3)
    while world.dispatcher.waiting and not world.dispatcher.joins:
        world.dispatcher.deliver(world.process())
    world.dispatcher.lose()
    sent, runs = job.sent, list(job.runs)
    run_process(world.process(), job.ref, Delivery(redelivered=True))
    assert (job.sent, job.runs) == (sent, runs)
    assert len(world.dispatcher.joins) == 2


def test_a_second_delivery_drops_its_own_results(world: World, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """If a batch was delivered twice, the first object counts. A second one with equal values is not reported."""
    job = Job(world, clock)
    run_process(world.process(), job.ref)
    first = job.fate
    with caplog.at_level(logging.WARNING, "fanout"):
        run_process(world.process(), job.ref)
        assert not caplog.records
        job.behaviour.act = lambda number, run: -number
        run_process(world.process(), job.ref)
    assert "chunks 0 to 11 gave other results in a second run" in caplog.text
    assert job.fate == first
    job.finish()


@pytest.mark.parametrize("second", ["whole", "raises", "shared"])
def test_a_second_delivery_follows_the_first_ones_share(world: World, clock: Clock, second: str) -> None:
    """If the first run has shared the batch out, the second one writes nothing of its own, whatever it got done."""
    job = Job(world, clock)
    job.share_at(3)
    run_process(world.process(), job.ref)
    first = job.fate
    world.dispatcher.lose()
    if second == "raises":
        job.at[6, 2] = job.at[6, 1] = raising(ValueError("not yet"))
    elif second == "shared":
        job.at[6, 1] = world.timers.share_out
    run_process(world.process(), job.ref)
    assert job.fate == first
    assert job.sent == [(4, 4), (8, 4)] * 2
    assert [ref.resent for ref in world.refs[1:]] == [False] * 2 + [True] * 2
    assert job.ledger.result(job.ref.setup_id, 6) is None
    assert attempts_of(job, 6) == 0
    job.at.clear()
    job.finish()


def test_two_runs_that_share_out_at_once_decide_once(world: World, clock: Clock) -> None:
    """A second run decides the fate while the first one is about to. The first drops its chunk and follows."""
    job = Job(world, clock)

    def overtake() -> None:
        job.at[5, 2] = raising(ValueError("not yet"))
        run_process(world.process(), job.ref)
        world.timers.share_out()

    job.at[2, 1] = overtake
    run_process(world.process(), job.ref)
    fate = job.fate
    assert fate is not None
    assert (fate.done, fate.begun) == (12, False)
    assert job.ledger.result(job.ref.setup_id, 2) is None
    job.finish()


# Results that are large


def test_large_results_share_the_rest_out(world: World, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose results exceed `RESULT_BYTES` writes them, and shares the chunks after them out."""
    job = Job(world, clock)
    job.behaviour.act = lambda number, run: "x" * 1000
    monkeypatch.setattr(batch_run, "RESULT_BYTES", 4500)
    monkeypatch.setattr(batch_run, "SHARE_AFTER_S", 5 * CHUNK_S)
    world.dispatcher.deliver(world.process())
    fate = job.fate
    assert fate is not None
    assert (fate.done, fate.parts, fate.begun) == (5, [4, 3], False)
    assert job.sent == [(5, 4), (9, 3)]
    assert len(job.runs) == 5
    job.numbers = ["x" * 1000] * 12  # type: ignore[list-item]
    job.finish()
    assert len(job.runs) == 12


def test_a_large_result_of_the_last_chunk_is_no_reason_to_share(
    world: World, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no chunk is left, the batch is whole, however large its results are."""
    job = Job(world, clock, chunks=3)
    job.behaviour.act = lambda number, run: "x" * 1000
    monkeypatch.setattr(batch_run, "RESULT_BYTES", 2500)
    world.dispatcher.deliver(world.process())
    assert job.fate is not None
    assert (job.fate.done, job.fate.parts) == (3, [])


def test_large_results_while_the_batch_is_shared_out_lose_no_chunk(
    world: World, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the batch is shared out between a chunk that makes its results large and the next one, that one still runs."""
    job = Job(world, clock)
    monkeypatch.setattr(batch_run, "RESULT_BYTES", 1)
    close = batch_run.BatchRun._close

    def share_first(run: batch_run.BatchRun) -> bool:
        monkeypatch.setattr(batch_run.BatchRun, "_close", close)
        world.timers.share_out()
        return close(run)

    monkeypatch.setattr(batch_run.BatchRun, "_close", share_first)
    world.dispatcher.deliver(world.process())
    fate = job.fate
    assert fate is not None
    assert (fate.done, fate.begun) == (1, True)
    assert job.runs == [0, 1]
    world.dispatcher.drain(world.process())
    assert job.ledger.value(outcome_of(job.ledger)) == job.numbers


# Jobs that have ended


def test_a_batch_of_an_ended_job_is_dropped(world: World, clock: Clock) -> None:
    """A worker that sees the outcome runs no chunk of the batch."""
    job = Job(world, clock)
    cancel(world, job.ledger)
    run_process(world.process(), job.ref)
    assert job.runs == []
    assert job.fate is None


def test_a_batch_of_a_superseded_setup_is_dropped(world: World, clock: Clock) -> None:
    """A worker that knows the manifest runs no batch of another setup."""
    job = Job(world, clock)
    world.runtime.job(job.ledger.job_id).manifest()
    run_process(world.runtime, replace(job.ref, setup_id="other"))
    assert job.runs == []


def cancel(world: World, ledger: Ledger) -> None:
    failure = Failure("job", "JobCancelled", "x")
    conclude(world.runtime, world.runtime.job(ledger.job_id), OutcomeStatus.CANCELLED, failure)


# Outages


@pytest.fixture(params=["whole", "raising", "shared", "redelivered", "large"])
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "large":
        monkeypatch.setattr(batch_run, "RESULT_BYTES", 30)
    return str(request.param)


def prepare_case(world: World, clock: Clock, case: str) -> Job:
    """Return a job whose batch takes one of its ways."""
    job = Job(world, clock)
    if case == "raising":
        job.at[4, 1] = raising(ValueError("not yet"))
    elif case == "shared":
        job.share_at(3)
    elif case == "redelivered":
        job.at[4, 1] = raising(WorkerDied())
        world.dispatcher.deliver(world.process())
    world.store.log.clear()
    return job


@pytest.mark.parametrize("way", ["redelivered", "resumed"])
@pytest.mark.parametrize("times", [1, None], ids=["once", "from then on"])
def test_a_store_that_fails_at_any_request_does_no_harm(clock: Clock, case: str, times: int | None, way: str) -> None:
    """If the store fails at any request of a batch, its message comes again, and the job ends with the right value."""
    for fault in fail_each_request(times=times):
        world = World(batch_chunks=32)
        job = prepare_case(world, clock, case)
        failed = False
        with world.store.injecting(fault):
            try:
                world.dispatcher.deliver(world.process())
            except StorageError:
                failed = True
        if failed and way == "resumed":
            message = world.dispatcher.waiting.pop()
            run_process(world.process(), message.ref, Delivery(resumed=True))  # type: ignore[union-attr]
        job.finish()


def test_a_worker_that_dies_after_any_write_does_no_harm(clock: Clock, case: str) -> None:
    """If a worker dies after any write of its own thread, its message comes again, and the job ends as it should."""
    for fault in fail_each_request("put", error=WorkerDied, thread=threading.current_thread()):
        world = World(batch_chunks=32)
        job = prepare_case(world, clock, case)
        with world.store.injecting(fault, after=True):
            world.dispatcher.deliver(world.process())
        job.finish()


@pytest.fixture
def broken_broker(world: World, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list with the numbers of the sends of chunks that fail."""
    send, sends, broken = world.dispatcher.send_chunks, iter(range(10**6)), list[int]()

    def send_chunks(*args: Any) -> None:
        if next(sends) in broken:
            raise BrokerUnavailable("no broker")
        send(*args)

    monkeypatch.setattr(world.dispatcher, "send_chunks", send_chunks)
    return broken


@pytest.mark.parametrize("way", ["redelivered", "resumed"])
def test_a_broker_that_fails_while_sharing_out_does_no_harm(
    world: World, clock: Clock, case: str, broken_broker: list[int], way: str
) -> None:
    """If the broker takes no part, the error reaches the engine. The batch's own message then sends the parts."""
    job = prepare_case(world, clock, case)
    if case != "whole":
        broken_broker.append(1)
        with pytest.raises(BrokerUnavailable):
            world.dispatcher.deliver(world.process())
        assert job.sent == []
        assert job.fate is not None
        message = world.dispatcher.waiting.pop()
        run_process(world.process(), message.ref, Delivery(**{way: True}))  # type: ignore[union-attr]
        assert job.sent
    job.finish()
    if case == "shared":
        # The error ends the run only after it has written the result of the chunk at work.
        assert sorted(job.runs) == job.numbers


# Combine


class Combined(ForkJoinTask):
    """Combines numbers to text, so that a test sees the order."""

    input_schema = {"numbers": {"type": "list"}}
    chunk_items = 1

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number):
        return str(number)

    def combine(parts):
        return "+".join(parts)

    def join(parts):
        return "+".join(parts)


def test_a_batch_holds_one_combined_value(world: World) -> None:
    """In a job with a combine, a whole batch holds the one value of all its chunks."""
    ledger = world.prepare(Combined, {"numbers": list(range(5))})
    (ref,) = world.refs
    run_process(world.process(), ref)
    result = ledger.batch_result(ref.setup_id, 0, 5)
    assert result is not None
    assert (result.done, [decode(values) for values in result.values]) == (5, [["0+1+2+3+4"]])
    world.dispatcher.drain(world.process())
    assert ledger.value(outcome_of(ledger)) == "0+1+2+3+4"


def test_a_combine_that_raises_over_a_batch_fails_the_job(world: World) -> None:
    """An exception in the combine of a batch's chunks ends the job. The failure names the chunks."""

    class Failing(Combined):
        def combine(parts):
            values = list(parts)
            if len(values) > 1:
                raise ValueError("no")
            return values[0]

    ledger = world.prepare(Failing, {"numbers": list(range(5))})
    world.dispatcher.drain(world.process())
    failure = failure_of(ledger)
    assert (failure.step, failure.error) == ("combine", "ValueError")
    assert "combining the results of chunks 0 to 4" in failure.reason


def test_a_combined_value_of_a_batch_that_cannot_travel_fails_the_job(world: World) -> None:
    """A value of combine that cannot be encoded ends the job. The failure names the chunks."""

    class Returning(Combined):
        def combine(parts):
            return object()

    ledger = world.prepare(Returning, {"numbers": list(range(5))})
    world.dispatcher.drain(world.process())
    failure = failure_of(ledger)
    assert (failure.step, failure.error) == ("combine", "Unencodable")
    assert "combining the results of chunks 0 to 4" in failure.reason


def test_the_failed_items_of_a_batch_have_their_places(world: World, clock: Clock) -> None:
    """Iterating over a job gives results of batches, parts and single chunks in item order."""
    job = Job(world, clock, chunks=20, tolerate=1, max_attempts=2)
    for run in (1, 2):
        job.at[5, run] = raising(ValueError("no"))
    job.share_at(12)
    world.dispatcher.drain(world.process())
    results = list(world.job(job.ledger))
    assert isinstance(results[5], FailedItem)
    assert [*results[:5], *results[6:]] == [number for number in job.numbers if number != 5]
