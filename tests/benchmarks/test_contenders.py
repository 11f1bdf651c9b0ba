"""Every way in which a benchmark gives fanout its input. Servers and speed are the benchmarks' own part."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.contenders import with_fanout
from benchmarks.contenders.app import app
from benchmarks.workloads import Workload


@pytest.fixture(autouse=True)
def _run_eagerly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FANOUT_STORE", "memory://benchmarks")
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


@pytest.mark.parametrize("name", ["fanout", "fanout-file", "streamed", "here", "stream-caller", "stream-worker"])
def test_a_way_of_giving_the_input_has_the_right_answer(name: str) -> None:
    """The call of a contender, with the options that it uses, counts the words."""
    workload = Workload("words", chunks=4, size_bytes=4000, document_bytes=100)
    with with_fanout.start(name) as prepare:
        assert workload.accepts(prepare(workload)(30.0))


@pytest.mark.parametrize("name", ["fanout", "items-16"])
def test_items_are_cut_as_a_contender_says(name: str) -> None:
    """With and without a chunk size of its own a contender sums the numbers."""
    workload = Workload("digits", items=100)
    with with_fanout.start(name) as prepare:
        assert workload.accepts(prepare(workload)(30.0))
