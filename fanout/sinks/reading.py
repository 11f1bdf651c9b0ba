"""Sinks as their readers and their owner see them: what was published, and what was left over."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from ..config.checks import check_kind
from ..external.location import check_endpoint, parse_location
from .commit import read_manifest
from .sink import open_staging
from .staging import MANIFEST, SUCCESS
from .written import PublishedObject, join_url

DAY_S = 24 * 3600.0


def published(url: str | os.PathLike[str], *, endpoint: str | None = None) -> list[PublishedObject] | None:
    """Return the objects that a job has committed to a sink, in the order of its items.

    Two requests on S3. Needs the right to write there: `sink_roots`, if that is set.

    Args:
        url: The sink's URL.
        endpoint: Name of its endpoint; None for the one of the environment.

    Returns:
        The objects; None if no commit is complete.
    """
    location = parse_location(url)
    staging = open_staging(location, check_endpoint(endpoint), None)
    # In this order: the manifest comes first and never changes.
    if staging.get(SUCCESS) is None or (body := staging.get(MANIFEST)) is None:
        return None
    return [
        PublishedObject(join_url(location.url, entry["name"]), **entry)
        for entry in read_manifest(staging, body)["objects"]
    ]


def remove_orphans(url: str | os.PathLike[str], *, endpoint: str | None = None, older_than_s: float = 7 * DAY_S) -> int:
    """Remove what jobs that were never committed have staged below a URL, and what late runs have left there.

    A commit does so for its own job. This is for jobs that failed, or were removed. In a bucket it aborts every upload
    below the URL that was started so long ago, fanout's or not. No published object is touched. One request per 1,000
    uploads, and one per upload to abort.

    Args:
        url: The sink's URL, or a folder of a bucket above several.
        endpoint: Name of its endpoint; None for the one of the environment.
        older_than_s: Age in seconds. It must be longer than the longest job, retries included.

    Returns:
        The number of staged objects removed.
    """
    check_kind("older_than_s", older_than_s, (int, float), expected="a number of seconds")
    staging = open_staging(parse_location(url), check_endpoint(endpoint), None)
    before = datetime.now(UTC) - timedelta(seconds=older_than_s)
    old = [orphan for orphan in staging.list_staged() if orphan.started_at < before]
    for orphan in old:
        staging.remove(orphan)
    staging.tidy()
    return len(old)
