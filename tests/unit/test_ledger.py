"""The ledger writes records once, and each access costs the documented number of requests."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace

import pytest

from fanout import JobFailed, JobNotFound
from fanout.records.attempt import Attempt, AttemptState
from fanout.records.batch import BatchResult, ResultEntry, Share
from fanout.records.failure import Failure
from fanout.records.keys import launch_of
from fanout.records.ledger import INLINE_VALUE_BYTES, Ledger, write_intent
from fanout.records.models import ChunkResult, Continuation, Intent, Manifest, Node, Note, Outcome, OutcomeStatus
from fanout.removal import remove_job
from storage import CorruptObject, CountingStore, MemoryStore, decode, digest, encode
from tests.stores import ScriptedStore

from .tasks import Words
from .world import World

INTENT = Intent(launch_id="launch", task="T", inline=b"", references={}, options={}, created_at=1.0)
MANIFEST = Manifest(setup_id="a", chunks=1, items=1, input_bytes=1, shards=[], stats=[])
RESULT = ChunkResult(chunk=0, first_item=0, items=1, values=encode([1]), stats=[])
BATCH = BatchResult(chunk=1, done=2, values=[encode([2]), encode([3])], stats=[], by="x")
SHARED = BatchResult(chunk=3, done=1, values=[encode([4])], stats=[], parts=[1, 2], begun=True, by="x")
NODE = Node(level=1, index=0, failed=0, values=encode(["v"]), stats=[])
GOOD = Outcome(status=OutcomeStatus.SUCCEEDED, task="T", stats=[], value=encode("value"))
BAD = Outcome(status=OutcomeStatus.FAILED, task="T", stats=[], failure=Failure("process", "E", "why"))


def failed_by_level(ledger: Ledger) -> dict[int, dict[int, int]]:
    """Return level -> index of each node -> number of failed items below it."""
    return {level: {entry.index: entry.failed for entry in nodes.entries} for level, nodes in ledger.tree("a").items()}


@pytest.fixture
def counting() -> CountingStore:
    return CountingStore(MemoryStore())


@pytest.fixture
def ledger(counting: CountingStore) -> Ledger:
    return Ledger(counting, "job", "launch")


def test_the_first_intent_counts(ledger: Ledger) -> None:
    """A second writer gets the intent of the first. Writing the same intent again succeeds."""
    other = replace(INTENT, launch_id="other")
    assert write_intent(ledger.store, "job", INTENT) is INTENT
    assert write_intent(ledger.store, "job", INTENT) is INTENT
    assert write_intent(ledger.store, "job", other) == INTENT
    assert ledger.intent() == Ledger.of(ledger.store, "job").intent() == INTENT


def test_an_id_that_is_used_again_is_another_launch(ledger: Ledger) -> None:
    """Records of a removed launch do not belong to a later launch with the same job id."""
    write_intent(ledger.store, "job", replace(INTENT, launch_id="other"))
    with pytest.raises(JobNotFound):
        ledger.intent()
    ledger.write_outcome(GOOD)
    assert Ledger.of(ledger.store, "job").outcome() is None


def test_the_first_manifest_counts(ledger: Ledger) -> None:
    """If two runs of setup write a manifest, the first counts for both."""
    ledger.write_manifest(MANIFEST)
    assert ledger.write_manifest(replace(MANIFEST, setup_id="b")).setup_id == "a"


def test_the_first_outcome_counts(ledger: Ledger) -> None:
    """A job ends once."""
    assert ledger.write_outcome(GOOD) is GOOD
    assert ledger.write_outcome(BAD).status == OutcomeStatus.SUCCEEDED
    assert ledger.value(GOOD) == "value"


def test_the_first_continuation_counts(ledger: Ledger) -> None:
    """A job has one continuation of its join."""
    assert ledger.continuation() is None
    ledger.write_continuation(Continuation(message="a"))
    assert ledger.write_continuation(Continuation(message="b")).message == "a"
    assert ledger.continuation() == Continuation(message="a")


def test_another_result_of_a_chunk_is_reported(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """The first result of a chunk counts. The log reports a second one only if its values differ."""
    with caplog.at_level(logging.WARNING, "fanout"):
        ledger.write_result("a", RESULT)
        ledger.write_result("a", replace(RESULT, stats=[5]))
        assert not caplog.records
        assert ledger.write_result("a", replace(RESULT, values=encode([2]))).values == RESULT.values
    assert "chunk 0 gave another result" in caplog.text


def test_one_of_two_claims_succeeds(ledger: Ledger) -> None:
    """The first worker to write a claim has the join, and gets the same answer if it asks again."""
    first, second = Note(by="x"), Note(by="y")
    assert ledger.last_claim() is None
    assert ledger.claim(0, first)
    assert not ledger.claim(0, second)
    assert ledger.claim(0, first)
    assert ledger.claim(1, second)
    ledger.write_claim_interrupted(0, first)
    last = ledger.last_claim()
    assert last is not None
    assert (last.number, last.by, last.interrupted) == (1, "y", False)
    ledger.write_claim_interrupted(1, second)
    last = ledger.last_claim()
    assert last is not None
    assert (last.number, last.by, last.interrupted) == (1, "y", True)


def test_one_of_two_resends_is_granted(ledger: Ledger) -> None:
    """Only one sweep can write a resend of a given number."""
    assert ledger.write_resend(0, Note(by="x"))
    assert not ledger.write_resend(0, Note(by="y"))
    assert ledger.write_resend(1, Note(by="y"))


def test_accesses_cost_the_documented_requests(ledger: Ledger, counting: CountingStore) -> None:
    """A write costs one request, and one more if another record exists; a read costs one."""
    costs = []

    def expect(expected: dict[str, int]) -> None:
        costs.append((counting.requests, Counter(expected)))
        counting.reset()

    write_intent(ledger.store, "job", INTENT)
    expect({"put": 1})
    write_intent(ledger.store, "job", INTENT)
    expect({"put": 1, "get": 1})
    ledger.intent()
    expect({"get": 1})
    ledger.write_manifest(MANIFEST)
    expect({"put": 1})
    ledger.manifest()
    expect({"get": 1})
    assert ledger.outcome() is None
    expect({"get": 1})
    assert not ledger.has_outcome()
    expect({"head": 1})
    ledger.write_outcome(GOOD)
    expect({"put": 1})
    outcome = ledger.outcome()
    expect({"get": 1})
    assert outcome is not None
    ledger.value(outcome)
    expect({})
    ledger.write_result("a", RESULT)
    expect({"put": 1})
    for landed in (ledger.landed("a"), ledger.landed("a", 0)):
        assert landed.entries == (ResultEntry(0),)
    expect({"list": 2})
    assert ledger.write_batch_result("a", 2, BATCH) is BATCH
    expect({"put": 1})
    assert ledger.batch_result("a", 1, 2) == BATCH
    expect({"get": 1})
    assert ledger.landed("a").entries == (ResultEntry(0), ResultEntry(1, 2, 2))
    expect({"list": 1})
    ledger.mark_shared("a", 3, 4, done=1, note=Note(by="x"))
    ledger.write_batch_result("a", 4, SHARED)
    expect({"put": 2})
    assert ledger.share("a", 3, 4) is None
    for _ in range(2):
        assert ledger.landed("a").entries == (ResultEntry(0), ResultEntry(1, 2, 2), ResultEntry(3, 1, 4))
    assert ledger.share("a", 3, 4) == Share(1, (1, 2))
    expect({"list": 2, "get": 1})
    ledger.write_node("a", NODE)
    expect({"put": 1})
    assert ledger.nodes("a", 1, 0).entries == (ResultEntry(0),)
    assert failed_by_level(ledger) == {1: {0: 0}}
    assert ledger.node("a", 1, 0) is not None
    expect({"list": 2, "get": 1})
    assert ledger.attempts("setup").count == 0
    expect({"list": 1})
    assert ledger.last_heartbeat("setup") is None
    expect({"head": 1})
    assert [actual for actual, _ in costs] == [expected for _, expected in costs]


@pytest.mark.parametrize(("surplus", "is_separate"), [(0, False), (1, True)])
def test_a_large_value_has_its_own_object(surplus: int, is_separate: bool) -> None:
    """A value over the limit has its own object, which is written before the outcome that names it."""
    store = ScriptedStore()
    ledger = Ledger(store, "job", "launch")
    overhead = len(encode(b"")) + 3
    body = encode(b"x" * (INLINE_VALUE_BYTES - overhead + surplus))
    assert (len(body) > INLINE_VALUE_BYTES) is is_separate
    current = ledger.write_outcome(replace(GOOD, value=body))
    written = [key for verb, key in store.log if verb == "put"]
    assert written == [*([ledger.keys.value(digest(body))] if is_separate else []), ledger.keys.outcome]
    assert ledger.value(current) == decode(body)
    found = ledger.outcome()
    assert found is not None
    assert ledger.value(found) == decode(body)


def test_a_damaged_value_is_refused() -> None:
    """The error for a flipped byte of a large value names its key."""
    store = ScriptedStore()
    ledger = Ledger(store, "job", "launch")
    outcome = ledger.write_outcome(replace(GOOD, value=encode(b"x" * 2 * INLINE_VALUE_BYTES)))
    assert outcome.value_digest is not None
    key = ledger.keys.value(outcome.value_digest)
    store.flip(key)
    with pytest.raises(CorruptObject) as caught:
        ledger.value(outcome)
    assert caught.value.key == key


def test_the_value_of_a_failed_job_raises_its_failure(ledger: Ledger) -> None:
    """A caller that asks a failed job for its value gets the failure."""
    with pytest.raises(JobFailed, match="E: why"):
        ledger.value(ledger.write_outcome(BAD))


def test_a_missing_job_names_its_store(ledger: Ledger) -> None:
    """The error has the id and the store's URL."""
    with pytest.raises(JobNotFound, match=rf"job job is not in the store {ledger.store.url}"):
        ledger.intent()


