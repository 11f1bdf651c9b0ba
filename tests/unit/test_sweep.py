"""A sweep continues jobs that have stalled, and leaves running jobs alone."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from fanout import JobCancelled, JobFailed, JobNotFound
from fanout.engines.stub import Chunk, Join, Setup
from fanout.records.attempt import Attempt, AttemptState
from fanout.records.failure import Failure
from fanout.records.index import ALL_SWEPT_KEY
from fanout.records.keys import job_prefix, process_step
from fanout.records.ledger import Ledger, job_ids
from fanout.records.models import Continuation, Note, OutcomeStatus
from fanout.removal import remove_job
from fanout.stages import run_process
from fanout.sweep import Move, sweep, sweep_job
from storage import CountingStore, MemoryStore

from .tasks import Numbers, Words
from .world import World

STALL_S = 60.0


def sweep_one(world: World, ledger: Ledger) -> Move:
    return sweep_job(world.process(), ledger.job_id)


def launch_job(world: World, **options: Any) -> Ledger:
    return world.launch(Numbers, {"numbers": [0, 1, 2, 3]}, **options)


def prepare_job(world: World, **options: Any) -> Ledger:
    ledger = launch_job(world, **options)
    world.dispatcher.deliver(world.runtime)
    return ledger


def value_of(ledger: Ledger) -> object:
    outcome = ledger.outcome()
    assert outcome is not None
    return ledger.value(outcome)


def test_a_healthy_job_is_left_alone(world: World) -> None:
    """At any point of a running job, a sweep reads the intent, makes one listing, and does nothing."""
    ledger = launch_job(world)
    while world.dispatcher.waiting:
        runtime = world.process()
        runtime.job(ledger.job_id)
        runtime.now()
        world.store.log.clear()
        assert sweep_job(runtime, ledger.job_id) == Move.NONE
        assert world.store.log == [("get", ledger.keys.intent), ("list", job_prefix(ledger.job_id))]
        world.dispatcher.deliver(world.runtime)
    world.store.age(10 * STALL_S)
    assert sweep_one(world, ledger) == Move.NONE


def test_a_sweep_does_not_hold_the_listing_of_a_job(world: World) -> None:
    """A sweep of a running job holds less than the keys of its objects."""
    ledger = launch_job(world)
    for number in range(5000):
        world.store.inner.put(ledger.keys.result("a", number), b"")
    tracemalloc.start()
    try:
        assert sweep_one(world, ledger) == Move.NONE
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 5000 * 100


def test_a_lost_setup_is_sent_again(world: World) -> None:
    """A job that has only an intent gets its setup message again, and then its value."""
    ledger = launch_job(world)
    world.dispatcher.lose()
    assert sweep_one(world, ledger) == Move.NONE
    world.store.age(STALL_S + 1)
    assert sweep_one(world, ledger) == Move.SETUP_SENT
    assert world.dispatcher.waiting == [Setup(ledger.job_id, ledger.launch_id)]
    world.dispatcher.drain(world.runtime)
    assert value_of(ledger) == [0, 1, 2, 3]


def test_a_setup_at_work_is_left_alone(world: World) -> None:
    """While a worker writes heartbeats for setup, a sweep sends nothing, even if there is no other write."""
    ledger = launch_job(world)
    world.store.age(STALL_S + 1)
    ledger.write_heartbeat("setup", Note(by="x"))
    assert sweep_one(world, ledger) == Move.NONE
    world.store.age(STALL_S + 1)
    assert sweep_one(world, ledger) == Move.SETUP_SENT


def test_a_setup_that_is_not_due_is_left_alone(world: World) -> None:
    """A job that is to start later has not stalled before that time."""
    ledger = launch_job(world, not_before=time.time() + 1000)
    world.dispatcher.lose()
    world.store.age(STALL_S + 1)
    assert sweep_one(world, ledger) == Move.NONE


def test_only_chunks_without_a_worker_are_sent_again(world: World) -> None:
    """Chunks with a result or a heartbeat are not sent. The others have their attempts and the resent flag."""
    ledger = prepare_job(world)
    refs = {ref.chunk: ref for ref in world.refs}
    world.dispatcher.lose()
    run_process(world.runtime, refs[0])
    ledger.write_attempt(process_step(refs[1].setup_id, 1), 1, Attempt(state=AttemptState.RAISED, at=1.0))
    ledger.write_attempt(process_step(refs[1].setup_id, 1), 2, Attempt(state=AttemptState.LOST, at=1.0))
    world.store.age(STALL_S + 1)
    ledger.write_heartbeat(process_step(refs[2].setup_id, 2), Note(by="x"))
    assert sweep_one(world, ledger) == Move.CHUNKS_SENT
    sent = [message.ref for message in world.dispatcher.waiting if isinstance(message, Chunk)]
    assert [(ref.chunk, ref.attempts, ref.resent) for ref in sent] == [(1, 2, True), (3, 0, True)]
    assert [ref.location for ref in sent] == [refs[1].location, refs[3].location]
    world.dispatcher.drain(world.runtime)
    run_process(world.runtime, refs[2])
    world.dispatcher.drain(world.runtime)
    assert value_of(ledger) == [0, 1, 2, 3]


def test_chunks_of_several_index_objects_are_sent_again(world: World) -> None:
    """Missing chunks are found in all objects of the index."""
    ledger = world.launch(Numbers, {"numbers": list(range(1030))})
    world.dispatcher.deliver(world.runtime)
    refs = world.refs
    world.dispatcher.lose()
    for ref in refs:
        if ref.chunk not in (3, 1023, 1024, 1029):
            run_process(world.runtime, ref)
    world.store.age(STALL_S + 1)
    assert sweep_one(world, ledger) == Move.CHUNKS_SENT
    assert [ref.chunk for ref in world.refs[1030:]] == [3, 1023, 1024, 1029]
    world.dispatcher.drain(world.runtime)
    assert value_of(ledger) == list(range(1030))


def test_messages_of_one_index_object_are_sent_before_the_next_is_read(world: World) -> None:
    """A sweep of many missing chunks holds the messages of one index object at a time."""
    ledger = world.prepare(Numbers, {"numbers": list(range(1030))})
    world.dispatcher.lose()
    world.store.age(STALL_S + 1)
    sent_before: list[int] = []

    def note(verb: str, key: str) -> None:
        if verb == "get" and "/index/" in key:
            sent_before.append(len(world.dispatcher.waiting))

    world.store.before = note
    assert sweep_one(world, ledger) == Move.CHUNKS_SENT
    assert (sent_before, len(world.dispatcher.waiting)) == ([0, 1024], 1030)


@pytest.mark.parametrize("gone", [True, False])
def test_missing_chunks_of_a_damaged_index_fail_the_job(world: World, gone: bool) -> None:
    """If the index with the locations of missing chunks can't be read, the job fails with the key of the index."""
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
    assert sweep_one(world, ledger) == Move.FAILED
    outcome = ledger.outcome()
    assert outcome is not None
    failure = Failure.read(outcome.failure)
    assert failure is not None
    assert key in failure.reason
    assert failure.error == ("ObjectNotFound" if gone else "CorruptObject")


