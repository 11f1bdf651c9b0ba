"""What may be deleted from a store: nothing but what a record of ours, which was read, says is ours.

A bucket is shared with others. So nothing is deleted because a record is missing, because a name looks like one of
ours, or because it is old. A job goes by its intent. What late workers wrote of a launch that is gone has no intent any
more: there each object must itself be one of ours, by its place, its name and its first bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from storage import ObjectInfo, ObjectNotFound, ObjectStore, is_encoded

from .errors import JobNotFound
from .records.keys import PARAMETERS_PREFIX, JobKeys, is_digest, is_id, launch_of
from .records.ledger import job_ids, read_intent
from .records.models import Intent

_NAMES = re.compile(
    r"(?:continuation|manifest|value/[0-9a-f]{32}|(?:input|results|combined)/.+"
    r"|(?:generations/\d+/)?(?:start|outcome|delivered|(?:claims|resends|heartbeats|attempts|complete)/.+))"
)
"""The names of a launch's objects, without what all of its keys begin with; see `keys`."""

SHORTEST_BYTES = 32
"""What is read of an object to tell whether it is one of ours."""


def remove_job(store: ObjectStore, job_id: str, launch_id: str | None = None) -> int:
    """Delete everything of a job, its outcome last, so that a half-removed job never looks unfinished.

    One request for the intent, one for each 1,000 objects to list them, and as many to delete them, at least four.

    Args:
        store: The store.
        job_id: The job.
        launch_id: The launch that is meant; None for the one that counts now.

    Returns:
        The number of objects deleted; 0 if there is no such job, or its id has been used again.

    Raises:
        CorruptObject: The intent can't be read; nothing was deleted.
    """
    try:
        intent = read_intent(store, job_id)
    except JobNotFound:
        return 0
    if launch_id not in (None, intent.launch_id):
        return 0
    keys = JobKeys(job_id, intent.launch_id)
    last = {keys.intent, keys.outcome}
    doomed = [found.key for found in store.list(keys.prefix) if _is_named_as_ours(found.key)]
    # Without the starts of its later generations, it is a job that ended in its first.
    starts = [key for key in doomed if key.startswith(keys.generations) and key.endswith("/start")]
    store.delete(starts)
    store.delete([key for key in doomed if key not in last and key not in starts])
    store.delete([keys.intent])
    store.delete([keys.outcome])
    return len(doomed) + 1


def remove_leftovers(store: ObjectStore, found: Iterable[ObjectInfo]) -> int:
    """Delete what late workers wrote of a launch that is gone. One request for each object to look at it.

    Args:
        store: The store.
        found: Objects of launches that no intent names any more.

    Returns:
        The number of objects deleted. Those that are not ours stay.
    """
    doomed = [info.key for info in found if _is_named_as_ours(info.key) and _is_ours(store, info.key)]
    store.delete(doomed)
    return len(doomed)


def remove_old_parameters(store: ObjectStore, *, before: float) -> int:
    """Delete stored parameters that are old and that no job in the store refers to.

    One request for each 1,000 parameters. Only if some are old: one for each of them, and one or two for each job.

    Args:
        store: The store.
        before: Those last written before this time may go, in seconds since the epoch by the store's clock.

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


def _intents(store: ObjectStore) -> Iterator[Intent]:
    """The intents of all jobs in the store.

    Raises:
        CorruptObject: One can't be read, so nobody knows what it refers to.
    """
    for job_id in job_ids(store):
        try:
            yield read_intent(store, job_id)
        except JobNotFound:
            continue


def _is_named_as_ours(key: str) -> bool:
    launch_id, name = launch_of(key)
    return is_id(launch_id) and _NAMES.fullmatch(name) is not None


def _is_ours(store: ObjectStore, key: str) -> bool:
    """Whether an object begins as all that fanout writes does."""
    try:
        return is_encoded(store.get(key, length=SHORTEST_BYTES))
    except ObjectNotFound:
        return False
