"""The model of large jobs keeps S3's limits, loses nothing, and agrees with arithmetic where nothing is scarce."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.command import bench
from benchmarks.growth.command import make_tables
from benchmarks.growth.limits import TokenBucket, backoff_s
from benchmarks.growth.model import Figures, simulate
from benchmarks.growth.plan import Plan
from benchmarks.growth.queue import Queue

SMALL = Plan(chunks=2000, workers=50, chunk_s=0.001)
FEW = Plan(chunks=320, workers=1, chunk_s=0.5)


def test_a_bucket_takes_its_rate_and_one_second_of_saved_requests() -> None:
    """Over ten seconds it takes the rate and what it held at the start, however often it is asked."""
    bucket = TokenBucket(128)
    assert sum(bucket.take(number / 1024) for number in range(10 * 1024 + 1)) == 11 * 128
    assert not bucket.take(10.0)
    assert bucket.take(10.5, 64)
    assert not bucket.take(10.5)


def test_a_bucket_takes_all_or_none() -> None:
    """A request for more than there is costs nothing."""
    bucket = TokenBucket(10)
    assert not bucket.take(0.0, 11)
    assert bucket.take(0.0, 10)


def test_pauses_double_up_to_twenty_seconds() -> None:
    """The longest pause is 1, 2, 4, 8, 16 and then 20 s; the shortest is near none."""
    chance = random.Random(1)
    for refusals, longest_s in enumerate([1, 2, 4, 8, 16, 20, 20, 20], start=1):
        pauses_s = [backoff_s(chance, refusals) for _ in range(2000)]
        assert 0.99 * longest_s < max(pauses_s) < longest_s
        assert min(pauses_s) < 0.01 * longest_s


def test_messages_are_delivered_in_the_order_in_which_they_were_sent() -> None:
    """Of setup's messages and parts of batches the oldest comes first, and none before it was sent."""
    queue = Queue(Plan(chunks=64, setup_message_s=1.0, setup_chunk_s=0.0))
    assert queue.setup_s == 2.0
    queue.put(1.5, (7, 1))
    queue.put(9.0, (8, 1))
    assert queue.is_empty(0.5)
    assert queue.take(0.5) is None
    assert not queue.is_empty(1.0)
    assert [queue.take(3.0) for _ in range(4)] == [(0, 32), (7, 1), (32, 32), None]
    assert queue.is_empty(8.0)
    assert queue.take(9.0) == (8, 1)
    assert queue.next_s is None


def test_one_worker_takes_the_time_of_its_requests_and_its_work() -> None:
    """Without others and after setup, a chunk takes its work, a read, a write and a look for the end, one by one."""
    plan = replace(FEW, batch=1, setup_message_s=1e-6, setup_chunk_s=1e-6)
    figures = simulate(plan)
    each_s = plan.chunk_s + 2 * plan.request_s + plan.loop_s
    # A look for the end takes a read, once a second: in every second chunk.
    expected_s = plan.chunks * each_s + plan.chunks / 2 * plan.request_s
    assert figures.phases["setup"] + figures.phases["process"] == pytest.approx(expected_s, rel=0.02)
    assert figures.refused == 0
    assert figures.phases["join"] == pytest.approx(0.1 + 320 / 8 * 0.05)


def test_quick_chunks_cost_a_thirty_second_of_single_ones() -> None:
    """Where a batch lasts under 20 ms, messages and objects are those of the batches."""
    quick = replace(SMALL, chunk_s=0.0005)
    single, batched = (simulate(replace(quick, batch=batch)) for batch in (1, 32))
    assert (single.messages, single.results, single.shared) == (2000, 2000, 0)
    assert (batched.messages, batched.results, batched.shared) == (63, 63, 0)
    assert batched.requests["put"] == 63 + 2
    assert batched.duration_s < single.duration_s / 4


def test_a_batch_that_lasts_is_shared_out() -> None:
    """Every batch of long chunks costs its object and marker beside a message and an object for each chunk."""
    figures = simulate(replace(FEW, workers=4))
    assert (figures.shared, figures.results) == (10, 320 + 10)
    # The worker that shares out goes on with one chunk under the batch's own message.
    assert figures.messages == 320
    # Of 1 ms each, 20 are done in time; one goes on, and 11 make the other part.
    plan = replace(SMALL, chunks=32)
    assert plan.parts(0, 32) == [(21, 11)]
    assert plan.objects_a_chunk * 32 == 4
    assert simulate(plan).messages == 2


