"""Setup streams what it yields into the store; run twice, it makes one job."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import pytest

from fanout import ForkJoinTask, InvalidInput, JobFailed
from fanout.engines.submission import Submission
from fanout.errors import BrokerUnavailable
from fanout.records.failure import Failure
from fanout.records.models import OutcomeStatus
from fanout.stages import run_process, run_setup
from fanout.stages.delivery import Delivery
from storage import CorruptObject, MemoryStore, Reference, StorageUnavailable
from tests.tasks import FailingTask

from .dispatcher import Chunk, Setup, WorkerDied
from .tasks import Numbers, Words
from .world import World


def failure_of(world: World, task: type[ForkJoinTask], values: Any, **options: Any) -> Failure:
    outcome = world.run(task, values, **options)
    assert outcome.status == OutcomeStatus.FAILED
    failure = Failure.read(outcome.failure)
    assert failure is not None
    return failure


@pytest.mark.parametrize("made", [None, 3, "text", b"bytes", {"number": 1}, object()])
def test_a_setup_that_gives_no_items_fails_the_job(world: World, made: Any) -> None:
    """What is no iterable of dicts names the task, setup and the type that came."""

    class Wrong(ForkJoinTask):
        input_schema: Any = {}

        def setup():
            return made

        def process(number):
            return number

        def join(results):
            return list(results)

    failure = failure_of(world, Wrong, {})
    assert (failure.step, failure.error) == ("setup", "InvalidItem")
    assert (
        f"Wrong.setup: must return or yield dicts of arguments for process, not {type(made).__name__}" in failure.reason
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
    """The failure names the item by its index and what is wrong with it."""

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


def test_an_item_that_cannot_travel_fails_the_job_with_its_path(world: World) -> None:
    """The failure names the path inside the item."""

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
    """The failure has the type, the message and the traceback; the exception itself reaches the engine."""
    failure = failure_of(world, FailingTask, {"step": "setup", "numbers": []})
    assert (failure.step, failure.error, failure.reason) == ("setup", "ValueError", "setup was told to fail")
    assert "in setup" in failure.traceback_text
    assert [str(error) for error in world.errors] == ["setup was told to fail"]
    assert len(world.dispatcher.deliveries) == 1


def test_a_generator_that_raises_late_fails_the_job(world: World) -> None:
    """Chunks that were sent before do not bring the job back."""

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
    """Join is given no results; nothing is processed."""

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
    """Whatever the order of the messages, join sees the results in the order of the items."""
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
    """With every message delivered three times, in any order, one outcome is delivered."""
    world = World(copies=3)
    ledger = world.launch(Words, {"documents": ["a b", "b c", "a"] * 5}, chunk_items=2)
    world.dispatcher.drain(world.runtime, order=random.Random(seed))
    outcome = ledger.outcome()
    assert outcome is not None
    assert ledger.value(outcome) == {"a": 10, "b": 10, "c": 5}
    assert len(world.dispatcher.deliveries) == 1
    assert sum(key == ledger.keys.outcome for verb, key in world.store.log if verb == "put") >= 1


def test_a_setup_that_finds_a_manifest_adopts_it(world: World) -> None:
    """A second setup message makes nothing new; it starts the join if all is done."""
    ledger = world.prepare(Numbers, {"numbers": [1, 2]})
    manifest = ledger.manifest()
    sent = len(world.dispatcher.sent)
    run_setup(world.process(), ledger.job_id)
    assert ledger.manifest() == manifest
    assert len(world.dispatcher.sent) == sent
    world.dispatcher.drain(world.runtime, until=lambda: bool(world.dispatcher.joins))
    run_setup(world.process(), ledger.job_id)
    assert len(world.dispatcher.joins) == 2


@pytest.mark.parametrize("sign", ["redelivered", "resumed"])
def test_a_setup_that_died_before_it_sent_is_made_good(world: World, sign: str) -> None:
    """The manifest of a small job comes before its messages: who gets the message again sends what has no result."""
    ledger = world.prepare(Numbers, {"numbers": [1, 2, 3]})
    run_process(world.runtime, world.refs[1])
    world.dispatcher.waiting.clear()
    run_setup(world.process(), ledger.job_id, delivery=Delivery(**{sign: True}))
    assert [message.ref.chunk for message in world.dispatcher.waiting] == [0, 2]
    world.dispatcher.drain(world.runtime)
    assert [ledger.value(outcome) for outcome in world.dispatcher.deliveries] == [[1, 2, 3]]


def test_a_setup_that_finds_an_outcome_only_has_it_delivered(world: World) -> None:
    """After the end a setup message writes nothing and runs nothing of the user's."""
    ledger = world.launch(Numbers, {"numbers": [1]})
    world.dispatcher.drain(world.runtime)
    before = world.store.keys()
    world.store.log.clear()
    run_setup(world.process(), ledger.job_id)
    assert world.store.keys() == before
    assert {verb for verb, _ in world.store.log} <= {"head", "get"}
    world.dispatcher.drain(world.runtime)
    assert len(world.dispatcher.deliveries) == 1


