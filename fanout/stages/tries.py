"""How often a step has been tried, kills of its worker included.

A first delivery costs nothing: it leaves a record only if it raises. Whoever gets a message that was delivered
before, or that a sweep sent, first puts on record that it starts; so the number of records is the number of runs,
and a step that kills its worker is stopped after exactly `limit` of them.
"""

from __future__ import annotations

import time

from ..failure import Failure
from ..ledger import Ledger
from ..records import Try, TryState


class Tries:
    """The tries of one step of a job.

    Args:
        ledger: The job's records.
        step: `setup`, `join` or `keys.process_step(…)`.
        known: Tries that were on record when the message was sent.
    """

    def __init__(self, ledger: Ledger, step: str, *, known: int = 0) -> None:
        self._ledger = ledger
        self._step = step
        self._known = known
        self.number = known + 1
        """Number of the try that is under way, from 1."""

    def admit(self, *, redelivered: bool, suspicious: bool, limit: int) -> bool:
        """Whether the step may run once more.

        Args:
            redelivered: The broker has delivered this very message before: an earlier run died, or never began.
            suspicious: The message may be one of several for the same step.
            limit: Runs that there may be.
        """
        if not redelivered and not suspicious:
            return True
        found = self._ledger.tries(self._step)
        if redelivered and found == self._known:
            # The first delivery of this message left no trace, so its worker is gone.
            found += 1
            self._record(found, TryState.LOST)
        self.number = found
        if found >= limit:
            return False
        self.number += 1
        self._record(self.number, TryState.STARTED)
        return True

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
            "its worker died while running it: killed, out of memory, or crashed",
            chunk=chunk,
            tries=self.number,
        )

    def _record(self, number: int, state: TryState, failure: Failure | None = None) -> None:
        self._ledger.write_try(self._step, number, Try(state=state, at=time.time(), failure=failure))
