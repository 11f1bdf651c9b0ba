"""The servers of a campaign, and the crew that works on them."""

from __future__ import annotations

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
from .crew import Crew
from .gateway import FaultyGateway
from .wire import Wire

STALL_S = 2.0
"""Short, so that sweeps act soon; the default is a minute."""

UNSWEPT_S = 60.0
"""Long enough for no sweep to act."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a fault asks of the crew; a crew is kept for the next fault if that asks for the same.

    Attributes:
        cuttable: Whether workers and caller reach the broker through the proxy that cuts connections.
        faulty: Whether they reach the store through the proxy that fails requests.
        stall_s: Seconds without progress after which a sweep moves a job.
        workers: Number of workers, of two pool children each.
        client: The S3 client; the one that the library picks if empty.
    """

    cuttable: bool = False
    faulty: bool = False
    stall_s: float = STALL_S
    workers: int = 3
    client: str = ""


class Site:
    """A broker, a store, both with a proxy before them, the callbacks' consumer, and at most one crew.

    Args:
        directory: For everything that is written.

    Attributes:
        broker: The RabbitMQ node.
        store: Ceph's gateway.
        wire: The proxy before the broker.
        gateway: The proxy before the store.
        calls: What the callbacks were told.
        app: The caller's app under the present conditions.
        crew: The workers under the present conditions.
    """

    broker: RabbitMQ
    store: CephGateway
    wire: Wire
    gateway: FaultyGateway
    calls: Calls
    app: Celery
    crew: Crew

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.traces, self.traps, self.switches = (directory / name for name in ("traces", "traps", "switches"))
        for path in (self.traces, self.traps, self.switches):
            path.mkdir(parents=True)
        self._name = uuid.uuid4().hex[:8]
        self._stack = ExitStack()
        self._conditions: Conditions | None = None
        self._under: ExitStack | None = None

    def __enter__(self) -> Self:
        with ThreadPoolExecutor(2) as pool:
            broker = pool.submit(RabbitMQ.start, self.directory / "rabbitmq")
            store = pool.submit(CephGateway.start, self.directory / "ceph")
            for server in (broker, store):
                self._stack.callback(lambda server=server: server.exception() or server.result().stop())
        try:
            self.broker, self.store = broker.result(), store.result()
            self.wire = self._stack.enter_context(Wire(_port(self.broker.url)))
            self.gateway = self._stack.enter_context(FaultyGateway(_port(self.store.endpoint)))
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
        self._dismiss()
        self._stack.close()

    def under(self, conditions: Conditions) -> None:
        """Have a crew and a caller's app under these conditions; those at hand are kept if they will do."""
        if self._conditions == conditions:
            return
        self._dismiss()
        with ExitStack() as stack:
            environment = stack.enter_context(self._environment(conditions))
            self.app = tasks.make_app(environment)
            self.app.set_current()
            stack.callback(self.app.close)
            hands = {**environment, "CAMPAIGN_TRAPS": str(self.traps)}
            logs = self.directory / f"crew-{uuid.uuid4().hex[:8]}"
            self.crew = stack.enter_context(Crew(hands, logs, size=conditions.workers))
            self._under = stack.pop_all()
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
        """The queue that the crew consumes."""
        return f"work-{self._name}"

    def job(self, job_id: str) -> Job:
        return Job(job_id, self.runtime)

    @contextmanager
    def switched(self, name: str, value: str = "") -> Iterator[None]:
        """Within it, messages are published as that switch says; see `sabotage`."""
        switch = self.switches / name
        switch.write_text(value)
        try:
            yield
        finally:
            switch.unlink()

    def purge(self) -> int:
        """Drop the messages that wait in the crew's queue; returns how many."""
        with self.app.connection_for_write() as connection:
            purged: int = connection.default_channel.queue_purge(self.queue)
        return purged

    def await_quiet(self, *, timeout_s: float = 120.0) -> None:
        """Wait until the crew's queue is empty, messages that a worker has taken included.

        Raises:
            TimeoutError: Some are left.
        """
        deadline = time.monotonic() + timeout_s
        while left := self.broker.messages().get(self.queue, 0):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{left} messages are left after {timeout_s:g} s")

    def _dismiss(self) -> None:
        if self._under is not None:
            self._under.close()
        self._under = self._conditions = None

    @contextmanager
    def _environment(self, conditions: Conditions) -> Iterator[dict[str, str]]:
        """What caller and workers are made from; boto3 reads the caller's part from this process's environment."""
        broker = self.broker.url
        if conditions.cuttable:
            broker = broker.replace(f":{_port(broker)}", f":{self.wire.port}")
        store = dict(self.store.environment)
        if conditions.faulty:
            store["AWS_ENDPOINT_URL_S3"] = f"http://127.0.0.1:{self.gateway.port}"
        client = f"?client={conditions.client}" if conditions.client else ""
        environment = {
            **store,
            "CAMPAIGN_BROKER": broker,
            "CAMPAIGN_QUEUE": self.queue,
            "CAMPAIGN_SWITCHES": str(self.switches),
            "FANOUT_STORE": f"s3://campaign-{self._name}/jobs{client}",
            "FANOUT_STALL_S": str(conditions.stall_s),
            # What killed workers leave behind goes with the rest.
            "TMPDIR": str(self.directory),
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            yield environment


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port
