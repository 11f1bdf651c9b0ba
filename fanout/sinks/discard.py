"""What a job that is removed has staged in its sinks, and never committed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from storage import StorageError

from ..errors import FanoutError
from ..external.access import Access
from ..external.location import parse_location
from .commit import is_staged_by
from .sink import Sink, open_staging

_LOG = logging.getLogger(__name__)


def find_sinks(value: Any) -> Iterator[Sink]:
    """Yield the sinks in a value: itself, and those in its lists, tuples and dicts."""
    if isinstance(value, Sink):
        yield value
    elif isinstance(value, dict):
        for member in value.values():
            yield from find_sinks(member)
    elif isinstance(value, list | tuple):
        for member in value:
            yield from find_sinks(member)


def discard(sink: Sink, access: Access, *, job_id: str, launch_id: str) -> int:
    """Remove what a launch has staged in a sink. No published object is touched, and nothing of another launch.

    One request per 1,000 uploads below the sink, and one per upload to abort. Uploads of `sinks.objects` with names of
    their own do not tell their launch, and stay. A process that may not write there, or can't, logs it and goes on.

    Args:
        sink: The sink.
        access: The access of this process.
        job_id: The job, for the log.
        launch_id: The launch, of which no step runs any more.

    Returns:
        The number of staged objects removed.
    """
    removed = 0
    try:
        staging = open_staging(parse_location(sink.url), sink.endpoint, access)
        for orphan in [*staging.list_staged()]:
            if is_staged_by(orphan, launch_id):
                staging.remove(orphan)
                removed += 1
        staging.tidy()
    except (StorageError, FanoutError, OSError) as error:
        _LOG.warning(
            "job %s is removed, and what it has staged in %s stays: %s. `sinks.remove_orphans` or a rule of the bucket "
            "removes it",
            job_id,
            sink.url,
            error,
        )
    return removed
