"""Tables of Arrow from Parquet, CSV and JSON lines. The only module of this package that imports pyarrow."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from storage import MissingPackage

from ..errors import ConfigError
from .csv_records import QUOTED_NEWLINE
from .pinned import PinnedRange
from .record_blocks import line_offset

if TYPE_CHECKING:
    from .formats import Csv, JsonLines

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv
    import pyarrow.dataset
    import pyarrow.json
    import pyarrow.parquet
except ImportError as missing:
    raise MissingPackage("the source is read with pyarrow, which is not installed", extra="arrow") from missing


_BLOCK_BYTES: Final = 2**20


class _PinnedFile(io.RawIOBase):
    """An object as a file that pyarrow reads. Each read is a request that asks for the listed entity tag."""

    def __init__(self, content: PinnedRange) -> None:
        self._content = content
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._content.size_bytes}[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        most = self._content.size_bytes - self._at
        length = most if size is None or size < 0 else min(size, most)
        body = self._content.read(self._at, self._at + length)
        self._at += len(body)
        return body

    def readinto(self, buffer: Any) -> int:
        body = self.read(len(buffer))
        buffer[: len(body)] = body
        return len(body)


def row_group_bytes(content: PinnedRange) -> list[int]:
    """Return the compressed size of each row group of a Parquet object. One or two requests, for its footer.

    Raises:
        SourceDamaged: It is no Parquet.
    """
    metadata = _open(content).metadata
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    return [sum(group.column(column).total_compressed_size for column in range(group.num_columns)) for group in groups]


def scan(content: PinnedRange, columns: list[str] | None, filters: list[Any] | None) -> Iterator[Any]:
    """Yield the rows of a range of row groups as record batches, with filters and columns pushed down.

    Memory: the compressed columns of one row group, and a few batches of 64 Ki rows.

    Args:
        content: The object; its range counts row groups, and one that is empty means all of them.
        columns: Names of the columns; None for all.
        filters: Conditions on rows, as `pyarrow.parquet.read_table` takes them.

    Raises:
        SourceDamaged: It is no Parquet, or a row group is damaged.
        ConfigError: It has no such column, or the filters are none.
    """
    file = _open(content)
    try:
        condition = pa.parquet.filters_to_expression(filters) if filters else None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"sources.parquet: filters: {error}") from error
    known = set(file.schema_arrow.names)
    absent = [name for name in (*(columns or ()), *_filtered(filters)) if name.partition(".")[0] not in known]
    if absent:
        raise ConfigError(f"sources.parquet: {content.location.url} has no column {absent[0]!r}")
    groups = range(content.start, content.end) if content.end else range(file.metadata.num_row_groups)
    format_ = pa.dataset.ParquetFileFormat(
        default_fragment_scan_options=pa.dataset.ParquetFragmentScanOptions(pre_buffer=True)
    )
    for group in groups:
        try:
            fragment = format_.make_fragment(pa.PythonFile(_PinnedFile(content), mode="r"), row_groups=[group])
            scanner = fragment.scanner(
                schema=_without_views(fragment.physical_schema),
                columns=columns,
                filter=condition,
                batch_size=2**16,
                batch_readahead=2,
                fragment_readahead=1,
            )
            yield from (batch for batch in scanner.to_batches() if batch.num_rows)
        except (pa.ArrowInvalid, OSError) as error:
            offset = _group_offset(file.metadata.row_group(group))
            raise content.damaged(offset, f"row group {group} of its Parquet is damaged: {error}") from error


def scan_table(content: PinnedRange, columns: list[str] | None, filters: list[Any] | None) -> Any:
    """Return the rows of a range of row groups as one table; see `scan`."""
    batches = list(scan(content, columns, filters))
    if batches:
        return pa.Table.from_batches(batches)
    schema = _without_views(_open(content).schema_arrow)
    return schema.empty_table().select(columns) if columns is not None else schema.empty_table()


def read_csv(content: PinnedRange, format_: Csv) -> Any:
    """Return the rows that begin in a range as a table. Columns without a type in `types` get one from their values."""
    names = format_.names(content)
    has_header = format_.header is True and content.start == 0
    runs = [*(_check_quotes(content, format_) if not format_.quoted_newlines else format_.blocks(content))]
    if runs and not runs[-1].endswith(b"\n"):
        # Arrow skips no header without one.
        runs.append(b"\n")
    body = b"".join(runs)
    options = pa.csv.ReadOptions(
        column_names=names,
        autogenerate_column_names=names is None,
        # The header is a row like any other: a name may hold a newline.
        skip_rows_after_names=1 if has_header else 0,
        encoding=format_.encoding,
        block_size=max(_block_bytes(runs), len(body) if format_.quoted_newlines else 0),
    )
    parsing = pa.csv.ParseOptions(
        delimiter=format_.delimiter, quote_char=format_.quote, newlines_in_values=format_.quoted_newlines
    )
    converting = pa.csv.ConvertOptions(column_types=dict(_types(format_.types)), strings_can_be_null=False)
    if not body.strip():
        return pa.table({name: pa.array([], _types(format_.types).get(name, pa.null())) for name in names or ()})
    try:
        return pa.csv.read_csv(
            pa.BufferReader(body), read_options=options, parse_options=parsing, convert_options=converting
        )
    except pa.ArrowInvalid as error:
        raise content.damaged(content.start, f"its CSV is no table: {error}") from error


def _check_quotes(content: PinnedRange, format_: Csv) -> Iterator[bytes]:
    """Yield blocks of lines, each with an even number of quotes. Arrow reads a field with a newline as it comes.

    Raises:
        SourceDamaged: A line has another number.
    """
    quote = format_.quote.encode(format_.encoding)
    for offset, block in format_.line_blocks(content):
        if quote in block:
            lines = pc.list_flatten(pc.split_pattern(pa.array([block]), pattern=b"\n"))
            is_odd = pc.not_equal(pc.bit_wise_and(pc.count_substring(lines, pattern=quote), 1), 0)
            index = pc.index(is_odd, True).as_py()
            if index >= 0:
                raise content.damaged(offset + line_offset(block, index), QUOTED_NEWLINE)
        yield block


def read_json(content: PinnedRange, format_: JsonLines) -> Any:
    """Return the records of a range as a table. Columns without a type in `types` get one from their values."""
    types = format_.types
    runs = [*format_.blocks(content)]
    body = b"".join(runs)
    reading = pa.json.ReadOptions(block_size=_block_bytes(runs))
    schema = pa.schema(list(_types(types).items())) if types else None
    if not body.strip():
        return (schema or pa.schema([])).empty_table()
    try:
        return pa.json.read_json(pa.BufferReader(body), reading, pa.json.ParseOptions(explicit_schema=schema))
    except pa.ArrowInvalid as error:
        raise content.damaged(content.start, f"its JSON is no table: {error}") from error


def concatenate(tables: list[Any]) -> Any:
    """Return one table of several, whose columns may be missing in some of them.

    Raises:
        ConfigError: A column has different types in two of them.
    """
    try:
        return pa.concat_tables(tables, promote_options="default")
    except pa.ArrowException as error:
        raise ConfigError(f"types: a column has different types in two objects; name its type: {error}") from error


def _block_bytes(runs: list[bytes]) -> int:
    """Return a size of Arrow's blocks of text that every line fits into: a run is several lines, or one."""
    return max(_BLOCK_BYTES, 2 * max(map(len, runs), default=0))


