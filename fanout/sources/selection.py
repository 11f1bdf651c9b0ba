"""The objects that a source names: one, a folder, a pattern, a list, or the entries of a manifest."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import unquote

from storage import Bucket, BucketNotFound, ObjectNotFound, TaggedObject

from ..background.ahead import call_ahead
from ..errors import SourceMissing
from ..external.access import Access
from ..external.location import Location, parse_location, quote_key
from ..external.reading import look_up

_LOOKUPS: Final = 16
"""Objects of a list that are looked up at a time."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9.-]")

Found = tuple[Location, TaggedObject]
"""An object, with its size and entity tag."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """All objects below a folder whose keys match.

    Attributes:
        folder: The folder.
        regex: Matches whole keys; None for every key.
        start: The beginning of every key that matches.
    """

    folder: Location
    regex: re.Pattern[str] | None
    start: str = ""


def normalise(where: str | os.PathLike[str]) -> str:
    """Return the URL of an object, of a folder (with a "/" at its end) or of a pattern, from a URL or a local path.

    Raises:
        InvalidLocation: It names no place for external objects.
    """
    text = where if not isinstance(where, os.PathLike) else os.fspath(where)
    if not isinstance(text, str) or "*" not in text:
        url = parse_location(text).url
        is_folder = isinstance(text, str) and text.endswith("/")
        return url if not is_folder or url.endswith("/") else f"{url}/"
    # A pattern is refused for the same reasons as a key.
    parse_location(text.replace("*", "_"))
    if "://" in text:
        return text
    return "file://" + "*".join(quote_key(piece) for piece in os.path.abspath(text).split("*"))


def parse_where(url: str) -> Location | Pattern:
    """Return the object or the pattern that a normalised URL names.

    Raises:
        InvalidLocation: It names neither.
    """
    location = parse_location(url.replace("*", "_"))
    if "*" not in url:
        return Pattern(location, None) if url.endswith("/") or not location.key else location
    path = url.partition("://")[2].partition("/")[2]
    start = unquote(path.partition("*")[0])
    folder = start.rpartition("/")[0]
    regex = "".join(
        {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}.get(piece) or re.escape(unquote(piece))
        for piece in re.split(r"(\*\*/|\*\*|\*)", path)
        if piece
    )
    return Pattern(Location(location.bucket, folder), re.compile(regex, re.DOTALL), start)


def select(urls: Iterable[str], access: Access, endpoint: str | None, *, skips_hidden: bool) -> Iterator[Found]:
    """Yield the objects of several URLs: those of one URL in the order of keys, and the URLs in their own order.

    One request per object that is named, several at a time; one per 1,000 objects of a folder or pattern. Holds a page.

    Args:
        urls: Normalised URLs.
        access: The access of this process.
        endpoint: Name of the endpoint.
        skips_hidden: Whether objects are left out whose name, or a folder of it, begins with "_" or ".".

    Raises:
        SourceMissing: An object does not exist, or nothing lies in a folder or matches a pattern.
        NotAllowed: A location lies below no root.
    """
    named: list[Location] = []
    for url in urls:
        where = parse_where(url)
        if isinstance(where, Location) and not (where.is_local and os.path.isdir(f"/{where.key}")):
            named.append(where)
            if len(named) == _LOOKUPS:
                yield from look_up_all(named, access, endpoint)
                named = []
            continue
        yield from look_up_all(named, access, endpoint)
        named = []
        pattern = where if isinstance(where, Pattern) else Pattern(where, None)
        yield from _list(url, pattern, access, endpoint, skips_hidden=skips_hidden)
    yield from look_up_all(named, access, endpoint)


def look_up_all(locations: Iterable[Location], access: Access, endpoint: str | None) -> Iterator[Found]:
    """Yield the objects at some locations, in order. One request each, several at a time.

    Raises:
        SourceMissing: One does not exist.
    """
    calls = (partial(_look_up, access.open(location, endpoint=endpoint), location) for location in locations)
    return call_ahead(calls, threads=_LOOKUPS, ahead=_LOOKUPS)


def _look_up(bucket: Bucket, location: Location) -> Found:
    return location, look_up(bucket, location)


def _list(url: str, pattern: Pattern, access: Access, endpoint: str | None, *, skips_hidden: bool) -> Iterator[Found]:
    folder, count = pattern.folder, 0
    bucket = access.open(folder, endpoint=endpoint)
    try:
        for page in bucket.list(folder.key, after=_before(pattern.start)):
            for entry in page:
                if not entry.key.startswith(pattern.start):
                    if entry.key > pattern.start:
                        break
                    continue
                if pattern.regex is not None and not pattern.regex.fullmatch(entry.key):
                    continue
                if skips_hidden and _is_hidden(entry.key.removeprefix(folder.key)):
                    continue
                count += 1
                yield folder.child(entry.key), entry
            else:
                continue
            break
    except (ObjectNotFound, BucketNotFound) as error:
        raise SourceMissing(url) from error
    if not count:
        raise SourceMissing(url)


def _is_hidden(path: str) -> bool:
    return any(segment.startswith(("_", ".")) for segment in path.split("/"))


def _before(start: str) -> str:
    """Return a key shortly before all that begin like this, so that a listing need not begin with the folder."""
    last = start[-1:]
    return start[:-1] + chr(ord(last) - 1) if _PLAIN.fullmatch(last) else ""
