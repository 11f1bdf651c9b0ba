"""A task's signature in Canvas: in chains, groups and chords, with callbacks and errbacks."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from celery import chain, chord, group
from celery.result import AsyncResult

from fanout import InvalidInput, Job, JobCancelled, JobFailed, attach
from fanout.waiting import wait as wait_module

from ..tasks import FailingTask, SumTask, WordCounterTask, find_top_word, list_documents, record_call, record_error
from ..traces import read_lines, wait_until, wait_until_delivered
from .app import WordCount, WordCountTask, resolve_values
from .cluster import Cluster

DOCUMENTS = ["hi there you", "there you are", "please say hi"]
COUNTS = {"there": 2, "please": 1, "say": 1, "hi": 2, "are": 1, "you": 2}
WIDTHS = [0, 1, 2, 200]


@pytest.fixture(params=["redis_cluster", "rpc_cluster"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """A cluster with each kind of result backend."""
    cluster: Cluster = request.getfixturevalue(request.param)
    cluster.app.set_current()
    return cluster


@pytest.mark.parametrize("width", WIDTHS)
def test_an_async_result_returns_the_value(cluster: Cluster, width: int) -> None:
    """An AsyncResult with the signature's task id returns the join's value."""
    result = SumTask.signature({"numbers": list(range(width))}).delay()
    assert result.get(timeout=60) == sum(range(width))


def test_job_and_async_result_share_an_id(cluster: Cluster) -> None:
    """The task id of a launched signature is the id by which any process attaches to the job."""
    result = SumTask.signature({"numbers": [1, 2]}).apply_async()
    assert attach(result.id).get(60) == 3


@pytest.mark.parametrize("width", WIDTHS)
def test_a_job_first_in_a_chain(cluster: Cluster, width: int) -> None:
    """The next task of a chain receives the join's value."""
    line = chain(SumTask.signature({"numbers": list(range(width))}), resolve_values.s())
    assert line().get(timeout=60) == sum(range(width))


def test_a_job_between_two_tasks_of_a_chain(cluster: Cluster) -> None:
    """A signature in the middle of a chain receives the previous value by name and passes on its own value."""
    line = chain(list_documents.s(), WordCounterTask.signature(receives="documents"), find_top_word.s())
    assert line().get(timeout=60) == ["hi", 2]


def test_two_jobs_in_a_chain(cluster: Cluster) -> None:
    """The value of one job is the input of the next."""
    line = chain(FailingTask.signature({"step": "none", "numbers": [1, 2, 4]}), SumTask.signature(receives="numbers"))
    assert line().get(timeout=60) == 7


@pytest.mark.parametrize("way", ["chain", "list", "stream", "signature"])
def test_the_same_input_by_any_way_of_launching(cluster: Cluster, way: str) -> None:
    """A chain, a list and a signature are normalised alike, and values of a user's class arrive.

    A stream that a default would read is refused, and so is a value that the user's validator refuses.
    """
    documents = ["hi there you", "there you are", "please say hi"]
    values = {"begin": WordCount(Counter(hi=1), Decimal("0.5")), "times": "3", "names": ["a", "b"]}
    expected = WordCount(Counter(COUNTS) + Counter(hi=1), Decimal("3033.0"))
    if way == "stream":
        with pytest.raises(InvalidInput, match="documents: is a stream"):
            WordCountTask.submit({**values, "documents": iter(documents)})
        return
    if way == "list":
        job = WordCountTask.submit({**values, "documents": documents})
    elif way == "signature":
        job = WordCountTask.signature({**values, "documents": documents})()
    else:
        line = chain(list_documents.s(), WordCountTask.signature(values, receives="documents"))()
        line.get(timeout=60)
        job = attach(line.id)
    value = job.get(60)
    assert value == expected
    assert type(value.weight) is Decimal
    with pytest.raises(InvalidInput, match="names: must be sorted"):
        WordCountTask.submit({**values, "documents": documents, "names": ["b", "a"]})


def test_a_value_too_large_for_a_message(cluster: Cluster) -> None:
    """A large value is sent as a reference, which the next job resolves."""
    numbers = list(range(30_000))
    one = FailingTask.signature({"step": "none", "numbers": numbers}, chunk_items=5_000)
    line = chain(one, SumTask.signature(receives="numbers", chunk_items=5_000))
    assert line().get(timeout=60) == sum(numbers)


def test_a_chain_whose_value_does_not_fit(cluster: Cluster) -> None:
    """A value that the schema refuses fails the job, and the error has the value's path."""
    result = chain(list_documents.s(), SumTask.signature(receives="numbers"))()
    with pytest.raises(JobFailed, match=r"numbers\[0\]: must be of integer type"):
        result.get(timeout=60)


def test_a_value_without_a_receiver(cluster: Cluster) -> None:
    """A value for a signature without `receives` fails the job, and the error names the remedy."""
    result = chain(list_documents.s(), SumTask.signature({"numbers": [1]}))()
    with pytest.raises(JobFailed, match="receives="):
        result.get(timeout=60)


def test_an_immutable_signature_ignores_the_value_before(cluster: Cluster) -> None:
    """An immutable signature runs with its own input."""
    line = chain(list_documents.s(), SumTask.signature({"numbers": [1, 2]}).set(immutable=True))
    assert line().get(timeout=60) == 3


