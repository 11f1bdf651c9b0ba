"""Control over when a batch is shared out: its timers fire when a test says so, and its clock is the test's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from fanout.background.timers import Timer, Timers
from fanout.stages import batch_run
from fanout.stages.batch_run import BatchRun


class ManualTimers(Timers):
    """Timers of which those of batches fire only when a test calls `share_out`. All others fire when they are due."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[Timer] = []

    def set(self, after_s: float, action: Callable[[], object]) -> Timer:
        if not isinstance(getattr(action, "__self__", None), BatchRun):
            return super().set(after_s, action)
        timer = Timer(self, action)
        self._waiting.append(timer)
        return timer

    def cancel(self, timer: Timer) -> bool:
        if timer in self._waiting:
            self._waiting.remove(timer)
            return True
        return super().cancel(timer)

    @property
    def is_waiting(self) -> bool:
        """Whether the timer of a batch is set."""
        return bool(self._waiting)

    def fire(self) -> list[threading.Thread]:
        """Fire the timer of the batch that began last; return the threads that share out."""
        self._waiting.pop().action()
        return [thread for thread in threading.enumerate() if thread.name == "fanout-share"]

    def share_out(self) -> None:
        """Have the batch that began last shared out, and return when its thread has ended.

        A call from process, so the batch is at the current chunk.
        """
        for thread in self.fire():
            thread.join(30)
            assert not thread.is_alive()


class Clock:
    """The time by which batches measure how long their chunks take. Only a test advances it."""

    def __init__(self) -> None:
        self.now = 0.0

    def replace_in(self, monkeypatch: Any) -> None:
        """Make this the clock of batches. Their stats have the real time."""
        clock = SimpleNamespace(monotonic=lambda: self.now, time=time.time)
        monkeypatch.setattr(batch_run, "time", clock)
