"""A record: a frozen value that the store holds as one object.

Every record is one encoded mapping with its kind and its format. Workers of two releases serve the same jobs during a
deployment. So a release reads the format of the one before, and leaves objects in a newer format to newer workers.
"""

from __future__ import annotations

from dataclasses import fields
from enum import StrEnum
from typing import ClassVar, Self

from storage import Content, CorruptObject, NewerFormat, decode, encode

from .chunk_ref import ChunkLocation
from .failure import FailedItem, Failure
from .fields import check_fields

FORMAT = 1
"""The records' format, and that of messages. A field with a default that is in `added` needs no new one."""

OLDEST_FORMAT = 1
"""The oldest format that this release reads."""


class Record:
    """A frozen value that the store holds as one object."""

    __slots__ = ()
    kind: ClassVar[str]
    added: ClassVar[frozenset[str]] = frozenset()
    """Fields of a later version. A record without their values is as before, so that an older reader takes it."""

    def to_bytes(self) -> bytes:
        """Return the record's form in the store."""
        body = {
            entry.name: getattr(self, entry.name)
            for entry in fields(self)  # type: ignore[arg-type]
            if entry.name not in self.added or getattr(self, entry.name) != entry.default
        }
        return encode({"record": self.kind, "format": FORMAT, **body}, path=self.kind, default=_encode_field)

    @classmethod
    def from_bytes(cls, data: Content, *, key: str) -> Self:
        """Return the record in `data`.

        Raises:
            CorruptObject: It is no such record, or one of a format that is too old. Names `key`.
            NewerFormat: A newer release has written it.
        """
        body = decode(data, key=key)
        if not isinstance(body, dict) or body.pop("record", None) != cls.kind:
            raise CorruptObject(f"{key} is no {cls.kind} record of fanout", key=key)
        version = body.pop("format", None)
        if type(version) is not int or version < OLDEST_FORMAT:
            raise CorruptObject(f"{key} has record format {version!r}, and the oldest is {OLDEST_FORMAT}", key=key)
        if version > FORMAT:
            raise NewerFormat(f"{key} has record format {version}, and this process reads {FORMAT}", key=key)
        try:
            check_fields(cls, body)
            record = cls(**body)
            record.check()
        except TypeError as error:
            raise CorruptObject(f"{key} lacks fields of a {cls.kind} record: {error}", key=key) from error
        except ValueError as error:
            raise CorruptObject(f"{key} is no {cls.kind} record: {error}", key=key) from error
        return record

    def check(self) -> None:
        """Check the contents of fields, after their types, in a record that was read.

        Raises:
            TypeError: A mapping in it lacks names, or has others.
            ValueError: A value is out of range.
        """


def _encode_field(value: object) -> object:
    """Return the encodable form of a value within a record."""
    if isinstance(value, ChunkLocation):
        return value.to_row()
    if isinstance(value, Failure):
        return {entry.name: getattr(value, entry.name) for entry in fields(value)}
    if isinstance(value, FailedItem):
        return value.to_dict()
    if isinstance(value, StrEnum):
        return value.value
    raise TypeError(f"{type(value).__name__} can't be part of a record")
