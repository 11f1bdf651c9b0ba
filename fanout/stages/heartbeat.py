"""While a step works: says so in the store, and looks whether the job has ended meanwhile."""

from __future__ import annotations

import logging
import threading
from types import TracebackType

from storage import StorageError

from ..background.timers import Timers
from ..records.ledger import Ledger
from ..records.models import Note

_LOG = logging.getLogger("fanout")

TICK_S = 5.0
"""Longest time between two looks. A step shorter than a tick costs no request at all."""


JOIN_S = 1.0
"""Longest time that a step which has ended waits for the thread that beat for it."""


class Heartbeat:
    """A context in which a background thread beats for a step, two requests a tick. A short step needs no thread.

    Attributes:
        ended: True once the job was seen to have ended; a step that notices may stop.

    Args:
        timers: Tell when the first tick has passed.
        ledger: The job's records.
        step: The step that is at work.
        stall_s: Seconds without a beat after which others may believe the step dead; beats come three times as often.
        by: Token of the worker.
        at_once: Whether to beat before the first tick, because others already suspect the step.
    """

    def __init__(
        self, timers: Timers, ledger: Ledger, step: str, *, stall_s: float, by: str, at_once: bool = False
    ) -> None:
        self.ended = False
        self._timers = timers
        self._ledger = ledger
        self._step = step
        self._by = by
        self._tick_s = min(TICK_S, stall_s / 3)
        self._at_once = at_once
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Heartbeat:
        if self._at_once:
            self._write()
        self._timer = self._timers.set(self._tick_s, self._begin)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._timer.cancel() and self._thread is not None:
            self._stop.set()
            # A store that is silent must not hold up a step that has ended. A beat that comes late does no harm.
            self._thread.join(JOIN_S)

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._run, name=f"fanout-watch-{self._step}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                self._write()
                self.ended = self.ended or self._ledger.has_outcome()
            except StorageError as error:
                # The step itself will meet the store soon enough, and knows better what to do about it.
                _LOG.warning("job %s: %s: could not beat: %s", self._ledger.job_id, self._step, error)
            # no limit: this thread ends with its step
            if self._stop.wait(self._tick_s):
                return

    def _write(self) -> None:
        self._ledger.write_heartbeat(self._step, Note(by=self._by))
