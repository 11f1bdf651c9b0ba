"""The errors that fanout raises on purpose, and which errors are transient.

    FanoutError
    ├── DeclarationError   (TypeError)        a task class or one of its steps is wrong
    ├── ConfigError        (ValueError)       a setting is missing or out of range
    ├── InvalidInput       (ValueError)       a job's input does not fit the task's schema
    ├── InvalidItem        (TypeError)        setup yielded an item that process can't take
    ├── UnknownTask        (LookupError)      this process has declared no task of that name
    ├── InvalidLocation    (ValueError)       a URL or path names no place for external objects
    ├── NotAllowed         (RuntimeError)     this process may not read or write there
    ├── SourceMissing      (LookupError)      an object of a source does not exist
    ├── SourceChanged      (RuntimeError)     an object of a source is not the one that setup saw
    ├── SourceDamaged      (ValueError)       an object of a source can't be read as what it should be
    ├── SinkConflict       (RuntimeError)     a sink holds other data than what is to be committed
    ├── UnwritableRow      (ValueError)       a row or an object can't be written to a sink
    ├── NotInStep          (RuntimeError)     a call that belongs into a step was made outside of it
    ├── BrokerUnavailable  (ConnectionError)  the broker takes no messages
    ├── JobNotFound        (LookupError)      the store holds no job of that id
    ├── JobConflict        (ValueError)       another job has that id already
    ├── RetryRefused       (RuntimeError)     the job can't be retried
    ├── JobTimeout         (TimeoutError)     the job has not ended within the caller's timeout
    └── JobFailed          (RuntimeError)     the job ended without a value
        └── JobCancelled                      the job was cancelled

`MemoryLimitExceeded` (ValueError) is in `memory.py`.

All of them survive pickling, and Celery's JSON form of an exception: their state is in `args`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from storage import StorageError


class FanoutError(Exception):
    """The root of all errors of this package."""


class DeclarationError(FanoutError, TypeError):
    """A task class or one of its steps is wrong. Raised where the class is declared."""


class ConfigError(FanoutError, ValueError):
    """A setting is missing, misspelt or out of range."""


class InvalidInput(FanoutError, ValueError):
    """The input of a job does not fit the task's schema. fanout has stored and sent nothing.

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
    """Setup yielded an item that process can't take."""


class UnknownTask(FanoutError, LookupError):
    """This process has declared no task of that name, because it has not imported the task's module."""


class InvalidLocation(FanoutError, ValueError):
    """A URL or path names no place for external objects.

    Attributes:
        url: The URL or path, shortened and without credentials.
        flaw: What is wrong with it.
    """

    def __init__(self, url: str, flaw: str, remedy: str = "") -> None:
        self.url = url
        self.flaw = flaw
        super().__init__(url, flaw, remedy)

    def __str__(self) -> str:
        return f"{self.url!r}: {self.flaw}. {self.args[2]}".rstrip()


class NotAllowed(FanoutError, RuntimeError):
    """This process may not read or write there, because the location lies below none of its roots.

    Attributes:
        url: The location.
        setting: The setting that would allow it: `source_roots` or `sink_roots`.
        roots: What the setting allows.
    """

    def __init__(self, url: str, setting: str, roots: Sequence[str]) -> None:
        self.url = url
        self.setting = setting
        self.roots = list(roots)
        super().__init__(url, setting, self.roots)

    def __str__(self) -> str:
        current = f"is {', '.join(self.roots)}" if self.roots else "is empty"
        return (
            f"this process may not use {self.url}: its setting {self.setting} {current}. Add a root above the "
            f"location: connect(app, {self.setting}=(…,)), app.conf.fanout_{self.setting}, or "
            f"FANOUT_{self.setting.upper()}"
        )


