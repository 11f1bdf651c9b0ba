"""The chunks of a batch are computed together, and give the results, failures and runs of chunks that run alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.records.ledger import Ledger
from fanout.stages import run_process
from storage import decode
from tests.stores import kind_of

from .behaviour import ItemBehaviour, outcome_of, task_with
from .tasks import Numbers
from .world import World

KINDS: dict[str, Any] = {
    "number": lambda number, run: number,
    "text": lambda number, run: f"text {number}",
    "list": lambda number, run: [None, number],
    "large": lambda number, run: "x" * 70_000,
    "raises once": lambda number, run: 1 / (run - 1),
    "raises": lambda number, run: int("no number"),
    "no value": lambda number, run: object(),
}


def run(kinds: list[str], *, batch_chunks: int, **options: Any) -> tuple[Any, ...]:
    """Return how a job ends whose items behave so: status, value, failure and failed items, and the runs of each."""
    behaviour = ItemBehaviour()
    behaviour.act = lambda number, run: KINDS[kinds[number]](number, run)
    world = World(batch_chunks=batch_chunks)
    numbers = list(range(len(kinds)))
    outcome = world.run(task_with(behaviour), {"numbers": numbers}, max_attempts=2, **options)
    value = decode(outcome.value) if outcome.value is not None else None
    failed = [(item.item, item.error, item.reason, item.attempts) for item in outcome.failed_items]
    return outcome.status, value, outcome.failure, failed, sorted(behaviour.runs)


@settings(max_examples=25)
@given(kinds=st.lists(st.sampled_from([*KINDS]), min_size=1, max_size=12), chunk_items=st.integers(1, 3))
def test_a_batch_gives_what_its_chunks_give_alone(kinds: list[str], chunk_items: int) -> None:
    """Values, failed items and their attempts do not depend on how many chunks share a message."""
    alone, together = (
        run(kinds, batch_chunks=batch_chunks, chunk_items=chunk_items, tolerate=len(kinds)) for batch_chunks in (1, 32)
    )
    assert together == alone


@pytest.mark.parametrize("bad", [0, 3, 6])
def test_the_only_attempt_of_a_retried_batch_tolerates_single_items(bad: int) -> None:
    """A retry that allows one attempt has each chunk of a batch run alone, and keeps the results beside a failure."""
    behaviour = ItemBehaviour()
    behaviour.act = lambda number, run: 1 / (number - bad)
    world = World(batch_chunks=32)
    ledger = world.prepare(task_with(behaviour), {"numbers": list(range(7))}, chunk_items=2)
    cancel(world, ledger)
    assert world.job(ledger).retry(max_attempts=1, tolerate=1)
    world.dispatcher.drain(world.process())
    outcome = outcome_of(Ledger.of(world.store, ledger.job_id, 1))
    assert [item.item for item in outcome.failed_items] == [bad]
    assert sorted(behaviour.runs) == list(range(7))


def cancel(world: World, ledger: Ledger) -> None:
    """End a job whose chunks wait, without running one."""
    world.dispatcher.lose()
    world.job(ledger).cancel()
    world.dispatcher.drain(world.process())
    world.dispatcher.lose()


def test_the_only_batch_of_a_job_costs_no_listing() -> None:
    """A worker whose chunks are all that the job lacks knows that it is complete, and starts the join."""
    world = World(batch_chunks=32)
    world.prepare(Numbers, {"numbers": list(range(20))})
    [ref] = world.refs
    world.dispatcher.lose()
    world.store.log.clear()
    run_process(world.runtime, ref)
    requests = [(verb, kind_of(key)) for verb, key in world.store.log]
    assert requests == [("get", "input"), ("put", "results"), ("get", "continuation")]
    assert len(world.dispatcher.waiting) == 1
