"""A report tells from the records alone where the time of a job went, and what it cost."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout import ConfigError, ForkJoinTask, JobNotFound
from fanout.prices import Prices
from fanout.records.run_stats import RunStats, StoreUsage
from fanout.report.attempts import LISTED
from fanout.report.histograms import BINS, count_until, make_histogram
from fanout.report.pricing import price_requests, price_traffic
from fanout.report.runs import split_into_lanes
from fanout.report.timeline import EXACT_BARS, MOST_ROWS, make_timeline
from tests.tasks import FailingTask

from .reports import FETCH_S, QUEUE_S, STORE_S, make_report
from .tasks import Numbers
from .world import World


class Sums(ForkJoinTask):
    """A task with a tree of sums."""

    input_schema = {"numbers": {"type": "list"}}
    chunk_items = 1

    def setup(numbers):
        return ({"number": number} for number in numbers)

    def process(number):
        return number

    def combine(partial_sums):
        return sum(partial_sums)

    def join(sums):
        return sum(sums)


@pytest.mark.parametrize("is_local", [True, False])
@pytest.mark.parametrize("batch_chunks", [1, 32])
def test_requests_are_those_that_the_store_took(batch_chunks: int, is_local: bool) -> None:
    """The report counts a worker's requests up to the outcome, with those that it makes early, and their bytes."""
    world = World(batch_chunks=batch_chunks)
    ledger = world.launch(Numbers, {"numbers": list(range(70))})
    world.store.is_local = is_local
    world.store.log.clear()
    world.dispatcher.drain(world.process())
    until_outcome = world.store.log[: world.store.log.index(("put", ledger.keys.outcome)) + 1]
    report = world.job(ledger).report()
    usage = report.usage
    assert usage is not None
    counted = Counter({"put": usage.put, "get": usage.get, "list": usage.list, "head": usage.head})
    # The clock's object and the probe are the process's, and not the job's.
    assert +counted == Counter(verb for verb, key in until_outcome if not key.startswith("_probe"))
    delivered_bytes = world.store.head(ledger.keys.delivered).size
    assert usage.uploaded_bytes == report.recorded.stored_bytes - delivered_bytes
    assert len(report.recorded.runs) == (70 if batch_chunks == 1 else 3)
    assert [span.chunk for span in report.spans] == list(range(70))


def test_each_chunk_of_a_batch_has_a_time() -> None:
    """The record of a batch holds the time of each chunk, and they fit into the time of its run."""
    world = World(batch_chunks=32)
    ledger = world.launch(Numbers, {"numbers": list(range(40))})
    world.dispatcher.drain(world.runtime)
    runs = world.job(ledger).report().recorded.runs
    assert [len(run.took_s) for run in runs] == [32, 8]
    for run in runs:
        assert sum(run.took_s) + run.fetched_s <= run.ended_at - run.started_at + 0.001
        assert run.input_bytes > 0
        assert run.ready_at is not None


def test_rows_of_earlier_records_are_read() -> None:
    """A record with the four fields of earlier versions gives a run without requests and parts of its time."""
    stats = RunStats(*[1.0, 2.0, 3_000, "host:1"])
    assert (stats.fetched_us, stats.stored_us, stats.store_usage, list(stats.took_us)) == (0, None, None, [])


def test_a_job_that_runs_has_a_report(world: World) -> None:
    """A report is made at any time: before setup, between two chunks, and of nodes above chunks."""
    ledger = world.launch(Sums, {"numbers": list(range(40))})
    job = world.job(ledger)
    assert job.report().lines()[0].split()[1] == "launched,"
    world.dispatcher.deliver(world.runtime)
    for _ in range(33):
        world.dispatcher.deliver(world.runtime)
    report = job.report()
    assert (report.ended_at, len(report.recorded.runs), len(report.recorded.nodes)) == (None, 33, 1)
    assert json.loads(json.dumps(report.to_dict()))["state"] == "processing"
    world.dispatcher.drain(world.runtime)
    whole = job.report().recorded
    # Every node has a record of its first attempt.
    assert (len(whole.nodes), whole.attempts.count) == (2, 0)


def test_a_report_shows_no_value_of_the_users(world: World) -> None:
    """Its lines are the main figures, and its repr names the job. Neither shows a parameter or a result."""
    job = world.job(world.launch(Numbers, {"numbers": [123456789]}))
    world.dispatcher.drain(world.runtime)
    report = job.report()
    assert str(report).splitlines()[0].startswith("state")
    assert "1 of 1; 1 item\n" in str(report)
    assert repr(report) == f"<Report of job {job.id}: succeeded>"
    assert "123456789" not in str(report)


