"""Setup streams its items into the store. Two runs of setup make one job."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from fanout import ForkJoinTask, InvalidInput, JobFailed
from fanout.abc import Delivery
from fanout.engines.stub import Chunk, Setup, WorkerDied
from fanout.engines.submission import Submission
from fanout.errors import BrokerUnavailable
from fanout.records.failure import Failure
from fanout.records.models import OutcomeStatus
from fanout.stages import batch_writer, run_process, run_setup
from storage import CorruptObject, Reference, StorageUnavailable
from tests.stores import fail_each_request
from tests.tasks import FailingTask

from .tasks import Numbers, Words
from .world import World


def failure_of(world: World, task: type[ForkJoinTask], values: Any, **options: Any) -> Failure:
    outcome = world.run(task, values, **options)
    assert outcome.status == OutcomeStatus.FAILED
    failure = Failure.read(outcome.failure)
    assert failure is not None
    return failure


@pytest.mark.parametrize("returned", [None, 3, "text", b"bytes", {"number": 1}, object()])
def test_a_setup_that_returns_no_items_fails_the_job(world: World, returned: Any) -> None:
    """The failure of a setup that returns no iterable of dicts names the task, setup and the returned type."""

    class Wrong(ForkJoinTask):
        input_schema: Any = {}

        def setup():
            return returned

        def process(number):
            return number

        def join(results):
            return list(results)

    failure = failure_of(world, Wrong, {})
    assert (failure.step, failure.error) == ("setup", "InvalidItem")
    assert (
        f"Wrong.setup: must return or yield dicts of arguments for process, not {type(returned).__name__}"
        in failure.reason
    )


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (5, "item 2 is int, not a dict"),
        ({"numbr": 1}, "item 2 has the key 'numbr', which process does not take; it takes number"),
        ({}, "item 2 lacks 'number'"),
    ],
)
def test_an_item_that_does_not_fit_fails_the_job(world: World, item: Any, reason: str) -> None:
    """The failure has the index of the item and its error."""

    class Wrong(ForkJoinTask):
        input_schema: Any = {}

        def setup():
            yield {"number": 0}
            yield {"number": 1}
            yield item

        def process(number):
            return number

        def join(results):
            return list(results)

    failure = failure_of(world, Wrong, {})
    assert (failure.step, failure.error) == ("setup", "InvalidItem")
    assert reason in failure.reason


def test_an_item_that_cannot_be_encoded_fails_the_job_with_its_path(world: World) -> None:
    """The failure has the path inside the item."""

    class Wrong(ForkJoinTask):
        input_schema: Any = {}

        def setup():
            return [*({"document": {}} for _ in range(3)), {"document": {"meta": object()}}]

        def process(document):
            return document

        def join(results):
            return list(results)

    failure = failure_of(world, Wrong, {})
    assert (failure.step, failure.error) == ("setup", "Unencodable")
    assert failure.reason.startswith("items[3].document.meta is a builtins.object")


def test_a_setup_that_raises_fails_the_job(world: World) -> None:
    """The failure has the type, the message and the traceback. The exception itself reaches the engine."""
    failure = failure_of(world, FailingTask, {"step": "setup", "numbers": []})
    assert (failure.step, failure.error, failure.reason) == ("setup", "ValueError", "setup was told to fail")
    assert "in setup" in failure.traceback_text
    assert [str(error) for error in world.errors] == ["setup was told to fail"]
    assert len(world.dispatcher.deliveries) == 1


def test_a_generator_that_raises_late_fails_the_job(world: World) -> None:
    """Chunks that setup sent before it raised do not resume the job."""

    class Late(ForkJoinTask):
        input_schema: Any = {}
        chunk_items = 1

        def setup():
            yield from ({"number": number} for number in range(5))
            raise ValueError("the source broke off")

        def process(number):
            return number

        def join(results):
            return list(results)

    failure = failure_of(world, Late, {}, chunk_items=1)
    assert failure.reason == "the source broke off"
    assert world.dispatcher.joins[0].resent is False


@pytest.mark.parametrize("empty", [[], (), iter(()), range(0)])
def test_a_job_without_items_has_a_value(world: World, empty: Any) -> None:
    """Join is given no results, and process does not run."""

    class Empty(ForkJoinTask):
        input_schema: Any = {}

        def setup():
            return empty

        def process(number):
            return number

        def join(results):
            return [len(results), list(results)]

    ledger = world.launch(Empty, {})
    world.dispatcher.drain(world.runtime)
    outcome = ledger.outcome()
    assert outcome is not None
    assert ledger.value(outcome) == [0, []]
    assert world.dispatcher.chunks == []


@pytest.mark.parametrize("items", [1, 2, 3, 64, 65, 130])
def test_results_come_in_item_order(world: World, items: int) -> None:
    """After messages in any order, join has the results in the order of the items."""
    ledger = world.launch(Numbers, {"numbers": list(range(items))})
    world.dispatcher.drain(world.runtime, order=random.Random(items))
    outcome = ledger.outcome()
    assert outcome is not None
    assert ledger.value(outcome) == list(range(items))
    manifest = ledger.manifest()
    assert manifest is not None
    assert (manifest.chunks, manifest.items, len(manifest.shards)) == (items, items, int(items > 64))


@pytest.mark.parametrize("seed", range(6))
def test_duplicates_in_any_order_give_one_outcome(seed: int) -> None:
    """If every message is delivered three times, in any order, one outcome is delivered."""
    world = World(copies=3)
    ledger = world.launch(Words, {"documents": ["a b", "b c", "a"] * 5}, chunk_items=2)
    world.dispatcher.drain(world.runtime, order=random.Random(seed))
    outcome = ledger.outcome()
    assert outcome is not None
    assert ledger.value(outcome) == {"a": 10, "b": 10, "c": 5}
    assert len(world.dispatcher.deliveries) == 1
    assert sum(key == ledger.keys.outcome for verb, key in world.store.log if verb == "put") >= 1


def test_a_setup_that_finds_a_manifest_adopts_it(world: World) -> None:
    """A second setup message writes no manifest and sends no chunks. It starts the join if all chunks are done."""
    ledger = world.prepare(Numbers, {"numbers": [1, 2]})
    manifest = ledger.manifest()
    sent = len(world.dispatcher.sent)
    run_setup(world.process(), ledger.job_id)
    assert ledger.manifest() == manifest
    assert len(world.dispatcher.sent) == sent
    world.dispatcher.drain(world.runtime, until=lambda: bool(world.dispatcher.joins))
    run_setup(world.process(), ledger.job_id)
    assert len(world.dispatcher.joins) == 2


@pytest.mark.parametrize("redelivery", ["redelivered", "resumed"])
def test_a_second_setup_sends_the_chunks_that_the_first_did_not(world: World, redelivery: str) -> None:
    """Setup writes the manifest of a small job before it sends. A second run sends the chunks without a result."""
    ledger = world.prepare(Numbers, {"numbers": [1, 2, 3]})
    run_process(world.runtime, world.refs[1])
    world.dispatcher.waiting.clear()
    run_setup(world.process(), ledger.job_id, delivery=Delivery(**{redelivery: True}))
    assert [message.ref.chunk for message in world.dispatcher.waiting] == [0, 2]
    world.dispatcher.drain(world.runtime)
    assert [ledger.value(outcome) for outcome in world.dispatcher.deliveries] == [[1, 2, 3]]


def test_a_redelivered_setup_leaves_the_run_of_another_message() -> None:
    """The run for a sweep's message is no lost run of the first message."""
    world = World()
    runs: list[str] = []

    class Redelivered(ForkJoinTask):
        input_schema: Any = {}
        max_attempts = 2

        def setup():
            runs.append("run")
            if len(runs) == 1:
                for _ in range(3):
                    delivery = Delivery(message="first", redelivered=True)
                    run_setup(world.process(), ledger.job_id, delivery=delivery)
            return [{"number": 1}]

        def process(number):
            return number

        def join(results):
            return list(results)

    ledger = world.launch(Redelivered, {})
    run_setup(world.process(), ledger.job_id, delivery=Delivery(message="second", resent=True))
    assert runs == ["run"]
    assert ledger.attempts("setup").count == 1
    assert ledger.manifest() is not None


