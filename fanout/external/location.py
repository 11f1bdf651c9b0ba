"""The location of an external object: in a bucket of S3, or in a file of this machine."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote

from ..config.checks import check_text
from ..errors import InvalidLocation

FILES: Final = ""
"""The bucket of a location that is a file of this machine."""

_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_SAFE: Final = "/~!$&'()+,;=:@"
_SHOWN_CHARACTERS: Final = 120


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """The location of one external object, or of all objects below a folder.

    Attributes:
        bucket: Name of the bucket; `FILES` for a file of this machine.
        key: The key in the bucket, or the absolute path of a file without its first "/". It has no empty, "." or ".."
            segment, and no "/" at its end.

    Raises:
        InvalidLocation: S3 would allow no such name of a bucket.
    """

    bucket: str
    key: str

    def __post_init__(self) -> None:
        # A name with other characters could lead to another server.
        if self.bucket and not _BUCKET.fullmatch(self.bucket):
            flaw = f"{_shown(self.bucket)!r} is no bucket name that S3 would allow"
            raise InvalidLocation(_shown(f"s3://{self.bucket}"), flaw, "Write s3://bucket/key.")

    @property
    def url(self) -> str:
        """The URL, with characters that mean something else in a URL percent-encoded."""
        key = quote_key(self.key)
        return f"s3://{self.bucket}/{key}" if self.bucket else f"file:///{key}"

    @property
    def is_local(self) -> bool:
        """Whether it is a file of this machine."""
        return self.bucket == FILES

    def is_below(self, root: Location) -> bool:
        """Return whether this is the root itself or lies below it, by whole segments."""
        return self.bucket == root.bucket and (
            not root.key or self.key == root.key or self.key.startswith(f"{root.key}/")
        )

    def child(self, key: str) -> Location:
        """Return the location of another key in the same bucket.

        Raises:
            InvalidLocation: The key has a segment that could lead elsewhere.
        """
        return Location(self.bucket, _check_key(key, key))


def check_endpoint(endpoint: Any) -> str | None:
    """Return the name of an endpoint, or None.

    Raises:
        ConfigError: It is no name.
    """
    if endpoint is not None:
        check_text("endpoint", endpoint, example="the name of one of external_endpoints")
    name: str | None = endpoint
    return name


def parse_location(where: str | os.PathLike[str]) -> Location:
    """Return the location that a URL or a local path names.

    `s3://bucket/key` and `file:///path` are percent-decoded, as URLs are: write `%25` for a "%". A path without a
    scheme is taken as it is, from the working directory on.

    Raises:
        InvalidLocation: It has another scheme, a query, a fragment, credentials, or a segment that is empty, "." or
            "..", encoded or not. The message repeats no credentials.
    """
    text = os.fspath(where) if isinstance(where, os.PathLike) else where
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidLocation(_shown(text), "it must be a URL or a path, as text", "Write s3://bucket/key or a path.")
    scheme = _SCHEME.match(text)
    if scheme is None:
        # A working directory has no such segments itself.
        if ".." in text.split("/"):
            raise InvalidLocation(_shown(text), "it has the segment '..'", "Write the path without it.")
        return Location(FILES, _check_key(os.path.abspath(text).strip("/"), text))
    if scheme[1].lower() not in ("s3", "file") or not text[scheme.end() :].startswith("//"):
        remedy = "Known are s3://bucket/key, file:///path, and paths."
        raise InvalidLocation(f"{scheme[1]}:…", f"{scheme[1]!r} is no scheme that fanout reads or writes", remedy)
    host, _, path = text[scheme.end() + 2 :].partition("/")
    if "@" in host:
        raise InvalidLocation(
            f"{scheme[1]}://…@…", "it has something in front of an '@'", "Credentials never travel in a URL."
        )
    for mark, name in (("?", "query"), ("#", "fragment")):
        if mark in text:
            remedy = f"Write '{mark}' as %{ord(mark):X} if it belongs to the key."
            raise InvalidLocation(_shown(text.partition(mark)[0]) + f"{mark}…", f"it has a {name}", remedy)
    if scheme[1].lower() == "file":
        if host not in ("", "localhost"):
            raise InvalidLocation(_shown(text), f"it names the host {host!r}", "Write file:///absolute/path.")
        return Location(FILES, _check_key(unquote(path).rstrip("/"), text))
    if not host:
        raise InvalidLocation(_shown(text), "it names no bucket", "Write s3://bucket/key.")
    return Location(host, _check_key(unquote(path).rstrip("/"), text))


def quote_key(key: str) -> str:
    """Return a key as it is written in a URL. A "*" is quoted, too: in the URL of a source it is a pattern."""
    return quote(key, safe=_SAFE)


def _check_key(key: str, text: str) -> str:
    for segment in key.split("/") if key else ():
        if segment in ("", ".", "..") or "\0" in segment:
            flaw = f"it has the segment {segment!r}" if segment else "it has an empty segment ('//')"
            raise InvalidLocation(_shown(text), flaw, "Write the key or path without it.")
    return key


def _shown(text: object) -> str:
    return str(text)[:_SHOWN_CHARACTERS]
