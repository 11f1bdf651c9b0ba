"""The failed items of a job: their number, the first of them, and whether they are too many."""

from __future__ import annotations

from dataclasses import dataclass

from storage import CorruptObject

from ..cached_job import CachedJob
from ..records.batch import Landed
from ..records.failure import FailedItem, Failure
from ..records.models import LISTED_FAILURES

NAMED_FAILURES = 3
"""Number of failed items that the error of a job names."""


@dataclass(frozen=True, slots=True)
class FailureSummary:
    """The failed items of a job.

    Attributes:
        failed: Number of failed items.
        listed: The first of them, at most `LISTED_FAILURES`, in item order.
        first: Why the first of them failed, with the worker's traceback; None if none failed.
    """

    failed: int
    listed: list[FailedItem]
    first: Failure | None

    @classmethod
    def of(cls, job: CachedJob, setup_id: str, landed: Landed, *, failed: int | None = None) -> FailureSummary:
        """Count all failed items, and read the first of them. One request for each chunk that is read.

        Args:
            job: The job.
            setup_id: Setup id of the chunks.
            landed: The chunks that have a result.
            failed: Number of items that are missing from the values of the join; None for all in `landed`. The numbers
                differ if a good result came after its group was combined without it.
        """
        listed: list[FailedItem] = []
        first: Failure | None = None
        for chunk, count in landed.failed.items():
            if len(listed) >= LISTED_FAILURES:
                break
            try:
                result = job.ledger.result(setup_id, chunk, count)
            except CorruptObject:
                # It counts all the same. A join that reads the chunk will raise.
                continue
            if result is None:
                continue
            failures = result.failed_items
            if first is None:
                first = result.failed or Failure(
                    "process", failures[0].error, failures[0].reason, result.traceback_text, chunk, failures[0].item
                )
            listed += failures
        return cls(landed.failed_count if failed is None else failed, listed[:LISTED_FAILURES], first)

    def to_failure(self, job: CachedJob, items: int | None) -> Failure:
        """Return the failure of a job of which too many items failed.

        Args:
            job: The job.
            items: Number of items of the job; None if it is not known yet.
        """
        policy = job.options.policy
        allowed = policy.max_failed(items)
        if allowed is not None and allowed < 0:
            reason = f"there are {items:,} items, fewer than must succeed ({policy})"
        else:
            of_all = f" of {items:,}" if items is not None else ""
            limit = f"at most {allowed:,} may" if allowed is not None else "too many"
            reason = f"{self.failed:,}{of_all} items failed, {limit} ({policy})"
        if self.listed:
            reason += ": " + "; ".join(map(str, self.listed[:NAMED_FAILURES]))
        if len(self.listed) > NAMED_FAILURES:
            reason += "; …"
        return Failure("process", "TooManyFailed", reason, self.first.traceback_text if self.first else "")


def too_many_failed(job: CachedJob, landed: Landed, items: int | None) -> bool:
    """Return whether more items failed than the job tolerates. No request.

    Args:
        job: The job.
        landed: The chunks, or nodes, that have a result.
        items: Number of items of the job; None if it is not known yet.
    """
    allowed = job.options.policy.max_failed(items)
    return allowed is not None and landed.failed_count > allowed
