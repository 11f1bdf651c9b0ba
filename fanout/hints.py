"""What a caller is told while it waits for a job that nothing happens to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from .runtime import Runtime

_LOG = logging.getLogger("fanout")

BEGINS_S = 5.0
"""Seconds in which a worker that is there and free has begun a job."""


class NotBegun:
    """Says once, while a caller waits, that no worker has begun the job, and why that may be.

    Args:
        runtime: What the job works with.
        job_id: The job.
        after_s: Seconds of waiting after which it is said.
        clock: Seconds that only grow.
        wall: Seconds since the epoch, which a job's `not_before` is told in.
    """

    def __init__(
        self,
        runtime: Runtime,
        job_id: str,
        *,
        after_s: float = BEGINS_S,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._runtime = runtime
        self._job_id = job_id
        self._after_s = after_s
        self._clock = clock
        self._wall = wall
        self._said_at = clock() + after_s

    def check(self) -> None:
        """To be called at each look at the job. No request until it is time; then one, once.

        Raises:
            StorageError: The store does not answer.
        """
        if self._clock() < self._said_at:
            return
        intent = self._runtime.job(self._job_id).intent
        # A job that may start later has as long from then on.
        ahead_s = (intent.not_before or 0.0) + self._after_s - self._wall()
        if ahead_s > 0:
            self._said_at = self._clock() + ahead_s
            return
        self._said_at = float("inf")
        ledger = self._runtime.ledger(self._job_id)
        # What the caller itself sets up needs no worker to begin.
        if intent.kept or any(found.key != ledger.keys.intent for found in ledger.objects()):
            return
        _LOG.warning(
            "job %s (%s): no worker has begun it after %g s. Perhaps no worker runs, or all are busy, or none takes "
            "from the queue that its messages are sent to, or the workers use another store than %s. "
            "`fanout doctor -A …` looks at all of it",
            self._job_id,
            intent.task,
            self._after_s,
            self._runtime.store.url,
        )
