"""The page of a report is one file that needs nothing else, whatever the size of the job."""

from __future__ import annotations

import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fanout.progress import JobState
from fanout.report import Report
from fanout.report.attempts import AttemptList, RecordedAttempt
from fanout.report.timeline import MOST_ROWS
from storage import MissingPackage

from .reports import failed_outcome, make_report


class _References(HTMLParser):
    """Collects what a page would load, and its text outside of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[tuple[str, str | None]] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [(tag, value) for name, value in attrs if name in ("src", "href", "srcset", "data")]


def _read(page: str) -> _References:
    references = _References()
    references.feed(page)
    return references


def _fail(report: Report, reason: str) -> Report:
    raised = RecordedAttempt(
        step="process", chunk=7, generation=0, number=1, state="raised", error="ValueError", traceback_text=reason
    )
    recorded = replace(
        report.recorded,
        outcome=failed_outcome(error="ValueError", reason=reason),
        attempts=AttemptList(count=1, retried_chunks=1, listed=[raised]),
    )
    return replace(report, recorded=recorded, progress=replace(report.progress, state=JobState.FAILED))


def test_a_page_of_100_000_chunks_is_small(tmp_path: Path) -> None:
    """A page of 100,000 chunks, each of which would fill a row's cells in its own way, has less than 5 MB."""
    took_s = [0.01 + number % 97 / 1000 for number in range(100_000)]
    path = make_report(took_s, workers=MOST_ROWS, batch=32).save(tmp_path / "report.html")
    assert path.stat().st_size < 5_000_000


@pytest.mark.parametrize("chunks", [0, 20])
def test_a_page_loads_nothing(chunks: int) -> None:
    """No element of a page names anything to load, and all charts have their place."""
    references = _read(make_report([0.1] * chunks).page())
    assert references.loaded == []
    assert {"script", "style", "table"} <= set(references.tags)


def test_text_of_a_job_is_no_markup() -> None:
    """A message with tags is shown as text, in the page and in a notebook."""
    report = _fail(make_report([0.1] * 10), "</script><img src=x>")
    for page in (report.page(), report._repr_html_()):
        assert "&lt;/script&gt;&lt;img src=x&gt;" in page
        assert _read(page).loaded == []


def test_a_page_says_what_is_missing() -> None:
    """A page names results that were not read, and processes that did not count their requests."""
    report = make_report([0.1] * 10, unread=90)
    runs = [replace(run, usage=None) for run in report.recorded.runs]
    page = replace(report, recorded=replace(report.recorded, runs=runs)).page()
    assert "90 result objects were not read" in page
    assert "did not count requests" in page
    assert "PUT requests" not in page


def test_a_page_after_a_retry_has_both_timelines() -> None:
    """After a retry, the page draws the new generation and the runs before it apart."""
    report = make_report([0.5] * 20)
    retried = replace(report.recorded, began_at=report.launched_at + 6)
    page = replace(report, generation=1, recorded=retried).page()
    assert "Seconds since the begin of generation 1" in page
    assert "Seconds since the launch" in page


def test_a_page_needs_bokeh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Bokeh the error names the extra to install, and the figures are there all the same."""
    monkeypatch.setitem(sys.modules, "bokeh.embed", None)
    report = make_report([0.1])
    with pytest.raises(MissingPackage, match=r"fanout\[report\]"):
        report.page()
    assert "1 of 1" in report._repr_html_()
