"""The state and the progress of a job, as its caller sees them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class JobState(StrEnum):
    """The state of a job."""

    LAUNCHED = "launched"
    PROCESSING = "processing"
    JOINING = "joining"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a job.

    Attributes:
        state: The job's state.
        chunks_done: Number of chunks that have a result, or whose failure is tolerated.
        chunks: Number of all chunks; None until setup has finished.
        items: Number of all items; None until setup has finished.
        items_failed: Number of items that have failed.
    """

    state: JobState
    chunks_done: int
    chunks: int | None
    items: int | None
    items_failed: int = 0

    @property
    def fraction(self) -> float | None:
        """The share of the chunks that are done, 0 to 1; None until setup has finished."""
        if self.chunks is None:
            return None
        return self.chunks_done / self.chunks if self.chunks else 1.0
