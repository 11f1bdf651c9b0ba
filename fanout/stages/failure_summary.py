"""Counts the items of a job that failed, and tells whether they are too many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from storage import CorruptObject

from ..records.failure import FailedItem, Failure
from ..records.models import LISTED_FAILURES
from ..runtime import CachedJob

NAMED_FAILURES = 3
"""Failed items that the error of a job names."""


@dataclass(frozen=True, slots=True)
class FailureSummary:
    """The failed items of a job.

    Attributes:
        failed: How many there are.
        listed: The first of them, at most `LISTED_FAILURES`, in item order.
        first: Why the first of them failed, with the worker's traceback; None if there are none.
    """

    failed: int
    listed: list[FailedItem]
    first: Failure | None

    @classmethod
    def of(
        cls, job: CachedJob, setup_id: str, landed: Mapping[int, int], *, failed: int | None = None
    ) -> FailureSummary:
        """Count them all, and read the results of as many chunks as it takes to list the first.

        Args:
            job: The job.
            setup_id: The setup attempt that counts.
            landed: Chunk -> how many of its items failed, as `Ledger.landed` gives it.
            failed: How many are missing from what join is given. A good result that came after others were combined
                without it does not change that.
        """
        listed: list[FailedItem] = []
        first: Failure | None = None
        bad = {chunk: failed for chunk, failed in sorted(landed.items()) if failed}
        for chunk, count in bad.items():
            if len(listed) >= LISTED_FAILURES:
                break
            try:
                result = job.ledger.result(setup_id, chunk, count)
            except CorruptObject:
                # Whoever wants its results will say so. It counts all the same.
                continue
            if result is None:
                continue
            failures = result.failed_items
            if first is None:
                first = result.failed or Failure(
                    "process", failures[0].error, failures[0].reason, result.traceback_text, chunk, failures[0].item
                )
            listed += failures
        return cls(sum(bad.values()) if failed is None else failed, listed[:LISTED_FAILURES], first)

    def excess(self, job: CachedJob, items: int | None) -> Failure:
        """The failure of a job of which too many items failed."""
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


def too_many(job: CachedJob, landed: Mapping[int, int], items: int | None) -> bool:
    """Whether more items failed than may, as far as is known. No request.

    Args:
        job: The job.
        landed: Chunk -> how many of its items failed.
        items: How many items the job has; None while nobody knows.
    """
    allowed = job.options.policy.max_failed(items)
    return allowed is not None and sum(landed.values()) > allowed
