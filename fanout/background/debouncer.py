"""What can wait until this process has nothing better to do."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import is_transient

_LOG = logging.getLogger("fanout")

PAUSE_S = 0.005
"""A process that has not worked for so long has nothing to do: a worker's next message comes sooner."""

LONGEST_S = 0.25
"""Longest time that anything waits for a busy process."""

ATTEMPTS = 10
"""Times that something is tried while store or broker do not answer: about 8 minutes, as for a message."""


@dataclass(slots=True)
class _Waiting:
    action: Callable[[], object]
    since: float
    not_before: float = 0.0
    attempts: int = 0


class Debouncer:
    """Does what was put off, in a thread, once the process has not worked for 5 ms, or after 250 ms if it has.

    What waits is lost if the process dies, so it must be something that a sweep makes good. Safe for threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, _Waiting] = {}
        self._at_work = 0
        self._worked_at = 0.0
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def work(self) -> Iterator[None]:
        """Within it the process is busy."""
        with self._lock:
            self._at_work += 1
        try:
            yield
        finally:
            with self._lock:
                self._at_work -= 1
                self._worked_at = time.monotonic()
            self._changed.set()

    def defer(self, name: Hashable, action: Callable[[], object]) -> None:
        """Have something done soon, instead of what was put off under that name before.

        Args:
            name: What it is called.
            action: Does it. May be called more than once if store or broker do not answer.
        """
        with self._lock:
            self._waiting[name] = _Waiting(action, time.monotonic())
            # A thread that is not alive any more: this process was forked from one that had it.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="fanout-idle", daemon=True)
                self._thread.start()
            elif not self._at_work:
                self._changed.set()

    def drop(self, name: Hashable) -> None:
        """Forget what was put off under that name: it has been done."""
        with self._lock:
            self._waiting.pop(name, None)

    def flush(self) -> None:
        """Do at once all that was put off: the process is about to end."""
        for name, waiting in self._due(at_once=True):
            self._do(name, waiting)

    def _run(self) -> None:
        while True:
            self._rest()
            for name, waiting in self._due():
                self._do(name, waiting)
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return

    def _rest(self) -> None:
        """Return when something may be due."""
        with self._lock:
            self._changed.clear()
            rest_s = min(map(self._due_at, self._waiting.values()), default=0.0) - time.monotonic()
        if rest_s > PAUSE_S:
            # Whoever stops working says so. To look again and again would take the interpreter from those who work.
            self._changed.wait(rest_s)
        else:
            time.sleep(max(rest_s, 0.0))

    def _due_at(self, waiting: _Waiting) -> float:
        """When it is to be done, if nothing changes until then."""
        paused_at = float("inf") if self._at_work else self._worked_at + PAUSE_S
        return max(waiting.not_before, min(paused_at, waiting.since + LONGEST_S))

    def _due(self, *, at_once: bool = False) -> list[tuple[Hashable, _Waiting]]:
        """Take out what is to be done now."""
        with self._lock:
            now = time.monotonic()
            due = [
                (name, waiting) for name, waiting in self._waiting.items() if at_once or self._due_at(waiting) <= now
            ]
            for name, _ in due:
                del self._waiting[name]
            return due

    def _do(self, name: Hashable, waiting: _Waiting) -> None:
        try:
            waiting.action()
        except Exception as error:
            if not is_transient(error):
                _LOG.exception("%s: failed, and is left to a sweep", name)
                return
            waiting.attempts += 1
            if waiting.attempts >= ATTEMPTS:
                _LOG.error("%s: put off %d times, now left to a sweep: %s", name, ATTEMPTS, error)
                return
            waiting.not_before = time.monotonic() + _patience_s(waiting.attempts)
            with self._lock:
                self._waiting.setdefault(name, waiting)


def _patience_s(attempts: int) -> float:
    """How long to wait after so many tries in vain."""
    return min(2.0**attempts, 60.0)
