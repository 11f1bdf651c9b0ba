"""Join: once every chunk has its result, runs the user's join and writes the outcome."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import replace

from storage import encode

from ..abc import FIRST, Delivery
from ..cached_job import CachedJob
from ..errors import JobNotFound
from ..logs import fields_of
from ..records.failure import FailedItem, Failure, add_note
from ..records.ids import new_token
from ..records.ledger import Ledger
from ..records.models import Manifest, Outcome, OutcomeStatus
from ..results import Results
from ..runtime import Runtime
from .attempts import Admission, Attempts, explain_overrun
from .barrier import Completion, completion_of
from .claim import Claim, claim_join
from .failure_summary import FailureSummary, too_many_failed
from .heartbeat import Heartbeat
from .result_reader import ChunkFailed, join_results
from .step import in_step

_LOG = logging.getLogger(__name__)


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
    """Bring the job to its outcome. Of several workers that are sent the join, one runs it.

    Args:
        runtime: Store, settings and dispatcher.
        job_id: The job.
        launch_id: Launch of that job id; None for the latest.
        generation: The job's generation. Nothing happens in one that was superseded.
        delivery: Earlier runs for the same message, as far as they are known.
        token: Token of this run; None for a new one.
        held: Tokens of interrupted runs for this message, whose claim this run takes over.

    Returns:
        The outcome, for the caller to deliver; None if another worker delivers it or has delivered it.

    Raises:
        StorageError: The store does not answer. The join may safely run again, with the token among those `held`.
    """
    cached = runtime.cached(job_id, launch_id, generation)
    lacks_manifest = cached is None or cached.cached_manifest() is None
    read_outcome = runtime.begin(Ledger.outcome, job_id, launch_id, generation, early=lacks_manifest)
    read_manifest = runtime.begin(Ledger.manifest, job_id, launch_id, generation, early=lacks_manifest)
    try:
        job = runtime.job(job_id, launch_id, generation)
    except JobNotFound:
        _LOG.info("job %s does not exist any more; its join dropped", job_id, extra=fields_of(job_id, step="join"))
        return None
    ledger, token = job.ledger, token or new_token()
    outcome = read_outcome(ledger)
    if outcome is not None and ledger.is_superseded():
        return None
    complete = _read_if_complete(job, read_manifest) if outcome is None else None
    if outcome is None and complete is None:
        _LOG.warning(
            "job %s: received a join, but chunks are missing; ignored", job_id, extra=fields_of(job_id, step="join")
        )
        return None
    stall_s = runtime.config.stall_s
    claim = claim_join(ledger, token=token, delivery=delivery, held=held, stall_s=stall_s, now=runtime.now)
    if claim is None:
        return None
    with claim.record_if_interrupted(ledger, by=token):
        if claim.number and ledger.is_delivered():
            return None
        if outcome is None and claim.number:
            # An earlier holder of the claim may have written an outcome since this worker first asked.
            outcome = ledger.outcome()
        if outcome is not None or complete is None:
            return outcome if _exists(job) else None
    return _JoinRun(runtime, job, *complete, claim, token, delivery).run()


def _read_if_complete(
    job: CachedJob, read_manifest: Callable[[Ledger], Manifest | None]
) -> tuple[Manifest, Completion] | None:
    """Return what the store holds of a complete job; None if chunks or nodes are missing."""
    manifest = job.manifest(read_manifest)
    if manifest is None:
        return None
    completion = completion_of(job.ledger, manifest, combines=job.intent.combines)
    return None if completion.due else (manifest, completion)


def _exists(job: CachedJob) -> bool:
    """Return whether the job was not removed meanwhile. One request.

    A second message for the join of a removed job finds no claim. Its outcome belongs to no job any more, or, under the
    same Celery task id, to a later job with that id.
    """
    try:
        job.ledger.intent()
    except JobNotFound:
        _LOG.info(
            "job %s was removed while its join ran; nothing is delivered", job.id, extra=fields_of(job.id, step="join")
        )
        return False
    return True


class _JoinRun:
    """One run of the join of a complete job, by the holder of its claim."""

    def __init__(
        self,
        runtime: Runtime,
        job: CachedJob,
        manifest: Manifest,
        completion: Completion,
        claim: Claim,
        token: str,
        delivery: Delivery,
    ) -> None:
        self._runtime = runtime
        self._job = job
        self._manifest = manifest
        self._completion = completion
        self._claim = claim
        self._token = token
        self._delivery = delivery
        self._attempts = Attempts(job.ledger, "join", by=token, now=runtime.now)

    def run(self) -> Outcome | None:
        """Write the outcome. Returns it if this worker has to deliver it, else None."""
        ledger = self._job.ledger
        with self._claim.record_if_interrupted(ledger, by=self._token):
            admission = self._admit()
        if admission is Admission.LEAVE:
            # The worker that was believed dead is alive, and has just started another attempt.
            return None
        failure = None
        if admission is Admission.GIVE_UP:
            silent_s = None if self._delivery.is_holder_gone else self._runtime.config.stall_s
            failure = self._attempts.find_failure(step="join", silent_s=silent_s)
        # The attempts record by now that an earlier holder was lost.
        with replace(self._claim, lost=False).record_if_interrupted(ledger, by=self._token):
            made = self._make_outcome(failure)
            outcome = ledger.write_outcome(made)
            if outcome.stats == made.stats:
                self._runtime.telemetry.count_job(made.task, made.status)
            if not _exists(self._job):
                return None
        if outcome.stats != made.stats and (ledger.is_delivered() or ledger.is_superseded()):
            text = "job %s: its join took so long that another worker has delivered the outcome"
            _LOG.info(text, self._job.id, extra=fields_of(self._job.id, step="join"))
            return None
        return outcome

    def _admit(self) -> Admission:
        return self._attempts.admit(
            Delivery(redelivered=self._claim.lost and not self._delivery.requeued, resumed=self._claim.number > 0),
            limit=self._job.options.max_attempts,
            explain=explain_overrun("join", self._delivery.overran_s),
        )

    def _make_outcome(self, failure: Failure | None) -> Outcome:
        """Run the user's join and return its outcome; do not run it if there is a failure already."""
        started_at = time.time()
        failed = self._completion.top.failed_count
        summary = FailureSummary.of(self._job, self._manifest.setup_id, self._completion.landed, failed=failed)
        value = None
        if failure is None:
            try:
                value = self._join(summary)
            except ChunkFailed as error:
                failure = error.failure
            except BaseException as error:
                if self._runtime.is_interruption(error):
                    raise
                self._runtime.on_error(error)
                failure = Failure.of("join", error, attempts=self._attempts.count)
        return Outcome(
            status=OutcomeStatus.SUCCEEDED if failure is None else OutcomeStatus.FAILED,
            task=self._job.intent.task,
            stats=self._job.stats(started_at).to_row(),
            value=value,
            failure=failure,
            failed=summary.failed,
            failures=list(summary.listed),
        )

    def _join(self, summary: FailureSummary) -> bytes:
        """Return the encoded value of the user's join.

        Raises:
            ChunkFailed: More items failed than the job tolerates, even if the user's join would not read them.
        """
        job = self._job
        binding = job.declaration.binding
        if too_many_failed(job, self._completion.top, self._manifest.items):
            failure = summary.to_failure(job, self._manifest.items)
            raise ChunkFailed(failure if job.options.policy.tolerant else summary.first or failure)
        stall_s = self._runtime.config.stall_s
        with (
            in_step(self._runtime, job, "join", attempt=self._attempts.count, delivery=self._delivery),
            Heartbeat(self._runtime.timers, job.ledger, "join", stall_s=stall_s, by=self._token),
        ):
            parameters = job.parameter_values(binding.parameters_for(binding.join))
            results = join_results(job.ledger, self._manifest, self._completion, combines=job.intent.combines)
            try:
                value = binding.call_join(results, parameters)
            except Exception as error:
                if summary.failed and not job.intent.combines:
                    add_note(error, _describe_failed(summary.failed, self._manifest.items))
                raise
            return encode(value, default=_to_plain, compression=job.options.compression)


def _describe_failed(failed: int, items: int) -> str:
    """Return the note for an error of a join whose results are not all results of process."""
    return (
        f"{failed:,} of the {items:,} results of this join {'is a FailedItem' if failed == 1 else 'are FailedItem'}, "
        "because the job tolerates failures: results.good() yields the others, and results.failures() these"
    )


def _to_plain(value: object) -> object:
    """Return the plain form of a value that a join may return: `Results` as a list, a failed item as its fields."""
    if isinstance(value, Results):
        return list(value)
    if isinstance(value, FailedItem):
        return value.to_dict()
    raise TypeError(f"{type(value).__name__} cannot be encoded")
