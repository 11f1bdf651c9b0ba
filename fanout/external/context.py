"""What a user's step runs in: its job, its chunk, and what it may read and write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from .access import Access


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """What a user's step runs in.

    Attributes:
        access: What it may read and write outside fanout's own store.
        job_id: The job.
        launch_id: Its launch.
        generation: Its generation.
        step: `setup`, `process` or `join`.
    """

    access: Access
    job_id: str
    launch_id: str
    generation: int
    step: str


_CURRENT: ContextVar[StepContext | None] = ContextVar("fanout_step", default=None)


@contextmanager
def running(context: StepContext) -> Iterator[None]:
    """Let everything inside the block run as part of a step. Holds in this thread."""
    token = _CURRENT.set(context)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_step() -> StepContext | None:
    """Return what the step around this call runs in; None outside a step."""
    return _CURRENT.get()


def current_access() -> Access | None:
    """Return what the step around this call may read and write; None outside a step."""
    context = _CURRENT.get()
    return context.access if context is not None else None
