"""A message says which store its sender uses, so that a worker with another one can say why it finds no job."""

from __future__ import annotations

import logging
from typing import Any

from ...errors import JobNotFound
from ...records.failure import redact
from .messages import job_of

_LOG = logging.getLogger("fanout")

STORE_HEADER = "fanout_store"
"""Header of every message: URL of the sender's store."""


def store_header(url: str) -> dict[str, str]:
    """The header for a store, without credentials."""
    return {STORE_HEADER: redact(url)} if url else {}


def look_elsewhere(task: Any) -> None:
    """Log an error if the sender of a stage's message uses another store, and the job is not in this one.

    No request where the stores are the same; else one, at most. Once for each store and process.
    """
    url = task.request.get(STORE_HEADER)
    if not isinstance(url, str) or url in task.told_stores:
        return
    try:
        runtime = task.runtime
        own = redact(runtime.store.url)
        if own == url:
            return
        job_id, launch_id, _ = job_of(task.step, task.request.id, task.request.args, task.request.kwargs)
        try:
            runtime.job(job_id, launch_id)
        except JobNotFound:
            task.told_stores.add(url)
            _LOG.error(
                "%s: job %s is not in the store of this worker, %s: its sender uses %.200s. Give both the same store "
                "(connect(app, store=…), fanout_store or FANOUT_STORE)",
                task.name,
                job_id,
                own,
                url,
            )
    except Exception as error:
        # It is only a hint. What is wrong with the store, or the message, is the stage's to deal with.
        _LOG.debug("%s: could not look whether its job is elsewhere: %s", task.name, error)
