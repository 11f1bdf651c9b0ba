"""The handle of a job, for its caller and for any other process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic, cast

from storage import StorageUnavailable, within

from . import retry as retrying
from . import sweep
from .errors import JobTimeout
from .external.context import reading_as
from .hints import NoWorkerHint
from .progress import JobState, Progress
from .records.batch import Landed, ResultEntry
from .records.failure import FailedItem, Failure
from .records.keys import check_id
from .records.ledger import Ledger
from .records.models import Manifest, Outcome, OutcomeStatus
from .runtime import CachedJob, PollingOnly, Runtime
from .stages import conclude
from .stages.result_reader import ChunkFailed, entry_values

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    R = TypeVar("R", default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R")

FIRST_POLL_S = 0.02
LAST_POLL_S = 1.0
FIRST_POLL_BESIDE_LISTENER_S = 0.25
"""Seconds between two requests for the outcome: at first, at last, and at first where a listener notifies as well."""

LAST_REQUEST_S = 0.5
"""Seconds that a caller whose time is up still allows the store, for its last request."""


class Job(Generic[R]):
    """One run of a task. Holds only the id: everything else lies in the store.

    Each retry starts another generation under the same id. All methods speak of the latest generation.

    Args:
        job_id: Id of the job.
        runtime: The store that holds the job, and a dispatcher that sends its messages again if it stalls.
        launch_id: The launch of that id; if not given, the current one at the first request, for one request more.
            A handle stays with its launch. If the job is removed and its id is used again, `attach` gives a handle of
            the new launch.
    """

    def __init__(self, job_id: str, runtime: Runtime, *, launch_id: str | None = None) -> None:
        self._id = check_id(job_id, what="job id")
        self._runtime = runtime
        self._launch_id = launch_id
        self._latest: CachedJob | None = None
        """The job in the latest generation that this handle has seen."""
        self._outcome: Outcome | None = None
        self._manifest: Manifest | None = None

    @property
    def id(self) -> str:
        """The id by which any process attaches to the job; also the Celery task id of its signature."""
        return self._id

    @property
    def generation(self) -> int:
        """The number of retries that this handle has seen."""
        return self._latest.generation if self._latest is not None else 0

    def get(self, timeout: float | None = None) -> R:
        """Wait for the job's end and return the join's value.

        The waiting caller sweeps the job: it sends the missing messages of a job without progress.

        Args:
            timeout: Seconds to wait at most; None for as long as it takes.

        Raises:
            JobFailed: The job ended without a value; names task, job, chunk and item and has the worker's traceback.
            JobCancelled: The job was cancelled.
            JobTimeout: The job has not ended in time, or the store did not answer. The job goes on, and `get` may be
                called again.
            JobNotFound: The store has no such job.
            RuntimeError: The job has not ended, and the caller is a task: see `celery.result.allow_join_result`.
        """
        started_at = time.monotonic()
        try:
            with within(timeout + LAST_REQUEST_S if timeout is not None else None):
                if self._find_outcome() is None:
                    self._wait(timeout)
                assert self._outcome is not None
                with reading_as(self._runtime.access.as_caller()):
                    return cast("R", self.ledger.value(self._outcome))
        except StorageUnavailable as error:
            if timeout is None or time.monotonic() - started_at < timeout:
                raise
            raise JobTimeout(
                f"job {self.id}: it is not known within {timeout:g} s whether it ended: {error}"
            ) from error

    @property
    def ready(self) -> bool:
        """Whether the job has ended, with or without a value. One request until it has."""
        return self._find_outcome() is not None

    @property
    def state(self) -> JobState:
        """The job's state. A few requests.

        Raises:
            JobNotFound: The store has no such job.
        """
        return self.progress().state

    def progress(self) -> Progress:
        """Return the job's progress. A few requests, and one for every 1,000 chunks that are done.

        Raises:
            JobNotFound: The store has no such job.
        """
        outcome = self._find_outcome()
        if outcome is None:
            self.ledger.intent()
        manifest = self._find_manifest()
        landed = self.ledger.landed(manifest.setup_id) if manifest else Landed()
        done = len(landed)
        if outcome is not None:
            state = JobState(outcome.status)
        elif manifest is None:
            state = JobState.LAUNCHED
        else:
            state = JobState.PROCESSING if done < manifest.chunks else JobState.JOINING
        failed = landed.failed_count
        if manifest is None:
            return Progress(state, done, None, None, failed)
        return Progress(state, done, manifest.chunks, manifest.items, failed)

    @property
    def failures(self) -> list[FailedItem]:
        """The failed items of a job that tolerates failures, at most 1,000, in item order; none until it has ended."""
        outcome = self._find_outcome()
        return outcome.failed_items if outcome is not None else []

    def cancel(self) -> bool:
        """End the job, unless it has ended. Workers notice before their next chunk, and within seconds inside one.

        Returns:
            Whether the job is cancelled; False if it had ended before.

        Raises:
            JobNotFound: The store has no such job.
        """
        failure = Failure("job", "JobCancelled", "cancelled by its caller")
        if self._find_outcome() is None:
            # Not from the cache: a job that was removed must not leave an outcome behind.
            self.ledger.intent()
        self._outcome = conclude(self._runtime, self._open(), OutcomeStatus.CANCELLED, failure)
        return self._outcome.status == OutcomeStatus.CANCELLED

    def retry(self, **options: Any) -> bool:
        """Run the failed and missing parts of the job once more, under the same id; every good result stays.

        For a job that failed, was cancelled, or succeeded although items failed. It starts where it broke: with setup,
        with the chunks that have no good result, or with the join. Every handle then speaks of the new generation, and
        the next task of the job's chain gets the new outcome.

        Args:
            **options: Changes to `max_attempts`, `tolerate`, `min_success` or `deadline_s`, which counts from now.

        Returns:
            Whether this call started a generation; False if the job has not ended, maybe after another caller's retry.

        Raises:
            RetryRefused: It has succeeded without a failure, or its input is gone.
            ConfigError: An option can't be changed, or is out of range.
            JobNotFound: The store has no such job.
        """
        return retrying.start_generation(self._runtime, self.id, launch_id=self._open().launch_id, changes=options)

    def __iter__(self) -> Iterator[Any]:
        """Yield the results of process in item order, each as soon as it and all before it exist.

        A job that tolerates failures yields a `FailedItem` in the place of each failed item. A job with `combine`
        yields one combined value per chunk or batch, and after a chunk's value a `FailedItem` for each failed item.

        Raises:
            JobFailed: From the iterator, when the job has ended and the next result will never come.
        """
        manifest = self._wait_for_manifest()
        chunk = 0
        while chunk < manifest.chunks:
            for entry in self._wait_for_results(manifest, chunk):
                if entry.index != chunk:
                    break
                try:
                    tolerant = self._open().options.policy.tolerant
                    with reading_as(self._runtime.access.as_caller()):
                        values = entry_values(self.ledger, manifest.setup_id, entry, tolerant=tolerant)
                    yield from values
                except ChunkFailed as error:
                    # The worker that gave the chunk up may not have written the outcome yet.
                    raise error.failure.to_error(self.id, self._open().intent.task) from None
                chunk += entry.count

    def remove(self) -> int:
        """Delete everything the store holds of this job, and return the number of deleted objects.

        Only for a job that has ended: workers of a running job would write objects that only a sweep removes.
        """
        return self._runtime.remove(self.id, self._launch_id)

    @property
    def ledger(self) -> Ledger:
        """The records of the latest generation that this handle has seen, for reports and tools.

        Their format may change from one version to the next. One request if the handle has made none before.

        Raises:
            JobNotFound: The store has no such job.
        """
        return self._latest.ledger if self._latest is not None else self._open().ledger

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    def _find_outcome(self) -> Outcome | None:
        """Return the outcome of the latest generation. One request; two if a retry may follow it."""
        if self._outcome is None:
            self._outcome = self.ledger.outcome()
        if self._outcome is not None and not self._outcome.final:
            latest = self.ledger.latest_generation()
            if latest > self.generation:
                self._latest = self._runtime.open(self.id, self._open().intent, latest)
                self._outcome = self.ledger.outcome()
        return self._outcome

    def _open(self) -> CachedJob:
        """Return the job in the latest generation seen. One request the first time and once a minute.

        Raises:
            JobNotFound: The store has no such job, or its id has been used again.
        """
        self._latest = self._runtime.job(self.id, self._launch_id, self.generation)
        self._launch_id = self._latest.launch_id
        return self._latest

    def _find_manifest(self) -> Manifest | None:
        if self._manifest is None:
            self._manifest = self.ledger.manifest()
        return self._manifest

    def _wait(self, timeout: float | None) -> None:
        for _ in self._polls(timeout, for_the_end=True):
            if self._find_outcome() is not None:
                return

    def _wait_for_manifest(self) -> Manifest:
        for _ in self._polls(None):
            manifest = self._find_manifest()
            if manifest is not None:
                return manifest
            self._raise_if_failed()
        raise AssertionError("unreachable: polls without end")

    def _wait_for_results(self, manifest: Manifest, chunk: int) -> Iterator[ResultEntry]:
        """Return the objects with results from a chunk on, in chunk order, once the first of them holds that chunk."""
        for _ in self._polls(None):
            entries = self.ledger.result_entries(manifest.setup_id, first_chunk=chunk)
            first = next(entries, None)
            if first is not None and first.index == chunk:
                return chain([first], entries)
            self._raise_if_failed()
        raise AssertionError("unreachable: polls without end")

    def _raise_if_failed(self) -> None:
        outcome = self._find_outcome()
        if outcome is not None and outcome.failure is not None:
            raise outcome.error(self.id)

    def _polls(self, timeout: float | None, *, for_the_end: bool = False) -> Iterator[None]:
        """Yield when the store is to be asked, ever more slowly: every 0.02 s at first, every second after ten.

        Args:
            timeout: Seconds until JobTimeout; None for never.
            for_the_end: Whether to listen for the job's end as well. A listener that notifies makes requests rarer.

        Raises:
            JobTimeout: The time is up.
            JobNotFound: The store has no such job.
        """
        started_at = swept_at = time.monotonic()
        sweeping = sweep.BackgroundSweep(self._runtime, self.id)
        not_begun = NoWorkerHint(self._runtime, self._open())
        with self._runtime.listener(self.id) if for_the_end else nullcontext(PollingOnly()) as listener:
            first_s = FIRST_POLL_BESIDE_LISTENER_S if listener.notifies else FIRST_POLL_S
            while True:
                yield
                now = time.monotonic()
                pause_s = min(max(first_s, (now - started_at) / 10), LAST_POLL_S)
                if timeout is not None:
                    left_s = started_at + timeout - now
                    if left_s <= 0:
                        raise JobTimeout(f"job {self.id} has not ended within {timeout:g} s; it goes on")
                    pause_s = min(pause_s, left_s)
                deadline_at = self._open().deadline_at
                if now - swept_at >= self._runtime.config.stall_s / 2 or (
                    deadline_at and self._runtime.now() > deadline_at
                ):
                    sweeping.start()
                    swept_at = now
                sweeping.check()
                not_begun.check()
                self._runtime.check_wait(self.id)
                listener.wait(pause_s)
