"""Results are combined where they are, in order, so that join is given at most 32 values."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fanout import FailedItem, ForkJoinTask, JobFailed, fork_join
from fanout.background.debouncer import Debouncer
from fanout.declaration.definition import Registry
from fanout.records.failure import Failure
from fanout.records.keys import combine_step
from fanout.records.ledger import Ledger
from fanout.records.models import ChunkResult, Intent, Note, Outcome, OutcomeStatus
from fanout.report import JobReport
from fanout.runtime import Runtime
from fanout.stages import conclude, run_process
from fanout.stages.barrier import completion_of, levels_of
from fanout.stages.delivery import Delivery
from fanout.sweep import Move, sweep_job
from storage import StorageUnavailable, encode

from . import steps
from .dispatcher import Chunk, WorkerDied
from .tasks import KillingCombine
from .world import World

STALL_S = 60.0
WIDTHS = [0, 1, 2, 31, 32, 33, 64, 65, 33 * 32 + 5]
"""Numbers of chunks: without a tree, and with one of one level and of two."""


class Pairs(ForkJoinTask):
    """Strings of numbers: their order and grouping can be told from what becomes of them."""

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


class Meter:
    """Says what combine is to do, and keeps what it was given."""

    def __init__(self) -> None:
        self.runs: list[list[str]] = []
        self.on_run: Callable[[list[str]], None] = lambda parts: None


def metered(meter: Meter, *, join: Callable[[Any], Any] = list) -> type[ForkJoinTask]:
    class Metered(Lists):
        max_attempts = 3

        def combine(parts):
            meter.runs.append(parts)
            meter.on_run(parts)
            return "+".join(parts)

        def join(parts):
            return join(parts)

    return Metered


@pytest.fixture
def meter() -> Meter:
    return Meter()


def ready(world: World, task: type[ForkJoinTask], chunks: int, *, but: tuple[int, ...] = (), **options: Any) -> Ledger:
    """A job all of whose chunks were processed, but for some; their messages wait."""
    ledger = world.prepare(task, {"numbers": list(range(chunks))}, **options)
    runtime = world.process()
    caller_parameters = [
        message for message in world.dispatcher.waiting if isinstance(message, Chunk) and message.ref.chunk in but
    ]
    for message in list(world.dispatcher.waiting):
        if message not in caller_parameters:
            message.run(runtime)
    world.dispatcher.waiting = [*caller_parameters, *world.dispatcher.joins]
    return ledger


def nodes_of(world: World) -> dict[int, int]:
    """Level -> number of nodes that stand."""
    found: dict[int, int] = {}
    for key in world.store.keys(""):
        if "/combined/" in key:
            level = int(key.split("/combined/")[1].split("/")[1])
            found[level] = found.get(level, 0) + 1
    return found


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


# What comes of it


@pytest.mark.parametrize("task", [Pairs, Lists])
@pytest.mark.parametrize("chunk_items", [1, 3])
@pytest.mark.parametrize("chunks", WIDTHS)
def test_join_is_given_few_values_in_order(
    world: World, task: type[ForkJoinTask], chunks: int, chunk_items: int
) -> None:
    """Both forms give at most 32 values that make up what a loop would, in order, for any number of chunks."""
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
    """Groups that fill before there is a manifest are combined then, those at the right edge afterwards."""
    value = Pairs.run({"numbers": list(range(chunks))}, executor=executor, workers=4)
    assert serial(value) == serial(range(chunks))


def test_a_group_may_turn_out_to_be_all_there_is(world: World, meter: Meter) -> None:
    """32 chunks that were done before the manifest are combined for nothing if it says that there are no others."""
    ledger = ready(world, metered(meter), 32, but=(31,))
    manifest = ledger.manifest()
    assert manifest is not None
    world.store.delete([ledger.keys.manifest])
    meter.on_run = lambda parts: world.store.put(ledger.keys.manifest, manifest.to_bytes())
    world.dispatcher.drain(world.process())
    assert [len(parts) for parts in meter.runs] == [32]
    assert value_of(ledger) == [str(number) for number in range(32)]


def test_run_combines_in_processes() -> None:
    """Worker processes climb as well."""
    assert serial(Pairs.run({"numbers": list(range(70))}, executor="processes", workers=2)) == serial(range(70))


@settings(max_examples=15)
@given(order=some.randoms(use_true_random=False), copies=some.integers(1, 3))
def test_any_order_and_any_number_of_deliveries_give_the_same(order: random.Random, copies: int) -> None:
    """Messages that overtake each other and arrive several times combine each result once."""
    world = World(copies=copies)
    ledger = world.launch(Pairs, {"numbers": list(range(70))})
    world.dispatcher.drain(world.runtime, order=order)
    assert value_of(ledger) == [serial(range(32)), serial(range(32, 64)), serial(range(64, 70))]


def test_a_value_alone_is_not_touched(world: World, meter: Meter) -> None:
    """Chunks of one item, no more than 32 of them, need no combine; nor does a group of one."""
    assert world.run(metered(meter), {"numbers": list(range(32))}).status == OutcomeStatus.SUCCEEDED
    assert meter.runs == []
    assert world.run(metered(meter), {"numbers": list(range(33))}).status == OutcomeStatus.SUCCEEDED
    assert [len(parts) for parts in meter.runs] == [32]


def test_a_field_reaches_combine(world: World) -> None:
    """Further arguments of combine are parameters, bound by name."""
    for task in (Pairs, Lists):
        outcome = world.run(task, {"numbers": [1, 2, 3], "mark": "-"}, chunk_items=3)
        assert Ledger(world.store, "x", "launch").value(outcome) == ["1-2-3"]


def test_loose_functions_combine() -> None:
    """`fork_join` takes a combine as well."""
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
    """Nothing changes for it: its full groups are marked, its join is given one result an item."""

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
    """What a worker writes is no larger for more items, and iterating over the job gives it."""
    ledger = ready(world, Pairs, 5, chunk_items=3)
    manifest = ledger.manifest()
    assert manifest is not None
    result = ledger.result(manifest.setup_id, 0)
    assert result is not None
    assert result.values == encode(["0+1+2"])
    assert list(world.job(ledger)) == ["0+1+2", "3+4"]


def test_the_report_shows_what_was_combined(world: World) -> None:
    """`fanout jobs show` has a line for the nodes of a tree."""
    ledger = world.launch(Pairs, {"numbers": list(range(65))})
    world.dispatcher.drain(world.runtime)
    report = JobReport.of(world.job(ledger))
    assert report.stages["combine"].runs == 3
    assert any(line.startswith("combine ") for line in report.lines())


# What it costs


def test_a_chunk_in_the_middle_costs_one_listing(world: World) -> None:
    """While others of its group are missing, a worker that knows the manifest lists its group and asks nothing else."""
    world.prepare(Pairs, {"numbers": list(range(40))})
    runtime = world.process()
    run_process(runtime, world.refs[0])
    world.store.log.clear()
    run_process(runtime, world.refs[1])
    assert [verb for verb, _ in world.store.log] == ["put", "list"]


def test_a_node_that_stands_is_not_made_again(world: World, meter: Meter) -> None:
    """A message that comes again after its group was combined reads no values."""
    ledger = ready(world, metered(meter), 40)
    run_process(world.process(), world.refs[3], Delivery(redelivered=True))
    assert [len(parts) for parts in meter.runs] == [32, 8]
    world.dispatcher.drain(world.runtime)
    assert len(value_of(ledger)) == 2


def test_no_look_waits_where_results_are_combined(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full group is combined before the message of its last chunk is acknowledged, and not at leisure."""
    debouncer = Debouncer()
    monkeypatch.setattr(debouncer, "defer", lambda name, action: pytest.fail("it waits"))
    ledger = world.launch(Pairs, {"numbers": list(range(40))})
    world.dispatcher.drain(Runtime(world.store, world.config, world.dispatcher, debouncer=debouncer))
    assert serial(value_of(ledger)) == serial(range(40))


