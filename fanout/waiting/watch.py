"""The progress of a job, as a caller that watches it learns it from one request at a time."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from functools import partial

from ..progress import JobState, Progress
from ..records.keys import process_step
from .notes import CANDIDATES, NoteReader
from .scan import ResultScan
from .steps import Steps
from .view import JobView
from .wait import Wait

EVERY_S = 1.0
"""Seconds between two requests of a caller that watches a job."""

OUTCOME_TURN = 4
"""Of so many requests one asks for the outcome while chunks are missing. A job of which this caller has not seen all
chunks ends if it fails or is cancelled, or if workers write more than 1,000 objects a second."""

NOTE_TURN = 2
"""The request among these that asks a step for its note, if the one before it has shown nothing new."""

RATE_S = 30.0
"""Seconds over which a rate is measured."""


def watch(view: JobView, wait: Wait) -> Steps[Progress]:
    """Give the job's progress whenever it has changed, until the job has ended. One request per second.

    The first progress takes four requests, and the last one up to two more. A job of more than 1,000 objects with
    results is listed page by page, and the progress is partial until all pages were listed once.
    """
    observer = Observer(view)
    last = None
    while True:
        progress = observer.observe()
        if progress != last:
            if last is None or progress.chunks_done > last.chunks_done:
                wait.note_news()
            last = progress
            yield [partial(list, (progress,))]
        if progress.state.has_ended:
            return
        yield wait.pause(EVERY_S)


class Observer:
    """The progress of a job as one caller knows it.

    Args:
        view: The job.
    """

    def __init__(self, view: JobView) -> None:
        self._view = view
        self._scan: ResultScan | None = None
        self._generation = 0
        self._meter = _Meter()
        self._turn = 0
        self._notes = NoteReader()
        self._listed_news = True
        """Whether the last page of results showed new ones."""

    def observe(self) -> Progress:
        """Look once at the job, and return its progress. One request; at most four the first time, three the last time.

        Raises:
            JobNotFound: The store has no such job.
        """
        is_first = self._turn == 0
        scan = self._current_scan
        is_done = self._view.seen_outcome is not None or (scan is not None and scan.is_complete)
        turn = self._turn % OUTCOME_TURN
        asks_outcome = (is_done and not (self._is_quiet and turn == NOTE_TURN)) or turn == 0
        self._turn += 1
        if asks_outcome:
            if self._view.outcome() is not None:
                self._view.manifest()
                return self.known
            if not is_first:
                return self.known
        if self._is_quiet and turn == NOTE_TURN:
            self._notes.look(self._view.ledger, self._find_steps())
            return self.known
        if self._view.seen_manifest is None and (self._view.manifest() is None or not is_first):
            return self.known
        self._list()
        return self.known

    @property
    def known(self) -> Progress:
        """The progress as far as this process knows it. No request."""
        progress = self._known_counts
        if progress.state.has_ended:
            return progress
        self._notes.forget_unless(self._find_steps())
        return replace(progress, note=self._notes.text)

    @property
    def _known_counts(self) -> Progress:
        manifest, outcome, scan = self._view.seen_manifest, self._view.seen_outcome, self._current_scan
        done, failed = (scan.done, scan.items_failed) if scan is not None else (0, 0)
        chunks, items = (manifest.chunks, manifest.items) if manifest is not None else (None, None)
        if outcome is not None:
            if outcome.failure is None:
                # A job that has succeeded has all results, whether or not they were listed.
                done, failed = chunks or 0, outcome.failed
            return Progress(JobState(outcome.status), done, chunks, items, failed, self._meter.rate)
        if chunks is None or items is None:
            return Progress(JobState.LAUNCHED, 0, None, None)
        if done == chunks:
            return Progress(JobState.JOINING, done, chunks, items, failed, self._meter.rate)
        rate = self._meter.rate
        left_s = items * (1 - done / chunks) / rate if rate else None
        is_partial = scan is None or not scan.has_gone_round
        return Progress(JobState.PROCESSING, done, chunks, items, failed, rate, left_s, is_partial)

    @property
    def _is_quiet(self) -> bool:
        """Whether a request is better spent on a note than on a look for news."""
        scan, view = self._current_scan, self._view
        if view.seen_outcome is not None:
            return False
        if scan is None:
            return view.seen_manifest is None
        return scan.is_complete or not self._listed_news

    def _find_steps(self) -> list[tuple[str, str]]:
        """Return the steps that are probably at work: the names for their keys, and for people."""
        scan = self._current_scan
        if self._view.seen_manifest is None:
            return [("setup", "setup")]
        if scan is None:
            return []
        if scan.is_complete:
            return [("join", "join")]
        return [(process_step(scan.setup_id, chunk), f"chunk {chunk}") for chunk in scan.find_missing(CANDIDATES)]

    @property
    def _current_scan(self) -> ResultScan | None:
        """The scan of the latest generation; failed results of an earlier one do not count."""
        return self._scan if self._generation == self._view.generation else None

    def _list(self) -> None:
        """List a page of results, of the latest generation. One request."""
        manifest, scan = self._view.seen_manifest, self._current_scan
        assert manifest is not None
        if scan is None:
            self._generation = self._view.generation
            self._scan = scan = ResultScan(manifest, read_shares=False)
            self._meter = _Meter()
        self._listed_news = bool(scan.advance(self._view.ledger))
        # In the first round the listing finds results of any age.
        if scan.at_end and manifest.chunks:
            self._meter.note(scan.done / manifest.chunks * manifest.items)


class _Meter:
    """The rate at which items get done, over the last half minute."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque()

    def note(self, items_done: float) -> None:
        """Note the number of items that are done now."""
        now = time.monotonic()
        self._samples.append((now, items_done))
        while len(self._samples) > 2 and self._samples[1][0] <= now - RATE_S:
            self._samples.popleft()

    @property
    def rate(self) -> float | None:
        """Items per second; None before the second note."""
        if len(self._samples) < 2:
            return None
        (began_at, before), (ended_at, after) = self._samples[0], self._samples[-1]
        return (after - before) / max(ended_at - began_at, 1e-9)
