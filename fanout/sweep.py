"""Sweeps: they move stalled jobs and remove old ones. Any process may sweep, at any time, also beside others.

To move a job is to resend its missing messages, or to end it. A job has stalled when none of its objects was written
for `stall_s`, and the step that should be running has no heartbeat. Each resend doubles the time to the next one. So a
job that only waits in a long queue is sent again a few times, not a thousand. All times are by the store's clock.
"""

from __future__ import annotations

import logging
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from storage import CorruptObject, ObjectInfo, ObjectNotFound

from . import removal
from .errors import BrokerUnavailable, JobNotFound
from .logs import fields_of
from .records.failure import Failure
from .records.keys import job_prefix, launch_of, new_token, process_step, split_generation
from .records.ledger import job_ids, read_intent
from .records.models import Intent, Manifest, Note, OutcomeStatus
from .runtime import CachedJob, Runtime
from .stages import awaits_setup, conclude, fail_if_overdue, send_again, start_join
from .stages.barrier import Completion, completion_of

_LOG = logging.getLogger(__name__)

SHARED = ("continuation", "manifest")
"""Records that all generations of a launch share."""


class Move(StrEnum):
    """The action of a sweep on one job."""

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
    """The state of a launch, as one listing shows it. Times are in seconds since the epoch by the store's clock.

    Attributes:
        generation: The latest generation.
        written_at: Name of each single record of it -> when it was written.
        heartbeats: Step -> when its last heartbeat was written.
        resends: Number of resends.
        progress_at: When any object but a heartbeat was last written; 0 for never.
    """

    generation: int = 0
    written_at: dict[str, float] = field(default_factory=dict)
    heartbeats: dict[str, float] = field(default_factory=dict)
    resends: int = 0
    progress_at: float = 0.0

    @classmethod
    def of(cls, objects: Iterable[ObjectInfo]) -> _LaunchListing:
        """Read the listing of a launch: its latest generation, and the records that all generations share."""
        generations: dict[int, _LaunchListing] = {0: cls()}
        for info in objects:
            number, name = split_generation(launch_of(info.key)[1])
            generations.setdefault(number, cls(number))._add(name, info)
        first = generations[0]
        # Objects of a generation without a start do not count: it never started, or its start was removed.
        started = [number for number, listing in generations.items() if number == 0 or "start" in listing.written_at]
        latest = generations[max(started)]
        if latest is not first:
            latest.written_at |= {name: first.written_at[name] for name in SHARED if name in first.written_at}
            latest.progress_at = max(latest.progress_at, first.progress_at)
        return latest

    def _add(self, name: str, info: ObjectInfo) -> None:
        at = info.modified.timestamp()
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
class _StoredJob:
    """The state of one job id in the store.

    Attributes:
        job_id: The id.
        intent: The intent of the launch that counts; None if there is none.
        listing: The listing of that launch.
        leftovers: Objects of other launches, which were removed.
    """

    job_id: str
    intent: Intent | None
    listing: _LaunchListing
    leftovers: list[ObjectInfo]

    @classmethod
    def of(cls, runtime: Runtime, job_id: str) -> _StoredJob:
        """Read the intent and list the objects of a job id. One request, and one per 1,000 objects.

        Memory: one page of the listing, and about 300 bytes for each heartbeat and each leftover.
        """
        # The intent first: else a launch that begins after the listing would count as removed.
        try:
            intent = read_intent(runtime.store, job_id)
        except JobNotFound:
            intent = None
        launched_at = 0.0
        leftovers: list[ObjectInfo] = []

        def list_launch() -> Iterator[ObjectInfo]:
            nonlocal launched_at
            for info in runtime.store.list(job_prefix(job_id)):
                launch_id, name = launch_of(info.key)
                if intent is not None and launch_id == intent.launch_id:
                    yield info
                elif launch_id:
                    leftovers.append(info)
                elif name == "intent":
                    launched_at = info.modified.timestamp()

        listing = _LaunchListing.of(list_launch())
        listing.progress_at = max(listing.progress_at, launched_at)
        return cls(job_id, intent, listing, leftovers)


def sweep_job(runtime: Runtime, job_id: str) -> Move:
    """Move one job if it has stalled; end it if its deadline has passed.

    Two requests if the job has not stalled: the intent and one listing.

    Raises:
        JobNotFound: The store has no such job.
    """
    return _move(runtime, _StoredJob.of(runtime, job_id))


def _move(runtime: Runtime, stored: _StoredJob) -> Move:
    """Move or end a job, if it has stalled or is overdue."""
    listing, intent = stored.listing, stored.intent
    if intent is None:
        raise JobNotFound(stored.job_id, runtime.store.url)
    if "delivered" in listing.written_at:
        return Move.NONE
    job = runtime.open(stored.job_id, intent, listing.generation)
    if "outcome" not in listing.written_at and fail_if_overdue(runtime, job):
        return Move.FAILED
    now = runtime.now()
    quiet_s = now - max(listing.progress_at, job.intent.not_before or 0.0)
    if quiet_s < runtime.config.stall_s * 2**listing.resends:
        return Move.NONE
    return _StalledJob(runtime, job, listing, now).move()