def test_attempts_are_counted_and_recorded(ledger: Ledger) -> None:
    """Each attempt is one record that a worker may write again.

    The record of an attempt that raised has the failure.
    """
    ledger.write_attempt("setup", 1, Attempt(state=AttemptState.STARTED, at=1.0))
    ledger.write_attempt("setup", 1, Attempt(state=AttemptState.RAISED, at=1.0, failure=Failure("setup", "E", "why")))
    ledger.write_attempt("setup", 2, Attempt(state=AttemptState.LOST, at=1.0))
    ledger.write_attempt("a/00000001", 1, Attempt(state=AttemptState.LOST, at=1.0))
    assert ledger.attempts("setup").count == ledger.attempts("setup").last == 2
    assert ledger.last_failure("setup", 1) == Failure("setup", "E", "why")
    assert ledger.last_failure("setup", 2) is None
    assert ledger.last_failure("setup", 3) is None


def test_an_interrupted_attempt_does_not_count(ledger: Ledger) -> None:
    """An interrupted attempt keeps its number, whether or not it left a record of its own."""
    step = "a/00000001"
    ledger.write_attempt(step, 1, Attempt(state=AttemptState.STARTED, at=1.0))
    ledger.write_interrupted(step, 1, Note(by="x"))
    ledger.write_attempt(step, 2, Attempt(state=AttemptState.LOST, at=1.0))
    ledger.write_interrupted(step, 3, Note(by="x"))
    attempts = ledger.attempts(step)
    assert (attempts.last, attempts.count, attempts.interrupted, set(attempts.written_at)) == (3, 1, {1, 3}, {1, 2})
    assert ledger.last_attempts("a") == {1: 3}
    assert ledger.last_attempts("a")[0] == 0


