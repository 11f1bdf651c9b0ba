"""Requests for one external object, with errors that name its URL."""

from __future__ import annotations

from storage import Bucket, BucketNotFound, ObjectChanged, ObjectNotFound, StorageError, TaggedObject

from ..errors import SourceChanged, SourceMissing
from .location import Location


def look_up(bucket: Bucket, location: Location) -> TaggedObject:
    """Return size and entity tag of an external object. One request.

    Raises:
        SourceMissing: There is none, or no such bucket.
    """
    try:
        return bucket.head(location.key)
    except (ObjectNotFound, BucketNotFound) as error:
        raise SourceMissing(location.url) from error


def read_pinned(bucket: Bucket, location: Location, start: int, end: int, *, tag: str) -> bytes:
    """Return a range of an external object that must be the one that was listed. One request.

    Args:
        bucket: The bucket of the object.
        location: The object.
        start: First byte.
        end: End of the range, exclusive.
        tag: The entity tag that the object had when it was listed.

    Raises:
        SourceMissing: There is no such object any more.
        SourceChanged: The object has another entity tag, or ends before the range does.
    """
    try:
        return bucket.read(location.key, start, end, tag=tag)
    except (ObjectNotFound, BucketNotFound) as error:
        raise SourceMissing(location.url) from error
    except ObjectChanged as error:
        raise SourceChanged(location.url, tag, _find_tag(bucket, location.key)) from error


def _find_tag(bucket: Bucket, key: str) -> str:
    try:
        return bucket.head(key).tag
    except StorageError:
        return ""
