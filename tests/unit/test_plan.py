"""A plan says beforehand what a job takes, and a limit of memory refuses a job by the name of the process."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fanout import Config, ConfigError, ForkJoinTask, InvalidInput, JobFailed, MemoryLimitExceeded, Options, Plan
from fanout.cli import main
from fanout.engines.stub import Chunk, StubDispatcher
from fanout.engines.submission import Submission
from fanout.plan import Assumptions
from fanout.plan.dry_run import run_dry
from fanout.plan.requests import Cadence, count_requests
from fanout.plan.shape import Shape, estimate_shape
from fanout.plan.work import Work, share_out
from fanout.report import Report
from fanout.runtime import Runtime
from fanout.stages import batch_writer
from storage import CountingStore, MemoryStore

from .reports import make_report
from .sharing import ManualTimers


class Blobs(ForkJoinTask):
    """Makes items of a size, and counts them."""

    name = "tests.Blobs"
    input_schema = {
        "count": {"type": "integer", "required": True},
        "size": {"type": "integer", "required": True},
        "note": {"type": "string"},
    }

    def setup(count, size):
        return [{"blob": bytes(size)} for _ in range(count)]

    def process(blob, note=""):
        return len(blob)

    def join(lengths):
        return sum(lengths)


class CombinedBlobs(Blobs):
    """The same, combined on the way."""

    name = "tests.CombinedBlobs"

    def combine(lengths):
        return sum(lengths)


class StreamedBlobs(Blobs):
    """The same from a stream, which tells no length."""

    name = "tests.StreamedBlobs"

    def setup(count, size):
        for _ in range(count):
            yield {"blob": bytes(size)}


class Slices(Blobs):
    """Parts of a list that is stored once; they refer to it."""

    name = "tests.Slices"
    input_schema = {"whole": {"type": "list", "required": True}}

    def setup(whole):
        return [{"blob": whole[start : start + 10]} for start in range(0, len(whole), 10)]


SHAPES: list[tuple[type[ForkJoinTask], dict[str, Any], dict[str, Any]]] = [
    (Blobs, {"count": 10, "size": 10}, {}),
    (Blobs, {"count": 3_000, "size": 10}, {}),
    (Blobs, {"count": 60, "size": 400_000}, {}),
    (Blobs, {"count": 500, "size": 20_000, "note": "n" * 10_000}, {}),
    (Blobs, {"count": 300, "size": 10}, {"max_attempts": 1}),
    (Blobs, {"count": 20_000, "size": 10}, {"chunk_items": 100}),
    (CombinedBlobs, {"count": 20, "size": 10}, {}),
    (CombinedBlobs, {"count": 2_000, "size": 10}, {"chunk_items": 1}),
    (CombinedBlobs, {"count": 300, "size": 10}, {"chunk_items": 1, "max_attempts": 1}),
    (StreamedBlobs, {"count": 2_000, "size": 10}, {}),
    (Slices, {"whole": ["x" * 10_000] * 800}, {"chunk_items": 1}),
]


@pytest.fixture(autouse=True)
def _no_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no batch be closed because this machine is slow."""
    monkeypatch.setattr(batch_writer, "LINGER_S", 1e9)


