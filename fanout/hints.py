"""What a caller is told while it waits for a job that nothing happens to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from .runtime import CachedJob, Runtime

_LOG = logging.getLogger("fanout")

BEGINS_S = 5.0
"""Seconds in which a worker that is there and free has begun a job."""


class NotBegun:
    """Says once, while a caller waits, that no worker has begun the job, and why that may be.

    Args:
        runtime: What the job works with.
        job: The job.
        after_s: Seconds of waiting after which it is said.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        runtime: Runtime,
        job: CachedJob,
        *,
        after_s: float = BEGINS_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runtime = runtime
        self._job = job
        self._after_s = after_s
        self._clock = clock
        self._said_at = clock() + after_s

    def check(self) -> None:
        """To be called at each look at the job. No request until it is time; then one, once.

        Raises:
            StorageError: The store does not answer.
        """
        if self._clock() < self._said_at:
            return
        intent = self._job.intent
        # A job that may start later has as long from then on.
        if intent.not_before is not None:
            ahead_s = intent.not_before + self._after_s - self._runtime.now()
            if ahead_s > 0:
                self._said_at = self._clock() + ahead_s
                return
        self._said_at = float("inf")
        # What the caller itself sets up needs no worker to begin.
        if intent.caller_parameters or next(iter(self._job.ledger.objects()), None) is not None:
            return
        _LOG.warning(
            "job %s (%s): no worker has begun it after %g s. Perhaps no worker runs, or all are busy, or none takes "
            "from the queue that its messages are sent to, or the workers use another store than %s. "
            "`fanout doctor -A …` looks at all of it",
            self._job.id,
            intent.task,
            self._after_s,
            self._runtime.store.url,
        )
