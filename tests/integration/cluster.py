"""Real workers on a real broker and a real store, with a caller's app on the same."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from celery import Celery

from devstack import CeleryWorker
from fanout import Job
from storage import create_bucket

from . import app as tasks


@dataclass
class Cluster:
    """Workers, and the app of a caller. The caller's app is the current one while the cluster runs.

    Attributes:
        app: The caller's app.
        workers: The workers, each with its pool children.
        environment: What both were made from.
        trace: An empty directory for tasks to leave traces in.
    """

    app: Celery
    workers: list[CeleryWorker]
    environment: Mapping[str, str]
    trace: Path
    start_worker: Callable[[], CeleryWorker] = field(repr=False)

    def traces(self, step: str) -> list[Path]:
        """The traces that runs of a step have left."""
        return sorted(self.trace.glob(f"{step}.*"))

    def pid_of(self, step: str) -> int:
        """The process that runs a step, as soon as one does."""
        wait_until(lambda: bool(self.traces(step)), f"{step} runs")
        return int(self.traces(step)[0].name.split(".")[1])

    def worker_of(self, pid: int) -> CeleryWorker:
        """The worker whose pool child that process is."""
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
    """Start workers on the servers that `environment` names, with a queue and a bucket of their own.

    Args:
        directory: For logs and traces.
        environment: `TEST_BROKER`, `TEST_BACKEND`, and how boto3 reaches the store.
        workers: Number of workers.
        concurrency: Pool children of each.
        args: More options of `celery worker`.
        stall_s: Seconds after which a sweep moves a job.
    """
    name = uuid.uuid4().hex[:12]
    everything = {
        "TEST_QUEUE": f"queue-{name}",
        "FANOUT_STORE": f"s3://bucket-{name}/some/prefix",
        "FANOUT_STALL_S": str(stall_s),
        **environment,
    }
    trace = directory / "trace"
    trace.mkdir()
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for key, value in everything.items():
            patch.setenv(key, value)
        if everything["FANOUT_STORE"].startswith("s3:"):
            create_bucket(everything["FANOUT_STORE"])
        app = tasks.make_app(os.environ)
        app.set_current()
        stack.callback(app.close)

        started: list[CeleryWorker] = []

        def start_worker() -> CeleryWorker:
            worker = CeleryWorker.start(
                "tests.integration.app:app",
                directory=directory,
                environment=everything,
                concurrency=concurrency,
                args=args,
            )
            # A worker that is told to stop takes seconds for it, and there is nothing to save.
            stack.callback(worker.kill)
            started.append(worker)
            return worker

        with ThreadPoolExecutor() as pool:
            for starting in [pool.submit(start_worker) for _ in range(workers)]:
                starting.result()
        yield Cluster(app, started, everything, trace, start_worker)


def wait_until(condition: Callable[[], bool], what: str, *, timeout_s: float = 60.0) -> None:
    """Return once the condition holds.

    Raises:
        TimeoutError: It did not hold in time; says what was waited for.
    """
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout_s:g} s in vain until {what}")
        time.sleep(0.02)


def wait_until_delivered(job: Job) -> None:
    """Return once whoever delivers the job's outcome is done with it."""
    wait_until(lambda: any(found.key.endswith("/delivered") for found in job.objects()), "the outcome was delivered")


def lines(path: Path) -> list[str]:
    """The whole lines in a file that tasks add to; none if there is no file."""
    text = path.read_text() if path.exists() else ""
    return [line.rstrip("\n") for line in text.splitlines(keepends=True) if line.endswith("\n")]
