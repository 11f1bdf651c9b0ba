"""The source: data in place, as a value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from storage import Bucket, ObjectNotFound, register_type

from ..config.checks import check_count
from ..external.access import Access
from ..external.context import current_access, find_access
from ..external.location import Location
from .cutting import Cut, Gatherer, cut_bytes, cut_row_groups
from .formats import Format, Parquet
from .manifests import Manifest
from .part import Part, format_from_plain, format_to_plain
from .pinned import PinnedRange
from .selection import Found, parse_where, select


@dataclass(frozen=True, slots=True)
class Source:
    """Data in place: objects of a bucket or files, and their format.

    A source is a value. It travels in messages, parameters and items like any other, holds no data and no credentials,
    and a schema calls it `{"type": "source"}`. Making one reads nothing. The functions of `fanout.sources` make it.

    Attributes:
        urls: URLs of objects, folders (with "/" at the end) and patterns.
        format: The format.
        endpoint: Name of the endpoint in `external_endpoints`; None for the one of the environment.
        manifest: The manifest that lists the objects instead of `urls`.
    """

    urls: tuple[str, ...]
    format: Format
    endpoint: str | None = None
    manifest: Manifest | None = None
    _access: Access | None = field(default=None, repr=False, compare=False)

    def parts(self, part_bytes: int | None = None) -> Iterator[Part]:
        """Yield the parts of the source, in the order of keys and offsets. Every record is in exactly one.

        Lists as it goes, and reads no data, except for the footers of Parquet objects that are larger than a part: one
        or two requests each. Objects are listed 1,000 a request, and those that are named one by one are looked up with
        one request each. Holds one page of the listing.

        Large objects are split, if their format allows it; compressed ones never are. Up to 64 small objects make one
        part. Empty ones are left out, except by `sources.objects`.

        Args:
            part_bytes: Largest size of a part in bytes, if its object can be split. The default is 16 MiB, and for
                `sources.objects` one object a part.

        Raises:
            SourceMissing: An object does not exist, or nothing matches.
            NotAllowed: This process may not read there.
            ConfigError: `part_bytes` is no whole number from 1.
        """
        if part_bytes is not None:
            check_count("part_bytes", part_bytes)
        return self._cut(self.format.part_bytes if part_bytes is None else part_bytes)

    def __iter__(self) -> Iterator[Any]:
        """Yield the records of all parts. For small sources, and for tests."""
        return chain.from_iterable(self.parts())

    def to_plain(self) -> list[Any]:
        """Return the source as plain values, without its access."""
        manifest = self.manifest
        rows = [manifest.url, manifest.column, manifest.bucket] if manifest is not None else None
        return [format_to_plain(self.format), list(self.urls), self.endpoint, rows]

    @classmethod
    def from_plain(cls, plain: list[Any]) -> Source:
        """Return the source that `to_plain` took apart, with the access of the step around this call.

        Raises:
            ValueError: It is none, or a URL names no place for external objects.
        """
        format_, urls, endpoint, rows = plain
        for url in urls:
            parse_where(url)
        manifest = Manifest(*rows) if rows is not None else None
        return cls(tuple(urls), format_from_plain(format_), endpoint, manifest, current_access())

    def __reduce__(self) -> tuple[Any, ...]:
        return Source.from_plain, (self.to_plain(),)

    def _cut(self, part_bytes: int | None) -> Iterator[Part]:
        access = find_access(self._access)
        gatherer = Gatherer(part_bytes)
        for location, one in self._select(access):
            bucket = access.open(location, endpoint=self.endpoint)
            if not one.size_bytes and (self.format.name != "objects" or not _exists(bucket, location, one.tag)):
                continue
            cuts = self._split(bucket, (location, one), part_bytes)
            if cuts is None:
                yield from (self._part(*cut, access) for cut in gatherer.add(location.bucket, one))
                continue
            yield from (self._part(*cut, access) for cut in gatherer.flush())
            yield from (self._part(location.bucket, cut, access) for cut in cuts)
        yield from (self._part(*cut, access) for cut in gatherer.flush())

    def _select(self, access: Access) -> Iterator[Found]:
        if self.manifest is not None:
            return self.manifest.select(access, self.endpoint)
        return select(self.urls, access, self.endpoint, skips_hidden=isinstance(self.format, Parquet))

    def _split(self, bucket: Bucket, found: Found, part_bytes: int | None) -> Iterator[Cut] | None:
        """Return the cuts of an object that is larger than a part, or None if it stays whole."""
        location, one = found
        if part_bytes is None or one.size_bytes <= part_bytes:
            return None
        if isinstance(self.format, Parquet):
            from .arrow_reading import row_group_bytes

            content = PinnedRange(bucket, location, one.size_bytes, one.tag, 0, 0)
            return cut_row_groups(one, row_group_bytes(content), part_bytes)
        return cut_bytes(one, part_bytes) if self.format.can_split(one.key) else None

    def _part(self, bucket: str, cut: Cut, access: Access) -> Part:
        return Part(self.format, bucket, cut.objects, cut.start, cut.end, cut.len_bytes, self.endpoint, access)


def _exists(bucket: Bucket, location: Location, tag: str) -> bool:
    """Return whether an empty object is one: a listing shows the mark of a folder, "name/", as an object "name"."""
    try:
        return bucket.head(location.key).tag == tag
    except ObjectNotFound:
        return False


register_type(Source, name="fanout.Source", encode=Source.to_plain, decode=Source.from_plain)
register_type(Part, name="fanout.Part", encode=Part.to_plain, decode=Part.from_plain)
