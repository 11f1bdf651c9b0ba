"""Credentials taken out of text that is stored, logged or shown.

A credential is known by its form, such as a password in a URL, or by its value: the values of environment variables
with telling names, and those that settings gave to `remember`. Text of a user's error may hold any of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

MASK: Final = "***"

SHORTEST: Final = 8
"""Characters from which a value is taken for a credential: a shorter one would be a part of innocent words."""

_FORMS: Final = (
    re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"),
    re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    re.compile(r"(?i)(?<=secret_access_key)(\W+)[A-Za-z0-9/+=]{16,}"),
    re.compile(r"(?i)(?<=X-Amz-Signature=)[0-9a-f]+"),
    re.compile(r"(?i)(?<=X-Amz-Security-Token=)[^\s&'\"]+"),
    re.compile(r"(?i)(?<=\bBearer )[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"(?i)(?<=[?&]sig=)[^\s&'\"]+"),
)
_TELLING: Final = re.compile(
    r"(?i)(SECRET|PASSWORD|PASSWD|TOKEN|CREDENTIAL|API_?KEY|(ACCOUNT|ENCRYPTION|PRIVATE|SIGNING)_KEY|CONNECTION_STRING)"
)
_INNOCENT: Final = re.compile(r"(?i)(_FILE|_PATH|_DIR|_URL|_URI|_ID)$")
_PASSWORD: Final = re.compile(r"://[^\s/@:]*:([^\s/@]+)@")
_VALUES: Final = re.compile(r':\s*"((?:[^"\\]|\\.)*)"')
_remembered: set[str] = set()


def redact(text: str) -> str:
    """Return `text` with every credential that is known by its form or its value replaced by `***`."""
    for form in _FORMS:
        text = form.sub(MASK, text)
    # A credential may be a part of a longer one.
    for secret in sorted({*_remembered, *_secrets_of(os.environ)}, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def remember(settings: object) -> None:
    """Redact from now on, in this process, the credentials of settings.

    Args:
        settings: A credential, a URL with a password, or a list or mapping of these. Of a mapping's texts only those
            with telling names count, such as `secret_access_key`.
    """
    _remembered.update(secret for secret in _secrets_in(settings) if len(secret) >= SHORTEST)


def _secrets_in(settings: object) -> Iterator[str]:
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            if not isinstance(value, str) or _is_telling(str(name)):
                yield from _secrets_in(value)
    elif isinstance(settings, list | tuple):
        for entry in settings:
            yield from _secrets_in(entry)
    elif isinstance(settings, str):
        yield from _PASSWORD.findall(settings) if "://" in settings else [settings]


def _secrets_of(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the credentials in environment variables: values of telling names, and passwords in URLs."""
    for name, value in environ.items():
        found: list[Any] = _PASSWORD.findall(value)
        if _is_telling(name):
            # A variable in JSON has several, such as signing keys, whose ids are no secret.
            found += _VALUES.findall(value) if value.startswith("{") else [value]
        yield from (secret for secret in found if len(secret) >= SHORTEST and not secret.isdecimal())


def _is_telling(name: str) -> bool:
    return _TELLING.search(name) is not None and _INNOCENT.search(name) is None
