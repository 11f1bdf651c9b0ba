"""A message header that names the sender's store, so that a worker can say why it finds no job."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

from ...errors import JobNotFound
from ...redaction import redact
from .headers import STORE_HEADER
from .messages import read_address

_LOG = logging.getLogger(__name__)


@lru_cache(maxsize=8)
def make_store_header(url: str) -> dict[str, str]:
    """Return the header for a store's URL, without credentials."""
    return {STORE_HEADER: redact(url)} if url else {}


def report_mismatch(task: Any) -> None:
    """Log an error if a message's sender uses another store, and this worker's store does not have the job.

    No request if both use the same store, else at most one. Logs once per store and process.

    Args:
        task: The stage's Celery task, while it handles the message.
    """
    url = task.request.get(STORE_HEADER)
    if not isinstance(url, str) or url in task.reported_stores:
        return
    try:
        runtime = task.runtime
        own = redact(runtime.store.url)
        if own == url:
            return
        job_id, launch_id, _ = read_address(task.step, task.request.id, task.request.args, task.request.kwargs)
        try:
            runtime.job(job_id, launch_id)
        except JobNotFound:
            task.reported_stores.add(url)
            _LOG.error(
                "%s: job %s is not in the store of this worker, %s: its sender uses %.200s. Give both the same store "
                "(connect(app, store=…), fanout_store or FANOUT_STORE)",
                task.name,
                job_id,
                own,
                url,
            )
    except Exception as error:
        # Only a hint: the stage itself handles a broken store or message.
        _LOG.debug("%s: could not check whether its sender uses another store: %s", task.name, error)
