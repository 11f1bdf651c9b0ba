"""Quorum queues, Redis as the broker, consumer timeouts, and workers that receive signals to stop."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devstack import CeleryWorker, CephGateway, RabbitMQ, Rclone, Redis
from fanout import JobFailed
from fanout.records.keys import process_step
from storage import StorageError

from ..tasks import SlowTask, SumTask
from ..traces import wait_until
from .app import PoisonTask
from .cluster import PATIENT_STALL_S, Cluster, running_cluster

QUORUM = {
    "task_default_queue_type": "quorum",
    "task_default_exchange_type": "topic",
    "worker_detect_quorum_queues": True,
}
# Celery takes up to 10 s to notice a child's death. With a lower time limit, Celery might notice the limit first.
REDIS = {
    "broker_transport_options": {"visibility_timeout": 20},
    "task_time_limit": 15,
    "worker_soft_shutdown_timeout": 1.0,
    "worker_enable_soft_shutdown_on_idle": True,
}


@pytest.fixture(scope="module", params=["quorum", "redis"])
def shared(
    request: pytest.FixtureRequest,
    ceph_gateway: CephGateway,
    redis_server: Redis,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    """RabbitMQ's quorum queues, or Redis as the broker."""
    settings: dict[str, Any] = QUORUM if request.param == "quorum" else REDIS
    broker = request.getfixturevalue("rabbitmq").url if request.param == "quorum" else redis_server.url
    environment = {
        **ceph_gateway.environment,
        "TEST_BROKER": broker,
        "TEST_BACKEND": redis_server.url,
        "TEST_SETTINGS": json.dumps(settings),
    }
    directory = tmp_path_factory.mktemp(request.param)
    with running_cluster(directory, environment, workers=0, stall_s=PATIENT_STALL_S) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster, tmp_path: Path) -> Cluster:
    """Two workers that a test may kill, and the test's own directory for traces."""
    while sum(worker.alive for worker in shared.workers) < 2:
        shared.start_worker()
    shared.app.set_current()
    return replace(shared, trace=tmp_path)


def launch(cluster: Cluster, numbers: list[int], **values: Any) -> Any:
    cluster.app.set_current()
    options = {name: values.pop(name) for name in ("max_attempts",) if name in values}
    return SlowTask.submit({"numbers": numbers, "trace": str(cluster.trace), **values}, **options)


@pytest.mark.slow
def test_a_job_survives_kills_of_a_child_and_a_worker(cluster: Cluster) -> None:
    """A job gives the right value after SIGKILL of a child and then of a whole worker."""
    job = launch(cluster, list(range(12)), pause_s=0.7)
    os.kill(cluster.wait_for_pid("process-2"), signal.SIGKILL)
    cluster.find_worker(cluster.wait_for_pid("process-6")).kill()
    assert job.get(120) == sum(range(12))


def test_a_chunk_that_kills_its_worker_is_given_up(cluster: Cluster) -> None:
    """A poison chunk runs `max_attempts` times, by each broker's count, and maybe once in a batch before that."""
    job = PoisonTask.submit({"numbers": list(range(6)), "poison": 3, "trace": str(cluster.trace)}, max_attempts=4)
    with pytest.raises(JobFailed, match="WorkerLost") as caught:
        job.get(120)
    assert (caught.value.step, caught.value.chunk, caught.value.attempts) == ("process", 3, 4)
    # A batch that lasted is shared out before its worker dies, and then the chunk's run in it counts.
    assert len(cluster.runs("process-3")) in (4, 1 + 4)


@pytest.mark.slow
def test_a_chunk_that_exceeds_the_time_limit_fails(
    redis_server: Redis, ceph_gateway: CephGateway, tmp_path: Path
) -> None:
    """On Redis, the time limit stops a chunk before the visibility timeout, and the error names the limit."""
    environment = {
        **ceph_gateway.environment,
        "TEST_BROKER": redis_server.url,
        "TEST_BACKEND": "",
        "TEST_SETTINGS": json.dumps({**REDIS, "task_time_limit": 2}),
    }
    with running_cluster(tmp_path, environment, workers=1, concurrency=1) as cluster:
        job = launch(cluster, [1], pause_s=600.0, max_attempts=2)
        with pytest.raises(JobFailed, match=r"TimeLimitExceeded.*task_time_limit = 2 s"):
            job.get(60)
        assert len(cluster.runs("process-1")) == 2


