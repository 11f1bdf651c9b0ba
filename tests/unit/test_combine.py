"""Workers combine results in the store, in order, so that join receives at most 32 values."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fanout import FailedItem, ForkJoinTask, JobFailed, fork_join
from fanout.abc import Delivery
from fanout.background.debouncer import Debouncer
from fanout.declaration.definition import Registry
from fanout.engines.stub import Chunk, WorkerDied
from fanout.records.failure import Failure
from fanout.records.keys import combine_step
from fanout.records.ledger import Ledger
from fanout.records.models import ChunkResult, Intent, Note, Outcome, OutcomeStatus
from fanout.report import describe_costs
from fanout.runtime import Runtime
from fanout.stages import conclude, run_process
from fanout.stages.barrier import completion_of, levels_of
from fanout.sweep import Move, sweep_job
from storage import StorageUnavailable, encode
from tests.stores import Fault, fail_each_request

from . import steps
from .tasks import KillingCombine
from .world import World

STALL_S = 60.0
WIDTHS = [0, 1, 2, 31, 32, 33, 64, 65, 33 * 32 + 5]
"""Numbers of chunks: without a tree, with a tree of one level, and with a tree of two."""


class Pairs(ForkJoinTask):
    """Makes strings of numbers, which show in which order and groups they were combined."""

    input_schema = {"numbers": {"type": "list"}, "mark": {"type": "string", "default": "+"}}
    chunk_items = 1

    def setup(numbers):
        return ({"number": number} for number in numbers)

    def process(number):
        if number < 0:
            raise ValueError(f"{number} is negative")
        return str(number)

    def combine(a, b, mark):
        return f"{a}{mark}{b}"

    def join(parts):
        assert len(parts) == len(list(parts)) <= 32
        return list(parts)


class Lists(Pairs):
    def combine(mark, parts):
        assert len(parts) > 1
        return mark.join(parts)


class Recorder:
    """Records the values that combine receives, and calls a hook in each run of combine."""

    def __init__(self) -> None:
        self.runs: list[list[str]] = []
        self.on_run: Callable[[list[str]], None] = lambda parts: None


def recorded(recorder: Recorder, *, join: Callable[[Any], Any] = list) -> type[ForkJoinTask]:
    class Recorded(Lists):
        max_attempts = 3

        def combine(parts):
            recorder.runs.append(parts)
            recorder.on_run(parts)
            return "+".join(parts)

        def join(parts):
            return join(parts)

    return Recorded


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def processed(
    world: World, task: type[ForkJoinTask], chunks: int, *, but: tuple[int, ...] = (), **options: Any
) -> Ledger:
    """Return the ledger of a job whose chunks have results, except those in `but`, whose messages wait."""
    ledger = world.prepare(task, {"numbers": list(range(chunks))}, **options)
    runtime = world.process()
    unprocessed = [
        message for message in world.dispatcher.waiting if isinstance(message, Chunk) and message.ref.chunk in but
    ]
    for message in list(world.dispatcher.waiting):
        if message not in unprocessed:
            message.run(runtime)
    world.dispatcher.waiting = [*unprocessed, *world.dispatcher.joins]
    return ledger


def nodes_of(world: World) -> dict[int, int]:
    """Return the levels of the tree -> number of existing nodes."""
    counts: dict[int, int] = {}
    for key in world.store.keys(""):
        if "/combined/" in key:
            level = int(key.split("/combined/")[1].split("/")[1])
            counts[level] = counts.get(level, 0) + 1
    return counts


def serial(numbers: Any) -> str:
    return "+".join(map(str, numbers))


def outcome_of(ledger: Ledger) -> Outcome:
    outcome = ledger.outcome()
    assert outcome is not None
    return outcome


def failure_of(ledger: Ledger) -> Failure:
    failure = Failure.read(outcome_of(ledger).failure)
    assert failure is not None
    return failure


def value_of(ledger: Ledger) -> Any:
    return ledger.value(outcome_of(ledger))


# Values


@pytest.mark.parametrize("task", [Pairs, Lists])
@pytest.mark.parametrize(
    ("chunks", "chunk_items"), [*((chunks, 1) for chunks in WIDTHS), *((chunks, 3) for chunks in WIDTHS[:-1])]
)
def test_join_receives_at_most_32_values_in_order(
    world: World, task: type[ForkJoinTask], chunks: int, chunk_items: int
) -> None:
    """For any number of chunks, both forms of combine give at most 32 values, which are the results in order."""
    items = range(chunks * chunk_items)
    ledger = world.launch(task, {"numbers": list(items)}, chunk_items=chunk_items)
    world.dispatcher.drain(world.runtime)
    value = value_of(ledger)
    assert serial(value) == serial(items)
    assert len(value) == levels_of(chunks)[-1]
    assert nodes_of(world) == dict(enumerate(levels_of(chunks)[1:], start=1))


@pytest.mark.parametrize("executor", ["inline", "threads"])
@pytest.mark.parametrize("chunks", [31, 32, 33, 64, 65, 33 * 32 + 5])
def test_run_combines_while_setup_yields(executor: Any, chunks: int) -> None:
    """Workers combine groups that fill before the manifest at once, and the groups at the right edge afterwards."""
    value = Pairs.run({"numbers": list(range(chunks))}, executor=executor, workers=4)
    assert serial(value) == serial(range(chunks))


def test_a_combined_group_is_unused_if_it_is_the_only_one(world: World, recorder: Recorder) -> None:
    """The node of 32 chunks that were done before the manifest is unused if the manifest names no other chunks."""
    ledger = processed(world, recorded(recorder), 32, but=(31,))
    manifest = ledger.manifest()
    assert manifest is not None
    world.store.delete([ledger.keys.manifest])
    recorder.on_run = lambda parts: world.store.put(ledger.keys.manifest, manifest.to_bytes())
    world.dispatcher.drain(world.process())
    assert [len(parts) for parts in recorder.runs] == [32]
    assert value_of(ledger) == [str(number) for number in range(32)]


def test_run_combines_in_processes() -> None:
    """Worker processes combine, too."""
    assert serial(Pairs.run({"numbers": list(range(70))}, executor="processes", workers=2)) == serial(range(70))


@settings(max_examples=15)
@given(order=some.randoms(use_true_random=False), copies=some.integers(1, 3))
def test_any_order_and_number_of_deliveries_gives_one_value(order: random.Random, copies: int) -> None:
    """Messages that overtake each other, or arrive several times, combine each result once."""
    world = World(copies=copies)
    ledger = world.launch(Pairs, {"numbers": list(range(70))})
    world.dispatcher.drain(world.runtime, order=order)
    assert value_of(ledger) == [serial(range(32)), serial(range(32, 64)), serial(range(64, 70))]


def test_single_values_are_not_combined(world: World, recorder: Recorder) -> None:
    """Up to 32 chunks of one item need no combine. Nor does a group of one chunk."""
    assert world.run(recorded(recorder), {"numbers": list(range(32))}).status == OutcomeStatus.SUCCEEDED
    assert recorder.runs == []
    assert world.run(recorded(recorder), {"numbers": list(range(33))}).status == OutcomeStatus.SUCCEEDED
    assert [len(parts) for parts in recorder.runs] == [32]


def test_a_field_reaches_combine(world: World) -> None:
    """Further arguments of combine are parameters, bound by name."""
    for task in (Pairs, Lists):
        outcome = world.run(task, {"numbers": [1, 2, 3], "mark": "-"}, chunk_items=3)
        assert Ledger(world.store, "x", "launch").value(outcome) == ["1-2-3"]


def test_fork_join_accepts_a_combine() -> None:
    """`fork_join` accepts a combine."""
    task = fork_join(
        "unit.combined",
        setup=steps.each,
        process=steps.squared,
        combine=steps.total,
        join=steps.total,
        input_schema={"numbers": {"type": "list"}},
    )
    assert task.run({"numbers": list(range(10))}, chunk_items=3) == sum(number**2 for number in range(10))


def test_a_task_without_combine_makes_no_tree(world: World) -> None:
    """Without combine, full groups make no node, and join receives one result per item."""

    class Plain(Pairs):
        combine = None

        def join(parts):
            return len(parts)

    ledger = world.launch(Plain, {"numbers": list(range(70))})
    world.dispatcher.drain(world.runtime)
    assert value_of(ledger) == 70
    assert nodes_of(world) == {}
    assert not world.runtime.job(ledger.job_id).intent.combines


def test_a_chunk_holds_one_value(world: World) -> None:
    """A chunk's result holds one value for any number of items, and iterating over the job gives that value."""
    ledger = processed(world, Pairs, 5, chunk_items=3)
    manifest = ledger.manifest()
    assert manifest is not None
    result = ledger.result(manifest.setup_id, 0)
    assert result is not None
    assert result.values == encode(["0+1+2"])
    assert list(world.job(ledger)) == ["0+1+2", "3+4"]


