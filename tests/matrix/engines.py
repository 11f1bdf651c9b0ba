"""The engines of the matrix, each with one way to run a task and one to submit a job."""

from __future__ import annotations

import importlib.util
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fanout import ForkJoinTask, Job
from storage import MemoryStore, open_store

WAIT_S = 120.0
"""Longest wait for a job, on a busy machine."""

STALL_S = 15.0
"""The `stall_s` of all engines: a case that loses messages waits for a sweep."""


@dataclass
class Running:
    """An engine that runs.

    Attributes:
        store: URL of its store; empty if that is in memory.
        run: Runs a task, and returns its value.
        submit: Launches a job.
        advance: Does what a worker would do, for an engine without workers.
        has_jobs: Whether `submit` gives a job.
        has_workers: Whether it has worker processes, of which one may die.
        token: A text that no other engine of this run has.
    """

    store: str
    run: Callable[..., Any]
    submit: Callable[..., Job[Any]]
    advance: Callable[[], object] = lambda: None
    has_jobs: bool = True
    has_workers: bool = True
    token: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def get(self, job: Job[Any]) -> Any:
        """Return the value of a job."""
        self.advance()
        return job.get(WAIT_S)


Start = Callable[[str, Path], AbstractContextManager[Running]]
"""Starts an engine, given the URL of its store and a directory for its files."""


def _refuse(*_: Any, **__: Any) -> Job[Any]:
    raise AssertionError("this engine gives no job")


@contextmanager
def run_here(store: str, directory: Path) -> Iterator[Running]:
    """Run each task in this process."""

    def run(task: type[ForkJoinTask[Any]], values: Any, **options: Any) -> Any:
        return task.run(values, store=store or None, **options)

    yield Running(store, run, _refuse, has_jobs=False, has_workers=False)


@contextmanager
def run_in_processes(store: str, directory: Path) -> Iterator[Running]:
    """Run the chunks of each task in two processes of its own."""

    def run(task: type[ForkJoinTask[Any]], values: Any, **options: Any) -> Any:
        return task.run(values, executor="processes", workers=2, store=store, **options)

    yield Running(store, run, _refuse, has_jobs=False)


@contextmanager
def run_on_stub(store: str, directory: Path) -> Iterator[Running]:
    """Run each message when the caller waits."""
    from fanout.engines.stub import StubEngine

    engine = StubEngine(store=open_store(store) if store else MemoryStore(), stall_s=STALL_S)
    yield _of(store, partial(_submit, engine=engine), advance=engine.drain, has_workers=False)


@contextmanager
def run_on_celery(store: str, directory: Path) -> Iterator[Running]:
    """Run a worker with two processes, on the broker that `TEST_BROKER` names."""
    from devstack import CeleryWorker

    from .celery_app import make_app

    variables = {"FANOUT_STORE": store, "TEST_QUEUE": f"matrix-{uuid.uuid4().hex[:8]}"}
    variables["TEST_BROKER"] = os.environ["TEST_BROKER"]
    app = make_app(variables)
    names = ("AWS_", "TEST_", "PYTHONPATH")
    given = {name: value for name, value in os.environ.items() if name.startswith(names)}
    with CeleryWorker.start(
        "tests.matrix.celery_app:app",
        directory=directory,
        environment={**given, **variables},
        concurrency=2,
        args=("--without-gossip", "--without-mingle"),
    ):
        yield _of(store, partial(_submit, app=app))


@contextmanager
def run_on_dask(store: str, directory: Path) -> Iterator[Running]:
    """Run a cluster of Dask's with two workers."""
    import dask
    from distributed import Client

    from fanout.engines.dask import DaskEngine

    cluster: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    # On a busy machine a killed worker takes long to start again; the cluster would replace it meanwhile.
    patient = dask.config.set({"distributed.deploy.lost-worker-timeout": f"{WAIT_S:g}s"})
    with patient, Client(**cluster, silence_logs="CRITICAL", local_directory=str(directory)) as client:
        yield _of(store, partial(_submit, engine=DaskEngine(client, store=store, stall_s=STALL_S)))


@contextmanager
def run_on_ray(store: str, directory: Path) -> Iterator[Running]:
    """Run a cluster of Ray's with two processors."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    from fanout.engines.ray import RayEngine

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield _of(store, partial(_submit, engine=RayEngine(store=store, stall_s=STALL_S)))
    finally:
        ray.shutdown()


def _submit(task: type[ForkJoinTask[Any]], values: Any, **options: Any) -> Job[Any]:
    return task.submit(values, **options)


def _of(store: str, submit: Callable[..., Job[Any]], **more: Any) -> Running:
    """Return an engine that gives jobs."""
    running = Running(store, _refuse, submit, **more)
    running.run = lambda task, values, **options: running.get(submit(task, values, **options))
    return running


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine of the matrix.

    Attributes:
        start: Starts it.
        label: Its name in tables.
        stores: The stores that its processes share.
        package: The package that it needs; empty if none.
        remedy: How to install that.
    """

    start: Start
    label: str
    stores: tuple[str, ...] = ("file", "ceph")
    package: str = ""
    remedy: str = ""

    @property
    def missing(self) -> str:
        """Why it can't run here; empty if it can."""
        if not self.package or importlib.util.find_spec(self.package):
            return ""
        return f"{self.package} is not installed: {self.remedy}"


ENGINES = {
    "here": Engine(run_here, "`run`, in this process", ("memory", "file", "ceph")),
    "processes": Engine(run_in_processes, '`run(executor="processes")`'),
    "stub": Engine(run_on_stub, "stub", ("memory", "file", "ceph")),
    "celery": Engine(run_on_celery, "Celery"),
    "dask": Engine(run_on_dask, "Dask", package="distributed", remedy="pip install 'fanout[dask]'"),
    "ray": Engine(run_on_ray, "Ray", package="ray", remedy="pip install 'fanout[ray]'"),
}
"""By name, in the order of the table."""
