"""Write once: the first writer wins, and a writer that repeats itself has not lost."""

from __future__ import annotations

from .errors import ObjectExists, ObjectNotFound, StorageUnavailable
from .object_store import Body, Content, ObjectStore

_ATTEMPTS = 4


def put_once(store: ObjectStore, key: str, body: Body) -> Content | None:
    """Put an object unless one stands there, and say whose bytes stand.

    Idempotent. A client that lost the answer to its own successful put sends it again and is told
    that an object exists; therefore what stands is read and compared before anyone is called second.
    One request where the key is free, two where it is taken.

    Args:
        store: Where to write.
        key: The key to write, once for all time.
        body: The bytes to write. Equal values must give equal bytes for a repetition to be seen.

    Returns:
        None when our bytes stand, written by this call or by an earlier one; otherwise the bytes
        that stand there already.

    Raises:
        ConditionalWriteUnsupported: The store cannot do write-once puts.
        StorageUnavailable: The store does not answer, or others keep deleting the object.
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
        remedy="Something deletes objects while they are being written: stop the clean-up and try again.",
    )
