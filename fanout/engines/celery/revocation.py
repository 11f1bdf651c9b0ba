"""The cancellation of jobs whose Celery task is revoked, however Celery was told to revoke it.

A worker forgets revoked ids when it ends, and the job's other messages have other ids. So a worker writes a revocation
into the store when it gets a `revoke` command, or discards a message of a job that was revoked or has expired. The
worker's main process must not open a store's client, since its forks would inherit it. It has its pool do this, as it
does with tasks. There it takes its turn, before any message that arrives later.

A worker that discards the message for setup or join stores REVOKED, and counts the job as a failed member of its chord.
Nothing is left to deliver then. In all other cases the join is sent, and reports the same.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from typing import Any

from celery import Celery
from celery.signals import task_revoked
from celery.worker.control import Panel

from ...cached_job import CachedJob
from ...errors import JobNotFound
from ...logs import fields_of
from ...records.failure import Failure
from ...records.ids import is_id, new_token
from ...records.models import Note, Outcome, OutcomeStatus
from ...runtime import Runtime
from ...stages import conclude
from .current_app import ATTRIBUTE
from .messages import read_address
from .signing import check_request

_LOG = logging.getLogger(__name__)

REVOKED = "Revoked"
"""Error name in the outcome of a job whose Celery task was revoked."""

_FAILURES = {
    REVOKED: (OutcomeStatus.CANCELLED, "job", "its Celery task was revoked"),
    "Expired": (OutcomeStatus.FAILED, "setup", "its message expired before a worker took it"),
}


def is_revoked(outcome: Outcome) -> bool:
    """Return whether a job ended because its Celery task was revoked."""
    failure = Failure.read(outcome.failure)
    return outcome.status == OutcomeStatus.CANCELLED and failure is not None and failure.error == REVOKED


def record_end(
    job_ids: Iterable[str],
    why: str,
    *,
    launch_id: str | None = None,
    generation: int | None = None,
    is_told: bool = False,
) -> None:
    """End jobs. Runs in a child of the pool. One request for an id that is no job's, a few for one that is.

    Args:
        job_ids: Ids of Celery tasks, which may be jobs.
        why: `Revoked` or `Expired`.
        launch_id: The launch of these ids; if not given, the current one.
        generation: The generation of the jobs; if not given, the latest.
        is_told: Whether Celery has already told the following tasks, so that nothing is left to deliver.
    """
    from .extension import extension_of

    runtime = extension_of().runtime
    for job_id in job_ids:
        try:
            _end(runtime, runtime.job(job_id, launch_id), why, generation=generation, is_told=is_told)
        except JobNotFound:
            # Not a job, or one that was removed.
            continue
        except Exception as error:
            _LOG.warning(
                "job %s: could not record that it is %s: %s", job_id, why.lower(), error, extra=fields_of(job_id)
            )


def _end(runtime: Runtime, job: CachedJob, why: str, *, generation: int | None, is_told: bool) -> None:
    number = job.ledger.latest_generation() if generation is None else generation
    job = runtime.open(job.id, job.intent, number)
    status, step, reason = _FAILURES[why]
    current = conclude(runtime, job, status, Failure(step, why, reason), deliver=not is_told)
    if is_told:
        job.ledger.write_delivered(Note(by=new_token()))
    # The job may have had another outcome before.
    if Failure.read(current.failure) == Failure(step, why, reason):
        _LOG.info("job %s is %s: %s", job.id, current.status, reason, extra=fields_of(job.id))


def _run_in_pool(app: Celery, job_ids: list[str], why: str, **options: Any) -> None:
    """Have the worker's pool call `record_end`. Does nothing outside of a worker."""
    pool = getattr(getattr(app, ATTRIBUTE, None), "pool", None)
    if pool is None:
        return
    try:
        pool.on_apply(record_end, (job_ids, why), options, callback=_ignore_result, waitforslot=False)
    except Exception as error:
        _LOG.warning("jobs %.200s: could not record that they are %s: %s", job_ids, why.lower(), error)


def _ignore_result(*_: Any) -> None:
    """Do nothing when the pool is done."""


def _extend_revoke(command: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a worker's control command `revoke`, so that it also ends the jobs of those ids."""

    @functools.wraps(command)
    def revoke(state: Any, task_id: Any, *args: Any, **kwargs: Any) -> Any:
        answer = command(state, task_id, *args, **kwargs)
        ids = [task_id] if isinstance(task_id, str) else list(task_id or ())
        job_ids = sorted(filter(is_id, ids))
        if job_ids:
            _run_in_pool(state.app, job_ids, REVOKED)
        return answer

    revoke.of_fanout = True  # type: ignore[attr-defined]
    return revoke


if not getattr(Panel.data["revoke"], "of_fanout", False):
    Panel.data["revoke"] = _extend_revoke(Panel.data["revoke"])


@task_revoked.connect
def _on_task_revoked(sender: Any = None, request: Any = None, expired: bool = False, **_: Any) -> None:
    """End the job of a message that a worker has discarded, or whose step it has stopped."""
    step = getattr(sender, "step", None)
    if step not in ("setup", "process", "join") or not hasattr(sender, "fanout_task"):
        return
    why = "Expired" if expired else REVOKED
    try:
        config = getattr(sender.app, ATTRIBUTE).config
        check_request(sender.name, request, config, args=request.args, kwargs=request.kwargs)
        job_id, launch_id, generation = read_address(step, request.id, request.args, request.kwargs)
    except ValueError as error:
        _LOG.warning("%s: dropped a message that fanout did not send: %s", sender.name, error)
        return
    _run_in_pool(sender.app, [job_id], why, launch_id=launch_id, generation=generation, is_told=step != "process")
