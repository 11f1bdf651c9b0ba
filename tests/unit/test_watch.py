"""A caller watches a job with one request a second, in a loop, in a terminal or where there is none."""

from __future__ import annotations

import asyncio
import io
import re
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from fanout import JobFailed, JobNotFound, JobState, JobTimeout, Progress
from fanout.job import Job
from fanout.records.ledger import Ledger
from fanout.records.models import ChunkResult, Manifest
from fanout.waiting import bar, drawing, watch
from fanout.waiting.view import JobView
from storage import CountingStore
from tests.tasks import FailingTask

from .tasks import Numbers
from .world import World, worker


class Terminal(io.StringIO):
    """A file that says that it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a second of those who watch pass quickly."""
    for module in (watch, bar):
        monkeypatch.setattr(module, "EVERY_S", 0.005)


def observe(world: World, ledger: Ledger, work: Callable[[], object]) -> list[tuple[Progress, int]]:
    """Return what a caller sees, with the number of requests for each, while `work` is done in each of its pauses."""
    view = JobView(ledger.job_id, world.runtime, ledger.launch_id)
    observer = watch.Observer(view)
    seen = []
    while not seen or not seen[-1][0].state.has_ended:
        world.store.log.clear()
        progress = observer.observe()
        seen.append((progress, len(world.store.log)))
        work()
    return seen


def deliver_one(world: World) -> None:
    if world.dispatcher.waiting:
        world.dispatcher.deliver(world.runtime)


def test_a_look_is_one_request(world: World) -> None:
    """After the first look, each is one request, and the last one two at most, through all states of a job."""
    ledger = world.launch(Numbers, {"numbers": list(range(12))})
    seen = observe(world, ledger, lambda: deliver_one(world))
    requests = [count for _, count in seen]
    assert requests[0] <= 4
    assert set(requests[1:-1]) == {1}
    assert requests[-1] <= 2
    states = list(dict.fromkeys(progress.state for progress, _ in seen))
    assert states == [JobState.LAUNCHED, JobState.PROCESSING, JobState.JOINING, JobState.SUCCEEDED]
    done = [progress.chunks_done for progress, _ in seen]
    assert done == sorted(done)
    assert (seen[-1][0].chunks_done, seen[-1][0].items_done) == (12, 12)


def test_a_look_at_a_large_job_is_one_request() -> None:
    """With thousands of chunks, each in an object, a look is one page of a listing, and a few looks see them all."""
    world = World()
    ledger = world.launch(Numbers, {"numbers": [1]})
    world.dispatcher.lose()
    chunks = 3_000
    ledger.write_manifest(
        Manifest(setup_id="s", chunks=chunks + 1, items=chunks + 1, input_bytes=1, shards=["0" * 32] * 3, stats=[])
    )
    for chunk in range(chunks):
        ledger.write_result("s", ChunkResult(chunk=chunk, first_item=chunk, items=1, values=b"", stats=[]))
    store = CountingStore(world.store)
    runtime = world.process()
    runtime.store = store
    observer = watch.Observer(JobView(ledger.job_id, runtime, ledger.launch_id))
    counts, partial = [], []
    for _ in range(8):
        before = sum(store.requests.values())
        progress = observer.observe()
        partial.append(progress.is_partial)
        counts.append(sum(store.requests.values()) - before)
    assert counts[0] <= 4
    assert set(counts[1:]) == {1}
    assert (progress.chunks_done, progress.state) == (chunks, JobState.PROCESSING)
    assert partial == sorted(partial, reverse=True)
    assert partial[0]
    assert not partial[-1]


