"""Jobs that are sent to one queue, and a worker that consumes only this queue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack import CephGateway, RabbitMQ, Redis

from ..tasks import SlowTask, SumTask
from ..traces import wait_until
from .app import FailOnFileTask
from .cluster import Cluster, running_cluster

QUEUE = "only-this"


@pytest.fixture(scope="module")
def cluster(
    rabbitmq: RabbitMQ, redis_server: Redis, ceph_gateway: CephGateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    environment = {**ceph_gateway.environment, "TEST_BROKER": rabbitmq.url, "TEST_BACKEND": redis_server.url}
    directory, args = tmp_path_factory.mktemp("routing"), ("--without-gossip", "--without-mingle", "--queues", QUEUE)
    with running_cluster(directory, environment, workers=1, args=args, stall_s=3) as cluster:
        yield cluster


def test_all_steps_of_a_signature_go_to_its_queue(cluster: Cluster) -> None:
    """All steps of a signature with a queue run on the queue's worker."""
    signature = SumTask.signature({"numbers": [1, 2, 3]}).set(queue=QUEUE, priority=3, headers={"trace": "t"})
    assert signature.delay().get(timeout=30) == 6


@pytest.mark.parametrize("streamed", [False, True])
def test_all_steps_of_a_submission_go_to_its_queue(cluster: Cluster, streamed: bool) -> None:
    """All steps of a submission with a queue run on the queue's worker."""
    numbers: Any = iter([1, 2, 3]) if streamed else [1, 2, 3]
    assert SumTask.submit({"numbers": numbers}, send_options={"queue": QUEUE}).get(30) == 6


def test_a_sweep_resends_to_the_queue_of_the_job(cluster: Cluster, tmp_path: Path) -> None:
    """A sweep sends messages again to the queue of the lost ones."""
    values = {"numbers": list(range(40)), "trace": str(tmp_path), "pause_s": 0.3}
    job = SlowTask.submit(values, send_options={"queue": QUEUE}, max_attempts=1)
    wait_until(lambda: job.ledger.manifest() is not None, "setup is done")
    with cluster.app.connection_for_write() as connection:
        # Setup may send its chunks only after the manifest.
        wait_until(lambda: connection.default_channel.queue_purge(QUEUE) > 0, "chunks wait in the queue")
    assert job.get(60) == sum(range(40))


def test_a_retry_goes_to_the_queue(cluster: Cluster, tmp_path: Path) -> None:
    """The chunks of a retry go to the job's queue."""
    failing = tmp_path / "3"
    failing.touch()
    values = {"numbers": [1, 2, 3, 4], "failing": str(tmp_path), "trace": str(tmp_path)}
    job = FailOnFileTask.submit(values, send_options={"queue": QUEUE}, tolerate=2)
    assert job.get(30)["failed"]
    failing.unlink()
    assert job.retry()
    assert job.get(30) == {"sum": 10, "failed": []}
