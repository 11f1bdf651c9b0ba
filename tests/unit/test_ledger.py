"""Records are written once; each access costs the requests that it promises."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace

import pytest

from fanout import JobFailed, JobNotFound
from fanout.records.failure import Failure
from fanout.records.keys import launch_of
from fanout.records.ledger import INLINE_VALUE_BYTES, Ledger, write_intent
from fanout.records.models import (
    Attempt,
    AttemptState,
    ChunkResult,
    Continuation,
    Intent,
    Manifest,
    Node,
    Note,
    Outcome,
    OutcomeStatus,
)
from fanout.removal import remove_job
from storage import CorruptObject, CountingStore, MemoryStore, decode, digest, encode

from .stores import ScriptedStore
from .tasks import Words
from .world import World

INTENT = Intent(launch_id="launch", task="T", inline=b"", references={}, options={}, created_at=1.0)
MANIFEST = Manifest(setup_id="a", chunks=1, items=1, input_bytes=1, shards=[], stats=[])
RESULT = ChunkResult(chunk=0, first_item=0, items=1, values=encode([1]), stats=[])
NODE = Node(level=1, index=0, failed=0, values=encode(["v"]), stats=[])
GOOD = Outcome(status=OutcomeStatus.SUCCEEDED, task="T", stats=[], value=encode("value"))
BAD = Outcome(status=OutcomeStatus.FAILED, task="T", stats=[], failure=Failure("process", "E", "why"))


@pytest.fixture
def counting() -> CountingStore:
    return CountingStore(MemoryStore())


@pytest.fixture
def ledger(counting: CountingStore) -> Ledger:
    return Ledger(counting, "job", "launch")


def test_the_first_intent_stands(ledger: Ledger) -> None:
    """A second writer is given what the first one wrote; the same again is success."""
    other = replace(INTENT, launch_id="other")
    assert write_intent(ledger.store, "job", INTENT) is INTENT
    assert write_intent(ledger.store, "job", INTENT) is INTENT
    assert write_intent(ledger.store, "job", other) == INTENT
    assert ledger.intent() == Ledger.of(ledger.store, "job").intent() == INTENT


def test_an_id_that_is_used_again_is_another_launch(ledger: Ledger) -> None:
    """Records of the launch that is gone are not those of the launch that has its id now."""
    write_intent(ledger.store, "job", replace(INTENT, launch_id="other"))
    with pytest.raises(JobNotFound):
        ledger.intent()
    ledger.write_outcome(GOOD)
    assert Ledger.of(ledger.store, "job").outcome() is None


def test_the_first_manifest_stands(ledger: Ledger) -> None:
    """Of two attempts the first manifest counts, for both."""
    ledger.write_manifest(MANIFEST)
    assert ledger.write_manifest(replace(MANIFEST, setup_id="b")).setup_id == "a"


def test_the_first_outcome_stands(ledger: Ledger) -> None:
    """A job ends once."""
    assert ledger.write_outcome(GOOD) is GOOD
    assert ledger.write_outcome(BAD).status == OutcomeStatus.SUCCEEDED
    assert ledger.value(GOOD) == "value"


def test_the_first_continuation_stands(ledger: Ledger) -> None:
    """What follows the join is said once."""
    assert ledger.continuation() is None
    ledger.write_continuation(Continuation(message="a"))
    assert ledger.write_continuation(Continuation(message="b")).message == "a"
    assert ledger.continuation() == Continuation(message="a")


def test_a_retry_with_another_result_is_reported(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """The first result of a chunk stands; only another content is worth a line in the log."""
    with caplog.at_level(logging.WARNING, "fanout"):
        ledger.write_result("a", RESULT)
        ledger.write_result("a", replace(RESULT, stats=[5]))
        assert not caplog.records
        assert ledger.write_result("a", replace(RESULT, values=encode([2]))).values == RESULT.values
    assert "chunk 0 gave another result" in caplog.text


def test_of_two_claims_one_holds(ledger: Ledger) -> None:
    """Whoever claims first has the join, also when it asks again."""
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


def test_of_two_nudges_one_is_given(ledger: Ledger) -> None:
    """A number of nudge is given to one sweep only."""
    assert ledger.write_resend(0, Note(by="x"))
    assert not ledger.write_resend(0, Note(by="y"))
    assert ledger.write_resend(1, Note(by="y"))


def test_accesses_cost_what_they_promise(ledger: Ledger, counting: CountingStore) -> None:
    """A write costs one request, one more where another record stands; a read costs one."""
    costs = []

    def cost(expected: dict[str, int]) -> None:
        costs.append((counting.requests, Counter(expected)))
        counting.reset()

    write_intent(ledger.store, "job", INTENT)
    cost({"put": 1})
    write_intent(ledger.store, "job", INTENT)
    cost({"put": 1, "get": 1})
    ledger.intent()
    cost({"get": 1})
    ledger.write_manifest(MANIFEST)
    cost({"put": 1})
    ledger.manifest()
    cost({"get": 1})
    assert ledger.outcome() is None
    cost({"get": 1})
    assert not ledger.has_outcome()
    cost({"head": 1})
    ledger.write_outcome(GOOD)
    cost({"put": 1})
    found = ledger.outcome()
    cost({"get": 1})
    assert found is not None
    ledger.value(found)
    cost({})
    ledger.write_result("a", RESULT)
    cost({"put": 1})
    assert ledger.finished_chunks("a") == ledger.finished_chunks("a", 0) == [0]
    cost({"list": 2})
    ledger.write_node("a", NODE)
    cost({"put": 1})
    assert ledger.nodes("a", 1, 0) == {0: 0}
    assert ledger.tree("a") == {1: {0: 0}}
    assert ledger.node("a", 1, 0) is not None
    cost({"list": 2, "get": 1})
    ledger.write_group_complete("a", 0, Note(by="x"))
    assert ledger.complete_groups("a") == {0}
    cost({"put": 1, "list": 1})
    assert ledger.attempts("setup").count == 0
    cost({"list": 1})
    assert ledger.last_heartbeat("setup") is None
    cost({"head": 1})
    assert [found for found, _ in costs] == [expected for _, expected in costs]


@pytest.mark.parametrize(("surplus", "beside"), [(0, False), (1, True)])
def test_a_large_value_lies_beside_the_outcome(surplus: int, beside: bool) -> None:
    """A value over the limit has an object of its own, written before the outcome that names it."""
    store = ScriptedStore()
    ledger = Ledger(store, "job", "launch")
    overhead = len(encode(b"")) + 3
    body = encode(b"x" * (INLINE_VALUE_BYTES - overhead + surplus))
    assert (len(body) > INLINE_VALUE_BYTES) is beside
    current = ledger.write_outcome(replace(GOOD, value=body))
    written = [key for verb, key in store.log if verb == "put"]
    assert written == [*([ledger.keys.value(digest(body))] if beside else []), ledger.keys.outcome]
    assert ledger.value(current) == decode(body)
    found = ledger.outcome()
    assert found is not None
    assert ledger.value(found) == decode(body)


def test_a_damaged_value_is_noticed() -> None:
    """A flipped byte of a large value is an error that names its key."""
    store = ScriptedStore()
    ledger = Ledger(store, "job", "launch")
    outcome = ledger.write_outcome(replace(GOOD, value=encode(b"x" * 2 * INLINE_VALUE_BYTES)))
    assert outcome.value_digest is not None
    key = ledger.keys.value(outcome.value_digest)
    store.flip(key)
    with pytest.raises(CorruptObject) as caught:
        ledger.value(outcome)
    assert caught.value.key == key


def test_a_value_that_is_not_there_is_the_jobs_error(ledger: Ledger) -> None:
    """Asking a failed job for its value raises the failure."""
    with pytest.raises(JobFailed, match="E: why"):
        ledger.value(ledger.write_outcome(BAD))


def test_a_missing_job_names_its_store(ledger: Ledger) -> None:
    """The error has the id and the store's URL."""
    with pytest.raises(JobNotFound, match=rf"job job is not in the store {ledger.store.url}"):
        ledger.intent()


