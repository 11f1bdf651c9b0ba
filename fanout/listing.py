"""The jobs of a store, as the indexes list them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce
from typing import Any

from .config.checks import check_flag
from .job import Job
from .records.index import IndexEntry, open_entries, tagged_entries
from .records.ledger import job_ids
from .records.tags import check_tags
from .runtime import Runtime


def list_open(runtime: Runtime) -> list[IndexEntry]:
    """Return an entry for each open job, the latest launch or retry first. One request per 1,000."""
    latest: dict[str, IndexEntry] = {}
    for entry in open_entries(runtime.store):
        known = latest.get(entry.job_id)
        if known is None or entry.written_at >= known.written_at:
            latest[entry.job_id] = entry
    return _sort(latest)


def list_tagged(runtime: Runtime, tags: Mapping[str, str]) -> list[IndexEntry]:
    """Return an entry for each job that has all of these tags, the latest launch first. One request per 1,000 a tag.

    Raises:
        ConfigError: A tag can't be one, or there is none.
    """
    found = [
        {(entry.job_id, entry.launch_id): entry for entry in tagged_entries(runtime.store, name, value)}
        for name, value in check_tags(tags).items()
    ]
    common = reduce(lambda both, other: {key: both[key] for key in both if key in other}, found) if found else {}
    return _sort({entry.job_id: entry for entry in common.values()})


def find_jobs(runtime: Runtime, *, tags: Mapping[str, str] | None = None, ended: bool = False) -> Iterator[Job[Any]]:
    """Return an iterator over jobs of the store; see `fanout.jobs`."""
    check_flag("ended", ended)
    if ended and not tags:
        return (Job(job_id, runtime) for job_id in job_ids(runtime.store))
    entries = list_tagged(runtime, tags) if tags else list_open(runtime)
    return (Job(entry.job_id, runtime, launch_id=entry.launch_id) for entry in entries)


def _sort(entries: Mapping[str, IndexEntry]) -> list[IndexEntry]:
    """Return entries, the last one written first."""
    return sorted(entries.values(), key=lambda entry: (-entry.written_at, entry.job_id))
