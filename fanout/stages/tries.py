"""How often a step has been tried, kills of its worker included.

A first delivery costs nothing: it leaves a record only if it raises (but see `climb`). Whoever gets a message that was
delivered before, or that a sweep sent, first puts on record that it starts; so the number of records is the number of
runs, and a step that kills its worker is stopped after exactly `limit` of them. Starts are write-once: of several who
are sent to the same step at once, one starts. What store or broker put off is no try.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum, auto

from ..failure import Failure
from ..ledger import Ledger
from ..records import Note, Try, TryState


class Admission(Enum):
    """Whether a step may run once more."""

    RUN = auto()
    LEAVE = auto()
    """Somebody else has just begun it."""
    GIVE_UP = auto()
    """It has used up its tries."""


class Tries:
    """The tries of one step of a job.

    Args:
        ledger: The job's records.
        step: `setup`, `join` or `keys.process_step(…)`.
        known: Tries that were on record when the message was sent.
        by: Whose they are, where that matters to those who come later.
    """

    def __init__(self, ledger: Ledger, step: str, *, known: int = 0, by: str = "") -> None:
        self._ledger = ledger
        self._step = step
        self._known = known
        self._by = by
        self.number = known + 1
        """Number of the try that is under way, from 1."""

    def begin(self) -> bool:
        """Take the first try and put it on record; False if somebody else has begun it. One request."""
        return self._begin(self.number, TryState.STARTED)

    def admit(
        self,
        *,
        redelivered: bool,
        limit: int,
        suspicious: bool = False,
        retried: bool = False,
        stall_s: float = 0.0,
        why: Callable[[int], Failure] | None = None,
    ) -> Admission:
        """Whether the step may run once more.

        Args:
            redelivered: The broker has delivered this very message before: an earlier run died, or never began.
            limit: Runs that there may be.
            suspicious: The message may be one of several for the same step.
            retried: An earlier run for this message ended without being to blame (the store failed it, or its worker
                shut down), and goes on as the same try.
            stall_s: Seconds for which a try that began is taken to be at work.
            why: Why the earlier run was lost, by its number, where that is known.
        """
        if not redelivered and not suspicious and not retried:
            return Admission.RUN
        times, put_off = self._ledger.try_times(self._step)
        found = len(times)
        if retried and not redelivered:
            self.number = max(found, self._known + 1)
            return Admission.RUN
        if redelivered and found == self._known:
            # The first delivery of this message left no trace, so its worker is gone.
            found += 1
            if not self._begin(found, TryState.LOST, why(found) if why else None):
                return Admission.LEAVE
        elif redelivered and why:
            # It had put on record that it starts.
            self._record(found, TryState.LOST, why(found))
        elif suspicious and times and time.time() - times[-1] < stall_s:
            return Admission.LEAVE
        self.number = found
        if found - put_off >= limit:
            return Admission.GIVE_UP
        self.number += 1
        return Admission.RUN if self._begin(self.number, TryState.STARTED) else Admission.LEAVE

    def put_off(self, *, by: str) -> None:
        """Put on record that the run under way ended because the broker took no messages.

        Its message will come back as if its worker had died, so that one more try may be on record than there were.
        """
        self._ledger.write_put_off(self._step, Note(by=by))

    def raised(self, failure: Failure) -> None:
        """Put on record that the try under way has raised."""
        self._record(self.number, TryState.RAISED, failure)

    def verdict(self, *, step: str, chunk: int | None = None) -> Failure:
        """Why the step is given up: its last failure, or that its workers died."""
        known = self._ledger.last_failure(self._step, self.number)
        if known is not None:
            return known
        return Failure(
            step,
            "WorkerLost",
            "its worker died while running it (killed, out of memory, or crashed), or it took longer than the broker "
            "waits for an answer",
            chunk=chunk,
            tries=self.number,
        )

    def _begin(self, number: int, state: TryState, failure: Failure | None = None) -> bool:
        """Take the `number`-th try; False if somebody else has begun it."""
        begun = Try(state=state, at=time.time(), failure=failure, by=self._by)
        standing = self._ledger.begin_try(self._step, number, begun)
        return standing is begun or standing.state == state == TryState.LOST

    def _record(self, number: int, state: TryState, failure: Failure | None = None) -> None:
        self._ledger.write_try(self._step, number, Try(state=state, at=time.time(), failure=failure, by=self._by))


def overran(step: str, limit_s: float | None, *, chunk: int | None = None) -> Callable[[int], Failure] | None:
    """Why a run that was stopped at a time limit was lost, by its number; None if there was no such limit."""
    if limit_s is None:
        return None
    return lambda number: Failure.overran(step, limit_s, chunk=chunk, tries=number)
