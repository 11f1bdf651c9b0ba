"""Join: once every chunk has its result, runs the user's join and writes the outcome."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from .._storage import CorruptObject, decode, encode
from ..barrier import standing_of
from ..effort import Effort
from ..errors import FanoutError, JobNotFound
from ..failure import FailedItem, Failure
from ..keys import new_token
from ..ledger import Ledger
from ..records import Ending, Manifest, Outcome
from ..results import Results
from ..runtime import OpenJob, Runtime
from .claim import claim_join
from .ending import is_passing
from .tally import Tally, too_many
from .tries import Admission, Tries, overran
from .watch import Watch

_LOG = logging.getLogger("fanout")


def run_join(
    runtime: Runtime,
    job_id: str,
    *,
    again: bool = False,
    redelivered: bool = False,
    token: str | None = None,
    held: Collection[str] = (),
    round: int = 0,
    overran_s: float | None = None,
    given_back: bool = False,
) -> Outcome | None:
    """Bring the job to its outcome. Of those who are told to, one does.

    Args:
        runtime: Store, settings, carrier.
        job_id: The job.
        again: Whether a sweep believes an earlier join to be lost. Its claim does not count if it is.
        redelivered: Whether the broker has delivered the message before; then its first receiver is gone.
        token: Who runs it; another for each run.
        held: Tokens of earlier runs for this message that the store failed, so that the claim may be its own.
        round: The job's round; if a later one has begun, this one's outcome is of no interest any more.
        overran_s: The time limit at which an earlier run for this message was stopped, if one was.
        given_back: Whether an earlier run for this message was stopped because its worker shut down.

    Returns:
        The outcome, for the caller to deliver; None if that is somebody else's to do, or was done.

    Raises:
        StorageError: The store does not answer; running the join again, with the token among those `held`, is safe.
    """
    try:
        job = runtime.job(job_id, round)
    except JobNotFound:
        _LOG.info("job %s is gone; its join dropped", job_id)
        return None
    ledger = job.ledger
    outcome = ledger.outcome()
    manifest = standing = None
    token = token or new_token()
    if outcome is None:
        manifest = job.manifest()
        standing = standing_of(ledger, manifest, by=token) if manifest is not None else None
        if standing is None or standing.missing:
            _LOG.warning("job %s: asked to join, but chunks are missing; ignored", job_id)
            return None
    elif ledger.superseded():
        return None
    redelivered = redelivered or overran_s is not None
    gone = redelivered or given_back
    claim = claim_join(ledger, token=token, again=again, redelivered=gone, held=held, stall_s=runtime.config.stall_s)
    if claim is None:
        return None
    with claim.held(ledger, by=token):
        if claim.number and ledger.delivered():
            return None
        if outcome is None and claim.number:
            # Whoever held the claim before may have written one since we looked.
            outcome = ledger.outcome()
        if outcome is not None or manifest is None or standing is None:
            return outcome
        tries = Tries(ledger, "join", by=token)
        admission = tries.admit(
            redelivered=claim.lost and not given_back,
            retried=claim.number > 0,
            limit=job.options.max_attempts,
            why=overran("join", overran_s),
        )
    if admission is Admission.LEAVE:
        # The worker that was believed dead goes on after all, and has just begun another try.
        return None
    lost = None
    if admission is Admission.GIVE_UP:
        lost = tries.verdict(step="join", silent_s=None if gone else runtime.config.stall_s)
    # That an earlier holder was lost is on record now.
    with replace(claim, lost=False).held(ledger, by=token):
        made = _outcome(runtime, job, manifest, standing.landed, token, tries=tries.count, lost=lost)
        outcome = ledger.write_outcome(made)
    if outcome.effort != made.effort and (ledger.delivered() or ledger.superseded()):
        _LOG.info("job %s: its join took so long that another one has delivered the outcome", job_id)
        return None
    return outcome


def _outcome(
    runtime: Runtime,
    job: OpenJob,
    manifest: Manifest,
    landed: dict[int, int],
    token: str,
    *,
    tries: int,
    lost: Failure | None,
) -> Outcome:
    """What the user's join makes of the results, in its so many-th try; nothing if it was `lost` too often."""
    task = job.intent.task
    started_at = time.time()
    tally = Tally.of(job, manifest.attempt, landed)
    failure = lost
    if failure is None:
        binding = job.declaration.binding
        try:
            parameters = job.parameters(binding.parameters_for(binding.join))
            _refuse_failed(job, manifest, landed, tally)
            with Watch(runtime.alarms, job.ledger, "join", stall_s=runtime.config.stall_s, by=token):
                value = binding.call_join(results_of(job.ledger, manifest, landed), parameters)
                body = encode(value, default=_plain, compression=job.options.compression)
            return Outcome(
                ending=Ending.SUCCEEDED,
                task=task,
                effort=Effort.since(started_at).to_row(),
                value=body,
                failed=tally.failed,
                failures=list(tally.listed),
            )
        except ChunkFailed as error:
            failure = error.failure
        except Exception as error:
            if is_passing(error):
                raise
            runtime.on_error(error)
            failure = Failure.of("join", error, tries=tries)
    return Outcome(
        ending=Ending.FAILED,
        task=task,
        effort=Effort.since(started_at).to_row(),
        failure=failure,
        failed=tally.failed,
        failures=list(tally.listed),
    )


