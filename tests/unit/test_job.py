"""A `Job` reads everything from the store, and waits without an engine."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import Any

import pytest

from fanout import JobCancelled, JobFailed, JobNotFound, JobState, JobTimeout, Progress
from fanout.abc import PollingOnly
from fanout.job import Job
from fanout.records.failure import Failure
from fanout.records.keys import job_prefix
from fanout.records.models import ChunkResult, OutcomeStatus
from fanout.removal import remove_job
from fanout.stages import conclude, run_process
from fanout.waiting import view
from tests.tasks import FailingTask

from .tasks import Numbers
from .world import World, worker


def test_get_waits_for_the_value(world: World) -> None:
    """get returns the value once the job has ended, and again without a further request."""
    job = world.job(world.launch(Numbers, {"numbers": [1, 2]}))
    with worker(world):
        assert job.get(timeout=30) == [1, 2]
    world.store.log.clear()
    assert job.get() == [1, 2]
    assert job.ready
    assert world.store.log == []


@pytest.mark.parametrize(("new_s", "looks"), [(1e9, 2), (0.0, 3)])
def test_get_begins_to_wait_for_a_new_job(
    world: World, monkeypatch: pytest.MonkeyPatch, new_s: float, looks: int
) -> None:
    """A caller that has just launched a job does not ask whether it has ended before it begins to wait."""
    monkeypatch.setattr(view, "NEW_S", new_s)
    ledger = world.launch(Numbers, {"numbers": [1, 2]})

    class Listener(PollingOnly):
        def wait(self, timeout_s: float) -> None:
            world.dispatcher.drain(world.process())

    world.runtime.listener = lambda job_id: nullcontext(Listener())
    world.store.log.clear()
    assert world.job(ledger).get(30) == [1, 2]
    # The join's worker asks as well.
    assert world.store.log.count(("get", ledger.keys.outcome)) == looks + 1


def test_get_raises_after_its_timeout(world: World) -> None:
    """The job continues after the timeout, and get may be called again."""
    job = world.job(world.launch(Numbers, {"numbers": [1]}))
    for timeout in (0, 0.01):
        with pytest.raises(JobTimeout, match="has not ended within"):
            job.get(timeout)
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == [1]


def test_get_sweeps_while_it_waits() -> None:
    """The caller that waits for a job sends its setup message again if it was lost."""
    world = World(stall_s=0.01)
    job = world.job(world.launch(Numbers, {"numbers": [1]}))
    world.dispatcher.lose()
    with worker(world):
        assert job.get(timeout=30) == [1]
    assert len(world.dispatcher.setups) >= 2


def test_get_keeps_its_timeout_while_the_broker_is_down() -> None:
    """A sweep that hangs in a broker without an answer does not delay the caller, and only one sweep runs at a time."""
    world = World(stall_s=0.01)
    job = world.job(world.launch(Numbers, {"numbers": [1]}))
    world.dispatcher.lose()
    back, hanging = threading.Event(), []

    def hang(job_id: str, intent: Any, *, generation: int = 0, resent: bool = False) -> None:
        hanging.append(job_id)
        assert back.wait(30)

    world.dispatcher.send_setup = hang  # type: ignore[method-assign]
    with pytest.raises(JobTimeout):
        job.get(timeout=0.3)
    back.set()
    assert hanging == [job.id]


def test_get_raises_if_the_job_is_removed() -> None:
    """A caller that waits for a job gets JobNotFound if the job is removed."""
    world = World(stall_s=0.01)
    ledger = world.launch(Numbers, {"numbers": [1]})
    job = world.job(ledger)

    world.store.before_first("list", job_prefix(ledger.job_id), lambda: remove_job(world.store, ledger.job_id))
    with pytest.raises(JobNotFound):
        job.get(timeout=30)


def test_get_raises_the_failure(world: World) -> None:
    """The error names task, job, step, chunk and item, and has the worker's traceback."""
    job = world.job(world.launch(FailingTask, {"step": "process", "numbers": [0, 1, 2, 3]}))
    world.dispatcher.drain(world.runtime)
    with pytest.raises(JobFailed) as caught:
        job.get()
    error = caught.value
    assert (error.job_id, error.task, error.step, error.chunk, error.item, error.attempts) == (
        job.id,
        FailingTask.name,
        "process",
        1,
        3,
        3,
    )
    assert error.reason == "ValueError: process was told to fail at 3"
    assert "in process" in error.traceback_text


