"""The source part, which one item reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from storage import TaggedObject

from ..errors import ConfigError
from ..external.access import Access
from ..external.context import current_access, find_access
from ..external.location import Location
from .formats import FORMATS, Csv, Format, JsonLines, Parquet
from .pinned import PinnedRange, fetch_small


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a source: a range of one object, or several small objects, each pinned to its entity tag when listed.

    A part is a value of about 200 bytes, which travels in items like any other; each further small object adds about
    70. It holds no data, and no credentials. Iterating it reads its records in bounded memory, and may be repeated.

    Every read raises `SourceChanged` or `SourceMissing` if the object is not the one that was listed any more,
    `SourceDamaged` if it can't be read, and `NotAllowed` if this process may not read there.

    Attributes:
        format: The format.
        bucket: The bucket; "" for files of this machine.
        objects: The objects, by key.
        start: First byte of the range, or first row group of Parquet.
        end: End of the range, exclusive; 0 if the part holds whole objects.
        len_bytes: Bytes of the part, as they lie in the bucket.
        endpoint: Name of the endpoint; None for the one of the environment.
    """

    format: Format
    bucket: str
    objects: tuple[TaggedObject, ...]
    start: int
    end: int
    len_bytes: int
    endpoint: str | None = None
    _access: Access | None = field(default=None, repr=False, compare=False)

    @property
    def location(self) -> str:
        """URL of the part's first object."""
        return Location(self.bucket, self.objects[0].key).url

    @property
    def locations(self) -> list[str]:
        """URLs of the part's objects."""
        return [Location(self.bucket, one.key).url for one in self.objects]

    def __iter__(self) -> Iterator[Any]:
        """Yield the records that begin in the part, in order.

        One request per object and per 4 MiB, small objects eight at a time. Holds two blocks of 4 MiB, or eight objects
        of up to 1 MiB.
        """
        # A chain hands records on without a frame for each.
        return chain.from_iterable(self.format.records(content) for content in self._contents())

    def read(self) -> bytes:
        """Return the bytes of the part's records. Those of all parts of an object, in order, are its content.

        Raises:
            TypeError: The part holds Parquet.
        """
        return b"".join(block for content in self._contents() for block in self.format.blocks(content))

    def batches(self) -> Iterator[Any]:
        """Yield the rows of a part of Parquet as record batches of Arrow, in bounded memory.

        Raises:
            TypeError: The part holds no Parquet.
        """
        if not isinstance(self.format, Parquet):
            raise TypeError(f"sources.{self.format.name}: only parts of Parquet have batches; iterate the part")
        for content in self._contents():
            yield from self.format.batches(content)

    def arrow(self) -> Any:
        """Return the part's rows as a table of Arrow.

        Columns of CSV and JSON lines get types from the values of this part, unless `types` names them.

        Raises:
            TypeError: The format has no columns.
            MissingPackage: pyarrow is not installed.
        """
        if not self.format.is_tabular:
            raise TypeError(f"sources.{self.format.name}: a part is no table; iterate it, or call read()")
        from . import arrow_reading

        tables = []
        for content in self._contents():
            if isinstance(self.format, Parquet):
                tables.append(arrow_reading.scan_table(content, self.format.columns, self.format.filters))
            elif isinstance(self.format, Csv):
                tables.append(arrow_reading.read_csv(content, self.format))
            elif isinstance(self.format, JsonLines):
                tables.append(arrow_reading.read_json(content, self.format))
        return arrow_reading.concatenate(tables)

    def pandas(self) -> Any:
        """Return the part's rows as a frame of pandas; see `arrow`."""
        return self.arrow().to_pandas()

    def to_plain(self) -> list[Any]:
        """Return the part as plain values, without its access."""
        keys = [one.key for one in self.objects]
        # By characters, since it only saves bytes.
        prefix = os.path.commonprefix(keys)  # noqa: RUF071
        rows = [[one.key[len(prefix) :], one.size_bytes, one.tag] for one in self.objects]
        where = [self.bucket, prefix, rows, self.start, self.end, self.len_bytes]
        return [format_to_plain(self.format), *where, *([self.endpoint] if self.endpoint is not None else [])]

    @classmethod
    def from_plain(cls, plain: list[Any]) -> Part:
        """Return the part that `to_plain` took apart, with the access of the step around this call.

        Raises:
            ValueError: It is none, or names a key that could lead elsewhere.
        """
        format_, bucket, prefix, rows, start, end, len_bytes, *endpoint = plain
        numbers = (start, end, len_bytes, *(size for _, size, _ in rows))
        if not rows or not all(type(number) is int and number >= 0 for number in numbers) or (end and len(rows) > 1):
            raise ValueError("a part needs objects, or a range of one")
        root = Location(bucket, "")
        objects = tuple(TaggedObject(root.child(prefix + rest).key, size, tag) for rest, size, tag in rows)
        known = (format_from_plain(format_), bucket, objects, start, end, len_bytes)
        return cls(*known, endpoint[0] if endpoint else None, current_access())

    def __reduce__(self) -> tuple[Any, ...]:
        return Part.from_plain, (self.to_plain(),)

    def _contents(self) -> Iterator[PinnedRange]:
        """Yield the objects of the part, each with its range."""
        return fetch_small(self._open()) if len(self.objects) > 1 else self._open()

    def _open(self) -> Iterator[PinnedRange]:
        access = find_access(self._access)
        for one in self.objects:
            location = Location(self.bucket, one.key)
            bucket = access.open(location, endpoint=self.endpoint)
            end = self.end or (0 if isinstance(self.format, Parquet) else one.size_bytes)
            yield PinnedRange(bucket, location, one.size_bytes, one.tag, self.start, end)


def format_to_plain(format_: Format) -> Any:
    """Return a format as plain values: its name, with the options that differ from their defaults."""
    options = format_.options()
    return [format_.name, options] if options else format_.name


def format_from_plain(plain: Any) -> Format:
    """Return the format that `format_to_plain` took apart.

    Raises:
        ValueError: There is no such format here, or it has no such option.
    """
    name, options = plain if isinstance(plain, list) else (plain, {})
    try:
        format_: Format = FORMATS[name](**options)
    except (KeyError, TypeError, ConfigError) as error:
        raise ValueError(f"this process has no format {name!r} with such options: {error}") from error
    return format_