def _refuse_failed(job: OpenJob, manifest: Manifest, landed: dict[int, int], tally: Tally) -> None:
    """Raise ChunkFailed if more items failed than may, whether or not the user's join would come across them."""
    if too_many(job, landed, manifest.items):
        excess = tally.excess(job, manifest.items)
        raise ChunkFailed(excess if job.options.policy.tolerant else tally.first or excess)


class ChunkFailed(FanoutError):
    """A chunk whose result is wanted has failed."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure)


def chunk_values(
    ledger: Ledger, attempt: str, chunk: int, *, failed: int | None = None, tolerant: bool = False
) -> list[Any]:
    """The results of one chunk, with a `FailedItem` in the place of each that failed. One request.

    Args:
        ledger: The job's records.
        attempt: The setup attempt that counts.
        chunk: Index of the chunk.
        failed: How many of its items failed; None if nobody knows, which costs another request.
        tolerant: Whether items may fail.

    Raises:
        ChunkFailed: Items failed that may not.
        CorruptObject: It is missing or damaged, although a listing showed it.
    """
    result = ledger.standing(attempt, chunk) if failed is None else ledger.result(attempt, chunk, failed)
    key = ledger.keys.bad_result(attempt, chunk, failed) if failed else ledger.keys.result(attempt, chunk)
    if result is None:
        raise CorruptObject(f"{key} was listed but is not there: was it deleted?", key=key)
    if result.failed is not None:
        if not tolerant:
            raise ChunkFailed(result.failed)
        return list(result.failed_items)
    values: list[Any] = decode(result.values, key=key)
    if len(values) != result.items:
        raise CorruptObject(f"{key} holds {len(values)} results for {result.items} items", key=key)
    for mark in result.failed_items:
        values[mark.item - result.first_item] = mark
    return values


def results_of(ledger: Ledger, manifest: Manifest, landed: dict[int, int]) -> Results:
    """The results of a complete job, lazily; `landed` says how many items of each chunk failed."""

    def first_items() -> list[int]:
        shards = (ledger.shard(manifest, shard) for shard in range(len(manifest.shards) or 1))
        return [place.first_item for shard in shards for place in shard.places]

    return Results(
        manifest.chunks,
        manifest.items,
        lambda chunk: chunk_values(ledger, manifest.attempt, chunk, failed=landed[chunk], tolerant=True),
        first_items,
        failed=sum(landed.values()),
    )


def _plain(value: object) -> object:
    """A join that returns what it was given means the list of it; a failed item travels as its fields."""
    if isinstance(value, Results):
        return list(value)
    if isinstance(value, FailedItem):
        return value.to_dict()
    raise TypeError(f"{type(value).__name__} can't travel")
