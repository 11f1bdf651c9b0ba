"""The records of one job in one store: the only place where keys, records and the store meet."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from storage import CorruptObject, ObjectInfo, ObjectNotFound, ObjectStore, decode, digest, put_once

from ..errors import JobNotFound
from . import keys
from .failure import Failure
from .models import (
    Attempt,
    ChunkResult,
    Continuation,
    Generation,
    IndexShard,
    Intent,
    Manifest,
    Node,
    Note,
    Outcome,
    Record,
)

_LOG = logging.getLogger("fanout")

R = TypeVar("R", bound=Record)

INLINE_VALUE_BYTES = 256 * 1024
"""A join's value up to this size lies in the outcome itself; a larger one beside it."""


@dataclass(frozen=True, slots=True)
class AttemptsOnRecord:
    """What one listing tells of the tries of a step.

    Attributes:
        written_at: Number of each try -> when it was last written, by the store's clock.
        interrupted: Numbers of those that were put off, and so do not count. One that had left no record is among them.
    """

    written_at: dict[int, float]
    interrupted: frozenset[int]

    @property
    def last(self) -> int:
        """The highest number; 0 if nothing is on record."""
        return max((*self.written_at, *self.interrupted), default=0)

    @property
    def count(self) -> int:
        """How many count."""
        return self.last - len(self.interrupted)


@dataclass(frozen=True, slots=True)
class LastClaim:
    """The join's last claim.

    Attributes:
        number: How many there were before.
        by: Token of its holder.
        made_at: When it was made, by the store's clock.
        interrupted: Whether its holder said that the store failed it.
    """

    number: int
    by: str
    made_at: float
    interrupted: bool


def write_intent(store: ObjectStore, job_id: str, intent: Intent) -> Intent:
    """Write the intent of a launch, and so make it the one that counts for that id; returns the one that does."""
    return _write(store, keys.intent_key(job_id), intent)


def read_intent(store: ObjectStore, job_id: str) -> Intent:
    """The intent of the launch that counts for that id. One request.

    Raises:
        JobNotFound: There is none.
    """
    found = _read(store, keys.intent_key(job_id), Intent)
    if found is None:
        raise JobNotFound(job_id, store.url)
    return found


def job_ids(store: ObjectStore) -> Iterator[str]:
    """Ids of the jobs in the store, in the order of keys; passes by what is no job. One request each."""
    after = keys.JOBS_PREFIX
    while True:
        found = next(iter(store.list(keys.JOBS_PREFIX, start_after=after)), None)
        if found is None:
            return
        job_id = found.key.removeprefix(keys.JOBS_PREFIX).partition("/")[0]
        # "0" is the character after "/": every key of this job sorts before it.
        after = f"{keys.JOBS_PREFIX}{job_id}0"
        if keys.is_id(job_id):
            yield job_id


