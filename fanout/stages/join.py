"""Join: once every chunk has its result, runs the user's join and writes the outcome."""

from __future__ import annotations

import logging
import time
from typing import Any

from .._storage import CorruptObject, decode, encode
from ..barrier import missing_chunks
from ..effort import Effort
from ..errors import FanoutError, JobNotFound
from ..failure import Failure
from ..keys import new_token
from ..ledger import Ledger
from ..records import Ending, Manifest, Note, Outcome
from ..results import Results
from ..runtime import OpenJob, Runtime
from .ending import is_passing
from .tries import Tries
from .watch import Watch

_LOG = logging.getLogger("fanout")


def run_join(
    runtime: Runtime, job_id: str, *, again: bool = False, redelivered: bool = False, retried: bool = False
) -> Outcome | None:
    """Bring the job to its outcome. Of those who are told to, one does.

    Args:
        runtime: Store, settings, carrier.
        job_id: The job.
        again: Whether an earlier join is believed to be lost, so that its claim does not count.
        redelivered: Whether the broker has delivered the message before; then its first receiver is gone.
        retried: Whether the store failed an earlier run for this message, so that the claim may be its own.

    Returns:
        The outcome, for the caller to deliver; None if that is somebody else's to do, or was done.

    Raises:
        StorageError: The store does not answer; running the join again, `retried`, is safe.
    """
    try:
        job = runtime.job(job_id)
    except JobNotFound:
        _LOG.info("job %s is gone; its join dropped", job_id)
        return None
    ledger = job.ledger
    outcome = ledger.outcome()
    manifest = None
    token = new_token()
    if outcome is None:
        manifest = job.manifest()
        if manifest is None or missing_chunks(ledger, manifest, by=token):
            _LOG.warning("job %s: asked to join, but chunks are missing; ignored", job_id)
            return None
    if not ledger.claim(Note(by=token)) and not (again or redelivered or retried):
        return None
    if (again or redelivered or retried) and ledger.delivered():
        return None
    if outcome is None and manifest is not None:
        outcome = ledger.write_outcome(_outcome(runtime, job, manifest, token, lost=again or redelivered))
    return outcome


def _outcome(runtime: Runtime, job: OpenJob, manifest: Manifest, token: str, *, lost: bool) -> Outcome:
    """Run the user's join; `lost` says that an earlier run of it is believed dead."""
    tries = Tries(job.ledger, "join")
    task = job.intent.task
    started_at = time.time()
    if not tries.admit(redelivered=lost, suspicious=False, limit=job.options.max_attempts):
        failure = tries.verdict(step="join")
    else:
        binding = job.declaration.binding
        try:
            parameters = job.parameters(binding.parameters_for(binding.join))
            _refuse_failed_chunks(job.ledger, manifest.attempt)
            with Watch(job.ledger, "join", stall_s=runtime.config.stall_s, by=token):
                value = binding.call_join(results_of(job.ledger, manifest), parameters)
                body = encode(value, default=_results_as_list)
            effort = Effort.since(started_at).to_row()
            return Outcome(ending=Ending.SUCCEEDED, task=task, effort=effort, value=body)
        except ChunkFailed as error:
            failure = error.failure
        except Exception as error:
            if is_passing(error):
                raise
            runtime.on_error(error)
            failure = Failure.of("join", error, tries=tries.number)
    return Outcome(ending=Ending.FAILED, task=task, effort=Effort.since(started_at).to_row(), failure=failure)


def _refuse_failed_chunks(ledger: Ledger, attempt: str) -> None:
    """Raise ChunkFailed if a chunk has failed, whether or not the user's join would come across it. One listing."""
    for chunk in ledger.tries_by_chunk(attempt):
        result = ledger.result(attempt, chunk)
        if result is not None and result.failed is not None:
            raise ChunkFailed(result.failed)


class ChunkFailed(FanoutError):
    """A chunk whose result is wanted has failed."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure)


def chunk_values(ledger: Ledger, attempt: str, chunk: int) -> list[Any]:
    """The results of one chunk. One request.

    Raises:
        ChunkFailed: It has none.
        CorruptObject: It is missing or damaged, although a listing showed it.
    """
    result = ledger.result(attempt, chunk)
    key = ledger.keys.result(attempt, chunk)
    if result is None:
        raise CorruptObject(f"{key} was listed but is not there: was it deleted?", key=key)
    if result.failed is not None:
        raise ChunkFailed(result.failed)
    values: list[Any] = decode(result.values, key=key)
    if len(values) != result.items:
        raise CorruptObject(f"{key} holds {len(values)} results for {result.items} items", key=key)
    return values


def results_of(ledger: Ledger, manifest: Manifest) -> Results:
    """The results of a complete job, lazily."""

    def first_items() -> list[int]:
        shards = (ledger.shard(manifest, shard) for shard in range(len(manifest.shards) or 1))
        return [place.first_item for shard in shards for place in shard.places]

    return Results(
        manifest.chunks,
        manifest.items,
        lambda chunk: chunk_values(ledger, manifest.attempt, chunk),
        first_items,
    )


def _results_as_list(value: object) -> object:
    """A join that returns what it was given means the list of it."""
    if isinstance(value, Results):
        return list(value)
    raise TypeError(f"{type(value).__name__} can't travel")
