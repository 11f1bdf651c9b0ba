"""The servers of a benchmark: a store that lasts for the whole run, and a fresh cluster for each trial."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from devstack import CeleryWorker, CephGateway, RabbitMQ, Redis
from storage import create_bucket, open_store

from .counters import CEPH_ARGS

BROKER_SETTINGS = {
    # RabbitMQ stops all publishers at 40 % of the machine's memory and writes queues to disk from half of that on.
    # What a case needs would then be seen as waiting; here the benchmark's own limit ends it instead.
    "vm_memory_high_watermark.relative": "0.9",
    # Else it refuses messages over 128 MiB: bare Canvas with a large input.
    "max_message_size": "536870912",
}

_WORKER_ARGS = ("--without-gossip", "--without-mingle", "--without-heartbeat")
_REAPERS = 4


@dataclass(frozen=True, slots=True)
class Crew:
    """The Celery workers of a cluster, and what they need.

    Attributes:
        app: The application, as for `celery -A`.
        queues: Name of each worker -> its queues, comma-separated; None for the app's default queue.
        concurrency: Pool children, or threads, of each.
        pool: A pool of Celery.
        results: Whether there is a result backend: a Redis.
        variables: Environment variables of workers and callers.
    """

    app: str
    queues: Mapping[str, str | None]
    concurrency: int = 1
    pool: str = "prefork"
    results: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Site:
    """What lasts for the whole run.

    Attributes:
        directory: For data and logs.
        store_url: Each trial works below it.
        environment: How boto3 reaches the store.
        reaper: Ends workers. They die at once, but some systems take seconds to reap what is left of them.
        gateway: The private gateway, if it is one.
        gateway_conf: Its configuration, for its counters.
        broker_url: A broker of the user's own, whose memory and counters we can't see; a fresh private node for each
            cluster if None, so that no trial inherits the memory of another.
    """

    directory: Path
    store_url: str
    environment: dict[str, str]
    reaper: ThreadPoolExecutor
    gateway: CephGateway | None = None
    gateway_conf: Path | None = None
    broker_url: str | None = None

    @classmethod
    @contextmanager
    def open(
        cls,
        directory: Path,
        *,
        broker_url: str | None,
        store_url: str | None,
        capacity_bytes: int,
        on_disk: bool = False,
    ) -> Iterator[Site]:
        """Start what was not given; stop it at the end.

        Args:
            directory: For data and logs.
            broker_url: A broker of the user's own.
            store_url: A store of the user's own.
            capacity_bytes: Size of the private gateway's store.
            on_disk: Whether that lies in the directory, and not in memory.

        Raises:
            StackError: A server is not installed, or did not come up.
        """
        with ExitStack() as stack:
            reaper = stack.enter_context(ThreadPoolExecutor(_REAPERS))
            if store_url is not None:
                yield cls(directory, store_url.rstrip("/"), {}, reaper, broker_url=broker_url)
                return
            with _variables({"CEPH_ARGS": CEPH_ARGS}):
                gateway = CephGateway.start(directory / "ceph", capacity_bytes=capacity_bytes, on_disk=on_disk)
            stack.enter_context(gateway)
            stack.enter_context(_variables(gateway.environment))
            conf = next((directory / "ceph").glob("*/ceph.conf"))
            url = "s3://fanout-bench/cases"
            create_bucket(url)
            yield cls(directory, url, dict(gateway.environment), reaper, gateway, conf, broker_url)

    @contextmanager
    def place(self, name: str) -> Iterator[str]:
        """The URL of a place of its own in the store, emptied at the end."""
        bucket, _, options = self.store_url.partition("?")
        url = f"{bucket.rstrip('/')}/{name}-{uuid.uuid4().hex[:8]}{'?' if options else ''}{options}"
        try:
            yield url
        finally:
            # The protocol's own clean-up keeps parameters that jobs may share; here nothing is to stay.
            store = open_store(url)
            store.delete(found.key for found in store.list())
            if self.gateway is not None:
                self.gateway.collect()

    @contextmanager
    def cluster(self, name: str, crew: Crew, store_url: str) -> Iterator[Cluster]:
        """A broker, workers, perhaps a Redis. At the end they are killed: there is nothing to save.

        Args:
            name: Of the trial, for the directory of data and logs.
            crew: The workers.
            store_url: Where they work.

        Raises:
            StackError: A server is not installed, or did not come up.
        """
        directory = self.directory / name
        with ExitStack() as stack:
            broker = None
            if self.broker_url is None:
                broker = RabbitMQ.start(directory / "rabbitmq", settings=BROKER_SETTINGS)
                # A stopped case may leave gigabytes of queues on the disk.
                stack.callback(shutil.rmtree, directory / "rabbitmq" / "data", ignore_errors=True)
                stack.callback(broker.stop)
                stack.callback(broker.kill)
            results = stack.enter_context(Redis.start(directory / "redis")) if crew.results else None
            environment = {
                **self.environment,
                "CELERY_BROKER_URL": broker.url if broker is not None else str(self.broker_url),
                "CELERY_RESULT_BACKEND": results.url if results is not None else "",
                "FANOUT_STORE": store_url,
                **crew.variables,
            }

            def start(worker_name: str) -> CeleryWorker:
                worker = CeleryWorker.start(
                    crew.app,
                    directory=directory / worker_name,
                    environment=environment,
                    concurrency=crew.concurrency,
                    pool=crew.pool,
                    queues=crew.queues[worker_name],
                    args=_WORKER_ARGS,
                )
                started.append(worker)
                return worker

            started: list[CeleryWorker] = []
            stack.callback(lambda: [self.reaper.submit(worker.kill) for worker in started])
            with ThreadPoolExecutor(len(crew.queues)) as pool:
                workers = dict(zip(crew.queues, pool.map(start, crew.queues), strict=True))
            yield Cluster(environment, broker, results, workers)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What one trial runs on.

    Attributes:
        environment: How its processes find each other.
        broker: The private node, if it is one.
        results: The result backend, if there is one.
        workers: By name.
    """

    environment: dict[str, str]
    broker: RabbitMQ | None
    results: Redis | None
    workers: dict[str, CeleryWorker]

    def pids(self) -> dict[str, int]:
        """The process at the top of each role."""
        found = {name: worker.pid for name, worker in self.workers.items()}
        if self.broker is not None:
            found["broker"] = self.broker.pid
        if self.results is not None:
            found["results"] = self.results.pid
        return found


@contextmanager
def _variables(variables: dict[str, str]) -> Iterator[None]:
    """Environment variables of this process for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
