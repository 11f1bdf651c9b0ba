"""What process returns of a sink, and what a commit needs: objects that are written and that no reader sees yet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from storage import register_type

from ..errors import InvalidLocation
from ..external.location import quote_key
from ..records.failure import FailedItem

MAX_NAME_BYTES: Final = 600
"""Longest name of an object in a sink. S3 allows 1,024 bytes for a key, the sink's folder included."""

_TOKEN: Final = re.compile(r"[0-9a-f]{16}")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class StagedObject:
    """An object that was written, and that readers see once a commit has published it.

    Attributes:
        name: The object's key, relative to the sink's URL.
        rows: Number of rows; 1 for an object of bytes.
        size_bytes: Length of the body.
        digest: BLAKE3 of the body: 16 bytes as 32 hex digits.
        token: Name of this one act of writing. Each run that repeats it has another.
        upload_id: Id of the multipart upload in the bucket; "" for a file.
        entity_tags: Entity tags of the upload's parts, in order.
    """

    name: str
    rows: int
    size_bytes: int
    digest: str
    token: str
    upload_id: str = ""
    entity_tags: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The id of the upload, or the token of the file."""
        return self.upload_id or self.token

    def to_row(self) -> list[Any]:
        """Return the object's form in bytes."""
        return [self.name, self.rows, self.size_bytes, self.digest, self.token, self.upload_id, list(self.entity_tags)]

    @classmethod
    def from_row(cls, row: Any) -> StagedObject:
        """Return the object in a row, with every field that becomes part of a key or a path checked.

        Raises:
            ValueError: The row is none.
        """
        name, rows, size_bytes, digest, token, upload_id, entity_tags = row
        for number in (rows, size_bytes):
            if type(number) is not int or number < 0:
                raise ValueError(f"{number!r:.80} is not a count")
        for text in (digest, token, upload_id, *entity_tags):
            if not isinstance(text, str):
                raise ValueError(f"{text!r:.80} is not text")
        if not _TOKEN.fullmatch(token):
            raise ValueError(f"{token!r:.80} is not a token")
        return cls(check_name(name), rows, size_bytes, digest, token, upload_id, tuple(entity_tags))


@dataclass(frozen=True, slots=True)
class Written:
    """What `write` of a sink returns: the objects that it wrote, for join to commit. About 300 bytes an object.

    Attributes:
        url: The sink's URL.
        objects: The objects: one, or one per partition; none if there were no rows.
    """

    url: str
    objects: tuple[StagedObject, ...] = ()

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(staged.rows for staged in self.objects)

    @property
    def size_bytes(self) -> int:
        """Length of the bodies."""
        return sum(staged.size_bytes for staged in self.objects)

    @property
    def names(self) -> list[str]:
        """The keys of the objects, relative to the sink's URL."""
        return [staged.name for staged in self.objects]


@dataclass(frozen=True, slots=True)
class Published:
    """What `commit` of a sink returns.

    Attributes:
        url: The sink's URL.
        objects: Number of objects.
        rows: Number of rows.
        size_bytes: Length of all bodies.
        failed: Number of failed items, which `_failed.jsonl` lists.
    """

    url: str
    objects: int
    rows: int
    size_bytes: int
    failed: int = 0


@dataclass(frozen=True, slots=True)
class PublishedObject:
    """An object that a commit has published.

    Attributes:
        url: The object's URL.
        name: Its key, relative to the sink's URL.
        rows: Number of rows; 1 for an object of bytes.
        size_bytes: Length of the body.
        digest: BLAKE3 of the body: 16 bytes as 32 hex digits.
    """

    url: str
    name: str
    rows: int
    size_bytes: int
    digest: str


def check_name(name: object) -> str:
    """Return the name of an object of a sink, if it leads nowhere else and no reader overlooks it.

    Raises:
        ValueError: A segment is empty, or begins with "." or "_", by which readers know what is no data. Or the name
            is too long, or has characters that not every store can hold.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"the name of an object must be text, not {name!r:.80}")
    if _CONTROL.search(name):
        raise ValueError(f"the name {name!a:.80} has a character that not every store can hold")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(f"the name {name!r:.80} is longer than {MAX_NAME_BYTES} bytes")
    for segment in name.split("/"):
        if not segment or segment[0] in "._":
            raise ValueError(
                f"the name {name!r:.80} has a segment that is empty or begins with '.' or '_': write 'folder/name'"
            )
    return name


def join_url(url: str, name: str) -> str:
    """Return the URL of an object of a sink."""
    return f"{url.rstrip('/')}/{quote_key(name)}"


def sort_results(results: Iterable[Any], url: str) -> tuple[list[StagedObject], list[FailedItem]]:
    """Return the objects and the failed items among the results of process, in order.

    Args:
        results: `Written`, `FailedItem`, or lists and tuples of these, at any depth.
        url: The sink's URL.

    Raises:
        TypeError: One is something else.
        InvalidLocation: One was written to another sink.
        ValueError: Two have the same name.
    """
    objects: dict[str, StagedObject] = {}
    failed: list[FailedItem] = []
    for result in _flatten(results):
        if isinstance(result, FailedItem):
            failed.append(result)
            continue
        if not isinstance(result, Written):
            raise TypeError(
                f"commit takes what write has returned, and not {type(result).__name__}: "
                "let process return out.write(…), and give commit only that"
            )
        if result.url != url:
            raise InvalidLocation(result.url, f"it is no part of the sink {url}", "Commit each sink's own results.")
        for staged in result.objects:
            other = objects.setdefault(staged.name, staged)
            if other != staged:
                raise ValueError(f"two results have the name {staged.name!r} in {url}: give each item its own name")
    return list(objects.values()), failed


def _flatten(results: Iterable[Any]) -> Iterator[Any]:
    for result in results:
        if isinstance(result, list | tuple):
            yield from _flatten(result)
        else:
            yield result


def _decode_written(plain: Any) -> Written:
    url, rows = plain
    if not isinstance(url, str):
        raise ValueError(f"{url!r:.80} is not a URL")
    return Written(url, tuple(StagedObject.from_row(row) for row in rows))


register_type(
    Written,
    name="fanout.Written",
    encode=lambda written: [written.url, [staged.to_row() for staged in written.objects]],
    decode=_decode_written,
)
register_type(Published, name="fanout.Published")
