"""Rules for keys and ranges that all stores share."""

from __future__ import annotations

import re
from urllib.parse import unquote

from .errors import InvalidKey, InvalidStoreUrl

# S3 allows 1,024 bytes. The rest is left for the prefix in a store's URL.
MAX_KEY_BYTES = 900
MAX_PREFIX_BYTES = 1024 - MAX_KEY_BYTES

# An XML listing cannot carry control characters, C1 included.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_NOT_IN_XML = re.compile("[\ufffe\uffff]")


def check_key(key: str) -> str:
    """Return the key unchanged if every store can hold it.

    Raises:
        InvalidKey: It is empty, longer than 900 bytes of UTF-8, starts or ends with '/', has an empty, '.' or '..'
            segment, a control character, or a character that UTF-8 cannot encode.
    """
    if not isinstance(key, str):
        raise InvalidKey(f"a key must be a str, not {type(key).__name__}")
    flaw = _flaw(key)
    if flaw:
        raise InvalidKey(f"the key {key[:200]!a} {flaw}", key=key)
    return key


def read_prefix(path: str, *, scheme: str) -> str:
    """Return the prefix of keys that the path of a store's URL means: "" or segments that end in "/".

    Raises:
        InvalidStoreUrl: The path cannot be part of a key.
    """
    prefix = unquote(path).strip("/")
    if not prefix:
        return ""
    try:
        check_key(prefix)
    except InvalidKey as flaw:
        raise InvalidStoreUrl(
            f"the {scheme}:// URL has a prefix that cannot be part of a key", remedy=str(flaw)
        ) from flaw
    prefix += "/"
    if len(prefix.encode()) > MAX_PREFIX_BYTES:
        raise InvalidStoreUrl(
            f"the {scheme}:// URL has a prefix of more than {MAX_PREFIX_BYTES - 1} bytes",
            remedy="Shorten it: keys have 1,024 bytes at most, and the keys below it need 900.",
        )
    return prefix


def check_range(offset: int, length: int | None) -> None:
    """Refuse a range that no object can have.

    Raises:
        ValueError: `offset` or `length` is negative.
    """
    if offset < 0 or (length is not None and length < 0):
        raise ValueError(f"a range needs offset >= 0 and length >= 0, not offset={offset}, length={length}")


def _flaw(key: str) -> str | None:
    if not key:
        return "is empty"
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "has a character that UTF-8 cannot encode"
    if size > MAX_KEY_BYTES:
        return f"has {size} bytes"
    if _CONTROL.search(key):
        return "has a control character"
    if _NOT_IN_XML.search(key):
        return "has a character that an XML listing cannot carry"
    for segment in key.split("/"):
        if segment in ("", ".", ".."):
            return f"has the segment {segment!r}"
    return None
