"""Timers that share one thread; most of them are cancelled before they fire."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Timers:
    """A replacement for `threading.Timer` with one thread for all timers instead of one each. Thread-safe.

    The thread starts with the first timer and ends with the last one. A forked process starts a thread of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due_at: dict[Timer, float] = {}
        self._sooner = threading.Event()
        self._wakes_at = 0.0
        self._thread: threading.Thread | None = None

    def set(self, after_s: float, action: Callable[[], object]) -> Timer:
        """Schedule a call.

        Args:
            after_s: Seconds from now.
            action: Called once, in the thread that all timers share. It must be short, raise nothing, and set or
                cancel no timer here.
        """
        timer = Timer(self, action)
        due_at = time.monotonic() + after_s
        with self._lock:
            self._due_at[timer] = due_at
            # In a forked process the thread of the parent is not alive.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="fanout-timers", daemon=True)
                self._wakes_at = due_at
                self._thread.start()
            elif due_at < self._wakes_at:
                self._sooner.set()
        return timer

    def cancel(self, timer: Timer) -> bool:
        """Cancel a timer; see `Timer.cancel`."""
        with self._lock:
            return self._due_at.pop(timer, None) is not None

    def _run(self) -> None:
        while True:
            with self._lock:
                now = time.monotonic()
                for timer in [timer for timer, due_at in self._due_at.items() if due_at <= now]:
                    del self._due_at[timer]
                    # With the lock held, so that a `cancel` that comes too late returns after the call.
                    timer.action()
                if not self._due_at:
                    self._thread = None
                    return
                self._wakes_at = min(self._due_at.values())
                self._sooner.clear()
            self._sooner.wait(self._wakes_at - now)


class Timer:
    """One scheduled call.

    Attributes:
        action: The call.
    """

    __slots__ = ("_timers", "action")

    def __init__(self, timers: Timers, action: Callable[[], object]) -> None:
        self._timers = timers
        self.action = action

    def cancel(self) -> bool:
        """Cancel the call. Returns False if it was made or cancelled before."""
        return self._timers.cancel(self)
