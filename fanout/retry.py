"""Runs a job that has ended once more, under the same id: only what failed or is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from storage import ObjectNotFound

from .config.settings import Options
from .errors import ConfigError, JobNotFound, RetryRefused
from .records.keys import SHARD_WIDTH, new_token, parameter_key
from .records.models import Generation, Manifest
from .runtime import CachedJob, Runtime
from .stages import send_missing
from .stages.barrier import completion_of

CHANGEABLE = ("max_attempts", "tolerate", "min_success", "deadline_s")
"""Options that a retry may change. The others say how the input was cut, and it is cut already."""


def start_generation(
    runtime: Runtime, job_id: str, *, launch_id: str | None = None, changes: Mapping[str, Any]
) -> bool:
    """Start the next round of a job that has ended, and send what it lacks.

    Of several callers one starts it. If that one dies before it has sent everything, a sweep sends the rest.

    Args:
        runtime: Store, settings, carrier.
        job_id: The job.
        launch_id: The launch that is meant; None for the one that counts now.
        changes: Changes to the job's options; see `CHANGEABLE`.

    Returns:
        Whether this call started it; False if the job has not ended, because somebody else did or nobody need to.

    Raises:
        JobNotFound: The store has no such job.
        RetryRefused: There is nothing to run again, or the input is gone.
        ConfigError: An option can't be changed, or is out of range.
    """
    # Not from what is at hand: the job may have been removed.
    job = runtime.job(job_id)
    if launch_id not in (None, job.launch_id):
        raise JobNotFound(job_id, runtime.store.url)
    job = runtime.open(job_id, job.intent, job.ledger.latest_generation())
    options = _changed(job.options, changes)
    outcome = job.ledger.outcome()
    if outcome is None:
        return False
    if outcome.final:
        raise RetryRefused(job_id, "it has succeeded, and no item failed")
    _check_input(job)
    now = runtime.now()
    start = Generation(
        by=new_token(),
        at=now,
        options=asdict(options),
        deadline_at=now + options.deadline_s if options.deadline_s is not None else None,
    )
    if not job.ledger.write_generation(job.generation + 1, start):
        return False
    send_missing(runtime, runtime.open(job_id, job.intent, job.generation + 1))
    return True


def _changed(options: Options, changes: Mapping[str, Any]) -> Options:
    refused = sorted(set(changes) - set(CHANGEABLE))
    if refused:
        raise ConfigError(f"a retry can't change {', '.join(refused)}; it can change {', '.join(CHANGEABLE)}")
    # Each of the two says it all, so the one that is given takes the place of the other.
    replaced = {"tolerate": "min_success", "min_success": "tolerate"}
    taken_back = {replaced[name]: None for name in changes if name in replaced and changes[name] is not None}
    return options.updated({**taken_back, **changes})


def _check_input(job: CachedJob) -> None:
    """Refuse a job whose input is not there any more. One request for each large parameter, one for 1,000 packs."""
    intent, manifest = job.intent, job.manifest()
    if intent.receives is not None:
        raise RetryRefused(job.id, f"the value that {intent.receives!r} was to receive was refused: launch it again")
    if manifest is None and intent.caller_parameters:
        raise RetryRefused(
            job.id,
            f"{', '.join(intent.caller_parameters)} was with its caller, who did not finish it: submit it again under "
            "another id",
        )
    keys = [parameter_key(content) for content in intent.references.values()]
    for key in keys:
        try:
            job.ledger.store.head(key)
        except ObjectNotFound as error:
            raise _gone(job, key) from error
    if manifest is not None:
        _check_packs(job, manifest)


def _check_packs(job: CachedJob, manifest: Manifest) -> None:
    # Also what failed in the round that has ended is missing in the next one.
    ledger = job.ledger
    completion = completion_of(ledger, manifest, combines=job.intent.combines, by=new_token())
    chunks = [*completion.missing, *(chunk for chunk, failed in completion.landed.items() if failed)]
    there = {found.key for found in ledger.store.list(ledger.keys.packs(manifest.setup_id))}
    for key in _packs(job, manifest, chunks):
        if key not in there:
            raise _gone(job, key)


def _packs(job: CachedJob, manifest: Manifest, chunks: Iterable[int]) -> Iterable[str]:
    """Keys of the packs that hold these chunks; also of the index objects that say so."""
    wanted = set(chunks)
    for shard in sorted({chunk // SHARD_WIDTH for chunk in wanted}):
        key = job.ledger.keys.index(manifest.setup_id, shard)
        try:
            record = job.ledger.shard(manifest, shard)
        except ObjectNotFound as error:
            raise _gone(job, key) from error
        places = enumerate(record.locations, start=record.first_chunk)
        yield from sorted(
            {job.ledger.keys.pack(manifest.setup_id, place.slice_.pack) for chunk, place in places if chunk in wanted}
        )


def _gone(job: CachedJob, key: str) -> RetryRefused:
    return RetryRefused(job.id, f"its input {key} is no longer in the store: submit it again")