def test_a_setup_that_finds_an_outcome_only_delivers_it(world: World) -> None:
    """After the end, a setup message writes nothing and does not run the user's setup."""
    ledger = world.launch(Numbers, {"numbers": [1]})
    world.dispatcher.drain(world.runtime)
    before = world.store.keys()
    world.store.log.clear()
    run_setup(world.process(), ledger.job_id)
    assert world.store.keys() == before
    assert {verb for verb, _ in world.store.log} <= {"head", "get"}
    world.dispatcher.drain(world.runtime)
    assert len(world.dispatcher.deliveries) == 1


def test_of_two_setups_at_once_one_counts() -> None:
    """The messages of the superseded setup are dropped, and the value is that of one setup."""
    world = World(pack_bytes=1)
    runs: list[str] = []

    class TwoSetups(ForkJoinTask):
        input_schema: Any = {}
        chunk_items = 1

        def setup():
            runs.append("run")
            if len(runs) == 1:
                yield {"number": 1}
                run_setup(world.process(), ledger.job_id, delivery=Delivery(redelivered=True))
                yield {"number": 2}
            else:
                yield from ({"number": number} for number in (1, 2))

        def process(number):
            return number

        def join(results):
            return list(results)

    ledger = world.launch(TwoSetups, {})
    world.dispatcher.deliver(world.runtime)
    setup_ids = {message.ref.setup_id for message in world.dispatcher.chunks}
    manifest = ledger.manifest()
    assert manifest is not None
    assert len(setup_ids) == 2
    world.store.log.clear()
    world.dispatcher.drain(world.runtime)
    (superseded,) = setup_ids - {manifest.setup_id}
    assert not [key for _, key in world.store.log if f"/{superseded}/" in key]
    assert [ledger.value(outcome) for outcome in world.dispatcher.deliveries] == [[1, 2]]


