"""Workers that are replaced when they die."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack import CeleryWorker, ServerFailed

APP = "tests.campaign.app:app"
START_S = 180.0
ARGS = ("--without-gossip", "--without-mingle", "--without-heartbeat")


class Workers:
    """A fixed number of workers. A new worker replaces each one that dies.

    Args:
        environment: Environment variables of the workers.
        directory: Directory for their logs.
        size: Number of workers.
        concurrency: Pool children per worker.
    """

    def __init__(self, environment: Mapping[str, str], directory: Path, *, size: int = 3, concurrency: int = 2) -> None:
        self.environment = dict(environment)
        self._directory = directory
        self._concurrency = concurrency
        self._slots: list[CeleryWorker | None] = [None] * size
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._keep, args=(slot,), daemon=True) for slot in range(size)]
        self._ready = threading.Semaphore(0)
        self.deaths = 0
        """Number of workers that have died."""

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        for _ in self._threads:
            if not self._ready.acquire(timeout=START_S):
                raise ServerFailed("the workers", f"were not ready within {START_S:g} s", "see the workers' logs")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def living(self) -> list[CeleryWorker]:
        """The workers that are alive."""
        return [worker for worker in self._slots if worker is not None and worker.alive]

    def children(self) -> dict[int, CeleryWorker]:
        """Return the living pool children, by process id, with their workers."""
        return {pid: worker for worker in self.living for pid in worker.children()}

    def find_log_lines(self, text: str) -> list[str]:
        """Return the lines with that text in the logs of all workers, dead ones included."""
        return [
            line
            for log in sorted(self._directory.glob("*.log"))
            for line in log.read_text(errors="replace").splitlines()
            if text in line
        ]

    def _keep(self, slot: int) -> None:
        started = False
        while not self._stop.is_set():
            # A worker may fail to start because the broker is down. The next attempt follows at once.
            with contextlib.suppress(ServerFailed):
                worker = CeleryWorker.start(
                    APP,
                    directory=self._directory,
                    environment=self.environment,
                    concurrency=self._concurrency,
                    args=ARGS,
                    timeout_s=120.0,
                )
                self._slots[slot] = worker
                if not started:
                    self._ready.release()
                    started = True
                while worker.alive and not self._stop.wait(0.05):
                    pass
                self.deaths += not self._stop.is_set()
                self._slots[slot] = None
                worker.kill()