# Failed items


def negative(world: World, numbers: list[int], **options: Any) -> Ledger:
    """A job in which negative numbers fail, and may."""
    ledger = world.launch(Pairs, {"numbers": numbers}, **{"tolerate": 1.0, "max_attempts": 1, **options})
    world.dispatcher.drain(world.runtime)
    return ledger


@pytest.mark.parametrize("items", [8, 40, 33 * 32 + 5])
def test_failed_items_are_left_out(world: World, items: int) -> None:
    """The others are combined; the outcome counts those that failed, and names them."""
    numbers = [-number if number % 5 == 3 else number for number in range(items)]
    ledger = negative(world, numbers, chunk_items=2)
    assert serial(value_of(ledger)) == serial(number for number in numbers if number >= 0)
    outcome = outcome_of(ledger)
    assert outcome.failed == sum(number < 0 for number in numbers)
    assert [failed.item for failed in outcome.failed_items] == [n for n, number in enumerate(numbers) if number < 0]


def test_a_chunk_in_which_all_failed_gives_nothing(world: World) -> None:
    """Join is given the values of the others, and `len` tells how many."""
    ledger = negative(world, [-1, -2, 3, 4, -5, -6], chunk_items=2)
    assert value_of(ledger) == ["3+4"]


def test_a_group_in_which_all_failed_gives_nothing(world: World) -> None:
    """A node may hold no value; a job may."""
    ledger = negative(world, [*range(32), *[-1] * 32, 64])
    assert value_of(ledger) == [serial(range(32)), "64"]
    ledger = negative(world, [-1] * 40)
    assert (value_of(ledger), outcome_of(ledger).failed) == ([], 40)


