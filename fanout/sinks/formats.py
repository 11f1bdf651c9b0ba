"""Formats of sinks, with their options checked: small values that travel. The writers import what they need."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Final, Protocol

from ..config.checks import check_count, check_flag
from ..errors import ConfigError
from .stream import OpenObject

TEXT_COMPRESSIONS: Final = {"none": "", "gzip": ".gz", "zstd": ".zst"}
PARQUET_COMPRESSIONS: Final = ("none", "snappy", "gzip", "brotli", "lz4", "zstd")
ROW_GROUP_ROWS: Final = 122_880


class Format(Protocol):
    """A format of rows.

    Attributes:
        kind: Its name.
        suffix: The end of its objects' names.
    """

    kind: ClassVar[str]

    @property
    def suffix(self) -> str: ...

    def write(self, rows: Any, open_object: OpenObject) -> None:
        """Write rows to as many objects as the format needs. Opens none if there are no rows.

        Raises:
            RowFlaw: A row does not fit. The error says which.
        """


@dataclass(frozen=True, slots=True)
class JsonlFormat:
    """JSON lines in UTF-8.

    Attributes:
        compression: One of `TEXT_COMPRESSIONS`.
    """

    kind: ClassVar[str] = "jsonl"
    compression: str = "none"

    def __post_init__(self) -> None:
        _check_choice("compression", self.compression, TEXT_COMPRESSIONS)

    @property
    def suffix(self) -> str:
        return ".jsonl" + TEXT_COMPRESSIONS[self.compression]

    def write(self, rows: Any, open_object: OpenObject) -> None:
        from .text_writers import write_jsonl

        write_jsonl(rows, open_object, compression=self.compression)


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """CSV in UTF-8, as the standard library's `csv` writes it.

    Attributes:
        columns: Names of the columns, in order; None for those of the first row.
        header: Whether each object begins with the names of the columns.
        dialect: Name of a dialect of `csv`: `excel`, `excel-tab` or `unix`.
        delimiter: The character between fields; None for the dialect's.
        compression: One of `TEXT_COMPRESSIONS`.
    """

    kind: ClassVar[str] = "csv"
    columns: tuple[str, ...] | None = None
    header: bool = True
    dialect: str = "excel"
    delimiter: str | None = None
    compression: str = "none"

    def __post_init__(self) -> None:
        _check_choice("compression", self.compression, TEXT_COMPRESSIONS)
        check_flag("header", self.header)
        _check_choice("dialect", self.dialect, csv.list_dialects())
        if self.columns is not None:
            object.__setattr__(self, "columns", _check_names("columns", self.columns))
        if self.delimiter is not None and (not isinstance(self.delimiter, str) or len(self.delimiter) != 1):
            raise ConfigError(f"delimiter must be one character, not {self.delimiter!r:.80}")

    @property
    def suffix(self) -> str:
        return ".csv" + TEXT_COMPRESSIONS[self.compression]

    def write(self, rows: Any, open_object: OpenObject) -> None:
        from .text_writers import write_csv

        write_csv(
            rows,
            open_object,
            columns=self.columns,
            header=self.header,
            dialect=self.dialect,
            delimiter=self.delimiter,
            compression=self.compression,
        )


@dataclass(frozen=True, slots=True)
class ParquetFormat:
    """Parquet, as pyarrow writes it.

    Attributes:
        schema: The schema, in Arrow's interprocess format; None for that of the first rows of each write.
        row_group_rows: Most rows of a row group.
        compression: One of `PARQUET_COMPRESSIONS`.
        partition_by: Columns by whose values the rows are spread over folders `column=value`.
    """

    kind: ClassVar[str] = "parquet"
    schema: bytes | None = field(default=None, repr=False)
    row_group_rows: int = ROW_GROUP_ROWS
    compression: str = "zstd"
    partition_by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_choice("compression", self.compression, PARQUET_COMPRESSIONS)
        object.__setattr__(self, "partition_by", _check_names("partition_by", self.partition_by))
        check_count("row_group_rows", self.row_group_rows)
        if self.schema is not None and not isinstance(self.schema, bytes):
            raise ConfigError(f"schema must be an Arrow schema, not {type(self.schema).__name__}")

    @property
    def suffix(self) -> str:
        return ".parquet"

    def write(self, rows: Any, open_object: OpenObject) -> None:
        from .arrow import require_arrow

        require_arrow()
        from .parquet_writer import write_parquet

        write_parquet(
            rows,
            open_object,
            schema=self.schema,
            row_group_rows=self.row_group_rows,
            compression=self.compression,
            partition_by=self.partition_by,
        )


_FORMATS: Final[dict[str, Callable[..., Format]]] = {
    made.kind: made for made in (JsonlFormat, CsvFormat, ParquetFormat)
}


def encode_format(written: Any) -> list[Any]:
    """Return the plain form of a format: its kind, and its options that are not the defaults."""
    defaults = asdict(type(written)())
    options = {name: value for name, value in asdict(written).items() if value != defaults[name]}
    return [written.kind, options]


def decode_format(plain: Any) -> Format:
    """Return the format in a plain form, with its options checked.

    Raises:
        ConfigError: It is none.
    """
    kind, options = plain
    if kind not in _FORMATS:
        raise ConfigError(f"{kind!r:.80} is no format of sinks here: let all processes have the same code")
    try:
        return _FORMATS[kind](**options)
    except TypeError as error:
        raise ConfigError(f"sinks.{kind}: {error}") from error


def _check_choice(name: str, value: object, choices: Any) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, not {value!r:.80}")


def _check_names(name: str, given: Any) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(isinstance(each, str) and each for each in names) or len(set(names)) != len(names):
        raise ConfigError(f"{name} must be names of columns, each once, not {given!r:.80}")
    return names
