"""The servers of a benchmark: a store for all of its sessions, and a fresh cluster for each session."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from devstack import CeleryWorker, CephGateway, RabbitMQ, Redis
from storage import create_bucket, open_store

from .contenders import PROCESSES, QUEUES, Contender
from .counters import CEPH_ARGS
from .small_objects import upload_objects
from .text import INPUTS, upload_text
from .workloads import Workload

_BROKER_SETTINGS = {
    # RabbitMQ stops all publishers at 40 % of the machine's memory and writes queues to disk from half of that on. A
    # case that needs more would seem slow; the benchmark's own limit ends it instead.
    "vm_memory_high_watermark.relative": "0.9",
    # With its default RabbitMQ refuses messages over 128 MiB: bare Canvas with a large input.
    "max_message_size": "536870912",
}


_UPLOADS: dict[str, Callable[[str, int], None]] = {"text": upload_text, "objects": upload_objects}
"""Work whose input lies in the bucket -> uploads so much of it to a URL."""
_STEP_QUEUES = {"setup": "setup", "process-1": "process", "process-2": "process", "join": "join"}
"""Name of each worker -> its queue, where each step has a worker of its own, so that their memory is told apart."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The servers and workers of one session.

    Attributes:
        environment: How its processes find each other.
        broker: The private broker; None if it is the user's own.
        broker_log: The log of a private RabbitMQ.
        pids: The process at the top of each role.
    """

    environment: dict[str, str]
    broker: RabbitMQ | Redis | None
    broker_log: Path | None
    pids: dict[str, int]


@dataclass(frozen=True, slots=True)
class Site:
    """What lasts for all sessions.

    Attributes:
        directory: For data and logs.
        store_url: Each session works below it.
        reaper: Threads that end workers: some systems take seconds to reap what is left of them.
        broker_url: A broker of the user's own, whose memory and counters are not seen; else each session has a fresh
            private one, so that no session inherits the memory of another.
        gateway: The private gateway; None if the store is the user's own.
        gateway_conf: Its configuration, for its counters.
    """

    directory: Path
    store_url: str
    reaper: ThreadPoolExecutor
    broker_url: str | None = None
    gateway: CephGateway | None = None
    gateway_conf: Path | None = None
    inputs: set[str] = field(default_factory=set)
    """URLs of the inputs that were uploaded."""

    @classmethod
    @contextmanager
    def open(
        cls, directory: Path, *, broker_url: str | None = None, store_url: str | None = None, **store: int
    ) -> Iterator[Site]:
        """Start the store if none is given, and stop it at the end; meanwhile this process's environment names it.

        Args:
            directory: For data and logs.
            broker_url: A broker of the user's own.
            store_url: A store of the user's own.
            **store: `capacity_bytes` and `on_disk` of the gateway.

        Raises:
            StackError: A server is not installed, or did not come up.
        """
        with ThreadPoolExecutor(4) as reaper, ExitStack() as stack:
            if store_url is not None:
                site = cls(directory, store_url.rstrip("/"), reaper, broker_url)
                stack.callback(site.remove_inputs)
                yield site
                return
            stack.callback(_restore_variables, dict(os.environ))
            os.environ["CEPH_ARGS"] = CEPH_ARGS
            gateway = stack.enter_context(CephGateway.start(directory / "ceph", **store))  # type: ignore[arg-type]
            os.environ.update(gateway.environment)
            url = "s3://fanout-bench/cases"
            create_bucket(url)
            yield cls(directory, url, reaper, broker_url, gateway, next((directory / "ceph").glob("*/ceph.conf")))

    def provide_inputs(self, workloads: Sequence[Workload]) -> dict[str, str]:
        """Upload what workloads and their warm-up find in the bucket, once; return the variables of their processes."""
        wanted = [one for workload in workloads if workload.work in _UPLOADS for one in (workload, workload.tiny)]
        if not wanted:
            return {}
        root = f"{self.store_url.partition('?')[0]}-inputs"
        for workload in wanted:
            url = f"{root}/{workload.work}/{workload.size}/"
            if url not in self.inputs:
                self.inputs.add(url)
                _UPLOADS[workload.work](url, workload.size)
        return {INPUTS: root, "FANOUT_SOURCE_ROOTS": root}

    def remove_inputs(self) -> None:
        """Delete the inputs that were uploaded."""
        for url in self.inputs:
            store = open_store(url)
            store.delete(found.key for found in store.list())

    @contextmanager
    def make_place(self, name: str, contender: Contender) -> Iterator[str]:
        """Yield the URL of a contender's place in its store, and empty it at the end; "" if it has no store."""
        if not contender.store:
            yield ""
            return
        if contender.store == "file":
            with tempfile.TemporaryDirectory(prefix="store-", dir=self.directory, ignore_cleanup_errors=True) as place:
                yield f"file://{place}"
            return
        bucket, _, given = self.store_url.partition("?")
        query = "&".join(filter(None, (given, contender.store_options)))
        url = f"{bucket.rstrip('/')}/{name}-{uuid.uuid4().hex[:8]}" + (f"?{query}" if query else "")
        try:
            yield url
        finally:
            # fanout's own clean-up keeps parameters that jobs may share; here nothing is to stay.
            store = open_store(url)
            store.delete(found.key for found in store.list())
            if self.gateway is not None:
                self.gateway.collect()

    @contextmanager
    def start_cluster(
        self, directory: Path, contender: Contender, environment: Mapping[str, str], *, threads: int, include: str = ""
    ) -> Iterator[Cluster]:
        """Start a broker, a result backend and workers; kill them at the end, for there is nothing to save.

        The environment is that of the workers. With `QUEUES` in it each step has a worker with one child; else there
        is one worker, with so many threads, or with two children if that is 0. Workers import `include`, too.

        Raises:
            StackError: A server is not installed, or did not come up.
        """
        with ExitStack() as stack:
            broker = self._start_broker(stack, directory / "broker", contender)
            results = stack.enter_context(Redis.start(directory / "redis"))
            broker_url = broker.url if broker is not None else str(self.broker_url)
            found = {"CELERY_BROKER_URL": broker_url, "CELERY_RESULT_BACKEND": results.url, **environment}
            queues: dict[str, str] = _STEP_QUEUES if QUEUES in environment else {"worker": ""}
            started: dict[str, CeleryWorker] = {}
            imports = ("--include", include) if include else ()

            def start(name: str) -> None:
                started[name] = CeleryWorker.start(
                    "benchmarks.contenders.app:app",
                    directory=directory / name,
                    environment=found,
                    concurrency=1 if queues[name] else threads or PROCESSES,
                    pool="threads" if threads else "prefork",
                    queues=queues[name] or None,
                    args=("--without-gossip", "--without-mingle", "--without-heartbeat", *imports),
                )

            stack.callback(lambda: [self.reaper.submit(worker.kill) for worker in started.values()])
            with ThreadPoolExecutor(len(queues)) as starters:
                list(starters.map(start, queues))
            servers = {"broker": broker, "results": results, **started}
            pids = {role: server.pid for role, server in servers.items() if server is not None}
            log = directory / "broker" / "rabbitmq.log" if isinstance(broker, RabbitMQ) else None
            yield Cluster(found, broker, log, pids)

    def _start_broker(self, stack: ExitStack, directory: Path, contender: Contender) -> RabbitMQ | Redis | None:
        if contender.broker == "redis":
            return stack.enter_context(Redis.start(directory))
        if self.broker_url is not None:
            return None
        broker = RabbitMQ.start(directory, settings={**_BROKER_SETTINGS, **contender.broker_settings})
        # A stopped case may leave gigabytes of queues on the disk.
        stack.callback(shutil.rmtree, directory / "data", ignore_errors=True)
        stack.callback(broker.stop)
        stack.callback(broker.kill)
        return broker


def _restore_variables(before: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(before)