class SourceMissing(FanoutError, LookupError):
    """An object of a source does not exist: it was deleted after it was listed, or its name is wrong.

    Attributes:
        url: The object.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        super().__init__(url)

    def __str__(self) -> str:
        return f"{self.url} does not exist: check the name, and that no program deletes it before the job ends"


class SourceChanged(FanoutError, RuntimeError):
    """An object of a source is not the one that setup saw: it was written again, or became shorter.

    Attributes:
        url: The object.
        expected: The entity tag that setup saw.
        found: The entity tag that the object has now; "" if it is not known.
    """

    def __init__(self, url: str, expected: str, found: str = "") -> None:
        self.url = url
        self.expected = expected
        self.found = found
        super().__init__(url, expected, found)

    def __str__(self) -> str:
        found = f"its entity tag is {self.found}" if self.found else "its entity tag or length is another"
        return (
            f"{self.url} has changed since setup saw it with the entity tag {self.expected}: {found}. "
            "Launch the job again, and let no program write the object meanwhile"
        )


class SourceDamaged(FanoutError, ValueError):
    """An object of a source can't be read as what it should be.

    Attributes:
        url: The object.
        offset: The byte at which the flaw lies or its record begins; in a compressed object, of its content, unless the
            flaw is one of the compression. None if it is not known.
        flaw: What is wrong.
    """

    def __init__(self, url: str, offset: int | None, flaw: str) -> None:
        self.url = url
        self.offset = offset
        self.flaw = flaw
        super().__init__(url, offset, flaw)

    def __str__(self) -> str:
        place = f", byte {self.offset}" if self.offset is not None else ""
        return f"{self.url}{place}: {self.flaw}"


class SinkConflict(FanoutError, RuntimeError):
    """A sink holds other data than what is to be committed. Nothing of it was changed.

    Attributes:
        url: The sink.
        reason: What it holds, and the remedy.
    """

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(url, reason)

    def __str__(self) -> str:
        return f"{self.url}: {self.reason}"


class UnwritableRow(FanoutError, ValueError):
    """A row or an object can't be written to a sink. Nothing was written.

    Attributes:
        url: The sink.
        flaw: What is wrong, with the index of the row, and the remedy.
    """

    def __init__(self, url: str, flaw: str) -> None:
        self.url = url
        self.flaw = flaw
        super().__init__(url, flaw)

    def __str__(self) -> str:
        return f"{self.url}: {self.flaw}"


class NotInStep(FanoutError, RuntimeError):
    """A call that belongs into a step was made outside of it, or in a thread that does not know of the step."""


class BrokerUnavailable(FanoutError, ConnectionError):
    """The engine's broker takes no messages. Calling again sends what this call has not sent."""


class EngineLost(BrokerUnavailable):
    """The cluster of an engine is gone, and this engine can send no message any more. Its jobs are in the store.

    A new engine for the same store goes on with them: its `resume` sends what they miss.
    """


class JobNotFound(FanoutError, LookupError):
    """The store holds no job of that id: it was never launched, or it was removed.

    Attributes:
        job_id: The id.
    """

    def __init__(self, job_id: str, store_url: str = "") -> None:
        self.job_id = job_id
        super().__init__(job_id, store_url)

    def __str__(self) -> str:
        return (
            f"job {self.job_id} is not in the store {self.args[1]}: "
            "check the id and that caller and workers use the same store URL"
        )


class JobConflict(FanoutError, ValueError):
    """Another job has that id already.

    Attributes:
        job_id: The id.
        differences: How the two differ, one line per difference.
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
    """The job can't be retried: it has succeeded, or its input is gone.

    Attributes:
        job_id: The job.
        reason: Why not, and the remedy.
    """

    def __init__(self, job_id: str, reason: str) -> None:
        self.job_id = job_id
        self.reason = reason
        super().__init__(job_id, reason)

    def __str__(self) -> str:
        return f"job {self.job_id} can't be retried: {self.reason}"


class JobTimeout(FanoutError, TimeoutError):
    """The job has not ended within the caller's timeout. It goes on."""


class JobFailed(FanoutError, RuntimeError):
    """The job ended without a value.

    Attributes:
        job_id: Id of the job.
        task: Name of the task.
        step: `setup`, `process`, `combine`, `join`, or `job` if no step failed (a deadline, a cancellation).
        reason: What happened, in one line.
        chunk: Index of the failed chunk, if a chunk failed.
        item: Index of the failed item over the whole job, if known.
        attempts: Number of attempts of the step.
        traceback_text: The worker's traceback as text; empty if there is none.
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


def is_transient(error: BaseException) -> bool:
    """Return whether a store or broker outage raised an error, so that the stage should run again later.

    Any other error fails the job. A value that can't be encoded, a damaged object and a missing one stay as they are.
    A store that denies access counts as an outage, because credentials and policies are renewed; see
    `StorageError.transient`.
    """
    return isinstance(error, BrokerUnavailable) or (isinstance(error, StorageError) and error.transient)