def test_a_setup_whose_worker_died_is_run_again(world: World) -> None:
    """A redelivered setup starts again, and the chunks of the first run do no harm."""
    runs: list[str] = []

    class Dying(ForkJoinTask):
        input_schema: Any = {}
        chunk_items = 1

        def setup():
            runs.append("run")
            yield {"number": 1}
            yield {"number": 2}
            if len(runs) == 1:
                raise WorkerDied
            yield {"number": 3}

        def process(number):
            return number

        def join(results):
            return list(results)

    outcome = world.run(Dying, {})
    assert (len(runs), outcome.status) == (2, OutcomeStatus.SUCCEEDED)


@pytest.mark.parametrize("attempts", [1, 2, 3, 5])
def test_a_setup_that_always_kills_its_worker_is_given_up(world: World, attempts: int) -> None:
    """Setup runs `max_attempts` times. The failure says that its worker was lost."""
    runs: list[str] = []

    class Killing(ForkJoinTask):
        input_schema: Any = {}

        def setup():
            runs.append("run")
            raise WorkerDied

        def process(number):
            return number

        def join(results):
            return list(results)

    failure = failure_of(world, Killing, {}, max_attempts=attempts)
    assert len(runs) == attempts
    assert (failure.step, failure.error, failure.attempts) == ("setup", "WorkerLost", attempts)


def test_a_streamed_setup_reads_little_more_than_it_sent(world: World) -> None:
    """With one upload at a time, the generator is at most two items ahead of the chunks that were sent."""
    ahead: list[int] = []
    world = World(pack_bytes=1, upload_concurrency=1)

    def numbers() -> Iterator[int]:
        for number in range(300):
            ahead.append(number - len(world.dispatcher.chunks))
            yield number

    ledger = world.launch(Numbers, {"numbers": numbers()})
    assert len(world.dispatcher.chunks) == 300
    assert max(ahead) <= 2
    world.dispatcher.drain(world.runtime)
    outcome = ledger.outcome()
    assert outcome is not None
    assert ledger.value(outcome) == list(range(300))


def test_a_chunk_is_closed_at_its_size_in_bytes(world: World) -> None:
    """A chunk ends at `chunk_bytes`, also if it has fewer than `chunk_items` items."""
    ledger = world.prepare(Words, {"documents": ["x" * 1000] * 10}, chunk_items=100, chunk_bytes=3000)
    manifest = ledger.manifest()
    assert manifest is not None
    assert [ref.location.items for ref in world.refs] == [3, 3, 3, 1]
    assert manifest.input_bytes == sum(ref.location.slice_.length for ref in world.refs)


def test_an_item_over_the_limit_is_refused(world: World) -> None:
    """An item larger than `max_item_bytes` fails the job. The error names the item, its size and the remedy."""
    outcome = world.run(Words, {"documents": ["a", "x" * 5000, "b"]}, max_item_bytes=1000)
    failure = Failure.read(outcome.failure)
    assert failure is not None
    assert (failure.step, failure.error) == ("setup", "InvalidItem")
    assert re.search(r"items\[1\] takes 5,\d\d\d bytes, over the limit of 1,000: .*item_bytes", failure.reason)


