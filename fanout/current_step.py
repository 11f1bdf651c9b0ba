"""The step that is running, as the user's own code in it sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from .errors import NotInStep
from .external.context import StepContext, clean_note, current_step


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentStep:
    """The step that was running when `current` was called.

    Attributes:
        job_id: The job.
        task: Name of the task.
        step: `setup`, `process`, `combine` or `join`.
        chunk: Index of the chunk, in `process` and in a `combine` of its results; else None.
        item: Index of the item over the whole job, in `process`; else None.
        attempt: Number of the attempt, from 1. A run that an outage interrupted does not count.
        generation: Number of retries of the job before this run.
        deadline: When the job fails if it has not ended, by the store's clock; None for never.
    """

    job_id: str
    task: str
    step: str
    chunk: int | None
    item: int | None
    attempt: int
    generation: int
    deadline: datetime | None
    _context: StepContext = field(repr=False, compare=False)

    def is_cancelled(self) -> bool:
        """Return whether the job needs this step no more: it was cancelled, or has ended in another way.

        Call it as often as you like: one request a second at most, and none while a heartbeat looks for the end. The
        result of a step of such a job is not used, so the step may return anything or raise. A store that does not
        answer counts as a job that goes on.
        """
        return self._context.has_ended()

    def heartbeat(self, note: str = "") -> None:
        """Say that the step is alive, and how far it is.

        A step of over 5 s writes heartbeats by itself, from a thread. The next one carries the note, and
        `fanout jobs watch` shows it. This call makes no request, unless that thread is late because the step lets no
        other thread run. Then it writes the heartbeat itself, and a sweep does not take the step for dead.

        Args:
            note: Text for people, of one line. It is cut to 200 characters. Without it the last note stays.

        Raises:
            TypeError: The note is no text.
        """
        if not isinstance(note, str):
            raise TypeError(f"heartbeat: note must be text, not {type(note).__name__}")
        signs = self._context.signs
        if note:
            signs.note = clean_note(note)
        pulse = signs.pulse
        if pulse is not None:
            pulse.beat()


def current() -> CurrentStep:
    """Return the step around this call: its job, chunk and item, and ways to talk with the watchers of the job.

    No request. It works on workers and in `Task.run`. A thread of your own sees the step if it runs in a copy of the
    step's context: `contextvars.copy_context().run`, or `asyncio.to_thread`.

    Raises:
        NotInStep: The call was made outside a step, or in a thread without the step's context.
    """
    context = current_step()
    if context is None:
        raise NotInStep(
            "fanout.current() was called outside a step: call it in setup, process, combine or join, and in a thread "
            "of your own with contextvars.copy_context().run"
        )
    position = context.position
    return CurrentStep(
        job_id=context.job_id,
        task=context.task,
        step=position.step or context.step,
        chunk=position.chunk,
        item=position.item,
        attempt=position.attempt,
        generation=context.generation,
        deadline=datetime.fromtimestamp(context.deadline_at, UTC) if context.deadline_at is not None else None,
        _context=context,
    )
