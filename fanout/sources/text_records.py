"""Lines of text and of JSON, from blocks of whole lines."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, Final

from ..errors import ConfigError
from .pinned import PinnedRange
from .record_blocks import line_offset

_BOM: Final = codecs.BOM_UTF8
# In these a newline's byte is not always a newline, or text depends on what came before it.
_UNCUTTABLE: Final = ("utf-16", "utf-32", "utf-7", "utf-8-sig", "hz", "iso2022", "idna", "punycode")
_SHOWN_CHARACTERS: Final = 80


def check_encoding(encoding: str | None, errors: str = "strict") -> None:
    """Check that text in an encoding can be cut at newlines, and that there is such a treatment of other bytes.

    Raises:
        ConfigError: It can't, or there is no such encoding or treatment.
    """
    try:
        codecs.lookup_error(errors)
    except (LookupError, TypeError) as error:
        raise ConfigError(f"errors: {error}") from error
    if encoding is None:
        return
    try:
        found = codecs.lookup(encoding).name
        is_text = "\n".encode(encoding) == b"\n"
    except (LookupError, TypeError, UnicodeError) as error:
        raise ConfigError(f"encoding: {error}") from error
    if not is_text or found.replace("_", "-").startswith(_UNCUTTABLE):
        raise ConfigError(f"encoding: text in {encoding} can't be cut at newlines; utf-8 drops a mark at the beginning")


def decode_block(content: PinnedRange, offset: int, block: bytes, encoding: str, errors: str = "strict") -> str:
    """Return a block of whole lines as text, without the byte order mark of an object in UTF-8.

    Raises:
        SourceDamaged: The bytes are no text of that encoding.
    """
    if offset == 0 and block.startswith(_BOM) and codecs.lookup(encoding).name == "utf-8":
        offset, block = len(_BOM), block[len(_BOM) :]
    try:
        return block.decode(encoding, errors)
    except UnicodeDecodeError as error:
        reason = f"{error.reason}: not {encoding}; give its encoding, or errors='replace'"
        raise content.damaged(offset + error.start, reason) from error


def read_lines(
    content: PinnedRange, blocks: Iterator[tuple[int, bytes]], encoding: str | None, errors: str
) -> Iterator[list[Any]]:
    """Yield the lines of each block without their newlines: LF or CR LF.

    Raises:
        SourceDamaged: A line is no text of that encoding.
    """
    for offset, block in blocks:
        if encoding is None:
            yield _split(block, b"\n", b"\r\n")
        else:
            yield _split(decode_block(content, offset, block, encoding, errors), "\n", "\r\n")


def _split(block: Any, newline: Any, long_newline: Any) -> list[Any]:
    # A search for one character takes a thirtieth of the time.
    if long_newline[:1] in block and long_newline in block:
        block = block.replace(long_newline, newline)
    lines: list[Any] = block.split(newline)
    if not lines[-1]:
        lines.pop()
    return lines


def read_json(content: PinnedRange, blocks: Iterator[tuple[int, bytes]]) -> Iterator[Any]:
    """Yield the value of each line that is not empty.

    Raises:
        SourceDamaged: A line is no JSON.
    """
    for offset, block in blocks:
        lines = decode_block(content, offset, block, "utf-8").split("\n")
        for index, line in enumerate(lines):
            if not line or line.isspace():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                shown = f"{line[:_SHOWN_CHARACTERS]!r}" if len(line) <= _SHOWN_CHARACTERS else "a line"
                raise content.damaged(offset + line_offset(block, index), f"{shown} is no JSON: {error}") from error
            yield value