def test_iteration_gives_the_failed_items_after_the_value(world: World) -> None:
    """Whoever reads a job chunk by chunk learns of both."""
    ledger = negative(world, [1, -2, 3, 4], chunk_items=4)
    value, failed = world.job(ledger)
    assert value == "1+3+4"
    assert isinstance(failed, FailedItem)
    assert failed.item == 1


def test_one_failed_item_too_many_fails_the_job(world: World) -> None:
    """The limit holds in a job that combines, before its join."""
    ledger = negative(world, [*range(40), -1, -2], tolerate=1)
    assert (failure_of(ledger).step, failure_of(ledger).error) == ("process", "TooManyFailed")


def test_a_good_result_that_comes_too_late_counts_as_failed(world: World) -> None:
    """What was combined without it lacks it, and the outcome says so: the job may be retried, and then has it."""
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


# A combine that raises, or dies


def test_a_combine_that_raises_in_a_chunk_is_tried_again(world: World, meter: Meter) -> None:
    """It is a failure of the chunk's run: the chunk runs again, and its failure names the chunk and no item."""

    def fail(parts: list[str]) -> None:
        if parts[0] == "2":
            raise ValueError("no")

    meter.on_run = fail
    ledger = world.launch(metered(meter), {"numbers": list(range(6))}, chunk_items=2)
    world.dispatcher.drain(world.runtime)
    failure = failure_of(ledger)
    assert (failure.step, failure.chunk, failure.item, failure.attempts) == ("combine", 1, None, 3)
    assert meter.runs.count(["2", "3"]) == 3


def test_an_item_that_raises_is_not_taken_for_combine(world: World) -> None:
    """The step that raised is named, wherever between two combines it did."""
    ledger = negative(world, [0, 1, -2, 3], chunk_items=4, tolerate=None)
    assert (failure_of(ledger).step, failure_of(ledger).item) == ("process", 2)