def test_the_rate_and_the_time_left_are_measured(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten items in ten seconds of twenty leave ten seconds, and a pause of half a minute is no rate."""
    clock = [0.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: clock[0])
    meter = watch._Meter()
    assert meter.rate is None
    meter.note(0.0)
    assert meter.rate is None
    clock[0] = 10.0
    meter.note(20.0)
    assert meter.rate == 2.0
    clock[0] = 41.0
    meter.note(20.0)
    clock[0] = 71.0
    meter.note(20.0)
    assert meter.rate == 0.0


@pytest.mark.usefixtures("quick")
def test_a_loop_sees_the_job_to_its_end(world: World) -> None:
    """`for` and `async for` give each change until the end, also of a job that fails, which the loop does not raise."""
    good = world.job(world.launch(Numbers, {"numbers": list(range(20))}))
    bad = world.job(world.launch(FailingTask, {"step": "process", "numbers": [0, 3]}))

    async def follow() -> list[Progress]:
        return [progress async for progress in bad.watch(timeout=30)]

    with worker(world):
        seen = list(good.watch(timeout=30))
        failed = asyncio.run(follow())
    assert seen[-1].state == JobState.SUCCEEDED
    assert all(one != other for one, other in pairwise(seen))
    assert failed[-1].state == JobState.FAILED


@pytest.mark.usefixtures("quick")
def test_a_watch_ends_in_time(world: World) -> None:
    """A loop raises JobTimeout when its time is up, and JobNotFound for an unknown job."""
    job = world.job(world.launch(Numbers, {"numbers": [1]}))
    with pytest.raises(JobTimeout):
        list(job.watch(timeout=0.02))
    with pytest.raises(JobNotFound):
        next(iter(Job("unknown-job", world.runtime).watch()))


@pytest.mark.usefixtures("quick")
def test_a_retry_begins_anew(world: World) -> None:
    """After a retry a caller sees the chunks of the new generation, and its end."""
    job = world.job(world.launch(FailingTask, {"step": "process", "numbers": [0, 1, 2, 3, 4, 5]}, tolerate=1))
    world.dispatcher.drain(world.runtime)
    assert [progress.items_failed for progress in job.watch()] == [1]
    assert job.retry()
    view = JobView(job.id, world.process())
    observer = watch.Observer(view)
    first = observer.observe()
    assert (first.state, first.chunks_done, first.items_failed) == (JobState.PROCESSING, 2, 0)
    world.dispatcher.drain(world.runtime)
    watching = iter(job.watch())
    assert next(watching).state == JobState.SUCCEEDED


def test_a_retry_between_two_looks_is_seen(world: World) -> None:
    """A caller that has seen all chunks done sees those that a retry runs again, before it asks for the end."""
    ledger = world.launch(FailingTask, {"step": "process", "numbers": [0, 1, 2, 3]}, tolerate=1, max_attempts=1)
    world.dispatcher.drain(world.runtime, until=lambda: bool(world.dispatcher.joins))
    observer = watch.Observer(JobView(ledger.job_id, world.process()))
    assert observer.observe().state == JobState.JOINING
    world.dispatcher.drain(world.runtime)
    assert world.job(ledger).retry()
    seen = [observer.observe() for _ in range(3)]
    assert (seen[-1].state, seen[-1].chunks_done, seen[-1].items_failed) == (JobState.PROCESSING, 1, 0)


def test_a_block_that_ends_at_once_shows_the_end(world: World) -> None:
    """A bar around a `get` that returns at once has the job's last state and its number of items."""
    ledger = world.launch(Numbers, {"numbers": [1, 2]})
    world.dispatcher.drain(world.runtime)
    for _ in range(20):
        job, file = world.job(ledger), io.StringIO()
        with job.progress_bar(file):
            job.get(30)
        assert file.getvalue() == f"Numbers {job.id}: succeeded, 2 of 2 items (100 %)\n"


@pytest.mark.usefixtures("quick")
def test_get_calls_back_and_returns_the_value(world: World) -> None:
    """`get(progress=…)` calls a function with each progress, and then returns the value or raises as `get` does."""
    seen: list[Progress] = []
    job = world.job(world.launch(Numbers, {"numbers": [1, 2]}))
    bad = world.job(world.launch(FailingTask, {"step": "join", "numbers": [1]}))
    with worker(world):
        assert job.get(30, progress=seen.append) == [1, 2]
        with pytest.raises(JobFailed, match="join was told to fail"):
            bad.get(30, progress=lambda progress: None)
    assert seen[-1].state == JobState.SUCCEEDED


@pytest.mark.usefixtures("quick")
def test_get_sweeps_while_it_shows_progress() -> None:
    """A caller that waits with a bar sends the lost messages of the job again, as one without it."""
    world = World(stall_s=0.01)
    job = world.job(world.launch(Numbers, {"numbers": [1]}))
    world.dispatcher.lose()
    with worker(world):
        assert job.get(30, progress=lambda progress: None) == [1]
    assert len(world.dispatcher.setups) >= 2


@pytest.mark.usefixtures("quick")
def test_lines_are_printed_where_there_is_no_terminal(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal there is one line per state, and no escape sequence."""
    file = io.StringIO()
    job = world.job(world.launch(Numbers, {"numbers": [1, 2]}))
    with worker(world), job.progress_bar(file) as shown:
        assert job.get(30) == [1, 2]
    # A slow worker lets the bar see two states of the results, which make a rate.
    end = re.compile(rf"{job.id}: succeeded, 2 of 2 items \(100 %\)(, [\d,.]+ items/s)?\n$")
    assert end.search(file.getvalue())
    assert "\x1b" not in file.getvalue()
    assert shown._repr_html_().startswith('<progress max="1" value="1.0000"')
    job.get(progress=True)
    assert end.search(capsys.readouterr().err)


def test_a_line_of_one_state_comes_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress within a state is printed once in ten seconds, and a new state at once."""
    clock = [100.0]
    monkeypatch.setattr(bar.time, "monotonic", lambda: clock[0])
    file = io.StringIO()
    lines = bar.Lines("job", file)
    for second in range(25):
        clock[0] = 100.0 + second
        lines(Progress(JobState.PROCESSING, second, 600, 600, 2, 14.2, 334.0))
    lines(Progress(JobState.FAILED, 25, 600, 600, 3))
    lines(Progress(JobState.PROCESSING, 30, 600, 600, is_partial=True))
    assert file.getvalue().splitlines() == [
        "job: processing, 0 of 600 items (0 %), 2 failed, 14.2 items/s, 5 min 34 s left",
        "job: processing, 10 of 600 items (1 %), 2 failed, 14.2 items/s, 5 min 34 s left",
        "job: processing, 20 of 600 items (3 %), 2 failed, 14.2 items/s, 5 min 34 s left",
        "job: failed, 25 of 600 items (4 %), 3 failed",
        "job: processing, at least 30 of 600 items (5 %)",
    ]


def test_rich_draws_a_bar_that_fits_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal of 80 columns, rich draws items, failures, rate and time left in one line."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    drawn = drawing.draw("Numbers 0123456789", terminal)
    assert drawn is not None
    with drawn as show:
        show(Progress(JobState.LAUNCHED, 0, None, None))
        show(Progress(JobState.PROCESSING, 120, 600, 600, 2, 14.2, 334.0))
        show(Progress(JobState.PROCESSING, 12_000, 100_000, 1_000_000, 1_234, 1_420.0, 33_400.0))
    *_, last = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).strip())
    assert len(last) <= 80
    assert re.fullmatch(r"Numbers [╸╺━]+ 120k/1.00M  1,234 failed  1,420/s  9 h 16 min left 0:00:\d\d", last)
    assert drawing.draw("Numbers", io.StringIO()) is None