def test_a_lost_join_is_sent_again(world: World) -> None:
    """If the join of a complete job was lost, with a claim or without, a sweep sends a join that ignores claims."""
    ledger = prepare_job(world)
    world.dispatcher.drain(world.runtime, until=lambda: bool(world.dispatcher.joins))
    world.dispatcher.lose()
    ledger.claim(0, Note(by="gone"))
    world.store.age(STALL_S + 1)
    assert sweep_one(world, ledger) == Move.JOIN_SENT
    assert world.dispatcher.waiting == [Join(ledger.job_id, ledger.launch_id, Numbers.name, None, resent=True)]
    world.dispatcher.drain(world.runtime)
    assert value_of(ledger) == [0, 1, 2, 3]


def test_a_join_at_work_is_left_alone(world: World) -> None:
    """While a worker writes heartbeats for the join, a sweep sends no other join."""
    ledger = prepare_job(world)
    world.dispatcher.drain(world.runtime, until=lambda: bool(world.dispatcher.joins))
    world.store.age(STALL_S + 1)
    ledger.write_heartbeat("join", Note(by="x"))
    assert sweep_one(world, ledger) == Move.NONE


def test_an_undelivered_outcome_is_delivered(world: World) -> None:
    """An outcome without a delivery record is sent again when it is old enough."""
    ledger = prepare_job(world)
    world.dispatcher.drain(world.runtime)
    world.store.delete([ledger.keys.delivered])
    assert sweep_one(world, ledger) == Move.NONE
    world.store.age(STALL_S + 1)
    assert sweep_one(world, ledger) == Move.OUTCOME_SENT
    world.dispatcher.drain(world.runtime)
    assert len(world.dispatcher.deliveries) == 2
    world.store.age(10 * STALL_S)
    assert sweep_one(world, ledger) == Move.NONE


def test_a_job_past_its_deadline_fails(world: World) -> None:
    """A job past its deadline fails, however young its last write is. It fails once."""
    ledger = launch_job(world, deadline_s=1e-6)
    world.dispatcher.lose()
    assert sweep_one(world, ledger) == Move.FAILED
    outcome = ledger.outcome()
    assert outcome is not None
    with pytest.raises(JobFailed, match="its deadline has passed"):
        ledger.value(outcome)
    assert sweep_one(world, ledger) == Move.NONE
    world.dispatcher.drain(world.runtime)
    assert [delivered.status for delivered in world.dispatcher.deliveries] == [OutcomeStatus.FAILED]


