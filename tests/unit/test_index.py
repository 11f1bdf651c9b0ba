"""Open, ended and tagged jobs are found by their entries, which sweeps mend."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout import ConfigError, Job
from fanout.engines.celery import signature_codec
from fanout.listing import find_jobs, list_open, list_tagged
from fanout.records.index import (
    ALL_SWEPT_KEY,
    ENDED_PREFIX,
    OPEN_PREFIX,
    TAGS_PREFIX,
    ended_key,
    launch_entries,
    open_key,
    write_entries,
)
from fanout.records.ledger import Ledger, write_intent
from fanout.records.models import Note, Outcome, OutcomeStatus
from fanout.records.tags import MAX_TAGS, check_tags, quote_tag
from fanout.removal import remove_job
from fanout.runtime import Runtime
from fanout.sweep import ALL_JOBS_S, Move, sweep
from storage import CountingStore, MemoryStore, StorageUnavailable
from tests.stores import fail_each_request, kind_of

from .cli_app import Fragile
from .tasks import Numbers
from .world import World

STALL_S = 60.0
RETENTION_S = 1000.0


@pytest.fixture
def world() -> World:
    """Return a world in which no sweep of all jobs is due."""
    world = World(retention_s=RETENTION_S)
    write_entries(world.store, [ALL_SWEPT_KEY])
    return world


def launch_job(world: World, **options: Any) -> Ledger:
    return world.launch(Numbers, {"numbers": [1, 2]}, job_id="job", **options)


def failed_job(world: World) -> Job[Any]:
    """Return a job that has failed."""
    ledger = world.launch(Fragile, {"texts": ["x"]}, job_id="job")
    world.dispatcher.drain(world.runtime)
    return world.job(ledger)


def entries(world: World, prefix: str = "_") -> list[str]:
    kept = (OPEN_PREFIX, ENDED_PREFIX, TAGS_PREFIX)
    return [key for key in world.store.keys(prefix) if key.startswith(kept)]


def test_a_job_is_open_from_before_its_intent_until_its_delivery(world: World) -> None:
    """The entry among open jobs comes before the intent, and goes after the delivery, when one among ended jobs is."""
    ledger = launch_job(world)
    entry = open_key("job", ledger.launch_id, 0)
    assert world.store.log[-2:] == [("put", entry), ("put", ledger.keys.intent)]
    world.dispatcher.drain(world.runtime)
    assert world.store.log[-1] == ("delete", entry)
    assert sorted(kind_of(key) for _, key in world.store.log[-3:-1]) == ["_ended", "delivered"]
    delivery = ledger.delivery()
    assert delivery is not None
    assert entries(world) == [ended_key(delivery.at, "job", ledger.launch_id)]


def test_no_failed_request_of_a_launch_leaves_an_intent_without_its_entry() -> None:
    """Whichever request of a launch fails or loses its answer, a job that exists is open, and so are its tags."""
    for is_lost in (False, True):
        for fault in fail_each_request("put", "_open", "_tags", "intent"):
            world = World()
            intent = world.submission(Numbers, {"numbers": [1]}, tags={"order": "1"}).intent()
            with world.store.injecting(fault, after=is_lost):
                try:
                    world.runtime.launch("job", intent)
                except StorageUnavailable:
                    assert fault.injected
            if world.store.keys("_jobs/"):
                assert set(entries(world)) == set(launch_entries("job", intent.launch_id, {"order": "1"}))


def test_a_second_launch_of_an_id_leaves_no_entry(world: World) -> None:
    """A launch that finds the id taken takes its own entries back, and leaves those of the first."""
    ledger = launch_job(world)
    world.runtime.launch("job", world.submission(Numbers, {"numbers": [1, 2]}).intent())
    assert entries(world) == [open_key("job", ledger.launch_id, 0)]


def test_a_late_delivery_leaves_the_entry_of_a_retry(world: World) -> None:
    """A retry has an entry of its own before it begins, which the join of the generation before does not delete."""
    job = failed_job(world)
    assert entries(world, OPEN_PREFIX) == []
    late = job.ledger
    world.store.log.clear()
    assert job.retry()
    puts = [key for verb, key in world.store.log if verb == "put"]
    entry = open_key("job", late.launch_id, 1)
    assert puts.index(entry) < puts.index(late.keys.start_of(1))
    late.write_delivered(Note(by="late"))
    assert entries(world, OPEN_PREFIX) == [entry]


@pytest.mark.parametrize("verb", ["put", "delete"])
def test_a_sweep_ends_what_a_delivery_began(world: World, verb: str) -> None:
    """If the worker fails between the delivery and its entries, the next sweep moves the job to the ended ones."""
    ledger = launch_job(world)
    with world.store.failing(verb, *(["_ended"] if verb == "put" else ["_open"])):
        world.dispatcher.drain(world.runtime)
    write_entries(world.store, [open_key("job", ledger.launch_id, 0)])
    assert ledger.is_delivered()
    assert dict(sweep(world.process())) == {"job": Move.NONE}
    assert [key.split("/")[0] for key in entries(world)] == ["_ended"]
    assert dict(sweep(world.process())) == {}


def test_an_entry_without_a_job_goes_when_it_is_old(world: World) -> None:
    """Entries of a launch or a retry that was never begun stay for an hour, in case it begins."""
    job = failed_job(world)
    stray = [open_key("gone", "launch", 0), open_key("job", job.ledger.launch_id, 1)]
    write_entries(world.store, stray)
    list(sweep(world.process()))
    assert entries(world, OPEN_PREFIX) == stray
    world.store.age(3601, OPEN_PREFIX)
    list(sweep(world.process()))
    assert entries(world, OPEN_PREFIX) == []


def test_a_sweep_of_all_jobs_writes_missing_entries(world: World) -> None:
    """A job without an entry, as an earlier version launched it, is found within a day, and by each sweep then."""
    ledger = launch_job(world)
    world.dispatcher.lose()
    world.store.delete(entries(world))
    world.store.age(STALL_S + 1)
    assert dict(sweep(world.process())) == {}
    world.store.age(ALL_JOBS_S)
    assert dict(sweep(world.process())) == {"job": Move.SETUP_SENT}
    assert entries(world) == [open_key("job", ledger.launch_id, 0)]
    assert dict(sweep(world.process())) == {"job": Move.NONE}


def test_an_old_entry_of_a_retried_job_does_not_remove_it(world: World) -> None:
    """A job that ended long ago and was retried stays, while it runs and until its new outcome is old."""
    job = failed_job(world)
    world.store.age(2 * RETENTION_S)
    assert job.retry()
    list(sweep(world.process()))
    assert entries(world) == [open_key("job", job.ledger.launch_id, 1)]
    world.dispatcher.drain(world.runtime)
    wrong = ended_key(0.0, "job", job.ledger.launch_id)
    write_entries(world.store, [wrong])
    list(sweep(world.process()))
    assert job.ready
    assert wrong not in entries(world)
    world.store.age(2 * RETENTION_S)
    assert dict(sweep(world.process()))["job"] == Move.REMOVED
    assert world.store.keys("_jobs/") == entries(world) == []


def test_a_removed_job_leaves_no_entry(world: World) -> None:
    """The removal of a job, in any generation, deletes its entries and its tags."""
    job = failed_job(world)
    job.retry()
    assert remove_job(world.store, "job") > 0
    assert entries(world) == []
    world.launch(Numbers, {"numbers": [1]}, job_id="tagged", tags={"order": "4711"})
    assert len(entries(world, TAGS_PREFIX)) == 1
    remove_job(world.store, "tagged")
    assert entries(world) == []


def test_a_sweep_of_all_jobs_removes_old_tags_of_no_job(world: World) -> None:
    """Entries of tags that a launch left behind go when they are old; those of jobs stay."""
    ledger = world.launch(Numbers, {"numbers": [1]}, job_id="job", tags={"order": "1"})
    write_entries(world.store, launch_entries("gone", "launch", {"order": "1"}))
    list(sweep(world.process(), everything=True))
    assert len(entries(world, TAGS_PREFIX)) == 2
    world.store.age(3601)
    list(sweep(world.process(), everything=True))
    assert entries(world, TAGS_PREFIX) == launch_entries("job", ledger.launch_id, {"order": "1"})[:1]


def test_a_sweep_costs_what_the_open_jobs_cost() -> None:
    """A sweep of 3,000 kept and 10 open jobs makes at most 30 requests."""
    memory = MemoryStore("kept")
    world = World()
    intent = world.submission(Numbers, {"numbers": [1]}).intent()
    outcome = Outcome(status=OutcomeStatus.SUCCEEDED, task="t", stats=[], value=b"").to_bytes()
    for number in range(3_000):
        ledger = Ledger(memory, f"kept-{number}", "launch")
        for key in (ledger.keys.intent, ledger.keys.outcome, ledger.keys.delivered):
            memory.put(key, outcome)
        write_entries(memory, [ended_key(2e9, ledger.job_id, ledger.launch_id)])
    for number in range(10):
        write_entries(memory, launch_entries(f"open-{number}", intent.launch_id, {}))
        write_intent(memory, f"open-{number}", intent)
    write_entries(memory, [ALL_SWEPT_KEY])
    counting = CountingStore(memory)
    assert len(dict(sweep(Runtime(counting, world.config, world.dispatcher)))) == 10
    assert counting.requests.total() <= 30


def test_jobs_are_found_by_state_and_by_tags(world: World) -> None:
    """Open jobs come latest first; tags find open and ended jobs that have all of them; other jobs take a listing."""
    for job_id, tags in {"a": {"order": "1", "who": "x y"}, "b": {"order": "1"}, "c": {"order": "2"}}.items():
        world.launch(Numbers, {"numbers": [1]}, job_id=job_id, tags=tags)
        world.store.age(10)
    assert [entry.job_id for entry in list_open(world.runtime)] == ["c", "b", "a"]
    world.dispatcher.drain(world.runtime)
    assert list_open(world.runtime) == []
    assert [entry.job_id for entry in list_tagged(world.runtime, {"order": "1"})] == ["b", "a"]
    found = find_jobs(world.runtime, tags={"order": "1", "who": "x y"})
    assert [(job.id, job.tags) for job in found] == [("a", {"order": "1", "who": "x y"})]
    assert [job.id for job in find_jobs(world.runtime, ended=True)] == ["a", "b", "c"]


def test_a_signature_keeps_its_tags_on_its_way(world: World) -> None:
    """The tags of a signature are in its message and in its intent; a forged message can't have others."""
    submission = world.submission(Numbers, {"numbers": [1]}, tags={"order": "4711"})
    body = json.loads(json.dumps(signature_codec.encode(submission)))
    assert signature_codec.decode(body, Numbers.declaration).intent().tags == {"order": "4711"}
    with pytest.raises(ValueError, match="tag 'order': its value must be text"):
        signature_codec.decode({**body, "tags": {"order": 4711}}, Numbers.declaration)


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"order": 4711}, "tag 'order': its value must be text, not int"),
        ({"order": ""}, "tag 'order': its value is empty"),
        ({"": "1"}, "tag '': its name is empty"),
        ({"n" * 65: "1"}, "its name has 65 bytes, and may have 64"),
        ({"order": "ü" * 31}, "tag 'order': its value has 186 bytes, and may have 180"),
        ({"order": "\ud800"}, "tag 'order': its value has a character that UTF-8 cannot encode"),
        ({str(number): "1" for number in range(MAX_TAGS + 1)}, "at most 16 tags, not 17"),
        ("order=1", "tags must be a mapping"),
    ],
)
def test_a_tag_that_cannot_be_kept_is_named(tags: Any, why: str) -> None:
    """A tag that is no text, empty or too long is refused before anything is stored."""
    with pytest.raises(ConfigError, match=why):
        check_tags(tags)


@settings(max_examples=50)
@given(*(st.tuples(st.text(min_size=1, max_size=5), st.text(min_size=1, max_size=14)) for _ in range(2)))
def test_different_tags_have_different_keys(one: tuple[str, str], other: tuple[str, str]) -> None:
    """Each tag is one segment of a key that a file system can hold, and no other tag has it."""
    for tag in (one, other):
        try:
            check_tags(dict([tag]))
        except ConfigError:
            return
    segments = [quote_tag(*tag) for tag in (one, other)]
    assert (segments[0] == segments[1]) == (one == other)
    assert all("/" not in segment and len(segment) < 250 for segment in segments)