def test_the_report_has_a_line_for_combine(world: World) -> None:
    """`fanout jobs show` prints a line for the nodes of a tree."""
    ledger = world.launch(Pairs, {"numbers": list(range(65))})
    world.dispatcher.drain(world.runtime)
    report = world.job(ledger).report()
    assert report.stages["combine"].runs == 3
    assert "combine" in dict(describe_costs(report))


# Requests


def test_a_chunk_in_the_middle_costs_one_listing(world: World) -> None:
    """While results of its group are missing, a worker that has the manifest makes no request but one listing."""
    world.prepare(Pairs, {"numbers": list(range(40))})
    runtime = world.process()
    run_process(runtime, world.refs[0])
    world.store.log.clear()
    run_process(runtime, world.refs[1])
    assert [verb for verb, _ in world.store.log] == ["put", "list"]


def test_an_existing_node_is_not_combined_again(world: World, recorder: Recorder) -> None:
    """A message that arrives again after its group was combined reads no values."""
    ledger = processed(world, recorded(recorder), 40)
    run_process(world.process(), world.refs[3], Delivery(redelivered=True))
    assert [len(parts) for parts in recorder.runs] == [32, 8]
    world.dispatcher.drain(world.runtime)
    assert len(value_of(ledger)) == 2


def test_no_completion_check_is_deferred_in_a_job_that_combines(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker combines a full group before it acknowledges the message of the last chunk, and not later."""
    debouncer = Debouncer()
    monkeypatch.setattr(debouncer, "defer", lambda name, action: pytest.fail("the check is deferred"))
    ledger = world.launch(Pairs, {"numbers": list(range(40))})
    world.dispatcher.drain(Runtime(world.store, world.config, world.dispatcher, debouncer=debouncer))
    assert serial(value_of(ledger)) == serial(range(40))


# Failed items


def run_with_negatives(world: World, numbers: list[int], **options: Any) -> Ledger:
    """Run a job that tolerates failures, and in which negative numbers fail."""
    ledger = world.launch(Pairs, {"numbers": numbers}, **{"tolerate": 1.0, "max_attempts": 1, **options})
    world.dispatcher.drain(world.runtime)
    return ledger


@pytest.mark.parametrize("items", [8, 40, 33 * 32 + 5])
def test_failed_items_are_left_out(world: World, items: int) -> None:
    """The other items are combined. The outcome counts the failed items and names them."""
    numbers = [-number if number % 5 == 3 else number for number in range(items)]
    ledger = run_with_negatives(world, numbers, chunk_items=2)
    assert serial(value_of(ledger)) == serial(number for number in numbers if number >= 0)
    outcome = outcome_of(ledger)
    assert outcome.failed == sum(number < 0 for number in numbers)
    assert [failed.item for failed in outcome.failed_items] == [n for n, number in enumerate(numbers) if number < 0]


def test_a_chunk_whose_items_all_failed_gives_no_value(world: World) -> None:
    """Join receives the values of the other chunks, and `len` gives their number."""
    ledger = run_with_negatives(world, [-1, -2, 3, 4, -5, -6], chunk_items=2)
    assert value_of(ledger) == ["3+4"]


def test_a_group_whose_items_all_failed_gives_no_value(world: World) -> None:
    """A node may hold no value. A job may give none."""
    ledger = run_with_negatives(world, [*range(32), *[-1] * 32, 64])
    assert value_of(ledger) == [serial(range(32)), "64"]
    ledger = run_with_negatives(world, [-1] * 40)
    assert (value_of(ledger), outcome_of(ledger).failed) == ([], 40)


def test_iteration_gives_the_failed_items_after_the_value(world: World) -> None:
    """A caller that reads a job chunk by chunk gets the value of a chunk and then its failed items."""
    ledger = run_with_negatives(world, [1, -2, 3, 4], chunk_items=4)
    value, failed = world.job(ledger)
    assert value == "1+3+4"
    assert isinstance(failed, FailedItem)
    assert failed.item == 1


def test_one_failed_item_too_many_fails_the_job(world: World) -> None:
    """The limit of failed items also holds in a job that combines, before its join."""
    ledger = run_with_negatives(world, [*range(40), -1, -2], tolerate=1)
    assert (failure_of(ledger).step, failure_of(ledger).error) == ("process", "TooManyFailed")


def test_a_result_that_comes_after_combine_counts_as_failed(world: World) -> None:
    """A node that was combined before a chunk's good result lacks it.

    The outcome counts the item as failed, and a retry of the job includes it.
    """
    ledger = world.prepare(Pairs, {"numbers": [-1, *range(1, 40)]}, tolerate=5, max_attempts=1)
    world.dispatcher.drain(world.runtime, until=lambda: bool(world.dispatcher.joins))
    manifest = ledger.manifest()
    assert manifest is not None
    good = ChunkResult(chunk=0, first_item=0, items=1, values=encode(["zero"]), stats=[], combined=True)
    ledger.write_result(manifest.setup_id, good)
    world.dispatcher.drain(world.runtime)
    assert value_of(ledger) == [serial(range(1, 32)), serial(range(32, 40))]
    assert outcome_of(ledger).failed == 1
    assert world.job(ledger).retry()
    world.dispatcher.drain(world.runtime)
    assert world.job(ledger).get() == [serial(["zero", *range(1, 32)]), serial(range(32, 40))]
    assert world.runtime.ledger(ledger.job_id, 1).outcome().final  # type: ignore[union-attr]


# A combine that raises, or whose worker dies


def test_a_chunk_whose_combine_raises_runs_again(world: World, recorder: Recorder) -> None:
    """An error of combine within a chunk is a failure of the chunk's run.

    The chunk runs again. Its failure names the chunk and no item.
    """

    def fail(parts: list[str]) -> None:
        if parts[0] == "2":
            raise ValueError("no")

    recorder.on_run = fail
    ledger = world.launch(recorded(recorder), {"numbers": list(range(6))}, chunk_items=2)
    world.dispatcher.drain(world.runtime)
    failure = failure_of(ledger)
    assert (failure.step, failure.chunk, failure.item, failure.attempts) == ("combine", 1, None, 3)
    assert recorder.runs.count(["2", "3"]) == 3


def test_an_item_that_raises_is_a_failure_of_process(world: World) -> None:
    """The failure names process if an item raises between two combines."""
    ledger = run_with_negatives(world, [0, 1, -2, 3], chunk_items=4, tolerate=None)
    assert (failure_of(ledger).step, failure_of(ledger).item) == ("process", 2)


def test_a_combine_that_raises_in_a_chunk_may_be_tolerated(world: World, recorder: Recorder) -> None:
    """All items of the chunk fail, and the outcome names each."""

    def fail(parts: list[str]) -> None:
        if parts[0] == "2":
            raise ValueError("no")

    recorder.on_run = fail
    ledger = world.launch(recorded(recorder), {"numbers": list(range(6))}, chunk_items=2, tolerate=2)
    world.dispatcher.drain(world.runtime)
    assert value_of(ledger) == ["0+1", "4+5"]
    assert [(failed.item, failed.error) for failed in outcome_of(ledger).failed_items] == [
        (2, "ValueError"),
        (3, "ValueError"),
    ]


def test_a_combined_value_must_be_encodable(world: World, recorder: Recorder) -> None:
    """A combined value has to be stored. The results of which it is made need not be."""

    class Unfit(Pairs):
        max_attempts = 1

        def process(number):
            return {number: object()}

        def combine(parts):
            return parts[0]

    ledger = world.launch(Unfit, {"numbers": [1, 2]}, chunk_items=2)
    world.dispatcher.drain(world.runtime)
    assert (failure_of(ledger).step, failure_of(ledger).error) == ("combine", "Unencodable")
    assert "combined[0]" in failure_of(ledger).reason


@pytest.mark.parametrize(
    ("chunks", "first", "which"), [(40, "32", "32 to 39"), (33 * 32 + 5, serial(range(32)), "0 to 1023")]
)
def test_a_combine_that_raises_above_the_chunks_ends_the_job(
    world: World, recorder: Recorder, chunks: int, first: str, which: str
) -> None:
    """A combine above the chunks fails the job at once, like a join. The failure names the chunks of its values."""

    def fail(parts: list[str]) -> None:
        if parts[0] == first:
            raise ValueError("no")

    recorder.on_run = fail
    ledger = world.launch(recorded(recorder), {"numbers": list(range(chunks))})
    world.dispatcher.drain(world.runtime)
    failure = failure_of(ledger)
    assert (failure.step, failure.error, failure.chunk, failure.attempts) == ("combine", "ValueError", None, 1)
    assert failure.reason == f"no; combining the results of chunks {which}"
    assert "ValueError: no" in failure.traceback_text
    assert sum(parts[0] == first for parts in recorder.runs) == 1
    assert [type(error) for error in world.errors] == [ValueError]
    assert len(world.dispatcher.deliveries) == 1


def test_run_raises_from_the_error_of_combine(recorder: Recorder) -> None:
    """If combine raised in this process, its error is the cause of JobFailed."""

    def fail(parts: list[str]) -> None:
        raise KeyError("here")

    recorder.on_run = fail
    with pytest.raises(JobFailed) as caught:
        recorded(recorder).run({"numbers": list(range(33))})
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.step == "combine"


@pytest.mark.parametrize("max_attempts", [1, 2, 3])
def test_a_combine_that_kills_its_worker_is_stopped(world: World, recorder: Recorder, max_attempts: int) -> None:
    """A combine that kills its worker runs exactly `max_attempts` times. The failure names the chunks of its values."""

    def die(parts: list[str]) -> None:
        raise WorkerDied

    recorder.on_run = die
    ledger = world.launch(recorded(recorder), {"numbers": list(range(40))}, max_attempts=max_attempts)
    world.dispatcher.drain(world.runtime)
    failure = failure_of(ledger)
    assert (failure.step, failure.error, failure.attempts) == ("combine", "WorkerLost", max_attempts)
    assert failure.reason.startswith("combining the results of chunks 0 to 31: its worker died")
    assert [parts[0] for parts in recorder.runs].count("0") == max_attempts


def test_run_stops_a_combine_that_kills_its_process(tmp_path: Path) -> None:
    """A combine that kills its process, and so breaks the pool, runs three times in a pool of processes, too."""
    with pytest.raises(JobFailed, match="WorkerLost") as caught:
        KillingCombine.run({"numbers": list(range(33)), "trace": str(tmp_path)}, executor="processes", workers=2)
    assert (caught.value.step, caught.value.attempts) == ("combine", 3)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_combine_whose_worker_died_once_runs_again(world: World, recorder: Recorder) -> None:
    """The redelivered message finds the chunk's result and continues with combine."""

    def die_once(parts: list[str]) -> None:
        if len(recorder.runs) == 1:
            raise WorkerDied

    recorder.on_run = die_once
    ledger = world.launch(recorded(recorder), {"numbers": list(range(40))})
    world.dispatcher.drain(world.runtime)
    assert value_of(ledger) == [serial(range(32)), serial(range(32, 40))]


def test_a_worker_that_dies_before_combine_costs_no_attempt(world: World, recorder: Recorder) -> None:
    """A worker that died after it wrote the chunk's result had not begun an attempt of combine."""
    processed(world, recorded(recorder), 40, but=(31,), max_attempts=1)
    runtime = world.process()

    with world.store.injecting(Fault("put", ("/results/",), error=WorkerDied), after=True) as fault:
        world.dispatcher.deliver(runtime)
    assert fault.injected == 1
    world.dispatcher.drain(runtime)
    assert [len(parts) for parts in recorder.runs] == [8, 32]
    assert len(world.dispatcher.deliveries) == 1
    assert world.dispatcher.deliveries[0].status == OutcomeStatus.SUCCEEDED


def test_a_worker_leaves_a_combine_to_the_worker_that_runs_it(world: World, recorder: Recorder) -> None:
    """Redelivered messages of workers that had not begun to combine do not count as attempts of combine."""
    ledger = processed(world, recorded(recorder), 40, but=(30, 31), max_attempts=2)
    runtime = world.process()
    redelivered_chunks: list[int] = []

    def redeliver_others(parts: list[str]) -> None:
        if not redelivered_chunks:
            for chunk in range(4):
                redelivered_chunks.append(chunk)
                run_process(world.process(), world.refs[chunk], Delivery(redelivered=True))

    recorder.on_run = redeliver_others
    world.dispatcher.drain(runtime)
    assert value_of(ledger) == [serial(range(32)), serial(range(32, 40))]
    assert [len(parts) for parts in recorder.runs] == [8, 32]
    manifest = ledger.manifest()
    assert manifest is not None
    assert ledger.attempts(combine_step(manifest.setup_id, 1, 0)).count == 1


def test_a_sweep_restarts_a_combine_without_a_heartbeat(world: World, recorder: Recorder) -> None:
    """If a message was lost with its worker during combine, a sweep has another worker begin an attempt."""

    def die_once(parts: list[str]) -> None:
        if len(recorder.runs) == 1:
            raise WorkerDied

    recorder.on_run = die_once
    ledger = processed(world, recorded(recorder), 32 + 1, but=(31,))
    world.dispatcher.deliver(world.runtime)
    world.dispatcher.lose()
    assert sweep_job(world.process(), ledger.job_id) == Move.NONE
    world.store.age(STALL_S + 1)
    assert sweep_job(world.process(), ledger.job_id) == Move.CHUNKS_SENT
    assert [(chunk.ref.chunk, chunk.ref.resent) for chunk in world.dispatcher.waiting] == [(0, True)]  # type: ignore[union-attr]
    world.dispatcher.drain(world.process())
    assert value_of(ledger) == [serial(range(32)), "32"]


def test_a_time_limit_in_combine_is_named(world: World, recorder: Recorder) -> None:
    """The failure of a combine that was stopped at a time limit in its last attempt names the limit."""
    ledger = processed(world, recorded(recorder), 33, but=(31,), max_attempts=1)

    def die(parts: list[str]) -> None:
        raise WorkerDied

    recorder.on_run = die
    world.dispatcher.deliver(world.runtime)
    run_process(world.process(), world.refs[31], Delivery(overran_s=60))
    failure = failure_of(ledger)
    assert (failure.step, failure.error) == ("combine", "TimeLimitExceeded")
    assert "chunks 0 to 31" in failure.reason
    assert "60 s" in failure.reason


# A store that does not answer


def test_a_store_error_at_any_request_costs_no_attempt(recorder: Recorder) -> None:
    """Whichever request fails, the message can be resumed. No attempt is used up, and the job gets its value."""
    for fault in fail_each_request():
        world = World()
        ledger = processed(world, recorded(recorder), 40, but=(31,), max_attempts=1)
        runtime = world.process()
        ref = world.refs[31]
        with world.store.injecting(fault):
            try:
                run_process(runtime, ref)
            except StorageUnavailable:
                run_process(runtime, ref, Delivery(resumed=True))
        world.dispatcher.waiting = list(world.dispatcher.joins)
        world.dispatcher.drain(world.runtime)
        assert value_of(ledger) == [serial(range(32)), serial(range(32, 40))], fault


def test_the_first_value_of_a_node_counts(world: World, recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    """A combine that gives another value in a second run is reported in the log, and the first value counts."""

    class Fickle(Lists):
        def combine(parts):
            recorder.runs.append(parts)
            number = len(recorder.runs)
            if number == 1:
                # Another worker, which considers this one dead.
                world.store.age(STALL_S + 1)
                run_process(world.process(), replace(world.refs[0], resent=True))
            return f"value {number} of {len(parts)}"

    ledger = world.launch(Fickle, {"numbers": list(range(33))})
    world.dispatcher.drain(world.runtime)
    assert value_of(ledger) == ["value 2 of 32", "32"]
    assert "Is combine deterministic?" in caplog.text


# Missing nodes


MISSING = [(1, 0), (1, 5), (1, 33), (2, 0), (2, 1)]
"""Level and index of a node that is missing, with all nodes above it."""


def nodes_above(level: int, index: int) -> Iterator[tuple[int, int]]:
    """Yield a node of a tree of two levels, and each node above it."""
    while level < 3:
        yield level, index
        level, index = level + 1, index // 32


def test_a_sweep_repairs_a_missing_node_at_each_level(world: World) -> None:
    """A sweep sends one message for a missing node. The worker that gets it makes that node and all above it."""
    chunks = 33 * 32 + 5
    ledger = processed(world, Pairs, chunks)
    manifest = ledger.manifest()
    assert manifest is not None
    complete = world.store.snapshot()
    for missing in MISSING:
        world.store.restore(complete)
        world.store.delete([ledger.keys.node(manifest.setup_id, *node) for node in nodes_above(*missing)])
        world.dispatcher.lose()
        world.store.age(STALL_S + 1)
        sweeper = Runtime(world.store, world.config, world.dispatcher, tasks=Registry())
        assert sweep_job(sweeper, ledger.job_id) == Move.CHUNKS_SENT, missing
        assert len(world.dispatcher.waiting) == 1, missing
        world.dispatcher.drain(world.process())
        assert serial(value_of(ledger)) == serial(range(chunks)), missing


def test_a_sweep_leaves_a_node_with_a_heartbeat_alone(world: World) -> None:
    """While a worker writes heartbeats for a node, a sweep sends nothing, however old the other records are."""
    ledger = processed(world, Pairs, 33 * 32 + 5)
    manifest = ledger.manifest()
    assert manifest is not None
    complete = world.store.snapshot()
    for missing in MISSING:
        world.store.restore(complete)
        world.store.delete([ledger.keys.node(manifest.setup_id, *node) for node in nodes_above(*missing)])
        world.dispatcher.lose()
        world.store.age(STALL_S + 1)
        ledger.write_heartbeat(combine_step(manifest.setup_id, *missing), Note(by="another worker"))
        assert sweep_job(world.process(), ledger.job_id) == Move.NONE, missing
        assert world.dispatcher.waiting == [], missing


def test_a_node_is_due_if_all_below_it_exists(world: World) -> None:
    """With a chunk missing, the nodes above it are not due. A missing node without a missing chunk below it is."""
    ledger = processed(world, Pairs, 100, but=(40,))
    manifest = ledger.manifest()
    assert manifest is not None
    world.store.delete([ledger.keys.node(manifest.setup_id, 1, 2)])
    completion = completion_of(ledger, manifest, combines=True)
    assert completion.uncombined == {64: combine_step(manifest.setup_id, 1, 2)}
    assert ([*completion.missing], [*completion.due], completion.level) == ([40], [40, 64], 1)
    assert [entry.index for entry in completion.top.entries] == [0, 3]


def test_a_join_before_the_top_level_is_complete_does_nothing(world: World) -> None:
    """A worker that receives the join message too early finds that nodes are missing."""
    ledger = processed(world, Pairs, 40)
    manifest = ledger.manifest()
    assert manifest is not None
    world.store.delete([ledger.keys.node(manifest.setup_id, 1, 1)])
    world.dispatcher.drain(world.runtime)
    assert ledger.outcome() is None


# Retries


def test_a_retry_combines_only_incomplete_nodes_again(world: World, recorder: Recorder) -> None:
    """A retry keeps nodes without failed items below them, like good results. It makes the other nodes again."""

    class FailsUntilFixed(recorded(recorder)):  # type: ignore[misc]
        def process(number):
            if number == 70 and not fixed:
                raise ValueError("not yet")
            return str(number)

    fixed: list[bool] = []
    ledger = world.launch(FailsUntilFixed, {"numbers": list(range(100))}, tolerate=1, max_attempts=1)
    world.dispatcher.drain(world.runtime)
    assert outcome_of(ledger).failed == 1
    fixed.append(True)
    recorder.runs.clear()
    job = world.job(ledger)
    assert job.retry()
    world.dispatcher.drain(world.runtime)
    assert serial(job.get()) == serial(range(100))
    assert [parts[0] for parts in recorder.runs] == ["64"]


def test_a_retry_after_a_failed_node_makes_only_that_node(world: World, recorder: Recorder) -> None:
    """If a combine ended the job, the retry makes its node, and no chunk runs again."""
    is_failing = [True]

    def fail(parts: list[str]) -> None:
        if is_failing and parts[0] == "96":
            raise ValueError("no")

    recorder.on_run = fail
    ledger = processed(world, recorded(recorder), 100)
    world.dispatcher.drain(world.runtime)
    assert failure_of(ledger).step == "combine"
    is_failing.clear()
    recorder.runs.clear()
    assert world.job(ledger).retry()
    world.dispatcher.drain(world.process())
    assert serial(world.job(ledger).get()) == serial(range(100))
    assert [parts[0] for parts in recorder.runs] == ["96"]


def test_a_retry_of_a_failed_join_combines_nothing(world: World, recorder: Recorder) -> None:
    """If only the join failed, only the join runs again."""
    is_failing = [True]

    def join(parts: Any) -> Any:
        if is_failing:
            raise ValueError("no")
        return list(parts)

    ledger = world.launch(recorded(recorder, join=join), {"numbers": list(range(40))})
    world.dispatcher.drain(world.runtime)
    assert failure_of(ledger).step == "join"
    is_failing.clear()
    recorder.runs.clear()
    assert world.job(ledger).retry()
    world.dispatcher.drain(world.runtime)
    assert world.job(ledger).get() == [serial(range(32)), serial(range(32, 40))]
    assert recorder.runs == []


# Ended jobs and older code


def test_a_cancelled_job_stops_combining(recorder: Recorder) -> None:
    """A worker that combines when the job ends notices that, and writes nothing."""
    world = World(stall_s=0.03)
    waits: list[str] = []

    class Watched(Pairs):
        def combine(a, b):
            recorder.runs.append([a, b])
            if len(recorder.runs) == 1:
                conclude(
                    world.runtime, world.runtime.job(ledger.job_id), OutcomeStatus.CANCELLED, Failure("job", "X", "x")
                )
                world.store.log.clear()
                while ("head", ledger.keys.outcome) not in world.store.log:
                    waits.append("not yet")
            return a + b

    ledger = world.launch(Watched, {"numbers": list(range(33))})
    world.dispatcher.drain(world.runtime, until=lambda: bool(recorder.runs))
    assert len(recorder.runs) < 31
    assert nodes_of(world) == {}


def test_a_worker_with_older_code_names_the_remedy(world: World) -> None:
    """If a worker's code has no combine, but the caller's had, the failure names the remedy."""

    class Older(Pairs):
        name = "unit.older"
        combine = None

    submission = world.submission(Older, {"numbers": [1, 2]}, chunk_items=2, max_attempts=1)
    ledger = world.runtime.launch("job", replace(submission.intent(), combines=True)).ledger
    world.dispatcher.send_setup("job", ledger.intent())
    world.dispatcher.drain(world.runtime)
    assert failure_of(ledger).error == "DeclarationError"
    assert "deploy the same code to all processes" in failure_of(ledger).reason


def test_an_older_intent_does_not_combine() -> None:
    """An intent without a field for combine belongs to a job that does not combine."""
    intent = Intent(launch_id="l", task="t", inline=b"", references={}, options={}, created_at=0.0, combines=True)
    body = {
        "record": "intent",
        "format": 1,
        "launch_id": "l",
        "task": "t",
        "inline": b"",
        "references": {},
        "options": {},
    }
    assert Intent.from_bytes(intent.to_bytes(), key="k").combines
    assert not Intent.from_bytes(encode({**body, "created_at": 0.0}), key="k").combines