def test_a_job_whose_message_expired_fails(world: World) -> None:
    """A setup message that has expired is not sent again."""
    ledger = launch_job(world, expires_at=time.time() - 1)
    world.dispatcher.lose()
    world.store.age(STALL_S + 1)
    assert sweep_one(world, ledger) == Move.FAILED
    with pytest.raises(JobFailed, match="expired before a worker took it"):
        value_of(ledger)


def test_a_setup_that_began_in_time_does_not_expire(world: World) -> None:
    """If a worker took the setup message in time and died later, a sweep sends the message again."""
    ledger = launch_job(world, expires_at=time.time() - 1)
    world.dispatcher.lose()
    ledger.write_continuation(Continuation(message="begun"))
    world.store.age(STALL_S + 1)
    assert sweep_one(world, ledger) == Move.SETUP_SENT


def test_an_expired_job_fails_once(world: World) -> None:
    """A job whose launch message expired fails once. Later sweeps do not fail it again."""
    submission = world.submission(Numbers, {"numbers": [1]})
    ledger = world.runtime.launch("job", submission.intent(launch="{}", expires_at=time.time() - 1)).ledger
    world.store.age(STALL_S + 1)
    assert sweep_one(world, ledger) == Move.FAILED
    for _ in range(3):
        world.store.age(100 * STALL_S)
        assert sweep_one(world, ledger) != Move.FAILED


def test_a_job_whose_streaming_caller_died_fails(world: World) -> None:
    """A stream can't be read twice. Without a heartbeat of its caller the job fails, and names the lost input."""

    def numbers() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.launch(Numbers, {"numbers": numbers()}, job_id="job")
    ledger = world.runtime.ledger("job")
    world.dispatcher.lose()
    assert sweep_one(world, ledger) == Move.NONE
    world.store.age(STALL_S + 1)
    assert sweep_one(world, ledger) == Move.FAILED
    with pytest.raises(JobFailed, match="its caller had numbers and is gone"):
        value_of(ledger)


def test_a_streaming_caller_that_lives_is_left_alone(world: World) -> None:
    """The heartbeat of a streaming caller keeps its job."""
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


def test_each_resend_doubles_the_time_to_the_next(world: World) -> None:
    """A job that only waits in a queue is sent again after 1, 2, 4, 8 … times the stall."""
    ledger = launch_job(world)
    for resends in range(6):
        world.store.age(STALL_S * 2**resends - 1)
        assert sweep_one(world, ledger) == Move.NONE
        world.store.age(2)
        assert sweep_one(world, ledger) == Move.SETUP_SENT
    assert len(world.dispatcher.setups) == 7


def test_of_two_sweeps_at_once_one_sends(world: World) -> None:
    """Two sweeps that see the same stalled job send one message."""
    ledger = launch_job(world)
    world.dispatcher.lose()
    world.store.age(STALL_S + 1)
    moves: list[Move] = []

    world.store.before_first("put", "/resends/", lambda: moves.append(sweep_one(world, ledger)))
    moves.append(sweep_one(world, ledger))
    assert sorted(moves) == [Move.NONE, Move.SETUP_SENT]
    assert len(world.dispatcher.waiting) == 1


def test_a_sweep_of_an_unknown_job_raises(world: World) -> None:
    """A job that is not in the store, or that was removed while this process had it in its cache, is not found."""
    with pytest.raises(JobNotFound):
        sweep_job(world.runtime, "unknown-job")
    ledger = launch_job(world)
    runtime = world.process()
    runtime.job(ledger.job_id)
    remove_job(world.store, ledger.job_id)
    with pytest.raises(JobNotFound):
        sweep_job(runtime, ledger.job_id)


IDS = ["a", "a-1", "a.b", "a0", "a1", "A", "b", "0"]


def test_ids_that_sort_around_the_slash_are_all_found() -> None:
    """One listing finds each job once, for ids with any characters after a common part."""
    store = MemoryStore()
    for job_id in IDS:
        for name in ("intent", "in/x/0", "out/y/0/1"):
            store.put(f"_jobs/{job_id}/{name}", b"")
    store.put("_parameters/" + "0" * 32, b"")
    found = list(job_ids(store))
    assert sorted(found) == sorted(IDS)
    assert found == sorted(IDS, key=lambda job_id: f"{job_id}/")


def test_small_jobs_share_a_listing_and_a_large_one_is_skipped() -> None:
    """Jobs of a few objects are found by one request per 1,000 objects, and a job of any size by two at most."""
    store = CountingStore(MemoryStore())
    for number in range(100):
        store.put(f"_jobs/small-{number:02}/intent", b"")
    assert len(list(job_ids(store))) == 100
    assert store.requests["list"] == 1
    for number in range(5_000):
        store.put(f"_jobs/large/launch/{number:04}", b"")
    store.reset()
    assert list(job_ids(store))[:2] == ["large", "small-00"]
    assert store.requests["list"] == 2
    assert next(job_ids(store, after="large")) == "small-00"


