"""Retries of jobs: a job that has ended runs what failed or is missing, under the same id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from heapq import merge
from typing import Any

from storage import ObjectNotFound

from .cached_job import CachedJob
from .config.settings import Options
from .errors import ConfigError, JobNotFound, RetryRefused
from .records.ids import new_token
from .records.keys import parameter_key
from .records.models import Generation, Manifest
from .runtime import Runtime
from .stages import send_missing
from .stages.barrier import completion_of
from .stages.resend import by_shard

CHANGEABLE = ("max_attempts", "tolerate", "min_success", "deadline_s")
"""Options that a retry may change. The others concern the chunks, which exist already."""


def start_generation(
    runtime: Runtime, job_id: str, *, launch_id: str | None = None, changes: Mapping[str, Any]
) -> bool:
    """Start the next generation of a job that has ended, and send the messages for what it lacks.

    Of several callers one starts it. If that caller dies before it has sent all messages, a sweep sends the rest.

    Args:
        runtime: Store, settings and dispatcher.
        job_id: The job.
        launch_id: The launch to retry; None for the one that counts now.
        changes: Changes to the job's options; see `CHANGEABLE`.

    Returns:
        Whether this call started a generation. False if the job has not ended, or another caller has started one.

    Raises:
        JobNotFound: The store has no such job.
        RetryRefused: The job has succeeded without a failed item, or its input is gone.
        ConfigError: An option can't be changed, or is out of range.
    """
    # Not from the cache: the job may have been removed.
    job = runtime.job(job_id)
    if launch_id not in (None, job.launch_id):
        raise JobNotFound(job_id, runtime.store.url)
    job = runtime.open(job_id, job.intent, job.ledger.latest_generation())
    options = _change_options(job.options, changes)
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


def _change_options(options: Options, changes: Mapping[str, Any]) -> Options:
    """Return the options of the next generation.

    Raises:
        ConfigError: An option can't be changed, or is out of range.
    """
    refused = sorted(set(changes) - set(CHANGEABLE))
    if refused:
        raise ConfigError(f"a retry can't change {', '.join(refused)}; it can change {', '.join(CHANGEABLE)}")
    # Setting one of the two unsets the other.
    opposites = {"tolerate": "min_success", "min_success": "tolerate"}
    unset = {opposites[name]: None for name in changes if name in opposites and changes[name] is not None}
    return options.replace({**unset, **changes})


def _check_input(job: CachedJob) -> None:
    """Refuse a job whose input is gone. One request per large parameter, and one per 1,000 packs."""
    intent, manifest = job.intent, job.manifest()
    if intent.receives is not None:
        raise RetryRefused(job.id, f"its value for {intent.receives!r} was refused: launch it again")
    if manifest is None and intent.caller_parameters:
        raise RetryRefused(
            job.id,
            f"its caller had {', '.join(intent.caller_parameters)} and did not complete setup: "
            "submit it again under another id",
        )
    keys = [parameter_key(content) for content in intent.references.values()]
    for key in keys:
        try:
            job.ledger.store.head(key)
        except ObjectNotFound as error:
            raise _input_gone(job, key) from error
    if manifest is not None:
        _check_packs(job, manifest)


def _check_packs(job: CachedJob, manifest: Manifest) -> None:
    """Refuse a job if a pack of a chunk that must run is gone."""
    # A chunk with failed items in the ended generation runs again in the next one.
    ledger = job.ledger
    completion = completion_of(ledger, manifest, combines=job.intent.combines)
    chunks = merge(completion.missing, completion.landed.failed)
    stored = {info.key for info in ledger.store.list(ledger.keys.packs(manifest.setup_id))}
    for key in _packs(job, manifest, chunks):
        if key not in stored:
            raise _input_gone(job, key)


def _packs(job: CachedJob, manifest: Manifest, chunks: Iterable[int]) -> Iterable[str]:
    """Yield the keys of the packs that hold these chunks, which ascend. Holds one index shard.

    Raises:
        RetryRefused: An index shard is gone.
    """
    for shard, wanted in by_shard(chunks):
        key = job.ledger.keys.index(manifest.setup_id, shard)
        try:
            record = job.ledger.shard(manifest, shard)
        except ObjectNotFound as error:
            raise _input_gone(job, key) from error
        yield from sorted(
            {
                job.ledger.keys.pack(manifest.setup_id, location.slice_.pack)
                for first, location in record.batches.items()
                if not wanted.isdisjoint(range(first, first + len(location.sizes)))
            }
        )


def _input_gone(job: CachedJob, key: str) -> RetryRefused:
    return RetryRefused(job.id, f"its input {key} is no longer in the store: submit it again")
