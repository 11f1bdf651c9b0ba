"""The stub engine runs jobs when a test delivers their messages."""

from __future__ import annotations

import random

import pytest

from fanout import JobConflict
from fanout.engines.stub import Chunk, Join, StubEngine
from fanout.sweep import Move

from .tasks import Numbers

NUMBERS = {"numbers": [1, 2, 3]}


def test_doubled_messages_in_any_order_run_a_job_once() -> None:
    """The value is right, and one join delivers it, whatever the order of the messages and their copies."""
    for seed in range(20):
        engine = StubEngine(copies=2, batch_chunks=1)
        job = engine.submit(Numbers.declaration, NUMBERS)
        engine.drain(order=random.Random(seed))
        assert job.get(0) == [1, 2, 3]
        assert len(engine.dispatcher.deliveries) == 1


@pytest.mark.parametrize(("lost", "move"), [(Chunk, Move.CHUNKS_SENT), (Join, Move.JOIN_SENT)])
def test_a_sweep_replaces_lost_messages(lost: type[Chunk] | type[Join], move: Move) -> None:
    """A job whose messages of one kind were lost waits until a sweep, however young it is."""
    engine = StubEngine()
    job = engine.submit(Numbers.declaration, NUMBERS)
    while engine.dispatcher.waiting and not isinstance(engine.dispatcher.waiting[0], lost):
        engine.deliver()
    engine.dispatcher.lose(lost)
    engine.drain()
    assert not job.ready
    assert engine.sweep() == {job.id: move}
    engine.drain()
    assert job.get(0) == [1, 2, 3]
    assert engine.sweep() == {job.id: Move.NONE}


def test_a_submission_under_the_same_id_is_the_same_job() -> None:
    """Its message is sent again only until a worker has begun, and another input is a conflict."""
    engine = StubEngine()
    jobs = [engine.submit(Numbers.declaration, NUMBERS, job_id="order") for _ in range(2)]
    assert len(engine.dispatcher.setups) == 2
    engine.drain()
    jobs.append(engine.submit(Numbers.declaration, NUMBERS, job_id="order"))
    assert len(engine.dispatcher.setups) == 2
    assert [job.get(0) for job in jobs] == [[1, 2, 3]] * 3
    with pytest.raises(JobConflict):
        engine.submit(Numbers.declaration, {"numbers": [4]}, job_id="order")


def test_setup_of_a_stream_runs_in_the_caller() -> None:
    """A job with a generator sends its chunks at once, and no message of setup."""
    engine = StubEngine(batch_chunks=1)
    job = engine.submit(Numbers.declaration, {"numbers": iter([1, 2, 3])})
    assert [type(message) for message in engine.dispatcher.waiting] == [Chunk] * 3
    engine.drain()
    assert job.get(0) == [1, 2, 3]
