"""The keys with which objects are sealed, and their ids."""

from __future__ import annotations

import base64
import binascii
import re
import threading
import time
from collections.abc import Callable, Mapping

from .errors import StorageError, StorageUnavailable, UnknownKey

KeySource = Mapping[str, str | bytes] | Callable[[str | None], tuple[str, bytes]]
"""Keys by id, of which the first seals; or a function that returns the id and the bytes of the key with an id, or of
the key that seals now for None. It raises LookupError for an id that it does not know."""

KEY_BYTES = 32
KEY_ID_BYTES = 16
RENEW_S = 300.0
"""Seconds for which the answer of a function is used to seal, before it is asked for the key anew."""

_KEY_ID = re.compile(rf"[A-Za-z0-9._-]{{1,{KEY_ID_BYTES}}}")


class Keyring:
    """Keys of 256 bits by id. Safe for use from several threads.

    A function is asked for each key once in a process, and every five minutes for the key to seal with.

    Args:
        source: The keys, each as 32 bytes or as their base64.

    Raises:
        ValueError: There is no key, or an id or a key has another form. The message repeats no key.
    """

    def __init__(self, source: KeySource) -> None:
        self._ask = source if callable(source) else None
        self._keys = {} if callable(source) else {_check_id(name): _read_key(name, key) for name, key in source.items()}
        if not callable(source) and not self._keys:
            raise ValueError("there is no key")
        self._first = next(iter(self._keys), "")
        self._renew_at = 0.0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._keys)})"

    def sealing(self) -> tuple[str, bytes]:
        """Return id and bytes of the key that seals now.

        Raises:
            StorageUnavailable: The function of keys failed.
        """
        with self._lock:
            if self._ask is not None and time.monotonic() >= self._renew_at:
                self._first = self._fetch(self._ask, None)
                self._renew_at = time.monotonic() + RENEW_S
            return self._first, self._keys[self._first]

    def find(self, key_id: str) -> bytes:
        """Return the bytes of the key with that id.

        Raises:
            UnknownKey: There is none.
            StorageUnavailable: The function of keys failed.
        """
        with self._lock:
            if key_id not in self._keys and (self._ask is None or self._fetch(self._ask, key_id) != key_id):
                raise UnknownKey(f"there is no key {key_id!r} here", key_id=key_id)
            return self._keys[key_id]

    def _fetch(self, ask: Callable[[str | None], tuple[str, bytes]], key_id: str | None) -> str:
        try:
            found, key = ask(key_id)
            self._keys[_check_id(found)] = _read_key(found, key)
        except LookupError as error:
            raise UnknownKey(f"the function of keys has no key {key_id!r}", key_id=key_id or "") from error
        except (StorageError, TypeError, ValueError):
            raise
        except Exception as error:
            raise StorageUnavailable(f"the function of keys raised {type(error).__name__}: {error}") from error
        return found


def _check_id(name: object) -> str:
    if not isinstance(name, str) or _KEY_ID.fullmatch(name) is None:
        raise ValueError(f"{name!r:.40} is no id: use 1 to {KEY_ID_BYTES} letters, digits, '.', '_' and '-'")
    return name


def _read_key(name: str, key: object) -> bytes:
    if isinstance(key, str):
        try:
            key = base64.b64decode(key.rstrip("=") + "=" * (-len(key.rstrip("=")) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            key = None
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        raise ValueError(
            f"the key {name!r} must be {KEY_BYTES} bytes or their base64, as from "
            "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`"
        )
    return key
