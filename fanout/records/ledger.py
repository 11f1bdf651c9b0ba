"""The records of one launch of a job in its store."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

from storage import CorruptObject, ObjectInfo, ObjectStore, decode, digest

from ..errors import JobNotFound
from . import keys
from .models import ChunkResult, Continuation, Generation, IndexShard, Intent, Manifest, Node, Note, Outcome
from .record_io import has_record, read_record, write_record
from .run_ledger import RunLedger

_LOG = logging.getLogger(__name__)

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


def job_ids(store: ObjectStore) -> Iterator[str]:
    """Yield the ids of the jobs in the store, in the order of keys. One request per job.

    Skips names that are no job ids.
    """
    after = keys.JOBS_PREFIX
    while True:
        info = next(iter(store.list(keys.JOBS_PREFIX, start_after=after)), None)
        if info is None:
            return
        job_id = info.key.removeprefix(keys.JOBS_PREFIX).partition("/")[0]
        # "0" is the character after "/": every key of this job sorts before it.
        after = f"{keys.JOBS_PREFIX}{job_id}0"
        if keys.is_id(job_id):
            yield job_id


class Ledger(RunLedger):
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
        """Start a generation; return whether `record` started it."""
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

    # Process

    def write_result(self, setup_id: str, result: ChunkResult) -> ChunkResult:
        """Write a chunk's result; return the current result of the chunk. Log a run that gave other bytes.

        A result with failed items has a key of its own, in this generation only, so that the key of a good result
        stays free. Before writing it, one request checks whether another run of the chunk has given a result.
        """
        key = self.keys.result(setup_id, result.chunk)
        if result.failed_count:
            existing = self.current_result(setup_id, result.chunk)
            if existing is not None:
                return existing
            key = self.keys.bad_result(setup_id, result.chunk, result.failed_count)
        current = write_record(self.store, key, result)
        if current is not result and current.content_digest() != result.content_digest():
            _LOG.warning(
                "job %s: chunk %d gave another result in a second run; the first result counts. "
                "Is process deterministic?",
                self.job_id,
                result.chunk,
            )
        return current

    def result(self, setup_id: str, chunk: int, failed: int = 0) -> ChunkResult | None:
        """Return the chunk's good result, or its result of this generation with that number of failed items."""
        key = self.keys.bad_result(setup_id, chunk, failed) if failed else self.keys.result(setup_id, chunk)
        return read_record(self.store, key, ChunkResult)

    def current_result(self, setup_id: str, chunk: int) -> ChunkResult | None:
        """Return the chunk's result, good or bad, that counts in this generation. Two requests if there is one."""
        failed = self._count_failed(self.keys.result(setup_id, chunk)).get(chunk)
        return self.result(setup_id, chunk, failed) if failed is not None else None

    def has_result(self, setup_id: str, chunk: int) -> bool:
        """Return whether the chunk has a result, good or bad, without fetching it."""
        return chunk in self._count_failed(self.keys.result(setup_id, chunk))

    def landed(self, setup_id: str, group: int | None = None) -> dict[int, int]:
        """Return chunk -> number of its failed items, for the chunks that have a result, ascending.

        One request per 1,000 results. The good result of a chunk counts, else the one of this generation with the
        fewest failed items. A bad result of an earlier generation does not count.

        Args:
            setup_id: The run of setup.
            group: The group to list; None for all chunks.
        """
        return self._count_failed(
            self.keys.results(setup_id) if group is None else self.keys.result_group(setup_id, group)
        )

    def finished_chunks(self, setup_id: str, group: int | None = None) -> list[int]:
        """Return the indices of the chunks that have a result, ascending; see `landed`."""
        return list(self.landed(setup_id, group))

    def _count_failed(self, prefix: str) -> dict[int, int]:
        failed_counts: dict[int, int] = {}
        for info in self.store.list(prefix):
            key = keys.ResultKey.read(info.key)
            if key.generation in (None, self.generation):
                # In the order of keys the good result comes first, then the one with the fewest failed items.
                failed_counts.setdefault(key.index, key.failed)
        return failed_counts

    # Combine

    def write_node(self, setup_id: str, node: Node) -> Node:
        """Write a node of combined results; return the current node, as `write_result` does."""
        key = self.keys.node(setup_id, node.level, node.index)
        if node.failed:
            failed = self._count_failed(key).get(node.index)
            existing = self.node(setup_id, node.level, node.index, failed) if failed is not None else None
            if existing is not None:
                return existing
            key = self.keys.bad_node(setup_id, node.level, node.index, node.failed)
        current = write_record(self.store, key, node)
        if current is not node and current.content_digest() != node.content_digest():
            _LOG.warning(
                "job %s: combining the same results again (level %d, node %d) gave another value; the first value "
                "counts. Is combine deterministic?",
                self.job_id,
                node.level,
                node.index,
            )
        return current

    def node(self, setup_id: str, level: int, index: int, failed: int = 0) -> Node | None:
        """Return the node over good results alone, or the node of this generation over that many failed items."""
        good, bad = self.keys.node(setup_id, level, index), self.keys.bad_node(setup_id, level, index, failed)
        return read_record(self.store, bad if failed else good, Node)

    def nodes(self, setup_id: str, level: int, group: int) -> dict[int, int]:
        """Return node -> number of failed items below it, for one group of a level, ascending; see `landed`."""
        return self._count_failed(self.keys.node_group(setup_id, level, group))

    def tree(self, setup_id: str) -> dict[int, dict[int, int]]:
        """Return level -> node -> number of failed items below it, ascending. One request per 1,000 nodes."""
        levels: dict[int, dict[int, int]] = {}
        for info in self.store.list(self.keys.nodes(setup_id)):
            key = keys.ResultKey.read(info.key)
            if key.generation in (None, self.generation):
                levels.setdefault(keys.level_of(info.key), {}).setdefault(key.index, key.failed)
        return levels

    def write_group_complete(self, setup_id: str, group: int, note: Note) -> None:
        """Write the group-complete marker of a group. Overwrites."""
        self.store.put(self.keys.group_marker(setup_id, group), note.to_bytes())

    def complete_groups(self, setup_id: str) -> set[int]:
        """List the groups that have a group-complete marker."""
        return {keys.last_number(info.key) for info in self.store.list(self.keys.group_markers(setup_id))}

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
        """Record that the outcome was delivered."""
        write_record(self.store, self.keys.delivered, note)

    def is_delivered(self) -> bool:
        """Return whether the outcome was delivered."""
        return has_record(self.store, self.keys.delivered)
