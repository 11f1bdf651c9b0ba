"""Sinks: process writes its results where it runs, and readers see all of them once join has committed.

out = sinks.parquet("s3://lake/words/")     a parameter like any other: {"type": "sink"}
return out.write(rows)                      in process
return out.commit(written)                  in join
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..external.location import check_endpoint, parse_location
from .formats import ROW_GROUP_ROWS, CsvFormat, JsonlFormat, ParquetFormat
from .reading import published, remove_orphans
from .sink import ObjectSink, RowSink, Sink, check_suffix
from .written import Published, PublishedObject, Written

if TYPE_CHECKING:
    import pyarrow

__all__ = [
    "ObjectSink",
    "Published",
    "PublishedObject",
    "RowSink",
    "Sink",
    "Written",
    "csv",
    "jsonl",
    "objects",
    "parquet",
    "published",
    "remove_orphans",
]

Url = str | os.PathLike[str]


def parquet(
    url: Url,
    *,
    endpoint: str | None = None,
    schema: pyarrow.Schema | None = None,
    row_group_rows: int = ROW_GROUP_ROWS,
    compression: str = "zstd",
    partition_by: str | Sequence[str] = (),
) -> RowSink:
    """Return a sink for Parquet, which needs the extra `arrow` where it is written.

    Args:
        url: The folder: `s3://bucket/folder`, `file:///folder` or a path. It must be empty.
        endpoint: Name of an endpoint in the setting `external_endpoints`; None for the one of the environment.
        schema: The Arrow schema. Without it each write takes that of its first rows: give it for rows that are
            mappings, in which a column may be empty at first.
        row_group_rows: Most rows of a row group. Groups of over 64 MiB in memory are written earlier.
        compression: `zstd`, `snappy`, `gzip`, `brotli`, `lz4` or `none`.
        partition_by: Columns whose values become folders, `column=value`, and are left out of the objects.

    Raises:
        ConfigError: An option is wrong.
        InvalidLocation: The URL names no folder.
    """
    plain: Any = schema
    if plain is not None and not hasattr(plain, "serialize"):
        raise ConfigError(f"schema must be an Arrow schema, not {type(plain).__name__}")
    serialised = plain.serialize().to_pybytes() if plain is not None else None
    columns: Any = partition_by
    made = ParquetFormat(serialised, row_group_rows, compression, columns)
    names = getattr(plain, "names", None)
    missing = [column for column in made.partition_by if names is not None and column not in names]
    if missing:
        raise ConfigError(f"partition_by: the schema has no column {missing[0]!r}")
    return RowSink(parse_location(url).url, check_endpoint(endpoint), format=made)


def csv(
    url: Url,
    *,
    endpoint: str | None = None,
    columns: Sequence[str] | None = None,
    header: bool = True,
    dialect: str = "excel",
    delimiter: str | None = None,
    compression: str = "none",
) -> RowSink:
    """Return a sink for CSV in UTF-8, as the standard library's `csv` writes it.

    Args:
        url: The folder: `s3://bucket/folder`, `file:///folder` or a path. It must be empty.
        endpoint: Name of an endpoint in the setting `external_endpoints`; None for the one of the environment.
        columns: Names of the columns, in order; without it those of the first row of each write.
        header: Whether each object begins with the names of the columns.
        dialect: `excel`, `excel-tab`, `unix`, or another one that the workers have registered with `csv`.
        delimiter: The character between fields, if it is not the dialect's.
        compression: `none`, `gzip` or `zstd`; the latter needs the extra `zstd`.

    Raises:
        ConfigError: An option is wrong.
        InvalidLocation: The URL names no folder.
    """
    names: Any = columns
    made = CsvFormat(names, header, dialect, delimiter, compression)
    return RowSink(parse_location(url).url, check_endpoint(endpoint), format=made)


def jsonl(url: Url, *, endpoint: str | None = None, compression: str = "none") -> RowSink:
    """Return a sink for JSON lines in UTF-8.

    Args:
        url: The folder: `s3://bucket/folder`, `file:///folder` or a path. It must be empty.
        endpoint: Name of an endpoint in the setting `external_endpoints`; None for the one of the environment.
        compression: `none`, `gzip` or `zstd`; the latter needs the extra `zstd`.

    Raises:
        ConfigError: The option is wrong.
        InvalidLocation: The URL names no folder.
    """
    return RowSink(parse_location(url).url, check_endpoint(endpoint), format=JsonlFormat(compression))


def objects(url: Url, *, endpoint: str | None = None, suffix: str = "") -> ObjectSink:
    """Return a sink for objects of bytes, such as images.

    Args:
        url: The folder: `s3://bucket/folder`, `file:///folder` or a path. It must be empty.
        endpoint: Name of an endpoint in the setting `external_endpoints`; None for the one of the environment.
        suffix: The end of the names that fanout makes, such as `.jpg`.

    Raises:
        ConfigError: The suffix can't be the end of a name.
        InvalidLocation: The URL names no folder.
    """
    try:
        return ObjectSink(parse_location(url).url, check_endpoint(endpoint), suffix=check_suffix(suffix))
    except ValueError as error:
        raise ConfigError(str(error)) from error
