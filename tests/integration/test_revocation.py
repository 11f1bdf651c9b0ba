"""Revocation cancels a job, at any time and by any of Celery's ways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chord
from celery.canvas import StampingVisitor
from celery.result import AsyncResult

from devstack import CephGateway, RabbitMQ, Redis
from fanout import Job, JobCancelled, JobFailed, JobState, attach

from ..tasks import SlowTask, SumTask, record_error
from ..traces import read_lines, wait_until, wait_until_delivered
from .app import resolve_values
from .cluster import Cluster, running_cluster


@pytest.fixture(scope="module")
def cluster(
    rabbitmq: RabbitMQ, redis_server: Redis, ceph_gateway: CephGateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    environment = {**ceph_gateway.environment, "TEST_BROKER": rabbitmq.url, "TEST_BACKEND": redis_server.url}
    directory = tmp_path_factory.mktemp("revocation")
    with running_cluster(directory, environment, workers=1, args=("--without-gossip", "--without-mingle")) as cluster:
        yield cluster


def make_values(trace: Path, **others: Any) -> dict[str, Any]:
    return {"numbers": list(range(30)), "trace": str(trace), "pause_s": 0.4, **others}


def assert_cancelled(cluster: Cluster, job: Job, *, message: str = "its Celery task was revoked") -> None:
    """Assert that the job is cancelled and delivered, and that Celery's state is REVOKED."""
    with pytest.raises(JobCancelled, match=message):
        job.get(30)
    assert job.state is JobState.CANCELLED
    wait_until_delivered(job)
    assert AsyncResult(job.id, app=cluster.app).state == "REVOKED"


def test_a_job_revoked_before_its_setup(cluster: Cluster, tmp_path: Path) -> None:
    """A job with a countdown is cancelled at once, and does not run after the countdown."""
    result = SlowTask.signature(make_values(tmp_path)).apply_async(countdown=3)
    result.revoke()
    with pytest.raises(JobCancelled):
        attach(result.id).get(30)
    assert_cancelled(cluster, attach(result.id))
    assert list(tmp_path.iterdir()) == []


def test_a_job_revoked_while_chunks_run(cluster: Cluster, tmp_path: Path) -> None:
    """A running job stops before its next chunks, in all workers."""
    job = SlowTask.submit(make_values(tmp_path))
    wait_until(lambda: any(tmp_path.glob("process-*")), "chunks run")
    cluster.app.control.revoke(job.id)
    assert_cancelled(cluster, job)
    assert len(list(tmp_path.glob("process-*"))) < 30
    assert list(tmp_path.glob("join.*")) == []


def test_a_job_terminated_in_setup(cluster: Cluster, tmp_path: Path) -> None:
    """`terminate=True` kills setup, which does not run again."""
    result = SlowTask.signature(make_values(tmp_path, setup_pause_s=60.0)).delay()
    wait_until(lambda: any(tmp_path.glob("setup.*")), "setup runs")
    result.revoke(terminate=True)
    assert_cancelled(cluster, attach(result.id))
    assert SumTask.submit({"numbers": [1, 2]}).get(60) == 3
    assert len(list(tmp_path.glob("setup.*"))) == 1


class AddStamp(StampingVisitor):
    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return {"tenant": "acme", "stamped_headers": ["tenant"]}


def test_a_job_revoked_by_a_stamp(cluster: Cluster, tmp_path: Path) -> None:
    """The stamp identifies the job's next message, which ends the job."""
    signature = SlowTask.signature(make_values(tmp_path))
    signature.stamp(AddStamp())
    result = signature.delay()
    wait_until(lambda: any(tmp_path.glob("process-*")), "chunks run")
    cluster.app.control.revoke_by_stamped_headers({"tenant": ["acme"]})
    assert_cancelled(cluster, attach(result.id))
    assert len(list(tmp_path.glob("process-*"))) < 30


def test_a_job_whose_message_expired(cluster: Cluster, tmp_path: Path) -> None:
    """A job whose expired message a worker discards ends at once, not at the next sweep."""
    result = SlowTask.signature(make_values(tmp_path)).apply_async(countdown=1.5, expires=1)
    with pytest.raises(JobFailed, match="expired before a worker took it"):
        attach(result.id).get(20)
    wait_until_delivered(attach(result.id))
    assert AsyncResult(result.id, app=cluster.app).state == "REVOKED"


def test_a_chord_with_a_revoked_job_fails_once(cluster: Cluster, tmp_path: Path) -> None:
    """A chord with a revoked job fails once."""
    calls = tmp_path / "calls"
    body = resolve_values.s()
    body.link_error(record_error.s(path=str(calls)))
    header = [SlowTask.signature(make_values(tmp_path)), SumTask.signature({"numbers": [1]})]
    result = chord(header)(body)
    wait_until(lambda: any(tmp_path.glob("process-*")), "chunks run")
    revoked = next(member for member in result.parent.results if attach(member.id).progress().chunks == 30)
    revoked.revoke()
    assert_cancelled(cluster, attach(revoked.id))
    wait_until(lambda: bool(read_lines(calls)), "the chord's errback was called")
    # Celery calls the errback first and writes the chord's state afterwards.
    wait_until(lambda: AsyncResult(result.id, app=cluster.app).state == "FAILURE", "the chord has failed")
    assert len(read_lines(calls)) == 1


def test_a_revoked_job_does_not_run_on_new_workers(cluster: Cluster, tmp_path: Path) -> None:
    """After all workers, and their lists of revoked tasks, are gone, the job stays cancelled and does not run."""
    job = SlowTask.submit(make_values(tmp_path))
    wait_until(lambda: any(tmp_path.glob("process-*")), "chunks run")
    cluster.app.control.revoke(job.id)
    wait_until(lambda: job.ready, "the outcome is recorded")
    for worker in cluster.workers:
        worker.kill()
    before = len(list(tmp_path.glob("process-*")))
    cluster.start_worker()
    # The worker may have been killed before it delivered the outcome. A sweep then delivers it.
    with pytest.raises(JobCancelled):
        job.get(timeout=60)
    assert SumTask.submit({"numbers": [1, 2]}).get(60) == 3
    assert len(list(tmp_path.glob("process-*"))) == before