@pytest.mark.parametrize("way", [signal.SIGTERM, signal.SIGQUIT])
def test_a_worker_that_receives_a_signal_to_stop(cluster: Cluster, way: signal.Signals) -> None:
    """After SIGTERM a worker finishes its chunks, after SIGQUIT it requeues them. Neither counts as an attempt."""
    quick = way is signal.SIGQUIT
    job, worker = launch_slow(cluster, "process-1", pause_s=60.0 if quick else 2.0)
    os.kill(worker.pid, way)
    assert job.get(60) == 1
    wait_until(lambda: not worker.alive, "the worker has ended")
    assert len(cluster.runs("process-1")) == (2 if quick else 1)
    ledger = cluster.app.fanout.runtime.ledger(job.id)  # type: ignore[attr-defined]
    assert ledger.attempts(process_step(job.ledger.manifest().setup_id, 0)).count == 0


@pytest.mark.parametrize("step", ["setup", "join"])
def test_a_requeued_step_counts_no_attempt(cluster: Cluster, step: str) -> None:
    """After SIGQUIT of their worker, setup and join run elsewhere, and no attempt is counted."""
    job, worker = launch_slow(cluster, step, pause_s=0.0, **{f"{step}_pause_s": 60.0})
    os.kill(worker.pid, signal.SIGQUIT)
    assert job.get(60) == 1
    wait_until(lambda: not worker.alive, "the worker has ended")
    assert len(cluster.runs(step)) == 2
    assert cluster.app.fanout.runtime.ledger(job.id).attempts(step).count == 0  # type: ignore[attr-defined]


def launch_slow(cluster: Cluster, step: str, **pauses: float) -> tuple[Any, CeleryWorker]:
    """Launch a job with one attempt, and return it with the worker that runs the step. The next run is quick."""
    slow = cluster.trace / "slow"
    slow.touch()
    job = launch(cluster, [1], only_while=str(slow), max_attempts=1, **pauses)
    worker = cluster.find_worker(cluster.wait_for_pid(step))
    slow.unlink()
    return job, worker


@contextmanager
def start_impatient_broker(directory: Path, *, after_s: int) -> Iterator[RabbitMQ]:
    """Start a RabbitMQ with a short consumer timeout, checked twice a second instead of once a minute."""
    with RabbitMQ.start(directory, settings={"consumer_timeout": str(after_s * 1000)}) as broker:
        broker.evaluate("application:set_env(rabbit, channel_tick_interval, 500)")
        yield broker


@pytest.mark.slow
def test_a_worker_survives_the_consumer_timeout(ceph_gateway: CephGateway, redis_server: Redis, tmp_path: Path) -> None:
    """A worker survives a chunk that exceeds the consumer timeout, and the job gets its value.

    A time limit below the consumer timeout would fail such a chunk with a clear error. This test has none.
    """
    with start_impatient_broker(tmp_path / "broker", after_s=2) as broker:
        environment = {**ceph_gateway.environment, "TEST_BROKER": broker.url, "TEST_BACKEND": redis_server.url}
        with running_cluster(tmp_path, environment, workers=1, concurrency=1, stall_s=5) as cluster:
            job = launch(cluster, [1], pause_s=6.0, max_attempts=9)
            assert job.get(90) == 1
            (worker,) = cluster.workers
            assert worker.alive
            assert "delivery acknowledgement" in worker.log()
            assert SumTask.submit({"numbers": [1, 2]}).get(60) == 3


@pytest.mark.slow
def test_a_time_limit_below_the_consumer_timeout_names_the_limit(
    ceph_gateway: CephGateway, redis_server: Redis, tmp_path: Path
) -> None:
    """A time limit below the consumer timeout stops the chunk first, and the error names the limit."""
    with start_impatient_broker(tmp_path / "broker", after_s=20) as broker:
        environment = {
            **ceph_gateway.environment,
            "TEST_BROKER": broker.url,
            "TEST_BACKEND": redis_server.url,
            "TEST_SETTINGS": json.dumps({"task_time_limit": 2}),
        }
        with running_cluster(tmp_path, environment, workers=1, concurrency=1) as cluster:
            job = launch(cluster, [1], pause_s=600.0, max_attempts=1)
            with pytest.raises(JobFailed, match=r"TimeLimitExceeded.*task_time_limit = 2 s"):
                job.get(60)
            (worker,) = cluster.workers
            assert "delivery acknowledgement" not in worker.log()


def test_a_store_without_write_once_puts_is_refused(
    rclone_gateway: Rclone, rabbitmq: RabbitMQ, redis_server: Redis, tmp_path: Path
) -> None:
    """On rclone's gateway, which ignores conditions, a launch is refused with the reason."""
    environment = {**rclone_gateway.environment, "TEST_BROKER": rabbitmq.url, "TEST_BACKEND": redis_server.url}
    with running_cluster(tmp_path, environment, workers=0), pytest.raises(StorageError, match="32 of 32"):
        SumTask.submit({"numbers": [1, 2, 3]})