@pytest.mark.parametrize("make", [list, iter])
def test_a_chunk_over_the_limit_of_a_job_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, make: Callable[[list[Any]], Iterable[Any]]
) -> None:
    """Setup may make as many chunks as keys have numbers for. The error of one more names its item and the remedy."""

    class Many(ForkJoinTask):
        input_schema: Any = {"count": {"type": "integer"}}

        def setup(count):
            return make([{"number": 1}] * count)

        def process(number):
            return number

        def join(results):
            return sum(results)

    monkeypatch.setattr(batch_writer, "MOST_CHUNKS", 3)
    assert world.run(Many, {"count": 6}, chunk_items=2).status == OutcomeStatus.SUCCEEDED
    failure = failure_of(world, Many, {"count": 7}, chunk_items=2)
    assert (failure.step, failure.error) == ("setup", "InvalidItem")
    assert re.search(r"items\[6\] begins another chunk than the 3 .*chunk_items", failure.reason)


def test_an_item_of_just_the_limit_passes(world: World) -> None:
    """An item of exactly the limit is allowed. The limit is for each item, not for the chunk."""
    values = {"documents": ["x" * 100] * 20}
    # A map of one entry, a key of 8 bytes, a text of 100.
    size = 1 + 1 + 8 + 2 + 100
    assert world.run(Words, values, chunk_items=20, max_item_bytes=size).status == OutcomeStatus.SUCCEEDED
    assert world.run(Words, values, chunk_items=20, max_item_bytes=size - 1).status == OutcomeStatus.FAILED


@pytest.mark.parametrize(("chunk_count", "expected"), [(1, [7]), (3, [3, 2, 2]), (7, [1] * 7), (20, [1] * 7)])
def test_chunk_count_cuts_a_collection_evenly(world: World, chunk_count: int, expected: list[int]) -> None:
    """`chunk_count` is the number of chunks if there are at least as many items."""
    world.prepare(Words, {"documents": ["x"] * 7}, chunk_count=chunk_count)
    assert [ref.location.items for ref in world.refs] == expected


def test_chunk_count_for_a_generator_fails_the_job(world: World) -> None:
    """A setup that yields can't be cut into `chunk_count` chunks. The failure has the remedy."""
    failure = failure_of(world, Numbers, {"numbers": [1]}, chunk_count=2, chunk_items=None)
    assert (failure.step, failure.error) == ("setup", "ConfigError")
    assert "Use chunk_items, or neither" in failure.reason


def test_the_index_has_the_locations_of_the_chunks(world: World) -> None:
    """If the chunks need two index objects, the locations in them are those in the messages."""
    ledger = world.prepare(Numbers, {"numbers": list(range(1100))})
    manifest = ledger.manifest()
    assert manifest is not None
    assert len(manifest.shards) == 2
    shards = [ledger.shard(manifest, shard) for shard in range(2)]
    assert [shard.first_chunk for shard in shards] == [0, 1024]
    located = [entry for shard in shards for entry in shard.batches.items()]
    assert located == [(ref.chunk, ref.location) for ref in world.refs]


def test_a_store_that_fails_at_any_request_passes_through() -> None:
    """If any request of setup fails, the error reaches the engine and no outcome is written. A second run succeeds."""
    for fault in fail_each_request():
        world = World(pack_bytes=1)
        ledger = world.launch(Numbers, {"numbers": [1, 2, 3]})
        with world.store.injecting(fault), suppress(StorageUnavailable):
            world.dispatcher.deliver(world.process())
        assert ledger.outcome() is None
        redelivered = any(isinstance(message, Setup) for message in world.dispatcher.waiting)
        assert redelivered == bool(fault.injected), fault
        world.dispatcher.drain(world.process())
        outcome = ledger.outcome()
        assert outcome is not None
        assert ledger.value(outcome) == [1, 2, 3]


