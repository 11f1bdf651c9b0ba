"""Indexes of jobs: empty objects whose keys say which jobs are open, which have ended when, and which have a tag.

    _open/<job_id>/<launch_id>/<generation>        from before the launch or retry until its outcome was delivered
    _ended/<yyyymmddThhmmss>/<job_id>/<launch_id>    from the delivery on, in UTC, so that the keys sort by time
    _tags/<name>=<value>/<job_id>/<launch_id>      from before the launch until the removal of the job
    _sweeps/all                                    written when a sweep of all jobs begins

An entry is a hint. The records of the job decide, and a reader of an entry looks there. So an entry may be too many or
missing: a sweep removes the former, and a sweep of all jobs writes the latter. An entry has the same bytes whoever
writes it. The launch and the generation are in its key, so the late delete of one does not touch the entry of another.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import ClassVar

from storage import ObjectInfo, ObjectNotFound, ObjectStore, StorageError

from ..background.at_once import run_at_once
from . import keys
from .ids import is_id
from .record import Record
from .tags import quote_tag

_LOG = logging.getLogger(__name__)

OPEN_PREFIX = "_open/"
ENDED_PREFIX = "_ended/"
TAGS_PREFIX = "_tags/"
ALL_SWEPT_KEY = "_sweeps/all"

_FORM = re.compile(
    r"(?:_open/(?P<open_job>[^/]+)/(?P<open_launch>[^/]+)/(?P<generation>\d{1,6})"
    r"|(?:_ended/\d{8}T\d{6}|_tags/[^/=]+=[^/=]+)/(?P<job>[^/]+)/(?P<launch>[^/]+))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark(Record):
    """The content of every entry: that fanout wrote it."""

    kind: ClassVar[str] = "entry"


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """An entry, as a listing shows it.

    Attributes:
        key: Its key.
        job_id: The job.
        launch_id: The launch.
        generation: The generation, of an open job; else 0.
        written_at: When it was last written, by the store's clock.
    """

    key: str
    job_id: str
    launch_id: str
    generation: int
    written_at: float

    @classmethod
    def read(cls, info: ObjectInfo) -> IndexEntry | None:
        """Return the entry that an object is; None if its key has another form."""
        form = _FORM.fullmatch(info.key)
        if form is None:
            return None
        job_id, launch_id = form["open_job"] or form["job"], form["open_launch"] or form["launch"]
        if not (is_id(job_id) and is_id(launch_id)):
            return None
        return cls(info.key, job_id, launch_id, int(form["generation"] or 0), info.modified.timestamp())


def open_key(job_id: str, launch_id: str, generation: int) -> str:
    """Return the key of the entry of an open job."""
    checked = keys.JobKeys(job_id, launch_id, generation)
    return f"{OPEN_PREFIX}{checked.job_id}/{checked.launch_id}/{checked.generation}"


def ended_key(at: float, job_id: str, launch_id: str) -> str:
    """Return the key of the entry of a job that ended at a time, to the second."""
    checked = keys.JobKeys(job_id, launch_id)
    return f"{ENDED_PREFIX}{_to_second(at)}/{checked.job_id}/{checked.launch_id}"


def launch_entries(job_id: str, launch_id: str, tags: Mapping[str, str]) -> list[str]:
    """Return the keys of the entries that a launch has from its beginning."""
    checked = keys.JobKeys(job_id, launch_id)
    tagged = [f"{TAGS_PREFIX}{quote_tag(*tag)}/{checked.job_id}/{checked.launch_id}" for tag in tags.items()]
    return [*tagged, open_key(job_id, launch_id, 0)]


def write_entries(store: ObjectStore, entries: Iterable[str]) -> None:
    """Write entries at once. One request each. Overwrites."""
    body = _Mark().to_bytes()
    run_at_once(*(partial(store.put, key, body) for key in entries))


def write_hint(store: ObjectStore, key: str) -> None:
    """Write an entry whose loss a sweep repairs. A store that does not take it is logged. One request."""
    _try(partial(write_entries, store, [key]), key)


def delete_hints(store: ObjectStore, entries: list[str]) -> None:
    """Delete entries that a sweep would delete as well. A store that does not do it is logged. One request."""
    _try(partial(store.delete, entries), entries[0])


def open_entries(store: ObjectStore) -> Iterator[IndexEntry]:
    """List the entries of open jobs, in the order of their ids. One request per 1,000."""
    return _read(store.list(OPEN_PREFIX))


def ended_entries(store: ObjectStore, *, before: float) -> Iterator[IndexEntry]:
    """List the entries of jobs that ended before a time, the first to end first. One request, and one per 1,000.

    Args:
        store: The store.
        before: The time, in seconds since the epoch. Entries of its second are left out.
    """
    end = f"{ENDED_PREFIX}{_to_second(before)}"
    for info in store.list(ENDED_PREFIX):
        if info.key >= end:
            return
        yield from _read([info])


def tagged_entries(store: ObjectStore, name: str, value: str) -> Iterator[IndexEntry]:
    """List the entries of the jobs with a tag, in the order of their ids. One request per 1,000."""
    return _read(store.list(f"{TAGS_PREFIX}{quote_tag(name, value)}/"))


def tag_entries(store: ObjectStore) -> Iterator[IndexEntry]:
    """List the entries of all tags. One request per 1,000."""
    return _read(store.list(TAGS_PREFIX))


def all_swept_at(store: ObjectStore) -> float:
    """Return when the last sweep of all jobs began, by the store's clock; 0 for never. One request."""
    try:
        return store.head(ALL_SWEPT_KEY).modified.timestamp()
    except ObjectNotFound:
        return 0.0


def _read(listing: Iterable[ObjectInfo]) -> Iterator[IndexEntry]:
    return (entry for info in listing if (entry := IndexEntry.read(info)) is not None)


def _to_second(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%M%S}"


def _try(action: Callable[[], object], key: str) -> None:
    try:
        action()
    except StorageError as error:
        _LOG.warning("the index of jobs could not be changed at %s, which a sweep repairs: %s", key, error)