def run_counted(
    task: type[ForkJoinTask], values: dict[str, Any], options: dict[str, Any], *, workers: int
) -> tuple[Counter[str], Shape]:
    """Run a job on some workers that take messages in turn; return its requests and its shape as it was."""
    store, dispatcher = CountingStore(MemoryStore()), StubDispatcher()
    config = Config(store=store.url)

    def start_process() -> Runtime:
        runtime = Runtime(store, config, dispatcher)
        runtime.timers = ManualTimers()
        return runtime

    processes = [start_process() for _ in range(workers)]
    caller = start_process()
    submission = Submission.of(task.declaration, values, store=store, inline_bytes=config.inline_bytes, options=options)
    job = caller.launch("job", submission.intent())
    dispatcher.send_setup(job.id, job.intent)
    turn = 0
    while dispatcher.waiting:
        dispatcher.deliver(processes[turn % workers])
        turn += 1
    assert job.ledger.outcome() is not None
    requests = store.requests
    manifest = job.ledger.manifest()
    assert manifest is not None
    refs = [message.ref for message in dispatcher.sent if isinstance(message, Chunk)]
    referenced_bytes = manifest.input_bytes - sum(ref.location.slice_.length for ref in refs)
    shape = Shape(
        items=manifest.items,
        chunks=manifest.chunks,
        messages=dict(Counter(ref.count for ref in refs)),
        input_bytes=manifest.input_bytes,
        slice_bytes=max(ref.location.slice_.length for ref in refs) + referenced_bytes // len(refs),
        slice_items=max(sum(ref.location.sizes) for ref in refs),
        packs=0,
        sends_last=True,
    )
    return requests, shape


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(("task", "values", "options"), SHAPES)
def test_requests_are_planned_within_a_tenth(
    task: type[ForkJoinTask], values: dict[str, Any], options: dict[str, Any], workers: int
) -> None:
    """The requests of a real job, of each verb, are those of its plan, within a tenth or three requests."""
    measured, actual = run_counted(task, values, options, workers=workers)
    shape = run_dry(
        task.declaration, values, Config(store="memory://x"), options=options, limit_items=10**9, limit_s=60.0
    )
    for name in ("items", "chunks", "messages", "input_bytes", "slice_bytes", "slice_items"):
        assert getattr(shape, name) == getattr(actual, name), name
    work = Work.of(shape, 0.0)
    busy = min(workers, work.messages)
    cadence = Cadence(
        workers=busy, checks=work.messages, polls=0, end_checks=measured["head"] - 1, is_over_broker=False
    )
    planned = count_requests(task.declaration.binding, shape, work, cadence, result_bytes=10)
    found = {verb: (getattr(planned, verb), measured[verb]) for verb in ("put", "get", "head", "list")}
    # The caller of this test does not read the outcome once more.
    assert all(abs(one - other) <= max(3 + workers, 0.1 * other) for one, other in found.values()), found
    assert abs(planned.total - sum(measured.values())) <= max(4 + workers, 0.1 * sum(measured.values()))


@settings(max_examples=20)
@example(20_000, 1, {}, StreamedBlobs)
@example(20_000, 1, {}, Blobs)
@example(2_579, 2_803, {}, Blobs)
@example(300, 300_000, {}, Blobs)
@given(
    st.integers(1, 4_000),
    st.integers(1, 3_000),
    st.sampled_from([{}, {"chunk_items": 1}, {"chunk_items": 7}, {"chunk_bytes": 2_000}, {"max_attempts": 1}]),
    st.sampled_from([Blobs, StreamedBlobs]),
)
def test_arithmetic_agrees_with_setup(count: int, size: int, options: dict[str, Any], task: type[ForkJoinTask]) -> None:
    """The shape that follows from the number and size of items is that of a setup that yields them."""
    config = Config(store="memory://x")
    found = run_dry(
        task.declaration, {"count": count, "size": size}, config, options=options, limit_items=10**9, limit_s=60.0
    )
    made = estimate_shape(
        count,
        found.item_bytes,
        Options(**options),
        config,
        combines=False,
        is_stream=task.declaration.binding.setup.is_generator,
    )
    assert made.items == found.items
    assert abs(made.chunks - found.chunks) <= max(1, 0.1 * found.chunks)
    assert abs(made.message_count - found.message_count) <= max(2, 0.1 * found.message_count)
    assert abs(made.packs - found.packs) <= max(2, 0.2 * found.packs)


def test_a_plan_without_values_needs_number_and_size() -> None:
    """A plan is made of numbers alone, and says which are missing."""
    plan = Blobs.plan(items=1_000_000, item_bytes=1_000, workers=1_000, item_s=1.0)
    assert (plan.shape.items, plan.shape.input_bytes) == (1_000_000, 10**9)
    assert plan.times.ideal_s == 1_000
    with pytest.raises(ConfigError, match="both items and item_bytes"):
        Blobs.plan(items=3)
    with pytest.raises(ConfigError, match=r"^item_s must be a number from 0, not -1$"):
        Blobs.plan(items=3, item_bytes=1, item_s=-1)