@pytest.mark.parametrize("refusals", [1, 2, 3, 7])
def test_a_silent_broker_uses_up_no_attempt_of_setup(refusals: int) -> None:
    """A run of setup that a silent broker interrupts is no attempt, and does not count as its worker's death."""
    world = World(pack_bytes=1)
    ledger = world.launch(Numbers, {"numbers": [1, 2, 3]}, max_attempts=2)
    send = world.dispatcher.send_chunks

    def refuse(*_: object, **__: object) -> None:
        raise BrokerUnavailable("no broker")

    world.dispatcher.send_chunks = refuse  # type: ignore[method-assign]
    for _ in range(refusals):
        with pytest.raises(BrokerUnavailable):
            world.dispatcher.deliver(world.process())
    world.dispatcher.send_chunks = send  # type: ignore[method-assign]
    world.dispatcher.drain(world.process())
    outcome = ledger.outcome()
    assert outcome is not None
    assert ledger.value(outcome) == [1, 2, 3]


@pytest.mark.parametrize("damage", ["flip", "delete"])
def test_a_damaged_or_deleted_parameter_fails_the_job(damage: str) -> None:
    """The failure of a job whose parameter is damaged or deleted names the key."""
    world = World(inline_bytes=10)
    ledger = world.launch(Words, {"documents": ["a"] * 100})
    (key,) = world.store.keys("_parameters/")
    if damage == "flip":
        world.store.flip(key)
    else:
        world.store.delete([key])
    world.dispatcher.deliver(world.runtime)
    outcome = ledger.outcome()
    assert outcome is not None
    failure = Failure.read(outcome.failure)
    assert failure is not None
    assert failure.step == "setup"
    assert key in failure.reason


def test_a_setup_message_of_an_unknown_job_is_dropped(world: World) -> None:
    """A late message for a job that was removed does nothing."""
    run_setup(world.runtime, "unknown-job")
    assert world.store.keys() == []


def test_chunks_may_run_before_the_manifest(world: World) -> None:
    """Workers process chunks while setup still yields. If all chunks are done by then, setup starts the join."""

    class Eager(ForkJoinTask):
        input_schema = {"numbers": {"type": "list"}}
        chunk_items = 1

        def setup(numbers):
            for number in numbers:
                yield {"number": number}
                world.dispatcher.drain(world.runtime)

        def process(number):
            return number

        def join(results):
            return list(results)

    world.config = type(world.config)(store=world.store.url, pack_bytes=1, upload_concurrency=1)
    world.runtime = world.process()
    ledger = world.launch(Eager, {"numbers": list(range(70))})
    world.dispatcher.drain(world.runtime)
    assert [ledger.value(outcome) for outcome in world.dispatcher.deliveries] == [list(range(70))]


def test_a_failure_before_the_manifest_stops_setup() -> None:
    """Setup notices that the job has ended and reads no more items from the generator."""
    world = World(pack_bytes=1, upload_concurrency=1, stall_s=0.03)
    ended = []

    class Endless(ForkJoinTask):
        input_schema: Any = {}
        chunk_items = 1

        def setup():
            try:
                while True:
                    yield {"number": 1}
            finally:
                ended.append(True)

        def process(number):
            raise ValueError("no")

        def join(results):
            return list(results)

    ledger = world.launch(Endless, {})
    send_chunks = world.dispatcher.send_chunks

    def send(task: str, refs: Any, **options: Any) -> None:
        send_chunks(task, refs, **options)
        if not ledger.has_outcome():
            world.dispatcher.drain(world.runtime, until=lambda: not isinstance(world.dispatcher.waiting[0], Chunk))
        world.dispatcher.lose(Chunk)

    world.dispatcher.send_chunks = send  # type: ignore[method-assign]
    world.dispatcher.deliver(world.runtime)
    world.errors.clear()
    assert ended == [True]
    assert ledger.manifest() is None
    outcome = ledger.outcome()
    assert outcome is not None
    with pytest.raises(JobFailed, match=r"tried 3 times"):
        ledger.value(outcome)


def test_nothing_is_written_outside_the_job(world: World) -> None:
    """Each key that a job writes is under the prefix of its launch, its intent, a parameter or an entry of an index."""
    ledger = world.launch(Words, {"documents": ["a b" * 5000, "c"]})
    world.dispatcher.drain(world.runtime)
    prefix = ledger.keys.prefix
    written = {key for verb, key in world.store.log if verb == "put"}
    assert {key for key in written if not key.startswith((prefix, "_parameters/", "_open/", "_ended/"))} == {
        ledger.keys.intent
    }


