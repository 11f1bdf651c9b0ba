"""Failures of steps, in a form that the store keeps and a caller can raise."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

from ..errors import JobFailed
from ..redaction import redact
from .fields import check_fields

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why a step gave no value.

    Attributes:
        step: `setup`, `process`, `combine`, `join` or `job`.
        error: Name of the exception's type.
        reason: Its message.
        traceback_text: The worker's traceback, without credentials.
        chunk: Index of the chunk, for process, and for combine within a chunk.
        item: Index of the item over the whole job, if known.
        attempts: Number of attempts of the step.
    """

    step: str
    error: str
    reason: str
    traceback_text: str = ""
    chunk: int | None = None
    item: int | None = None
    attempts: int = 1

    @classmethod
    def of(
        cls,
        step: str,
        error: BaseException,
        *,
        chunk: int | None = None,
        item: int | None = None,
        attempts: int = 1,
    ) -> Failure:
        """Return the failure of a step that raised an error.

        Args:
            step: The step's name; see the class.
            error: Any exception. One that raises when it is described gives a failure that says so.
            chunk: Index of the chunk.
            item: Index of the item over the whole job.
            attempts: Number of attempts of the step.
        """
        name = _describe(lambda: type(error).__name__)
        # Notes on the exception are for the reader of its message.
        notes = _describe(lambda: "".join(f"; {note}" for note in getattr(error, "__notes__", None) or ()))
        reason = shorten(redact(_describe(lambda: str(error)) + notes), limit=REASON_LIMIT)
        text = shorten(redact(_describe(lambda: _format_traceback(error))), limit=TRACEBACK_LIMIT)
        _LOG.debug("%s raised:\n%s", step, text)
        return cls(step, name, reason, text, chunk, item, attempts)

    @classmethod
    def of_time_limit(cls, step: str, limit_s: float, *, chunk: int | None = None, attempts: int = 1) -> Failure:
        """Return the failure of a step that was stopped at its time limit."""
        return cls(step, "TimeLimitExceeded", describe_time_limit(step, limit_s), chunk=chunk, attempts=attempts)

    def to_error(self, job_id: str, task: str, kind: type[JobFailed] = JobFailed) -> JobFailed:
        """Return the error that a caller gets for this failure."""
        reason = f"{self.error}: {self.reason}" if self.step != "job" else self.reason
        return kind(job_id, task, self.step, reason, self.chunk, self.item, self.attempts, self.traceback_text)

    @classmethod
    def read(cls, body: dict[str, Any] | Failure | None) -> Failure | None:
        """Return the failure in a record, which holds it as a mapping."""
        return cls(**body) if isinstance(body, dict) else body


@dataclass(frozen=True, slots=True)
class FailedItem:
    """An item that failed in a job that tolerates failures. It takes the place of the item's result.

    It is false, as None is. So `filter(None, results)` drops it, along with results that are false themselves, while
    `results.good()` drops nothing else. If join returns one, the caller gets its fields as a dict.

    Attributes:
        item: Index of the item over the whole job.
        chunk: Index of its chunk.
        error: Name of the exception's type; `WorkerLost` if the chunk's worker died in every attempt.
        reason: Its message, shorten.
        attempts: Number of attempts of its chunk.
    """

    item: int
    chunk: int
    error: str
    reason: str
    attempts: int = 1

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"item {self.item}: {self.error}: {self.reason}"

    @classmethod
    def of(cls, failure: Failure, *, item: int) -> FailedItem:
        """Return the failed item of a chunk that failed as a whole."""
        assert failure.chunk is not None
        reason = shorten(failure.reason, limit=FAILED_ITEM_LIMIT)
        return cls(item, failure.chunk, failure.error, reason, failure.attempts)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


def check_failures(failure: dict[str, Any] | Failure | None, items: Iterable[Any]) -> None:
    """Check the mappings of a failure and of failed items, as they are read from a record."""
    if isinstance(failure, dict):
        check_fields(Failure, failure)
        Failure(**failure)
    for item in items:
        check_fields(FailedItem, item)
        FailedItem(**item)


FAILED_ITEM_LIMIT = 200
"""Longest message of a failed item, in characters. A job may have one per item."""

REASON_LIMIT = 2_000
TRACEBACK_LIMIT = 16_000
"""Longest message and longest traceback of a failure, in characters. Both go through result backends."""


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception, unless its type refuses notes."""
    with suppress(Exception):
        error.add_note(note)


def _describe(describe: Callable[[], str]) -> str:
    """Call `describe` and return its text in a form that can be stored.

    It runs code of a user's exception, which may raise anything.
    """
    try:
        text = str(describe())
    except BaseException as broken:
        return f"<no description: {type(broken).__name__} was raised instead>"
    # A str may hold half a surrogate pair, which UTF-8 can't encode.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _format_traceback(error: BaseException) -> str:
    """Return the traceback without the frames of fanout above the first frame of the user's code."""
    trace = error.__traceback__
    while trace is not None and _is_fanout(trace.tb_frame.f_globals.get("__name__")):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace or error.__traceback__))


def _is_fanout(module: object) -> bool:
    return isinstance(module, str) and module.split(".")[0] in ("fanout", "storage")


def describe_time_limit(step: str, limit_s: float, *, setting: str = "task_time_limit") -> str:
    """Return the message of a step that hit a time limit: the limit and the remedy."""
    smaller = "make its chunks smaller (chunk_items, chunk_bytes), or " if step == "process" else ""
    return (
        f"took longer than its time limit, {setting} = {limit_s:g} s: {smaller}raise the limit, but keep it below the "
        "broker's timeout for acknowledgements"
    )


def shorten(text: str, *, limit: int) -> str:
    """Return `text` cut to about `limit` characters.

    A quarter of them is its beginning and the rest its end, because the end of a traceback says most.
    """
    if len(text) <= limit:
        return text
    head = limit // 4
    return f"{text[:head]}\n… {len(text) - limit:,} characters left out …\n{text[head - limit :]}"
