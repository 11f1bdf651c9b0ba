"""What an app's own task class does around a task is around every step of a job, on real workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanout import JobFailed
from fanout.stack import CephGateway, RabbitMQ, Redis

from .app import WitnessTask
from .cluster import running_cluster, wait_until, wait_until_delivered


def test_a_context_and_a_hook(
    rabbitmq: RabbitMQ, redis_server: Redis, ceph_gateway: CephGateway, tmp_path: Path
) -> None:
    """Setup, process, combine and join run in the context that `__call__` puts on; `on_failure` is called once."""
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    environment = {
        **ceph_gateway.environment,
        "TEST_BROKER": rabbitmq.url,
        "TEST_BACKEND": redis_server.url,
        "TEST_TASK_CLASS": "tests.integration.app:ContextTask",
        "TEST_HOOKS": str(hooks),
    }
    with running_cluster(tmp_path, environment, workers=1):
        assert WitnessTask.submit({"numbers": [1, 2, 3, 4]}).get(30) == ["put on"]
        assert list(hooks.iterdir()) == []
        failed = WitnessTask.submit({"numbers": [1, 2], "fail": True}, max_attempts=2)
        with pytest.raises(JobFailed, match="told to fail"):
            failed.get(30)
        wait_until_delivered(failed)
        wait_until(lambda: any(hooks.iterdir()), "the hook was called")
        assert [path.name.partition(".")[0] for path in hooks.iterdir()] == [f"JobFailed-{failed.id}"]
