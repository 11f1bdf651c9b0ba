"""Combination of results on workers, over RabbitMQ and Ceph's gateway, with kills."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from fanout import ForkJoinTask, JobFailed

from .app import ConcatenateTask, PairsTask
from .cluster import Cluster

NUMBERS = list(range(130))


@pytest.fixture
def cluster(redis_cluster: Cluster, tmp_path: Path) -> Cluster:
    """The shared workers, whose children a test may kill, and the test's own directory for traces."""
    return replace(redis_cluster, trace=tmp_path)


def concatenate(numbers: list[int]) -> str:
    return "+".join(map(str, numbers))


@pytest.mark.parametrize("task", [ConcatenateTask, PairsTask])
def test_join_is_given_few_values_in_order(cluster: Cluster, task: type[ForkJoinTask]) -> None:
    """Join receives the results of 130 chunks as five values of 32 consecutive results, without a resend."""
    job = task.submit({"numbers": NUMBERS, "trace": str(cluster.trace)})
    assert job.get(120) == [concatenate(NUMBERS[first : first + 32]) for first in range(0, 130, 32)]
    report = job.report()
    assert (report.progress.chunks, report.stages["combine"].runs) == (130, 5)
    assert not any("/resends/" in info.key for info in job.ledger.objects())


def test_a_stream_is_combined_while_setup_reads_it(cluster: Cluster) -> None:
    """1,100 chunks from a generator make a tree of two levels. Most of it exists before the manifest."""
    numbers = list(range(1100))
    job = PairsTask.submit({"numbers": iter(numbers), "trace": str(cluster.trace)})
    assert job.get(120) == [concatenate(numbers[:1024]), concatenate(numbers[1024:])]
    assert job.report().stages["combine"].runs == 35 + 2
    assert not any("/resends/" in info.key for info in job.ledger.objects())


def test_a_group_is_combined_again_after_a_kill(cluster: Cluster) -> None:
    """After SIGKILL of the pool child that combines a group, the group is combined again, and the value is right."""
    job = ConcatenateTask.submit({"numbers": NUMBERS, "trace": str(cluster.trace), "combine_pause_s": 1.0})
    os.kill(cluster.wait_for_pid("combine-64"), signal.SIGKILL)
    assert job.get(120) == [concatenate(NUMBERS[first : first + 32]) for first in range(0, 130, 32)]
    assert len(cluster.runs("combine-64")) == 2
    assert not any("/resends/" in info.key for info in job.ledger.objects())


@pytest.mark.slow
def test_a_combine_that_kills_its_worker_is_given_up(cluster: Cluster) -> None:
    """The combine step runs `max_attempts` times for its node, and maybe once in a batch before that.

    The error names the chunks whose results it received.
    """
    job = ConcatenateTask.submit({"numbers": NUMBERS, "trace": str(cluster.trace), "poison": "64"})
    with pytest.raises(JobFailed, match="combining the results of chunks 64 to 95: its worker died") as caught:
        job.get(120)
    assert (caught.value.step, caught.value.attempts) == ("combine", 3)
    assert len(cluster.runs("combine-64")) in (3, 1 + 3)