def test_a_sweep_of_all_jobs_continues_each(world: World) -> None:
    """A sweep checks every job, and continues each one that has stalled."""
    stalled = [world.launch(Words, {"documents": ["a"]}, job_id=job_id) for job_id in IDS]
    world.dispatcher.drain(world.runtime, until=lambda: len(world.dispatcher.waiting) <= 3)
    waiting = {message.job_id for message in world.dispatcher.waiting}
    world.dispatcher.lose()
    world.store.age(STALL_S + 1)
    moves = dict(sweep(world.process()))
    assert set(moves) == {ledger.job_id for ledger in stalled}
    assert {job_id for job_id, move in moves.items() if move != Move.NONE} == waiting


def test_old_jobs_and_parameters_are_removed(world: World) -> None:
    """A job is removed `retention_s` after its outcome, a parameter after twice that. Running jobs keep parameters."""
    world = World(inline_bytes=10, retention_s=1000.0)
    world.launch(Words, {"documents": ["a"] * 50}, job_id="old")
    running = world.launch(Words, {"documents": ["b"] * 50}, job_id="running")
    world.dispatcher.waiting = [message for message in world.dispatcher.waiting if message.job_id == "old"]
    world.dispatcher.drain(world.runtime)
    world.store.age(900)
    assert dict(sweep(world.process()))["old"] == Move.NONE
    world.store.age(200)
    assert dict(sweep(world.process()))["old"] == Move.REMOVED
    assert world.store.keys(job_prefix("old")) == []
    assert len(world.store.keys("_parameters/")) == 2
    world.store.age(1000)
    moves = dict(sweep(world.process(), everything=True))
    assert list(moves) == ["running"]
    (parameter,) = world.store.keys("_parameters/")
    assert parameter.removeprefix("_parameters/") in running.intent().references.values()


def test_a_damaged_job_does_not_stop_the_sweep(world: World) -> None:
    """A job whose records can't be read does not stop the sweep of other jobs."""
    bad = launch_job(world, job_id="bad")
    launch_job(world, job_id="good")
    world.dispatcher.lose()
    world.store.flip(bad.keys.intent)
    world.store.age(STALL_S + 1)
    moves = dict(sweep(world.process()))
    assert moves["good"] == Move.SETUP_SENT


def test_a_foreign_object_does_not_stop_the_sweep(world: World) -> None:
    """A sweep ignores an object of another application under the root."""
    launch_job(world, job_id="good")
    world.dispatcher.lose()
    world.store.put(".hidden/x", b"")
    world.store.age(STALL_S + 1)
    assert dict(sweep(world.process()))["good"] == Move.SETUP_SENT


def test_late_records_of_a_removed_job_are_removed(world: World) -> None:
    """Records that a late worker writes for a removed job are removed."""
    ledger = world.launch(Numbers, {"numbers": [1]}, job_id="gone")
    world.dispatcher.drain(world.runtime)
    remove_job(world.store, ledger.job_id)
    ledger.write_delivered(Note(by="late"))
    world.store.age(100 * world.config.retention_s)
    list(sweep(world.process()))
    assert world.store.keys() == [ALL_SWEPT_KEY]


def test_a_sweep_does_not_revive_a_cancelled_job(world: World) -> None:
    """A job that was cancelled while its messages were lost stays cancelled."""
    ledger = prepare_job(world)
    job = world.job(ledger)
    world.dispatcher.lose()
    assert job.cancel()
    world.dispatcher.lose()
    world.store.age(STALL_S + 1)
    assert sweep_one(world, ledger) == Move.OUTCOME_SENT
    world.dispatcher.drain(world.runtime)
    assert [delivered.status for delivered in world.dispatcher.deliveries] == [OutcomeStatus.CANCELLED]
    with pytest.raises(JobCancelled):
        job.get(0)


def test_a_resent_chunk_counts_its_attempts(world: World) -> None:
    """A chunk that has used up its attempts is given up and not run again."""
    ledger = prepare_job(world)
    setup_id = world.refs[0].setup_id
    world.dispatcher.lose()
    for number in (1, 2, 3):
        failure = Failure("process", "E", "why", "", 0, 0, number)
        ledger.write_attempt(
            process_step(setup_id, 0), number, Attempt(state=AttemptState.RAISED, at=1.0, failure=failure)
        )
    world.store.age(STALL_S + 1)
    assert sweep_one(world, ledger) == Move.CHUNKS_SENT
    world.dispatcher.drain(world.runtime)
    with pytest.raises(JobFailed, match=r"E: why \(tried 3 times\)"):
        value_of(ledger)
