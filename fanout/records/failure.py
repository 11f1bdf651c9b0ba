"""Why a step did not give a value, in a form that can be stored and raised again."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

from ..errors import JobFailed

_LOG = logging.getLogger("fanout")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step did not give a value.

    Attributes:
        step: `setup`, `process`, `combine`, `join` or `job`.
        error: Name of the exception's type.
        reason: Its message.
        traceback_text: The worker's traceback, credentials removed.
        chunk: Index of the chunk, for process, and for combine within a chunk.
        item: Index of the item over the whole job, where known.
        attempts: How often the step was tried.
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
        """What a step raised, whatever that is: an exception that can't be described is described as such."""
        _LOG.debug("%s raised", step, exc_info=(type(error), error, error.__traceback__))
        name = _told(lambda: type(error).__name__)
        # What was noted on the exception is meant for whoever reads of it.
        notes = _told(lambda: "".join(f"; {note}" for note in getattr(error, "__notes__", None) or ()))
        reason = shortened(redacted(_told(lambda: str(error)) + notes), limit=REASON_LIMIT)
        text = shortened(redacted(_told(lambda: _traceback_of(error))), limit=TRACEBACK_LIMIT)
        return cls(step, name, reason, text, chunk, item, attempts)

    @classmethod
    def overran(cls, step: str, limit_s: float, *, chunk: int | None = None, attempts: int = 1) -> Failure:
        """The step was stopped at its time limit."""
        return cls(step, "TimeLimitExceeded", too_long(step, limit_s), chunk=chunk, attempts=attempts)

    def to_error(self, job_id: str, task: str, kind: type[JobFailed] = JobFailed) -> JobFailed:
        """The error that says so to a caller."""
        reason = f"{self.error}: {self.reason}" if self.step != "job" else self.reason
        return kind(job_id, task, self.step, reason, self.chunk, self.item, self.attempts, self.traceback_text)

    @classmethod
    def read(cls, body: dict[str, Any] | Failure | None) -> Failure | None:
        """The failure inside a record, which lies there as a mapping."""
        return cls(**body) if isinstance(body, dict) else body


@dataclass(frozen=True, slots=True)
class FailedItem:
    """Stands among the results in the place of an item that failed, where the job tolerates that.

    It is false, as None is: `filter(None, results)` passes it by, along with results that are false themselves;
    `results.good()` passes by nothing else. A join that returns one returns its fields, as a dict.

    Attributes:
        item: Index of the item over the whole job.
        chunk: Index of its chunk.
        error: Name of the exception's type; `WorkerLost` if the chunk's worker died every time.
        reason: Its message, shortened.
        attempts: How often its chunk was tried.
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
        """The mark of one item of a chunk that failed for that reason."""
        assert failure.chunk is not None
        reason = shortened(failure.reason, limit=MARK_LIMIT)
        return cls(item, failure.chunk, failure.error, reason, failure.attempts)

    def to_dict(self) -> dict[str, Any]:
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


MARK_LIMIT = 200
"""Characters that are kept of a failed item's message: there may be one for each item."""

REASON_LIMIT = 2_000
TRACEBACK_LIMIT = 16_000
"""Characters that are kept of an exception's message and of its traceback: both travel through result backends."""


def add_note(error: BaseException, note: str) -> None:
    """Note on an exception what a reader should know; not on one that takes none."""
    with suppress(Exception):
        error.add_note(note)


def _told(describe: Callable[[], str]) -> str:
    """What `describe` gives, as text that can be stored: a user's exception runs code of the user's here."""
    try:
        text = str(describe())
    except BaseException as broken:
        return f"<not to be described: {type(broken).__name__} was raised instead>"
    # Half a surrogate pair is a str, and no UTF-8.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _traceback_of(error: BaseException) -> str:
    """The traceback from the first frame of the user's on; ours above it lead to no fault of the user's."""
    trace = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame.f_globals.get("__name__")):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace or error.__traceback__))


def _is_ours(module: object) -> bool:
    return isinstance(module, str) and module.split(".")[0] in ("fanout", "storage")


def too_long(step: str, limit_s: float, *, setting: str = "task_time_limit") -> str:
    """What a step that hit a time limit is told: the limit, and the remedy."""
    smaller = "make its chunks smaller (chunk_items, chunk_bytes), or " if step == "process" else ""
    return (
        f"took longer than its time limit, {setting} = {limit_s:g} s: {smaller}raise that, but keep it below the time "
        "for which the broker waits"
    )


def shortened(text: str, *, limit: int) -> str:
    """`text` of at most about `limit` characters: its beginning, and more of its end, where a traceback says most."""
    if len(text) <= limit:
        return text
    head = limit // 4
    return f"{text[:head]}\n… {len(text) - limit:,} characters left out …\n{text[head - limit :]}"


_SECRETS = (
    re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"),
    re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    re.compile(r"(?i)(?<=secret_access_key)(\W+)[A-Za-z0-9/+=]{16,}"),
    re.compile(r"(?<=X-Amz-Signature=)[0-9a-fA-F]+"),
)


def redacted(text: str) -> str:
    """`text` without what looks like a credential."""
    for pattern in _SECRETS:
        text = pattern.sub("***", text)
    return text
