"""A real Celery worker: `celery worker` in processes of its own."""

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
    """A Celery worker whose main process and pool children can be watched, suspended and killed.

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
            directory: For its log; made when missing.
            environment: Added to the environment of this process: where broker and object store are.
            concurrency: Pool children, or threads.
            pool: A pool of Celery: `prefork`, `threads`, `solo`.
            queues: Comma-separated; the app's default queue when not given.
            name: Its node name; a new one when not given, for two workers must not share one.
            args: More options of `celery worker`.
            cwd: Where `app` is imported from, besides the path; the current directory when not given.
            timeout_s: Seconds it has to get ready.

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
        """Nothing: clients find a worker through the broker."""
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
        """Return the process ids of the pool children, oldest first; empty for a pool without processes."""
        return tree.children(self.pid)

    def kill_child(self, pid: int | None = None) -> int:
        """Kill one pool child (SIGKILL) and return its process id; the worker replaces it.

        Not on the filesystem broker: there Celery's children share one pipe, and an idle one that is killed
        while it holds the pipe's lock stops all others for good. On RabbitMQ and Redis each has its own.

        Args:
            pid: One of `children`; the oldest when not given.

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
        """Kill the main process and all children at once (SIGKILL), as a lost machine would look."""
        self._process.kill()

    def suspend(self) -> None:
        """Stop all its processes (SIGSTOP) without ending them: a worker that hangs."""
        self._process.signal(signal.SIGSTOP, group=True)

    def resume(self) -> None:
        """Let a suspended worker run on."""
        self._process.signal(signal.SIGCONT, group=True)

    def rss_bytes(self) -> int:
        """Return the resident memory of main process and children; shared pages count per process."""
        return self._process.rss_bytes()

    def log(self) -> str:
        """Return what it has logged since its start."""
        return self._process.log()

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """Let it finish the running tasks and end (SIGTERM), kill it after the timeout; idempotent."""
        self._process.stop(timeout_s=timeout_s)
