"""One trace over a real broker, from the caller to workers that Celery's own instrumentation observes, too."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from devstack import CeleryWorker, MotoServer, RabbitMQ
from fanout.telemetry import trace_id_of
from storage import create_bucket
from tests.integration.app import make_app
from tests.tasks import SumTask

pytest.importorskip("opentelemetry.instrumentation.celery")


def read_spans(path: Path) -> list[dict[str, Any]]:
    """Return the spans that workers have written, each with name, trace, parent, links and attributes."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def wait_for_spans(path: Path, suffix: str, count: int) -> list[dict[str, Any]]:
    """Return the spans once there are `count` whose names end in `suffix`."""
    until = time.monotonic() + 30
    while len([span for span in read_spans(path) if span["name"].endswith(suffix)]) < count:
        assert time.monotonic() < until, [span["name"] for span in read_spans(path)]
        time.sleep(0.05)
    return read_spans(path)


def test_workers_and_celerys_instrumentation_share_a_job(
    rabbitmq: RabbitMQ, moto_server: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fanout's spans lie in the trace of the job's id, and each links to the span of Celery's instrumentation."""
    spans_file = tmp_path / "spans.jsonl"
    environment = {
        **moto_server.environment,
        "TEST_BROKER": rabbitmq.url,
        "TEST_QUEUE": "telemetry",
        "FANOUT_STORE": "s3://telemetry/jobs",
        "TEST_SPANS": str(spans_file),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    create_bucket(environment["FANOUT_STORE"])
    app = make_app(environment)
    app.set_current()
    with CeleryWorker.start(
        "tests.integration.traced_app:app", directory=tmp_path, environment=environment, concurrency=1
    ):
        job = SumTask.submit({"numbers": list(range(40))}, app=app)
        assert job.get(timeout=60) == sum(range(40))
        spans = wait_for_spans(spans_file, f"run/{SumTask.name}.join", 1)
    app.close()
    own = [span for span in spans if span["scope"] == "fanout"]
    foreign = {span["span_id"] for span in spans if span["scope"] != "fanout"}
    steps = {span["name"].rpartition(" ")[2] for span in own}
    assert steps == {"setup", "process", "join"}
    assert {span["trace_id"] for span in own} == {trace_id_of(job.id)}
    assert all(span["links"] and set(span["links"]) <= foreign for span in own)
    assert {span["attributes"]["fanout.job.id"] for span in own} == {job.id}