def test_setup_in_caller_does_not_store_parameters_of_setup_alone(world: World) -> None:
    """With `setup_in_caller` a list that only setup takes is not stored. Parameters of process and join are."""

    class Scaled(ForkJoinTask):
        input_schema: Any = {"numbers": {"type": "list"}, "factor": {"type": "string"}}

        def setup(numbers):
            return [{"number": number} for number in numbers]

        def process(number, factor):
            return number * len(factor)

        def join(results):
            return list(results)

    values = {"numbers": list(range(500)), "factor": "x" * 10_000}
    submission = Submission.of(
        Scaled.declaration, values, store=world.store, inline_bytes=100, options={}, setup_in_caller=True
    )
    assert submission.caller_parameters == {"numbers": values["numbers"]}
    assert set(submission.parameters.references) == {"factor"}
    assert len(world.store.keys("_parameters/")) == 1
    ledger = world.runtime.launch("here", submission.intent()).ledger
    run_setup(world.runtime, "here", caller_parameters=submission.caller_parameters)
    world.dispatcher.drain(world.runtime)
    outcome = ledger.outcome()
    assert outcome is not None
    assert ledger.value(outcome) == [number * 10_000 for number in range(500)]


def test_setup_in_caller_validates_the_input(world: World) -> None:
    """`setup_in_caller` refuses a wrong input before anything is stored."""
    with pytest.raises(InvalidInput, match="numbers"):
        Submission.of(
            Numbers.declaration, {"numbers": 5}, store=world.store, inline_bytes=0, options={}, setup_in_caller=True
        )
    assert world.store.keys() == []


class Long(ForkJoinTask):
    """Returns the length of each text, computed for ten texts at a time."""

    input_schema: Any = {"texts": {"type": "list", "required": True}}

    def setup(texts):
        return [{"part": texts[first : first + 10]} for first in range(0, len(texts), 10)]

    def process(part):
        return [len(text) for text in part]

    def join(results):
        return [length for lengths in results for length in lengths]


LONG = ["x" * (10_000 + number) for number in range(100)]


def test_items_that_are_part_of_a_parameter_are_not_stored_twice() -> None:
    """Packs refer to byte ranges of a stored list, and each chunk reads only its range."""
    world = World()
    ledger = world.prepare(Long, {"texts": LONG}, chunk_items=1)
    keys = ledger.keys
    (parameter,) = world.store.keys("_parameters/")
    packs = [key for key in world.store.keys(keys.inputs) if "index" not in key]
    assert sum(len(world.store.get(key)) for key in packs) < 5_000
    manifest = ledger.manifest()
    assert manifest is not None
    assert manifest.input_bytes > sum(map(len, LONG))
    read: list[int] = []

    def get(key: str, *, offset: int = 0, length: int | None = None) -> Any:
        content = world.store.inner.get(key, offset=offset, length=length)
        if key == parameter:
            read.append(len(content))
        return content

    world.store.get = get  # type: ignore[method-assign]
    world.dispatcher.drain(world.process())
    outcome = ledger.outcome()
    assert outcome is not None
    assert ledger.value(outcome) == list(map(len, LONG))
    assert sum(read) == sum(len(text) + 3 for text in LONG)
    assert max(read) < 110_000


@pytest.mark.parametrize("damage", ["flip", "delete"])
def test_a_chunk_whose_parameter_is_damaged_or_deleted_fails_the_job(damage: str) -> None:
    """The failure names the chunk and the damaged or deleted parameter."""
    world = World()
    ledger = world.prepare(Long, {"texts": LONG}, chunk_items=1)
    (key,) = world.store.keys("_parameters/")
    if damage == "flip":
        world.store.flip(key)
    else:
        world.store.delete([key])
    world.dispatcher.drain(world.process())
    outcome = ledger.outcome()
    assert outcome is not None
    failure = Failure.read(outcome.failure)
    assert failure is not None
    assert (failure.step, failure.error) == (
        "process",
        "CorruptObject" if damage == "flip" else "ObjectNotFound",
    )
    assert key.removeprefix("_parameters/") in failure.reason


def test_a_chunk_may_refer_only_to_parameters_of_its_job() -> None:
    """A forged chunk can't read another job's input."""
    world = World()
    world.prepare(Long, {"texts": LONG})
    (key,) = world.store.keys("_parameters/")
    other = world.runtime.job(world.prepare(Numbers, {"numbers": [1]}).job_id)
    with pytest.raises(CorruptObject, match="no parameter of its job"):
        other.parameters.fetch_range(Reference(key.removeprefix("_parameters/"), 0, 100), world.store)
