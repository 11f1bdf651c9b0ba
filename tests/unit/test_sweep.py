"""A sweep moves what has stalled and leaves alone what goes well."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from fanout import JobCancelled, JobFailed, JobNotFound
from fanout.records.failure import Failure
from fanout.records.keys import job_prefix, process_step
from fanout.records.ledger import Ledger, job_ids
from fanout.records.models import Attempt, AttemptState, Continuation, Note, OutcomeStatus
from fanout.removal import remove_job
from fanout.stages import run_process
from fanout.sweep import Move, sweep, sweep_job
from storage import MemoryStore

from .dispatcher import Chunk, Join, Setup
from .tasks import Numbers, Words
from .world import World

STALL_S = 60.0


def moved(world: World, ledger: Ledger) -> Move:
    return sweep_job(world.process(), ledger.job_id)


def launched(world: World, **options: Any) -> Ledger:
    return world.launch(Numbers, {"numbers": [0, 1, 2, 3]}, **options)


def prepared(world: World, **options: Any) -> Ledger:
    ledger = launched(world, **options)
    world.dispatcher.deliver(world.runtime)
    return ledger


def value_of(ledger: Ledger) -> object:
    outcome = ledger.outcome()
    assert outcome is not None
    return ledger.value(outcome)


def test_a_healthy_job_is_left_alone(world: World) -> None:
    """At every point of a job that goes well a sweep costs the intent and one listing, and does nothing."""
    ledger = launched(world)
    while world.dispatcher.waiting:
        runtime = world.process()
        runtime.job(ledger.job_id)
        runtime.now()
        world.store.log.clear()
        assert sweep_job(runtime, ledger.job_id) == Move.NONE
        assert world.store.log == [("get", ledger.keys.intent), ("list", job_prefix(ledger.job_id))]
        world.dispatcher.deliver(world.runtime)
    world.store.age(10 * STALL_S)
    assert moved(world, ledger) == Move.NONE


def test_a_lost_setup_is_sent_again(world: World) -> None:
    """An intent that nobody took up gets its setup, and the job its value."""
    ledger = launched(world)
    world.dispatcher.lose()
    assert moved(world, ledger) == Move.NONE
    world.store.age(STALL_S + 1)
    assert moved(world, ledger) == Move.SETUP_SENT
    assert world.dispatcher.waiting == [Setup(ledger.job_id, ledger.launch_id)]
    world.dispatcher.drain(world.runtime)
    assert value_of(ledger) == [0, 1, 2, 3]


def test_a_setup_at_work_is_left_alone(world: World) -> None:
    """While somebody beats for setup, nothing is sent however long nothing was written."""
    ledger = launched(world)
    world.store.age(STALL_S + 1)
    ledger.write_heartbeat("setup", Note(by="x"))
    assert moved(world, ledger) == Move.NONE
    world.store.age(STALL_S + 1)
    assert moved(world, ledger) == Move.SETUP_SENT


def test_a_setup_that_is_not_due_is_left_alone(world: World) -> None:
    """A job that is to start later has not stalled before that."""
    ledger = launched(world, not_before=time.time() + 1000)
    world.dispatcher.lose()
    world.store.age(STALL_S + 1)
    assert moved(world, ledger) == Move.NONE


def test_only_idle_chunks_are_sent_again(world: World) -> None:
    """Chunks that are done or worked on are not sent; the others carry their tries and that they were nudged."""
    ledger = prepared(world)
    refs = {ref.chunk: ref for ref in world.refs}
    world.dispatcher.lose()
    run_process(world.runtime, refs[0])
    ledger.write_attempt(process_step(refs[1].setup_id, 1), 1, Attempt(state=AttemptState.RAISED, at=1.0))
    ledger.write_attempt(process_step(refs[1].setup_id, 1), 2, Attempt(state=AttemptState.LOST, at=1.0))
    world.store.age(STALL_S + 1)
    ledger.write_heartbeat(process_step(refs[2].setup_id, 2), Note(by="x"))
    assert moved(world, ledger) == Move.CHUNKS_SENT
    sent = [message.ref for message in world.dispatcher.waiting if isinstance(message, Chunk)]
    assert [(ref.chunk, ref.attempts, ref.resent) for ref in sent] == [(1, 2, True), (3, 0, True)]
    assert [ref.location for ref in sent] == [refs[1].location, refs[3].location]
    world.dispatcher.drain(world.runtime)
    run_process(world.runtime, refs[2])
    world.dispatcher.drain(world.runtime)
    assert value_of(ledger) == [0, 1, 2, 3]


def test_chunks_of_several_index_objects_are_sent_again(world: World) -> None:
    """Missing chunks are found across the objects of the index."""
    ledger = world.launch(Numbers, {"numbers": list(range(1030))})
    world.dispatcher.deliver(world.runtime)
    refs = world.refs
    world.dispatcher.lose()
    for ref in refs:
        if ref.chunk not in (3, 1023, 1024, 1029):
            run_process(world.runtime, ref)
    world.store.age(STALL_S + 1)
    assert moved(world, ledger) == Move.CHUNKS_SENT
    assert [ref.chunk for ref in world.refs[1030:]] == [3, 1023, 1024, 1029]
    world.dispatcher.drain(world.runtime)
    assert value_of(ledger) == list(range(1030))


@pytest.mark.parametrize("gone", [True, False])
def test_missing_chunks_behind_a_damaged_index_end_the_job(world: World, gone: bool) -> None:
    """Chunks that are to be sent again, but whose places can't be read, fail the job with the key of the index."""
    ledger = world.prepare(Numbers, {"numbers": list(range(70))})
    manifest = ledger.manifest()
    assert manifest is not None
    world.dispatcher.lose()
    key = ledger.keys.index(manifest.setup_id, 0)
    body = world.store.get(key)
    world.store.delete([key])
    if not gone:
        world.store.put(key, body[:-1] + bytes([body[-1] ^ 1]))
    world.store.age(STALL_S + 1)
    assert moved(world, ledger) == Move.FAILED
    outcome = ledger.outcome()
    assert outcome is not None
    failure = Failure.read(outcome.failure)
    assert failure is not None
    assert key in failure.reason
    assert failure.error == ("ObjectNotFound" if gone else "CorruptObject")