def test_a_plan_stops_a_long_stream_and_takes_its_items_as_a_sample() -> None:
    """A setup without end is stopped; the plan is partial, or is made for the number of items that is given."""
    values = {"count": 10**12, "size": 100_000}
    partial = StreamedBlobs.plan(values, limit_items=50)
    assert partial.shape.is_partial
    assert 50 <= partial.shape.items <= 200
    assert "at least" in str(partial)
    whole = StreamedBlobs.plan(values, limit_items=50, items=100_000)
    assert (whole.shape.items, whole.shape.is_partial) == (100_000, False)
    assert round(whole.shape.item_bytes, -3) == 100_000


def test_a_plan_sends_and_stores_nothing_and_refuses_what_a_launch_refuses() -> None:
    """A wrong input and a failing setup raise as `run` does, with the field or the cause."""
    with pytest.raises(InvalidInput, match="count"):
        Blobs.plan({"size": 3})
    with pytest.raises(JobFailed) as caught:
        Blobs.plan({"count": 1, "size": -1})
    assert isinstance(caught.value.__cause__, ValueError)


def test_more_workers_are_faster_and_longer_items_are_dearer() -> None:
    """Time falls with the number of workers down to setup and join, and a shared batch costs more requests."""
    plans = [Blobs.plan(items=10_000, item_bytes=10, workers=workers, item_s=0.01) for workers in (1, 10, 100)]
    totals = [plan.times.total_s for plan in plans]
    assert totals == sorted(totals, reverse=True)
    assert all(plan.times.total_s >= plan.times.ideal_s for plan in plans)
    quick, slow = (Blobs.plan(items=4_000, item_bytes=10, item_s=item_s) for item_s in (0.0, 1.0))
    assert quick.requests.put < 0.1 * slow.requests.put
    assert slow.dollars > 10 * quick.dollars
    assert Work.of(slow.shape, 1.0).results == 4_000


@pytest.mark.parametrize(
    ("chunks", "chunk_s", "shared"),
    [(32, 0.0, (32, 0)), (32, 0.003, (32, 0)), (32, 0.01, (2, 3)), (32, 1.0, (0, 31)), (1, 9.0, (1, 0))],
)
def test_a_batch_is_shared_out_as_a_worker_does(chunks: int, chunk_s: float, shared: tuple[int, int]) -> None:
    """A batch that lasts is cut into the parts that `BatchRun` makes of it."""
    assert share_out(chunks, chunk_s) == shared


def test_a_plan_can_be_read() -> None:
    """A plan is a table of a few lines, and slower stores make it longer."""
    plan = Blobs.plan({"count": 1_000, "size": 100}, workers=4, item_s=0.001)
    assert isinstance(plan, Plan)
    assert [line.split()[0] for line in str(plan).splitlines()] == [
        "items",
        "messages",
        "requests",
        "bytes",
        "memory",
        "time",
        "rates",
    ]
    slow = Blobs.plan(items=1_000, item_bytes=100, assumptions=Assumptions(request_s=1.0))
    assert slow.times.total_s > plan.times.total_s


