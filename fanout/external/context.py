"""The context of a user's step: its job, and its access to external objects."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from .access import Access

NOTE_CHARACTERS = 200
"""Longest note of a step."""


class Position:
    """The place of a run in its job: its step, chunk, item and attempt, and how often it has written.

    Attributes:
        step: `combine` while that runs within process; None for the step of the context.
        chunk: Index of the current chunk; None in other steps.
        item: Index of the current item over the whole job; None between items, and in other steps.
        attempt: Number of the attempt, from 1.
    """

    __slots__ = ("_counted", "_writes", "attempt", "chunk", "item", "step")

    def __init__(self, *, attempt: int = 1) -> None:
        self.begin(attempt=attempt)

    def begin(self, *, step: str | None = None, chunk: int | None = None, attempt: int = 1) -> None:
        """Begin anew, before another run of the same or of other items."""
        self.step, self.chunk, self.attempt = step, chunk, attempt
        self.item: int | None = None
        self._counted: int | None = None
        self._writes: Counter[str] | None = None

    def count_write(self, url: str) -> int:
        """Count a write to a sink, and return how many the current item has made there before."""
        if self._writes is None or self._counted != self.item:
            self._counted, self._writes = self.item, Counter()
        self._writes[url] += 1
        return self._writes[url] - 1


class Pulse(Protocol):
    """The heartbeat of a run.

    Attributes:
        ended: Whether it has seen that the job has ended.
    """

    ended: bool

    def beat(self) -> None:
        """Write a heartbeat if one is overdue."""


class Signs:
    """The signs that a run gives to the watchers of its job.

    Attributes:
        note: What its step said last; empty for nothing.
        pulse: Its heartbeat; None while the run is too short to need one.
    """

    __slots__ = ("note", "pulse")

    def __init__(self) -> None:
        self.note = ""
        self.pulse: Pulse | None = None


class Tally:
    """The counts of a run, for telemetry.

    Attributes:
        chunks: Number of chunks whose results were written.
        chunks_failed: Number of chunks that failed for good.
        items: Number of items that have a result, or that setup yielded.
        items_failed: Number of items that failed for good.
        failures: Number of exceptions of the step by the name of their type.
    """

    __slots__ = ("chunks", "chunks_failed", "failures", "items", "items_failed")

    def __init__(self) -> None:
        self.chunks = self.chunks_failed = self.items = self.items_failed = 0
        self.failures: Counter[str] = Counter()

    def note_failure(self, error: BaseException) -> None:
        """Count an exception of the step."""
        self.failures[type(error).__name__] += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """The context of a user's step.

    Attributes:
        access: Its access to external objects.
        job_id: The job.
        launch_id: Its launch.
        generation: Its generation.
        step: `setup`, `process` or `join`. Combine runs as part of `process`.
        task: Name of the task.
        deadline_at: When the job fails if it has not ended, in seconds since the epoch; None for never.
        has_ended: Returns whether the job had ended at the last check. Its requests are bounded.
        note_sink: Records that the step is about to write to the sink of a URL and an endpoint. One request.
        position: How far the run is.
        signs: What it tells the watchers of its job.
        tally: What it has done.
    """

    access: Access
    job_id: str
    launch_id: str
    generation: int
    step: str
    task: str = ""
    deadline_at: float | None = None
    has_ended: Callable[[], bool] = field(default=lambda: False, compare=False)
    note_sink: Callable[[str, str | None], None] = field(default=lambda url, endpoint: None, compare=False)
    position: Position = field(default_factory=Position, compare=False)
    signs: Signs = field(default_factory=Signs, compare=False)
    tally: Tally = field(default_factory=Tally, compare=False)


_CURRENT: ContextVar[StepContext | None] = ContextVar("fanout_step", default=None)
_ACCESS: ContextVar[Access | None] = ContextVar("fanout_access", default=None)


@contextmanager
def running(context: StepContext) -> Iterator[None]:
    """Let everything inside the block run as part of a step. Holds in this thread."""
    token = _CURRENT.set(context)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def reading_as(access: Access) -> Iterator[None]:
    """Let values that are decoded inside the block, outside a step, use this access. Holds in this thread."""
    token = _ACCESS.set(access)
    try:
        yield
    finally:
        _ACCESS.reset(token)


def current_step() -> StepContext | None:
    """Return the context of the step around this call; None outside a step."""
    return _CURRENT.get()


def clean_note(text: str) -> str:
    """Return a note as terminals can show it: in one line, without control characters, cut to its longest form."""
    line = "".join(character if character.isprintable() else " " for character in text[: 2 * NOTE_CHARACTERS])
    return line if len(line) <= NOTE_CHARACTERS else f"{line[: NOTE_CHARACTERS - 1]}…"


def current_access() -> Access | None:
    """Return the access of the step around this call, or else that of `reading_as`; None outside of both."""
    context = _CURRENT.get()
    return context.access if context is not None else _ACCESS.get()


def find_access(captured: Access | None = None) -> Access:
    """Return the access that a value uses.

    Args:
        captured: The access of the step in which the value was decoded, if there was one.

    Returns:
        That, or the access of the step around this call, or outside a step the access of this process as a caller.

    Raises:
        ConfigError: A setting of the environment is wrong.
    """
    return captured or current_access() or _access_of_caller(_read_environment())


def _read_environment() -> tuple[tuple[str, str], ...]:
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith(("FANOUT_", "AWS_"))))


@lru_cache(maxsize=1)
def _access_of_caller(environment: tuple[tuple[str, str], ...]) -> Access:
    """Return the access of this process as a caller; the same, with its clients, while the environment is the same."""
    return Access.of_caller()
