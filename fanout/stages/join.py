"""Join: once every chunk has its result, runs the user's join and writes the outcome."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import replace

from storage import encode

from ..errors import JobNotFound
from ..records.failure import FailedItem, Failure
from ..records.keys import new_token
from ..records.models import Manifest, Outcome, OutcomeStatus
from ..records.run_stats import RunStats
from ..results import Results
from ..runtime import CachedJob, Runtime
from .attempts import Admission, Attempts, overran
from .barrier import Completion, completion_of
from .claim import claim_join
from .delivery import FIRST, Delivery
from .failure_summary import FailureSummary, too_many
from .heartbeat import Heartbeat
from .result_reader import ChunkFailed, join_results

_LOG = logging.getLogger("fanout")


def run_join(
    runtime: Runtime,
    job_id: str,
    *,
    launch_id: str | None = None,
    generation: int = 0,
    delivery: Delivery = FIRST,
    token: str | None = None,
    held: Collection[str] = (),
) -> Outcome | None:
    """Bring the job to its outcome. Of those who are told to, one does.

    Args:
        runtime: Store, settings, carrier.
        job_id: The job.
        launch_id: Which launch of that id is meant; None for the one that counts.
        resent: Whether a sweep believes an earlier join to be lost. Its claim does not count if it is.
        redelivered: Whether the broker has delivered the message before; then its first receiver is gone.
        token: Who runs it; another for each run.
        held: Tokens of earlier runs for this message that the store failed, so that the claim may be its own.
        generation: The job's round; if a later one has begun, this one's outcome is of no interest any more.
        overran_s: The time limit at which an earlier run for this message was stopped, if one was.
        requeued: Whether an earlier run for this message was stopped because its worker shut down.

    Returns:
        The outcome, for the caller to deliver; None if that is somebody else's to do, or was done.

    Raises:
        StorageError: The store does not answer; running the join again, with the token among those `held`, is safe.
    """
    try:
        job = runtime.job(job_id, launch_id, generation)
    except JobNotFound:
        _LOG.info("job %s is gone; its join dropped", job_id)
        return None
    ledger = job.ledger
    outcome = ledger.outcome()
    manifest = completion = None
    token = token or new_token()
    if outcome is None:
        manifest = job.manifest()
        completion = (
            completion_of(ledger, manifest, combines=job.intent.combines, by=token) if manifest is not None else None
        )
        if completion is None or completion.due:
            _LOG.warning("job %s: asked to join, but chunks are missing; ignored", job_id)
            return None
    elif ledger.is_superseded():
        return None
    gone = delivery.is_lost or delivery.requeued
    claim = claim_join(
        ledger,
        token=token,
        resent=delivery.resent,
        gone=gone,
        held=held,
        stall_s=runtime.config.stall_s,
        now=runtime.now,
    )
    if claim is None:
        return None
    with claim.held(ledger, by=token):
        if claim.number and ledger.is_delivered():
            return None
        if outcome is None and claim.number:
            # Whoever held the claim before may have written one since we looked.
            outcome = ledger.outcome()
        if outcome is not None or manifest is None or completion is None:
            return outcome if _is_there(job) else None
        attempts = Attempts(ledger, "join", by=token, now=runtime.now)
        admission = attempts.admit(
            Delivery(redelivered=claim.lost and not delivery.requeued, resumed=claim.number > 0),
            limit=job.options.max_attempts,
            why=overran("join", delivery.overran_s),
        )
    if admission is Admission.LEAVE:
        # The worker that was believed dead goes on after all, and has just begun another try.
        return None
    lost = None
    if admission is Admission.GIVE_UP:
        lost = attempts.verdict(step="join", silent_s=None if gone else runtime.config.stall_s)
    # That an earlier holder was lost is on record now.
    with replace(claim, lost=False).held(ledger, by=token):
        made = _outcome(runtime, job, manifest, completion, token, attempts=attempts.count, lost=lost)
        outcome = ledger.write_outcome(made)
        if not _is_there(job):
            return None
    if outcome.stats != made.stats and (ledger.is_delivered() or ledger.is_superseded()):
        _LOG.info("job %s: its join took so long that another one has delivered the outcome", job_id)
        return None
    return outcome


def _is_there(job: CachedJob) -> bool:
    """Whether the job has not been removed meanwhile. One request.

    A second message for its join finds the claim gone with all else. What it would deliver belongs to no job any more,
    or, under the same Celery task id, to the one that has the id now.
    """
    try:
        job.ledger.intent()
    except JobNotFound:
        _LOG.info("job %s was removed while its join ran; nothing is delivered", job.id)
        return False
    return True


def _outcome(
    runtime: Runtime,
    job: CachedJob,
    manifest: Manifest,
    completion: Completion,
    token: str,
    *,
    attempts: int,
    lost: Failure | None,
) -> Outcome:
    """What the user's join makes of the results, in its so many-th try; nothing if it was `lost` too often."""
    task = job.intent.task
    started_at = time.time()
    summary = FailureSummary.of(job, manifest.setup_id, completion.landed, failed=sum(completion.top.values()))
    failure = lost
    if failure is None:
        binding = job.declaration.binding
        try:
            parameters = job.parameter_values(binding.parameters_for(binding.join))
            _refuse_failed(job, manifest, completion, summary)
            with Heartbeat(runtime.timers, job.ledger, "join", stall_s=runtime.config.stall_s, by=token):
                results = join_results(job.ledger, manifest, completion, combines=job.intent.combines)
                value = binding.call_join(results, parameters)
                body = encode(value, default=_plain, compression=job.options.compression)
            return Outcome(
                status=OutcomeStatus.SUCCEEDED,
                task=task,
                stats=RunStats.since(started_at).to_row(),
                value=body,
                failed=summary.failed,
                failures=list(summary.listed),
            )
        except ChunkFailed as error:
            failure = error.failure
        except BaseException as error:
            if runtime.is_interruption(error):
                raise
            runtime.on_error(error)
            failure = Failure.of("join", error, attempts=attempts)
    return Outcome(
        status=OutcomeStatus.FAILED,
        task=task,
        stats=RunStats.since(started_at).to_row(),
        failure=failure,
        failed=summary.failed,
        failures=list(summary.listed),
    )


def _refuse_failed(job: CachedJob, manifest: Manifest, completion: Completion, summary: FailureSummary) -> None:
    """Raise ChunkFailed if more items failed than may, whether or not the user's join would come across them."""
    if too_many(job, completion.top, manifest.items):
        excess = summary.excess(job, manifest.items)
        raise ChunkFailed(excess if job.options.policy.tolerant else summary.first or excess)


def _plain(value: object) -> object:
    """A join that returns what it was given means the list of it; a failed item travels as its fields."""
    if isinstance(value, Results):
        return list(value)
    if isinstance(value, FailedItem):
        return value.to_dict()
    raise TypeError(f"{type(value).__name__} can't travel")
