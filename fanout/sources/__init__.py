"""Sources: data in place, which workers read from the bucket or the file system where it lies.

    text = sources.lines("s3://logs/2026/*.txt")
    CountWords.submit({"text": text})               # setup yields {"part": part} for each of text.parts()

A location is a URL or a path: of one object, of a folder (with a "/" at the end: everything below it), or a pattern, in
which `*` stands for anything but "/", and `**` for anything. A list names several, in that order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..config.checks import check_text
from ..errors import ConfigError
from ..external.location import check_endpoint, parse_location
from .formats import MAX_RECORD_BYTES, Csv, Format, JsonLines, Lines, Objects, Parquet, Records, SourceObject
from .manifests import Manifest
from .part import Part
from .selection import normalise
from .source import Source

Where = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A URL, a path, or several of them."""

__all__ = [
    "Part",
    "Source",
    "SourceObject",
    "Where",
    "csv",
    "jsonl",
    "lines",
    "manifest",
    "objects",
    "parquet",
    "records",
]


def lines(
    where: Where,
    *,
    endpoint: str | None = None,
    encoding: str | None = "utf-8",
    errors: str = "strict",
    compression: str = "infer",
    max_record_bytes: int = MAX_RECORD_BYTES,
) -> Source:
    r"""Return a source of lines, as `str` without their newlines (`\n` or `\r\n`).

    Args:
        where: URLs, paths or patterns.
        endpoint: Name of an endpoint in the setting `external_endpoints`.
        encoding: Encoding of the text; None for lines of bytes. A byte order mark of UTF-8 is dropped.
        errors: Treatment of bytes that are no text, as in `bytes.decode`.
        compression: `gzip` or `zstd` for all objects, `none`, or `infer` to tell it by .gz, .zst and .zstd. A
            compressed object is never split.
        max_record_bytes: Longest line. A longer one fails the job, because a worker holds it in full.

    Raises:
        InvalidLocation: A location is none.
        ConfigError: An option is wrong.
    """
    return _make(where, endpoint, Lines(encoding, errors, compression, max_record_bytes))


def csv(
    where: Where,
    *,
    endpoint: str | None = None,
    header: bool | Sequence[str] = True,
    delimiter: str = ",",
    quote: str = '"',
    quoted_newlines: bool = False,
    encoding: str = "utf-8",
    types: Mapping[str, str] | None = None,
    compression: str = "infer",
    max_record_bytes: int = MAX_RECORD_BYTES,
) -> Source:
    """Return a source of rows of CSV: a dict of texts per row, or a list of texts if there are no names.

    Args:
        where: URLs, paths or patterns.
        endpoint: Name of an endpoint in the setting `external_endpoints`.
        header: True if the first line of each object names the columns, a list of names if there is no such line, or
            False for rows without names.
        delimiter: Character between fields.
        quote: Character around fields.
        quoted_newlines: Whether quoted fields may hold newlines. Then no object is split. Otherwise such a field fails
            the job.
        encoding: Encoding of the text.
        types: Column -> name of its Arrow type, such as "int64", for `Part.arrow` and `Part.pandas`.
        compression: As for `lines`.
        max_record_bytes: As for `lines`.

    Raises:
        InvalidLocation: A location is none.
        ConfigError: An option is wrong.
    """
    format_ = Csv(
        _to_list(header), delimiter, quote, quoted_newlines, encoding, _to_dict(types), compression, max_record_bytes
    )
    return _make(where, endpoint, format_)


def jsonl(
    where: Where,
    *,
    endpoint: str | None = None,
    types: Mapping[str, str] | None = None,
    compression: str = "infer",
    max_record_bytes: int = MAX_RECORD_BYTES,
) -> Source:
    """Return a source of the values in lines of JSON, in UTF-8. Empty lines are none.

    Args:
        where: URLs, paths or patterns.
        endpoint: Name of an endpoint in the setting `external_endpoints`.
        types: Column -> name of its Arrow type, such as "int64", for `Part.arrow` and `Part.pandas`.
        compression: As for `lines`.
        max_record_bytes: As for `lines`.

    Raises:
        InvalidLocation: A location is none.
        ConfigError: An option is wrong.
    """
    return _make(where, endpoint, JsonLines(_to_dict(types), compression, max_record_bytes))


