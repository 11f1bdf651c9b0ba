"""Work that a process defers until it is idle."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import is_transient
from ..redaction import redact

_LOG = logging.getLogger(__name__)

PAUSE_S = 0.005
"""Seconds after its last step at which a process counts as idle. A busy worker receives its next message sooner."""

LONGEST_S = 0.25
"""Longest time that an action waits for a busy process, in seconds."""

MAX_CALLS = 10
"""Calls of an action while store or broker do not answer: about 8 minutes in all, as for a message."""


@dataclass(slots=True)
class _Deferred:
    action: Callable[[], object]
    since: float
    not_before: float = 0.0
    calls: int = 0


class Debouncer:
    """A queue of actions for one thread, which calls them once the process is idle. Thread-safe.

    A process is idle 5 ms after its last step. In a busy process an action is called 250 ms after it was deferred.
    Deferred actions are lost if the process dies, so a sweep must be able to make up for them. The thread starts with
    the first action and ends with the last one. A forked process starts a thread of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deferred: dict[Hashable, _Deferred] = {}
        self._steps = 0
        self._stepped_at = 0.0
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def work(self) -> Iterator[None]:
        """Count the process as busy within the block."""
        with self._lock:
            self._steps += 1
        try:
            yield
        finally:
            with self._lock:
                self._steps -= 1
                self._stepped_at = time.monotonic()
            self._changed.set()

    def defer(self, name: Hashable, action: Callable[[], object]) -> None:
        """Defer an action; it replaces an earlier one of the same name.

        Args:
            name: Identifies the action, here and in the log.
            action: Called once; again, after a growing pause, if store or broker do not answer.
        """
        with self._lock:
            self._deferred[name] = _Deferred(action, time.monotonic())
            # In a forked process the thread of the parent is not alive.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="fanout-debouncer", daemon=True)
                self._thread.start()
            elif not self._steps:
                self._changed.set()

    def drop(self, name: Hashable) -> None:
        """Drop the action of that name, if there is one, because it is not needed any more."""
        with self._lock:
            self._deferred.pop(name, None)

    def flush(self) -> None:
        """Call all deferred actions now, in this thread, because the process is about to end."""
        for name, deferred in self._take_due(at_once=True):
            self._call(name, deferred)

    def _run(self) -> None:
        while True:
            self._wait()
            for name, deferred in self._take_due():
                self._call(name, deferred)
            with self._lock:
                if not self._deferred:
                    self._thread = None
                    return

    def _wait(self) -> None:
        """Return when an action may be due."""
        with self._lock:
            self._changed.clear()
            wait_s = min(map(self._due_at, self._deferred.values()), default=0.0) - time.monotonic()
        if wait_s > PAUSE_S:
            # `work` sets the event at its end. Polling would take the interpreter from the steps.
            self._changed.wait(wait_s)
        else:
            time.sleep(max(wait_s, 0.0))

    def _due_at(self, deferred: _Deferred) -> float:
        """Return when to call the action, if no step begins or ends until then."""
        idle_at = float("inf") if self._steps else self._stepped_at + PAUSE_S
        return max(deferred.not_before, min(idle_at, deferred.since + LONGEST_S))

    def _take_due(self, *, at_once: bool = False) -> list[tuple[Hashable, _Deferred]]:
        """Remove the actions that are due, or all of them, and return them."""
        with self._lock:
            now = time.monotonic()
            due = [
                (name, deferred)
                for name, deferred in self._deferred.items()
                if at_once or self._due_at(deferred) <= now
            ]
            for name, _ in due:
                del self._deferred[name]
            return due

    def _call(self, name: Hashable, deferred: _Deferred) -> None:
        try:
            deferred.action()
        except Exception as error:
            if not is_transient(error):
                why = redact(traceback.format_exc())
                _LOG.error("%s: the deferred action failed; a sweep will make up for it\n%s", name, why)
                return
            deferred.calls += 1
            if deferred.calls >= MAX_CALLS:
                _LOG.error("%s: no answer to %d calls; a sweep will make up for it: %s", name, MAX_CALLS, error)
                return
            deferred.not_before = time.monotonic() + _backoff_s(deferred.calls)
            with self._lock:
                self._deferred.setdefault(name, deferred)


def _backoff_s(calls: int) -> float:
    """Return the seconds to wait after so many calls without an answer."""
    return min(2.0**calls, 60.0)
