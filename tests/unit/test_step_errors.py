"""Whatever a step raises is that step's failure; what a store or a broker does is nobody's, and passes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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
    """An exception of which nothing can be said."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class Noted(Exception):
    """One whose notes are no list of texts."""

    @property
    def __notes__(self) -> Any:
        raise RuntimeError("no notes")


class Broken(BaseException):
    """One that no `except Exception` sees, with half a character in its text."""

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


def raising(at: str, error: BaseException) -> type[ForkJoinTask]:
    """A task of which one step raises."""

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
def test_whatever_a_step_raises_is_its_failure(at: str, error: BaseException) -> None:
    """The job ends at once, with the step, the error's name, and as many attempts as there were."""
    world = World()
    outcome = world.run(raising(at, error), {}, chunk_items=2)
    failure = Failure.read(outcome.failure)
    assert failure is not None
    step = "setup" if "setup" in at else at
    assert (failure.step, failure.error) == (step, type(error).__name__)
    assert failure.attempts == (2 if step in ("process", "combine") else 1)
    assert failure.traceback_text
    assert len(world.dispatcher.setups) == 1
    assert isinstance(outcome.error("job"), JobFailed)


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_here_ctrl_c_stops_the_caller(executor: Any) -> None:
    """KeyboardInterrupt is for the process that runs the steps itself, and SystemExit is the step's."""
    if executor == "inline":
        with pytest.raises(KeyboardInterrupt):
            raising("process", KeyboardInterrupt()).run({})
    with pytest.raises(JobFailed, match="SystemExit: 3"):
        raising("process", SystemExit(3)).run({}, executor=executor)


def test_a_tolerant_job_bears_any_exception() -> None:
    """Also one that is no `Exception` takes its item along, and no other."""

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
    """Frames of ours above it are left out; where there is none of the user's they stay."""
    outcome = World().run(raising("process", ValueError("why")), {}, max_attempts=1)
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
        (ConnectionError("the user's own"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_one_list_of_what_passes(error: Exception, transient: bool) -> None:
    """A store that denies is like one that does not answer; what is broken stays so."""
    assert is_transient(error) is transient


def denying(times: int, verb: str) -> Callable[[str, str], None]:
    """A store that denies a kind of request so often."""
    left = iter(range(times))

    def deny(asked: str, key: str) -> None:
        if asked == verb and next(left, None) is not None:
            raise StorageDenied("ExpiredToken", key=key)

    return deny


@pytest.mark.parametrize("verb", ["get", "put", "list", "head"])
def test_a_store_that_denies_for_a_while_gives_one_outcome(verb: str) -> None:
    """Expired credentials at any point: the message comes again, and the job succeeds once."""
    for times in range(1, 4):
        world = World()
        ledger = world.launch(raising("nothing", ValueError()), {}, chunk_items=2)
        world.store.before = denying(times, verb)
        denied = 0
        while world.dispatcher.waiting:
            try:
                world.dispatcher.deliver(world.runtime)
            except StorageDenied:
                denied += 1
        # A record that only helps others is let go.
        assert 1 <= denied <= times
        outcome = ledger.outcome()
        assert outcome is not None
        assert ledger.value(outcome) == [3]
        assert len(world.dispatcher.deliveries) == 1
