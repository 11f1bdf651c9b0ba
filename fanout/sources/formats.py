"""Formats of sources: how an object is cut, and how records are read from a range of it."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any, ClassVar, NamedTuple

from ..config.checks import check_count, check_flag
from ..errors import ConfigError
from . import csv_records, text_records
from .compression import check_compression, decompress, find_compression
from .pinned import PinnedRange
from .record_blocks import fixed_blocks, line_blocks
from .row_filters import check_filters

MAX_RECORD_BYTES = 64 * 2**20
"""Longest record, unless the option `max_record_bytes` says otherwise."""


class SourceObject(NamedTuple):
    """An object as a record of `sources.objects`.

    Attributes:
        url: The object.
        data: Its bytes.
    """

    url: str
    data: bytes


class Format(abc.ABC):
    """A format with its options. The options travel in each part."""

    __slots__ = ()
    name: ClassVar[str]
    is_tabular: ClassVar[bool] = False
    """Whether `arrow` and `pandas` make sense."""
    part_bytes: ClassVar[int | None] = 16 * 2**20
    """Size of parts that is used if none is given; None for one object a part."""

    def can_split(self, key: str) -> bool:
        """Return whether parts may begin in the middle of an object with this key."""
        return False

    def options(self) -> dict[str, Any]:
        """Return the options that differ from their defaults."""
        listed = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, (value, default) in listed.items() if value != default}

    @abc.abstractmethod
    def records(self, content: PinnedRange) -> Iterator[Any]:
        """Yield the records that begin in a range."""

    def blocks(self, content: PinnedRange) -> Iterator[bytes]:
        """Yield the bytes of the records that begin in a range.

        Raises:
            TypeError: The bytes of a part mean nothing in this format.
        """
        raise TypeError(f"sources.{self.name}: a part has no bytes of its own; iterate it, or call arrow()")


class Text(Format):
    """A format whose records are lines."""

    __slots__ = ()
    compression: str
    max_record_bytes: int

    def can_split(self, key: str) -> bool:
        return find_compression(self.compression, key) == "none"

    def blocks(self, content: PinnedRange) -> Iterator[bytes]:
        return (block for _, block in self.line_blocks(content))

    def line_blocks(self, content: PinnedRange) -> Iterator[tuple[int, bytes]]:
        """Yield blocks of the lines that begin in a range, each with its offset."""
        return line_blocks(content, self.compression, max_record_bytes=self.max_record_bytes)

    def _check(self) -> None:
        check_compression(self.compression)
        check_count(f"sources.{self.name}: max_record_bytes", self.max_record_bytes)


@dataclass(frozen=True, slots=True)
class Lines(Text):
    """Lines of text, without their newlines.

    Attributes:
        encoding: Encoding of the text; None for lines of bytes.
        errors: Treatment of bytes that are no text, as in `bytes.decode`.
        compression: How the objects are compressed.
        max_record_bytes: Longest line.
    """

    name: ClassVar[str] = "lines"
    encoding: str | None = "utf-8"
    errors: str = "strict"
    compression: str = "infer"
    max_record_bytes: int = MAX_RECORD_BYTES

    def __post_init__(self) -> None:
        self._check()
        text_records.check_encoding(self.encoding, self.errors)

    def records(self, content: PinnedRange) -> Iterator[Any]:
        lines = text_records.read_lines(content, self.line_blocks(content), self.encoding, self.errors)
        return chain.from_iterable(lines)


@dataclass(frozen=True, slots=True)
class JsonLines(Text):
    """Lines of JSON, each a record; empty lines are none.

    Attributes:
        types: Column -> name of its Arrow type, for `arrow` and `pandas`.
        compression: How the objects are compressed.
        max_record_bytes: Longest line.
    """

    name: ClassVar[str] = "jsonl"
    is_tabular: ClassVar[bool] = True
    types: dict[str, str] | None = None
    compression: str = "infer"
    max_record_bytes: int = MAX_RECORD_BYTES

    def __post_init__(self) -> None:
        self._check()
        check_types("sources.jsonl", self.types)

    def records(self, content: PinnedRange) -> Iterator[Any]:
        return text_records.read_json(content, self.line_blocks(content))


@dataclass(frozen=True, slots=True)
class Csv(Text):
    """Rows of CSV.

    Attributes:
        header: True if each object's first line names the columns, a list of names, or False for rows without names.
        delimiter: Character between fields.
        quote: Character around fields.
        quoted_newlines: Whether quoted fields may hold newlines. Then no object is split.
        encoding: Encoding of the text.
        types: Column -> name of its Arrow type, for `arrow` and `pandas`.
        compression: How the objects are compressed.
        max_record_bytes: Longest line.
    """

    name: ClassVar[str] = "csv"
    is_tabular: ClassVar[bool] = True
    header: bool | list[str] = True
    delimiter: str = ","
    quote: str = '"'
    quoted_newlines: bool = False
    encoding: str = "utf-8"
    types: dict[str, str] | None = None
    compression: str = "infer"
    max_record_bytes: int = MAX_RECORD_BYTES

    def __post_init__(self) -> None:
        self._check()
        text_records.check_encoding(self.encoding)
        check_flag("sources.csv: quoted_newlines", self.quoted_newlines)
        check_types("sources.csv", self.types)
        for name in ("delimiter", "quote"):
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) != 1 or value in "\r\n":
                raise ConfigError(f"sources.csv: {name} must be one character, not {value!r}")
        if self.delimiter == self.quote:
            raise ConfigError(f"sources.csv: delimiter and quote are both {self.quote!r}")
        if not isinstance(self.header, bool):
            _check_names("sources.csv: header", self.header)
            if not self.header or len(set(self.header)) != len(self.header):
                raise ConfigError(f"sources.csv: header must name each column once, not {self.header!r:.80}")

    def can_split(self, key: str) -> bool:
        return not self.quoted_newlines and find_compression(self.compression, key) == "none"

    def records(self, content: PinnedRange) -> Iterator[Any]:
        return csv_records.read_rows(content, self.line_blocks(content), self.dialect, names=self.names(content))

    def names(self, content: PinnedRange) -> list[str] | None:
        """Return the names of the columns. One more request in a part that does not begin with the header."""
        if not isinstance(self.header, bool):
            return list(self.header)
        if not self.header:
            return None
        return csv_records.read_header(content, self.dialect, self.compression, self.max_record_bytes)

    @property
    def dialect(self) -> csv_records.Dialect:
        """How the text is taken apart."""
        return csv_records.Dialect(
            self.delimiter, self.quote, self.encoding, self.quoted_newlines, has_header=self.header is True
        )


@dataclass(frozen=True, slots=True)
class Records(Format):
    """Records of a fixed size, as bytes.

    Attributes:
        size: Bytes of a record.
        compression: How the objects are compressed.
    """

    name: ClassVar[str] = "records"
    size: int = 0
    compression: str = "infer"

    def __post_init__(self) -> None:
        check_compression(self.compression)
        check_count(f"sources.{self.name}: size", self.size)

    def can_split(self, key: str) -> bool:
        return find_compression(self.compression, key) == "none"

    def records(self, content: PinnedRange) -> Iterator[Any]:
        size = self.size
        for block in self.blocks(content):
            yield from (block[at : at + size] for at in range(0, len(block), size))

    def blocks(self, content: PinnedRange) -> Iterator[bytes]:
        return fixed_blocks(content, self.compression, size=self.size)


@dataclass(frozen=True, slots=True)
class Objects(Format):
    """Whole objects.

    Attributes:
        compression: How the objects are compressed. By default their bytes are given as they are.
    """

    name: ClassVar[str] = "objects"
    part_bytes: ClassVar[int | None] = None
    compression: str = "none"

    def __post_init__(self) -> None:
        check_compression(self.compression)

    def records(self, content: PinnedRange) -> Iterator[Any]:
        yield SourceObject(content.location.url, b"".join(self.blocks(content)))

    def blocks(self, content: PinnedRange) -> Iterator[bytes]:
        found = find_compression(self.compression, content.location.key)
        return decompress(content, found) if found != "none" else content.blocks(0, content.size_bytes)


@dataclass(frozen=True, slots=True)
class Parquet(Format):
    """Rows of Parquet, cut at row groups.

    Attributes:
        columns: Names of the columns that are read; None for all.
        filters: Conditions on rows, as `pyarrow.parquet.read_table` takes them: a list of (column, operator, value),
            of which all must hold, or a list of such lists, of which one must. Row groups without such rows are not
            read.
    """

    name: ClassVar[str] = "parquet"
    is_tabular: ClassVar[bool] = True
    columns: list[str] | None = None
    filters: list[Any] | None = None

    def __post_init__(self) -> None:
        if self.columns is not None:
            _check_names("sources.parquet: columns", self.columns)
        if self.filters is not None:
            check_filters(self.filters)

    def records(self, content: PinnedRange) -> Iterator[Any]:
        for batch in self.batches(content):
            yield from batch.to_pylist()

    def batches(self, content: PinnedRange) -> Iterator[Any]:
        """Yield the rows of a range of row groups, as record batches of Arrow."""
        from .arrow_reading import scan

        return scan(content, self.columns, self.filters)


def _check_names(option: str, names: Any) -> None:
    """Check a list of names of columns. A text would pass for a list of its letters.

    Raises:
        ConfigError: It is none.
    """
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{option} must be a list of names, not {names!r:.80}")


def check_types(option: str, types: Any) -> None:
    """Check the names of Arrow types by column.

    Raises:
        ConfigError: They are no mapping of texts to texts.
    """
    if types is None:
        return
    if not isinstance(types, dict) or not all(isinstance(text, str) for entry in types.items() for text in entry):
        raise ConfigError(
            f'{option}: types must map columns to names of types, as {{"price": "float64"}}, not {types!r:.80}'
        )


FORMATS: dict[str, type[Any]] = {
    format_.name: format_ for format_ in (Lines, Csv, JsonLines, Records, Objects, Parquet)
}
"""Name of a format -> its class."""