@settings(max_examples=60)
@example(chunks=54, workers=1, chunk_s=0.001, batch=22, prefixes=1, reads_shared=True)
@given(
    chunks=st.integers(1, 200),
    workers=st.integers(1, 20),
    chunk_s=st.sampled_from([0.0001, 0.001, 0.009, 0.03, 1.0, 12.0]),
    batch=st.integers(1, 32),
    prefixes=st.integers(1, 3),
    reads_shared=st.booleans(),
)
def test_every_job_ends_with_every_chunk(
    chunks: int, workers: int, chunk_s: float, batch: int, prefixes: int, reads_shared: bool
) -> None:
    """Whatever the plan, the job ends, no sooner than its work allows, and batches cover each chunk once."""
    plan = Plan(
        chunks=chunks, workers=workers, chunk_s=chunk_s, batch=batch, prefixes=prefixes, reads_shared=reads_shared
    )
    number, first = 0, 0
    while first < chunks:
        start, count = plan.first_batch(number)
        assert start == first
        assert count
        assert start // 32 == (start + count - 1) // 32
        number, first = number + 1, first + count
    assert plan.first_batch(number)[1] == 0
    figures = simulate(plan)
    assert figures.duration_s >= plan.work_s
    assert min(figures.phases.values()) >= 0
    assert number <= figures.messages <= chunks
    assert figures.results >= number
    assert figures.requests["get"] >= figures.messages + figures.results


def test_rates_above_the_limit_are_refused_and_more_prefixes_help() -> None:
    """1,000 workers with short chunks want more writes than one partition takes; four take them all."""
    plan = Plan(chunks=30_000, workers=1000, chunk_s=0.05, batch=1, setup_message_s=1e-5, setup_chunk_s=1e-6)
    one, four = (simulate(replace(plan, prefixes=prefixes)) for prefixes in (1, 4))
    working_s = [figures.phases["setup"] + figures.phases["process"] for figures in (one, four)]
    # A bucket starts with the requests of a second.
    assert working_s[0] >= (30_000 - 3500) / 3500
    assert one.refused_share > 0.01
    assert one.most_refusals > 1
    assert four.refused_share < one.refused_share / 2
    assert working_s[1] < working_s[0] / 1.5


def test_heartbeats_are_paid_for() -> None:
    """A chunk of a minute has twelve heartbeats, each with a write and a read; one of four seconds has none."""
    minute, seconds = (simulate(replace(FEW, batch=1, workers=10, chunk_s=chunk_s)) for chunk_s in (60.0, 4.0))
    assert minute.requests["put"] - seconds.requests["put"] == 12 * 320
    assert seconds.requests["put"] == 320 + 1


def test_reading_shared_batches_costs_every_worker_a_read_for_each() -> None:
    """Where a listing has to read the batches that were shared out, checks and join make more reads."""
    plan = replace(FEW, chunks=3200, workers=20, chunk_s=0.3)
    without, with_reads = (simulate(replace(plan, reads_shared=reads)) for reads in (False, True))
    assert with_reads.requests["get"] - without.requests["get"] > 5 * with_reads.shared
    assert with_reads.phases["join"] - without.phases["join"] == pytest.approx(100 * plan.request_s)


def test_the_same_seed_gives_the_same_figures() -> None:
    """The model is deterministic; another seed changes the pauses after refusals."""
    plan = Plan(chunks=20_000, workers=1000, chunk_s=0.05, batch=1, setup_message_s=1e-5)
    assert simulate(plan) == simulate(plan)
    assert simulate(plan, seed=2) != simulate(plan)


def test_figures_add_up() -> None:
    """Duration, slowest phase, share of refusals and price follow from the parts."""
    phases = {"setup": 1.0, "process": 5.0, "completion": 0.5, "join": 2.0}
    figures = Figures(phases, {"get": 700_000, "put": 150_000, "list": 50_000}, 100_000, 3, 10, 10, 0)
    assert (figures.duration_s, figures.slowest, figures.refused_share) == (8.5, "process", 0.1)
    assert figures.dollars == pytest.approx(0.7 * 0.4 + 0.2 * 5)


def test_tables_of_large_figures_fit_a_terminal() -> None:
    """With ten million chunks and a week of time no line has over 80 characters, and nothing is cut off."""
    plan = Plan(chunks=10_000_000, workers=10_000, chunk_s=0.001, prefixes=16)
    phases = {"setup": 10_500.0, "process": 600_000.0, "completion": 9_999.0, "join": 63_500.0}
    requests = {"get": 150_000_000, "put": 130_000_000, "list": 20_000_000}
    figures = Figures(phases, requests, 10**8, 40, 10**7, 10**7, 0)
    console = Console(width=80)
    with console.capture() as captured:
        for table in make_tables([(plan, figures)]):
            console.print(table)
    assert max(map(len, captured.get().splitlines())) <= 80
    assert "…" not in captured.get()


def test_the_command_prints_a_row_for_each_combination() -> None:
    """Lists of values give all combinations, and the output says that nothing was measured."""
    arguments = ["growth", "--chunks", "640", "--workers", "4", "--chunk-s", "0.001,0.5", "--batch", "1,32"]
    result = CliRunner().invoke(bench, arguments)
    assert result.exit_code == 0, result.output
    assert "640 chunks. A model, not a measurement." in result.output
    rows = [line.split()[:4] for line in result.output.splitlines() if line[:1] == "0"]
    assert rows == [[seconds, "4", batch, "1"] for seconds in ("0.001", "0.5") for batch in ("1", "32")] * 2
    refused = CliRunner().invoke(bench, ["growth", "--batch", "33"])
    assert refused.exit_code != 0
    assert "give numbers from 1 to 32" in " ".join(refused.output.split())
