"""Manifests: objects that list other objects, as lines of CSV or JSON, or as an inventory of S3."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_plus

from storage import TaggedObject

from ..errors import InvalidLocation
from ..external.access import Access
from ..external.location import Location, parse_location
from ..external.reading import look_up
from .compression import find_compression
from .formats import Csv, Format, JsonLines
from .pinned import PinnedRange
from .selection import Found, look_up_all

_INVENTORY: Final = "manifest.json"
_MAX_INVENTORY_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Manifest:
    """An object that lists other objects.

    Attributes:
        url: The manifest.
        column: Column of CSV, or field of a line of JSON, that holds the key or URL. None for the first column of CSV
            without a header, and for the field "key".
        bucket: The bucket of the keys; None for the manifest's own.
    """

    url: str
    column: str | None = None
    bucket: str | None = None

    def select(self, access: Access, endpoint: str | None) -> Iterator[Found]:
        """Yield the objects that the manifest lists, in its order.

        One request per 4 MiB of the manifest, and one per object, several at a time; none per object of an inventory
        with the columns Size and ETag. Holds a block of the manifest.

        Raises:
            SourceMissing: The manifest or an object does not exist.
            SourceDamaged: The manifest can't be read.
            NotAllowed: One lies below no root.
        """
        location = parse_location(self.url)
        content = _pin(location, access, endpoint)
        if posixpath.basename(location.key) == _INVENTORY:
            yield from self._select_inventory(content, access, endpoint)
        else:
            yield from look_up_all(self._locations(content), access, endpoint)

    def _locations(self, content: PinnedRange) -> Iterator[Location]:
        stem = content.location.key
        is_json = any(f".{kind}" in posixpath.basename(stem) for kind in ("jsonl", "ndjson", "json"))
        column = self.column or "key"
        records: Format = JsonLines() if is_json else Csv(header=self.column is not None)
        for number, record in enumerate(records.records(content), start=1):
            value = record.get(column) if isinstance(record, dict) else record
            value = value[0] if isinstance(value, list) and value else value
            if not isinstance(value, str) or not value:
                raise content.damaged(None, f"entry {number} has no key, or none in the field {column!r}")
            if value.endswith("/"):
                raise content.damaged(None, f"entry {number} is a folder: list the objects in it")
            try:
                yield self._locate(content.location, value)
            except InvalidLocation as error:
                raise content.damaged(None, f"entry {number} names no object: {error}") from error

    def _locate(self, own: Location, value: str) -> Location:
        if "://" in value:
            return parse_location(value)
        if own.is_local and self.bucket is None:
            return parse_location(posixpath.join("/", posixpath.dirname(own.key), value))
        return Location(self.bucket or own.bucket, "").child(value)

    def _select_inventory(self, content: PinnedRange, access: Access, endpoint: str | None) -> Iterator[Found]:
        inventory = _read_inventory(content)
        columns = [name.strip() for name in inventory["fileSchema"].split(",")]
        absent = {"Key"} - set(columns) if self.bucket is not None else {"Bucket", "Key"} - set(columns)
        if absent:
            raise content.damaged(None, f"its fileSchema has no column {min(absent)}")
        for file in inventory["files"]:
            location = Location(content.location.bucket, "").child(file["key"])
            listed = _pin(location, access, endpoint)
            rows = enumerate(Csv(header=columns, quoted_newlines=True).records(listed), start=1)
            located = ((self._locate_row(listed, number, row), row) for number, row in rows if _is_object(row))
            if {"Size", "ETag"} <= set(columns):
                yield from ((where, _read_entry(listed, where, row)) for where, row in located)
            else:
                yield from look_up_all((where for where, _ in located), access, endpoint)

    def _locate_row(self, listed: PinnedRange, number: int, row: dict[str, str]) -> Location:
        try:
            return Location(self.bucket or row["Bucket"], "").child(unquote_plus(row["Key"]))
        except InvalidLocation as error:
            raise listed.damaged(None, f"entry {number} names no object: {error}") from error


def _is_object(row: dict[str, str]) -> bool:
    """Return whether a row of an inventory is an object: no old version, no mark of a deleted one or of a folder."""
    is_current = row.get("IsLatest", "true") == "true" and row.get("IsDeleteMarker", "false") != "true"
    return is_current and not (row["Key"].endswith("/") and row.get("Size", "0") == "0")


def _read_entry(listed: PinnedRange, location: Location, row: dict[str, str]) -> TaggedObject:
    if not row["Size"].isdecimal() or not row["ETag"]:
        raise listed.damaged(None, f"it says no Size or no ETag of {location.url}")
    return TaggedObject(location.key, int(row["Size"]), f'"{row["ETag"]}"')


def _pin(location: Location, access: Access, endpoint: str | None) -> PinnedRange:
    bucket = access.open(location, endpoint=endpoint)
    head = look_up(bucket, location)
    return PinnedRange(bucket, location, head.size_bytes, head.tag, 0, head.size_bytes)


def _read_inventory(content: PinnedRange) -> dict[str, Any]:
    if content.size_bytes > _MAX_INVENTORY_BYTES or find_compression("infer", content.location.key) != "none":
        raise content.damaged(None, "it is too large for the manifest of an inventory")
    try:
        inventory: dict[str, Any] = json.loads(content.read(0, content.size_bytes))
        is_csv = inventory["fileFormat"] == "CSV" and isinstance(inventory["fileSchema"], str)
        is_listed = all(isinstance(file["key"], str) for file in inventory["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise content.damaged(None, f"it is no manifest of an S3 inventory: {error!r}") from error
    if not is_csv or not is_listed:
        flaw = f"only inventories in CSV are read, and this one is in {inventory['fileFormat']!r}"
        raise content.damaged(None, flaw)
    return inventory
