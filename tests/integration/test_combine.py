"""Results are combined on the workers, over RabbitMQ and Ceph's gateway, whoever is killed meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack import CephGateway, RabbitMQ
from fanout import ForkJoinTask, JobFailed
from fanout.report import JobReport

from .app import PairsTask, StringTask
from .cluster import Cluster, running_cluster

NUMBERS = list(range(130))


@pytest.fixture
def cluster(rabbitmq: RabbitMQ, ceph_gateway: CephGateway, tmp_path: Path) -> Iterator[Cluster]:
    """Workers that this one test may kill."""
    environment = {**ceph_gateway.environment, "TEST_BROKER": rabbitmq.url}
    with running_cluster(tmp_path, environment, stall_s=5) as cluster:
        yield cluster


def serial(numbers: list[int]) -> str:
    return "+".join(map(str, numbers))


@pytest.mark.parametrize("task", [StringTask, PairsTask])
def test_join_is_given_few_values_in_order(redis_cluster: Cluster, task: type[ForkJoinTask]) -> None:
    """130 chunks reach join as five values, each of them 32 results that follow each other; nobody had to sweep."""
    job = task.submit({"numbers": NUMBERS, "trace": str(redis_cluster.trace)})
    assert job.get(120) == [serial(NUMBERS[first : first + 32]) for first in range(0, 130, 32)]
    report = JobReport.of(job)
    assert (report.chunks, report.stages["combine"].runs) == (130, 5)
    assert not any("/resends/" in found.key for found in job.objects())


def test_a_stream_is_combined_while_it_comes(redis_cluster: Cluster) -> None:
    """1,100 chunks from a generator make a tree of two levels, most of it before the manifest is there."""
    numbers = list(range(1100))
    job = PairsTask.submit({"numbers": iter(numbers), "trace": str(redis_cluster.trace)})
    assert job.get(120) == [serial(numbers[:1024]), serial(numbers[1024:])]
    assert JobReport.of(job).stages["combine"].runs == 35 + 2
    assert not any("/resends/" in found.key for found in job.objects())


def test_kill_a_child_that_combines(cluster: Cluster) -> None:
    """SIGKILL of the pool child that combines a group: it is combined again, and the answer is right."""
    job = StringTask.submit({"numbers": NUMBERS, "trace": str(cluster.trace), "combine_pause_s": 1.0})
    os.kill(cluster.pid_of("combine-64"), signal.SIGKILL)
    assert job.get(120) == [serial(NUMBERS[first : first + 32]) for first in range(0, 130, 32)]
    assert len(cluster.traces("combine-64")) == 2
    assert not any("/resends/" in found.key for found in job.objects())


def test_a_combine_that_kills_its_worker(cluster: Cluster) -> None:
    """It is run `max_attempts` times and no more, and the error names the chunks whose results it was given."""
    job = StringTask.submit({"numbers": NUMBERS, "trace": str(cluster.trace), "poison": "64"})
    with pytest.raises(JobFailed, match="combining the results of chunks 64 to 95: its worker died") as caught:
        job.get(120)
    assert (caught.value.step, caught.value.attempts) == ("combine", 3)
    assert len(cluster.traces("combine-64")) == 3
