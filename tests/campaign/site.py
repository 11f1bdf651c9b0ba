"""The servers of a campaign, and the workers that use them."""

from __future__ import annotations

import json
import secrets
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import pytest
from celery import Celery

from devstack import CephGateway, RabbitMQ
from fanout.job import Job
from fanout.runtime import Runtime
from storage import create_bucket

from . import app as tasks
from .calls import Calls
from .gateway import FaultyGateway
from .wire import Wire
from .workers import Workers

STALL_S = 2.0
"""Short, so that sweeps act soon. The library's default is a minute."""

LAKE = "lake"
"""Folder of the bucket in which workers may read and write in place. Each job has its own folder in it."""

NO_SWEEP_S = 60.0
"""So long that no sweep acts."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """Conditions that a fault needs. Faults with the same conditions use the same workers, one after the other.

    Attributes:
        cuttable: Whether workers and caller reach the broker through the proxy that cuts connections.
        faulty: Whether they reach the store through the proxy that fails requests.
        stall_s: Seconds without progress after which a sweep resends a job's messages.
        workers: Number of workers, with two pool children each.
        client: The S3 client. If empty, the library picks one.
    """

    cuttable: bool = False
    faulty: bool = False
    stall_s: float = STALL_S
    workers: int = 3
    client: str = ""


class Site:
    """A broker and a store, each with a proxy before it, the callbacks' consumer, and at most one set of workers.

    Args:
        directory: Directory for all files.
        encrypted: Whether objects of jobs are encrypted, and others refused. Messages are signed in any case.

    Attributes:
        broker: The RabbitMQ node.
        store: Ceph's gateway.
        wire: The proxy before the broker.
        gateway: The proxy before the store.
        calls: The callbacks that arrived.
        app: The caller's app under the current conditions.
        workers: The workers under the current conditions.
    """

    broker: RabbitMQ
    store: CephGateway
    wire: Wire
    gateway: FaultyGateway
    calls: Calls
    app: Celery
    workers: Workers

    def __init__(self, directory: Path, *, encrypted: bool = False) -> None:
        self.directory = directory
        self.traces, self.kill_points, self.switches = (
            directory / name for name in ("traces", "kill_points", "switches")
        )
        for path in (self.traces, self.kill_points, self.switches):
            path.mkdir(parents=True)
        self._name = uuid.uuid4().hex[:8]
        self._signing_key = f"canary-{uuid.uuid4().hex}"
        self._encryption_key = secrets.token_urlsafe(32) if encrypted else ""
        self._stack = ExitStack()
        self._conditions: Conditions | None = None
        self._conditions_stack: ExitStack | None = None

    def __enter__(self) -> Self:
        with ThreadPoolExecutor(2) as pool:
            broker = pool.submit(RabbitMQ.start, self.directory / "rabbitmq")
            store = pool.submit(CephGateway.start, self.directory / "ceph")
            for server in (broker, store):
                self._stack.callback(lambda server=server: server.exception() or server.result().stop())
        try:
            self.broker, self.store = broker.result(), store.result()
            self.wire = self._stack.enter_context(Wire(parse_port(self.broker.url), canaries=self.canaries))
            self.gateway = self._stack.enter_context(FaultyGateway(parse_port(self.store.endpoint)))
            with self._environment(Conditions()) as environment:
                create_bucket(environment["FANOUT_STORE"])
                app = tasks.make_app(environment)
            self._stack.callback(app.close)
            self.calls = self._stack.enter_context(Calls(app, self.broker.url, f"calls-{self._name}"))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_workers()
        self._stack.close()

    def set_conditions(self, conditions: Conditions) -> None:
        """Start workers and a caller's app under these conditions, unless the current ones are the same."""
        if self._conditions == conditions:
            return
        self._stop_workers()
        with ExitStack() as stack:
            environment = stack.enter_context(self._environment(conditions))
            self.app = tasks.make_app(environment)
            self.app.set_current()
            stack.callback(self.app.close)
            variables = {**environment, "CAMPAIGN_KILL_POINTS": str(self.kill_points)}
            logs = self.directory / f"workers-{uuid.uuid4().hex[:8]}"
            self.workers = stack.enter_context(Workers(variables, logs, size=conditions.workers))
            self._conditions_stack = stack.pop_all()
        self._conditions = conditions

    @property
    def runtime(self) -> Runtime:
        """The caller's runtime."""
        runtime: Runtime = self.app.fanout.runtime  # type: ignore[attr-defined]
        return runtime

    @property
    def stall_s(self) -> float:
        return self.runtime.config.stall_s

    @property
    def queue(self) -> str:
        """The queue that the workers consume."""
        return f"work-{self._name}"

    @property
    def bucket(self) -> str:
        """The bucket of the jobs, and of the objects that they read and write in place, below `LAKE`."""
        return f"campaign-{self._name}"

    def job(self, job_id: str) -> Job:
        return Job(job_id, self.runtime)

    @property
    def canaries(self) -> dict[str, str]:
        """Credentials by name, which must appear in nothing that a job leaves behind."""
        named = {
            "store's secret key": self.store.environment["AWS_SECRET_ACCESS_KEY"],
            "signing key": self._signing_key,
            "encryption key": self._encryption_key,
        }
        return {name: secret for name, secret in named.items() if secret}

    @property
    def sealed_text(self) -> str:
        """A text that parameters of all jobs have, and no object of a job may show; empty without encryption."""
        return str(self.traces) if self._encryption_key else ""

    @contextmanager
    def switch_on(self, name: str, value: str = "") -> Iterator[None]:
        """Turn on a switch of `FaultInjectingAMQP` within the context."""
        switch = self.switches / name
        switch.write_text(value)
        try:
            yield
        finally:
            switch.unlink()

    def purge(self) -> int:
        """Drop the messages in the workers' queue and return their number."""
        with self.app.connection_for_write() as connection:
            purged: int = connection.default_channel.queue_purge(self.queue)
        return purged

    def wait_until_idle(self, *, timeout_s: float = 120.0) -> None:
        """Wait until the workers' queue holds no message, neither ready nor unacknowledged.

        Raises:
            TimeoutError: Messages are left.
        """
        deadline = time.monotonic() + timeout_s
        while left := self.broker.messages().get(self.queue, 0):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{left} messages are left after {timeout_s:g} s")

    def _stop_workers(self) -> None:
        if self._conditions_stack is not None:
            self._conditions_stack.close()
        self._conditions_stack = self._conditions = None

    @contextmanager
    def _environment(self, conditions: Conditions) -> Iterator[dict[str, str]]:
        """Yield the variables of caller and workers, and set them here, where boto3 reads the caller's."""
        broker = self.broker.url
        if conditions.cuttable:
            broker = broker.replace(f":{parse_port(broker)}", f":{self.wire.port}")
        store = dict(self.store.environment)
        if conditions.faulty:
            store["AWS_ENDPOINT_URL_S3"] = f"http://127.0.0.1:{self.gateway.port}"
        client = f"?client={conditions.client}" if conditions.client else ""
        encryption = {}
        if self._encryption_key:
            encryption["FANOUT_ENCRYPTION_KEYS"] = json.dumps({"campaign": self._encryption_key})
            encryption["FANOUT_REQUIRE_ENCRYPTION"] = "true"
        environment = {
            **store,
            "CAMPAIGN_BROKER": broker,
            "CAMPAIGN_QUEUE": self.queue,
            "CAMPAIGN_SWITCHES": str(self.switches),
            "FANOUT_STORE": f"s3://{self.bucket}/jobs{client}",
            "FANOUT_SOURCE_ROOTS": f"s3://{self.bucket}/{LAKE}",
            "FANOUT_SINK_ROOTS": f"s3://{self.bucket}/{LAKE}",
            "FANOUT_STALL_S": str(conditions.stall_s),
            "FANOUT_SIGNING_KEYS": json.dumps({"campaign": self._signing_key}),
            "FANOUT_REQUIRE_SIGNATURES": "true",
            **encryption,
            # The files of killed workers are removed together with this directory.
            "TMPDIR": str(self.directory),
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            yield environment


def parse_port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port
