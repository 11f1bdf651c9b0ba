"""How often a step has been tried, kills of its worker included.

A first delivery costs nothing: it leaves a record only if it raises (but see `climb`). Whoever gets a message that was
delivered before, or that a sweep sent, first puts on record that it starts; so the number of records is the number of
runs, and a step that kills its worker is stopped after exactly `limit` of them. Starts are write-once: of several who
are sent to the same step at once, one starts. What store or broker put off is no try: that, too, is put on record, as
soon as the store takes it, beside the try's number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto

from storage import StorageError

from ..errors import is_transient
from ..records.failure import Failure
from ..records.ledger import Ledger
from ..records.models import Attempt, AttemptState, Note
from ..records.run_ledger import RecordedAttempts
from .delivery import Delivery


class Admission(Enum):
    """Whether a step may run once more."""

    RUN = auto()
    LEAVE = auto()
    """Somebody else has just begun it."""
    GIVE_UP = auto()
    """It has used up its tries."""


class Attempts:
    """The tries of one step of a job.

    Args:
        ledger: The job's records.
        step: `setup`, `join` or `keys.process_step(…)`.
        by: Whose they are, where that matters to those who come later: token of the run, or of the message.
        now: Gives the store's time.
        known: Number of the last try that was on record when the message was sent.
    """

    def __init__(self, ledger: Ledger, step: str, *, by: str, now: Callable[[], float], known: int = 0) -> None:
        self._ledger = ledger
        self._now = now
        self._step = step
        self._by = by
        self._known = known
        self._interrupted = 0
        self._on_record = False
        self.number = known + 1
        """Number of the try that is under way, from 1."""

    @property
    def count(self) -> int:
        """How many tries there were, with the one under way and without those that were put off."""
        return self.number - self._interrupted

    def begin(self) -> bool:
        """Take the first try and put it on record; False if somebody else has begun it. One request."""
        self._on_record = self._start()
        return self._on_record

    def admit(
        self,
        delivery: Delivery,
        *,
        limit: int,
        stall_s: float = 0.0,
        why: Callable[[int], Failure] | None = None,
    ) -> Admission:
        """Whether the step may run once more.

        Args:
            delivery: What is known of earlier runs. A message that was resent may be one of several for the same step,
                and none of its runs began without a record. One that goes on does so as the same attempt, or as
                another where it is on record that the attempt was interrupted.
            limit: Runs that there may be.
            stall_s: Seconds without a sign of life for which a try that began is taken to be at work.
            why: Why the earlier run was lost, by the tries so far, where that is known.
        """
        lost, resent, goes_on = delivery.is_lost, delivery.resent, delivery.goes_on
        first = not (lost or resent or goes_on)
        if first and (self._known == 0 or self._known + 1 < limit):
            return Admission.RUN
        found = self._ledger.attempts(self._step)
        last, self._interrupted = found.last, len(found.interrupted)
        if first:
            # Only now does it matter how many of those that are known do not count.
            return Admission.RUN
        if resent and (last == self._known or not (lost or goes_on)):
            # No run for this message has begun.
            if self._at_work(found, stall_s):
                return Admission.LEAVE
        elif goes_on and not lost and last not in found.interrupted:
            self.number = max(last, self._known + 1)
            self._on_record = self.number == last
            return Admission.RUN
        elif lost and last == self._known:
            # The first delivery of this message left no trace, so its worker is gone.
            last += 1
            if not self._lose(last, why(last - self._interrupted) if why else None):
                return Admission.LEAVE
        elif lost and why:
            # It had put on record that it starts.
            self._record(last, AttemptState.LOST, why(last - self._interrupted))
        self.number = last
        if self.count >= limit:
            return Admission.GIVE_UP
        self.number += 1
        self._on_record = self._start()
        return Admission.RUN if self._on_record else Admission.LEAVE

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Within it, a run that store or broker fail is put on record as put off, if the store takes that.

        Without that record, whoever hears nothing of the run for long takes its worker for dead.
        """
        try:
            yield
        except Exception as error:
            if is_transient(error):
                with suppress(StorageError):
                    # One that had left no record takes a number, so that what goes on in its place gets the next.
                    number = self.number if self._on_record else self._ledger.attempts(self._step).last + 1
                    self._record_interrupted(number)
            raise

    def raised(self, failure: Failure) -> None:
        """Put on record that the try under way has raised."""
        self._record(self.number, AttemptState.RAISED, failure)

    def verdict(self, *, step: str, chunk: int | None = None, silent_s: float | None = None) -> Failure:
        """Why the step is given up: its last failure, or that its workers were lost.

        Args:
            step: `setup`, `process` or `join`.
            chunk: Index of the chunk, for process.
            silent_s: For how long nothing was heard of the last worker, if that is all that is known; None if the
                broker has delivered its message again.
        """
        known = self._ledger.last_failure(self._step, self.number)
        if known is not None:
            return known
        if silent_s is None:
            reason = (
                "its worker died while running it (killed, out of memory, or crashed), or it took longer than the "
                "broker waits for an answer"
            )
        else:
            reason = (
                f"its worker gave no sign of life for {silent_s:g} s: it died while running it (killed, out of memory, "
                "or crashed), or could not reach the store, not even to say so"
            )
        return Failure(step, "WorkerLost", reason, chunk=chunk, attempts=self.count)

    def _at_work(self, found: RecordedAttempts, stall_s: float) -> bool:
        """Whether somebody has begun the step, and given a sign of life since `stall_s`. One request at most."""
        began_at = found.written_at.get(found.last) if found.last not in found.interrupted else None
        now = self._now()
        if began_at is not None and now - began_at < stall_s:
            return True
        heartbeat_at = self._ledger.last_heartbeat(self._step)
        return heartbeat_at is not None and now - heartbeat_at < stall_s

    def _start(self) -> bool:
        """Take the try of this number; False if somebody else has begun it."""
        begun = Attempt(state=AttemptState.STARTED, at=time.time(), by=self._by)
        try:
            return self._ledger.begin_attempt(self._step, self.number, begun) is begun
        except StorageError:
            with suppress(StorageError):
                # The answer may have been lost, and the record may stand.
                if self._ledger.begin_attempt(self._step, self.number, begun) is begun:
                    self._record_interrupted(self.number)
            raise

    def _lose(self, number: int, failure: Failure | None) -> bool:
        """Put the try of that number on record as lost, which left none; False if somebody has begun it meanwhile."""
        lost = Attempt(state=AttemptState.LOST, at=time.time(), failure=failure, by=self._by)
        return self._ledger.begin_attempt(self._step, number, lost).state == AttemptState.LOST

    def _record_interrupted(self, number: int) -> None:
        self._ledger.write_interrupted(self._step, number, Note(by=self._by))

    def _record(self, number: int, state: AttemptState, failure: Failure | None = None) -> None:
        self._ledger.write_attempt(
            self._step, number, Attempt(state=state, at=time.time(), failure=failure, by=self._by)
        )


def overran(step: str, limit_s: float | None, *, chunk: int | None = None) -> Callable[[int], Failure] | None:
    """Why a run that was stopped at a time limit was lost, by the tries so far; None if there was no such limit."""
    if limit_s is None:
        return None
    return lambda attempts: Failure.of_time_limit(step, limit_s, chunk=chunk, attempts=attempts)