def test_of_two_setups_at_once_one_attempt_counts() -> None:
    """The messages of the attempt that lost are dropped, and the value is that of one attempt."""
    world = World(pack_bytes=1)
    runs: list[str] = []

    class Racing(ForkJoinTask):
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

    ledger = world.launch(Racing, {})
    world.dispatcher.deliver(world.runtime)
    attempts = {message.ref.setup_id for message in world.dispatcher.chunks}
    manifest = ledger.manifest()
    assert manifest is not None
    assert len(attempts) == 2
    world.store.log.clear()
    world.dispatcher.drain(world.runtime)
    (lost,) = attempts - {manifest.setup_id}
    assert not [key for _, key in world.store.log if f"/{lost}/" in key]
    assert [ledger.value(outcome) for outcome in world.dispatcher.deliveries] == [[1, 2]]


def test_a_setup_whose_worker_died_is_run_again(world: World) -> None:
    """A redelivered setup starts over; what the first run sent does no harm."""
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
    """It runs exactly `max_attempts` times; the failure says that its worker was lost."""
    runs: list[str] = []

    class Poison(ForkJoinTask):
        input_schema: Any = {}

        def setup():
            runs.append("run")
            raise WorkerDied

        def process(number):
            return number

        def join(results):
            return list(results)

    failure = failure_of(world, Poison, {}, max_attempts=attempts)
    assert len(runs) == attempts
    assert (failure.step, failure.error, failure.attempts) == ("setup", "WorkerLost", attempts)


def test_a_streamed_setup_does_not_run_ahead_of_what_it_sent(world: World) -> None:
    """With one upload at a time, the generator is asked for at most two items beyond those that are on their way."""
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
    """`chunk_bytes` cuts earlier than the number of items says."""
    ledger = world.prepare(Words, {"documents": ["x" * 1000] * 10}, chunk_items=100, chunk_bytes=3000)
    manifest = ledger.manifest()
    assert manifest is not None
    assert [ref.location.items for ref in world.refs] == [3, 3, 3, 1]
    assert manifest.input_bytes == sum(ref.location.slice_.length for ref in world.refs)


def test_an_item_over_the_limit_is_refused(world: World) -> None:
    """An item larger than `max_item_bytes` ends the job; the error names the item, its size and the remedy."""
    outcome = world.run(Words, {"documents": ["a", "x" * 5000, "b"]}, max_item_bytes=1000)
    failure = Failure.read(outcome.failure)
    assert failure is not None
    assert (failure.step, failure.error) == ("setup", "InvalidItem")
    assert re.search(r"items\[1\] takes 5,\d\d\d bytes, over the limit of 1,000: .*item_bytes", failure.reason)


def test_an_item_of_just_the_limit_passes(world: World) -> None:
    """The limit itself is allowed, and it is each item that counts, not the chunk."""
    values = {"documents": ["x" * 100] * 20}
    # A map of one, a key of 8, a text of 100.
    size = 1 + 1 + 8 + 2 + 100
    assert world.run(Words, values, chunk_items=20, max_item_bytes=size).status == OutcomeStatus.SUCCEEDED
    assert world.run(Words, values, chunk_items=20, max_item_bytes=size - 1).status == OutcomeStatus.FAILED


@pytest.mark.parametrize(("chunk_count", "expected"), [(1, [7]), (3, [3, 2, 2]), (7, [1] * 7), (20, [1] * 7)])
def test_groups_cut_a_collection_evenly(world: World, chunk_count: int, expected: list[int]) -> None:
    """`chunk_count` is the number of chunks where there are as many items."""
    world.prepare(Words, {"documents": ["x"] * 7}, chunk_count=chunk_count)
    assert [ref.location.items for ref in world.refs] == expected


def test_groups_of_a_generator_fail_the_job(world: World) -> None:
    """A setup that yields can't be cut into a number of chunk_count; the failure says what to do."""
    failure = failure_of(world, Numbers, {"numbers": [1]}, chunk_count=2, chunk_items=None)
    assert (failure.step, failure.error) == ("setup", "ConfigError")
    assert "Use chunk_items, or neither" in failure.reason


def test_chunks_lie_where_the_index_says(world: World) -> None:
    """With more chunks than one index object holds, the places in the index are those in the messages."""
    ledger = world.prepare(Numbers, {"numbers": list(range(1100))})
    manifest = ledger.manifest()
    assert manifest is not None
    assert len(manifest.shards) == 2
    shards = [ledger.shard(manifest, shard) for shard in range(2)]
    assert [shard.first_chunk for shard in shards] == [0, 1024]
    assert [location for shard in shards for location in shard.locations] == [ref.location for ref in world.refs]


