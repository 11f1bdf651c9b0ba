"""Reads and writes of one record in a store."""

from __future__ import annotations

from typing import TypeVar

from storage import ObjectNotFound, ObjectStore, put_once

from .record import Record

R = TypeVar("R", bound=Record)


def write_record(store: ObjectStore, key: str, record: R) -> R:
    """Write a record unless its key is taken. One request; one more if the key is taken.

    Returns:
        The record that the store now holds: `record`, or the one that was written first.
    """
    current = put_once(store, key, record.to_bytes())
    return record if current is None else type(record).from_bytes(current, key=key)


def read_record(store: ObjectStore, key: str, kind: type[R]) -> R | None:
    """Return the record under a key, or None if there is none. One request.

    Raises:
        CorruptObject: The object is no record of that kind.
    """
    try:
        body = store.get(key)
    except ObjectNotFound:
        return None
    return kind.from_bytes(body, key=key)


def has_record(store: ObjectStore, key: str) -> bool:
    """Return whether a key holds a record, without fetching it. One request."""
    try:
        store.head(key)
    except ObjectNotFound:
        return False
    return True
