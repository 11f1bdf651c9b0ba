"""A caller that waits for a job that nobody begins is told, once, what may be wrong."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from fanout.hints import NoWorkerHint
from fanout.records.models import Intent, Note
from fanout.runtime import CachedJob

from .stores import ScriptedStore
from .world import World


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def launch(world: World, **changes: object) -> CachedJob:
    intent = Intent(
        launch_id="launch", task="some.Task", inline=b"", references={}, options={}, created_at=time.time(), launch="{}"
    )
    return world.runtime.launch("job", replace(intent, **changes))  # type: ignore[arg-type]


def test_it_is_said_once_and_names_the_causes(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Not at first; after some seconds one line with job, task, store and what to look at; then silence."""
    job = launch(world)
    clock = Clock()
    hint = NoWorkerHint(world.runtime, job, clock=clock)
    for clock.now_s in (0.0, 4.9):
        hint.check()
    assert caplog.text == ""
    for clock.now_s in (5.0, 6.0, 100.0):
        hint.check()
    (record,) = caplog.records
    text = record.getMessage()
    assert record.levelname == "WARNING"
    for part in ("job job (some.Task)", "after 5 s", "no worker runs", "queue", world.store.url, "fanout doctor"):
        assert part in text


def test_it_costs_one_request(world: World) -> None:
    """However long a caller waits."""
    job = launch(world)
    assert isinstance(world.store, ScriptedStore)
    clock = Clock()
    hint = NoWorkerHint(world.runtime, job, clock=clock)
    world.store.log.clear()
    for clock.now_s in range(100):
        hint.check()
    assert len(world.store.log) == 1


def test_a_job_that_was_begun_says_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Anything but the intent shows that a worker was there, or that the job has ended."""
    job = launch(world)
    job.ledger.write_heartbeat("setup", Note(by="worker"))
    clock = Clock()
    hint = NoWorkerHint(world.runtime, job, clock=clock)
    clock.now_s = 10.0
    hint.check()
    assert caplog.text == ""


def test_a_job_that_its_caller_sets_up_says_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Its setup needs no worker."""
    job = launch(world, caller_parameters=("numbers",), launch=None)
    clock = Clock()
    hint = NoWorkerHint(world.runtime, job, clock=clock)
    clock.now_s = 10.0
    hint.check()
    assert caplog.text == ""


def test_a_job_that_is_to_start_later_has_its_time(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """With an eta the seconds count from there."""
    job = launch(world, not_before=1_000.0)
    clock, wall = Clock(), Clock()
    world.runtime.now = wall  # type: ignore[method-assign]
    hint = NoWorkerHint(world.runtime, job, clock=clock)
    for clock.now_s, wall.now_s in ((10.0, 990.0), (20.0, 1_000.0), (24.9, 1_004.9)):
        hint.check()
        assert caplog.text == ""
    clock.now_s, wall.now_s = 25.1, 1_005.1
    hint.check()
    assert "no worker has begun it" in caplog.text
