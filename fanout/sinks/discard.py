"""What a job that is removed has staged in its sinks, and never committed."""

from __future__ import annotations

import logging

from storage import StorageError

from ..errors import FanoutError
from ..external.access import Access
from ..external.location import parse_location
from .sink import open_staging

_LOG = logging.getLogger(__name__)


def discard(url: str, endpoint: str | None, access: Access, *, job_id: str, launch_id: str) -> int:
    """Remove what a launch has staged in a sink. No published object is touched, and nothing of another launch.

    One request per 1,000 uploads below the sink, one per upload to abort, and those of `find_own` and `tidy`. A process
    that may not write there, or can't, logs it and goes on.

    Args:
        url: URL of the sink.
        endpoint: Name of its endpoint; None for the one of the environment.
        access: The access of this process.
        job_id: The job, for the log.
        launch_id: The launch, of which no step runs any more.

    Returns:
        The number of staged objects removed.
    """
    removed = 0
    try:
        staging = open_staging(parse_location(url), endpoint, access)
        is_own = staging.find_own(launch_id)
        for orphan in [*staging.list_staged()]:
            if is_own(orphan):
                staging.remove(orphan)
                removed += 1
        staging.tidy()
    except (StorageError, FanoutError, OSError) as error:
        _LOG.warning(
            "job %s is removed, and what it has staged in %s stays: %s. `sinks.remove_orphans` or a rule of the bucket "
            "removes it",
            job_id,
            url,
            error,
        )
    return removed
