"""A progress bar in a terminal or a notebook, and lines where there is neither."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import Self, TextIO, TypeAlias

from ..logs import fields_of
from ..progress import Progress
from .steps import run_steps
from .view import JobView
from .wait import Wait
from .watch import EVERY_S, Observer, watch

_LOG = logging.getLogger(__name__)

LINE_EVERY_S = 10.0
"""Seconds between two lines of one state, where there is no terminal."""

STOP_S = 2.0
"""Longest time that the end of a block waits for the last request of its bar."""


Display: TypeAlias = Callable[[Progress], object]
"""Shows the progress."""


class Lines:
    """A line for each state, and one every ten seconds.

    Args:
        label: The first words of each line.
        file: Where to write.
    """

    def __init__(self, label: str, file: TextIO) -> None:
        self._label = label
        self._file = file
        self._last: Progress | None = None
        self._printed_at = 0.0

    def __call__(self, progress: Progress) -> None:
        """Write a line, if it is time for one."""
        now = time.monotonic()
        is_new_state = self._last is None or progress.state != self._last.state
        if is_new_state or (now - self._printed_at >= LINE_EVERY_S and progress != self._last):
            print(f"{self._label}: {progress}", file=self._file, flush=True)
            self._last, self._printed_at = progress, now


@contextmanager
def open_display(label: str, file: TextIO | None) -> Iterator[Display]:
    """Yield a bar that rich draws, or lines where it has no terminal and no notebook."""
    # Imported here, because rich is slow to import and a worker needs none of it.
    from .drawing import draw

    file = file or sys.stderr
    with draw(label, file) or nullcontext(Lines(label, file)) as display:
        yield display


def show_until_end(view: JobView, wait: Wait, show: Callable[[Progress], object] | None) -> None:
    """Show the progress of a job in the waiting thread, until it has ended. One request a second.

    Args:
        view: The job.
        wait: The wait of the caller.
        show: Called with each progress; None to draw a bar.
    """
    # The first request raises JobNotFound before anything is drawn.
    label = wait.call(lambda: _label_of(view))
    with open_display(label, None) if show is None else nullcontext(show) as display:
        for progress in run_steps(wait, watch(view, wait)):
            display(progress)


def _label_of(view: JobView) -> str:
    return f"{view.open().intent.task.rpartition('.')[2]} {view.job_id}"


class ProgressBar:
    """A progress bar that a thread draws while a `with` block runs. One request a second.

    Args:
        view: The job.
        file: Where to draw; standard error if None.

    Attributes:
        progress: The last progress; None before the first.
    """

    def __init__(self, view: JobView, file: TextIO | None = None) -> None:
        self._view = view
        self._file = file
        self._observer = Observer(view)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self.progress: Progress | None = None

    def __enter__(self) -> Self:
        """Begin to draw.

        Raises:
            JobNotFound: The store has no such job.
        """
        label = _label_of(self._view)
        self._stopped.clear()
        self.progress = None
        self._thread = threading.Thread(target=self._run, args=(label,), name="fanout-progress", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Draw the end of the job, if the block has waited for it."""
        assert self._thread is not None
        self._stopped.set()
        self._thread.join(STOP_S)

    def _run(self, label: str) -> None:
        with open_display(label, self._file) as display:
            # no limit: it ends with the block, in a thread that does not keep the process alive
            while not self._look(display) and not self._stopped.wait(EVERY_S):
                pass
            if self._view.seen_outcome is not None:
                self._look(display)

    def _look(self, display: Display) -> bool:
        """Look at the job and draw its progress. Return whether it has ended."""
        if self.progress is not None and self.progress.state.has_ended:
            return True
        try:
            self.progress = self._observer.observe()
        except Exception as error:
            # The block itself meets the error, if that lasts.
            job_id = self._view.job_id
            _LOG.debug("job %s: its progress is not known: %s", job_id, error, extra=fields_of(job_id))
            return False
        display(self.progress)
        return self.progress.state.has_ended

    def _repr_html_(self) -> str:
        """Return the last progress for a notebook. No request."""
        return (self.progress or self._observer.known)._repr_html_()
