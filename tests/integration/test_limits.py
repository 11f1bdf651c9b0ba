"""Time limits: an overdue step counts as a failed attempt, the error names the limit, and the worker survives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack import CephGateway, RabbitMQ, Redis
from fanout import JobFailed

from ..tasks import SlowTask, SumTask, record_error
from ..traces import read_lines, wait_until
from .cluster import Cluster, running_cluster

LIMIT_S = 3
STEPS = {
    "setup": {"setup_pause_s": 600.0},
    "process": {"pause_s": 600.0},
    "join": {"pause_s": 0.0, "join_pause_s": 600.0},
}


@pytest.fixture(scope="module")
def environment(rabbitmq: RabbitMQ, redis_server: Redis, ceph_gateway: CephGateway) -> dict[str, str]:
    return {**ceph_gateway.environment, "TEST_BROKER": rabbitmq.url, "TEST_BACKEND": redis_server.url}


@pytest.fixture(scope="module")
def limited(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Workers with a hard limit of a few seconds."""
    settings = {"TEST_SETTINGS": json.dumps({"task_time_limit": LIMIT_S})}
    with running_cluster(tmp_path_factory.mktemp("limited"), {**environment, **settings}, workers=1) as cluster:
        yield cluster


def inputs(cluster: Cluster, step: str, trace: Path) -> dict[str, Any]:
    trace.mkdir()
    cluster.app.set_current()
    return {"numbers": [1, 2], "trace": str(trace), **STEPS[step]}


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_a_step_over_the_hard_limit_fails_after_its_attempts(limited: Cluster, step: str, tmp_path: Path) -> None:
    """A step that is killed at the hard limit runs `max_attempts` times, and the error names limit and remedy.

    The errback fires once, after the last attempt, and the worker survives.
    """
    trace, calls = tmp_path / "trace", tmp_path / "calls"
    signature = SlowTask.signature(inputs(limited, step, trace), max_attempts=2)
    signature.link_error(record_error.s(path=str(calls)))
    job = signature()
    with pytest.raises(JobFailed, match=f"TimeLimitExceeded: took longer than .* task_time_limit = {LIMIT_S} s") as e:
        job.get(60)
    assert (e.value.step, e.value.attempts) == (step, 2)
    assert ("chunk_items" in e.value.reason) is (step == "process")
    name = "process-1" if step == "process" else step
    assert len(list(trace.glob(f"{name}.*"))) == 2
    wait_until(lambda: bool(read_lines(calls)), "the errback was called")
    assert SumTask.submit({"numbers": [1, 2]}).get(60) == 3
    assert len(read_lines(calls)) == 1
    assert "JobFailed" in read_lines(calls)[0]


@pytest.mark.slow
def test_a_chunk_that_exceeds_the_hard_limit_once_succeeds(limited: Cluster, tmp_path: Path) -> None:
    """A chunk that is killed at the hard limit and then runs quickly gives the right value."""
    trace = tmp_path / "trace"
    values = inputs(limited, "process", trace)
    (tmp_path / "slow").touch()
    job = SlowTask.submit({**values, "only_while": str(tmp_path / "slow")})
    wait_until(lambda: bool([*trace.glob("process-1.*")]) and bool([*trace.glob("process-2.*")]), "both chunks run")
    (tmp_path / "slow").unlink()
    assert job.get(60) == 3
    # On a busy machine the chunk may exceed the limit twice before this test sees both chunks run.
    assert len([*trace.glob("process-1.*")]) in (2, 3)


def test_a_step_over_the_soft_limit_fails(environment: dict[str, str], tmp_path: Path) -> None:
    """A step that exceeds Celery's soft limit fails with the limit, the remedy, the item and a traceback."""
    settings = {"TEST_SETTINGS": json.dumps({"task_soft_time_limit": 2})}
    with running_cluster(tmp_path, {**environment, **settings}, workers=1) as cluster:
        job = SlowTask.submit(inputs(cluster, "process", tmp_path / "traces"), max_attempts=1)
        with pytest.raises(JobFailed, match=r"SoftTimeLimitExceeded.* task_soft_time_limit = 2 s") as e:
            job.get(60)
        assert e.value.item is not None
        assert "time.sleep(" in e.value.traceback_text
