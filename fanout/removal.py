"""Deletion of jobs, of leftovers and of old parameters.

A bucket may hold objects of others. Therefore no object is deleted only because a record is missing, because its key
looks like one of fanout's, or because it is old. A job is deleted by its intent. The leftovers of a removed launch,
which late workers wrote, have no intent. Each of them must have a prefix, a name and first bytes of fanout's.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Set

from storage import (
    CorruptObject,
    NotEncrypted,
    ObjectInfo,
    ObjectNotFound,
    ObjectStore,
    UnknownKey,
    is_encoded,
)

from .errors import JobNotFound
from .external.access import Access
from .records.ids import is_digest, is_id
from .records.index import IndexEntry, ended_key, launch_entries, open_key, tag_entries
from .records.keys import PARAMETERS_PREFIX, JobKeys, launch_of, split_generation
from .records.ledger import Ledger, job_ids, read_intent
from .records.models import Intent
from .sinks.discard import discard

_LOG = logging.getLogger(__name__)

_NAMES = re.compile(
    r"(?:continuation|manifest|value/[0-9a-f]{32}|(?:input|results|combined|sinks)/.+|generations/\d+/start"
    r"|(?:generations/\d+/)?(?:outcome|delivered|(?:claims|resends|heartbeats|attempts|complete)/.+))"
)
"""The names of a launch's objects, without the prefix of its keys; see `keys`."""

HEADER_BYTES = 32
"""Bytes that are read of an object, enough to tell whether fanout encoded it."""


def remove_job(store: ObjectStore, job_id: str, launch_id: str | None = None, *, access: Access | None = None) -> int:
    """Delete all objects of a job, its outcome last, so that a half-removed job never looks unfinished.

    Its entries in the indexes go with the outcome. One request for the intent, one for each delivery, one per 1,000
    objects to list them, and as many to delete them, at least four. With `access` also those of `discard_staged`.

    Args:
        store: The store.
        job_id: The job.
        launch_id: The launch to remove; None for the one that counts now.
        access: The access of this process, to remove what the job has staged in its sinks; None to leave it.

    Returns:
        The number of the job's objects deleted, without its entries in the indexes; 0 if there is no such job, or its
        id has been used again.

    Raises:
        CorruptObject: The intent can't be decoded. Nothing was deleted.
    """
    try:
        intent = read_intent(store, job_id)
    except JobNotFound:
        return 0
    if launch_id not in (None, intent.launch_id):
        return 0
    keys = JobKeys(job_id, intent.launch_id)
    last = {keys.intent, keys.outcome}
    doomed = [info.key for info in store.list(keys.prefix) if _is_named_like_ours(info.key)]
    if access is not None and any(key.startswith(keys.sinks) for key in doomed):
        discard_staged(Ledger(store, job_id, intent.launch_id), access)
    # Without the starts of its generations, the job is one that ended in generation 0.
    starts = [key for key in doomed if key.startswith(keys.generations) and key.endswith("/start")]
    entries = _find_entries(store, job_id, intent, doomed)
    store.delete(starts)
    store.delete([key for key in doomed if key not in last and key not in starts])
    store.delete([keys.intent])
    store.delete([keys.outcome, *entries])
    return len(doomed) + 1


def discard_staged(ledger: Ledger, access: Access) -> int:
    """Remove what a launch has staged in sinks, and not committed. Logs what it can't remove.

    One request per 1,000 sinks that its steps have begun to write to, one for each, and those of `discard`.

    Returns:
        The number of staged objects removed.
    """
    job_id, launch_id = ledger.job_id, ledger.launch_id
    try:
        sinks = [*ledger.sinks()]
    except CorruptObject as error:
        _LOG.warning("job %s is removed, and what it has staged in sinks may stay: %s", job_id, error)
        return 0
    return sum(discard(sink.url, sink.endpoint, access, job_id=job_id, launch_id=launch_id) for sink in sinks)


def remove_leftovers(store: ObjectStore, objects: Iterable[ObjectInfo]) -> int:
    """Delete what late workers wrote for removed launches. One request per object to check it.

    Args:
        store: The store.
        objects: Objects of launches that no intent names.

    Returns:
        The number of objects deleted. Objects of others stay.
    """
    doomed = [info.key for info in objects if _is_named_like_ours(info.key) and _is_ours(store, info.key)]
    store.delete(doomed)
    return len(doomed)


def remove_entries(store: ObjectStore, entries: Iterable[IndexEntry]) -> None:
    """Delete entries of indexes, unless another program wrote them. One request for each, and one for all."""
    doomed = [entry.key for entry in entries if _is_ours(store, entry.key)]
    store.delete(doomed)


def remove_old_tags(store: ObjectStore, *, launches: Set[str], before: float) -> None:
    """Delete old entries of tags whose launch has no intent. One request per 1,000 tags, and one per deleted one.

    Args:
        store: The store.
        launches: Ids of the launches that count.
        before: An entry is old if it was written before this time, by the store's clock.
    """
    entries = tag_entries(store)
    remove_entries(store, [entry for entry in entries if entry.written_at < before and entry.launch_id not in launches])


def remove_old_parameters(store: ObjectStore, *, before: float) -> int:
    """Delete stored parameters that are old and that no job in the store refers to.

    One request per 1,000 parameters. If some are old, also one per old parameter and one or two per job.

    Args:
        store: The store.
        before: A parameter is old if it was last written before this time, in seconds since the epoch by the store's
            clock.

    Returns:
        The number of objects deleted.
    """
    old = {
        digest: info.key
        for info in store.list(PARAMETERS_PREFIX)
        if is_digest(digest := info.key.removeprefix(PARAMETERS_PREFIX)) and info.modified.timestamp() < before
    }
    if not old:
        return 0
    for intent in _intents(store):
        for digest in intent.references.values():
            old.pop(digest, None)
    doomed = [key for key in old.values() if _is_ours(store, key)]
    store.delete(doomed)
    return len(doomed)


def _find_entries(store: ObjectStore, job_id: str, intent: Intent, objects: Iterable[str]) -> list[str]:
    """Return the keys of a job's entries in the indexes. One request for each delivery among its objects."""
    entries = launch_entries(job_id, intent.launch_id, intent.tags)
    for key in objects:
        generation, name = split_generation(launch_of(key)[1])
        if name == "start":
            entries.append(open_key(job_id, intent.launch_id, generation))
        elif name == "delivered":
            try:
                note = Ledger(store, job_id, intent.launch_id, generation).delivery()
            except CorruptObject:
                # A sweep removes the entry when it is old.
                continue
            if note is not None:
                entries.append(ended_key(note.at, job_id, intent.launch_id))
    return entries


def _intents(store: ObjectStore) -> Iterator[Intent]:
    """Yield the intents of all jobs in the store.

    Raises:
        CorruptObject: An intent can't be decoded, so its parameters are unknown.
    """
    for job_id in job_ids(store):
        try:
            yield read_intent(store, job_id)
        except JobNotFound:
            continue


def _is_named_like_ours(key: str) -> bool:
    """Return whether a key below `_jobs/` has the form of fanout's keys."""
    launch_id, name = launch_of(key)
    return is_id(launch_id) and _NAMES.fullmatch(name) is not None


def _is_ours(store: ObjectStore, key: str) -> bool:
    """Return whether an object begins with fanout's envelope. One ranged request."""
    try:
        return is_encoded(store.get(key, length=HEADER_BYTES))
    except (ObjectNotFound, CorruptObject, NotEncrypted, UnknownKey):
        return False