@pytest.mark.parametrize(
    "report",
    [
        make_report([0.05] * 600, workers=4),
        make_report([0.0001] * 6_400, workers=2, batch=32),
        make_report([1.0] * 8, workers=8, items=80),
        make_report([0.002] * 3, workers=1, queue_s=1.5),
    ],
    ids=["many", "tiny", "long", "queued"],
)
def test_a_plan_like_a_job_has_its_times(report: Report) -> None:
    """The plan of the same items on as many workers lasts as long as the job did, and names the job."""
    items = report.progress.items or 0
    plan = Blobs.plan(like=report, workers=len(report.lanes), chunk_items=items // len(report.spans))
    assert (plan.shape.items, plan.shape.chunks) == (items, len(report.spans))
    assert plan.times.ideal_s == pytest.approx(report.ideal_s)
    process_s = plan.times.process_s - plan.rates.assumptions.hand_over_s
    assert process_s == pytest.approx(report.process_s, rel=0.2, abs=0.2)
    assert plan.times.total_s == pytest.approx(report.wall_s, rel=0.2, abs=0.3)
    assert str(plan).endswith("as in job order-4711")
    twice = Blobs.plan(items=2 * plan.shape.items, item_s=1.0, like=report)
    assert (twice.item_s, twice.rates.assumptions) == (1.0, plan.rates.assumptions)


def test_a_job_without_a_result_tells_no_rates() -> None:
    """The error names the argument and the job."""
    report = make_report([0.1])
    with pytest.raises(ConfigError, match=r"^like: job order-4711 has no result"):
        Blobs.plan(like=replace(report, recorded=replace(report.recorded, runs=())))


def test_workers_of_one_pack_begin_after_setup() -> None:
    """Setup sends its messages last where all items fit into one pack, so its time and that of process add up."""
    packed, streamed = Blobs.plan(items=100, item_bytes=10), Blobs.plan(items=100, item_bytes=400_000)
    assert packed.times.total_s == sum((packed.times.setup_s, packed.times.process_s, packed.times.join_s))
    assert streamed.times.total_s < sum((streamed.times.setup_s, streamed.times.process_s, streamed.times.join_s))


def test_workers_of_several_packs_begin_after_the_first() -> None:
    """The first pack is the smallest, so its share of setup is small where there are many."""
    two, many = (Blobs.plan(items=items, item_bytes=400_000, item_s=60.0).times for items in (6, 600))
    assert two.begin_s < two.setup_s
    assert many.begin_s < many.setup_s / 4
    for times in (two, many):
        assert times.total_s == times.begin_s + times.process_s + times.join_s


@pytest.mark.parametrize(
    ("values", "options", "process"),
    [
        ({"count": 1, "size": 1, "note": "n" * 5_000}, {"memory_limit_bytes": 9_000}, "caller"),
        ({"count": 10, "size": 10_000}, {"memory_limit_bytes": 50_000}, "setup"),
        ({"count": 10, "size": 10_000}, {"memory_limit_bytes": 150_000}, "worker"),
    ],
)
def test_a_plan_refuses_a_job_over_its_limit_by_name(
    values: dict[str, Any], options: dict[str, Any], process: str
) -> None:
    """The error names the process, what it needs, the limit and the remedy."""
    with pytest.raises(MemoryLimitExceeded) as caught:
        Blobs.plan(values, **options)
    error = caught.value
    assert (error.process, error.limit_bytes) == (process, options["memory_limit_bytes"])
    assert error.needed_bytes > error.limit_bytes
    assert f"its {process} would hold" in str(error)


def test_a_launch_refuses_a_job_over_its_limit() -> None:
    """Parameters over the limit are refused before anything is stored, and a message over it by setup."""
    store = MemoryStore()
    with pytest.raises(MemoryLimitExceeded, match="its caller would hold"):
        Submission.of(
            Blobs.declaration,
            {"count": 1, "size": 1, "note": "n" * 5_000},
            store=store,
            inline_bytes=100,
            options={"memory_limit_bytes": 9_000},
        )
    assert list(store.list()) == []
    with pytest.raises(JobFailed, match="its worker would hold") as caught:
        Blobs.run({"count": 10, "size": 10_000}, memory_limit_bytes=150_000)
    assert isinstance(caught.value.__cause__, MemoryLimitExceeded)
    assert Blobs.run({"count": 10, "size": 10_000}, memory_limit_bytes=250_000) == 100_000


def test_the_command_plans_with_and_without_input() -> None:
    """`fanout plan` runs setup or takes numbers, prints a table or JSON, and ends with status 6 over the limit."""
    task = f"{__name__}:Blobs"
    words = ["-p", "count=100", "-p", "size=50", "--workers", "4", "--item-ms", "5"]
    result = CliRunner().invoke(main, ["plan", task, *words, "--json"])
    assert result.exit_code == 0, result.output
    fields = json.loads(result.stdout)
    assert (fields["shape"]["items"], fields["workers"], fields["item_s"]) == (100, 4, 0.005)
    table = CliRunner().invoke(main, ["plan", task, "--items", "100", "--item-bytes", "50"])
    assert table.stdout.startswith("items     100 items of 50 B")
    refused = CliRunner().invoke(main, ["plan", task, *words, "-o", "memory_limit_bytes=1000"])
    assert (refused.exit_code, "its setup would hold" in refused.output) == (6, True)
    lacking = CliRunner().invoke(main, ["plan", task, "--items", "100"])
    assert (lacking.exit_code, "needs both --items and --item-bytes" in lacking.output) == (2, True)
    slow = CliRunner().invoke(main, ["plan", task, *words, "--request-ms", "800"])
    assert "800 ms a request" in slow.stdout.replace("0.8 s", "800 ms")
