"""The handle of a job, for its caller and for any other process."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Generic, TextIO, cast

from . import retry as retrying
from .config.checks import check_count, check_flag, check_function, check_timeout
from .errors import ConfigError
from .prices import Prices
from .progress import JobState, Progress
from .records.batch import Landed
from .records.failure import FailedItem, Failure
from .records.ids import check_job_id
from .records.ledger import Ledger
from .records.models import OutcomeStatus
from .report import READ_BYTES, OnProgress, Report, read_records
from .runtime import Runtime
from .stages import conclude
from .waiting.aio import run_steps_async
from .waiting.bar import ProgressBar, show_until_end
from .waiting.feed import Feed
from .waiting.results import wait_for_arrivals, wait_for_results, wait_for_value
from .waiting.steps import run_steps
from .waiting.view import JobView
from .waiting.wait import Wait
from .waiting.watch import watch

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    R = TypeVar("R", default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R")


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
        self._runtime = runtime
        self._view = JobView(check_job_id(job_id), runtime, launch_id)

    @property
    def id(self) -> str:
        """The id by which any process attaches to the job; also the Celery task id of its signature."""
        return self._view.job_id

    @property
    def tags(self) -> dict[str, str]:
        """The names and texts that the caller gave the job to find it again. One request the first time.

        Raises:
            JobNotFound: The store has no such job.
        """
        return dict(self._view.open().intent.tags)

    @property
    def generation(self) -> int:
        """The number of retries that this handle has seen."""
        return self._view.generation

    def get(self, timeout: float | None = None, *, progress: bool | Callable[[Progress], object] = False) -> R:
        """Wait for the job's end and return the join's value.

        The waiting caller sweeps the job: it sends the missing messages of a job without progress.

        Args:
            timeout: Seconds to wait at most; None for as long as it takes.
            progress: Whether to show a progress bar; or a function to call with each `Progress`. The caller then makes
                one request a second, so it may return a second after the job's end.

        Raises:
            JobFailed: The job ended without a value; names task, job, chunk and item and has the worker's traceback.
            JobCancelled: The job was cancelled.
            JobTimeout: The job has not ended in time, or the store did not answer. The job goes on, and `get` may be
                called again.
            JobNotFound: The store has no such job.
            RuntimeError: The job has not ended, and the caller is a task: see `celery.result.allow_join_result`.
            ConfigError: An argument has a wrong type.
        """
        check_timeout(timeout)
        if not isinstance(progress, bool):
            check_function("progress", progress, instead="True, False or ")
        wait = Wait(self._view, timeout_s=timeout)
        if progress:
            show_until_end(self._view, wait, None if progress is True else progress)
        [value] = run_steps(wait, wait_for_value(self._view, wait))
        return cast("R", value)

    def __await__(self) -> Generator[Any, None, R]:
        """Wait for the job's end in an event loop, and return the join's value: `await job`.

        The cancellation of the waiting task leaves the job. `asyncio.timeout` limits the wait. It does all else as
        `get`, and raises the same errors. A few threads make the requests of all waiting tasks of a process.
        """
        return self._wait_for_value().__await__()

    @property
    def ready(self) -> bool:
        """Whether the job has ended, with or without a value. One request until it has."""
        return self._view.outcome() is not None

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
        outcome = self._view.outcome()
        if outcome is None:
            self.ledger.intent()
        manifest = self._view.manifest()
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

    def watch(self, timeout: float | None = None, *, sweeping: bool = False) -> Feed[Progress]:
        """Return an iterable of the job's progress, whenever it has changed, until the job has ended.

        `for` and `async for` take it. The last progress says how the job ended; the loop does not raise a failure of
        the job. One request a second, whatever the size of the job. A job of more than 1,000 objects with results is
        listed page by page, and its progress is partial (`is_partial`) until all pages were listed once.

        Args:
            timeout: Seconds to watch at most; None for as long as the job takes.
            sweeping: Whether this caller sends the missing messages of a job without progress, as `get` does.

        Raises:
            JobTimeout: From the iterator: the job has not ended in time. It goes on.
            JobNotFound: From the iterator: the store has no such job.
            ConfigError: An argument has a wrong type.
        """
        check_timeout(timeout)
        check_flag("sweeping", sweeping)
        return Feed(self._view, watch, timeout_s=timeout, dutiful=sweeping)

    def progress_bar(self, file: TextIO | None = None) -> ProgressBar:
        """Return a progress bar that a thread draws while a `with` block runs: `with job.progress_bar(): …`.

        rich draws it in a terminal or a notebook. Elsewhere a line is printed every ten seconds. One request a
        second. A store that does not answer stops the bar, and not the block.

        Args:
            file: Where to draw; standard error if not given.

        Raises:
            ConfigError: `file` is no file.
        """
        if not hasattr(file if file is not None else sys.stderr, "write"):
            raise ConfigError(f"file must be a file that is open for text, not {file!r:.80}")
        return ProgressBar(self._view, file)

    @property
    def failures(self) -> list[FailedItem]:
        """The failed items of a job that tolerates failures, at most 1,000, in item order; none until it has ended."""
        outcome = self._view.outcome()
        return outcome.failed_items if outcome is not None else []

    def cancel(self) -> bool:
        """End the job, unless it has ended. Workers notice before their next chunk, and within seconds inside one.

        Returns:
            Whether the job is cancelled; False if it had ended before.

        Raises:
            JobNotFound: The store has no such job.
        """
        failure = Failure("job", "JobCancelled", "cancelled by its caller")
        if self._view.outcome() is None:
            # Not from the cache: a job that was removed must not leave an outcome behind.
            self.ledger.intent()
        outcome = conclude(self._runtime, self._view.open(), OutcomeStatus.CANCELLED, failure)
        self._view.note_outcome(outcome)
        return outcome.status == OutcomeStatus.CANCELLED

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
        return retrying.start_generation(self._runtime, self.id, launch_id=self._view.open().launch_id, changes=options)

    def __iter__(self) -> Iterator[Any]:
        """Yield the results of process in item order, each as soon as it and all before it exist. Reads ahead.

        A job that tolerates failures yields a `FailedItem` in the place of each failed item. A job with `combine`
        yields one combined value per chunk or batch, and after a chunk's value a `FailedItem` for each failed item.

        Raises:
            JobFailed: From the iterator, when the job has ended and the next result will never come.
        """
        return iter(Feed(self._view, wait_for_results))

    def __aiter__(self) -> AsyncIterator[Any]:
        """Yield the same as iteration in a thread does, in an event loop: `async for result in job`."""
        return aiter(Feed(self._view, wait_for_results))

    def as_completed(self, timeout: float | None = None) -> Feed[tuple[int, Any]]:
        """Return an iterable of `(item index, result)`, in the order in which the results arrive, each once.

        `for` and `async for` take it. Each loop begins anew.

        A job that tolerates failures gives a `FailedItem` as the result of each failed item. A job with `combine` gives
        each combined value with the index of its first item. The results are there before the join has run, so a
        failure of the join does not show here.

        One listing per poll, one request for the outcome in a poll without news, one for each object with results, and
        one for each 1,024 chunks.

        Args:
            timeout: Seconds to wait at most, for all results; None for as long as it takes.

        Raises:
            JobFailed: From the iterator: the job ended without a value, or a chunk failed. Results that have arrived
                come first.
            JobCancelled: From the iterator: the job was cancelled.
            JobTimeout: From the iterator: not all results have come in time. The job goes on.
            JobNotFound: From the iterator: the store has no such job.
            ConfigError: `timeout` is no number.
        """
        check_timeout(timeout)
        return Feed(self._view, wait_for_arrivals, timeout_s=timeout)

    def report(
        self,
        *,
        prices: Prices | Mapping[str, Any] | None = None,
        read_bytes: int = READ_BYTES,
        on_progress: OnProgress | None = None,
    ) -> Report:
        """Return where the job's time went, what it cost, and what to change, from its records.

        A job that has not ended has a report of its first part. One request per object with results, and one more for
        each 1,000 objects, 1,024 chunks and recorded attempt, at most 200 of these; reads ahead.

        Args:
            prices: The table of prices, or some of its fields by name; AWS S3 Standard in us-east-1 if not given.
            read_bytes: Most bytes of results to read. If there are more, the report is about every n-th object.
            on_progress: Called with the number of objects that are read, and of all.

        Raises:
            JobNotFound: The store has no such job.
            ConfigError: `prices` has an unknown field, or a price that is no number from 0; or an argument has a wrong
                type.
        """
        check_count("read_bytes", read_bytes)
        if on_progress is not None:
            check_function("on_progress", on_progress)
        table = Prices.of(prices)
        progress = self.progress()
        ledger, intent = self.ledger, self._view.open().intent
        uncounted = Ledger(self._runtime.store, ledger.job_id, ledger.launch_id, ledger.generation)
        recorded = read_records(uncounted, intent, read_bytes=read_bytes, on_progress=on_progress)
        if not recorded.objects:
            # Not from the cache: the job may have been removed after this object had read its intent.
            uncounted.intent()
        return Report(
            job_id=self.id,
            generation=self.generation,
            progress=progress,
            recorded=recorded,
            prices=table,
            read_at=time.time(),
        )

    def remove(self) -> int:
        """Delete everything the store holds of this job, and return the number of deleted objects.

        What the job has staged in its sinks goes too, where the `sink_roots` of this process allow it.

        Only for a job that has ended: workers of a running job would write objects that only a sweep removes.
        """
        return self._runtime.remove(self.id, self._view.launch_id)

    @property
    def ledger(self) -> Ledger:
        """The records of the latest generation that this handle has seen, for reports and tools.

        Their format may change from one version to the next. One request if the handle has made none before.

        Raises:
            JobNotFound: The store has no such job.
        """
        return self._view.ledger

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    async def _wait_for_value(self) -> R:
        async with aclosing(run_steps_async(self._view, wait_for_value)) as values:
            return cast("R", await anext(values))
