"""The state and the progress of a job, as its caller sees them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from html import escape


class JobState(StrEnum):
    """The state of a job."""

    LAUNCHED = "launched"
    PROCESSING = "processing"
    JOINING = "joining"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        """Whether the job has succeeded, failed or been cancelled."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a job.

    Attributes:
        state: The job's state.
        chunks_done: Number of chunks that have a result, or whose failure is tolerated.
        chunks: Number of all chunks; None until setup has finished.
        items: Number of all items; None until setup has finished.
        items_failed: Number of items that have failed.
        items_per_s: Items done in a second, as a caller that watches the job has measured it over the last half minute;
            None if it is not known.
        left_s: Seconds until all chunks are done at that rate; None if it is not known.
        is_partial: Whether a caller that watches the job has not listed all results yet, so that more may be done.
        note: What a step at work says by `fanout.current().heartbeat`, after its name; empty for nothing.
    """

    state: JobState
    chunks_done: int
    chunks: int | None
    items: int | None
    items_failed: int = 0
    items_per_s: float | None = None
    left_s: float | None = None
    is_partial: bool = False
    note: str = ""

    @property
    def fraction(self) -> float | None:
        """The share of the chunks that are done, 0 to 1; None until setup has finished."""
        if self.chunks is None:
            return None
        return self.chunks_done / self.chunks if self.chunks else 1.0

    @property
    def items_done(self) -> int | None:
        """Number of items in the chunks that are done, failed ones included; None until setup has finished.

        It is an estimate if chunks differ in size.
        """
        return round(self.fraction * self.items) if self.fraction is not None and self.items is not None else None

    def __str__(self) -> str:
        """Describe the progress in a line: `processing, 120 of 600 items (20 %), 2 failed, 14.2 items/s, 34 s left`."""
        parts = [str(self.state)]
        if self.fraction is not None:
            least = "at least " if self.is_partial else ""
            # Cut, and not rounded: 100 % means all.
            share = int(100 * self.fraction)
            parts.append(f"{least}{self.items_done:,} of {self.items:,} items ({share} %)")
        if self.items_failed:
            parts.append(f"{self.items_failed:,} failed")
        if self.items_per_s is not None:
            parts.append(f"{format_rate(self.items_per_s)} items/s")
        if self.left_s is not None:
            parts.append(f"{format_seconds(self.left_s)} left")
        return ", ".join(parts) + (f" ({self.note})" if self.note else "")

    def _repr_html_(self) -> str:
        """Return a bar and the line of `str` for a notebook."""
        value = "" if self.fraction is None else f' value="{self.fraction:.4f}"'
        return f'<progress max="1"{value} style="width: 20em"></progress> {escape(str(self))}'


def format_rate(rate: float) -> str:
    """Return a rate as text, to three digits or to whole numbers: `0.25`, `14.2` or `1,420`."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def format_seconds(seconds: float) -> str:
    """Return a duration as text: `34 s`, `5 min 20 s` or `3 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