def test_a_combine_that_raises_in_a_chunk_may_be_tolerated(world: World, meter: Meter) -> None:
    """All items of the chunk are given up, and each is named."""

    def fail(parts: list[str]) -> None:
        if parts[0] == "2":
            raise ValueError("no")

    meter.on_run = fail
    ledger = world.launch(metered(meter), {"numbers": list(range(6))}, chunk_items=2, tolerate=2)
    world.dispatcher.drain(world.runtime)
    assert value_of(ledger) == ["0+1", "4+5"]
    assert [(failed.item, failed.error) for failed in outcome_of(ledger).failed_items] == [
        (2, "ValueError"),
        (3, "ValueError"),
    ]


def test_what_cannot_travel_is_a_failure_of_combine(world: World, meter: Meter) -> None:
    """A combined value has to be stored; the results that it was made of need not."""

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
    world: World, meter: Meter, chunks: int, first: str, which: str
) -> None:
    """As a join does: at once, and with the chunks whose results it was given."""

    def fail(parts: list[str]) -> None:
        if parts[0] == first:
            raise ValueError("no")

    meter.on_run = fail
    ledger = world.launch(metered(meter), {"numbers": list(range(chunks))})
    world.dispatcher.drain(world.runtime)
    failure = failure_of(ledger)
    assert (failure.step, failure.error, failure.chunk, failure.attempts) == ("combine", "ValueError", None, 1)
    assert failure.reason == f"no; combining the results of chunks {which}"
    assert "ValueError: no" in failure.traceback_text
    assert sum(parts[0] == first for parts in meter.runs) == 1
    assert [type(error) for error in world.errors] == [ValueError]
    assert len(world.dispatcher.deliveries) == 1


def test_run_raises_from_what_combine_raised(meter: Meter) -> None:
    """Where it was raised in this process, the exception is the cause."""

    def fail(parts: list[str]) -> None:
        raise KeyError("here")

    meter.on_run = fail
    with pytest.raises(JobFailed) as caught:
        metered(meter).run({"numbers": list(range(33))})
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.step == "combine"


@pytest.mark.parametrize("max_attempts", [1, 2, 3])
def test_a_combine_that_kills_its_worker_is_stopped(world: World, meter: Meter, max_attempts: int) -> None:
    """It is run `max_attempts` times and no more; the failure names the chunks whose results it was given."""

    def die(parts: list[str]) -> None:
        raise WorkerDied

    meter.on_run = die
    ledger = world.launch(metered(meter), {"numbers": list(range(40))}, max_attempts=max_attempts)
    world.dispatcher.drain(world.runtime)
    failure = failure_of(ledger)
    assert (failure.step, failure.error, failure.attempts) == ("combine", "WorkerLost", max_attempts)
    assert failure.reason.startswith("combining the results of chunks 0 to 31: its worker died")
    assert [parts[0] for parts in meter.runs].count("0") == max_attempts


def test_run_stops_a_combine_that_kills_its_process(tmp_path: Path) -> None:
    """In a pool of processes, too, which breaks each time."""
    with pytest.raises(JobFailed, match="WorkerLost") as caught:
        KillingCombine.run({"numbers": list(range(33)), "trace": str(tmp_path)}, executor="processes", workers=2)
    assert (caught.value.step, caught.value.attempts) == ("combine", 3)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_combine_that_died_once_runs_again(world: World, meter: Meter) -> None:
    """The message that comes again finds its result, and goes on from there."""

    def die_once(parts: list[str]) -> None:
        if len(meter.runs) == 1:
            raise WorkerDied

    meter.on_run = die_once
    ledger = world.launch(metered(meter), {"numbers": list(range(40))})
    world.dispatcher.drain(world.runtime)
    assert value_of(ledger) == [serial(range(32)), serial(range(32, 40))]


