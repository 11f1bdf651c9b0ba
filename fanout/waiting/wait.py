"""The wait of one caller for a job: its timeout, its pauses, and its duties in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from storage import StorageUnavailable, within

from ..abc import CompletionListener, PollingOnly
from ..errors import JobTimeout
from ..external.context import reading_as
from ..hints import NoWorkerHint
from ..sweep import BackgroundSweep, start_thread
from .steps import Pause
from .view import JobView

FIRST_POLL_S = 0.02
LAST_POLL_S = 1.0
FIRST_POLL_BESIDE_LISTENER_S = 0.25
"""Seconds between two requests: at first, at last, and at first where a listener notifies as well."""

SLOWDOWN = 10
"""A caller that has waited for n seconds since the last news pauses for n / SLOWDOWN seconds."""

LAST_REQUEST_S = 0.5
"""Seconds that a caller whose time is up still allows the store, for its last request."""

T = TypeVar("T")


class Wait:
    """The wait of one caller. It polls ever more slowly: every 0.02 s at first, every second after ten.

    A waiting caller sweeps the job while it makes no progress: it sends the missing messages again. It also logs a
    hint if no worker begins the job.

    Args:
        view: The job.
        timeout_s: Seconds until JobTimeout; None for never.
        dutiful: Whether to sweep the job and to log the hint.
        hints: Whether to log the hint, if dutiful.
        listens: Whether `listening` makes a listener.
        start: Runs a sweep in the background; a new thread if not given.

    Attributes:
        listener: Sleeps, or is notified of the job's end.
    """

    def __init__(
        self,
        view: JobView,
        *,
        timeout_s: float | None = None,
        dutiful: bool = True,
        hints: bool = True,
        listens: bool = True,
        start: Callable[[Callable[[], None]], object] = start_thread,
    ) -> None:
        self._view = view
        self._access = view.runtime.access.as_caller()
        self._timeout_s = timeout_s
        self._dutiful = dutiful
        self._hints = hints
        self._listens = listens
        self._began_at = self._news_at = self._swept_at = time.monotonic()
        self._sweeping = BackgroundSweep(view.runtime, view.job_id, start=start)
        self._hint: NoWorkerHint | None = None
        self.listener: CompletionListener = PollingOnly()

    def call(self, request: Callable[[], T]) -> T:
        """Return what `request` returns. The requests in it end with the caller's time.

        Raises:
            JobTimeout: The time is up, and the store has not answered.
        """
        # What a caller receives, it may read as its own.
        with reading_as(self._access):
            return request() if self._timeout_s is None else self._call_within(self._timeout_s, request)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen for the job's end inside the block. A listener that notifies makes requests rarer."""
        if not self._listens:
            yield
            return
        with self._view.runtime.listener(self._view.job_id) as listener:
            self.listener = listener
            yield

    def note_news(self) -> None:
        """Note that the job makes progress, so that the caller asks soon again and need not sweep."""
        self._news_at = self._swept_at = time.monotonic()

    def pause(self, wish_s: float | None = None) -> Pause:
        """Do the duties that are due, and return the pause before the next request. Rarely a request.

        Args:
            wish_s: Seconds to pause; if not given, a share of the seconds since the last news.

        Raises:
            JobTimeout: The time is up.
            JobNotFound: The store has no such job.
            RuntimeError: Waiting is not allowed here.
        """
        now = time.monotonic()
        left_s = float("inf")
        if self._timeout_s is not None:
            left_s = self._began_at + self._timeout_s - now
            if left_s <= 0:
                raise JobTimeout(f"job {self._view.job_id} has not ended within {self._timeout_s:g} s; it goes on")
        if self._dutiful:
            self._do_duties(now)
        self._view.runtime.check_wait(self._view.job_id)
        if wish_s is None:
            first_s = FIRST_POLL_BESIDE_LISTENER_S if self.listener.notifies else FIRST_POLL_S
            # A long job with much news is asked once a second, too.
            quiet_s = max(now - self._news_at, (now - self._began_at) / SLOWDOWN)
            wish_s = min(max(first_s, quiet_s / SLOWDOWN), LAST_POLL_S)
        return Pause(wish_s, left_s)

    def _call_within(self, timeout_s: float, request: Callable[[], T]) -> T:
        try:
            with within(self._left_s(timeout_s) + LAST_REQUEST_S):
                return request()
        except StorageUnavailable as error:
            if self._left_s(timeout_s) > 0:
                raise
            raise JobTimeout(
                f"job {self._view.job_id}: it is not known within {timeout_s:g} s whether it ended: {error}"
            ) from error

    def _left_s(self, timeout_s: float) -> float:
        return max(self._began_at + timeout_s - time.monotonic(), 0.0)

    def _do_duties(self, now: float) -> None:
        job = self._view.open()
        runtime = self._view.runtime
        if self._hint is None and self._hints:
            self._hint = NoWorkerHint(runtime, job)
        if now - self._swept_at >= runtime.config.stall_s / 2 or (job.deadline_at and runtime.now() > job.deadline_at):
            self._sweeping.start()
            self._swept_at = now
        self._sweeping.check()
        if self._hint is not None:
            self._hint.check()