def test_jobs_in_a_group(cluster: Cluster) -> None:
    """In a group, a job of any width counts as one task."""
    result = group(SumTask.signature({"numbers": list(range(width))}) for width in WIDTHS)()
    assert result.get(timeout=60) == [sum(range(width)) for width in WIDTHS]


def test_jobs_in_a_chord_header(redis_cluster: Cluster) -> None:
    """A chord's body receives the values of its header's jobs, in order, once all have ended."""
    redis_cluster.app.set_current()
    header = [SumTask.signature({"numbers": list(range(width))}) for width in WIDTHS]
    assert chord(header)(resolve_values.s()).get(timeout=60) == [sum(range(width)) for width in WIDTHS]


def test_chains_in_a_chord_header(redis_cluster: Cluster) -> None:
    """A chord's header may hold chains with a job in the middle."""
    redis_cluster.app.set_current()
    header = [
        chain(list_documents.s(), WordCounterTask.signature(receives="documents"), find_top_word.s()) for _ in range(3)
    ]
    assert chord(header)(resolve_values.s()).get(timeout=60) == [["hi", 2]] * 3


def test_a_job_as_a_chord_body(redis_cluster: Cluster) -> None:
    """A job that is the body of a chord receives the list of the header's values."""
    redis_cluster.app.set_current()
    header = [SumTask.signature({"numbers": list(range(width))}) for width in WIDTHS]
    body = SumTask.signature(receives="numbers")
    assert chord(header)(body).get(timeout=60) == sum(sum(range(width)) for width in WIDTHS)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_callback_fires_once(cluster: Cluster, width: int, tmp_path: Path) -> None:
    """A callback fires once, with the join's value."""
    path = tmp_path / "calls"
    signature = SumTask.signature({"numbers": list(range(width))})
    signature.link(record_call.s(str(path)))
    job: Job = signature()
    job.get(60)
    wait_until(lambda: bool(read_lines(path)), "the callback was called")
    wait_until_delivered(job)
    assert [json.loads(line) for line in read_lines(path)] == [sum(range(width))]


@pytest.mark.parametrize("step", ["setup", "process", "join"])
def test_an_errback_fires_once(cluster: Cluster, step: str, tmp_path: Path) -> None:
    """An errback fires once when any step fails, and no callback fires."""
    calls, errors = tmp_path / "calls", tmp_path / "errors"
    signature = FailingTask.signature({"step": step, "numbers": [1, 2, 3, 4]})
    signature.link(record_call.s(str(calls)))
    signature.link_error(record_error.s(str(errors)))
    job: Job = signature()
    with pytest.raises(JobFailed, match=f"{step} was told to fail"):
        job.get(60)
    wait_until(lambda: bool(read_lines(errors)), "the errback was called")
    wait_until_delivered(job)
    assert len(read_lines(errors)) == 1
    assert f"{step} was told to fail" in read_lines(errors)[0]
    assert not calls.exists()


def test_a_failed_job_through_async_result(cluster: Cluster) -> None:
    """AsyncResult.get raises an error that names task, job, chunk and item and has the worker's traceback."""
    result = FailingTask.signature({"step": "process", "numbers": [1, 2, 3, 4]}).delay()
    with pytest.raises(JobFailed) as caught:
        result.get(timeout=60)
    error = caught.value
    assert (error.job_id, error.step, error.chunk, error.item, error.attempts) == (result.id, "process", 1, 2, 3)
    assert error.task.endswith("FailingTask")
    assert "in process" in error.traceback_text
    assert "ValueError: process was told to fail at 3" in error.traceback_text


def test_a_later_launch_is_another_job(cluster: Cluster) -> None:
    """A signature may be called twice, and each call launches a new job."""
    signature = SumTask.signature({"numbers": [1, 2]})
    first, second = signature(), signature()
    assert first.id != second.id
    assert (first.get(60), second.get(60)) == (3, 3)


def test_an_async_result_is_celerys_own(cluster: Cluster) -> None:
    """`delay` and `apply_async` return an `AsyncResult`, as for any task."""
    assert isinstance(SumTask.signature({"numbers": []}).delay(), AsyncResult)


def test_an_errback_of_a_job_cancelled_before_it_began(cluster: Cluster, tmp_path: Path) -> None:
    """A job that is cancelled before setup is reported once, when its message arrives."""
    errors = tmp_path / "errors"
    signature = SumTask.signature({"numbers": [1, 2]})
    signature.link_error(record_error.s(str(errors)))
    result = signature.apply_async(countdown=1)
    assert attach(result.id).cancel()
    with pytest.raises(JobCancelled):
        result.get(timeout=60)
    wait_until(lambda: bool(read_lines(errors)), "the errback was called")
    wait_until_delivered(attach(result.id))
    assert len(read_lines(errors)) == 1


def test_redis_notifies_the_caller(redis_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Redis as result backend, `get` is notified of the end without polling the store, and consumes no result."""
    redis_cluster.app.set_current()
    monkeypatch.setattr(wait_module, "FIRST_POLL_BESIDE_LISTENER_S", 60.0)
    monkeypatch.setattr(wait_module, "LAST_POLL_S", 60.0)
    job = SumTask.signature({"numbers": [1, 2]})()
    assert job.get(timeout=50) == 3
    assert AsyncResult(job.id, app=redis_cluster.app).get(timeout=10) == 3
