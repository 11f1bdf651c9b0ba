"""An encrypted store holds nothing in the clear, and returns nothing but what was written under that key."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import (
    CorruptObject,
    EncryptedStore,
    Keyring,
    MemoryStore,
    NotEncrypted,
    StorageError,
    StorageUnavailable,
    UnknownKey,
    decode,
    put_once,
)
from storage.sealing import CONTENT_BYTES, SEGMENT_BYTES

OLD, NEW = os.urandom(32), os.urandom(32)
SIZES = [0, 1, CONTENT_BYTES - 1, CONTENT_BYTES, CONTENT_BYTES + 1, 2 * CONTENT_BYTES, 2 * CONTENT_BYTES + 7]


def sealed(inner: MemoryStore, *, required: bool = True, **keys: bytes) -> EncryptedStore:
    """Return an encrypted store over another one."""
    return EncryptedStore(inner, Keyring(keys or {"new": NEW}), required=required)


def blocks(body: bytes) -> list[bytes]:
    """Return a body in blocks of the cipher."""
    return [body[start : start + 16] for start in range(0, len(body) - 15, 16)]


@settings(max_examples=60)
@given(st.sampled_from(SIZES), st.sampled_from([*SIZES, 5]), st.sampled_from([*SIZES, 5, None]))
def test_every_range_is_that_of_the_body(size: int, offset: int, length: int | None) -> None:
    """The borders of segments show in no range."""
    store = sealed(MemoryStore())
    body = os.urandom(size)
    store.put("a/key", body)
    assert store.get("a/key", offset=offset, length=length) == body[offset:][:length]


def test_nothing_of_a_body_is_stored_in_the_clear() -> None:
    """Two writes of one body have nothing in common but their header, before its salt."""
    inner = MemoryStore()
    store = sealed(inner)
    stored = []
    for key in ("a", "b"):
        store.put(key, b"a secret" * 5_000)
        stored.append(bytes(inner.get(key)))
    assert b"a secret" not in stored[0]
    assert stored[0][:22] == stored[1][:22]
    assert not set(blocks(stored[0][22:])) & set(blocks(stored[1][22:]))


@settings(max_examples=60)
@given(st.sampled_from([3, CONTENT_BYTES, CONTENT_BYTES + 1]), st.integers(0, 2**31), st.integers(1, 255))
def test_one_changed_byte_is_found(size: int, place: int, change: int) -> None:
    """Whichever byte of a stored object changes, the object is refused with its key."""
    inner = MemoryStore()
    store = sealed(inner)
    store.put("a/key", bytes(size))
    stored = bytearray(inner.get("a/key"))
    stored[place % len(stored)] ^= change
    inner.put("a/key", stored)
    with pytest.raises((CorruptObject, UnknownKey, NotEncrypted)) as caught:
        store.get("a/key")
    assert caught.value.key == "a/key"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda one, other: one[:SEGMENT_BYTES], id="cut at a segment"),
        pytest.param(lambda one, other: one[: SEGMENT_BYTES + 20], id="cut in a segment"),
        pytest.param(lambda one, other: one[SEGMENT_BYTES:], id="without the first segment"),
        pytest.param(lambda one, other: one[:SEGMENT_BYTES] + other[SEGMENT_BYTES:], id="mixed from two"),
        pytest.param(lambda one, other: one[:SEGMENT_BYTES] * 2 + one[2 * SEGMENT_BYTES :], id="a segment twice"),
        pytest.param(lambda one, other: one + one[-100:], id="longer"),
        pytest.param(lambda one, other: other, id="from another key"),
    ],
)
def test_segments_can_be_neither_moved_nor_cut_nor_put_under_another_key(change) -> None:
    """Whoever can write to the store cannot make one object of others."""
    inner = MemoryStore()
    store = sealed(inner)
    for key in ("one", "other"):
        store.put(key, bytes(2 * CONTENT_BYTES + 1000))
    inner.put("one", change(bytes(inner.get("one")), bytes(inner.get("other"))))
    with pytest.raises(CorruptObject):
        store.get("one")


def test_keys_are_rotated() -> None:
    """The first key seals, all of them open; an object of a key that is gone is refused with key id and object key."""
    inner = MemoryStore()
    sealed(inner, old=OLD).put("a", b"text")
    both = sealed(inner, new=NEW, old=OLD)
    assert both.get("a") == b"text"
    both.put("b", b"text")
    assert sealed(inner, new=NEW).get("b") == b"text"
    with pytest.raises(UnknownKey, match=r"'old'.*encryption_keys") as caught:
        sealed(inner, new=NEW).get("a")
    assert (caught.value.key, caught.value.key_id) == ("a", "old")
    with pytest.raises(CorruptObject):
        sealed(inner, old=NEW).get("a")


def test_clear_objects_are_read_until_encryption_is_required() -> None:
    """Any range of an object of the time before is read, and refused under `required`."""
    inner = MemoryStore()
    body = os.urandom(3 * CONTENT_BYTES)
    inner.put("a", body)
    for start, end in pairwise([0, 10, CONTENT_BYTES, 2 * CONTENT_BYTES + 5, 3 * CONTENT_BYTES]):
        assert sealed(inner, required=False).get("a", offset=start, length=end - start) == body[start:end]
        with pytest.raises(NotEncrypted, match="require_encryption"):
            sealed(inner).get("a", offset=start, length=end - start)


def test_a_reader_without_keys_says_what_it_lacks() -> None:
    """A sealed value is not called damaged."""
    inner = MemoryStore()
    sealed(inner).put("a", b"text")
    with pytest.raises(UnknownKey, match="no encryption_keys"):
        decode(inner.get("a"), key="a")


def test_a_write_once_put_knows_its_own_body() -> None:
    """Equal bodies have different sealed forms, and count as equal nevertheless."""
    store = sealed(MemoryStore())
    assert put_once(store, "a", b"one") is None
    assert put_once(store, "a", b"one") is None
    assert put_once(store, "a", b"two") == b"one"


def test_a_function_of_keys_is_asked_once_for_each() -> None:
    """A key service is no request for each object, and its failure is one that may pass."""
    asked: list[str | None] = []

    def ask(key_id: str | None) -> tuple[str, bytes]:
        asked.append(key_id)
        if key_id == "down":
            raise OSError("no route")
        return {None: ("new", NEW), "old": ("old", OLD)}[key_id]

    inner = MemoryStore()
    sealed(inner, old=OLD).put("a", b"text")
    store = EncryptedStore(inner, Keyring(ask))
    for _ in range(3):
        store.put("b", b"text")
        assert store.get("a") == store.get("b") == b"text"
    assert asked == [None, "old"]
    for key_id, error in (("down", StorageUnavailable), ("unknown", UnknownKey)):
        with pytest.raises(error):
            Keyring(ask).find(key_id)


@pytest.mark.parametrize("keys", [{}, {"a b": OLD}, {"a": OLD[:31]}, {"a": "no base64!"}, {"a" * 17: OLD}, {"a": "é"}])
def test_a_key_of_another_form_is_refused(keys: dict[str, bytes]) -> None:
    """Ids have 1 to 16 characters and keys 32 bytes."""
    with pytest.raises(ValueError, match=r"key|id") as caught:
        Keyring(keys)
    assert "no base64!" not in str(caught.value)
    assert not isinstance(caught.value, StorageError)
