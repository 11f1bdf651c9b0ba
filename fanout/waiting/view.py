"""The records of a job that one handle has seen."""

from __future__ import annotations

import time

from ..cached_job import CachedJob
from ..records.ledger import Ledger
from ..records.models import Manifest, Outcome
from ..runtime import REMOVAL_CHECK_S, Runtime

NEW_S = 0.05
"""Age up to which a job has hardly ended: the three messages of the smallest one take as long."""


class JobView:
    """The records of a job, in the latest generation that one handle has seen. Safe for threads.

    Args:
        job_id: Id of the job.
        runtime: The store that holds the job.
        launch_id: The launch of that id; if not given, the current one at the first request.

    Attributes:
        job_id: Id of the job.
        runtime: The store that holds the job.
        launch_id: The launch, once it is known.
    """

    def __init__(self, job_id: str, runtime: Runtime, launch_id: str | None = None) -> None:
        self.job_id = job_id
        self.runtime = runtime
        self.launch_id = launch_id
        self._latest: CachedJob | None = None
        """The job in the latest generation that this handle has seen."""
        self._outcome: Outcome | None = None
        self._manifest: Manifest | None = None

    @property
    def generation(self) -> int:
        """The number of retries that this handle has seen."""
        return self._latest.generation if self._latest is not None else 0

    @property
    def ledger(self) -> Ledger:
        """The records of the latest generation seen. One request if there was none before.

        Raises:
            JobNotFound: The store has no such job.
        """
        return self._latest.ledger if self._latest is not None else self.open().ledger

    @property
    def seen_outcome(self) -> Outcome | None:
        """The outcome, if this handle has seen it. No request."""
        return self._outcome

    @property
    def seen_manifest(self) -> Manifest | None:
        """The manifest, if this handle has seen it. No request."""
        return self._manifest

    def open(self) -> CachedJob:
        """Return the job in the latest generation seen. One request the first time and once a minute.

        Raises:
            JobNotFound: The store has no such job, or its id has been used again.
        """
        latest = self._latest
        # The runtime caches few jobs, and one process may wait for thousands.
        if latest is None or time.monotonic() - latest.verified_at >= REMOVAL_CHECK_S:
            latest = self._latest = self.runtime.job(self.job_id, self.launch_id, self.generation)
            self.launch_id = latest.launch_id
        return latest

    def is_new(self) -> bool:
        """Return whether this process has just launched the job, so that it has hardly ended. No request."""
        cached = self.runtime.cached(self.job_id, self.launch_id)
        launched_at = cached.launched_at if cached is not None else None
        return launched_at is not None and time.monotonic() - launched_at < NEW_S

    def outcome(self) -> Outcome | None:
        """Return the outcome of the latest generation. One request; two if a retry may follow it."""
        if self._outcome is None:
            self._outcome = self.ledger.outcome()
        if self._outcome is not None and not self._outcome.final:
            latest = self.ledger.latest_generation()
            if latest > self.generation:
                self._latest = self.runtime.open(self.job_id, self.open().intent, latest)
                self._outcome = self.ledger.outcome()
        return self._outcome

    def note_outcome(self, outcome: Outcome) -> None:
        """Remember the outcome of the latest generation."""
        self._outcome = outcome

    def manifest(self) -> Manifest | None:
        """Return the manifest, if setup has written it. One request until it has."""
        if self._manifest is None:
            self._manifest = self.ledger.manifest()
        return self._manifest

    def raise_if_failed(self) -> None:
        """Raise the job's error, if it has ended without a value. One request until it has ended."""
        outcome = self.outcome()
        if outcome is not None and outcome.failure is not None:
            raise outcome.error(self.job_id)