def test_a_death_before_combine_is_no_try_of_it(world: World, meter: Meter) -> None:
    """A message whose earlier run died after its result was written has not begun to combine."""
    ready(world, metered(meter), 40, but=(31,), max_attempts=1)
    runtime = world.process()

    def die(verb: str, key: str) -> None:
        if verb == "put" and "/results/" in key:
            raise WorkerDied

    world.store.after = die
    world.dispatcher.deliver(runtime)
    world.store.after = lambda verb, key: None
    world.dispatcher.drain(runtime)
    assert [len(parts) for parts in meter.runs] == [8, 32]
    assert len(world.dispatcher.deliveries) == 1
    assert world.dispatcher.deliveries[0].status == OutcomeStatus.SUCCEEDED


def test_who_finds_another_at_it_leaves_it(world: World, meter: Meter) -> None:
    """Several whose worker died after the last results, and none of which had begun to combine, are no tries of it."""
    ledger = ready(world, metered(meter), 40, but=(30, 31), max_attempts=2)
    runtime = world.process()
    seen: list[int] = []

    def neighbours(parts: list[str]) -> None:
        if not seen:
            for chunk in range(4):
                seen.append(chunk)
                run_process(world.process(), world.refs[chunk], Delivery(redelivered=True))

    meter.on_run = neighbours
    world.dispatcher.drain(runtime)
    assert value_of(ledger) == [serial(range(32)), serial(range(32, 40))]
    assert [len(parts) for parts in meter.runs] == [8, 32]
    manifest = ledger.manifest()
    assert manifest is not None
    assert ledger.attempts(combine_step(manifest.setup_id, 1, 0)).count == 1


def test_who_is_silent_is_taken_over_from(world: World, meter: Meter) -> None:
    """A message that was lost with its worker, in the middle of a combine: a sweep has another worker begin a try."""

    def die_once(parts: list[str]) -> None:
        if len(meter.runs) == 1:
            raise WorkerDied

    meter.on_run = die_once
    ledger = ready(world, metered(meter), 32 + 1, but=(31,))
    world.dispatcher.deliver(world.runtime)
    world.dispatcher.lose()
    assert sweep_job(world.process(), ledger.job_id) == Move.NONE
    world.store.age(STALL_S + 1)
    assert sweep_job(world.process(), ledger.job_id) == Move.CHUNKS_SENT
    assert [(chunk.ref.chunk, chunk.ref.resent) for chunk in world.dispatcher.waiting] == [(0, True)]  # type: ignore[union-attr]
    world.dispatcher.drain(world.process())
    assert value_of(ledger) == [serial(range(32)), "32"]


def test_a_time_limit_in_combine_is_named(world: World, meter: Meter) -> None:
    """A combine that was stopped at a time limit until its tries were up says so."""
    ledger = ready(world, metered(meter), 33, but=(31,), max_attempts=1)

    def die(parts: list[str]) -> None:
        raise WorkerDied

    meter.on_run = die
    world.dispatcher.deliver(world.runtime)
    run_process(world.process(), world.refs[31], Delivery(overran_s=60))
    failure = failure_of(ledger)
    assert (failure.step, failure.error) == ("combine", "TimeLimitExceeded")
    assert "chunks 0 to 31" in failure.reason
    assert "60 s" in failure.reason


# A store that does not answer


@pytest.mark.parametrize("number", range(50))
def test_a_store_that_fails_at_any_request_passes_through(world: World, meter: Meter, number: int) -> None:
    """Whichever request of the climb fails, the message can be put off, no try is lost, and the value comes out."""
    ledger = ready(world, metered(meter), 40, but=(31,), max_attempts=1)
    runtime = world.process()
    asked = 0

    def fail(verb: str, key: str) -> None:
        nonlocal asked
        asked += 1
        if asked == number + 1:
            raise StorageUnavailable("not now", key=key)

    world.store.before = fail
    ref = world.refs[31]
    try:
        run_process(runtime, ref)
    except StorageUnavailable:
        run_process(runtime, ref, Delivery(resumed=True))
    world.store.before = lambda verb, key: None
    world.dispatcher.waiting = list(world.dispatcher.joins)
    world.dispatcher.drain(world.runtime)
    assert value_of(ledger) == [serial(range(32)), serial(range(32, 40))]


