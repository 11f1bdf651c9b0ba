"""Sweeps: they move stalled jobs and remove old ones. Any process may sweep, at any time, also beside others.

To move a job is to resend its missing messages, or to end it. A job has stalled when none of its objects was written
for `stall_s`, and the step that should be running has no heartbeat. Each resend doubles the time to the next one. So a
job that only waits in a long queue is sent again a few times, not a thousand. All times are by the store's clock.

A sweep finds the open jobs and the old ones in the indexes, so jobs that are only kept cost it nothing. Once a day a
sweep looks at all jobs.
"""

from __future__ import annotations

import logging
import threading
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from functools import partial

from storage import CorruptObject, ObjectNotFound

from . import index_upkeep, removal
from .cached_job import CachedJob
from .errors import BrokerUnavailable, EngineLost, JobNotFound
from .logs import fields_of
from .records.failure import Failure
from .records.ids import new_token
from .records.index import ALL_SWEPT_KEY, IndexEntry, all_swept_at, ended_entries, open_entries, write_entries
from .records.keys import process_step
from .records.ledger import job_ids
from .records.models import Manifest, Note, OutcomeStatus
from .records.stored_job import LaunchListing, StoredJob
from .runtime import Runtime
from .stages import awaits_setup, conclude, fail_if_overdue, send_again, start_join
from .stages.barrier import Completion, completion_of

_LOG = logging.getLogger(__name__)

ALL_JOBS_S = 86_400.0
"""Seconds from one sweep of all jobs to the next."""


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


def sweep_job(runtime: Runtime, job_id: str) -> Move:
    """Move one job if it has stalled; end it if its deadline has passed.

    Two requests if the job has not stalled: the intent and one listing.

    Raises:
        JobNotFound: The store has no such job.
    """
    return _move(runtime, StoredJob.of(runtime.store, job_id))


def _move(runtime: Runtime, stored: StoredJob, *, lost: bool = False) -> Move:
    """Move or end a job, if it has stalled or is overdue.

    Args:
        runtime: Store, settings and dispatcher.
        stored: The job.
        lost: Whether all messages and workers are known to be lost, so that the job need not stall first.
    """
    listing, intent = stored.listing, stored.intent
    if intent is None:
        raise JobNotFound(stored.job_id, runtime.store.url)
    if stored.is_delivered:
        return Move.NONE
    job = runtime.open(stored.job_id, intent, listing.generation)
    if "outcome" not in listing.written_at and fail_if_overdue(runtime, job):
        return Move.FAILED
    now = runtime.now()
    quiet_s = now - max(listing.progress_at, job.intent.not_before or 0.0)
    # A caller in which setup runs is no part of the cluster.
    is_with_caller = bool(intent.caller_parameters) and "manifest" not in listing.written_at
    stall_s = 0.0 if lost and not is_with_caller else runtime.config.stall_s
    if quiet_s < stall_s * 2**listing.resends:
        return Move.NONE
    return _StalledJob(runtime, job, listing, now, stall_s).move()


class _StalledJob:
    """A job without progress for its stall time.

    Args:
        runtime: Store, settings and dispatcher.
        job: The job.
        listing: Its objects.
        now: The time.
        stall_s: Age from which a heartbeat is of a step that runs no more.
    """

    def __init__(self, runtime: Runtime, job: CachedJob, listing: LaunchListing, now: float, stall_s: float) -> None:
        self._runtime = runtime
        self._job = job
        self._listing = listing
        self._now = now
        self._stall_s = stall_s
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
        """Return whether a step has a heartbeat that is younger than the stall time."""
        return self._now - self._listing.heartbeats.get(step, 0.0) < self._stall_s

    def _take_resend(self) -> bool:
        """Take the next resend, so that of several sweeps one sends messages."""
        return self._job.ledger.write_resend(self._listing.resends, Note(by=self._token))


def sweep(runtime: Runtime, *, everything: bool = False, lost: bool = False) -> Iterator[tuple[str, Move]]:
    """Sweep the open jobs, and remove the jobs whose outcome is older than `retention_s`.

    One request for the last sweep of all jobs, one per 1,000 open jobs, and one for the old jobs. For each open job
    and each old one two requests, those of `sweep_job`, and those that mend its entries in the indexes. Once in
    `ALL_JOBS_S` a sweep looks at all jobs instead, at two requests each and those of `job_ids`. Then it also removes
    what late workers wrote for removed jobs, and old parameters and tags. Logs and skips a job whose records can't be
    read. Leaves objects of others alone.

    Args:
        runtime: Store, settings and dispatcher.
        everything: Whether to look at all jobs in any case.
        lost: Whether all messages and workers of these jobs are known to be lost, as after the end of a cluster. The
            sweep then sends at once what each job misses. If it was wrong, work is done twice, and no job is harmed.

    Yields:
        The id of each job that this sweep looked at, and the action on it.
    """
    is_all = everything or runtime.now() - all_swept_at(runtime.store) >= ALL_JOBS_S
    if is_all:
        # Before the sweep: of several that are due, or that end early, one a day is enough.
        write_entries(runtime.store, [ALL_SWEPT_KEY])
    yield from _Sweep(runtime, lost=lost).run(is_all=is_all)