def test_tries_are_counted_and_remembered(ledger: Ledger) -> None:
    """Each try is one record that may be rewritten; the last one that raised says why."""
    ledger.write_attempt("setup", 1, Attempt(state=AttemptState.STARTED, at=1.0))
    ledger.write_attempt("setup", 1, Attempt(state=AttemptState.RAISED, at=1.0, failure=Failure("setup", "E", "why")))
    ledger.write_attempt("setup", 2, Attempt(state=AttemptState.LOST, at=1.0))
    ledger.write_attempt("a/00000001", 1, Attempt(state=AttemptState.LOST, at=1.0))
    assert ledger.attempts("setup").count == ledger.attempts("setup").last == 2
    assert ledger.last_failure("setup", 1) == Failure("setup", "E", "why")
    assert ledger.last_failure("setup", 2) is None
    assert ledger.last_failure("setup", 3) is None


def test_a_try_that_was_put_off_does_not_count(ledger: Ledger) -> None:
    """It keeps its number, whether or not it had left a record of its own."""
    step = "a/00000001"
    ledger.write_attempt(step, 1, Attempt(state=AttemptState.STARTED, at=1.0))
    ledger.write_interrupted(step, 1, Note(by="x"))
    ledger.write_attempt(step, 2, Attempt(state=AttemptState.LOST, at=1.0))
    ledger.write_interrupted(step, 3, Note(by="x"))
    attempts = ledger.attempts(step)
    assert (attempts.last, attempts.count, attempts.interrupted, set(attempts.written_at)) == (3, 1, {1, 3}, {1, 2})
    assert ledger.last_attempts("a") == {1: 3}
    assert ledger.last_attempts("a")[0] == 0