@pytest.mark.usefixtures("quick")
def test_a_store_without_an_answer_does_not_end_the_block(world: World) -> None:
    """The bar goes on when the store answers again, its thread ends with the block, and an unknown job is an error."""
    job = world.job(world.launch(Numbers, {"numbers": [1]}))
    file = io.StringIO()

    def fail(verb: str, key: str) -> None:
        failed.append(key)
        raise ConnectionError("no")

    failed: list[str] = []
    with job.progress_bar(file) as shown:
        world.store.before = fail
        while len(failed) < 3:
            time.sleep(0.001)
        world.store.before = lambda verb, key: None
        world.dispatcher.drain(world.process())
        while shown.progress is None or not shown.progress.state.has_ended:
            time.sleep(0.001)
    assert not any(thread.name == "fanout-progress" for thread in threading.enumerate())
    with pytest.raises(JobNotFound), Job("unknown-job", world.runtime).progress_bar(file):
        pass


def test_progress_is_shown_in_a_notebook() -> None:
    """The HTML of a progress has a bar and the words, and no value before setup has finished."""
    assert Progress(JobState.LAUNCHED, 0, None, None)._repr_html_() == (
        '<progress max="1" style="width: 20em"></progress> launched'
    )
    assert 'value="0.2500"' in Progress(JobState.PROCESSING, 1, 4, 40)._repr_html_()
    assert Progress(JobState.PROCESSING, 1, 4, 40).items_done == 10