@pytest.mark.parametrize(
    "call",
    [
        lambda job: job.get(0),
        lambda job: job.state,
        lambda job: job.progress(),
        lambda job: job.cancel(),
        lambda job: next(iter(job)),
    ],
)
def test_a_job_that_was_never_launched_is_not_found(world: World, call: Any) -> None:
    """Every method of a job that was never launched raises an error that names the store."""
    with pytest.raises(JobNotFound, match=world.store.url):
        call(Job("unknown-job", world.runtime))
    assert world.store.keys() == []


def test_a_job_passes_through_its_states(world: World) -> None:
    """A job is launched, processing, joining and succeeded, and its progress has the number of results."""
    ledger = world.launch(Numbers, {"numbers": [1, 2]})

    def progress() -> Progress:
        return world.job(ledger).progress()

    assert progress() == Progress(JobState.LAUNCHED, 0, None, None)
    assert progress().fraction is None
    world.dispatcher.deliver(world.runtime)
    assert progress() == Progress(JobState.PROCESSING, 0, 2, 2)
    world.dispatcher.deliver(world.runtime)
    assert progress() == Progress(JobState.PROCESSING, 1, 2, 2)
    assert progress().fraction == 0.5
    world.dispatcher.deliver(world.runtime)
    assert progress() == Progress(JobState.JOINING, 2, 2, 2)
    assert not world.job(ledger).ready
    world.dispatcher.deliver(world.runtime)
    assert progress() == Progress(JobState.SUCCEEDED, 2, 2, 2)
    assert world.job(ledger).ready


def test_a_job_without_chunks_is_complete(world: World) -> None:
    """A job without chunks has succeeded, and its progress is 1.0."""
    job = world.job(world.launch(Numbers, {"numbers": []}))
    world.dispatcher.drain(world.runtime)
    assert job.progress() == Progress(JobState.SUCCEEDED, 0, 0, 0)
    assert job.progress().fraction == 1.0
    assert list(job) == []


@pytest.mark.parametrize("step", ["setup", "process", "join"])
def test_a_failure_of_any_step_fails_the_job(world: World, step: str) -> None:
    """Whichever step failed, the state is failed and get raises the failure."""
    job = world.job(world.launch(FailingTask, {"step": step, "numbers": [1, 2, 3]}))
    world.dispatcher.drain(world.runtime)
    assert job.state == JobState.FAILED
    with pytest.raises(JobFailed, match=rf"FailingTask\.{step}.*{step} was told to fail"):
        job.get()


def test_a_cancelled_job_stays_cancelled(world: World) -> None:
    """A cancelled job may be cancelled again and stays cancelled. No worker runs its steps any more."""
    ledger = world.launch(Numbers, {"numbers": [1, 2]})
    job = world.job(ledger)
    assert job.cancel()
    assert job.cancel()
    assert job.state == JobState.CANCELLED
    with pytest.raises(JobCancelled, match="cancelled by its caller"):
        job.get()
    world.dispatcher.drain(world.process())
    assert ledger.manifest() is None
    assert len(world.dispatcher.deliveries) == 1


def test_an_ended_job_cannot_be_cancelled(world: World) -> None:
    """cancel returns False for a job that has ended, and the value remains."""
    job = world.job(world.launch(Numbers, {"numbers": [1]}))
    world.dispatcher.drain(world.runtime)
    assert not job.cancel()
    assert job.get() == [1]


