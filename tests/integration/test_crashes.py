"""Kills in the middle of a job. The value is right, and there is one outcome.

Kills of one child in each step, and of one worker, are cases of the storm (`tests/storm`) and of the campaign.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from devstack import CephGateway, FilesystemBroker, RabbitMQ, Redis
from fanout import Job, JobFailed

from ..tasks import SlowTask, record_call
from ..traces import read_lines, wait_until, wait_until_delivered
from .app import PoisonTask
from .cluster import PATIENT_STALL_S, Cluster, running_cluster

NUMBERS = list(range(12))


@pytest.fixture(scope="module")
def shared(
    rabbitmq: RabbitMQ, redis_server: Redis, ceph_gateway: CephGateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """RabbitMQ, results in Redis, Ceph's gateway."""
    environment = {**ceph_gateway.environment, "TEST_BROKER": rabbitmq.url, "TEST_BACKEND": redis_server.url}
    directory = tmp_path_factory.mktemp("crashes")
    with running_cluster(directory, environment, workers=0, stall_s=PATIENT_STALL_S) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster, tmp_path: Path) -> Cluster:
    """Two workers that a test may kill, and the test's own directory for traces."""
    while sum(worker.alive for worker in shared.workers) < 2:
        shared.start_worker()
    shared.app.set_current()
    return replace(shared, trace=tmp_path)


def launch(cluster: Cluster, numbers: list[int] = NUMBERS, **pauses: float) -> Job:
    """Launch a slow job with a callback that records its calls. The pauses leave time to kill a process."""
    signature = SlowTask.signature({"numbers": numbers, "trace": str(cluster.trace), **pauses})
    signature.link(record_call.s(str(cluster.trace / "calls")))
    job: Job = signature()
    return job


def assert_right_once(cluster: Cluster, job: Job, numbers: list[int] = NUMBERS) -> None:
    """Assert that the value is right, and that it was delivered once."""
    assert job.get(120) == sum(numbers)
    calls = cluster.trace / "calls"
    wait_until(lambda: bool(read_lines(calls)), "the callback was called")
    wait_until_delivered(job)
    assert [json.loads(line) for line in read_lines(calls)] == [sum(numbers)]


def test_a_job_survives_a_kill_of_the_worker_that_runs_setup(cluster: Cluster) -> None:
    """After SIGKILL of the worker that runs setup, another worker's setup counts, once."""
    job = launch(cluster, setup_pause_s=0.4)
    cluster.find_worker(cluster.wait_for_pid("setup")).kill()
    assert_right_once(cluster, job)


def test_a_job_continues_with_a_new_worker_after_all_died(cluster: Cluster) -> None:
    """After SIGKILL of all workers the job's messages wait in the broker, and the job continues with a new worker."""
    job = launch(cluster)
    cluster.wait_for_pid("process-3")
    for worker in cluster.workers:
        worker.kill()
    cluster.start_worker()
    assert_right_once(cluster, job)


def test_a_chunk_that_kills_its_worker_is_given_up(cluster: Cluster) -> None:
    """A poison chunk runs `max_attempts` times, and maybe once in a batch before that. The error names the chunk."""
    job = PoisonTask.submit({"numbers": NUMBERS, "poison": 5, "trace": str(cluster.trace)})
    with pytest.raises(JobFailed, match="WorkerLost") as caught:
        job.get(120)
    assert (caught.value.step, caught.value.chunk, caught.value.attempts) == ("process", 5, 3)
    # A batch that lasted is shared out before its worker dies, and then the chunk's run in it counts.
    assert len(cluster.runs("process-5")) in (3, 1 + 3)


@pytest.mark.slow
def test_lost_messages_are_sent_again(cluster: Cluster) -> None:
    """The waiting caller's sweep sends purged messages again."""
    numbers = list(range(40))
    job = launch(cluster, numbers, pause_s=0.5)
    queue = cluster.environment["TEST_QUEUE"]
    wait_until(lambda: job.ledger.manifest() is not None, "setup is done")
    cluster.wait_for_pid("process-*")
    with cluster.app.connection_for_write() as connection:
        # Most chunks have a message of their own only after their batch was shared out.
        wait_until(lambda: connection.default_channel.queue_purge(queue) > 0, "chunks wait in the queue")
    assert_right_once(cluster, job, numbers)


@pytest.mark.slow
def test_a_job_survives_a_broker_that_loses_messages(
    ceph_gateway: CephGateway, redis_server: Redis, tmp_path: Path
) -> None:
    """On a broker that loses the messages of a killed worker, the sweep sends them again."""
    broker = FilesystemBroker.create(tmp_path / "broker", queues=("forgetful",))
    environment = {
        **ceph_gateway.environment,
        "TEST_BROKER": broker.url,
        "TEST_SETTINGS": json.dumps(broker.settings),
        "TEST_QUEUE": "forgetful",
        "TEST_BACKEND": redis_server.url,
    }
    with running_cluster(tmp_path, environment, args=broker.worker_args, stall_s=3) as cluster:
        job = launch(cluster)
        cluster.find_worker(cluster.wait_for_pid("process-3")).kill()
        assert_right_once(cluster, job)


@pytest.mark.slow
def test_a_job_survives_a_kill_and_restart_of_the_broker(
    ceph_gateway: CephGateway, redis_server: Redis, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    """After SIGKILL and restart of the broker the job continues, with the right value and one outcome."""
    with RabbitMQ.start(tmp_path / "broker") as broker:
        environment = {**ceph_gateway.environment, "TEST_BROKER": broker.url, "TEST_BACKEND": redis_server.url}
        with running_cluster(tmp_path, environment, stall_s=5) as cluster:
            job = launch(cluster, setup_pause_s=0.2)
            cluster.wait_for_pid("process-3")
            broker.kill()
            broker.restart()
            assert_right_once(cluster, job)
