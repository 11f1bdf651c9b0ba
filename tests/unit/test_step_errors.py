"""An exception of a step fails that step. An error of the store or the broker is transient and interrupts the run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fanout import BrokerUnavailable, ConfigError, ForkJoinTask, JobFailed
from fanout.errors import is_transient
from fanout.records.failure import Failure
from storage import (
    BucketNotFound,
    ConditionalWriteUnsupported,
    CorruptObject,
    ObjectNotFound,
    StorageDenied,
    StorageError,
    StorageUnavailable,
    Unencodable,
)

from .world import World


class Unspeakable(Exception):
    """An exception that has no text."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class Noted(Exception):
    """An exception whose notes cannot be read."""

    @property
    def __notes__(self) -> Any:
        raise RuntimeError("no notes")


class Broken(BaseException):
    """An exception that no `except Exception` catches, with half a character in its text."""

    def __str__(self) -> str:
        return "half a character: \ud800"


ODD: list[BaseException] = [
    asyncio.CancelledError("stopped"),
    SystemExit(3),
    GeneratorExit("closed"),
    Unspeakable(),
    Noted("noted"),
    Broken(),
    BaseExceptionGroup("several", [SystemExit(1), ValueError("one")]),
]


def task_raising(at: str, error: BaseException) -> type[ForkJoinTask]:
    """Return a task of which one step raises."""

    def raise_if(step: str) -> None:
        if step == at:
            raise error

    class Odd(ForkJoinTask):
        input_schema: dict[str, Any] = {}
        max_attempts = 2

        @staticmethod
        def setup():
            raise_if("setup")
            yield {"number": 1}
            raise_if("the end of setup")
            yield {"number": 2}

        @staticmethod
        def process(number):
            raise_if("process")
            return number

        @staticmethod
        def combine(results):
            raise_if("combine")
            return sum(results)

        @staticmethod
        def join(results):
            raise_if("join")
            return list(results)

    return Odd


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("at", ["setup", "the end of setup", "process", "combine", "join"])
def test_any_exception_of_a_step_is_its_failure(at: str, error: BaseException) -> None:
    """The job ends at once, with the step, the error's name and the number of attempts."""
    world = World()
    outcome = world.run(task_raising(at, error), {}, chunk_items=2)
    failure = Failure.read(outcome.failure)
    assert failure is not None
    step = "setup" if "setup" in at else at
    assert (failure.step, failure.error) == (step, type(error).__name__)
    assert failure.attempts == (2 if step in ("process", "combine") else 1)
    assert failure.traceback_text
    assert len(world.dispatcher.setups) == 1
    assert isinstance(outcome.error("job"), JobFailed)


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_ctrl_c_in_run_stops_the_caller(executor: Any) -> None:
    """KeyboardInterrupt is raised in the process that runs the steps itself. SystemExit is a failure of the step."""
    if executor == "inline":
        with pytest.raises(KeyboardInterrupt):
            task_raising("process", KeyboardInterrupt()).run({})
    with pytest.raises(JobFailed, match="SystemExit: 3"):
        task_raising("process", SystemExit(3)).run({}, executor=executor)


def test_a_tolerant_job_tolerates_any_exception() -> None:
    """An exception that is no `Exception` fails its item and no other."""

    class Half(ForkJoinTask):
        input_schema: dict[str, Any] = {}

        def setup():
            return [{"number": number} for number in range(4)]

        def process(number):
            if number % 2:
                raise asyncio.CancelledError
            return number

        def join(results):
            return list(results.good())

    assert Half.run({}, tolerate=2, max_attempts=1) == [0, 2]


def test_a_traceback_begins_with_the_frame_of_the_user() -> None:
    """Frames of fanout above the user's are left out. If there is no frame of the user, they stay."""
    outcome = World().run(task_raising("process", ValueError("why")), {}, max_attempts=1)
    failure = Failure.read(outcome.failure)
    assert failure is not None
    lines = failure.traceback_text.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "test_step_errors.py" in lines[1]
    assert "stages" not in failure.traceback_text

    class Unfit(ForkJoinTask):
        input_schema: dict[str, Any] = {}

        def setup():
            return [{"number": 1}]

        def process(number):
            return object()

        def join(results):
            return list(results)

    failure = Failure.read(World().run(Unfit, {}).failure)
    assert failure is not None
    assert failure.error == "Unencodable"
    assert "Traceback" in failure.traceback_text


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (StorageUnavailable("x"), True),
        (StorageDenied("x"), True),
        (BucketNotFound("x"), True),
        (StorageError("x"), True),
        (BrokerUnavailable("x"), True),
        (ObjectNotFound("x"), False),
        (CorruptObject("x"), False),
        (Unencodable("x"), False),
        (ConditionalWriteUnsupported("x"), False),
        (ConfigError("x"), False),
        (ConnectionError("raised by the user"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_which_errors_are_transient(error: Exception, transient: bool) -> None:
    """A store that denies a request is as transient as a silent one. Damage and missing objects are not transient."""
    assert is_transient(error) is transient


@pytest.mark.parametrize("verb", ["get", "put", "list", "head"])
def test_a_job_on_a_store_that_denies_for_a_while_has_one_outcome(verb: str) -> None:
    """If credentials expire at any request, the message is delivered again, and the job has one outcome."""
    for times in range(1, 4):
        world = World()
        ledger = world.launch(task_raising("nothing", ValueError()), {}, chunk_items=2)
        denied = 0
        with world.store.failing(verb, times=times, error=StorageDenied):
            while world.dispatcher.waiting:
                try:
                    world.dispatcher.deliver(world.runtime)
                except StorageDenied:
                    denied += 1
        # The worker ignores an error at a record that only helps other workers.
        assert 1 <= denied <= times
        outcome = ledger.outcome()
        assert outcome is not None
        assert ledger.value(outcome) == [3]
        assert len(world.dispatcher.deliveries) == 1
