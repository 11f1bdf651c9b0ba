"""The record of an attempt that gave no result."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from .failure import Failure, check_failures
from .record import Record


class AttemptState(StrEnum):
    """The last recorded state of an attempt that gave no result."""

    STARTED = "started"
    LOST = "lost"
    RAISED = "raised"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt(Record):
    """An attempt of a step that has given no result: it raised, its worker was lost, or it may still be running.

    Attributes:
        state: One of `AttemptState`.
        at: When this was written.
        failure: The failure, as a mapping, if it raised.
        by: Token of the run that began it; for combine, the first of its chunks.
        message: Id of the message for which it was begun; empty if unknown.
    """

    kind: ClassVar[str] = "attempt"
    state: str
    at: float
    failure: dict[str, Any] | Failure | None = None
    by: str = ""
    message: str = ""

    def check(self) -> None:
        """Check the failure."""
        check_failures(self.failure, ())

    @property
    def failed(self) -> Failure | None:
        """The failure, if the attempt raised."""
        return Failure.read(self.failure)
