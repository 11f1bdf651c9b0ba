"""The records of a job's runs: attempts, claims, heartbeats and resends."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from storage import ObjectNotFound, ObjectStore

from .attempt import Attempt
from .failure import Failure
from .keys import JobKeys, RunKey
from .models import Note
from .record_io import has_record, read_record, write_record


@dataclass(frozen=True, slots=True)
class RecordedAttempts:
    """The attempts of a step, as one listing shows them.

    Attributes:
        written_at: Number of each attempt -> when it was last written, by the store's clock.
        interrupted: Numbers of the interrupted attempts, which do not count. Such an attempt may have no other record.
    """

    written_at: dict[int, float]
    interrupted: frozenset[int]

    @property
    def last(self) -> int:
        """The highest number; 0 if no attempt is recorded."""
        return max((*self.written_at, *self.interrupted), default=0)

    @property
    def count(self) -> int:
        """The number of attempts that count."""
        return self.last - len(self.interrupted)


@dataclass(frozen=True, slots=True)
class LastClaim:
    """The last claim of the join.

    Attributes:
        number: Number of earlier claims.
        by: Token of its holder.
        message: Id of its holder's message; empty if unknown.
        made_at: When it was made, by the store's clock.
        interrupted: Whether an outage interrupted its holder, which recorded so.
    """

    number: int
    by: str
    message: str
    made_at: float
    interrupted: bool


class RunLedger:
    """The records that the runs of a job's steps leave, in one generation of one launch.

    A `step` is `setup`, `join`, `keys.process_step(…)` or `keys.combine_step(…)`. Each method makes one storage request
    unless it says otherwise.

    Args:
        store: The job's store.
        job_id: The job.
        launch_id: The launch.
        generation: The generation.
    """

    def __init__(self, store: ObjectStore, job_id: str, launch_id: str, generation: int = 0) -> None:
        self.store = store
        self.job_id = job_id
        self.launch_id = launch_id
        self.generation = generation
        self.keys = JobKeys(job_id, launch_id, generation)

    def write_attempt(self, step: str, number: int, record: Attempt) -> None:
        """Record the step's attempt `number`, counted from 1. Overwrites what the same attempt recorded before."""
        self.store.put(self.keys.attempt(step, number), record.to_bytes())

    def begin_attempt(self, step: str, number: int, record: Attempt) -> Attempt:
        """Record the step's attempt `number` unless it is recorded already; return the one that is recorded."""
        return write_record(self.store, self.keys.attempt(step, number), record)

    def attempt(self, step: str, number: int) -> Attempt | None:
        """Return the step's attempt `number`, if it is recorded."""
        return read_record(self.store, self.keys.attempt(step, number), Attempt)

    def attempts(self, step: str) -> RecordedAttempts:
        """List the recorded attempts of a step."""
        listing = [(RunKey.read(info.key), info) for info in self.store.list(self.keys.attempts(step))]
        return RecordedAttempts(
            {key.number: info.modified.timestamp() for key, info in listing if not key.interrupted},
            frozenset(key.number for key, _ in listing if key.interrupted),
        )

    def last_attempts(self, setup_id: str) -> Counter[int]:
        """Return chunk -> number of its last recorded attempt of process; 0 for a chunk without one."""
        # Unlike a defaultdict, a counter does not grow when it is asked.
        last: Counter[int] = Counter()
        for info in self.store.list(self.keys.attempts(setup_id)):
            chunk = int(info.key.split("/")[-2])
            last[chunk] = max(last[chunk], RunKey.read(info.key).number)
        return last

    def last_failure(self, step: str, number: int) -> Failure | None:
        """Return why the step's attempt `number` failed, if its worker recorded that."""
        record = self.attempt(step, number)
        return record.failed if record is not None else None

    def write_interrupted(self, step: str, number: int, note: Note) -> None:
        """Record that the step's attempt `number` was interrupted, so that it does not count."""
        self.store.put(self.keys.interrupted(step, number), note.to_bytes())

    def claim(self, number: int, note: Note) -> bool:
        """Make claim `number` of the join; return whether `note` holds it."""
        return write_record(self.store, self.keys.claim(number), note).by == note.by

    def is_claimed(self) -> bool:
        """Return whether a worker has claimed the join."""
        return has_record(self.store, self.keys.claim(0))

    def last_claim(self) -> LastClaim | None:
        """Return the last claim of the join, if there is one. Two requests."""
        listing = [(RunKey.read(info.key), info) for info in self.store.list(self.keys.claims)]
        number = max((key.number for key, _ in listing), default=0)
        interrupted = any(key == RunKey(number, interrupted=True) for key, _ in listing)
        claimed = RunKey(number, interrupted=False)
        made_at = next((info.modified.timestamp() for key, info in listing if key == claimed), None)
        if made_at is None:
            return None
        note = read_record(self.store, self.keys.claim(number), Note)
        return LastClaim(number, note.by, note.message, made_at, interrupted) if note is not None else None

    def write_claim_interrupted(self, number: int, note: Note) -> None:
        """Record that an outage interrupted the holder of claim `number`, whose worker is alive."""
        self.store.put(self.keys.claim_interrupted(number), note.to_bytes())

    def write_heartbeat(self, step: str, note: Note) -> None:
        """Record that a worker is running a step. Overwrites the step's last heartbeat."""
        self.store.put(self.keys.heartbeat(step), note.to_bytes())

    def heartbeat_text(self, step: str) -> str:
        """Return what the step said in its last heartbeat; empty if it said nothing, or wrote none."""
        note = read_record(self.store, self.keys.heartbeat(step), Note)
        return note.text if note is not None else ""

    def last_heartbeat(self, step: str) -> float | None:
        """Return when the step's last heartbeat was written, by the store's clock; None if there was none."""
        try:
            return self.store.head(self.keys.heartbeat(step)).modified.timestamp()
        except ObjectNotFound:
            return None

    def write_resend(self, number: int, note: Note) -> bool:
        """Take resend `number`; return whether `note` holds it, so that its sweep may send messages."""
        return write_record(self.store, self.keys.resend(number), note).by == note.by
