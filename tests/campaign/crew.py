"""Workers that are replaced as they die."""

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


class Crew:
    """So many workers, each with so many pool children; a worker that dies is followed by a new one.

    Args:
        environment: What they are made from.
        directory: For their logs.
        size: Number of workers.
        concurrency: Pool children of each.
    """

    def __init__(self, environment: Mapping[str, str], directory: Path, *, size: int = 3, concurrency: int = 2) -> None:
        self.environment = dict(environment)
        self._directory = directory
        self._concurrency = concurrency
        self._berths: list[CeleryWorker | None] = [None] * size
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._keep, args=(berth,), daemon=True) for berth in range(size)]
        self._ready = threading.Semaphore(0)
        self.deaths = 0
        """Workers that have died so far."""

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        for _ in self._threads:
            if not self._ready.acquire(timeout=START_S):
                raise ServerFailed("the crew", f"was not ready within {START_S:g} s", "see the workers' logs")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def workers(self) -> list[CeleryWorker]:
        """Those that live, as far as is known."""
        return [worker for worker in self._berths if worker is not None and worker.alive]

    def children(self) -> dict[int, CeleryWorker]:
        """Each pool child that lives, and its worker."""
        return {pid: worker for worker in self.workers for pid in worker.children()}

    def logged(self, text: str) -> list[str]:
        """The lines with that text in the logs of all workers, the dead included."""
        return [
            line
            for log in sorted(self._directory.glob("*.log"))
            for line in log.read_text(errors="replace").splitlines()
            if text in line
        ]

    def _keep(self, berth: int) -> None:
        started = False
        while not self._stop.is_set():
            # One that fails to start, because its broker is down, is simply followed by the next.
            with contextlib.suppress(ServerFailed):
                worker = CeleryWorker.start(
                    APP,
                    directory=self._directory,
                    environment=self.environment,
                    concurrency=self._concurrency,
                    args=ARGS,
                    timeout_s=120.0,
                )
                self._berths[berth] = worker
                if not started:
                    self._ready.release()
                    started = True
                while worker.alive and not self._stop.wait(0.05):
                    pass
                self.deaths += not self._stop.is_set()
                self._berths[berth] = None
                worker.kill()
