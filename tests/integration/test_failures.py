"""Jobs that fail, are cancelled or are late, as their callers see them."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from celery import Celery

import fanout
from fanout import InvalidInput, Job, JobCancelled, JobFailed, JobNotFound, JobState, JobTimeout, attach
from storage import Unencodable

from ..tasks import FailingTask, SlowTask, SumTask
from ..traces import wait_until, wait_until_delivered
from .cluster import Cluster


@pytest.fixture
def cluster(redis_cluster: Cluster, tmp_path: Path) -> Cluster:
    redis_cluster.app.set_current()
    return replace(redis_cluster, trace=tmp_path)


@pytest.mark.parametrize("step", ["setup", "process", "join"])
def test_the_error_names_the_failed_step(cluster: Cluster, step: str) -> None:
    """A failed job raises an error with task, job and step, and the worker's traceback as text."""
    job = FailingTask.submit({"step": step, "numbers": [1, 2, 3, 4]})
    with pytest.raises(JobFailed) as caught:
        job.get(60)
    error = caught.value
    assert (error.job_id, error.step) == (job.id, step)
    assert error.task == FailingTask.name
    assert f"{step} was told to fail" in error.traceback_text
    assert job.state is JobState.FAILED


def test_a_refused_input_leaves_no_object() -> None:
    """An input that the schema refuses raises at once with all paths, and nothing is stored or sent."""
    # The test has its own store, because jobs of other tests may still write to the cluster's.
    with Celery("refused", broker="memory://", set_as_current=False) as app:
        fanout.connect(app, store=f"memory://{uuid.uuid4().hex}")
        with pytest.raises(InvalidInput) as caught:
            SumTask.submit({"numbers": [1, "two", 3, None], "surplus": 1}, app=app)
        assert set(caught.value.errors) == {"numbers[1]", "numbers[3]", "surplus"}
        assert list(app.fanout.runtime.store.list()) == []  # type: ignore[attr-defined]


def test_a_parameter_that_cannot_be_encoded_is_refused(cluster: Cluster) -> None:
    """A value that cannot be encoded is refused in the caller, with its path."""
    with pytest.raises(Unencodable, match=r"numbers\[1\]\.what"):
        SlowTask.signature({"numbers": [1, {"what": object()}], "trace": ""})


def test_a_wrong_element_of_a_stream_fails_the_job(cluster: Cluster) -> None:
    """An invalid element of a stream ends the job, and `submit` raises with its index."""
    with pytest.raises(JobFailed, match=r"numbers\[2\]: must be of integer type"):
        SumTask.submit({"numbers": iter([1, 2, "three"])})


def test_a_cancelled_job_stops(cluster: Cluster) -> None:
    """A cancelled job ends at once for its caller, and its workers skip the remaining chunks."""
    numbers = list(range(100))
    job = SlowTask.submit({"numbers": numbers, "trace": str(cluster.trace), "pause_s": 0.3})
    cluster.wait_for_pid("process-0")
    assert job.cancel()
    with pytest.raises(JobCancelled):
        job.get(60)
    assert job.state is JobState.CANCELLED
    # Another job succeeds although many messages of the cancelled job are before its messages in the queue.
    assert SumTask.submit({"numbers": [1, 2]}).get(60) == 3
    assert len(cluster.runs("process-*")) < len(numbers)
    assert not cluster.runs("join")


def test_cancel_after_the_end_changes_nothing(cluster: Cluster) -> None:
    """Cancelling a job that has ended changes nothing."""
    job = SumTask.submit({"numbers": [1, 2]})
    assert job.get(60) == 3
    assert not job.cancel()
    assert attach(job.id).get(60) == 3


def test_a_job_fails_at_its_deadline(cluster: Cluster) -> None:
    """A job that has not ended by its deadline fails, and the error says so."""
    job = SlowTask.submit({"numbers": list(range(40)), "trace": str(cluster.trace), "pause_s": 0.5}, deadline_s=1.0)
    with pytest.raises(JobFailed, match="deadline"):
        job.get(60)


def test_a_timeout_leaves_the_job_alone(cluster: Cluster) -> None:
    """A `get` that times out raises, and the job continues."""
    job = SlowTask.submit({"numbers": [1, 2, 3], "trace": str(cluster.trace), "pause_s": 0.3})
    with pytest.raises(JobTimeout, match=job.id):
        job.get(0.05)
    assert job.get(60) == 6


def test_progress_rises_to_the_number_of_chunks(cluster: Cluster) -> None:
    """Progress rises to the number of chunks, and finally reports success."""
    job = SlowTask.submit({"numbers": list(range(10)), "trace": str(cluster.trace), "pause_s": 0.1})
    history = []
    wait_until(lambda: history.append(job.progress()) or job.ready, "the job has ended")  # type: ignore[func-returns-value]
    done = [progress.chunks_done for progress in history]
    assert done == sorted(done)
    last = job.progress()
    assert (last.chunks_done, last.chunks, last.items, last.fraction) == (10, 10, 10, 1.0)
    assert last.state is JobState.SUCCEEDED


def test_an_unknown_job_is_named(cluster: Cluster) -> None:
    """The error for a job that the store does not have names the job."""
    with pytest.raises(JobNotFound, match="no-such-job"):
        attach("no-such-job").get(1)


def test_a_removed_job_leaves_no_object(cluster: Cluster) -> None:
    """A removed job leaves no object."""
    job: Job = SumTask.submit({"numbers": [1, 2, 3]})
    job.get(60)
    wait_until_delivered(job)
    assert job.remove() > 0
    assert list(job.ledger.objects()) == []
