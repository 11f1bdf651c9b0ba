"""The context of a user's step: its job, and its access to external objects."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache

from .access import Access


class Position:
    """How far a run of process is, and how often it has written. The run sets the item as it goes on.

    Attributes:
        item: Index of the current item over the whole job; None between items, and in other steps.
    """

    __slots__ = ("_counted", "_writes", "item")

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin anew, before another run of the same or of other items."""
        self.item: int | None = None
        self._counted: int | None = None
        self._writes: Counter[str] = Counter()

    def count_write(self, url: str) -> int:
        """Count a write to a sink, and return how many the current item has made there before."""
        if self._counted != self.item:
            self._counted, self._writes = self.item, Counter()
        self._writes[url] += 1
        return self._writes[url] - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """The context of a user's step.

    Attributes:
        access: Its access to external objects.
        job_id: The job.
        launch_id: Its launch.
        generation: Its generation.
        step: `setup`, `process` or `join`. Combine runs as part of `process`.
        position: How far the run is.
    """

    access: Access
    job_id: str
    launch_id: str
    generation: int
    step: str
    position: Position = field(default_factory=Position, compare=False)


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
