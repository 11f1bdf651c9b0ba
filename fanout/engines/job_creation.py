"""The creation of a job and the undoing of its launch, whichever engine runs it."""

from __future__ import annotations

from dataclasses import asdict

from storage import decode, digest

from ..cached_job import CachedJob
from ..config.settings import Options
from ..errors import JobConflict
from ..records.failure import Failure
from ..records.index import delete_hints, launch_entries
from ..records.ledger import Ledger, write_intent
from ..records.models import Intent
from ..runtime import Runtime

CALLER_STOPPED = "CallerStopped"
"""Error name in the outcome of a job whose caller stopped during setup, and recorded that."""


def create_job(runtime: Runtime, job_id: str, intent: Intent) -> tuple[CachedJob, bool]:
    """Create a job by writing its intent. Idempotent: a second call with the same job returns the first one's.

    The requests of `Runtime.launch`. If the job of this id lost its caller before all its input was stored, a new job
    replaces it.

    Args:
        runtime: The store. The runtime caches the job.
        job_id: The id.
        intent: The record that describes the job.

    Returns:
        The job, and whether this call created it. False if the same job was launched before under this id.

    Raises:
        JobConflict: Another job has this id. Names the differences.
    """
    job = runtime.launch(job_id, intent)
    if job.launch_id != intent.launch_id and _is_abandoned(job):
        runtime.remove(job_id, job.launch_id)
        job = runtime.launch(job_id, intent)
    if job.launch_id == intent.launch_id:
        return job, True
    differences = _compare(job.intent, intent)
    if differences:
        raise JobConflict(job_id, differences)
    return job, False


def has_begun(ledger: Ledger) -> bool:
    """Return whether a worker has taken up a job that was launched. One request."""
    return next(iter(ledger.objects()), None) is not None


def withdraw(job: CachedJob) -> bool:
    """Undo the launch of a job whose message was not sent, unless a worker has taken it up. Four requests.

    A worker that has the message writes an object of the job before it reads the intent. If this call sees no such
    object after it has deleted the intent, the worker does not see the intent, and drops the message.

    Args:
        job: A job that this process has just created.

    Returns:
        Whether the launch is undone: the intent is deleted, and the job never runs.
    """
    store = job.ledger.store
    if has_begun(job.ledger):
        return False
    store.delete([job.ledger.keys.intent])
    if has_begun(job.ledger):
        write_intent(store, job.id, job.intent)
        return False
    delete_hints(store, launch_entries(job.id, job.launch_id, job.intent.tags))
    return True


def _is_abandoned(job: CachedJob) -> bool:
    """Return whether a job ended because its caller did not finish its launch. Two requests, for a stream."""
    if not job.intent.caller_parameters:
        return False
    outcome = job.ledger.outcome()
    failure = Failure.read(outcome.failure) if outcome is not None else None
    return failure is not None and (failure.error == CALLER_STOPPED or job.manifest() is None)


def _compare(existing: Intent, wanted: Intent) -> list[str]:
    """List how a launch differs from the existing job. Never shows the value of a parameter."""
    if existing.task != wanted.task:
        return [f"its task is {existing.task}, not {wanted.task}"]
    differences = []
    existing_digests, wanted_digests = _digest_parameters(existing), _digest_parameters(wanted)
    for name in sorted(existing_digests.keys() | wanted_digests.keys()):
        if existing_digests.get(name) != wanted_digests.get(name):
            differences.append(f"its parameter {name!r} has another value")
    for name in sorted(set(existing.caller_parameters) ^ set(wanted.caller_parameters)):
        holder = "is" if name in existing.caller_parameters else "is not"
        differences.append(f"its parameter {name!r} {holder} kept by the caller")
    if existing.tags != wanted.tags:
        differences.append(f"its tags are {existing.tags!r:.200}, not {wanted.tags!r:.200}")
    existing_options, wanted_options = (asdict(Options().replace(each.options)) for each in (existing, wanted))
    for name, value in wanted_options.items():
        existing_value = existing_options[name]
        if (type(existing_value), existing_value) != (type(value), value):
            differences.append(f"its option {name} is {existing_value!r}, not {value!r}")
    return differences


def _digest_parameters(intent: Intent) -> dict[str, str]:
    """Return the digest of each parameter, whether it is inline or an object of its own."""
    inline: dict[str, bytes] = decode(intent.inline)
    return {name: digest(body) for name, body in inline.items()} | dict(intent.references)
