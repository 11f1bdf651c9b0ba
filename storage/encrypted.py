"""A store whose objects are sealed before they leave the process."""

from __future__ import annotations

from .errors import NotEncrypted
from .keyring import Keyring
from .object_store import Body, Content, ObjectStore
from .sealing import CONTENT_BYTES, SEGMENT_BYTES, is_sealed, open_segments, seal_body
from .wrapper import StoreWrapper


class EncryptedStore(StoreWrapper):
    """A store that seals each body with AES-256-GCM, and opens it when it is read; see `sealing`.

    Keys, sizes and dates of objects stay visible. `head` and `list` tell the stored sizes: 62 bytes more for each
    64 KiB. A range is read in whole segments of 64 KiB, in one request. Memory: a body twice, while it is written or
    read.

    Args:
        store: The store that does the work. Its URL is also this one's.
        keyring: The keys.
        required: Whether a clear object is refused. If not, it is read as it is, for objects of the time before; each
            range of it that does not begin at 0 then takes a second request.
    """

    def __init__(self, store: ObjectStore, keyring: Keyring, *, required: bool = False) -> None:
        super().__init__(store)
        self._keyring = keyring
        self._required = required

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        self._store.put(key, seal_body(body, name=key, keyring=self._keyring), if_absent=if_absent)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Content:
        """Read an object or a range of it, as `ObjectStore.get` does.

        Raises:
            CorruptObject: What was read is not what was written under this key.
            NotEncrypted: The object is not sealed, and must be.
            UnknownKey: It is sealed with another key than these.
        """
        if length == 0 or offset < 0 or (length or 0) < 0:
            return self._store.get(key, offset=offset, length=length)
        first = offset // CONTENT_BYTES
        count = None if length is None else (offset + length - 1) // CONTENT_BYTES - first + 1
        wanted = None if count is None else count * SEGMENT_BYTES
        stored = self._store.get(key, offset=first * SEGMENT_BYTES, length=wanted)
        if is_sealed(stored):
            is_whole = wanted is None or len(stored) < wanted
            content = open_segments(stored, first=first, is_whole=is_whole, name=key, keyring=self._keyring)
            start = offset - first * CONTENT_BYTES
            return content[start:] if length is None else content[start : start + length]
        if self._required:
            if first and not stored:
                return b""
            raise NotEncrypted(f"the object at {key!r} in {self.url} is not encrypted", key=key)
        if not first:
            return stored[offset:] if length is None else stored[offset : offset + length]
        # The range of a clear object begins elsewhere, and so does none beyond the end of a sealed one.
        return b"" if self._is_sealed(key) else self._store.get(key, offset=offset, length=length)

    def _is_sealed(self, key: str) -> bool:
        return is_sealed(self._store.get(key, length=SEGMENT_BYTES))