def test_a_removed_job_has_no_report(world: World) -> None:
    """A job object that knew its job before the removal does not report what it remembers."""
    job = world.job(world.launch(Numbers, {"numbers": [1]}))
    world.dispatcher.drain(world.runtime)
    job.report()
    job.remove()
    with pytest.raises(JobNotFound, match="check the id"):
        job.report()


def test_attempts_have_their_tracebacks(world: World) -> None:
    """Each attempt that raised is listed with chunk, number, error and traceback, and the failure is the advice."""
    ledger = world.launch(FailingTask, {"step": "process", "numbers": [0, 1, 2, 3]})
    world.dispatcher.drain(world.runtime)
    report = world.job(ledger).report()
    attempts = report.recorded.attempts
    assert (attempts.count, attempts.retried_chunks) == (3, 1)
    assert [(one.step, one.chunk, one.number, one.state, one.error) for one in attempts.listed] == [
        ("process", 1, number, "raised", "ValueError") for number in (1, 2, 3)
    ]
    assert "process was told to fail at 3" in attempts.listed[0].traceback_text
    assert report.advice[0].rule == "failure"
    assert "chunk 1" in report.advice[0].figure


def test_many_attempts_are_counted_and_some_read(world: World) -> None:
    """A report reads at most so many attempts, and counts them all."""
    ledger = world.launch(FailingTask, {"step": "process", "numbers": [0, 3]}, max_attempts=LISTED + 5)
    world.dispatcher.drain(world.runtime)
    attempts = world.job(ledger).report().recorded.attempts
    assert (attempts.count, len(attempts.listed)) == (LISTED + 5, LISTED)


def test_a_retry_is_measured_by_itself(world: World) -> None:
    """After a retry, time and lanes are those of the new generation, and chunks and attempts those of all."""
    ledger = world.launch(FailingTask, {"step": "process", "numbers": [0, 1, 2, 3]})
    world.dispatcher.drain(world.runtime)
    job = world.job(ledger)
    before = job.report()
    assert job.retry(max_attempts=1)
    world.dispatcher.drain(world.runtime)
    report = job.report()
    assert (before.generation, report.generation) == (0, 1)
    assert report.began_at > before.began_at == report.launched_at
    assert {attempt.generation for attempt in report.recorded.attempts.listed} == {0, 1}
    assert len(report.recorded.earlier) == 1
    assert len(report.spans) == 2


