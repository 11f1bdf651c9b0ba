"""Real workers on a real broker and a real store, and a caller's app."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from devstack import CeleryWorker, RabbitMQ
from storage import create_bucket
from tests.traces import find_runs, wait_for_pid

from . import app as tasks

PATIENT_STALL_S = 15.0
"""A stall time above the seconds that a busy machine takes to deliver the message of a dead child again.

With a shorter one, a sweep may have the child's chunk run once more before the broker does.
"""


@dataclass
class Cluster:
    """Workers and a caller's app, which is the current app while the cluster runs.

    Attributes:
        app: The caller's app.
        workers: The workers.
        environment: Variables of workers and caller.
        trace: A directory for the traces of tasks.
    """

    app: Celery
    workers: list[CeleryWorker]
    environment: Mapping[str, str]
    trace: Path
    start_worker: Callable[[], CeleryWorker] = field(repr=False)

    def runs(self, step: str) -> list[Path]:
        """Return the traces of a step's runs."""
        return find_runs(self.trace, step)

    def wait_for_pid(self, step: str) -> int:
        """Wait until a step runs, and return the id of its process."""
        return wait_for_pid(self.trace, step)

    def find_worker(self, pid: int) -> CeleryWorker:
        """Return the living worker with that pool child."""
        return next(worker for worker in self.workers if worker.alive and pid in worker.children())


@contextmanager
def running_cluster(
    directory: Path,
    environment: Mapping[str, str],
    *,
    workers: int = 2,
    concurrency: int = 2,
    args: tuple[str, ...] = ("--without-gossip", "--without-mingle"),
    stall_s: float = 60.0,
) -> Iterator[Cluster]:
    """Start workers on the servers that `environment` names, with their own queue and bucket.

    Args:
        directory: Directory for logs and traces.
        environment: `TEST_BROKER`, `TEST_BACKEND`, and boto3's variables for the store.
        workers: Number of workers.
        concurrency: Pool children per worker.
        args: Further options of `celery worker`.
        stall_s: Seconds without progress after which a sweep resends a job's messages.
    """
    name = uuid.uuid4().hex[:12]
    variables = {
        "TEST_QUEUE": f"queue-{name}",
        "FANOUT_STORE": f"s3://bucket-{name}/some/prefix",
        "FANOUT_STALL_S": str(stall_s),
        **environment,
    }
    trace = directory / "trace"
    trace.mkdir()
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for key, value in variables.items():
            patch.setenv(key, value)
        if variables["FANOUT_STORE"].startswith("s3:"):
            create_bucket(variables["FANOUT_STORE"])
        app = tasks.make_app(os.environ)
        app.set_current()
        stack.callback(app.close)

        started: list[CeleryWorker] = []

        def start_worker() -> CeleryWorker:
            worker = CeleryWorker.start(
                "tests.integration.app:app",
                directory=directory,
                environment=variables,
                concurrency=concurrency,
                args=args,
            )
            # A worker takes seconds to stop after SIGTERM, and the tests need nothing more from it.
            stack.callback(worker.kill)
            started.append(worker)
            return worker

        with ThreadPoolExecutor() as pool:
            for starting in [pool.submit(start_worker) for _ in range(workers)]:
                starting.result()
        yield Cluster(app, started, variables, trace, start_worker)


def cluster_on(
    broker: RabbitMQ, directory: Path, *, settings: Mapping[str, Any] | None = None, **options: Any
) -> AbstractContextManager[Cluster]:
    """Return a cluster without a result backend. Its store is a directory, because these tests do not depend on it."""
    environment = {
        "FANOUT_STORE": f"file://{directory}/store",
        "TEST_BROKER": broker.url,
        "TEST_BACKEND": "",
        "TEST_SETTINGS": json.dumps(settings or {}),
    }
    return running_cluster(directory, environment, **options)