def test_a_lost_join_is_sent_again(world: World) -> None:
    """A complete job whose join was lost, claimed or not, gets one that does not mind the claim."""
    ledger = prepared(world)
    world.dispatcher.drain(world.runtime, until=lambda: bool(world.dispatcher.joins))
    world.dispatcher.lose()
    ledger.claim(0, Note(by="gone"))
    world.store.age(STALL_S + 1)
    assert moved(world, ledger) == Move.JOIN_SENT
    assert world.dispatcher.waiting == [Join(ledger.job_id, ledger.launch_id, Numbers.name, None, resent=True)]
    world.dispatcher.drain(world.runtime)
    assert value_of(ledger) == [0, 1, 2, 3]


def test_a_join_at_work_is_left_alone(world: World) -> None:
    """While somebody beats for the join, no other is sent."""
    ledger = prepared(world)
    world.dispatcher.drain(world.runtime, until=lambda: bool(world.dispatcher.joins))
    world.store.age(STALL_S + 1)
    ledger.write_heartbeat("join", Note(by="x"))
    assert moved(world, ledger) == Move.NONE


def test_an_undelivered_outcome_is_delivered(world: World) -> None:
    """An outcome whose delivery nobody put on record is sent again, once it is old enough."""
    ledger = prepared(world)
    world.dispatcher.drain(world.runtime)
    world.store.delete([ledger.keys.delivered])
    assert moved(world, ledger) == Move.NONE
    world.store.age(STALL_S + 1)
    assert moved(world, ledger) == Move.OUTCOME_SENT
    world.dispatcher.drain(world.runtime)
    assert len(world.dispatcher.deliveries) == 2
    world.store.age(10 * STALL_S)
    assert moved(world, ledger) == Move.NONE


def test_a_job_past_its_deadline_fails(world: World) -> None:
    """However young its last write is, a job past its deadline ends with a failure, once."""
    ledger = launched(world, deadline_s=1e-6)
    world.dispatcher.lose()
    assert moved(world, ledger) == Move.FAILED
    outcome = ledger.outcome()
    assert outcome is not None
    with pytest.raises(JobFailed, match="its deadline has passed"):
        ledger.value(outcome)
    assert moved(world, ledger) == Move.NONE
    world.dispatcher.drain(world.runtime)
    assert [found.status for found in world.dispatcher.deliveries] == [OutcomeStatus.FAILED]


def test_a_job_whose_message_expired_fails(world: World) -> None:
    """A setup that no longer makes sense is not sent again."""
    ledger = launched(world, expires_at=time.time() - 1)
    world.dispatcher.lose()
    world.store.age(STALL_S + 1)
    assert moved(world, ledger) == Move.FAILED
    with pytest.raises(JobFailed, match="expired before a worker took it"):
        value_of(ledger)