def test_large_results_are_sampled(world: World) -> None:
    """If the results are larger than a caller wants to read, the report is about every n-th object and says so."""
    ledger = world.launch(Numbers, {"numbers": list(range(30))})
    world.dispatcher.drain(world.runtime)
    job = world.job(ledger)
    seen: list[tuple[int, int]] = []
    whole = job.report(on_progress=lambda done, count: seen.append((done, count)))
    assert seen[-1] == (30, 30)
    sample = job.report(read_bytes=whole.recorded.result_bytes // 3 + 1)
    assert [run.chunk for run in sample.recorded.runs] == list(range(0, 30, 3))
    assert sample.recorded.unread == 20


def test_the_efficiency_is_that_of_the_ideal() -> None:
    """The ideal is the work spread evenly over the lanes; the efficiency is its share of the job's time."""
    report = make_report([1.0] * 8, workers=4)
    assert (report.work_s, report.ideal_s, len(report.lanes)) == (8.0, 2.0, 4)
    assert report.process_s == pytest.approx(2 * (1 + FETCH_S) + STORE_S)
    assert report.efficiency == pytest.approx(2.0 / report.wall_s)
    assert report.tail_s == 0.0
    # The first of each worker's two chunks has waited for the queue alone.
    assert report.waited_s == pytest.approx(QUEUE_S + (1 + FETCH_S + STORE_S) / 2, abs=1e-6)


def test_the_critical_path_has_no_gap() -> None:
    """The segments follow each other from the launch to the end, with the straggler by itself."""
    report = make_report([0.1] * 20 + [5.0], workers=2)
    path = report.critical_path
    assert [segment.name for segment in path] == ["setup", "queue", "10 chunks", "chunk 20", "join"]
    assert all(before.ended_at == pytest.approx(after.started_at) for before, after in pairwise(path))
    assert sum(segment.took_s for segment in path) == pytest.approx(report.wall_s)


def test_the_critical_path_begins_where_the_worker_waited_for_setup() -> None:
    """A run whose items came after the worker's last run is preceded by setup, and by no other run."""
    report = make_report([0.1, 0.1], workers=1, setup_s=0.1)
    first, second = report.recorded.runs
    late = second.ended_at + 10
    setup = report.recorded.setup
    assert setup is not None
    report = make_report(
        [0.1, 0.1],
        runs=[first, replace(second, started_at=late, ended_at=late + 1, ready_at=late)],
        setup=replace(setup, ended_at=late + 0.5),
        join=replace(setup, step="join", started_at=late + 2, ended_at=late + 3),
    )
    assert [segment.name for segment in report.critical_path][:2] == ["setup", "chunk 1"]
    assert report.critical_path[0].ended_at == late


def test_the_critical_path_of_a_failed_job_ends_with_it() -> None:
    """Runs that go on after the outcome are no part of the path."""
    report = make_report([0.1] * 10, workers=1)
    join = report.recorded.join
    assert join is not None
    early = make_report([0.1] * 10, workers=1, join=replace(join, started_at=join.started_at - 0.3))
    assert [segment.name for segment in early.critical_path][-3:] == ["7 chunks", "queue of join", "join"]
    assert sum(segment.took_s for segment in early.critical_path) == pytest.approx(early.wall_s)


def test_stragglers_are_listed_by_their_time() -> None:
    """Chunks of more than five times the median and 2 % of the job's time are stragglers, the longest first."""
    report = make_report([0.1] * 50 + [2.0, 4.0], workers=2, batch=4)
    assert [(one.chunk, one.took_s) for one in report.stragglers] == [(51, 4.0), (50, 2.0)]
    assert report.stragglers[0].times == pytest.approx(40)
    assert make_report([0.1] * 50).stragglers == []


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 100), st.floats(0.01, 10)), max_size=40))
def test_runs_of_a_lane_follow_each_other(spans: list[tuple[int, float, float]]) -> None:
    """Every run is in one lane of its worker, and in a lane no run begins before the one before it ends."""
    [template] = make_report([0.1]).recorded.runs
    runs = [
        type(template)(step="process", worker=f"host:{worker}", started_at=began, ended_at=began + took)
        for worker, began, took in spans
    ]
    lanes = split_into_lanes(runs)
    assert sorted(map(id, (run for lane in lanes.values() for run in lane))) == sorted(map(id, runs))
    for name, lane in lanes.items():
        assert {run.worker for run in lane} == {name.split(" ")[0]}
        assert all(after.started_at >= before.ended_at - 0.001 for before, after in pairwise(lane))


@pytest.mark.parametrize(("chunks", "workers"), [(EXACT_BARS, 3), (100, MOST_ROWS + 3)])
def test_a_large_timeline_keeps_the_time_of_its_bars(chunks: int, workers: int) -> None:
    """In cells, the areas of the bars are the seconds of the runs, for many chunks and for many workers."""
    report = make_report([0.25] * chunks, workers=workers)
    timeline = make_timeline(report.lanes, setup=None, join=None, zero_at=report.began_at, wall_s=report.wall_s)
    assert not timeline.is_exact
    assert len(timeline.rows) <= MOST_ROWS
    lanes_of_row = -(-workers // MOST_ROWS)
    area = sum((bar.right - bar.left) * (bar.top - bar.bottom) for bar in timeline.bars if bar.kind == "ran")
    assert area / 0.84 * lanes_of_row == pytest.approx(report.work_s, rel=0.05)


def test_prices_are_checked_and_multiplied() -> None:
    """PUT and LIST have one price, GET and HEAD another, and an unknown or negative price names itself."""
    prices = Prices.of({"per_put": 2.0, "per_get": 0.5, "per_gb_down": 3.0})
    usage = StoreUsage(0.0, put=1, list=2, get=3, head=4, delete=5, downloaded_bytes=2_000_000_000)
    assert (price_requests(prices, usage), price_traffic(prices, usage)) == (3 * 2.0 + 7 * 0.5, 6.0)
    with pytest.raises(ConfigError, match="per_potato"):
        Prices.of({"per_potato": 1})
    with pytest.raises(ConfigError, match="per_put"):
        Prices(per_put=-1)


@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=50))
def test_a_histogram_counts_every_value_once(values: list[float]) -> None:
    """The counts add up, and the edges ascend and enclose the values above the least."""
    histogram = make_histogram(values, least=1e-6)
    assert sum(histogram.counts) == len(values)
    assert len(histogram.edges) == BINS + 1
    assert all(low < high for low, high in pairwise(histogram.edges))
    assert histogram.edges[-1] >= max(values) * 0.999


def test_a_curve_counts_what_has_come() -> None:
    """A count at a time is that of the moments up to it, each with its number of chunks."""
    assert count_until([(2.0, 5), (1.0, 3)], [0.0, 1.0, 1.5, 3.0]) == [0, 3, 3, 8]
