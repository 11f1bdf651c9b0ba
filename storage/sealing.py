"""Sealed bodies: AES-256-GCM in segments, so that a range can be read. The only importer of cryptography.

A sealed object is a row of segments of 64 KiB, the last one shorter. Each has a header: magic (4 bytes), version (1),
flags (1), id of the key (16, filled up with zeros), salt (24). Content and tag of GCM (16) follow. The flag 1 says that
a segment is the last. All segments of an object have the same salt, which is drawn at random for each write.

The key of an object is HKDF-Expand (SHA-256) of the key with that id and of the salt, so no number of objects uses up a
key. The nonce of a segment is its number. GCM covers the header and the object's name, too: no segment can be moved,
cut off, or put under another name.
"""

from __future__ import annotations

import hmac
import os
import struct
from functools import cache
from typing import Any, Final

from .errors import CorruptObject, MissingPackage, UnknownKey
from .keyring import KEY_ID_BYTES, Keyring
from .object_store import Body, Content

SEALED: Final = b"\x9fenc"
SEGMENT_BYTES: Final = 64 * 1024
_HEADER: Final = struct.Struct(f">4sBB{KEY_ID_BYTES}s24s")
_TAG_BYTES: Final = 16
OVERHEAD_BYTES: Final = _HEADER.size + _TAG_BYTES
"""Bytes that a segment has beside its content."""
CONTENT_BYTES: Final = SEGMENT_BYTES - OVERHEAD_BYTES

_VERSION: Final = 1
_LAST: Final = 1
_SALT_BYTES: Final = 24
_INFO: Final = b"fanout sealed object\0"


def is_sealed(body: Content) -> bool:
    """Return whether a stored body, or a range of it from the start of a segment, is sealed."""
    return bytes(body[: len(SEALED)]) == SEALED


def seal_body(body: Body, *, name: str, keyring: Keyring) -> bytearray:
    """Return the sealed form of a body. Holds both.

    Args:
        body: The body.
        name: The object's key in its store.
        keyring: The keys; the first one seals.

    Raises:
        MissingPackage: cryptography is not installed.
        StorageUnavailable: The function of keys failed.
    """
    key_id, key = keyring.sealing()
    salt = os.urandom(_SALT_BYTES)
    cipher = _cipher(key, salt)
    content = memoryview(body).cast("B")
    segments = max(1, -(-len(content) // CONTENT_BYTES))
    sealed = bytearray(len(content) + segments * OVERHEAD_BYTES)
    with memoryview(sealed) as room:
        for number in range(segments):
            part = content[number * CONTENT_BYTES : (number + 1) * CONTENT_BYTES]
            flags = _LAST if number == segments - 1 else 0
            header = _HEADER.pack(SEALED, _VERSION, flags, key_id.encode(), salt)
            start = number * SEGMENT_BYTES
            room[start : start + _HEADER.size] = header
            place = room[start + _HEADER.size : start + OVERHEAD_BYTES + len(part)]
            cipher.encrypt_into(_nonce(number), part, header + name.encode(), place)
    return sealed


def open_segments(stored: Content, *, first: int, is_whole: bool, name: str, keyring: Keyring) -> Content:
    """Return the content of consecutive segments of an object. Holds both forms.

    Args:
        stored: The segments. The last one may be the object's last.
        first: Number of the first one in the object.
        is_whole: Whether the object ends with them.
        name: The object's key in its store.
        keyring: The keys.

    Raises:
        CorruptObject: They were altered, cut off, or belong to another object.
        MissingPackage: cryptography is not installed.
        StorageUnavailable: The function of keys failed.
        UnknownKey: They were sealed with a key that the keyring does not have.
    """
    whole = memoryview(stored).cast("B")
    segments = max(1, -(-len(whole) // SEGMENT_BYTES))
    if len(whole) - (segments - 1) * SEGMENT_BYTES < OVERHEAD_BYTES:
        raise CorruptObject(f"the sealed object at {name!r} is cut short", key=name)
    _, version, flags, padded_id, salt = _HEADER.unpack_from(whole)
    if version != _VERSION or flags & ~_LAST:
        raise CorruptObject(f"the object at {name!r} is sealed in version {version}: upgrade fanout", key=name)
    cipher = _cipher(_find(keyring, padded_id.rstrip(b"\0").decode("ascii", "replace"), name), salt)
    content = bytearray(len(whole) - segments * OVERHEAD_BYTES)
    with memoryview(content) as room:
        for number in range(segments):
            segment = whole[number * SEGMENT_BYTES : (number + 1) * SEGMENT_BYTES]
            is_last = is_whole and number == segments - 1
            header = bytes(segment[: _HEADER.size])
            # What cannot be the last segment must not say so. Only a full one may or may not be it.
            expected = {_LAST} if is_last else {0} if number < segments - 1 else {0, _LAST}
            flags = header[5:6]
            matches = header[:5] + header[6:] == bytes(whole[:5]) + bytes(whole[6 : _HEADER.size])
            if not matches or flags[0] not in expected:
                raise CorruptObject(f"the sealed object at {name!r} is cut short, or mixed from several", key=name)
            start = number * CONTENT_BYTES
            place = room[start : start + len(segment) - OVERHEAD_BYTES]
            _open(cipher, first + number, segment[_HEADER.size :], header, place, name)
    return memoryview(content).toreadonly()


def _open(cipher: Any, number: int, segment: memoryview, header: bytes, place: memoryview, name: str) -> None:
    try:
        cipher.decrypt_into(_nonce(number), segment, header + name.encode(), place)
    except _invalid_tag() as error:
        raise CorruptObject(
            f"the sealed object at {name!r} is not what was written there",
            key=name,
            remedy="It was altered, copied from another key, or sealed with another key of the same id.",
        ) from error


def _find(keyring: Keyring, key_id: str, name: str) -> bytes:
    try:
        return keyring.find(key_id)
    except UnknownKey as error:
        raise UnknownKey(
            f"the object at {name!r} is sealed with the key {key_id!r}, which is not among encryption_keys",
            key_id=key_id,
            key=name,
        ) from error


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _cipher(key: bytes, salt: bytes) -> Any:
    # HKDF-Expand of RFC 5869, whose first block is all that a key of 32 bytes needs.
    return _load().AESGCM(hmac.digest(key, _INFO + salt + b"\x01", "sha256"))


@cache
def _load() -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers import aead
    except ImportError as error:
        raise MissingPackage(
            "objects are sealed with cryptography, which is not installed", extra="encryption"
        ) from error
    return aead


@cache
def _invalid_tag() -> type[Exception]:
    from cryptography.exceptions import InvalidTag

    return InvalidTag
