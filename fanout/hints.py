"""Hints in the log of a caller whose job makes no progress."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from .cached_job import CachedJob
from .logs import fields_of
from .runtime import Runtime

_LOG = logging.getLogger(__name__)

HINT_AFTER_S = 5.0
"""Seconds in which a free worker begins a job."""


class NoWorkerHint:
    """The hint that no worker has begun a job, with the likely causes. A waiting caller logs it once.

    Args:
        runtime: Store and settings of the caller.
        job: The job.
        after_s: Seconds of waiting before the hint.
        clock: Returns a monotonic time, in seconds.
    """

    def __init__(
        self,
        runtime: Runtime,
        job: CachedJob,
        *,
        after_s: float = HINT_AFTER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runtime = runtime
        self._job = job
        self._after_s = after_s
        self._clock = clock
        self._due_at = clock() + after_s

    def check(self) -> None:
        """Log the hint if it is due. The caller calls this each time it polls the job.

        One request, once, when the hint is due.

        Raises:
            StorageError: The store does not answer.
        """
        if self._clock() < self._due_at:
            return
        intent = self._job.intent
        # The seconds of a job that may start later count from its start.
        if intent.not_before is not None:
            ahead_s = intent.not_before + self._after_s - self._runtime.now()
            if ahead_s > 0:
                self._due_at = self._clock() + ahead_s
                return
        self._due_at = float("inf")
        # A job whose setup runs in the caller begins without a worker.
        if intent.caller_parameters or next(iter(self._job.ledger.objects()), None) is not None:
            return
        _LOG.warning(
            "job %s (%s): no worker has begun it after %g s. Perhaps no worker runs, or all are busy, or none consumes "
            "the queue of its messages, or the workers do not import the task's module, or they use another store than "
            "%s. Remedy: %s",
            self._job.id,
            intent.task,
            self._after_s,
            self._runtime.store.url,
            self._runtime.start_hint,
            extra=fields_of(self._job.id),
        )
