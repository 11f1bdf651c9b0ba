"""Every error that fanout raises on purpose.

    FanoutError
    ├── DeclarationError   (TypeError)      a task class or its steps are wrong; raised where it is declared
    ├── ConfigError        (ValueError)     a setting is missing or out of range
    ├── InvalidInput       (ValueError)     a job's input does not fit the task's schema
    ├── InvalidItem        (TypeError)      setup yielded something that process can't take
    ├── UnknownTask        (LookupError)    no task of that name is declared in this process
    ├── CarrierUnavailable (ConnectionError) the broker takes no messages
    ├── JobNotFound        (LookupError)    the store holds no job of that id
    ├── JobConflict        (ValueError)     another job has that id already
    ├── RetryRefused       (RuntimeError)   the job can't be run again
    ├── JobTimeout         (TimeoutError)   the job has not ended within the time the caller gave
    └── JobFailed          (RuntimeError)   the job ended without a value
        └── JobCancelled                    because somebody cancelled it

All of them survive pickling and Celery's JSON form of an exception: their state is in `args`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class FanoutError(Exception):
    """The root of all errors of this package."""


class DeclarationError(FanoutError, TypeError):
    """A task class, or one of its steps, can't work as it is written."""


class ConfigError(FanoutError, ValueError):
    """A setting is missing, misspelt or out of range."""


class InvalidInput(FanoutError, ValueError):
    """The input of a job does not fit the task's schema. Nothing was stored or sent.

    Attributes:
        task: Name of the task.
        errors: Path of each refused field (`documents[3]`, `delimiter`) -> the reasons, in the schema's order.
    """

    def __init__(self, task: str, errors: Mapping[str, list[str]]) -> None:
        self.task = task
        self.errors = {path: list(reasons) for path, reasons in errors.items()}
        super().__init__(task, self.errors)

    def __str__(self) -> str:
        listed = "; ".join(f"{path}: {', '.join(reasons)}" for path, reasons in self.errors.items())
        return f"{self.task}: {listed}"


class InvalidItem(FanoutError, TypeError):
    """What `setup` yielded can't be handed to `process`."""


class UnknownTask(FanoutError, LookupError):
    """No task of that name has been declared in this process: its module was not imported."""


class BrokerUnavailable(FanoutError, ConnectionError):
    """The engine's broker takes no messages. What was not sent will be when this is tried again."""


class JobNotFound(FanoutError, LookupError):
    """The store holds no job of that id: never launched, or removed after its time."""

    def __init__(self, job_id: str, store_url: str = "") -> None:
        self.job_id = job_id
        super().__init__(job_id, store_url)

    def __str__(self) -> str:
        return (
            f"job {self.job_id} is not in the store {self.args[1]}: "
            "check the id and that caller and workers use the same store URL"
        )


class JobConflict(FanoutError, ValueError):
    """A job of that id exists already, and it is another one.

    Attributes:
        job_id: The id.
        differences: What is not the same, a line each.
    """

    def __init__(self, job_id: str, differences: Sequence[str]) -> None:
        self.job_id = job_id
        self.differences = list(differences)
        super().__init__(job_id, self.differences)

    def __str__(self) -> str:
        return (
            f"job {self.job_id} exists already, and is another one: {'; '.join(self.differences)}. "
            "Give another job_id, or the same input and options"
        )


class RetryRefused(FanoutError, RuntimeError):
    """The job can't be run again: there is nothing to run, or nothing left to run it on.

    Attributes:
        job_id: The job.
        reason: Why not, and what to do instead.
    """

    def __init__(self, job_id: str, reason: str) -> None:
        self.job_id = job_id
        self.reason = reason
        super().__init__(job_id, reason)

    def __str__(self) -> str:
        return f"job {self.job_id} can't be retried: {self.reason}"


class JobTimeout(FanoutError, TimeoutError):
    """The job goes on, but has not ended within the caller's timeout."""


class JobFailed(FanoutError, RuntimeError):
    """The job has ended without a value.

    Attributes:
        job_id: Id of the job.
        task: Name of the task.
        step: `setup`, `process`, `combine`, `join`, or `job` when no step is to blame (a deadline, a cancellation).
        reason: What happened, in one line.
        chunk: Index of the failed chunk, if a chunk failed.
        item: Index of the failed item over the whole job, if known.
        attempts: How often the step was tried.
        traceback_text: The worker's traceback as text; empty when there was none.
    """

    def __init__(
        self,
        job_id: str,
        task: str,
        step: str,
        reason: str,
        chunk: int | None = None,
        item: int | None = None,
        attempts: int = 1,
        traceback_text: str = "",
    ) -> None:
        self.job_id = job_id
        self.task = task
        self.step = step
        self.reason = reason
        self.chunk = chunk
        self.item = item
        self.attempts = attempts
        self.traceback_text = traceback_text
        super().__init__(job_id, task, step, reason, chunk, item, attempts, traceback_text)

    def __str__(self) -> str:
        place = f"{self.task}.{self.step}" if self.step != "job" else self.task
        if self.chunk is not None:
            place += f", chunk {self.chunk}"
        if self.item is not None:
            place += f", item {self.item}"
        attempts = f" (tried {self.attempts} times)" if self.attempts > 1 else ""
        text = f"job {self.job_id}: {place}: {self.reason}{attempts}"
        return f"{text}\n\n{self.traceback_text}" if self.traceback_text else text

    def __reduce__(self) -> tuple[type[JobFailed], tuple[Any, ...]]:
        return type(self), self.args


class JobCancelled(JobFailed):
    """The job was cancelled before it had a value."""
