"""The steps of callers that wait for a job's value, or for the results of process."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from ..records.batch import ResultEntry
from ..records.models import Manifest
from ..records.result_ledger import PAGE
from ..stages.result_reader import ChunkFailed, FirstItems, entry_items, entry_values
from .scan import ResultScan
from .steps import Pause, Steps
from .view import JobView
from .wait import LAST_POLL_S, Wait


def wait_for_value(view: JobView, wait: Wait) -> Steps[Any]:
    """Wait for the job's end, and read the join's value. One request per look; the first is left out for a new job.

    Raises:
        JobFailed: The job ended without a value.
    """
    outcome = None if view.is_new() else view.outcome()
    if outcome is None:
        with wait.listening():
            while (outcome := view.outcome()) is None:
                yield wait.pause()
    ended = outcome
    yield [lambda: [view.ledger.value(ended)]]


def wait_for_results(view: JobView, wait: Wait) -> Steps[Any]:
    """Read the results of process in item order, each as soon as it and all before it exist.

    One request for each object with results, and one per poll.

    Raises:
        JobFailed: The next result will never come.
    """
    manifest = yield from _wait_for_manifest(view, wait)
    reader = _Reader(view, manifest)
    chunk = 0
    while chunk < manifest.chunks:
        entries = _consecutive(view.ledger.result_entries(manifest.setup_id, first_chunk=chunk), chunk)
        if entries:
            wait.note_news()
            yield [partial(reader.values, entry) for entry in entries]
            chunk = entries[-1].index + entries[-1].count
        else:
            view.raise_if_failed()
            yield wait.pause()


def wait_for_arrivals(view: JobView, wait: Wait) -> Steps[tuple[int, Any]]:
    """Read the results of process in the order in which they arrive, each with the index of its item, each once.

    One request for each object with results and for each 1,024 chunks, and one listing per poll. A poll without news,
    and one a second, make one more, for the outcome.

    Raises:
        JobFailed: The job has failed or was cancelled. All results of the last listing come first.
    """
    manifest = yield from _wait_for_manifest(view, wait)
    scan = ResultScan(manifest, read_shares=True)
    reader = _Reader(view, manifest)
    checked_at = time.monotonic()
    while not scan.is_complete:
        entries = scan.advance(view.ledger)
        if entries:
            wait.note_news()
            for entry in entries:
                reader.first_items.load(entry.index)
            # A chunk that failed ends the iteration where the job does not tolerate it.
            yield [partial(reader.items, entry) for entry in sorted(entries, key=lambda entry: entry.failed > 0)]
        if not scan.at_end:
            continue
        if not entries or time.monotonic() - checked_at >= LAST_POLL_S:
            view.raise_if_failed()
            checked_at = time.monotonic()
        if not scan.is_complete:
            yield wait.pause()


def _wait_for_manifest(view: JobView, wait: Wait) -> Generator[Pause, None, Manifest]:
    # The outcome first: after a retry it leads to the latest generation, whose failed results count.
    view.outcome()
    while (manifest := view.manifest()) is None:
        view.raise_if_failed()
        yield wait.pause()
    return manifest


def _consecutive(entries: Iterable[ResultEntry], chunk: int) -> list[ResultEntry]:
    """Return the first objects, at most a page of them, that follow each other from a chunk on."""

    def follow(chunk: int) -> Iterator[ResultEntry]:
        for entry in entries:
            if entry.index != chunk:
                return
            yield entry
            chunk += entry.count

    return list(islice(follow(chunk), PAGE))


class _Reader:
    """The reads of objects with results. Safe for threads, but for `first_items.load`."""

    def __init__(self, view: JobView, manifest: Manifest) -> None:
        self._view = view
        self._setup_id = manifest.setup_id
        self.first_items = FirstItems(view.ledger, manifest)

    def values(self, entry: ResultEntry) -> list[Any]:
        """Return the results in an object. One request.

        Raises:
            JobFailed: The chunk failed as a whole, and that is not tolerated.
        """
        job = self._view.open()
        try:
            return entry_values(job.ledger, self._setup_id, entry, tolerant=job.options.policy.tolerant)
        except ChunkFailed as error:
            # The worker that gave the chunk up may not have written the outcome yet.
            raise error.failure.to_error(self._view.job_id, job.intent.task) from None

    def items(self, entry: ResultEntry) -> list[tuple[int, Any]]:
        """Return the results in an object, each with the index of its item. One request; see `values`."""
        return entry_items(self.values(entry), entry, self.first_items, combines=self._view.open().intent.combines)
