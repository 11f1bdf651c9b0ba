"""A real Celery worker: `celery worker` in new processes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import uuid4

from . import tree
from .process import Process
from .server import Server


class CeleryWorker(Server):
    """A Celery worker whose main process and pool children can be observed, suspended and killed.

    Attributes:
        name: Its node name, without the host.
    """

    def __init__(self, process: Process, *, name: str) -> None:
        self.name = name
        self._process = process

    @classmethod
    def start(
        cls,
        app: str,
        *,
        directory: Path,
        environment: Mapping[str, str],
        concurrency: int = 2,
        pool: str = "prefork",
        queues: str | None = None,
        name: str | None = None,
        args: Sequence[str] = (),
        cwd: Path | None = None,
        timeout_s: float = 60.0,
    ) -> CeleryWorker:
        """Start a worker and wait until it consumes.

        Args:
            app: The application, as for `celery -A`.
            directory: Directory for its log, created if missing.
            environment: Variables of broker and object store, added to this process's environment.
            concurrency: Pool children, or threads.
            pool: A pool of Celery: `prefork`, `threads`, `solo`.
            queues: Its queues, separated by commas. Default: the app's default queue.
            name: Its node name. Default: a new one, because two workers must not have the same.
            args: Further options of `celery worker`.
            cwd: Its working directory, from which it imports `app`. Default: the current directory.
            timeout_s: Time limit of the start, in seconds.

        Raises:
            ServerFailed: It ended or was not ready in time, for example because the app cannot be imported.
        """
        name = name or f"worker-{uuid4().hex[:8]}"
        command = [sys.executable, "-m", "celery", "-A", app, "worker", "--loglevel", "INFO"]
        command += ["--hostname", f"{name}@%h", "--concurrency", str(concurrency), "--pool", pool]
        if queues is not None:
            command += ["--queues", queues]
        process = Process.start(
            [*command, *args],
            name=name,
            directory=directory,
            environment={"PYTHONUNBUFFERED": "1", **environment},
            cwd=cwd,
        )
        process.wait_until(
            lambda: any(line.endswith(" ready.") for line in process.log().splitlines()),
            what="get ready",
            timeout_s=timeout_s,
        )
        return cls(process, name=name)

    @property
    def environment(self) -> dict[str, str]:
        """No variables: clients reach a worker through the broker."""
        return {}

    @property
    def pid(self) -> int:
        """The process id of the main process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the main process still runs."""
        return self._process.alive

    def children(self) -> list[int]:
        """Return the process ids of the pool children, oldest first, or an empty list for a pool without processes."""
        return tree.children(self.pid)

    def kill_child(self, pid: int | None = None) -> int:
        """Kill one pool child (SIGKILL) and return its process id. The worker replaces it.

        Do not use it on the filesystem broker. There Celery's children share one pipe, and an idle child that is killed
        while it holds the pipe's lock blocks all others. On RabbitMQ and Redis each child has its own pipe.

        Args:
            pid: One of `children`. Default: the oldest.

        Raises:
            ProcessLookupError: There is no such child.
        """
        children = self.children()
        if not children or pid not in (None, *children):
            raise ProcessLookupError(f"worker {self.name} has no child {pid or ''}".rstrip())
        victim = children[0] if pid is None else pid
        os.kill(victim, signal.SIGKILL)
        return victim

    def kill(self) -> None:
        """Kill the main process and all children at once (SIGKILL), as if the machine were lost."""
        self._process.kill()

    def suspend(self) -> None:
        """Suspend all its processes (SIGSTOP), as if the worker hung."""
        self._process.signal(signal.SIGSTOP, group=True)

    def resume(self) -> None:
        """Resume a suspended worker."""
        self._process.signal(signal.SIGCONT, group=True)

    def rss_bytes(self) -> int:
        """Return the resident memory of main process and children, in bytes. Shared pages count per process."""
        return self._process.rss_bytes()

    def log(self) -> str:
        """Return its log since its start."""
        return self._process.log()

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """Let it finish its tasks and end (SIGTERM), and kill it after the timeout. Idempotent."""
        self._process.stop(timeout_s=timeout_s)
