"""Write-once puts that tell a repeated write from a second writer."""

from __future__ import annotations

from .errors import ObjectExists, ObjectNotFound, StorageUnavailable
from .object_store import Body, Content, ObjectStore

_ATTEMPTS = 4


def put_once(store: ObjectStore, key: str, body: Body) -> Content | None:
    """Put an object unless one exists, and return another writer's bytes if there are any.

    Idempotent. A client that lost the answer to its own successful put sends it again and is told that an object
    exists. Therefore the existing object is read and compared. One request where the key is free, two where it is
    taken.

    Args:
        store: Where to write.
        key: The key to write, once and for all.
        body: The bytes to write. Equal values must give equal bytes for a repetition to be recognised.

    Returns:
        None if the object holds `body`, written by this call or by an earlier one. Otherwise the bytes of the existing
        object.

    Raises:
        ConditionalWriteUnsupported: The store does not support write-once puts.
        StorageUnavailable: The store does not answer, or other processes keep deleting the object.
    """
    for _ in range(_ATTEMPTS):
        try:
            store.put(key, body, if_absent=True)
        except ObjectExists:
            try:
                existing = store.get(key)
            except ObjectNotFound:
                continue
            return None if existing == body else existing
        return None
    raise StorageUnavailable(
        f"the object at {key!r} in {store.url} existed and vanished {_ATTEMPTS} times",
        key=key,
        remedy="Another process deletes objects while they are being written: stop it and try again.",
    )
