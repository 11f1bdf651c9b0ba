"""Ids and digests, which are parts of keys and of messages."""

from __future__ import annotations

import re
import secrets
import uuid
from typing import TypeGuard

from ..errors import ConfigError

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"[0-9a-f]{32}")


def new_id() -> str:
    """Return a new job id. Ids never repeat."""
    return str(uuid.uuid4())


def new_token() -> str:
    """Return a short random id, of 64 bits, to tell apart runs and claims of one job."""
    return secrets.token_hex(8)


def is_id(text: object) -> TypeGuard[str]:
    """Return whether `text` can be part of a key as the id of a job, a launch or a run of setup."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None and ".." not in text


def check_id(text: object, *, what: str) -> str:
    """Return `text` if it is an id.

    Raises:
        ValueError: It is not; the message names `what`.
    """
    if not is_id(text):
        raise ValueError(
            f"{what} {text!r:.80} is not an id: letters, digits, '.', '_' and '-', "
            "at most 128, starting with a letter or digit"
        )
    return text


def check_job_id(text: object) -> str:
    """Return `text` if it is a job id that a caller may give.

    Raises:
        ConfigError: It is not.
    """
    try:
        return check_id(text, what="job id")
    except ValueError as error:
        raise ConfigError(str(error)) from None


def is_digest(text: object) -> TypeGuard[str]:
    """Return whether `text` can be the digest of a value."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def check_digest(text: object) -> str:
    """Return `text` if it is a digest.

    Raises:
        ValueError: It is not.
    """
    if not is_digest(text):
        raise ValueError(f"{text!r:.80} is not a digest of 32 hexadecimal digits")
    return text
