"""Rows of CSV, from blocks of whole lines."""

from __future__ import annotations

import csv
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from .pinned import PinnedRange
from .record_blocks import line_blocks, line_offset
from .text_records import decode_block

_LINES: Final = 1000
"""Lines that are taken apart at a time: a row takes several times the memory of its line."""

_FIELD_LIMIT: Final = 2**31 - 1
_HEADER_BYTES: Final = 64 * 2**10
_CACHED_HEADERS: Final = 64
_HEADERS: OrderedDict[tuple[Any, ...], list[str]] = OrderedDict()
_LOCK = threading.Lock()

QUOTED_NEWLINE: Final = (
    "a quoted field holds a newline: pass quoted_newlines=True, which leaves objects whole; or if quotes are plain "
    "characters of the text, pass as `quote` a character that it does not have"
)
"""The flaw of a line with an odd number of quotes: the first or the last line of a quoted field, or one with a stray
quote. A part that begins in a quoted field can't tell, and would give rows that are none."""

_Place = tuple[int, bytes, int]
"""Offset of a block of lines, the block, and the index of a line in it: the line's offset is rarely needed."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the text is taken apart.

    Attributes:
        delimiter: Character between fields.
        quote: Character around fields.
        encoding: Encoding of the text.
        quoted_newlines: Whether a quoted field may hold newlines.
        has_header: Whether the first line of each object is a header.
    """

    delimiter: str
    quote: str
    encoding: str
    quoted_newlines: bool
    has_header: bool

    def rows(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """Return a reader of rows. A line that is empty gives an empty row.

        Lifts the limit that the module `csv` has for fields in this process: `max_record_bytes` limits their lines.
        """
        if csv.field_size_limit() < _FIELD_LIMIT:
            csv.field_size_limit(_FIELD_LIMIT)
        return csv.reader(lines, delimiter=self.delimiter, quotechar=self.quote, strict=True)


def read_header(content: PinnedRange, dialect: Dialect, compression: str, max_record_bytes: int) -> list[str]:
    """Return the names in the first line of an object. One request, or none if this process has read it lately.

    Raises:
        SourceDamaged: The line is no CSV, or a name comes twice.
    """
    key = (content.location, content.tag, dialect, compression)
    with _LOCK:
        names = _HEADERS.get(key)
    if names is None:
        first = replace(content, start=0, end=min(_HEADER_BYTES, content.size_bytes))
        offset, block = next(line_blocks(first, compression, max_record_bytes=max_record_bytes), (0, b""))
        if not dialect.quoted_newlines:
            block = block[: block.find(b"\n") + 1] or block
        names = next((row for _, row in _rows_of(content, iter([(offset, block)]), dialect)), [])
        if len(set(names)) != len(names) or not names:
            flaw = "its first line names no columns" if not names else "its header names a column twice"
            raise content.damaged(0, f"{flaw}; pass header=[…] or header=False")
        with _LOCK:
            _HEADERS[key] = names
            while len(_HEADERS) > _CACHED_HEADERS:
                _HEADERS.popitem(last=False)
    return names


def read_rows(
    content: PinnedRange, blocks: Iterator[tuple[int, bytes]], dialect: Dialect, *, names: list[str] | None
) -> Iterator[Any]:
    """Yield rows: a dict per row, or a list of its fields if there are no names. Empty lines are none.

    Raises:
        SourceDamaged: A row has more or fewer fields than there are names, a field holds a newline that was not
            announced, or a line is no CSV.
    """
    rows = _rows_of(content, blocks, dialect)
    if dialect.has_header and content.start == 0:
        next(rows, None)
    if names is None:
        yield from (row for _, row in rows)
        return
    for place, row in rows:
        if len(row) != len(names):
            flaw = f"a row has {len(row)} fields, and there are {len(names)} columns"
            raise content.damaged(_offset_of(place), flaw)
        yield dict(zip(names, row, strict=True))


def _rows_of(
    content: PinnedRange, blocks: Iterator[tuple[int, bytes]], dialect: Dialect
) -> Iterator[tuple[_Place, list[str]]]:
    """Yield rows that are not empty, each with its place."""
    return _long_rows(content, blocks, dialect) if dialect.quoted_newlines else _short_rows(content, blocks, dialect)


def _short_rows(
    content: PinnedRange, blocks: Iterator[tuple[int, bytes]], dialect: Dialect
) -> Iterator[tuple[_Place, list[str]]]:
    for offset, block in blocks:
        lines = decode_block(content, offset, block, dialect.encoding).split("\n")
        for first in range(0, len(lines), _LINES):
            some = lines[first : first + _LINES]
            try:
                rows = list(dialect.rows(some))
            except csv.Error:
                rows = []
            if len(rows) != len(some) or any(line.count(dialect.quote) % 2 for line in some):
                index, flaw = _find_flaw(dialect, some)
                raise content.damaged(offset + line_offset(block, first + index), flaw)
            for index, row in enumerate(rows):
                if row:
                    yield (offset, block, first + index), row


def _offset_of(place: _Place) -> int:
    offset, block, index = place
    return offset + line_offset(block, index)


def _find_flaw(dialect: Dialect, lines: list[str]) -> tuple[int, str]:
    """Return the index of the first line that is no row by itself, and what is wrong with it."""
    for index, line in enumerate(lines):
        if line.count(dialect.quote) % 2:
            return index, QUOTED_NEWLINE
        try:
            list(dialect.rows([line]))
        except csv.Error as error:
            return index, f"a line is no CSV: {error}"
    return 0, QUOTED_NEWLINE


def _long_rows(
    content: PinnedRange, blocks: Iterator[tuple[int, bytes]], dialect: Dialect
) -> Iterator[tuple[_Place, list[str]]]:
    place: _Place = (0, b"", 0)

    def feed() -> Iterator[str]:
        nonlocal place
        for offset, block in blocks:
            lines = decode_block(content, offset, block, dialect.encoding).split("\n")
            is_cut = not lines[-1]
            for index, line in enumerate(lines[:-1] if is_cut else lines):
                place = (offset, block, index)
                yield line + "\n" if is_cut or index < len(lines) - 1 else line

    rows = dialect.rows(feed())
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise content.damaged(_offset_of(place), f"a line is no CSV: {error}") from error
        if row is None:
            return
        if row:
            yield place, row
