"""Tolerated failures, retries and repeated submissions over real workers, a real broker and a real store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import chain
from celery.result import AsyncResult

from fanout import JobConflict, JobFailed, JobState, attach
from fanout.engines.submission import Submission

from ..tasks import SumTask, record_call
from ..traces import read_lines, wait_until, wait_until_delivered
from .app import FailOnFileTask, PoisonTask, resolve_values
from .cluster import Cluster, running_cluster


@pytest.fixture
def cluster(redis_cluster: Cluster) -> Cluster:
    redis_cluster.app.set_current()
    return redis_cluster


@pytest.fixture
def failing_input(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that makes an input of which some numbers fail until `clear_failures` is called."""

    def make(*failing_numbers: int, items: int = 10) -> dict[str, Any]:
        failing, trace = tmp_path / "failing", tmp_path / "trace"
        failing.mkdir()
        trace.mkdir()
        for number in failing_numbers:
            (failing / str(number)).touch()
        return {"numbers": list(range(items)), "failing": str(failing), "trace": str(trace)}

    return make


def clear_failures(values: dict[str, Any]) -> None:
    """Let all numbers succeed from now on, and delete the traces."""
    for path in (*Path(values["failing"]).iterdir(), *Path(values["trace"]).iterdir()):
        path.unlink()


def run_numbers(values: dict[str, Any]) -> list[int]:
    """Return the numbers of all runs of process."""
    return sorted(int(path.name.split(".")[0].split("-")[1]) for path in Path(values["trace"]).iterdir())


def test_a_tolerant_job_lists_its_failed_items(cluster: Cluster, failing_input: Callable[..., dict[str, Any]]) -> None:
    """Failed items are listed and all others count. One failure more than tolerated fails the job, with an error."""
    values = failing_input(3, 7)
    job = FailOnFileTask.submit(values, tolerate=0.2)
    assert job.get(60) == {"sum": 45 - 10, "failed": [3, 7]}
    assert [(failed.item, failed.reason) for failed in job.failures] == [
        (3, "3 was told to fail"),
        (7, "7 was told to fail"),
    ]
    assert run_numbers(values).count(3) == 2
    with pytest.raises(JobFailed, match=r"items failed, at most 1 may \(tolerate=1\): item 3: ValueError: 3 was"):
        FailOnFileTask.submit(values, tolerate=1).get(60)


def test_a_chunk_that_kills_its_worker_is_tolerated(cluster: Cluster, tmp_path: Path) -> None:
    """An item that kills its worker fails after `max_attempts` runs by itself, and all other items have results."""
    values = {"numbers": list(range(10)), "poison": 4, "trace": str(tmp_path)}
    job = PoisonTask.submit(values, tolerate=1)
    assert job.get(120) == 45 - 4
    assert [(failed.item, failed.error, failed.attempts) for failed in job.failures] == [(4, "WorkerLost", 3)]
    # A batch that lasted is shared out before its worker dies, and then the chunk's run in it counts.
    assert len(list(tmp_path.glob("process-4.*"))) in (3, 1 + 3)


def test_a_retry_continues_the_chain(
    cluster: Cluster, failing_input: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """After the retry of a job that failed in a chain, its result, its callback and the rest of the chain follow."""
    values = failing_input(3)
    after = tmp_path / "after"
    signature = FailOnFileTask.signature(values)
    signature.link(record_call.s(str(after)))
    last = chain(signature, resolve_values.s())()
    first: AsyncResult[Any] = last.parent
    with pytest.raises(JobFailed, match="3 was told to fail"):
        first.get(timeout=60)
    job = attach(first.id)
    wait_until_delivered(job)
    manifest = job.ledger.manifest()
    assert manifest is not None
    good = {
        item
        for entry in job.ledger.result_entries(manifest.setup_id)
        if not entry.failed
        for item in range(2 * entry.index, 2 * (entry.index + entry.count))
    }
    clear_failures(values)
    assert job.retry()
    assert job.get(60) == {"sum": 45, "failed": []}
    assert {2, 3} <= set(run_numbers(values))
    assert not good & set(run_numbers(values)), "good results were kept"
    wait_until(lambda: AsyncResult(first.id, app=cluster.app).state == "SUCCESS", "the result followed")
    assert AsyncResult(first.id, app=cluster.app).get(timeout=60) == {"sum": 45, "failed": []}
    # Celery had also stored the failure for the rest of the chain.
    wait_until(lambda: AsyncResult(last.id, app=cluster.app).state == "SUCCESS", "the chain continued")
    assert AsyncResult(last.id, app=cluster.app).get(timeout=60) == {"sum": 45, "failed": []}
    wait_until(lambda: len(read_lines(after)) == 1, "the callback was called")
    assert not AsyncResult(first.id, app=cluster.app).failed()


def test_a_job_submitted_twice_is_one_job(cluster: Cluster, failing_input: Callable[..., dict[str, Any]]) -> None:
    """The second submission returns the first one's job, before and after its end. Another input is refused."""
    values = failing_input()
    jobs = [FailOnFileTask.submit(values, job_id=f"order-{values['trace'].replace('/', '-')}") for _ in range(2)]
    assert [job.get(60)["sum"] for job in jobs] == [45, 45]
    again = FailOnFileTask.submit(values, job_id=jobs[0].id)
    assert (again.state, again.get(60)["sum"]) == (JobState.SUCCEEDED, 45)
    with pytest.raises(JobConflict, match="its parameter 'numbers' has another value"):
        FailOnFileTask.submit({**values, "numbers": [1]}, job_id=jobs[0].id)
    outcomes = [info.key for info in jobs[0].ledger.objects() if info.key.endswith("/outcome")]
    assert len(outcomes) == 1


@pytest.mark.slow
def test_a_periodic_sweep_continues_a_job_without_a_caller(rabbitmq: Any, ceph_gateway: Any, tmp_path: Path) -> None:
    """With `sweep_every_s`, a sweep by celery beat runs a job whose message was lost, without a waiting caller."""
    environment = {
        **ceph_gateway.environment,
        "TEST_BROKER": rabbitmq.url,
        "FANOUT_SWEEP_EVERY_S": "0.5",
    }
    args = ("--without-gossip", "--without-mingle", "--beat", "--schedule", str(tmp_path / "schedule"))
    with running_cluster(tmp_path, environment, workers=1, args=args, stall_s=1.0) as cluster:
        extension = cluster.app.fanout  # type: ignore[attr-defined]
        runtime = extension.runtime
        submission = Submission.of(
            SumTask.declaration, {"numbers": [1, 2, 3]}, store=runtime.store, inline_bytes=4096, options={}
        )
        runtime.launch("lost", submission.intent())
        job = extension.job("lost")
        wait_until(lambda: job.ready, "a sweep launched the job")
        assert job.get(0) == 6
