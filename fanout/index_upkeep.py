"""The repair of entries in the indexes of jobs, by what a sweep has read of the job."""

from __future__ import annotations

from collections.abc import Sequence

from . import removal
from .records.index import IndexEntry, ended_key, open_key, write_entries
from .records.ledger import Ledger
from .records.record_io import has_record
from .records.stored_job import StoredJob
from .runtime import Runtime

GRACE_S = 3600.0
"""Age from which an entry without its job is a leftover. A launch or retry writes its record right after the entry."""


def mend_open_entries(runtime: Runtime, stored: StoredJob, entries: Sequence[IndexEntry]) -> None:
    """Make the entries of an id among the open jobs fit its records. No request if they do.

    One request for each entry that is one too many, and one for all. Two requests for a missing one. Two for a job
    that was delivered and has an entry, because its worker died or was refused.

    Args:
        runtime: The store and its clock.
        stored: The job, read after its entries.
        entries: The entries of its id.
    """
    intent, latest = stored.intent, stored.listing.generation
    launch_id = intent.launch_id if intent is not None else None
    own = {entry.generation for entry in entries if entry.launch_id == launch_id}
    is_open = intent is not None and not stored.is_delivered
    oldest = runtime.now() - GRACE_S

    def is_wrong(entry: IndexEntry) -> bool:
        if entry.launch_id == launch_id and entry.generation <= latest:
            return not (is_open and entry.generation == latest)
        return entry.written_at < oldest

    if launch_id is not None and is_open and latest not in own:
        key = open_key(stored.job_id, launch_id, latest)
        # The job may be younger than the listing of the entries.
        if not has_record(runtime.store, key):
            write_entries(runtime.store, [key])
    if launch_id is not None and not is_open and latest in own:
        _write_ended_entry(runtime, stored, launch_id)
    wrong = [entry for entry in entries if is_wrong(entry)]
    if wrong:
        removal.remove_entries(runtime.store, wrong)


def renew_ended_entry(runtime: Runtime, stored: StoredJob) -> None:
    """Write the entry of a job that ended later than an old entry of it says. No request for an open job."""
    if stored.intent is not None and stored.is_delivered and stored.ended_at is not None:
        write_entries(runtime.store, [ended_key(stored.ended_at, stored.job_id, stored.intent.launch_id)])


def _write_ended_entry(runtime: Runtime, stored: StoredJob, launch_id: str) -> None:
    """Write the entry among the ended jobs that the worker which delivered the outcome may not have written."""
    delivery = Ledger(runtime.store, stored.job_id, launch_id, stored.listing.generation).delivery()
    if delivery is not None:
        write_entries(runtime.store, [ended_key(delivery.at, stored.job_id, launch_id)])
