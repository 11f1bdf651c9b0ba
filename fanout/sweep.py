"""Finds jobs that have stalled and moves them; removes old ones. Anybody may sweep, at any time, twice.

A job has stalled when nothing of it was written for `stall_s` and nobody beats for the step that should be running.
Each nudge doubles the time to the next one, so a job that merely waits in a long queue is sent again a few times and
not a thousand. All times are the store's: no decision rests on two clocks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from storage import CorruptObject, ObjectInfo, ObjectNotFound

from . import removal
from .errors import BrokerUnavailable, JobNotFound
from .records.failure import Failure
from .records.keys import job_prefix, launch_of, new_token, split_generation
from .records.ledger import job_ids, read_intent
from .records.models import Intent, Manifest, Note, OutcomeStatus
from .runtime import CachedJob, Runtime
from .stages import awaits_setup, conclude, fail_if_overdue, send_again, start_join
from .stages.barrier import Completion, completion_of

_LOG = logging.getLogger("fanout")

SHARED = ("continuation", "manifest")
"""Records that all rounds of a launch share."""


class Move(StrEnum):
    """What a sweep did to a job."""

    NONE = "none"
    SETUP_SENT = "setup sent again"
    CHUNKS_SENT = "missing chunks sent again"
    JOIN_SENT = "join sent"
    OUTCOME_SENT = "outcome sent again"
    FAILED = "failed"
    REMOVED = "removed"
    UNREADABLE = "unreadable"


@dataclass(slots=True)
class _LaunchListing:
    """What one listing of a launch tells. Times are seconds since the epoch by the store's clock, 0 for never."""

    generation: int = 0
    written_at: dict[str, float] = field(default_factory=dict)
    heartbeats: dict[str, float] = field(default_factory=dict)
    resends: int = 0
    progress_at: float = 0.0

    @classmethod
    def of(cls, objects: list[ObjectInfo]) -> _LaunchListing:
        """What the objects of a launch tell of its latest round, and of what all rounds share."""
        generations: dict[int, _LaunchListing] = {0: cls()}
        for found in objects:
            number, name = split_generation(launch_of(found.key)[1])
            generations.setdefault(number, cls(number))._add(name, found)
        first = generations[0]
        # What is under way for a round that was never started, or whose start was removed, says nothing.
        started = [number for number, listing in generations.items() if number == 0 or "start" in listing.written_at]
        latest = generations[max(started)]
        if latest is not first:
            latest.written_at |= {name: first.written_at[name] for name in SHARED if name in first.written_at}
            latest.progress_at = max(latest.progress_at, first.progress_at)
        return latest

    def _add(self, name: str, found: ObjectInfo) -> None:
        at = found.modified.timestamp()
        kind, _, rest = name.partition("/")
        if kind == "heartbeats":
            self.heartbeats[rest] = at
            return
        if kind == "resends":
            self.resends += 1
        elif not rest:
            self.written_at[kind] = at
        self.progress_at = max(self.progress_at, at)


@dataclass(frozen=True, slots=True)
class _Found:
    """What the store holds below one job id.

    Attributes:
        job_id: The id.
        intent: The intent of the launch that counts; None if there is none.
        listing: What is known of that launch.
        leftovers: Objects of other launches, which are gone.
    """

    job_id: str
    intent: Intent | None
    listing: _LaunchListing
    leftovers: list[ObjectInfo]

    @classmethod
    def of(cls, runtime: Runtime, job_id: str) -> _Found:
        """One request for 1,000 objects, and one for the intent."""
        launches: dict[str, list[ObjectInfo]] = {}
        # The intent first: a launch that begins after the listing must not be taken for one that is gone.
        try:
            intent = read_intent(runtime.store, job_id)
        except JobNotFound:
            intent = None
        launched_at = 0.0
        for info in runtime.store.list(job_prefix(job_id)):
            launch_id, name = launch_of(info.key)
            if launch_id:
                launches.setdefault(launch_id, []).append(info)
            elif name == "intent":
                launched_at = info.modified.timestamp()
        listing = _LaunchListing.of(launches.pop(intent.launch_id, []) if intent is not None else [])
        listing.progress_at = max(listing.progress_at, launched_at)
        return cls(job_id, intent, listing, [info for infos in launches.values() for info in infos])


def sweep_job(runtime: Runtime, job_id: str) -> Move:
    """Move one job if it has stalled, end it if its deadline has passed.

    The intent and one listing of the job, and nothing else while it goes well.

    Raises:
        JobNotFound: The store has no such job.
    """
    return _moved(runtime, _Found.of(runtime, job_id))


def _moved(runtime: Runtime, found: _Found) -> Move:
    listing, intent = found.listing, found.intent
    if intent is None:
        raise JobNotFound(found.job_id, runtime.store.url)
    if "delivered" in listing.written_at:
        return Move.NONE
    job = runtime.open(found.job_id, intent, listing.generation)
    if "outcome" not in listing.written_at and fail_if_overdue(runtime, job):
        return Move.FAILED
    now = runtime.now()
    quiet_s = now - max(listing.progress_at, job.intent.not_before or 0.0)
    if quiet_s < runtime.config.stall_s * 2**listing.resends:
        return Move.NONE
    return _Stalled(runtime, job, listing, now).move()