class _Sweep:
    """One sweep.

    Args:
        runtime: Store, settings and dispatcher.
        lost: See `sweep`.
    """

    def __init__(self, runtime: Runtime, *, lost: bool) -> None:
        self._runtime = runtime
        self._lost = lost
        self._entries: defaultdict[str, list[IndexEntry]] = defaultdict(list)
        """Entries of open jobs, by job id. Those of a job are taken out when the sweep comes to it."""
        self._launches: set[str] = set()
        """Ids of the launches that were seen to count."""
        self._has_unreadable = False
        self._began_at = runtime.now()

    def run(self, *, is_all: bool) -> Iterator[tuple[str, Move]]:
        for entry in open_entries(self._runtime.store):
            self._entries[entry.job_id].append(entry)
        if is_all:
            yield from self._sweep_each(job_ids(self._runtime.store))
        yield from self._sweep_each(list(self._entries))
        limit = self._runtime.now() - self._runtime.config.retention_s
        for old in ended_entries(self._runtime.store, before=limit):
            yield from self._handle_errors(old.job_id, partial(self._remove_ended, old, limit))
        if is_all and not self._has_unreadable:
            self._remove_unreferenced()

    def _sweep_each(self, found: Iterable[str]) -> Iterator[tuple[str, Move]]:
        for job_id in found:
            yield from self._handle_errors(job_id, partial(self._sweep_one, job_id))

    def _handle_errors(self, job_id: str, action: Callable[[], Move | None]) -> Iterator[tuple[str, Move]]:
        try:
            move = action()
        except JobNotFound:
            # Another sweep has just removed it.
            move = Move.NONE
        except (CorruptObject, ObjectNotFound, ValueError) as error:
            self._has_unreadable = True
            _LOG.warning("job %s: could not be swept: %s", job_id, error, extra=fields_of(job_id))
            move = Move.UNREADABLE
        if move is not None:
            yield job_id, move

    def _sweep_one(self, job_id: str) -> Move | None:
        """Remove a job or its leftovers if they are old, else move it. None for an entry without a job."""
        runtime, entries = self._runtime, self._entries.pop(job_id, [])
        stored = StoredJob.of(runtime.store, job_id)
        limit = runtime.now() - runtime.config.retention_s
        if stored.intent is not None and stored.ended_at is not None and stored.ended_at < limit:
            runtime.remove(job_id, stored.intent.launch_id)
            return Move.REMOVED
        index_upkeep.mend_open_entries(runtime, stored, entries)
        old = [info for info in stored.leftovers if info.modified.timestamp() < limit]
        removed = removal.remove_leftovers(runtime.store, old) if old else 0
        if stored.intent is not None:
            self._launches.add(stored.intent.launch_id)
            return _move(runtime, stored, lost=self._lost)
        if removed:
            return Move.REMOVED
        return Move.NONE if stored.leftovers else None

    def _remove_ended(self, entry: IndexEntry, limit: float) -> Move | None:
        """Remove a job whose entry is old, if its outcome is old as well, or else only the entry."""
        stored = StoredJob.of(self._runtime.store, entry.job_id)
        is_same = stored.intent is not None and stored.intent.launch_id == entry.launch_id
        is_old = is_same and stored.ended_at is not None and stored.ended_at < limit
        if is_old:
            self._runtime.remove(entry.job_id, entry.launch_id)
        elif is_same:
            index_upkeep.renew_ended_entry(self._runtime, stored)
        removal.remove_entries(self._runtime.store, [entry])
        return Move.REMOVED if is_old else None

    def _remove_unreferenced(self) -> None:
        """Remove parameters and tags of no job. A caller writes both before the intent, so only old ones go."""
        store, began_at = self._runtime.store, self._began_at
        # By the beginning: this sweep may have passed the place of a job that was launched since.
        removal.remove_old_tags(store, launches=self._launches, before=began_at - index_upkeep.GRACE_S)
        removal.remove_old_parameters(store, before=began_at - 2 * self._runtime.config.retention_s)


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
        except EngineLost as error:
            # No later sweep of this engine could send what the job misses.
            self._error = error
        except BrokerUnavailable as error:
            # The job may still end. A later sweep sends the messages that this one could not.
            _LOG.warning("job %s: could not be moved: %s", self._job_id, error, extra=fields_of(self._job_id))
        except Exception as error:
            self._error = error
        finally:
            self._is_running = False
