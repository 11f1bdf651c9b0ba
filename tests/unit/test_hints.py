"""A caller that waits for a job that no worker begins gets one hint about the possible causes."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from fanout.cached_job import CachedJob
from fanout.hints import NoWorkerHint
from fanout.records.models import Intent, Note
from tests.stores import ScriptedStore

from .world import World


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def launch(world: World, **changes: object) -> CachedJob:
    intent = Intent(
        launch_id="launch", task="some.Task", inline=b"", references={}, options={}, created_at=time.time(), launch="{}"
    )
    return world.runtime.launch("job", replace(intent, **changes))  # type: ignore[arg-type]


def test_the_hint_is_logged_once_and_names_the_causes(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """After some seconds the log has one line with the job, the task, the store and what to check."""
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
    for part in (
        "job job (some.Task)",
        "after 5 s",
        "no worker runs",
        "queue",
        world.store.url,
        world.runtime.start_hint,
    ):
        assert part in text


def test_the_hint_costs_one_request(world: World) -> None:
    """The hint costs one request, however long the caller waits."""
    job = launch(world)
    assert isinstance(world.store, ScriptedStore)
    clock = Clock()
    hint = NoWorkerHint(world.runtime, job, clock=clock)
    world.store.log.clear()
    for clock.now_s in range(100):
        hint.check()
    assert len(world.store.log) == 1


def test_a_job_that_a_worker_began_gives_no_hint(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Any record but the intent shows that a worker began the job, or that the job has ended."""
    job = launch(world)
    job.ledger.write_heartbeat("setup", Note(by="worker"))
    clock = Clock()
    hint = NoWorkerHint(world.runtime, job, clock=clock)
    clock.now_s = 10.0
    hint.check()
    assert caplog.text == ""


def test_a_job_that_its_caller_sets_up_gives_no_hint(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A setup in the caller needs no worker."""
    job = launch(world, caller_parameters=("numbers",), launch=None)
    clock = Clock()
    hint = NoWorkerHint(world.runtime, job, clock=clock)
    clock.now_s = 10.0
    hint.check()
    assert caplog.text == ""


def test_the_hint_of_a_later_job_counts_from_its_eta(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The seconds until the hint count from the job's eta."""
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
