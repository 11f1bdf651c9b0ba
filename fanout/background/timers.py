"""Things to be done later that are mostly called off before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Timers:
    """What `threading.Timer` does, with one thread for all of them instead of one each. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: dict[Timer, float] = {}
        self._sooner = threading.Event()
        self._wakes_at = 0.0
        self._thread: threading.Thread | None = None

    def set(self, after_s: float, action: Callable[[], object]) -> Timer:
        """Have something done later.

        Args:
            after_s: Seconds from now.
            action: Does it, in the thread of all alarms; must be short and raise nothing.
        """
        timer = Timer(self, action)
        at = time.monotonic() + after_s
        with self._lock:
            self._due[timer] = at
            # A thread that is not alive any more: this process was forked from one that had it.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="fanout-alarms", daemon=True)
                self._wakes_at = at
                self._thread.start()
            elif at < self._wakes_at:
                self._sooner.set()
        return timer

    def cancel(self, timer: Timer) -> bool:
        """See `Timer.cancel`."""
        with self._lock:
            return self._due.pop(timer, None) is not None

    def _run(self) -> None:
        while True:
            with self._lock:
                now = time.monotonic()
                for timer in [timer for timer, at in self._due.items() if at <= now]:
                    del self._due[timer]
                    # With the lock held, so that who calls off too late knows that it has been done.
                    timer.action()
                if not self._due:
                    self._thread = None
                    return
                self._wakes_at = min(self._due.values())
                self._sooner.clear()
            self._sooner.wait(self._wakes_at - now)


class Timer:
    """One thing to be done.

    Attributes:
        action: Does it.
    """

    __slots__ = ("_timers", "action")

    def __init__(self, timers: Timers, action: Callable[[], object]) -> None:
        self._timers = timers
        self.action = action

    def cancel(self) -> bool:
        """Do it no more. Returns False if it has been done."""
        return self._timers.cancel(self)
