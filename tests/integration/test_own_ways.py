"""An app with its own task class and serializer, on real workers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import chain, chord

from devstack import CephGateway, RabbitMQ, Redis
from fanout import JobFailed

from ..traces import wait_until, wait_until_delivered
from .app import NestedTask, ReportContextTask, SetTask, resolve_values
from .cluster import Cluster, running_cluster


@pytest.fixture(scope="module")
def hooks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hooks")


@pytest.fixture(scope="module")
def cluster(
    rabbitmq: RabbitMQ,
    redis_server: Redis,
    ceph_gateway: CephGateway,
    hooks: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    environment = {
        **ceph_gateway.environment,
        "TEST_BROKER": rabbitmq.url,
        "TEST_BACKEND": redis_server.url,
        "TEST_TASK_CLASS": "tests.integration.app:ContextTask",
        "TEST_HOOKS": str(hooks),
        "TEST_SETTINGS": json.dumps({"result_serializer": "pickle", "result_accept_content": ["pickle"]}),
    }
    with running_cluster(tmp_path_factory.mktemp("own-ways"), environment, workers=1) as cluster:
        yield cluster


def test_all_steps_run_in_the_context_of_the_task_class(cluster: Cluster, hooks: Path) -> None:
    """Setup, process, combine and join run in the context that `__call__` enters. `on_failure` is called once."""
    assert ReportContextTask.submit({"numbers": [1, 2, 3, 4]}).get(30) == ["inside"]
    assert list(hooks.iterdir()) == []
    failed = ReportContextTask.submit({"numbers": [1, 2], "fail": True}, max_attempts=2)
    with pytest.raises(JobFailed, match="told to fail"):
        failed.get(30)
    wait_until_delivered(failed)
    wait_until(lambda: any(hooks.iterdir()), "the hook was called")
    assert [path.name.partition(".")[0] for path in hooks.iterdir()] == [f"JobFailed-{failed.id}"]


def test_a_step_that_waits_for_a_job_fails(cluster: Cluster) -> None:
    """The step fails at once, with the remedy, as in Celery. With `allow_join_result` it waits."""
    with pytest.raises(JobFailed, match="never wait for a job within a task"):
        NestedTask.submit({"numbers": [1], "allowed": False}, max_attempts=1).get(30)
    assert NestedTask.submit({"numbers": [1], "allowed": True}).get(60) == [2]


def test_a_value_that_json_cannot_represent_is_sent_as_a_reference(cluster: Cluster) -> None:
    """A set is stored as a pickle for the caller. The next task and the body, on JSON, receive a reference."""
    signature = SetTask.signature({"numbers": [3, 1, 3]})
    assert signature.delay().get(timeout=30) == {1, 3}
    assert chain(signature.clone(), resolve_values.s())().get(timeout=30) == {1, 3}
    assert chord([signature.clone(), signature.clone()])(resolve_values.s()).get(timeout=30) == [{1, 3}, {1, 3}]
