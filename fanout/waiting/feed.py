"""The iterables of a job, for threads and event loops."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Generic, TypeVar

from .aio import run_steps_async
from .steps import Steps, run_steps
from .view import JobView
from .wait import Wait

T_co = TypeVar("T_co", covariant=True)


class Feed(Generic[T_co]):
    """Values of a job as they come: `for` waits in this thread, `async for` in an event loop. Each loop begins anew.

    Args:
        view: The job.
        make_steps: Returns the steps of a caller that waits.
        timeout_s: Seconds until JobTimeout; None for never.
        dutiful: Whether the waiting caller sweeps the job.
    """

    def __init__(
        self,
        view: JobView,
        make_steps: Callable[[JobView, Wait], Steps[T_co]],
        *,
        timeout_s: float | None = None,
        dutiful: bool = True,
    ) -> None:
        self._view = view
        self._make_steps = make_steps
        self._timeout_s = timeout_s
        self._dutiful = dutiful

    def __iter__(self) -> Iterator[T_co]:
        """Yield the values. The timeout counts from the first one that is asked for."""
        wait = Wait(self._view, timeout_s=self._timeout_s, dutiful=self._dutiful)
        yield from run_steps(wait, self._make_steps(self._view, wait))

    def __aiter__(self) -> AsyncGenerator[T_co, None]:
        """Yield the values in an event loop. A few threads make the requests of all loops of this process."""
        return run_steps_async(self._view, self._make_steps, timeout_s=self._timeout_s, dutiful=self._dutiful)

    def __repr__(self) -> str:
        return f"<Feed of job {self._view.job_id}>"
