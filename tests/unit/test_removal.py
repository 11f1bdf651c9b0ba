"""A sweep deletes only objects that fanout's own records name, and deletes those in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from fanout import Job
from fanout.records.index import ALL_SWEPT_KEY
from fanout.records.keys import job_prefix
from fanout.records.models import Note
from fanout.removal import remove_job
from fanout.sweep import sweep
from storage import CorruptObject

from .tasks import Numbers, Words
from .world import World

RETENTION_S = 1000.0

FOREIGN = [
    "photos/2024/a.jpg",
    "backups/intent",
    "invoices/outcome",
    "order-1/intent",
    "0/x",
    "team-b/_jobs/job/intent",
    "team-b/_parameters/" + "0" * 32,
    "_jobs/readme.txt",
    "_jobs/photos/a.jpg",
    "_jobs/photos/0123456789abcdef/input/attempt/00000000",
    "_jobs/photos/0123456789abcdef/outcome",
    "_jobs/done/notes/todo.txt",
    "_open/readme.txt",
    "_open/photos/0123456789abcdef/0",
    "_ended/20200101T000000/photos/0123456789abcdef",
    "_ended/20200101T000000/photos/2020/a.jpg",
    "_tags/order=1/photos/0123456789abcdef",
    "_tags/a.jpg",
    "_parameters/list.txt",
    "_parameters/" + "f" * 32,
]
"""Keys of other applications. Some are as similar to fanout's keys as possible."""


@pytest.fixture
def world() -> World:
    return World(retention_s=RETENTION_S, inline_bytes=10)


def test_sweeps_over_weeks_delete_no_foreign_objects(world: World) -> None:
    """Foreign objects beside, below and among fanout's objects stay, and all objects of fanout are removed."""
    for key in FOREIGN:
        world.store.put(key, b"another application's")
    ledger = world.launch(Words, {"documents": ["a b"] * 50}, job_id="done")
    world.dispatcher.drain(world.runtime)
    assert ledger.outcome() is not None
    for number in range(20):
        world.store.age(RETENTION_S / 2)
        list(sweep(world.process(), everything=number % 2 == 0))
    ours = {"_probe/clock", ALL_SWEPT_KEY}
    assert set(world.store.keys()) - ours == set(FOREIGN)


def test_an_intent_that_cannot_be_read_keeps_all_of_its_job(world: World) -> None:
    """A job whose intent is damaged stays, and so do all old parameters."""
    world.launch(Words, {"documents": ["a b"] * 50}, job_id="damaged")
    world.dispatcher.drain(world.runtime)
    world.store.flip("_jobs/damaged/intent")
    before = [*world.store.keys("_jobs/"), *world.store.keys("_parameters/")]
    for _ in range(5):
        world.store.age(RETENTION_S)
        list(sweep(world.process()))
    assert set(before) <= set(world.store.keys())
    with pytest.raises(CorruptObject):
        remove_job(world.store, "damaged")
    assert set(before) <= set(world.store.keys())


def test_a_job_object_of_a_removed_launch_removes_nothing(world: World) -> None:
    """A `Job` of a removed launch does not remove the new job that has its id."""
    old = world.job(world.launch(Numbers, {"numbers": [1]}, job_id="id"))
    world.dispatcher.drain(world.runtime)
    assert old.remove() > 0
    assert old.remove() == 0
    new = world.launch(Numbers, {"numbers": [2]}, job_id="id")
    world.dispatcher.drain(world.runtime)
    assert old.remove() == 0
    assert Job("id", world.process()).get(0) == [2]
    assert new.is_delivered()


def test_records_of_a_late_worker_are_removed_when_they_are_old(world: World) -> None:
    """Old records of a late worker are removed, also while another job has the id. That job keeps its records."""
    old = world.launch(Numbers, {"numbers": [1]}, job_id="id")
    world.dispatcher.drain(world.runtime)
    remove_job(world.store, "id")
    old.write_delivered(Note(by="late"))
    new = world.launch(Numbers, {"numbers": [2]}, job_id="id")
    world.store.age(RETENTION_S / 2)
    list(sweep(world.process()))
    assert world.store.keys(old.keys.prefix) == [old.keys.delivered]
    world.store.age(RETENTION_S)
    list(sweep(world.process()))
    assert world.store.keys(old.keys.prefix) == []
    assert new.keys.intent in world.store.keys(job_prefix("id"))


def test_parameters_stay_as_long_as_a_job_refers_to_them(world: World) -> None:
    """A job with an eta after several weeks finds its input. After its removal its parameters are removed."""
    ledger = world.launch(Words, {"documents": ["a b"] * 50}, job_id="later", not_before=2e9)
    world.dispatcher.lose()
    for _ in range(10):
        world.store.age(RETENTION_S)
        list(sweep(world.process()))
    assert len(world.store.keys("_parameters/")) == 1
    world.dispatcher.drain(world.runtime)
    assert ledger.intent().references
    remove_job(world.store, "later")
    list(sweep(world.process(), everything=True))
    assert world.store.keys("_parameters/") == []


def clock_ahead(ahead_s: float) -> Callable[[], float]:
    """Return the clock of a store that is ahead of this machine's."""
    return lambda: time.time() + ahead_s


@pytest.mark.parametrize("ahead_s", [-600.0, -90.0, 90.0, 600.0])
def test_a_wrong_local_clock_ends_no_job_too_early(
    world: World, ahead_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose clock is minutes off ends neither a streamed job nor a job with a deadline too early."""
    monkeypatch.setattr(world.store, "now", clock_ahead(ahead_s))
    world.store.age(-ahead_s)

    def numbers() -> Any:
        yield 1
        world.store.age(-ahead_s)
        list(sweep(world.process()))
        yield 2

    submission = world.submission(Numbers, {"numbers": [1]}, deadline_s=300.0)
    intent = submission.intent(now=world.process().now)
    job = world.process().launch("deadline", intent)
    assert intent.deadline_at is not None
    assert 200 < intent.deadline_at - world.process().now() <= 301
    world.store.age(-ahead_s)
    assert dict(sweep(world.process()))["deadline"] == "none"
    assert not job.ledger.has_outcome()
    world.launch(Numbers, {"numbers": numbers()}, job_id="stream")
    world.dispatcher.drain(world.runtime)
    assert Job("stream", world.process()).get(0) == [1, 2]