def test_a_setup_that_began_in_time_does_not_expire(world: World) -> None:
    """Only a message that nobody took can expire: a setup whose worker died later is sent again."""
    ledger = launched(world, expires_at=time.time() - 1)
    world.dispatcher.lose()
    ledger.write_continuation(Continuation(message="begun"))
    world.store.age(STALL_S + 1)
    assert moved(world, ledger) == Move.SETUP_SENT


def test_an_expired_job_is_ended_once(world: World) -> None:
    """A job that a message of the engine would have started, and that expired, has failed once and for all."""
    order = world.submission(Numbers, {"numbers": [1]})
    ledger = world.runtime.launch("job", order.intent(launch="{}", expires_at=time.time() - 1)).ledger
    world.store.age(STALL_S + 1)
    assert moved(world, ledger) == Move.FAILED
    for _ in range(3):
        world.store.age(100 * STALL_S)
        assert moved(world, ledger) != Move.FAILED


def test_a_job_whose_streaming_caller_is_gone_fails(world: World) -> None:
    """A stream can't be read twice: without a beat of its caller the job ends and says whose input is lost."""

    def numbers() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.launch(Numbers, {"numbers": numbers()}, job_id="job")
    ledger = world.runtime.ledger("job")
    world.dispatcher.lose()
    assert moved(world, ledger) == Move.NONE
    world.store.age(STALL_S + 1)
    assert moved(world, ledger) == Move.FAILED
    with pytest.raises(JobFailed, match="its caller had numbers and is gone"):
        value_of(ledger)


def test_a_streaming_caller_that_lives_is_left_alone(world: World) -> None:
    """Its beat alone tells that it has not gone."""
    moves: list[Move] = []

    def numbers() -> Iterator[int]:
        yield 1
        world.store.age(10 * STALL_S)
        world.runtime.ledger("job").write_heartbeat("setup", Note(by="caller"))
        moves.append(sweep_job(world.process(), "job"))
        yield 2

    ledger = world.launch(Numbers, {"numbers": numbers()}, job_id="job")
    world.dispatcher.drain(world.runtime)
    assert moves == [Move.NONE]
    assert value_of(ledger) == [1, 2]


def test_each_nudge_doubles_the_time_to_the_next(world: World) -> None:
    """A job that merely waits in a queue is sent again after 1, 2, 4, 8 … times the stall."""
    ledger = launched(world)
    for resends in range(6):
        world.store.age(STALL_S * 2**resends - 1)
        assert moved(world, ledger) == Move.NONE
        world.store.age(2)
        assert moved(world, ledger) == Move.SETUP_SENT
    assert len(world.dispatcher.setups) == 7


def test_of_two_sweeps_at_once_one_moves(world: World) -> None:
    """Two sweeps that see the same stalled job send one message."""
    ledger = launched(world)
    world.dispatcher.lose()
    world.store.age(STALL_S + 1)
    moves: list[Move] = []

    def overtake(verb: str, key: str) -> None:
        if verb == "put" and "/resends/" in key:
            world.store.before = lambda verb, key: None
            moves.append(moved(world, ledger))

    world.store.before = overtake
    moves.append(moved(world, ledger))
    assert sorted(moves) == [Move.NONE, Move.SETUP_SENT]
    assert len(world.dispatcher.waiting) == 1


def test_a_sweep_of_no_job_says_so(world: World) -> None:
    """A job that is not in the store, or was removed while this process had it at hand, is not found."""
    with pytest.raises(JobNotFound):
        sweep_job(world.runtime, "nobody")
    ledger = launched(world)
    runtime = world.process()
    runtime.job(ledger.job_id)
    remove_job(world.store, ledger.job_id)
    with pytest.raises(JobNotFound):
        sweep_job(runtime, ledger.job_id)


IDS = ["a", "a-1", "a.b", "a0", "a1", "A", "b", "0"]


def test_ids_that_sort_around_the_slash_are_all_found() -> None:
    """Each job is found once with one request, whatever characters follow the common part of two ids."""
    store = MemoryStore()
    for job_id in IDS:
        for name in ("intent", "in/x/0", "out/y/0/1"):
            store.put(f"_jobs/{job_id}/{name}", b"")
    store.put("_parameters/" + "0" * 32, b"")
    found = list(job_ids(store))
    assert sorted(found) == sorted(IDS)
    assert found == sorted(IDS, key=lambda job_id: f"{job_id}/")