def test_results_are_iterated_before_the_join(world: World) -> None:
    """Iteration gives each result as soon as it and all results before it are written, before the join."""
    ledger = world.launch(Numbers, {"numbers": [5, 6, 7]})
    world.dispatcher.deliver(world.runtime)
    results = iter(world.job(ledger))
    run_process(world.runtime, world.refs[0])
    assert next(results) == 5
    run_process(world.runtime, world.refs[2])
    run_process(world.runtime, world.refs[1])
    assert list(results) == [6, 7]
    assert list(world.job(ledger)) == [5, 6, 7]


def test_iteration_waits_for_results(world: World) -> None:
    """A caller may begin to iterate before any step has run."""
    job = world.job(world.launch(Numbers, {"numbers": list(range(20))}))
    with worker(world):
        assert list(job) == list(range(20))


def test_iteration_of_a_failed_job_raises(world: World) -> None:
    """Iteration gives the results before the failure and then raises the job's error."""
    job = world.job(world.launch(FailingTask, {"step": "process", "numbers": [0, 1, 2, 3]}))
    world.dispatcher.drain(world.runtime)
    results = []
    with pytest.raises(JobFailed, match="process was told to fail at 3"):
        results.extend(job)
    job = world.job(world.launch(FailingTask, {"step": "setup", "numbers": [0]}))
    world.dispatcher.drain(world.runtime)
    with pytest.raises(JobFailed, match="setup was told to fail"):
        list(job)


def test_iteration_raises_the_failure_before_the_outcome_exists(world: World) -> None:
    """Between a failed result and the outcome, too, iteration raises the public error."""
    ledger = world.prepare(Numbers, {"numbers": [1]})
    failure = Failure("process", "ValueError", "no", "", 0, 0, 3)
    ledger.write_result(
        world.refs[0].setup_id,
        ChunkResult(chunk=0, first_item=0, items=1, values=b"", stats=[], failure=failure),
    )

    def write() -> None:
        conclude(world.runtime, world.runtime.job(ledger.job_id), OutcomeStatus.FAILED, failure)

    writing = threading.Thread(target=write)
    world.store.before_first("get", "/results/", writing.start)
    with pytest.raises(JobFailed, match="ValueError: no"):
        list(world.job(ledger))
    writing.join(30)


def test_remove_leaves_nothing(world: World) -> None:
    """A caller can remove an ended job. Another process then does not find it."""
    job = world.job(world.launch(Numbers, {"numbers": [1]}))
    world.dispatcher.drain(world.runtime)
    assert job.remove() > 5
    assert world.store.keys() == []
    with pytest.raises(JobNotFound):
        Job(job.id, world.process()).get(0)


def test_a_removed_job_is_not_found_in_the_same_process(world: World) -> None:
    """A process that has cached a job's intent raises JobNotFound after the job is removed."""
    job = world.job(world.launch(Numbers, {"numbers": [1]}))
    world.dispatcher.drain(world.runtime)
    job.remove()
    with pytest.raises(JobNotFound):
        Job(job.id, world.runtime).get(0)


def test_a_removed_job_cannot_be_cancelled(world: World) -> None:
    """Cancelling a removed job raises an error and leaves no object behind."""
    job = world.job(world.launch(Numbers, {"numbers": [1]}))
    world.dispatcher.drain(world.runtime)
    job.remove()
    with pytest.raises(JobNotFound):
        job.cancel()
    assert world.store.keys() == []


def test_reports_read_the_records(world: World) -> None:
    """Manifest, outcome and chunk results are available to reports once they are written."""
    job = world.job(world.launch(Numbers, {"numbers": [1, 2]}))
    assert (job.ledger.manifest(), job.ledger.outcome(), job.report().recorded.runs) == (None, None, ())
    world.dispatcher.drain(world.runtime)
    manifest, outcome = job.ledger.manifest(), job.ledger.outcome()
    assert manifest is not None
    assert outcome is not None
    assert [run.chunk for run in job.report().recorded.runs] == [0, 1]
    assert repr(job) == f"<Job {job.id}>"