def test_a_node_without_failures_is_of_all_rounds(ledger: Ledger) -> None:
    """One with failed items below it stands for its own round, until a good one comes; the fewest failures count."""
    later = Ledger(ledger.store, "job", "launch", generation=1)
    worse, bad = replace(NODE, failed=3, values=encode(["w"])), replace(NODE, failed=2, values=encode(["b"]))
    assert ledger.write_node("a", worse) is worse
    assert ledger.write_node("a", bad) == worse
    assert ledger.nodes("a", 1, 0) == {0: 3}
    assert later.nodes("a", 1, 0) == later.tree("a") == {}
    assert later.write_node("a", bad) is bad
    assert (ledger.tree("a"), later.tree("a")) == ({1: {0: 3}}, {1: {0: 2}})
    assert ledger.write_node("a", NODE) is NODE
    assert (ledger.tree("a"), later.tree("a")) == ({1: {0: 0}}, {1: {0: 0}})
    assert later.write_node("a", bad) == NODE


def test_remove_leaves_nothing_and_deletes_the_outcome_last(world: World) -> None:
    """No object of the job stays, those of others do; intent and outcome go last, in that order."""
    other = world.launch(Words, {"documents": ["a"]}, job_id="job-2")
    world.dispatcher.lose()
    ledger = world.launch(Words, {"documents": ["a b"] * 300}, job_id="job")
    world.dispatcher.drain(world.runtime)
    ledger.write_attempt("setup", 1, Attempt(state=AttemptState.LOST, at=1.0))
    ledger.write_heartbeat("setup", Note(by="x"))
    ledger.write_resend(0, Note(by="x"))
    before = world.store.keys("_jobs/job/")
    kinds = {launch_of(key)[1].split("/")[0] for key in before}
    assert kinds >= {"intent", "input", "results", "complete", "manifest", "claims", "outcome"}
    world.store.log.clear()
    assert remove_job(world.store, "job", "another launch") == 0
    assert remove_job(world.store, "job", ledger.launch_id) == len(before)
    assert world.store.keys("_jobs/job/") == []
    deleted = [key for verb, key in world.store.log if verb == "delete"]
    assert deleted[-2:] == [ledger.keys.intent, ledger.keys.outcome]
    assert other.intent().task == Words.name
    assert remove_job(world.store, "job") == 0
