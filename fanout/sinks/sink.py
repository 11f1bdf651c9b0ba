"""Sinks: places below which process writes objects, which readers see when join has committed them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage import register_type

from ..errors import NotInStep, UnwritableRow
from ..external.access import Access
from ..external.context import StepContext, current_access, current_step, find_access
from ..external.location import Location, parse_location
from .commit import check_vacant, publish
from .formats import Format, decode_format, encode_format
from .local_staging import LocalStaging
from .s3_staging import S3Staging
from .staging import Staging
from .stream import ObjectBatch, RowFlaw
from .written import Published, Written, check_name


@dataclass(frozen=True, slots=True)
class Sink:
    """A place below which a job writes objects. A value, a parameter like any other: see `{"type": "sink"}`.

    It holds neither credentials nor rights: a worker writes only below its own `sink_roots`.

    Attributes:
        url: URL of the folder.
        endpoint: Name of the endpoint in the setting `external_endpoints`; None for the one of the environment.
    """

    url: str
    endpoint: str | None = None
    _access: Access | None = field(default=None, repr=False, compare=False)
    _vacant_for: set[str] = field(default_factory=set, repr=False, compare=False)
    """Launches for which this process has found the place free."""

    def commit(self, results: Iterable[Any]) -> Published:
        """Let readers see what process has written: all of it or nothing. Called in join, once.

        The manifest comes first and `_SUCCESS` last. A join that runs again, also at the same time, publishes the same.
        One request per object, 16 at a time, two per 1,000 objects, and eight. With names of their own, three more per
        1,000 objects. Holds about 1 kB per object.

        Args:
            results: What `write` has returned, in any order of lists and tuples, and the failed items of a job that
                tolerates failures. Join's own argument does.

        Returns:
            Number of objects, rows, bytes and failed items.

        Raises:
            SinkConflict: The place holds something else.
            UploadGone: An object was removed before it was published. Nothing was published, unless another run of
                this join had begun to.
            NotAllowed: The place does not lie below a root of this process.
            NotInStep: The call is made elsewhere.
            TypeError: A result is not one of `write`.
        """
        context = _require_step("commit", self.url, "join")
        return publish(self._open_staging(), context, results)

    def _begin(self, suffix: str, *, stem: str | None = None) -> ObjectBatch:
        context = _require_step("write", self.url, "process", "join")
        staging = self._open_staging()
        if context.launch_id not in self._vacant_for:
            check_vacant(staging, context)
            # Before anything is staged there, so that the removal of the job finds it.
            context.note_sink(self.url, self.endpoint)
            self._vacant_for.add(context.launch_id)
        position = context.position
        number = position.count_write(self.url)
        place = "join" if context.step == "join" else f"{position.item:08d}"
        return ObjectBatch(staging, context.launch_id, stem or f"part-{place}-{number:03d}-{context.launch_id}", suffix)

    def _open_staging(self) -> Staging:
        return open_staging(parse_location(self.url), self.endpoint, self._access)

    def __reduce__(self) -> Any:
        return _decode, (type(self), encode_sink(self))


@dataclass(frozen=True, slots=True)
class RowSink(Sink):
    """A sink for rows.

    Attributes:
        format: The format of its objects, with its options.
    """

    format: Format = field(kw_only=True)

    def write(self, rows: Any) -> Written:
        """Write rows, which readers see once join has committed them. Called in process, or in join.

        The rows become one object, or one per partition; no object if there are none. They are written as they come:
        for Parquet a row group is held, of at most 64 MiB in memory, and 40 MiB of what is written. A run that is
        repeated writes the same names, and readers see one of them. On S3 two requests per object, one more per 8 MiB,
        and three for the first write of a job in a process.

        Args:
            rows: An iterable of mappings, a table, record batch or reader of Arrow, a frame of pandas, or an iterable
                of these; for CSV also sequences.

        Returns:
            What process returns, for join to commit.

        Raises:
            UnwritableRow: A row does not fit the format. Nothing is written.
            SinkConflict: The place holds something else.
            NotAllowed: The place does not lie below a root of this process.
            NotInStep: The call is made elsewhere.
            MissingPackage: The format needs a package that is not installed.
        """
        with self._begin(self.format.suffix) as batch:
            try:
                self.format.write(rows, batch.open)
            except RowFlaw as error:
                raise UnwritableRow(self.url, str(error)) from error
        return Written(self.url, tuple(batch.objects))


@dataclass(frozen=True, slots=True)
class ObjectSink(Sink):
    """A sink for objects of bytes.

    Attributes:
        suffix: The end of the names that fanout makes.
    """

    suffix: str = ""

    def write(self, body: bytes | bytearray | memoryview | Iterable[bytes], *, name: str | None = None) -> Written:
        """Write an object, which readers see once join has committed it. Called in process, or in join.

        Holds 40 MiB beside what it is given. Requests as for rows, and one more on S3 for a name of its own.

        Args:
            body: Its bytes, or an iterable of blocks of bytes, such as a file opened for binary reading.
            name: Its key, relative to the sink's URL, such as `thumbnails/cat.jpg`. Each item needs its own. By
                default the number of the item, and the sink's suffix.

        Raises:
            UnwritableRow: It is not bytes, or the name is not one of an object.
            SinkConflict: The place holds something else.
            NotAllowed: The place does not lie below a root of this process.
            NotInStep: The call is made elsewhere.
        """
        if name is not None:
            try:
                check_name(name)
            except ValueError as error:
                raise UnwritableRow(self.url, str(error)) from error
        with self._begin(self.suffix if name is None else "", stem=name) as batch:
            stream = batch.open("")
            for block in [body] if isinstance(body, bytes | bytearray | memoryview) else _check_blocks(body, self.url):
                stream.write(block)
            stream.rows = 1
        return Written(self.url, tuple(batch.objects))


def open_staging(location: Location, endpoint: str | None, access: Access | None) -> Staging:
    """Return the place of a sink. No request.

    Args:
        location: The folder.
        endpoint: Name of the endpoint; None for the one of the environment.
        access: What this process may write; None for what the step around this call may, or the caller of none.

    Raises:
        NotAllowed: The location does not lie below a root of this process.
    """
    own = find_access(access)
    if not location.is_local:
        return S3Staging(location.url, location.key, own.open_uploads(location, endpoint=endpoint))
    own.check(location, purpose="writing")
    return LocalStaging(
        location.url,
        Path(f"/{location.key}"),
        lambda path: own.check(Location(location.bucket, str(path).strip("/")), purpose="writing"),
    )


def _require_step(action: str, url: str, *steps: str) -> StepContext:
    context = current_step()
    is_in = context is not None and context.step in steps
    if context is None or not is_in or (context.step == "process" and context.position.item is None):
        where = f"in {context.step}" if context is not None and not is_in else "outside them"
        raise NotInStep(
            f"{action} of the sink {url} was called {where}: call it in {' or '.join(steps)}, and in a thread of your "
            "own with contextvars.copy_context().run"
        )
    return context


def _check_blocks(blocks: Any, url: str) -> Iterator[bytes | bytearray | memoryview]:
    if isinstance(blocks, str) or not isinstance(blocks, Iterable):
        raise UnwritableRow(url, f"an object is bytes or blocks of bytes, and not {type(blocks).__name__}")
    for block in blocks:
        if not isinstance(block, bytes | bytearray | memoryview):
            raise UnwritableRow(url, f"a block of an object is bytes, and not {type(block).__name__}")
        yield block


def encode_sink(sink: Any) -> list[Any]:
    """Return the plain form of a sink, without what this process may do."""
    rest = encode_format(sink.format) if isinstance(sink, RowSink) else sink.suffix
    return [sink.url, sink.endpoint, rest]


def _decode(kind: type[Sink], plain: Any) -> Sink:
    url, endpoint, rest = plain
    if not isinstance(url, str) or not (endpoint is None or isinstance(endpoint, str)):
        raise ValueError(f"{url!r:.80} is not a URL, or {endpoint!r:.80} no name")
    access = current_access()
    if kind is RowSink:
        return RowSink(parse_location(url).url, endpoint, access, format=decode_format(rest))
    return ObjectSink(parse_location(url).url, endpoint, access, suffix=check_suffix(rest))


def check_suffix(suffix: Any) -> str:
    """Return the suffix of an object sink.

    Raises:
        ValueError: It can't be the end of a name.
    """
    if not isinstance(suffix, str) or "/" in suffix:
        raise ValueError(f"a suffix is text without '/', such as '.jpg', and not {suffix!r:.80}")
    return suffix


register_type(RowSink, name="fanout.RowSink", encode=encode_sink, decode=lambda plain: _decode(RowSink, plain))
register_type(ObjectSink, name="fanout.ObjectSink", encode=encode_sink, decode=lambda plain: _decode(ObjectSink, plain))