class _Stalled:
    """A job in which nothing has been written for long."""

    def __init__(self, runtime: Runtime, job: CachedJob, listing: _LaunchListing, now: float) -> None:
        self._runtime = runtime
        self._job = job
        self._listing = listing
        self._now = now
        self._token = new_token()

    def move(self) -> Move:
        if "outcome" in self._listing.written_at:
            unbegun = "continuation" not in self._listing.written_at and awaits_setup(self._runtime, self._job)
            return self._setup() if unbegun else self._join(Move.OUTCOME_SENT)
        manifest = self._job.manifest()
        if manifest is None:
            return self._setup()
        combines = self._job.intent.combines
        completion = completion_of(self._job.ledger, manifest, combines=combines, by=self._token)
        return self._chunks(manifest, completion) if completion.due else self._join(Move.JOIN_SENT)

    def _setup(self) -> Move:
        if self._is_at_work("setup"):
            return Move.NONE
        intent = self._job.intent
        if intent.caller_parameters:
            names = ", ".join(intent.caller_parameters)
            reason = f"the process that had {names} is gone, and its input with it: submit again"
            conclude(self._runtime, self._job, OutcomeStatus.FAILED, Failure("setup", "CallerLost", reason))
            return Move.FAILED
        unbegun = "continuation" not in self._listing.written_at
        if unbegun and self._job.expires_at is not None and self._now > self._job.expires_at:
            if self._job.ledger.continuation() is not None:
                # A worker has begun it since the listing, which may be old by now.
                return Move.NONE
            failure = Failure("setup", "Expired", "its message expired before a worker took it")
            conclude(self._runtime, self._job, OutcomeStatus.FAILED, failure)
            return Move.FAILED
        if self._take_resend():
            self._runtime.dispatcher.send_setup(
                self._job.id, intent, generation=self._job.generation, resent=not unbegun
            )
            return Move.SETUP_SENT
        return Move.NONE

    def _chunks(self, manifest: Manifest, completion: Completion) -> Move:
        idle = [chunk for chunk, step in completion.due.items() if not self._is_at_work(step)]
        if not idle or not self._take_resend():
            return Move.NONE
        sent = send_again(self._runtime, self._job, manifest, idle)
        return Move.CHUNKS_SENT if sent else Move.FAILED

    def _join(self, move: Move) -> Move:
        if self._is_at_work("join") or not self._take_resend():
            return Move.NONE
        start_join(self._runtime, self._job, resent=True)
        return move

    def _is_at_work(self, step: str) -> bool:
        return self._now - self._listing.heartbeats.get(step, 0.0) < self._runtime.config.stall_s

    def _take_resend(self) -> bool:
        """Take the next nudge, so that of several sweeps one moves the job."""
        return self._job.ledger.write_resend(self._listing.resends, Note(by=self._token))


def sweep(runtime: Runtime) -> Iterator[tuple[str, Move]]:
    """Sweep every job in the store, and remove those whose outcome is older than `retention_s`.

    Three requests a job to find it and to look at it, and those of `sweep_job`. A job that can't be read is logged and
    passed by, and so is whatever lies in the store that is not fanout's. Yields each job's id and what was done to it.
    """
    unreadable = False
    for job_id in job_ids(runtime.store):
        try:
            yield job_id, _removed_or_moved(runtime, job_id)
        except JobNotFound:
            # Another sweep has just removed it.
            yield job_id, Move.NONE
        except (CorruptObject, ObjectNotFound, ValueError) as error:
            unreadable = True
            _LOG.warning("job %s: could not be swept: %s", job_id, error)
            yield job_id, Move.UNREADABLE
    if not unreadable:
        # Parameters are shared by content. Two launches may use one that neither has written down yet.
        removal.remove_old_parameters(runtime.store, before=runtime.now() - 2 * runtime.config.retention_s)


def _removed_or_moved(runtime: Runtime, job_id: str) -> Move:
    found = _Found.of(runtime, job_id)
    limit = runtime.now() - runtime.config.retention_s
    old = [info for info in found.leftovers if info.modified.timestamp() < limit]
    removed = removal.remove_leftovers(runtime.store, old) if old else 0
    ended_at = found.listing.written_at.get("outcome")
    if found.intent is not None and ended_at is not None and ended_at < limit:
        runtime.remove(job_id, found.intent.launch_id)
        return Move.REMOVED
    if found.intent is None:
        return Move.REMOVED if removed else Move.NONE
    return _moved(runtime, found)


class Sweeping:
    """The sweeps of a caller that waits, one at a time and beside it: a broker that is down must not hold it up."""

    def __init__(self, runtime: Runtime, job_id: str) -> None:
        self._runtime = runtime
        self._job_id = job_id
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def start(self) -> None:
        """Sweep, unless the last sweep is still at it."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="fanout-sweep", daemon=True)
            self._thread.start()

    def check(self) -> None:
        """Raise what a sweep raised."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            sweep_job(self._runtime, self._job_id)
        except BrokerUnavailable as error:
            # The outcome may come all the same; a later sweep sends what this one could not.
            _LOG.warning("job %s: could not be moved: %s", self._job_id, error)
        except Exception as error:
            self._error = error