class Ledger:
    """Reads and writes the records of one launch of a job, in one of its rounds.

    Every write is write-once: what stands first, stands. Writing the same again is success, so each method may be
    called again after a crash. One storage request a call unless said otherwise; a write that finds another
    record in its place costs one more.
    """

    def __init__(self, store: ObjectStore, job_id: str, launch_id: str, generation: int = 0) -> None:
        self.store = store
        self.job_id = job_id
        self.launch_id = launch_id
        self.generation = generation
        self.keys = keys.JobKeys(job_id, launch_id, generation)

    @classmethod
    def of(cls, store: ObjectStore, job_id: str, generation: int = 0) -> Ledger:
        """The records of the launch that counts for that id now. One request.

        Raises:
            JobNotFound: There is none.
        """
        return cls(store, job_id, read_intent(store, job_id).launch_id, generation)

    # What starts a job

    def launched_at(self) -> float:
        """When the job of this id was launched, by the store's clock.

        Raises:
            ObjectNotFound: The job was removed.
        """
        return self.store.head(self.keys.intent).modified.timestamp()

    def intent(self) -> Intent:
        """The intent of this launch.

        Raises:
            JobNotFound: The job was removed, or its id has been used again.
        """
        found = read_intent(self.store, self.job_id)
        if found.launch_id != self.launch_id:
            raise JobNotFound(self.job_id, self.store.url)
        return found

    def write_continuation(self, continuation: Continuation) -> Continuation:
        return self._write(self.keys.continuation, continuation)

    def continuation(self) -> Continuation | None:
        return self._read(self.keys.continuation, Continuation)

    # Rounds

    def write_generation(self, number: int, record: Generation) -> bool:
        """Start a round; True if the start that stands is this one."""
        return self._write(self.keys.start_of(number), record).by == record.by

    def generation_start(self) -> Generation | None:
        """What started this round; None for the first, which the intent starts.

        Raises:
            JobNotFound: Nobody has started it, or the job was removed.
        """
        if self.generation == 0:
            return None
        found = self._read(self.keys.start_of(self.generation), Generation)
        if found is None:
            raise JobNotFound(self.job_id, self.store.url)
        return found

    def latest_generation(self) -> int:
        """The number of the last generation that was started; 0 for a job that was never retried.

        One request, and one more for each generation that was started.
        """
        number = 0
        while self._exists(self.keys.start_of(number + 1)):
            number += 1
        return number

    def superseded(self) -> bool:
        """Whether a later round than this one was started."""
        return self._exists(self.keys.start_of(self.generation + 1))

    # What setup made

    def write_shard(self, setup_id: str, shard: int, record: IndexShard) -> str:
        """Write one index object; returns its digest."""
        body = record.to_bytes()
        self.store.put(self.keys.index(setup_id, shard), body)
        return digest(body)

    def shard(self, manifest: Manifest, shard: int) -> IndexShard:
        """The places of the chunks of one index object; no request if they stand in the manifest.

        Raises:
            CorruptObject: It is not the one that the manifest names.
        """
        if not manifest.shards:
            return IndexShard(first_chunk=0, rows=manifest.rows)
        key = self.keys.index(manifest.setup_id, shard)
        body = self.store.get(key)
        if digest(body) != manifest.shards[shard]:
            raise CorruptObject(f"{key} does not have the digest that the manifest names", key=key)
        return IndexShard.from_bytes(body, key=key)

    def write_manifest(self, manifest: Manifest) -> Manifest:
        """Write the manifest; returns the one that stands: another attempt may have been first."""
        return self._write(self.keys.manifest, manifest)

    def manifest(self) -> Manifest | None:
        return self._read(self.keys.manifest, Manifest)

    # What process made

    def write_result(self, setup_id: str, result: ChunkResult) -> ChunkResult:
        """Write a chunk's result; returns the one that stands. Says so in the log if a retry gave other bytes.

        One in which items failed leaves the place of a good one free, and stands for this round only. Before it is
        written, one request looks whether another run of the chunk has given a result.
        """
        key = self.keys.result(setup_id, result.chunk)
        if result.failed_count:
            found = self.current_result(setup_id, result.chunk)
            if found is not None:
                return found
            key = self.keys.bad_result(setup_id, result.chunk, result.failed_count)
        current = self._write(key, result)
        if current is not result and current.content_digest() != result.content_digest():
            _LOG.warning(
                "job %s: chunk %d gave another result on a retry; the first one stands. Is process deterministic?",
                self.job_id,
                result.chunk,
            )
        return current

    def result(self, setup_id: str, chunk: int, failed: int = 0) -> ChunkResult | None:
        """The chunk's good result, or that of this round in which so many items failed."""
        key = self.keys.bad_result(setup_id, chunk, failed) if failed else self.keys.result(setup_id, chunk)
        return self._read(key, ChunkResult)

    def current_result(self, setup_id: str, chunk: int) -> ChunkResult | None:
        """The chunk's result, good or bad, that counts in this round. One request to look, one to fetch."""
        failed = self._landed(self.keys.result(setup_id, chunk)).get(chunk)
        return self.result(setup_id, chunk, failed) if failed is not None else None

    def has_result(self, setup_id: str, chunk: int) -> bool:
        """Whether the chunk has a result, good or bad; does not fetch it."""
        return chunk in self._landed(self.keys.result(setup_id, chunk))

    def landed(self, setup_id: str, group: int | None = None) -> dict[int, int]:
        """The chunks that have a result -> how many items of each failed, ascending; of one group or of all.

        One request for 1,000 results. A bad result of an earlier round is none. Where a chunk has several, the good
        one counts, else the one in which the fewest items failed.
        """
        return self._landed(self.keys.results(setup_id) if group is None else self.keys.result_group(setup_id, group))

    def finished(self, setup_id: str, group: int | None = None) -> list[int]:
        """Indices of the chunks that have a result, ascending; see `landed`."""
        return list(self.landed(setup_id, group))

    def _landed(self, prefix: str) -> dict[int, int]:
        found: dict[int, int] = {}
        for entry in self.store.list(prefix):
            landed = keys.Landed.read(entry.key)
            if landed.generation in (None, self.generation):
                # In the order of keys a good result comes first, then the one with the fewest failures.
                found.setdefault(landed.index, landed.failed)
        return found

    # What combine made of it

    def write_node(self, setup_id: str, node: Node) -> Node:
        """Write a node of combined results; returns the one that stands, as `write_result` does."""
        key = self.keys.node(setup_id, node.level, node.index)
        if node.failed:
            failed = self._landed(key).get(node.index)
            found = self.node(setup_id, node.level, node.index, failed) if failed is not None else None
            if found is not None:
                return found
            key = self.keys.bad_node(setup_id, node.level, node.index, node.failed)
        current = self._write(key, node)
        if current is not node and current.content_digest() != node.content_digest():
            _LOG.warning(
                "job %s: combining the same results again (level %d, node %d) gave another value; the first one "
                "stands. Is combine deterministic?",
                self.job_id,
                node.level,
                node.index,
            )
        return current

    def node(self, setup_id: str, level: int, index: int, failed: int = 0) -> Node | None:
        """The node with only good results below it, or that of this round with so many failed items below it."""
        good, bad = self.keys.node(setup_id, level, index), self.keys.bad_node(setup_id, level, index, failed)
        return self._read(bad if failed else good, Node)

    def nodes(self, setup_id: str, level: int, group: int) -> dict[int, int]:
        """The nodes of one group of a level -> how many items below each failed, ascending; see `landed`."""
        return self._landed(self.keys.node_group(setup_id, level, group))

    def tree(self, setup_id: str) -> dict[int, dict[int, int]]:
        """Level -> its nodes -> how many items below each failed, all ascending. One request for 1,000 nodes."""
        found: dict[int, dict[int, int]] = {}
        for entry in self.store.list(self.keys.nodes(setup_id)):
            landed = keys.Landed.read(entry.key)
            if landed.generation in (None, self.generation):
                found.setdefault(keys.level_of(entry.key), {}).setdefault(landed.index, landed.failed)
        return found

    def write_group_complete(self, setup_id: str, group: int, note: Note) -> None:
        """Mark a group as full. Marking it twice is harmless."""
        self.store.put(self.keys.group_marker(setup_id, group), note.to_bytes())

    def complete_groups(self, setup_id: str) -> set[int]:
        """The groups that are marked as full."""
        return {keys.last_number(found.key) for found in self.store.list(self.keys.group_markers(setup_id))}

    # Tries of a step: `setup`, `join`, `keys.process_step(…)` or `keys.combine_step(…)`

    def write_attempt(self, step: str, number: int, record: Attempt) -> None:
        """Put a try on record as the step's `number`-th, from 1; overwrites what the same try said before."""
        self.store.put(self.keys.attempt(step, number), record.to_bytes())

    def begin_attempt(self, step: str, number: int, record: Attempt) -> Attempt:
        """Put a try on record unless one stands as the step's `number`-th; returns the one that stands."""
        return self._write(self.keys.attempt(step, number), record)

    def attempts(self, step: str) -> AttemptsOnRecord:
        """The tries of the step that are on record."""
        found = [
            (keys.Numbered.read(entry.key), entry.modified.timestamp())
            for entry in self.store.list(self.keys.attempts(step))
        ]
        return AttemptsOnRecord(
            {tried.number: at for tried, at in found if not tried.interrupted},
            frozenset(tried.number for tried, _ in found if tried.interrupted),
        )

    def write_interrupted(self, step: str, number: int, note: Note) -> None:
        """Put on record that the step's `number`-th try was put off, so that it does not count."""
        self.store.put(self.keys.interrupted(step, number), note.to_bytes())

    def last_attempts(self, setup_id: str) -> defaultdict[int, int]:
        """The number of the last try that each chunk has on record; 0 for one that has none."""
        last: defaultdict[int, int] = defaultdict(int)
        for entry in self.store.list(self.keys.attempts(setup_id)):
            chunk = int(entry.key.split("/")[-2])
            last[chunk] = max(last[chunk], keys.Numbered.read(entry.key).number)
        return last

    def last_failure(self, step: str, number: int) -> Failure | None:
        """Why the step's `number`-th try failed, if it had the time to say so."""
        record = self.attempt(step, number)
        return record.failed if record is not None else None

    def attempt(self, step: str, number: int) -> Attempt | None:
        """The step's `number`-th try, if it is on record."""
        return self._read(self.keys.attempt(step, number), Attempt)

    # How it ended

    def write_outcome(self, outcome: Outcome) -> Outcome:
        """Write the outcome; returns the one that stands. A large value is written first, beside it."""
        if outcome.value is not None and len(outcome.value) > INLINE_VALUE_BYTES:
            content = digest(outcome.value)
            self.store.put(self.keys.value(content), outcome.value)
            outcome = replace(outcome, value=None, value_digest=content)
        return self._write(self.keys.outcome, outcome)

    def outcome(self) -> Outcome | None:
        return self._read(self.keys.outcome, Outcome)

    def has_outcome(self) -> bool:
        """Whether the job has ended; does not fetch the value."""
        return self._exists(self.keys.outcome)

    def value(self, outcome: Outcome) -> object:
        """The job's value. No request if it lies in the outcome, else one.

        Raises:
            JobFailed: The job ended without one.
        """
        if outcome.value is not None:
            return decode(outcome.value, key=self.keys.outcome)
        if outcome.value_digest is None:
            raise outcome.error(self.job_id)
        key = self.keys.value(outcome.value_digest)
        return decode(self.store.get(key), key=key)

    # Marks

    def claim(self, number: int, note: Note) -> bool:
        """Make the join's `number`-th claim; True if the one that stands is this one."""
        return self._write(self.keys.claim(number), note).by == note.by

    def is_claimed(self) -> bool:
        """Whether anybody has claimed the join."""
        return self._exists(self.keys.claim(0))

    def last_claim(self) -> LastClaim | None:
        """The join's last claim, if there is one. Two requests."""
        found = [(keys.Numbered.read(info.key), info) for info in self.store.list(self.keys.claims)]
        number = max((key.number for key, _ in found), default=0)
        interrupted = any(key == keys.Numbered(number, interrupted=True) for key, _ in found)
        made_at = next((info.modified.timestamp() for key, info in found if key == keys.Numbered(number, False)), None)
        note = self._read(self.keys.claim(number), Note) if made_at is not None else None
        return LastClaim(number, note.by, made_at, interrupted) if note is not None and made_at is not None else None

    def write_claim_interrupted(self, number: int, note: Note) -> None:
        """Put on record that the store failed the holder of the join's `number`-th claim, which is not dead."""
        self.store.put(self.keys.claim_interrupted(number), note.to_bytes())

    def write_delivered(self, note: Note) -> None:
        self._write(self.keys.delivered, note)

    def delivered(self) -> bool:
        return self._exists(self.keys.delivered)

    def write_heartbeat(self, step: str, note: Note) -> None:
        """Say that a step is being worked on; overwrites."""
        self.store.put(self.keys.heartbeat(step), note.to_bytes())

    def last_heartbeat(self, step: str) -> float | None:
        """When somebody last said to be working on the step, by the store's clock; None if never."""
        try:
            return self.store.head(self.keys.heartbeat(step)).modified.timestamp()
        except ObjectNotFound:
            return None

    def objects(self) -> Iterator[ObjectInfo]:
        """Everything the store holds of the launch, without its intent, in the order of keys. One request for 1,000."""
        return self.store.list(self.keys.prefix)

    def write_resend(self, number: int, note: Note) -> bool:
        """Take the `number`-th nudge; True if it is ours to give."""
        return self._write(self.keys.resend(number), note).by == note.by

    def _exists(self, key: str) -> bool:
        try:
            self.store.head(key)
        except ObjectNotFound:
            return False
        return True

    def _write(self, key: str, record: R) -> R:
        return _write(self.store, key, record)

    def _read(self, key: str, kind: type[R]) -> R | None:
        return _read(self.store, key, kind)


def _write(store: ObjectStore, key: str, record: R) -> R:
    current = put_once(store, key, record.to_bytes())
    return record if current is None else type(record).from_bytes(current, key=key)


def _read(store: ObjectStore, key: str, kind: type[R]) -> R | None:
    try:
        body = store.get(key)
    except ObjectNotFound:
        return None
    return kind.from_bytes(body, key=key)
