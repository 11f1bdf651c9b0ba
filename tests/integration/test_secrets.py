"""No credential leaves the processes that have it: canaries are looked for in all that a job leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from celery.signals import after_task_publish
from kombu import Connection

from devstack import Redis
from fanout import JobFailed
from fanout.doctor import check_all
from storage import open_store

from .app import LeakyTask
from .cluster import Cluster
from .conftest import CANARIES


def find_canaries(where: str, data: bytes) -> list[str]:
    """Return where a credential was found."""
    return [f"{name} in {where}" for name, secret in CANARIES.items() if secret.encode() in data]


def test_a_job_that_leaks_its_environment_leaves_no_credential(
    redis_cluster: Cluster, redis_server: Redis, tmp_path: Path
) -> None:
    """Errors with all of the environment, in each step: records, messages, results, logs, report, plan and doctor."""
    assert all(secret in repr(redis_cluster.environment) for secret in CANARIES.values())
    sent: list[Any] = []

    def keep(headers: Any = None, body: Any = None, **_: Any) -> None:
        sent.append((headers, body))

    after_task_publish.connect(keep)
    try:
        jobs = [LeakyTask.submit({"step": step}) for step in ("setup", "process", "join", "nothing")]
        errors = []
        for job in jobs[:-1]:
            with pytest.raises(JobFailed) as failed:
                job.get(60)
            errors.append(f"{failed.value!r} {failed.value} {failed.value.traceback_text}")
        assert jobs[-1].get(60) == [1]
    finally:
        after_task_publish.disconnect(keep)
    assert all("the environment is {" in error and "***" in error for error in errors)
    app = redis_cluster.app
    seen = {
        "messages": repr(sent),
        "errors": " ".join(errors),
        "reprs": repr([app.fanout.runtime.config, app.fanout.runtime.store, jobs]),  # type: ignore[attr-defined]
        "plan": repr(LeakyTask.plan({"step": "nothing"})),
        "doctor": " ".join(map(str, check_all(app.fanout))),  # type: ignore[attr-defined]
    }
    found = [leak for where, text in seen.items() for leak in find_canaries(where, text.encode())]
    for number, job in enumerate(jobs):
        page = job.report().save(tmp_path / f"{number}.html")
        found += find_canaries("a report", page.read_bytes())
    store = open_store(redis_cluster.environment["FANOUT_STORE"])
    objects = [entry.key for entry in store.list()]
    assert len(objects) > 10
    for key in objects:
        found += find_canaries(key, store.get(key))
    with Connection(redis_server.url) as connection:
        client = connection.default_channel.client
        results = list(client.keys("celery-task-meta-*"))
        assert results
        for key in results:
            found += find_canaries("a result", client.get(key))
    for path in redis_cluster.trace.parent.rglob("*.log"):
        found += find_canaries(path.name, path.read_bytes())
    assert found == []