@pytest.mark.parametrize("number", range(1, 14))
def test_a_store_that_fails_at_any_request_passes_through(number: int) -> None:
    """Whichever write of setup fails, the error reaches the engine, no outcome is written, and a re-run succeeds."""
    world = World(pack_bytes=1)
    ledger = world.launch(Numbers, {"numbers": [1, 2, 3]})
    requests = iter(range(1, 10**6))

    def fail(verb: str, key: str) -> None:
        if next(requests) == number:
            raise StorageUnavailable(f"{verb} {key}", key=key)

    world.store.before = fail
    try:
        world.dispatcher.deliver(world.process())
    except StorageUnavailable:
        failed = True
    else:
        failed = False
    world.store.before = lambda verb, key: None
    assert ledger.outcome() is None
    assert failed == any(isinstance(message, Setup) for message in world.dispatcher.waiting)
    world.dispatcher.drain(world.process())
    outcome = ledger.outcome()
    assert outcome is not None
    assert ledger.value(outcome) == [1, 2, 3]


@pytest.mark.parametrize("refusals", [1, 2, 3, 7])
def test_a_silent_broker_is_no_try_of_setup(refusals: int) -> None:
    """However often a setup is given back because its handles could not be sent, it is not its worker's death."""
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
def test_a_large_parameter_that_is_damaged_or_gone_fails_the_job(damage: str) -> None:
    """What no repetition can mend is a failure of the job that names the key."""
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


def test_a_setup_of_no_job_is_dropped(world: World) -> None:
    """A late message for a job that was removed does nothing."""
    run_setup(world.runtime, "nobody")
    assert world.store.keys() == []


def test_messages_may_leave_before_the_manifest(world: World) -> None:
    """A chunk can be processed while setup still yields, and setup starts the join if all are done by then."""

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
    """Setup notices that the job has ended and asks the generator for no more."""
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
    carrier_send = world.dispatcher.send_chunks

    def send(task: str, refs: Any, **options: Any) -> None:
        carrier_send(task, refs, **options)
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
    """Every key that a job writes lies under the prefix of its launch, is its intent or holds a parameter."""
    ledger = world.launch(Words, {"documents": ["a b" * 5000, "c"]})
    world.dispatcher.drain(world.runtime)
    prefix = ledger.keys.prefix
    written = {key for verb, key in world.store.log if verb == "put"}
    assert {key for key in written if not key.startswith((prefix, "_parameters/"))} == {ledger.keys.intent}


def test_what_only_setup_takes_may_stay_with_the_caller(world: World) -> None:
    """With `setup_in_caller` a list that setup cuts is never stored as a whole; what process or join take is."""

    class Scaled(ForkJoinTask):
        input_schema: Any = {"numbers": {"type": "list"}, "factor": {"type": "string"}}

        def setup(numbers):
            return [{"number": number} for number in numbers]

        def process(number, factor):
            return number * len(factor)

        def join(results):
            return list(results)

    values = {"numbers": list(range(10_000)), "factor": "x" * 10_000}
    order = Submission.of(
        Scaled.declaration, values, store=world.store, inline_bytes=100, options={}, setup_in_caller=True
    )
    assert order.caller_parameters == {"numbers": values["numbers"]}
    assert set(order.parameters.references) == {"factor"}
    assert len(world.store.keys("_parameters/")) == 1
    ledger = world.runtime.launch("here", order.intent()).ledger
    run_setup(world.runtime, "here", caller_parameters=order.caller_parameters)
    world.dispatcher.drain(world.runtime)
    outcome = ledger.outcome()
    assert outcome is not None
    assert ledger.value(outcome) == [number * 10_000 for number in range(10_000)]


def test_a_caller_that_sets_up_still_validates(world: World) -> None:
    """`setup_in_caller` refuses what does not fit before anything is stored."""
    with pytest.raises(InvalidInput, match="numbers"):
        Submission.of(
            Numbers.declaration, {"numbers": 5}, store=world.store, inline_bytes=0, options={}, setup_in_caller=True
        )
    assert world.store.keys() == []


class Long(ForkJoinTask):
    """The length of each text, of slices of ten."""

    input_schema: Any = {"texts": {"type": "list", "required": True}}

    def setup(texts):
        return [{"part": texts[first : first + 10]} for first in range(0, len(texts), 10)]

    def process(part):
        return [len(text) for text in part]

    def join(results):
        return [length for lengths in results for length in lengths]


LONG = ["x" * (10_000 + number) for number in range(100)]


def test_what_setup_hands_on_is_not_stored_twice() -> None:
    """Slices of a stored list are borrowed from it: the packs hold places, and each chunk reads its slice alone."""
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
        content = MemoryStore.get(world.store, key, offset=offset, length=length)
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
def test_what_was_lent_and_is_damaged_or_gone_fails_the_job(damage: str) -> None:
    """The failure names the chunk and the parameter."""
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


def test_a_chunk_borrows_from_parameters_of_its_job_alone() -> None:
    """A forged chunk can't read another job's input."""
    world = World()
    world.prepare(Long, {"texts": LONG})
    (key,) = world.store.keys("_parameters/")
    other = world.runtime.job(world.prepare(Numbers, {"numbers": [1]}).job_id)
    with pytest.raises(CorruptObject, match="no parameter of its job"):
        other.parameters.fetch_range(Reference(key.removeprefix("_parameters/"), 0, 100), world.store)
