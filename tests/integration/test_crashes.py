"""Processes are killed in the middle of a job: the right answer, one outcome."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout import Job, JobFailed
from fanout.stack import CephGateway, FilesystemBroker, RabbitMQ, Redis

from .app import PoisonTask, SlowTask, noted
from .cluster import Cluster, lines, running_cluster, wait_until, wait_until_delivered

NUMBERS = list(range(12))


@pytest.fixture
def cluster(rabbitmq: RabbitMQ, redis_server: Redis, ceph_gateway: CephGateway, tmp_path: Path) -> Iterator[Cluster]:
    """Workers that this one test may kill."""
    environment = {**ceph_gateway.environment, "TEST_BROKER": rabbitmq.url, "TEST_BACKEND": redis_server.url}
    with running_cluster(tmp_path, environment, stall_s=5) as cluster:
        yield cluster


def launch(cluster: Cluster, numbers: list[int] = NUMBERS, **pauses: float) -> Job:
    """A slow job with a callback that notes each delivery; its pauses leave time to kill somebody in."""
    signature = SlowTask.signature({"numbers": numbers, "trace": str(cluster.trace), **pauses})
    signature.link(noted.s(str(cluster.trace / "calls")))
    job: Job = signature()
    return job


def assert_right_once(cluster: Cluster, job: Job, numbers: list[int] = NUMBERS) -> None:
    """The answer is right, and was delivered once."""
    assert job.get(120) == sum(numbers)
    calls = cluster.trace / "calls"
    wait_until(lambda: bool(lines(calls)), "the callback was called")
    wait_until_delivered(job)
    assert [json.loads(line) for line in lines(calls)] == [sum(numbers)]


def test_kill_a_child_that_processes(cluster: Cluster) -> None:
    """SIGKILL of the pool child that works on a chunk: the chunk runs again, the answer is right, once."""
    job = launch(cluster, pause_s=1.0)
    os.kill(cluster.pid_of("process-3"), signal.SIGKILL)
    assert_right_once(cluster, job)
    assert len(cluster.traces("process-3")) == 2


def test_kill_a_whole_worker(cluster: Cluster) -> None:
    """SIGKILL of a worker with all its children: the other one finishes the job."""
    job = launch(cluster, pause_s=1.0)
    cluster.worker_of(cluster.pid_of("process-3")).kill()
    assert_right_once(cluster, job)


def test_kill_the_child_that_sets_up(cluster: Cluster) -> None:
    """SIGKILL of the process that runs setup, after some chunks have left: a second attempt counts, once."""
    job = launch(cluster, setup_pause_s=0.4)
    pid = cluster.pid_of("setup")
    wait_until(lambda: bool(cluster.traces("process-0")), "the first chunk is processed while setup still runs")
    os.kill(pid, signal.SIGKILL)
    assert_right_once(cluster, job)
    assert len(cluster.traces("setup")) == 2


def test_kill_the_whole_worker_that_sets_up(cluster: Cluster) -> None:
    """SIGKILL of the worker that runs setup: another worker's attempt counts, once."""
    job = launch(cluster, setup_pause_s=0.4)
    cluster.worker_of(cluster.pid_of("setup")).kill()
    assert_right_once(cluster, job)


def test_kill_the_child_that_joins(cluster: Cluster) -> None:
    """SIGKILL of the process that runs join: join runs again, and its value is delivered once."""
    job = launch(cluster, pause_s=0.0, join_pause_s=3.0)
    os.kill(cluster.pid_of("join"), signal.SIGKILL)
    assert_right_once(cluster, job)
    assert len(cluster.traces("join")) == 2


def test_all_workers_die_and_a_new_one_comes(cluster: Cluster) -> None:
    """With every worker killed the job waits in the broker, and goes on when a worker comes."""
    job = launch(cluster)
    cluster.pid_of("process-3")
    for worker in cluster.workers:
        worker.kill()
    cluster.start_worker()
    assert_right_once(cluster, job)


def test_a_chunk_that_kills_its_worker(cluster: Cluster) -> None:
    """A poison chunk is run `max_attempts` times and no more, and the error names it; the others ran once."""
    job = PoisonTask.submit({"numbers": NUMBERS, "poison": 5, "trace": str(cluster.trace)})
    with pytest.raises(JobFailed, match="WorkerLost") as caught:
        job.get(120)
    assert (caught.value.step, caught.value.chunk, caught.value.tries) == ("process", 5, 3)
    assert len(cluster.traces("process-5")) == 3


def test_lost_messages_are_sent_again(cluster: Cluster) -> None:
    """Messages that are purged from the broker are sent again by the waiting caller's sweep."""
    numbers = list(range(40))
    job = launch(cluster, numbers, pause_s=0.5)
    queue = cluster.environment["TEST_QUEUE"]
    wait_until(lambda: job.manifest() is not None, "setup is done")
    cluster.pid_of("process-*")
    with cluster.app.connection_for_write() as connection:
        purged = connection.default_channel.queue_purge(queue)
    assert purged > 0
    assert_right_once(cluster, job, numbers)


def test_a_broker_that_forgets(ceph_gateway: CephGateway, redis_server: Redis, tmp_path: Path) -> None:
    """On a broker that loses what a killed worker had taken, the sweep brings it back."""
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
        cluster.worker_of(cluster.pid_of("process-3")).kill()
        assert_right_once(cluster, job)


def test_a_broker_that_is_killed_and_comes_back(
    ceph_gateway: CephGateway, redis_server: Redis, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    """SIGKILL of the broker in the middle of a job: when it is back the job goes on, and ends right, once."""
    with RabbitMQ.start(tmp_path / "broker") as broker:
        environment = {**ceph_gateway.environment, "TEST_BROKER": broker.url, "TEST_BACKEND": redis_server.url}
        with running_cluster(tmp_path, environment, stall_s=5) as cluster:
            job = launch(cluster, setup_pause_s=0.2)
            cluster.pid_of("process-3")
            broker.kill()
            broker.restart()
            assert_right_once(cluster, job)