def _open(content: PinnedRange) -> Any:
    try:
        return pa.parquet.ParquetFile(pa.PythonFile(_PinnedFile(content), mode="r"))
    except (pa.ArrowInvalid, OSError) as error:
        raise content.damaged(max(content.size_bytes - 8, 0), f"it is no Parquet: {error}") from error


def _without_views(schema: Any) -> Any:
    """Return a schema with texts instead of views of texts: pyarrow has no filter for these."""
    plain = {"string_view": pa.string(), "binary_view": pa.binary()}
    return pa.schema([field.with_type(plain.get(str(field.type), field.type)) for field in schema], schema.metadata)


def _group_offset(group: Any) -> int:
    columns = (group.column(index) for index in range(group.num_columns))
    return min(int(column.dictionary_page_offset or column.data_page_offset) for column in columns)


def _filtered(filters: list[Any] | None) -> list[str]:
    conditions = filters or []
    nested = [part for one in conditions for part in (one if isinstance(one[0], list | tuple) else [one])]
    return [condition[0] for condition in nested]


def _types(types: Mapping[str, str] | None) -> dict[str, Any]:
    try:
        return {name: pa.type_for_alias(alias) for name, alias in (types or {}).items()}
    except ValueError as error:
        raise ConfigError(f"types: {error}") from error