def test_a_sweep_of_all_moves_each(world: World) -> None:
    """Every job is looked at; each gets what it needs."""
    stalled = [world.launch(Words, {"documents": ["a"]}, job_id=job_id) for job_id in IDS]
    world.dispatcher.drain(world.runtime, until=lambda: len(world.dispatcher.waiting) <= 3)
    waiting = {message.job_id for message in world.dispatcher.waiting}
    world.dispatcher.lose()
    world.store.age(STALL_S + 1)
    moves = dict(sweep(world.process()))
    assert set(moves) == {ledger.job_id for ledger in stalled}
    assert {job_id for job_id, move in moves.items() if move != Move.NONE} == waiting


def test_old_jobs_and_parameters_are_removed(world: World) -> None:
    """Old means `retention_s` after the outcome, for a parameter twice that; what still runs keeps its parameters."""
    world = World(inline_bytes=10, retention_s=1000.0)
    world.launch(Words, {"documents": ["a"] * 50}, job_id="old")
    running = world.launch(Words, {"documents": ["b"] * 50}, job_id="running")
    world.dispatcher.waiting = [message for message in world.dispatcher.waiting if message.job_id == "old"]
    world.dispatcher.drain(world.runtime)
    world.store.age(900)
    assert dict(sweep(world.process()))["old"] == Move.NONE
    world.store.age(101)
    assert dict(sweep(world.process()))["old"] == Move.REMOVED
    assert world.store.keys(job_prefix("old")) == []
    assert len(world.store.keys("_parameters/")) == 2
    world.store.age(1000)
    moves = dict(sweep(world.process()))
    assert list(moves) == ["running"]
    (caller_parameters,) = world.store.keys("_parameters/")
    assert caller_parameters.removeprefix("_parameters/") in running.intent().references.values()


def test_a_damaged_job_does_not_stop_the_sweep(world: World) -> None:
    """A job whose records can't be read does not keep others from being moved."""
    bad = launched(world, job_id="bad")
    launched(world, job_id="good")
    world.dispatcher.lose()
    world.store.flip(bad.keys.intent)
    world.store.age(STALL_S + 1)
    moves = dict(sweep(world.process()))
    assert moves["good"] == Move.SETUP_SENT


def test_a_foreign_object_does_not_stop_the_sweep(world: World) -> None:
    """An object that somebody else put under the root is passed by."""
    launched(world, job_id="good")
    world.dispatcher.lose()
    world.store.put(".hidden/x", b"")
    world.store.age(STALL_S + 1)
    assert dict(sweep(world.process()))["good"] == Move.SETUP_SENT


def test_what_is_left_of_a_removed_job_is_removed(world: World) -> None:
    """What a late worker writes for a job that is gone does not stay for good."""
    ledger = world.launch(Numbers, {"numbers": [1]}, job_id="gone")
    world.dispatcher.drain(world.runtime)
    remove_job(world.store, ledger.job_id)
    ledger.write_delivered(Note(by="late"))
    world.store.age(100 * world.config.retention_s)
    list(sweep(world.process()))
    assert world.store.keys() == []


def test_a_sweep_does_not_revive_a_cancelled_job(world: World) -> None:
    """A job that was cancelled while its messages were lost stays cancelled."""
    ledger = prepared(world)
    job = world.job(ledger)
    world.dispatcher.lose()
    assert job.cancel()
    world.dispatcher.lose()
    world.store.age(STALL_S + 1)
    assert moved(world, ledger) == Move.OUTCOME_SENT
    world.dispatcher.drain(world.runtime)
    assert [found.status for found in world.dispatcher.deliveries] == [OutcomeStatus.CANCELLED]
    with pytest.raises(JobCancelled):
        job.get(0)


def test_a_chunk_that_a_sweep_sends_counts_its_tries(world: World) -> None:
    """A chunk with all its tries on record is given up and not run once more."""
    ledger = prepared(world)
    setup_id = world.refs[0].setup_id
    world.dispatcher.lose()
    for number in (1, 2, 3):
        failure = Failure("process", "E", "why", "", 0, 0, number)
        ledger.write_attempt(
            process_step(setup_id, 0), number, Attempt(state=AttemptState.RAISED, at=1.0, failure=failure)
        )
    world.store.age(STALL_S + 1)
    assert moved(world, ledger) == Move.CHUNKS_SENT
    world.dispatcher.drain(world.runtime)
    with pytest.raises(JobFailed, match=r"E: why \(tried 3 times\)"):
        value_of(ledger)