def records(where: Where, *, size: int, endpoint: str | None = None, compression: str = "infer") -> Source:
    """Return a source of records of a fixed size, as bytes.

    Args:
        where: URLs, paths or patterns.
        size: Bytes of a record. An object whose length is no multiple of it fails the job.
        endpoint: Name of an endpoint in the setting `external_endpoints`.
        compression: As for `lines`.

    Raises:
        InvalidLocation: A location is none.
        ConfigError: An option is wrong.
    """
    return _make(where, endpoint, Records(size, compression))


def parquet(
    where: Where,
    *,
    endpoint: str | None = None,
    columns: Sequence[str] | None = None,
    filters: Sequence[Any] | None = None,
) -> Source:
    """Return a source of rows of Parquet, cut at row groups. `Part.arrow` and `Part.batches` are the fast ways to them.

    In folders and patterns, objects whose name or folder begins with "_" or "." are left out, as Spark and Arrow do.

    Args:
        where: URLs, paths or patterns.
        endpoint: Name of an endpoint in the setting `external_endpoints`.
        columns: Columns that are read; all if not given.
        filters: Conditions on rows, as `pyarrow.parquet.read_table` takes them: (column, operator, value) triples that
            must all hold, or a list of such lists, of which one must. Row groups without such rows are not read.

    Raises:
        InvalidLocation: A location is none.
        ConfigError: An option is wrong.
    """
    return _make(where, endpoint, Parquet(_to_list(columns), _to_list(filters)))


def objects(where: Where, *, endpoint: str | None = None, compression: str = "none") -> Source:
    """Return a source of whole objects, such as images: each a part, whose `read` returns its bytes.

    Iterating a part yields `SourceObject` tuples of URL and bytes. `parts(part_bytes=…)` gathers small objects, up to
    64 in a part.

    Args:
        where: URLs, paths or patterns.
        endpoint: Name of an endpoint in the setting `external_endpoints`.
        compression: As for `lines`, but by default bytes are given as they are.

    Raises:
        InvalidLocation: A location is none.
        ConfigError: An option is wrong.
    """
    return _make(where, endpoint, Objects(compression))


def manifest(
    url: str | os.PathLike[str],
    *,
    of: Callable[..., Source] = objects,
    column: str | None = None,
    bucket: str | None = None,
    endpoint: str | None = None,
    **options: Any,
) -> Source:
    """Return a source of the objects that another object lists: CSV, JSON lines, or an inventory of S3.

    - CSV: the keys are in the first column, or in `column`, and then a header names it.
    - JSON lines: an entry is a text, or an object with the key in the field "key", or in `column`.
    - An inventory of S3 in CSV: the URL is that of its `manifest.json`. If it has the columns Size and ETag, setup
      makes no request per object.

    An entry is a key in the manifest's own bucket, a path beside a manifest that is a file, or a URL.

    Args:
        url: The manifest.
        of: The function that makes a source of these objects, such as `sources.lines`.
        column: Column or field that holds the keys.
        bucket: The bucket of the keys, if it is not the manifest's own.
        endpoint: Name of an endpoint in the setting `external_endpoints`.
        **options: Options of `of`.

    Raises:
        InvalidLocation: The URL is none.
        ConfigError: An option is wrong.
    """
    if of not in (lines, csv, jsonl, records, parquet, objects):
        raise ConfigError(f"sources.manifest: of must be a function of fanout.sources, not {of!r:.80}")
    for name, text in (("column", column), ("bucket", bucket)):
        if text is not None:
            check_text(f"sources.manifest: {name}", text, example="'key'" if name == "column" else "'my-bucket'")
    format_ = of([], endpoint=endpoint, **options).format
    return Source((), format_, endpoint, Manifest(parse_location(url).url, column, bucket))


def _make(where: Where, endpoint: str | None, format_: Format) -> Source:
    # One value that is no location, and bytes or a mapping, which are iterables of something else, are refused as one.
    is_several = isinstance(where, Iterable) and not isinstance(where, str | bytes | Mapping | os.PathLike)
    named: Any = where if is_several else [where]
    endpoint = check_endpoint(endpoint)
    return Source(tuple(normalise(one) for one in named), format_, endpoint)


def _to_list(given: Any) -> Any:
    """Return the members of an iterable as a list. Anything else stays as it is, for the format to refuse."""
    is_listed = isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping)
    return list(given) if is_listed else given


def _to_dict(given: Any) -> Any:
    """Return a mapping as a dict. Anything else stays as it is, for the format to refuse."""
    return dict(given) if isinstance(given, Mapping) else given
