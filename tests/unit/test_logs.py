"""Log records name their job, step, chunk, item and attempt, in a step and in the library's own lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

import fanout
from fanout import ForkJoinTask
from fanout.logs import FIELDS
from fanout.stages import run_join

from .world import World

_LOG = logging.getLogger("tests.of.a.user")


class Talking(ForkJoinTask):
    """Logs a line in each step, and fails once."""

    name = "tests.Talking"
    input_schema = {"numbers": {"type": "list"}}
    chunk_items = 2

    def setup(numbers):
        _LOG.info("cutting")
        return [{"number": number} for number in numbers]

    def process(number):
        _LOG.info("item %d", number)
        if number == 3 and fanout.current().attempt == 1:
            raise ValueError(number)
        return number

    def join(numbers):
        _LOG.info("joining")
        return sum(numbers)


class Keeper(logging.Handler):
    """A handler that keeps the records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.addFilter(fanout.StepFilter())

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def rows(self, logger: str) -> list[tuple[object, ...]]:
        """Return message and fields of each record of a logger, in order."""
        return [
            (record.getMessage(), *(getattr(record, name) for name in FIELDS))
            for record in self.records
            if record.name == logger
        ]


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    """Return a handler of the root logger, as an app's configuration makes it."""
    handler, root = Keeper(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def test_each_line_of_a_step_names_its_place(keeper: Keeper, world: World) -> None:
    """The user's own lines have the job, task, step, chunk, item and attempt of the run; lines outside have None."""
    ledger = world.launch(Talking, {"numbers": [1, 2, 3]})
    world.dispatcher.drain(world.runtime)
    _LOG.info("outside")
    job, task = ledger.job_id, "tests.Talking"
    assert keeper.rows(_LOG.name) == [
        ("cutting", job, task, "setup", None, None, 1),
        ("item 1", job, task, "process", 0, 0, 1),
        ("item 2", job, task, "process", 0, 1, 1),
        ("item 3", job, task, "process", 1, 2, 1),
        ("item 3", job, task, "process", 1, 2, 2),
        ("joining", job, task, "join", None, None, 1),
        ("outside", None, None, None, None, None, None),
    ]


def test_a_line_of_the_library_names_its_job(keeper: Keeper, world: World) -> None:
    """A line of fanout's own, outside a step, has the job that it is about."""
    ledger = world.prepare(Talking, {"numbers": [1, 2, 3]})
    run_join(world.runtime, ledger.job_id)
    [row] = keeper.rows("fanout.stages.join")
    assert row[1:4] == (ledger.job_id, None, "join")
    assert "chunks are missing" in str(row[0])


def test_a_line_about_another_job_keeps_that_job(keeper: Keeper) -> None:
    """A field that a record has is not replaced, and the step's chunk is not given to another job's line."""

    class Sweeping(ForkJoinTask):
        """Logs about another job."""

        input_schema = {}

        def setup():
            return [{"number": 1}]

        def process(number):
            _LOG.info("swept", extra={"fanout_job": "other"})

        def join(results):
            return None

    Sweeping.run({})
    assert keeper.rows(_LOG.name) == [("swept", "other", None, None, None, None, None)]