class _StalledJob:
    """A job without progress for its stall time."""

    def __init__(self, runtime: Runtime, job: CachedJob, listing: _LaunchListing, now: float) -> None:
        self._runtime = runtime
        self._job = job
        self._listing = listing
        self._now = now
        self._token = new_token()

    def move(self) -> Move:
        """Resend the messages of the job's next step, or end the job."""
        if "outcome" in self._listing.written_at:
            not_begun = "continuation" not in self._listing.written_at and awaits_setup(self._runtime, self._job)
            return self._move_setup() if not_begun else self._move_join(Move.OUTCOME_SENT)
        manifest = self._job.manifest()
        if manifest is None:
            return self._move_setup()
        combines = self._job.intent.combines
        completion = completion_of(self._job.ledger, manifest, combines=combines)
        return self._move_chunks(manifest, completion) if completion.due else self._move_join(Move.JOIN_SENT)

    def _move_setup(self) -> Move:
        if self._is_running("setup"):
            return Move.NONE
        intent = self._job.intent
        if intent.caller_parameters:
            names = ", ".join(intent.caller_parameters)
            reason = f"its caller had {names} and is gone, and the input with it: submit it again"
            conclude(self._runtime, self._job, OutcomeStatus.FAILED, Failure("setup", "CallerLost", reason))
            return Move.FAILED
        not_begun = "continuation" not in self._listing.written_at
        if not_begun and self._job.expires_at is not None and self._now > self._job.expires_at:
            if self._job.ledger.continuation() is not None:
                # A worker has begun it since the listing.
                return Move.NONE
            failure = Failure("setup", "Expired", "its message expired before a worker took it")
            conclude(self._runtime, self._job, OutcomeStatus.FAILED, failure)
            return Move.FAILED
        if self._take_resend():
            self._runtime.dispatcher.send_setup(
                self._job.id, intent, generation=self._job.generation, resent=not not_begun
            )
            return Move.SETUP_SENT
        return Move.NONE

    def _move_chunks(self, manifest: Manifest, completion: Completion) -> Move:
        setup_id, combined = manifest.setup_id, completion.uncombined
        steps = ((chunk, combined.get(chunk) or process_step(setup_id, chunk)) for chunk in completion.due)
        idle = array("I", (chunk for chunk, step in steps if not self._is_running(step)))
        if not idle or not self._take_resend():
            return Move.NONE
        sent = send_again(self._runtime, self._job, manifest, idle)
        return Move.CHUNKS_SENT if sent else Move.FAILED

    def _move_join(self, move: Move) -> Move:
        if self._is_running("join") or not self._take_resend():
            return Move.NONE
        start_join(self._runtime, self._job, resent=True)
        return move

    def _is_running(self, step: str) -> bool:
        """Return whether a step has a heartbeat that is younger than `stall_s`."""
        return self._now - self._listing.heartbeats.get(step, 0.0) < self._runtime.config.stall_s

    def _take_resend(self) -> bool:
        """Take the next resend, so that of several sweeps one sends messages."""
        return self._job.ledger.write_resend(self._listing.resends, Note(by=self._token))


def sweep(runtime: Runtime) -> Iterator[tuple[str, Move]]:
    """Sweep every job in the store, and remove the jobs whose outcome is older than `retention_s`.

    Two requests per job to read and list it, those of `job_ids` to find it, and those of `sweep_job`. Logs and skips a
    job whose records can't be read. Leaves objects of others alone.

    Yields:
        The id of each job, and the action on it.
    """
    unreadable = False
    for job_id in job_ids(runtime.store):
        try:
            yield job_id, _remove_or_move(runtime, job_id)
        except JobNotFound:
            # Another sweep has just removed it.
            yield job_id, Move.NONE
        except (CorruptObject, ObjectNotFound, ValueError) as error:
            unreadable = True
            _LOG.warning("job %s: could not be swept: %s", job_id, error, extra=fields_of(job_id))
            yield job_id, Move.UNREADABLE
    if not unreadable:
        # Jobs share parameters by content, and a caller stores them before its intent. So only old ones are removed.
        removal.remove_old_parameters(runtime.store, before=runtime.now() - 2 * runtime.config.retention_s)


def _remove_or_move(runtime: Runtime, job_id: str) -> Move:
    """Remove a job or its leftovers if they are old, else move it."""
    stored = _StoredJob.of(runtime, job_id)
    limit = runtime.now() - runtime.config.retention_s
    old = [info for info in stored.leftovers if info.modified.timestamp() < limit]
    removed = removal.remove_leftovers(runtime.store, old) if old else 0
    ended_at = stored.listing.written_at.get("outcome")
    if stored.intent is not None and ended_at is not None and ended_at < limit:
        runtime.remove(job_id, stored.intent.launch_id)
        return Move.REMOVED
    if stored.intent is None:
        return Move.REMOVED if removed else Move.NONE
    return _move(runtime, stored)


def start_thread(sweep: Callable[[], None]) -> None:
    """Run a sweep in a thread of its own, which does not keep the process alive."""
    threading.Thread(target=sweep, name="fanout-sweep", daemon=True).start()


class BackgroundSweep:
    """The sweeps of a waiting caller, one at a time in a thread, so that a broker outage does not block the caller.

    Args:
        runtime: Store and dispatcher.
        job_id: The job.
        start: Runs a sweep in the background.
    """

    def __init__(
        self, runtime: Runtime, job_id: str, *, start: Callable[[Callable[[], None]], object] = start_thread
    ) -> None:
        self._runtime = runtime
        self._job_id = job_id
        self._start = start
        self._is_running = False
        self._error: Exception | None = None

    def start(self) -> None:
        """Start a sweep of the job, unless the last one still runs."""
        if not self._is_running:
            self._is_running = True
            self._start(self._run)

    def check(self) -> None:
        """Raise the error of a sweep, if one failed."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            sweep_job(self._runtime, self._job_id)
        except BrokerUnavailable as error:
            # The job may still end. A later sweep sends the messages that this one could not.
            _LOG.warning("job %s: could not be moved: %s", self._job_id, error, extra=fields_of(self._job_id))
        except Exception as error:
            self._error = error
        finally:
            self._is_running = False
