"""The heartbeat of a step: a record that it is running, and a check whether the job has ended meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType

from storage import StorageError

from ..background.timers import Timers
from ..external.context import Signs, current_step
from ..logs import fields_of
from ..records.ledger import Ledger
from ..records.models import Note

_LOG = logging.getLogger(__name__)

TICK_S = 5.0
"""Longest time between two heartbeats, in seconds. A step shorter than a tick costs no request."""

JOIN_S = 1.0
"""Longest time that a step which has ended waits for its heartbeat's thread, in seconds."""


class Heartbeat:
    """A context in which a thread writes heartbeats for a step, at two requests a tick.

    The thread starts after the first tick, so a shorter step needs none. Each step has a thread of its own, because a
    request to a silent store must delay neither the heartbeats of other steps nor the shared timers.

    Attributes:
        ended: Whether the job has ended, as far as the thread has seen. A step that sees it may stop.

    Args:
        timers: Timers for the first tick.
        ledger: The job's records.
        step: The step that runs.
        stall_s: Seconds without a heartbeat after which other workers may believe the step dead. There are at least
            three heartbeats in this time.
        by: Token of the run.
        at_once: Whether to write the first heartbeat on entry, because a sweep or a caller suspects the step already.
        signs: The signs of the run, whose note each heartbeat carries; those of the context on entry if not given.
    """

    def __init__(
        self,
        timers: Timers,
        ledger: Ledger,
        step: str,
        *,
        stall_s: float,
        by: str,
        at_once: bool = False,
        signs: Signs | None = None,
    ) -> None:
        self.ended = False
        self._timers = timers
        self._ledger = ledger
        self._step = step
        self._by = by
        self._tick_s = min(TICK_S, stall_s / 3)
        self._at_once = at_once
        self._signs = signs
        self._written_at = 0.0
        self._stop: threading.Event | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Heartbeat:
        context = current_step()
        if self._signs is None:
            self._signs = context.signs if context is not None else Signs()
        self._signs.pulse = self
        self._written_at = time.monotonic()
        if self._at_once:
            self._write()
        self._timer = self._timers.set(self._tick_s, self._start_thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._signs is not None
        self._signs.pulse = None
        if not self._timer.cancel() and self._thread is not None:
            assert self._stop is not None
            self._stop.set()
            # A silent store must not hold up a step that has ended. A late heartbeat does no harm.
            self._thread.join(JOIN_S)

    def beat(self) -> None:
        """Write a heartbeat if the thread is half a tick late, as beside a step that lets no other thread run.

        One request at most.
        """
        if time.monotonic() - self._written_at >= 1.5 * self._tick_s:
            self._try_to_write()

    def _start_thread(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._stop,), name=f"fanout-heartbeat-{self._step}", daemon=True
        )
        self._thread.start()

    def _run(self, stop: threading.Event) -> None:
        while True:
            self._try_to_write(look=True)
            # no limit: this thread ends with its step
            if stop.wait(self._tick_s):
                return

    def _try_to_write(self, *, look: bool = False) -> None:
        """Write a heartbeat, and look whether the job has ended; log a warning if the store does not answer."""
        try:
            self._write()
            self.ended = self.ended or (look and self._ledger.has_outcome())
        except StorageError as error:
            # The step itself will meet the store's error, and handles it.
            job_id = self._ledger.job_id
            text = "job %s: %s: could not write its heartbeat: %s"
            _LOG.warning(text, job_id, self._step, error, extra=fields_of(job_id))

    def _write(self) -> None:
        # Before the request, so that a silent store is not asked by the step and the thread in turn.
        self._written_at = time.monotonic()
        text = self._signs.note if self._signs is not None else ""
        self._ledger.write_heartbeat(self._step, Note(by=self._by, text=text))
