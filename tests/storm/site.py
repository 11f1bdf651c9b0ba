"""Servers for the whole storm, and workers and a caller for each configuration."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import pytest
import redis

from devstack import CeleryWorker, CephGateway, MotoServer, Process, RabbitMQ, Redis, Server, ServerUnavailable
from devstack.ports import free_port
from storage import create_bucket

from .case_environment import LIMIT_S
from .cases import COMMON
from .configuration import Configuration
from .table import Result

WORKERS = 2
CONCURRENCY = 2
GRACE_S = 3.0
"""Time that a case's caller has after the limit to dump its stacks."""

REDIS_DATABASES = 16

_FRAME = re.compile(r'File "(?:.*/)?((?:fanout|storage)/[^"]+)", line (\d+) in (\S+)')


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers that all configurations share."""

    rabbitmq: RabbitMQ
    redis: Redis
    store: CephGateway | MotoServer
    moto: MotoServer | None = None

    @property
    def sqs_url(self) -> str:
        """URL of moto's SQS as a broker; "" if it does not run."""
        return f"sqs://key:secret@{urlsplit(self.moto.endpoint).netloc}" if self.moto is not None else ""

    @classmethod
    @contextmanager
    def start(cls, directory: Path) -> Iterator[Servers]:
        """Start RabbitMQ, Redis, moto for SQS, and an S3 server: Ceph's gateway, or moto if that is not installed."""
        starts = (RabbitMQ.start, Redis.start, _start_store, MotoServer.start)
        with ExitStack() as stack, ThreadPoolExecutor(len(starts)) as pool:
            starting = [
                pool.submit(start, directory / name)
                for name, start in zip(("rabbitmq", "redis", "store", "moto"), starts, strict=True)
            ]
            for server in starting:
                stack.callback(lambda server=server: server.exception() or server.result().stop())
            yield cls(*(server.result() for server in starting))  # type: ignore[arg-type]

    @contextmanager
    def set_environment(self) -> Iterator[None]:
        """Set the variables within the context by which this process reaches the store."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.store.environment.items():
                patch.setenv(name, value)
            yield


def _start_store(directory: Path) -> Server:
    try:
        return CephGateway.start(directory)
    except ServerUnavailable:
        return MotoServer.start(directory)


class Deployment:
    """Workers and a caller under one configuration.

    Args:
        servers: The servers.
        configuration: The configuration.
        database: Number of its database in Redis.
        directory: A new directory for logs and traces.
    """

    def __init__(self, servers: Servers, configuration: Configuration, *, database: int, directory: Path) -> None:
        self._configuration = configuration
        self._directory = directory
        self._rabbitmq = servers.rabbitmq.add_host()
        self._workers: list[CeleryWorker] = []
        self._caller: Process | None = None
        self._port = 0
        directory.mkdir(parents=True)
        results = servers.redis.url.rpartition("/")[0] + f"/{database}"
        with redis.Redis.from_url(results, socket_timeout=10) as client:
            client.flushdb()
        (directory / "results").mkdir()
        backends = {
            "redis": results,
            "rpc": "rpc://",
            "file": (directory / "results").as_uri(),
            "database": f"db+sqlite:///{directory / 'results.sqlite'}",
            "none": "",
        }
        store = f"s3://storm-{uuid.uuid4().hex[:12]}/some/prefix"
        create_bucket(store)
        self._environment = {
            **servers.store.environment,
            "STORM_CONFIGURATION": configuration.name,
            "STORM_BROKER": {"redis": results, "sqs": servers.sqs_url}.get(configuration.broker, self._rabbitmq.url),
            "STORM_BACKEND": backends[configuration.backend],
            "STORM_STORE": store,
            "TMPDIR": str(directory),
            # Celery refuses to run as root with pickle, and CI runs as root.
            "C_FORCE_ROOT": "yes",
        }

    def __enter__(self) -> Deployment:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.kill()
        if self._caller is not None:
            self._caller.kill()

    def run(self, case: str, *, limit_s: float = LIMIT_S) -> Result:
        """Run one case, and return its result. Missing workers and a missing caller are started before."""
        name = self._configuration.name
        case_directory = self._directory / case.replace(" ", "-")
        case_directory.mkdir()
        try:
            self._start_missing()
        except Exception as error:
            return Result(name, case, reason=" ".join(str(error).split())[:300], traceback=str(error))
        started = time.monotonic()
        with self._close_on_request(case_directory):
            response = self._request_case(case, case_directory, limit_s=limit_s)
        if response is None:
            response = {"reason": f"hung: {self._find_hang()}", "traceback": self._end_caller()}
        return Result(
            name,
            case,
            reason=response["reason"],
            traceback=response["traceback"],
            seconds=round(time.monotonic() - started, 1),
        )

    def _request_case(self, case: str, case_directory: Path, *, limit_s: float) -> dict[str, str] | None:
        """Return the caller's response, or None if there is none."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=limit_s + GRACE_S)
        try:
            connection.request("GET", f"/{quote(case)}?{urlencode({'directory': str(case_directory)})}")
            response: dict[str, str] = json.loads(connection.getresponse().read())
        except (OSError, ValueError):
            return None
        finally:
            connection.close()
        return response

    def _start_missing(self) -> None:
        with ThreadPoolExecutor(WORKERS + 1) as pool:
            alive = [worker for worker in self._workers if worker.alive]
            starting = [pool.submit(self._start_worker) for _ in range(WORKERS - len(alive))]
            calling = pool.submit(self._start_caller) if self._caller is None or not self._caller.alive else None
            for dead in self._workers:
                if dead not in alive:
                    dead.kill()
            self._workers = alive
            for worker in starting:
                self._workers.append(worker.result())
            if calling is not None:
                calling.result()

    def _start_worker(self) -> CeleryWorker:
        return CeleryWorker.start(
            "tests.storm.app:app",
            directory=self._directory,
            environment=self._environment,
            concurrency=CONCURRENCY,
            pool=self._configuration.pool,
            queues=self._configuration.queues or None,
            args=self._configuration.args,
        )

    def _start_caller(self) -> None:
        self._port = free_port()
        web = "tests.storm.web"
        gunicorn = ("-m", "gunicorn", "--worker-class", "gthread", "--threads", "4", "--timeout", "600")
        uvicorn = ("-m", "uvicorn", "--lifespan", "off", "--log-level", "warning", "--port", str(self._port))
        commands: dict[str, tuple[str, ...]] = {
            "main": ("-m", web, "main", str(self._port)),
            "threads": ("-m", web, "threads", str(self._port)),
            "gthread": (*gunicorn, "--bind", f"127.0.0.1:{self._port}", f"{web}:application"),
            "asyncio": (*uvicorn, f"{web}:in_thread"),
            "loop": (*uvicorn, f"{web}:in_loop"),
        }
        self._caller = Process.start(
            [sys.executable, *commands[self._configuration.caller]],
            name="caller",
            directory=self._directory,
            environment={"PYTHONUNBUFFERED": "1", **self._environment, "STORM_CALLER": "yes"},
        )
        self._caller.wait_for_port(self._port)

    def _find_hang(self) -> str:
        """Return the innermost line of fanout or storage in the dump of the thread that ran the case."""
        if self._caller is None or not self._caller.alive:
            return "the caller ended"
        threads = self._caller.log().split("hread 0x")
        frames = next((_FRAME.findall(thread) for thread in threads if "storm/cases.py" in thread), [])
        # The dump has the innermost frame first.
        ours = [f"{path}:{line} in {name}" for path, line, name in frames]
        return ours[0] if ours else "the caller does not respond"

    def _end_caller(self) -> str:
        if self._caller is None:
            return ""
        log = self._caller.log()
        self._caller.kill()
        return log[-4000:]

    @contextmanager
    def _close_on_request(self, case_directory: Path) -> Iterator[None]:
        """Close the configuration's connections when the case requests it, within the context."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                if (case_directory / "close").exists():
                    self._rabbitmq.ctl("close_all_connections", "--vhost", self._rabbitmq.host, "storm")
                    (case_directory / "close.done").touch()
                    return

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        try:
            yield
        finally:
            done.set()
            watching.join(timeout=30)


def select_cases(configuration: Configuration, wanted: Sequence[str] = ()) -> list[str]:
    """Return the configuration's cases in order, or those of them that are wanted."""
    chosen = [case for case in (*COMMON, *configuration.own) if case not in configuration.without]
    return [case for case in chosen if not wanted or case in wanted]
