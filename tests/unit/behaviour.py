"""Tasks whose process does what a test says, and the outcomes of their jobs."""

from __future__ import annotations

from typing import Any

from fanout import ForkJoinTask
from fanout.records.failure import Failure
from fanout.records.ledger import Ledger
from fanout.records.models import Outcome, OutcomeStatus


class ItemBehaviour:
    """The behaviour of process for one item, set by a test. Records its runs."""

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.act: Any = lambda number, run: number

    def __call__(self, number: int) -> Any:
        self.runs.append(number)
        return self.act(number, self.runs.count(number))


def task_with(behaviour: ItemBehaviour, join: Any = list) -> type[ForkJoinTask]:
    class BehaviourTask(ForkJoinTask):
        input_schema = {"numbers": {"type": "list"}}
        chunk_items = 1

        def setup(numbers):
            return [{"number": number} for number in numbers]

        def process(number):
            return behaviour(number)

        def join(results):
            return join(results)

    return BehaviourTask


def outcome_of(ledger: Ledger) -> Outcome:
    outcome = ledger.outcome()
    assert outcome is not None
    return outcome


def failure_of(ledger: Ledger) -> Failure:
    outcome = outcome_of(ledger)
    assert outcome.status == OutcomeStatus.FAILED
    failure = Failure.read(outcome.failure)
    assert failure is not None
    return failure
