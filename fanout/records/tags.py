"""Tags: names and values by which the caller of a job finds it again."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from ..errors import ConfigError

MAX_TAGS = 16
"""Most tags of a job. Each is an object of its own."""

MAX_NAME_BYTES = 64
MAX_VALUE_BYTES = 180
"""Longest name and value, percent-quoted. Together they make one segment of a key, which a file system limits."""


def check_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a job, by name.

    Raises:
        ConfigError: There are too many, or a name or a value is no text, empty or too long. Names the tag.
    """
    if not isinstance(tags, Mapping):
        raise ConfigError(f"tags must be a mapping of names to texts, not {type(tags).__name__}")
    if len(tags) > MAX_TAGS:
        raise ConfigError(f"a job has at most {MAX_TAGS} tags, not {len(tags)}")
    for name, value in tags.items():
        for what, text, limit in (("name", name, MAX_NAME_BYTES), ("value", value, MAX_VALUE_BYTES)):
            _check_text(text, limit, f"tag {name!r:.80}: its {what}")
    return dict(tags)


def quote_tag(name: str, value: str) -> str:
    """Return a tag as a segment of a key: `order=4711`, with all but letters, digits and `_.-~` percent-quoted."""
    return f"{quote(name, safe='')}={quote(value, safe='')}"


def _check_text(text: object, limit: int, what: str) -> None:
    if not isinstance(text, str):
        raise ConfigError(f"{what} must be text, not {type(text).__name__}: write it as a string")
    if not text:
        raise ConfigError(f"{what} is empty")
    try:
        size = len(quote(text, safe=""))
    except UnicodeEncodeError:
        raise ConfigError(f"{what} has a character that UTF-8 cannot encode") from None
    if size > limit:
        raise ConfigError(
            f"{what} has {size} bytes, and may have {limit}; a character beyond letters, digits and _.-~ counts three "
            "or more"
        )
