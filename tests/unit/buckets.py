"""A bucket in memory, and sources that read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import md5
from typing import Any

from fanout.external.access import Access
from fanout.sources import Source
from storage import Bucket, ObjectChanged, ObjectNotFound, TaggedObject


class MemoryBucket(Bucket):
    """A bucket in memory, which counts requests.

    Attributes:
        bodies: Key -> body.
        requests: The requests, as verb and key.
    """

    url = "s3://bucket"

    def __init__(self, bodies: Mapping[str, bytes]) -> None:
        self.bodies = dict(bodies)
        self.requests: list[tuple[str, str]] = []

    def head(self, key: str) -> TaggedObject:
        self.requests.append(("head", key))
        if key not in self.bodies:
            raise ObjectNotFound(f"no {key}", key=key)
        return self._entry(key)

    def list(self, folder: str = "", *, after: str = "") -> Iterator[list[TaggedObject]]:
        keys = sorted(key for key in self.bodies if key > after and (not folder or key.startswith(f"{folder}/")))
        for first in range(0, len(keys), 3):
            self.requests.append(("list", folder))
            yield [self._entry(key) for key in keys[first : first + 3]]

    def read(self, key: str, start: int, end: int, *, tag: str | None = None) -> bytes:
        self.requests.append(("read", key))
        if key not in self.bodies:
            raise ObjectNotFound(f"no {key}", key=key)
        body = self.bodies[key][start:end]
        if len(body) != end - start or (tag is not None and self._entry(key).tag != tag):
            raise ObjectChanged(f"{key} changed", key=key)
        return body

    def _entry(self, key: str) -> TaggedObject:
        body = self.bodies[key]
        return TaggedObject(key, len(body), f'"{md5(body).hexdigest()}"')


def within(source: Source, bucket: MemoryBucket) -> Source:
    """Return a source whose `s3://bucket/…` is a bucket in memory."""
    return replace(source, _access=Access(None, None, {}, {("bucket", None): bucket}))


def in_memory(source: Source, **bodies: bytes) -> Source:
    """Return a source whose `s3://bucket/…` has these objects, "_" in a name for "."."""
    return within(source, MemoryBucket({name.replace("_", "."): body for name, body in bodies.items()}))


def records_of(source: Source, part_bytes: int | None = None) -> list[Any]:
    """Return all records of all parts."""
    return [record for part in source.parts(part_bytes) for record in part]