def test_of_two_nodes_the_first_stands(world: World, meter: Meter, caplog: pytest.LogCaptureFixture) -> None:
    """A combine that gives another value when it is run again is reported, and changes nothing."""

    class Fickle(Lists):
        def combine(parts):
            meter.runs.append(parts)
            number = len(meter.runs)
            if number == 1:
                # Another worker, which believes us dead.
                world.store.age(STALL_S + 1)
                run_process(world.process(), replace(world.refs[0], resent=True))
            return f"value {number} of {len(parts)}"

    ledger = world.launch(Fickle, {"numbers": list(range(33))})
    world.dispatcher.drain(world.runtime)
    assert value_of(ledger) == ["value 2 of 32", "32"]
    assert "Is combine deterministic?" in caplog.text


# Holes in the tree


HOLES = [(1, 0), (1, 5), (1, 33), (2, 0), (2, 1)]


@pytest.mark.parametrize(("level", "index"), HOLES)
def test_a_sweep_finds_a_hole_at_each_level(world: World, level: int, index: int) -> None:
    """A node that is missing, with all above it, is made by whoever gets the one message that is sent for it."""
    chunks = 33 * 32 + 5
    ledger = ready(world, Pairs, chunks)
    manifest = ledger.manifest()
    assert manifest is not None
    while level < 3:
        world.store.delete([ledger.keys.node(manifest.setup_id, level, index)])
        level, index = level + 1, index // 32
    world.dispatcher.lose()
    world.store.age(STALL_S + 1)
    sweeper = Runtime(world.store, world.config, world.dispatcher, tasks=Registry())
    assert sweep_job(sweeper, ledger.job_id) == Move.CHUNKS_SENT
    assert len(world.dispatcher.waiting) == 1
    world.dispatcher.drain(world.process())
    assert serial(value_of(ledger)) == serial(range(chunks))


@pytest.mark.parametrize(("level", "index"), HOLES)
def test_a_node_that_is_being_made_is_left_alone(world: World, level: int, index: int) -> None:
    """While somebody beats for it, a sweep sends nothing however long nothing was written."""
    ledger = ready(world, Pairs, 33 * 32 + 5)
    manifest = ledger.manifest()
    assert manifest is not None
    step, at, location = combine_step(manifest.setup_id, level, index), level, index
    while at < 3:
        world.store.delete([ledger.keys.node(manifest.setup_id, at, location)])
        at, location = at + 1, location // 32
    world.dispatcher.lose()
    world.store.age(STALL_S + 1)
    ledger.write_heartbeat(step, Note(by="somebody"))
    assert sweep_job(world.process(), ledger.job_id) == Move.NONE
    assert world.dispatcher.waiting == []


def test_holes_are_where_all_is_there_to_combine(world: World) -> None:
    """With a chunk missing, its own path is not due; that of its neighbours is."""
    ledger = ready(world, Pairs, 100, but=(40,))
    manifest = ledger.manifest()
    assert manifest is not None
    world.store.delete([ledger.keys.node(manifest.setup_id, 1, 2)])
    completion = completion_of(ledger, manifest, combines=True, by="x")
    assert (completion.missing, completion.uncombined, completion.level) == ([40], [64], 1)
    assert completion.due[64] == combine_step(manifest.setup_id, 1, 2)
    assert sorted(completion.top) == [0, 3]


def test_nobody_joins_before_the_top_is_complete(world: World) -> None:
    """A join that is sent too early finds that nodes are missing."""
    ledger = ready(world, Pairs, 40)
    manifest = ledger.manifest()
    assert manifest is not None
    world.store.delete([ledger.keys.node(manifest.setup_id, 1, 1)])
    world.dispatcher.drain(world.runtime)
    assert ledger.outcome() is None


# Rounds


