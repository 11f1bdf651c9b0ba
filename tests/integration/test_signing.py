"""With `require_signatures`, write access to a queue alone runs nothing. Other tests show that signed jobs run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.signals import after_task_publish, before_task_publish

from fanout.engines.celery.headers import SIGNATURE_HEADER
from fanout.engines.celery.signing import _finish_message

from ..tasks import SumTask
from ..traces import wait_until
from .cluster import Cluster


@pytest.fixture
def intruder(redis_cluster: Cluster) -> Iterator[Celery]:
    """An app that reaches the queue and has no key, as in a process without fanout."""
    made = Celery("intruder", broker=redis_cluster.app.conf.broker_url, set_as_current=False)
    made.conf.task_default_queue = redis_cluster.app.conf.task_default_queue
    made.conf.broker_transport_options = {"confirm_publish": True}
    before_task_publish.disconnect(_finish_message)
    yield made
    before_task_publish.connect(_finish_message)


def read_logs(cluster: Cluster) -> str:
    return "".join(path.read_text(errors="replace") for path in Path(cluster.trace).parent.rglob("*.log"))


@pytest.fixture
def ended_job(redis_cluster: Cluster) -> str:
    """The id of a job that has run."""
    job = SumTask.submit({"numbers": [1, 2]})
    assert job.get(60) == 3
    return job.id


def test_a_forged_message_runs_nothing(redis_cluster: Cluster, ended_job: str, intruder: Celery) -> None:
    """Unsigned messages for each step and for a sweep are dropped, with a line each."""
    job = redis_cluster.app.fanout.job(ended_job)  # type: ignore[attr-defined]
    launch = {"launch_id": job.ledger.launch_id}
    before = read_logs(redis_cluster).count("it is not signed")
    forged: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        (f"{SumTask.declaration.name}.setup", (), launch),
        (
            f"{SumTask.declaration.name}.process",
            (job.id, job.ledger.launch_id, "x", 0, 0, 0, 1, "0" * 32, 0, 1, 0, 0),
            {},
        ),
        (f"{SumTask.declaration.name}.join", (job.id,), launch),
        ("fanout.sweep", (), {}),
    ]
    for name, args, kwargs in forged:
        headers = {SIGNATURE_HEADER: f"new:1:{'0' * 64}"} if name.endswith("join") else {}
        intruder.send_task(name, args, kwargs, task_id=job.id, headers=headers)
    unsigned = len(forged) - 1
    wait_until(
        lambda: read_logs(redis_cluster).count("it is not signed") - before >= unsigned, "the unsigned are dropped"
    )
    wait_until(lambda: "signed with another secret" in read_logs(redis_cluster), "the forged signature is refused")


def test_a_forged_message_cannot_pass_as_an_eager_call_nor_end_the_worker(
    redis_cluster: Cluster, ended_job: str, intruder: Celery
) -> None:
    """Celery copies the body's third part into the request, which then seems to run in its caller. No id is a list."""
    log = f"{SumTask.declaration.name}.setup'"
    before = read_logs(redis_cluster).count(log)
    submission = SumTask.signature({"numbers": [1, 2]}).kwargs["submission"]
    headers = {"task": f"{SumTask.declaration.name}.setup", "id": "forged-job", "lang": "py"}
    with intruder.connection_for_write() as connection:
        for body, wrong in (
            ([[], {"submission": submission}, {"is_eager": True}], {}),
            ([[], {"submission": submission}, {}], {"is_eager": True}),
            ([[], {"submission": submission}, {}], {"id": ["forged-job"]}),
        ):
            connection.Producer(auto_declare=False).publish(
                json.dumps(body),
                routing_key=intruder.conf.task_default_queue,
                content_type="application/json",
                content_encoding="utf-8",
                headers={**headers, **wrong},
            )
    wait_until(lambda: read_logs(redis_cluster).count(log) - before == 3, "the forged messages are dropped")
    assert redis_cluster.app.AsyncResult("forged-job").state == "PENDING"
    assert all(worker.alive for worker in redis_cluster.workers)


def test_a_message_names_its_key(redis_cluster: Cluster) -> None:
    """The first key signs. The message does not hold the secret."""
    sent: list[dict[str, Any]] = []

    def keep(headers: Any = None, body: Any = None, **_: Any) -> None:
        sent.append({"headers": headers, "body": body})

    after_task_publish.connect(keep)
    try:
        assert SumTask.submit({"numbers": [1]}).get(60) == 1
    finally:
        after_task_publish.disconnect(keep)
    assert [message["headers"][SIGNATURE_HEADER].split(":")[0] for message in sent] == ["new"] * len(sent)
    assert "a" * 32 not in json.dumps(sent, default=str)
