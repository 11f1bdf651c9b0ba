"""Attempts of a step, with those in which its worker died.

The first attempt for a message leaves a record only if it raises, so that it costs nothing. (`combine` records its
first attempt, too.) A worker whose message was redelivered, or sent by a sweep, records the start of its attempt before
it runs the step. So the number of records is the number of runs, and a step that kills its workers is stopped after
exactly `limit` of them. Records of starts are write-once: of several workers that get messages for the same step at
once, one starts. An attempt that an outage of the store or the broker interrupts does not count. The worker records the
interruption beside the attempt, if the store takes the record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto

from storage import StorageError

from ..abc import Delivery
from ..errors import is_transient
from ..records.attempt import Attempt, AttemptState
from ..records.failure import Failure
from ..records.ledger import Ledger
from ..records.models import Note
from ..records.run_ledger import RecordedAttempts


class Admission(Enum):
    """A decision whether a step may run once more."""

    RUN = auto()
    LEAVE = auto()
    """Another worker has just started it."""
    GIVE_UP = auto()
    """It has used up its attempts."""


class Attempts:
    """The attempts of one step of a job.

    Attributes:
        number: Number of the current attempt, from 1.

    Args:
        ledger: The job's records.
        step: `setup`, `join`, `keys.process_step(…)` or `keys.combine_step(…)`.
        by: Token under which the attempts are recorded.
        message: Id of the run's message; empty if the engine gives it none.
        now: Returns the store's time, in seconds since the epoch.
        known: Number of the last attempt that was recorded when the message was sent.
    """

    def __init__(
        self, ledger: Ledger, step: str, *, by: str, message: str = "", now: Callable[[], float], known: int = 0
    ) -> None:
        self._ledger = ledger
        self._now = now
        self._step = step
        self._by = by
        self._message = message
        self._known = known
        self._interrupted = 0
        self._is_recorded = False
        self.number = known + 1

    @property
    def count(self) -> int:
        """Number of attempts, with the current one and without those that were interrupted."""
        return self.number - self._interrupted

    def begin(self) -> bool:
        """Start and record the first attempt. Returns False if another worker has started it. One request."""
        self._is_recorded = self._start()
        return self._is_recorded

    def admit(
        self,
        delivery: Delivery,
        *,
        limit: int,
        stall_s: float = 0.0,
        explain: Callable[[int], Failure] | None = None,
    ) -> Admission:
        """Decide whether the step may run once more, and record the start where an earlier run is possible.

        A first delivery costs no request, or one listing if its message knows of `limit - 1` attempts. Any other
        delivery costs one listing and at most three requests more.

        Args:
            delivery: Earlier runs, as far as they are known. Each run for a message that was resent has a record, and
                there may be other messages for the same step. A resumed or requeued run goes on as the same attempt,
                or as the next one if the attempt has a record of its interruption.
            limit: Number of attempts allowed.
            stall_s: Seconds after its last heartbeat for which a started attempt counts as running.
            explain: Returns why the earlier run was lost, given the number of attempts so far; None if unknown.
        """
        lost, resent, goes_on = delivery.is_lost, delivery.resent, delivery.goes_on
        first = delivery.is_first
        if first and (self._known == 0 or self._known + 1 < limit):
            return Admission.RUN
        recorded = self._ledger.attempts(self._step)
        last, self._interrupted = recorded.last, len(recorded.interrupted)
        if first:
            # In the last attempt it matters how many of the known ones were interrupted.
            return Admission.RUN
        if resent and (last == self._known or not (lost or goes_on)):
            # No run for this message has started.
            if self._is_running(recorded, stall_s):
                return Admission.LEAVE
        elif goes_on and not lost and last not in recorded.interrupted:
            self.number = max(last, self._known + 1)
            self._is_recorded = self.number == last
            return Admission.RUN
        elif lost and last == self._known:
            # The first run for this message left no record before its worker died.
            last += 1
            if not self._record_lost(last, explain(last - self._interrupted) if explain else None):
                return Admission.LEAVE
        elif lost and not self._may_follow(delivery, last):
            # The last run is one for another message, and may be alive.
            if self._is_running(recorded, stall_s):
                return Admission.LEAVE
        elif lost and explain:
            # The lost run had recorded its start.
            self._record(last, AttemptState.LOST, explain(last - self._interrupted))
        self.number = last
        if self.count >= limit:
            return Admission.GIVE_UP
        self.number += 1
        self._is_recorded = self._start()
        return Admission.RUN if self._is_recorded else Admission.LEAVE

    @contextmanager
    def record_if_interrupted(self) -> Iterator[None]:
        """Record that the current attempt was interrupted if store or broker fail within the block.

        Without that record, a worker that later finds no heartbeat of the attempt believes its worker dead.
        """
        try:
            yield
        except Exception as error:
            if is_transient(error):
                with suppress(StorageError):
                    # An attempt without a record takes the next number, so that its successor gets another one.
                    number = self.number if self._is_recorded else self._ledger.attempts(self._step).last + 1
                    self._record_interrupted(number)
            raise

    def record_failure(self, failure: Failure) -> None:
        """Record that the current attempt has raised. One request."""
        self._record(self.number, AttemptState.RAISED, failure)

    def find_failure(self, *, step: str, chunk: int | None = None, silent_s: float | None = None) -> Failure:
        """Return why the step is given up: its last failure, or the loss of its workers. One request.

        Args:
            step: `setup`, `process`, `combine` or `join`.
            chunk: Index of the chunk, for process.
            silent_s: Seconds without a heartbeat of the last worker, if nothing else is known of it; None if the broker
                has redelivered its message.
        """
        recorded = self._ledger.last_failure(self._step, self.number)
        if recorded is not None:
            return recorded
        if silent_s is None:
            reason = (
                "its worker died while running it (killed, out of memory, or crashed), or it took longer than the "
                "broker waits for an answer"
            )
        else:
            reason = (
                f"its worker wrote no heartbeat for {silent_s:g} s: it died while running it (killed, out of memory, "
                "or crashed), or could not reach the store, not even to say so"
            )
        return Failure(step, "WorkerLost", reason, chunk=chunk, attempts=self.count)

    def _may_follow(self, delivery: Delivery, number: int) -> bool:
        """Return whether a recorded attempt may have been an earlier run for this message. One request."""
        record = self._ledger.attempt(self._step, number)
        return record is None or delivery.may_follow(record.message)

    def _is_running(self, recorded: RecordedAttempts, stall_s: float) -> bool:
        """Return whether the last attempt started or wrote a heartbeat within `stall_s`. At most one request."""
        started_at = recorded.written_at.get(recorded.last) if recorded.last not in recorded.interrupted else None
        now = self._now()
        if started_at is not None and now - started_at < stall_s:
            return True
        heartbeat_at = self._ledger.last_heartbeat(self._step)
        return heartbeat_at is not None and now - heartbeat_at < stall_s

    def _start(self) -> bool:
        """Record the start of the current attempt. Returns False if another worker has started it."""
        started = Attempt(state=AttemptState.STARTED, at=time.time(), by=self._by, message=self._message)
        try:
            return self._ledger.begin_attempt(self._step, self.number, started) is started
        except StorageError:
            with suppress(StorageError):
                # The store may have written the record although its answer was lost.
                if self._ledger.begin_attempt(self._step, self.number, started) is started:
                    self._record_interrupted(self.number)
            raise

    def _record_lost(self, number: int, failure: Failure | None) -> bool:
        """Record that an attempt without a record was lost. Returns False if another worker has started it."""
        lost = Attempt(state=AttemptState.LOST, at=time.time(), failure=failure, by=self._by, message=self._message)
        return self._ledger.begin_attempt(self._step, number, lost).state == AttemptState.LOST

    def _record_interrupted(self, number: int) -> None:
        self._ledger.write_interrupted(self._step, number, Note(by=self._by))

    def _record(self, number: int, state: AttemptState, failure: Failure | None = None) -> None:
        self._ledger.write_attempt(
            self._step,
            number,
            Attempt(state=state, at=time.time(), failure=failure, by=self._by, message=self._message),
        )


def explain_overrun(step: str, limit_s: float | None, *, chunk: int | None = None) -> Callable[[int], Failure] | None:
    """Return a function that says why a run over its time limit was lost, for `Attempts.admit`.

    Args:
        step: `setup`, `process`, `combine` or `join`.
        limit_s: The time limit, in seconds; None if no run was stopped at one. Then there is nothing to explain.
        chunk: Index of the chunk, for process.
    """
    if limit_s is None:
        return None
    return lambda attempts: Failure.of_time_limit(step, limit_s, chunk=chunk, attempts=attempts)