def test_a_node_without_failures_counts_in_all_generations(ledger: Ledger) -> None:
    """A node with failed items counts in its own generation, until a good one exists. The fewest failures count."""
    later = Ledger(ledger.store, "job", "launch", generation=1)
    worse, bad = replace(NODE, failed=3, values=encode(["w"])), replace(NODE, failed=2, values=encode(["b"]))
    assert ledger.write_node("a", worse) is worse
    assert ledger.write_node("a", bad) == worse
    assert ledger.nodes("a", 1, 0).failed == {0: 3}
    assert len(later.nodes("a", 1, 0)) == 0
    assert failed_by_level(later) == {}
    assert later.write_node("a", bad) is bad
    assert (failed_by_level(ledger), failed_by_level(later)) == ({1: {0: 3}}, {1: {0: 2}})
    assert ledger.write_node("a", NODE) is NODE
    assert (failed_by_level(ledger), failed_by_level(later)) == ({1: {0: 0}}, {1: {0: 0}})
    assert later.write_node("a", bad) == NODE


def test_remove_leaves_nothing_and_deletes_the_outcome_last(world: World) -> None:
    """Removal deletes all objects of the job and no others. It deletes the intent and then the outcome last."""
    other = world.launch(Words, {"documents": ["a"]}, job_id="job-2")
    world.dispatcher.lose()
    ledger = world.launch(Words, {"documents": ["a b"] * 300}, job_id="job")
    world.dispatcher.drain(world.runtime)
    ledger.write_attempt("setup", 1, Attempt(state=AttemptState.LOST, at=1.0))
    ledger.write_heartbeat("setup", Note(by="x"))
    ledger.write_resend(0, Note(by="x"))
    before = world.store.keys("_jobs/job/")
    records = {launch_of(key)[1].split("/")[0] for key in before}
    assert records >= {"intent", "input", "results", "manifest", "claims", "outcome"}
    world.store.log.clear()
    assert remove_job(world.store, "job", "another launch") == 0
    assert remove_job(world.store, "job", ledger.launch_id) == len(before)
    assert world.store.keys("_jobs/job/") == []
    deleted = [key for verb, key in world.store.log if verb == "delete" and key.startswith("_jobs/")]
    assert deleted[-2:] == [ledger.keys.intent, ledger.keys.outcome]
    assert other.intent().task == Words.name
    assert remove_job(world.store, "job") == 0