def test_a_retry_combines_again_only_what_lacked_something(world: World, meter: Meter) -> None:
    """Nodes above good results alone are kept, as good results are; the others are made anew with what was missing."""

    class Mended(metered(meter)):  # type: ignore[misc]
        def process(number):
            if number == 70 and not mended:
                raise ValueError("not yet")
            return str(number)

    mended: list[bool] = []
    ledger = world.launch(Mended, {"numbers": list(range(100))}, tolerate=1, max_attempts=1)
    world.dispatcher.drain(world.runtime)
    assert outcome_of(ledger).failed == 1
    mended.append(True)
    meter.runs.clear()
    job = world.job(ledger)
    assert job.retry()
    world.dispatcher.drain(world.runtime)
    assert serial(job.get()) == serial(range(100))
    assert [parts[0] for parts in meter.runs] == ["64"]


def test_a_retry_after_a_failed_node_goes_on_from_the_tree(world: World, meter: Meter) -> None:
    """If a combine ended the job, that node is made, and no chunk runs again."""
    bad = [True]

    def fail(parts: list[str]) -> None:
        if bad and parts[0] == "96":
            raise ValueError("no")

    meter.on_run = fail
    ledger = ready(world, metered(meter), 100)
    world.dispatcher.drain(world.runtime)
    assert failure_of(ledger).step == "combine"
    bad.clear()
    meter.runs.clear()
    assert world.job(ledger).retry()
    world.dispatcher.drain(world.process())
    assert serial(world.job(ledger).get()) == serial(range(100))
    assert [parts[0] for parts in meter.runs] == ["96"]


def test_a_retry_of_a_failed_join_combines_nothing(world: World, meter: Meter) -> None:
    """If only the join failed, only the join runs."""
    bad = [True]

    def join(parts: Any) -> Any:
        if bad:
            raise ValueError("no")
        return list(parts)

    ledger = world.launch(metered(meter, join=join), {"numbers": list(range(40))})
    world.dispatcher.drain(world.runtime)
    assert failure_of(ledger).step == "join"
    bad.clear()
    meter.runs.clear()
    assert world.job(ledger).retry()
    world.dispatcher.drain(world.runtime)
    assert world.job(ledger).get() == [serial(range(32)), serial(range(32, 40))]
    assert meter.runs == []


# The end of a job, and of a task


def test_a_cancelled_job_stops_combining(meter: Meter) -> None:
    """Whoever combines when the job ends notices, and writes nothing."""
    world = World(stall_s=0.03)
    looks: list[str] = []

    class Watched(Pairs):
        def combine(a, b):
            meter.runs.append([a, b])
            if len(meter.runs) == 1:
                conclude(
                    world.runtime, world.runtime.job(ledger.job_id), OutcomeStatus.CANCELLED, Failure("job", "X", "x")
                )
                world.store.log.clear()
                while ("head", ledger.keys.outcome) not in world.store.log:
                    looks.append("not yet")
            return a + b

    ledger = world.launch(Watched, {"numbers": list(range(33))})
    world.dispatcher.drain(world.runtime, until=lambda: bool(meter.runs))
    assert len(meter.runs) < 31
    assert nodes_of(world) == {}


def test_a_worker_without_the_combine_says_so(world: World) -> None:
    """Where a worker has older code than whoever launched the job, the failure names the remedy."""

    class Older(Pairs):
        name = "unit.older"
        combine = None

    order = world.submission(Older, {"numbers": [1, 2]}, chunk_items=2, max_attempts=1)
    ledger = world.runtime.launch("job", replace(order.intent(), combines=True)).ledger
    world.dispatcher.send_setup("job", ledger.intent())
    world.dispatcher.drain(world.runtime)
    assert failure_of(ledger).error == "DeclarationError"
    assert "deploy the same code to all processes" in failure_of(ledger).reason


def test_an_intent_of_before_does_not_combine() -> None:
    """A record that does not say whether its task combines is of a job that does not."""
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
