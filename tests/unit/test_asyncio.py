"""Tasks of an event loop wait for jobs, read their results, and stream input to them."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from celery import Celery

import fanout
from fanout import InvalidInput, JobCancelled, JobFailed, JobNotFound, JobTimeout
from fanout.cached_job import CachedJob
from fanout.declaration.definition import TASKS
from fanout.engines.async_input import AHEAD, AsyncInput
from fanout.engines.celery import extension_of
from fanout.engines.stub import StubDispatcher
from fanout.hints import NoWorkerHint
from fanout.job import Job
from fanout.runtime import Runtime
from fanout.waiting import aio, wait
from tests.tasks import FailingTask

from .tasks import Numbers
from .world import World, worker


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """Yield an app whose messages a test delivers, with a store in memory."""
    monkeypatch.setattr(TASKS, "_listeners", [])
    app = Celery("asyncio", broker="memory://", set_as_current=False)
    fanout.connect(app, store=f"memory://{uuid.uuid4().hex}")
    extension_of(app).runtime.dispatcher = StubDispatcher()
    yield app
    app.close()


def deliver_all(app: Celery) -> None:
    runtime = extension_of(app).runtime
    assert isinstance(runtime.dispatcher, StubDispatcher)
    runtime.dispatcher.drain(runtime)


def threads_of(name: str) -> int:
    return sum(thread.name.startswith(name) for thread in threading.enumerate())


def test_a_job_is_awaited(world: World) -> None:
    """`await job` gives the value, or raises the error that `get` raises."""
    good = world.job(world.launch(Numbers, {"numbers": [1, 2]}))
    bad = world.job(world.launch(FailingTask, {"step": "process", "numbers": [1, 2, 3]}))

    async def main() -> None:
        assert await good == [1, 2]
        with pytest.raises(JobFailed, match="told to fail at 3"):
            await bad
        with pytest.raises(JobNotFound):
            await Job("unknown-job", world.runtime)

    with worker(world):
        asyncio.run(asyncio.wait_for(main(), 30))


def test_results_are_iterated_in_both_orders(world: World) -> None:
    """`async for` gives results in item order, and those of `as_completed` as they arrive, both with none missing."""
    job = world.job(world.launch(Numbers, {"numbers": list(range(100))}))

    async def main() -> tuple[list[Any], list[tuple[int, Any]]]:
        async def in_order() -> list[Any]:
            return [result async for result in job]

        async def arriving() -> list[tuple[int, Any]]:
            return [pair async for pair in job.as_completed(timeout=30)]

        return await asyncio.gather(in_order(), arriving())

    with worker(world):
        ordered, arrived = asyncio.run(main())
    assert ordered == list(range(100))
    assert sorted(arrived) == [(number, number) for number in range(100)]


def test_a_cancelled_task_leaves_the_job(world: World) -> None:
    """A task that is cancelled, or whose time is up, ends at once, and the job runs on."""
    job = world.job(world.launch(Numbers, {"numbers": [1]}))

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await job
        waiting = asyncio.ensure_future(job)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(JobTimeout):
            async for _ in job.as_completed(timeout=0):
                pass

    asyncio.run(main())
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == [1]


def test_another_task_cancels_the_job(world: World) -> None:
    """A waiting task gets JobCancelled when the job is cancelled."""
    job = world.job(world.launch(Numbers, {"numbers": [1]}))

    async def main() -> None:
        waiting = asyncio.ensure_future(job)
        assert await asyncio.to_thread(world.job(job.ledger).cancel)
        with pytest.raises(JobCancelled):
            await waiting

    asyncio.run(asyncio.wait_for(main(), 30))


def test_many_jobs_are_awaited_by_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """One loop awaits many jobs at once. No caller has a thread, also while all jobs are swept."""
    monkeypatch.setattr(aio, "POLLS_PER_S", 5_000)
    world = World(stall_s=0.2)
    jobs = [world.job(world.launch(Numbers, {"numbers": [number]})) for number in range(40)]
    world.dispatcher.lose()
    most = 0

    async def count() -> None:
        nonlocal most
        while True:
            most = max(most, threads_of("fanout-async") + threads_of("fanout-sweep"))
            await asyncio.sleep(0.01)

    async def main() -> list[Any]:
        counting = asyncio.create_task(count())
        values = await asyncio.gather(*jobs)
        counting.cancel()
        return values

    with worker(world):
        assert asyncio.run(asyncio.wait_for(main(), 60)) == [[number] for number in range(40)]
    assert most <= aio.THREADS + aio.SWEEPERS
    assert len(world.dispatcher.setups) >= 80, "each lost message was sent again"


def test_a_crowd_polls_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause between two polls of a job grows with the number of callers that wait."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 200:
            world.dispatcher.drain(world.runtime)
        await plain(0)

    plain = asyncio.sleep
    world = World()
    jobs = [world.job(world.launch(Numbers, {"numbers": [number]})) for number in range(60)]
    monkeypatch.setattr(aio.asyncio, "sleep", sleep)

    async def main() -> None:
        await asyncio.gather(*jobs)

    asyncio.run(main())
    assert max(slept) >= 50 / aio.POLLS_PER_S


def test_a_crowd_logs_few_hints(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Of many tasks whose jobs no worker begins, a few log the hint."""

    class Impatient(NoWorkerHint):
        def __init__(self, runtime: Runtime, job: CachedJob) -> None:
            super().__init__(runtime, job, after_s=0.0)

    monkeypatch.setattr(wait, "NoWorkerHint", Impatient)
    world = World()
    jobs = [world.job(world.launch(Numbers, {"numbers": [number]})) for number in range(30)]

    pauses = 0

    async def sleep(seconds: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 4 * len(jobs):
            polled.set()
        await plain(0)

    async def main() -> None:
        waiting = asyncio.gather(*jobs)
        await polled.wait()
        waiting.cancel()

    plain, polled = asyncio.sleep, asyncio.Event()
    monkeypatch.setattr(aio.asyncio, "sleep", sleep)
    asyncio.run(asyncio.wait_for(main(), 30))
    hints = [record for record in caplog.records if "no worker has begun" in record.message]
    assert len(hints) == aio.HINTED_CALLERS < len(jobs)


def test_an_async_generator_is_streamed(app: Celery) -> None:
    """The loop reads an async generator for setup, a few elements ahead, and closes it."""
    ahead: list[int] = []
    closed = []

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(100):
                ahead.append(number)
                await asyncio.sleep(0)
                yield number
        finally:
            closed.append(True)

    async def main() -> Job[Any]:
        return await Numbers.submit_async({"numbers": numbers()}, app=app)

    job = asyncio.run(main())
    assert ahead == list(range(100))
    assert closed == [True]
    deliver_all(app)
    assert job.get(30) == list(range(100))


def test_the_loop_reads_few_elements_ahead(app: Celery) -> None:
    """While setup works on the first element, the loop reads no more than AHEAD further ones."""
    read: list[int] = []
    going_on = threading.Event()

    class Slow(Numbers):
        def setup(numbers):
            for number in numbers:
                assert going_on.wait(30)
                yield {"number": number}

    async def numbers() -> AsyncIterator[int]:
        for number in range(3 * AHEAD):
            read.append(number)
            yield number

    async def main() -> None:
        launching = asyncio.create_task(Slow.submit_async({"numbers": numbers()}, app=app))
        while len(read) < AHEAD + 1:
            await asyncio.sleep(0.001)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(read) <= AHEAD + 2
        going_on.set()
        await launching

    asyncio.run(asyncio.wait_for(main(), 30))
    assert len(read) == 3 * AHEAD


def test_an_error_of_the_generator_fails_the_job(app: Celery) -> None:
    """The error of an async generator is the cause of JobFailed, as that of a generator is."""

    async def numbers() -> AsyncIterator[int]:
        yield 1
        raise KeyError("lost")

    async def main() -> None:
        with pytest.raises(JobFailed, match="lost") as failed:
            await Numbers.submit_async({"numbers": numbers()}, app=app)
        assert isinstance(failed.value.__cause__, KeyError)

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize("elements", [0, 5])
def test_a_cancelled_submission_cancels_the_job_that_streams(app: Celery, elements: int) -> None:
    """A job is cancelled with the task that submits it, and is not made of the input that had come by then."""

    class Signalling(Numbers):
        def setup(numbers):
            for number in numbers:
                taken.append(number)
                yield {"number": number}

    async def numbers() -> AsyncIterator[int]:
        for number in range(elements):
            yield number
        await asyncio.Event().wait()

    async def main() -> None:
        launching = asyncio.create_task(Signalling.submit_async({"numbers": numbers()}, app=app, job_id="own"))
        while len(taken) < elements:
            await asyncio.sleep(0.001)
        launching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await launching

    taken: list[int] = []
    # At its end asyncio waits for the thread that submits.
    asyncio.run(asyncio.wait_for(main(), 30))
    with pytest.raises((JobCancelled, JobNotFound), match=r"its caller stopped|is not in the store"):
        fanout.attach("own", app=app).get(0)


def test_a_closed_input_does_not_look_complete() -> None:
    """A thread that asks after the input was closed gets CancelledError, again and again, and no end."""

    async def numbers() -> AsyncIterator[int]:
        yield 1

    async def main() -> None:
        stream = AsyncInput(numbers(), asyncio.get_running_loop())
        stream.close()
        for _ in range(2):
            with pytest.raises(asyncio.CancelledError):
                next(stream)

    asyncio.run(main())


def test_submit_refuses_an_async_generator(app: Celery) -> None:
    """The error of `submit`, which no loop can help, names `submit_async`."""

    async def numbers() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(InvalidInput, match="await submit_async"):
        Numbers.submit({"numbers": numbers()}, app=app)
