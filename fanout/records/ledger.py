"""The records of one launch of a job in its store."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace

from storage import CorruptObject, ObjectInfo, ObjectStore, decode, digest

from ..background.at_once import run_at_once
from ..errors import JobNotFound
from . import index, keys
from .ids import is_id
from .models import Continuation, Generation, IndexShard, Intent, Manifest, Note, Outcome, UsedSink
from .record_io import has_record, read_record, write_record
from .result_ledger import ResultLedger

_LOG = logging.getLogger(__name__)

LISTED_OBJECTS = 1_000
"""Most objects of one job that the search for the next job lists before it skips the others."""

INLINE_VALUE_BYTES = 256 * 1024
"""Largest value of a join that the outcome itself holds. A larger value is an object of its own."""


def write_intent(store: ObjectStore, job_id: str, intent: Intent) -> Intent:
    """Write the intent of a launch unless the id has one; return the intent that now counts for the id."""
    return write_record(store, keys.intent_key(job_id), intent)


def read_intent(store: ObjectStore, job_id: str) -> Intent:
    """Return the intent of the launch that counts for an id. One request.

    Raises:
        JobNotFound: There is none.
    """
    intent = read_record(store, keys.intent_key(job_id), Intent)
    if intent is None:
        raise JobNotFound(job_id, store.url)
    return intent


def job_ids(store: ObjectStore, *, after: str | None = None) -> Iterator[str]:
    """Yield the ids of the jobs in the store, in the order of keys.

    One request per 1,000 objects, and at most two per job. Skips names that are no job ids.

    Args:
        store: The store.
        after: Yield only ids that come after this one.
    """
    # "0" is the character after "/": every key of a job sorts before it.
    start: str | None = keys.JOBS_PREFIX if after is None else f"{keys.JOBS_PREFIX}{after}0"
    while start is not None:
        listing = store.list(keys.JOBS_PREFIX, start_after=start)
        start, current, seen = None, "", 0
        for info in listing:
            job_id = info.key.removeprefix(keys.JOBS_PREFIX).partition("/")[0]
            if job_id != current:
                current, seen = job_id, 0
                if is_id(job_id):
                    yield job_id
            seen += 1
            if seen == LISTED_OBJECTS:
                start = f"{keys.JOBS_PREFIX}{job_id}0"
                break


class Ledger(ResultLedger):
    """The records of one launch of a job, in one of its generations.

    Records are write-once: the first one written stays, and each `write_…` method returns the record that the store
    holds. Writing the same record again succeeds, so each method may be called again after a crash. Each method makes
    one storage request unless it says otherwise. A write-once write to a key that is taken makes one more.
    """

    @classmethod
    def of(cls, store: ObjectStore, job_id: str, generation: int = 0) -> Ledger:
        """Return the ledger of the launch that now counts for an id. One request.

        Raises:
            JobNotFound: There is none.
        """
        return cls(store, job_id, read_intent(store, job_id).launch_id, generation)

    # Launch

    def launched_at(self) -> float:
        """Return when the job of this id was launched, by the store's clock.

        Raises:
            ObjectNotFound: The job was removed.
        """
        return self.store.head(self.keys.intent).modified.timestamp()

    def intent(self) -> Intent:
        """Return the intent of this launch.

        Raises:
            JobNotFound: The job was removed, or its id has been used again.
        """
        intent = read_intent(self.store, self.job_id)
        if intent.launch_id != self.launch_id:
            raise JobNotFound(self.job_id, self.store.url)
        return intent

    def write_continuation(self, continuation: Continuation) -> Continuation:
        """Write the continuation; return the one that the store holds."""
        return write_record(self.store, self.keys.continuation, continuation)

    def continuation(self) -> Continuation | None:
        """Return the continuation, if setup has written it."""
        return read_record(self.store, self.keys.continuation, Continuation)

    def objects(self) -> Iterator[ObjectInfo]:
        """List all objects of the launch but its intent, in the order of keys. One request per 1,000."""
        return self.store.list(self.keys.prefix)

    # Generations

    def write_generation(self, number: int, record: Generation) -> bool:
        """Start a generation; return whether `record` started it. Two requests, its entry among open jobs first."""
        index.write_entries(self.store, [index.open_key(self.job_id, self.launch_id, number)])
        return write_record(self.store, self.keys.start_of(number), record).by == record.by

    def generation_start(self) -> Generation | None:
        """Return the record that started this generation; None for generation 0, which the intent starts.

        Raises:
            JobNotFound: The generation was not started, or the job was removed.
        """
        if self.generation == 0:
            return None
        start = read_record(self.store, self.keys.start_of(self.generation), Generation)
        if start is None:
            raise JobNotFound(self.job_id, self.store.url)
        return start

    def latest_generation(self) -> int:
        """Return the number of the last generation that was started; 0 for a job that was never retried.

        One request, and one more per generation that was started.
        """
        number = 0
        while has_record(self.store, self.keys.start_of(number + 1)):
            number += 1
        return number

    def is_superseded(self) -> bool:
        """Return whether a later generation than this one was started."""
        return has_record(self.store, self.keys.start_of(self.generation + 1))

    # Setup

    def write_shard(self, setup_id: str, shard: int, record: IndexShard) -> str:
        """Write one index shard; return its digest. Overwrites."""
        body = record.to_bytes()
        self.store.put(self.keys.index(setup_id, shard), body)
        return digest(body)

    def shard(self, manifest: Manifest, shard: int) -> IndexShard:
        """Return the chunk locations of one index shard. No request if the manifest itself holds them.

        Raises:
            ObjectNotFound: The shard is missing.
            CorruptObject: It does not have the digest that the manifest names.
        """
        if not manifest.shards:
            return IndexShard(first_chunk=0, rows=manifest.rows)
        key = self.keys.index(manifest.setup_id, shard)
        body = self.store.get(key)
        if digest(body) != manifest.shards[shard]:
            raise CorruptObject(f"{key} does not have the digest that the manifest names", key=key)
        return IndexShard.from_bytes(body, key=key)

    def write_manifest(self, manifest: Manifest) -> Manifest:
        """Write the manifest; return the one that the store holds. Another run of setup may have been first."""
        return write_record(self.store, self.keys.manifest, manifest)

    def manifest(self) -> Manifest | None:
        """Return the manifest, if setup has written it."""
        return read_record(self.store, self.keys.manifest, Manifest)

    # Sinks

    def write_sink(self, url: str, endpoint: str | None) -> None:
        """Record that a step is about to write to a sink. Overwrites the same record."""
        body = UsedSink(url=url, endpoint=endpoint).to_bytes()
        self.store.put(f"{self.keys.sinks}{digest(body)}", body)

    def sinks(self) -> Iterator[UsedSink]:
        """Yield the sinks to which steps have begun to write. One request per 1,000, and one for each.

        Raises:
            CorruptObject: A record is damaged.
        """
        for info in self.store.list(self.keys.sinks):
            sink = read_record(self.store, info.key, UsedSink)
            if sink is not None:
                yield sink

    # Outcome

    def write_outcome(self, outcome: Outcome) -> Outcome:
        """Write the outcome; return the one that the store holds. A large value is written before it, by itself."""
        if outcome.value is not None and len(outcome.value) > INLINE_VALUE_BYTES:
            content = digest(outcome.value)
            self.store.put(self.keys.value(content), outcome.value)
            outcome = replace(outcome, value=None, value_digest=content)
        return write_record(self.store, self.keys.outcome, outcome)

    def outcome(self) -> Outcome | None:
        """Return the outcome, if the job has ended."""
        return read_record(self.store, self.keys.outcome, Outcome)

    def has_outcome(self) -> bool:
        """Return whether the job has ended, without fetching its value."""
        return has_record(self.store, self.keys.outcome)

    def value(self, outcome: Outcome) -> object:
        """Return the job's value. No request if the outcome holds it, else one.

        Raises:
            JobFailed: The job ended without a value.
        """
        if outcome.value is not None:
            return decode(outcome.value, key=self.keys.outcome)
        if outcome.value_digest is None:
            raise outcome.error(self.job_id)
        key = self.keys.value(outcome.value_digest)
        return decode(self.store.get(key), key=key)

    def write_delivered(self, note: Note) -> None:
        """Record that the outcome was delivered now, and move the job from the open jobs to the ended ones.

        Three requests, the first two at once. A store that does not change an index is logged: a sweep repairs that.
        """
        note = replace(note, at=time.time())
        run_at_once(
            lambda: index.write_hint(self.store, index.ended_key(note.at, self.job_id, self.launch_id)),
            lambda: write_record(self.store, self.keys.delivered, note),
        )
        index.delete_hints(self.store, [index.open_key(self.job_id, self.launch_id, self.generation)])

    def delivery(self) -> Note | None:
        """Return the record of the delivery, if the outcome was delivered."""
        return read_record(self.store, self.keys.delivered, Note)

    def is_delivered(self) -> bool:
        """Return whether the outcome was delivered."""
        return has_record(self.store, self.keys.delivered)
