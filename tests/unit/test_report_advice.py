"""Each advice of a report rests on a figure, and is given only where that figure is reached."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fanout.progress import JobState
from fanout.records.failure import FailedItem
from fanout.records.models import Outcome
from fanout.report.attempts import AttemptList, RecordedAttempt

from .reports import failed_outcome, make_report


def _attempts(state: str, error: str = "") -> AttemptList:
    one = RecordedAttempt(step="process", chunk=3, generation=0, number=1, state=state, error=error)
    return AttemptList(count=2, retried_chunks=1, listed=[one, replace(one, number=2)])


GOOD = [0.5] * 40
"""Seconds of the chunks of a job that gives no reason for a change."""

FAILED = make_report(GOOD, outcome=failed_outcome(error="ValueError", reason="no barcode", chunk=7))

TOLERANT = make_report(
    GOOD,
    outcome=Outcome(
        status="succeeded",
        task="shop.Count",
        stats=[],
        failed=3,
        failures=[FailedItem(7, 7, "ValueError", "no barcode")],
    ),
)

CASES = {
    "failure": (replace(FAILED, progress=replace(FAILED.progress, state=JobState.FAILED)), "no barcode"),
    "failed-items": (
        replace(TOLERANT, progress=replace(TOLERANT.progress, items_failed=3)),
        "3 of 40 items failed, the first with ValueError: no barcode",
    ),
    "lost-workers": (make_report(GOOD, peak_bytes=1_500_000_000, attempts=_attempts("lost")), "1.5 GB"),
    "raised": (make_report(GOOD, attempts=_attempts("raised", "TimeoutError")), "2 of them with TimeoutError"),
    "stragglers": (make_report([0.01] * 597 + [60.0] * 3), "97 % of the time in 3 of 600 chunks"),
    "tail": (make_report([*GOOD, 2.0], workers=40), "half of 40 workers were done"),
    "few-chunks": (make_report([2.0, 2.0], workers=2, items=100), "2 chunks of 100 items for 2 workers"),
    "data": (make_report(GOOD, fetch_s=0.5), "20 s fetching"),
    "setup": (make_report(GOOD, setup_s=20.0), "setup took 20 s"),
    "join": (make_report(GOOD, join_s=15.0), "join took 15 s"),
    "queue": (make_report(GOOD, queue_s=30.0), "queue took 30 s"),
    "memory": (make_report(GOOD, peak_bytes=3_000_000_000), "a process that ran process took 3.0 GB"),
    "resends": (make_report(GOOD, resends=4), "again 4 times"),
}
"""Name of a rule -> a job to which it applies, and words of its figure."""


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_names_its_figure(rule: str) -> None:
    """The advice of a rule has the figure that made it, and a remedy."""
    report, figure = CASES[rule]
    [advice] = [one for one in report.advice if one.rule == rule]
    assert figure in advice.figure
    assert advice.remedy.endswith(".")
    assert str(advice) == f"{advice.figure}. {advice.remedy}"


def test_setup_that_waits_for_its_queue_is_named() -> None:
    """A job whose setup began late is told to add workers of setup's queue."""
    report = make_report(GOOD)
    setup = report.recorded.setup
    assert setup is not None
    late = replace(report.recorded, began_at=report.launched_at - 60)
    assert [one.rule for one in replace(report, recorded=late).advice] == ["queue of setup"]


@pytest.mark.parametrize("took_s", [GOOD, [], [0.001]], ids=["good", "none", "one"])
def test_a_job_without_a_fault_gets_no_advice(took_s: list[float]) -> None:
    """Even chunks that keep all workers busy give no reason for a change, nor does a job without chunks."""
    assert make_report(took_s).advice == []


@pytest.mark.parametrize(("median_s", "word"), [(0.01, "chunk_items"), (0.5, "sources")])
def test_the_remedy_for_data_depends_on_the_chunk(median_s: float, word: str) -> None:
    """Short chunks should become longer; long ones should get less data."""
    report = make_report([median_s] * 200, fetch_s=median_s)
    assert [word in one.remedy for one in report.advice if one.rule == "data"] == [True]
