"""How a trial ended."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """How a trial ended."""

    DONE = "done"
    STOPPED = "stopped"
    SKIPPED = "skipped"
    FAILED = "failed"
