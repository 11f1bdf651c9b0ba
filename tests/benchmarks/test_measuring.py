"""The instruments agree with what is known beforehand."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.processes import Sampler, kill_tree
from benchmarks.recorder import Recorder
from benchmarks.stages import STAGES, Span, read_spans, share_time
from storage import MemoryStore

MB = 1_000_000
ALLOCATE = "b = b'x' * 200_000_000; print('has', flush=True); input()"


@contextmanager
def run_python(code: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that runs `code`; killed at the end with all below it."""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            kill_tree(process.pid)


@pytest.mark.parametrize("by_grandchild", [False, True])
def test_the_sampler_finds_an_allocation(by_grandchild: bool) -> None:
    """200 MB that a child, or a process below it, takes are seen as growth of 200 MB, within 10 %."""
    work = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ALLOCATE!r}])"
    with run_python(f"print('up', flush=True); input(); {work if by_grandchild else ALLOCATE}") as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "up\n"
        sampler = Sampler({"child": process.pid})
        sampler.start()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "has\n"
        found = sampler.stop()["child"]
    # The interpreter of the grandchild takes memory as well.
    assert 0.9 * 200 * MB < found.growth_bytes < 1.1 * 200 * MB + 20 * MB * by_grandchild
    assert [at_s for at_s, _ in found.series] == sorted(at_s for at_s, _ in found.series)


def test_the_sampler_reports_what_grows_over_its_limit() -> None:
    """A child that grows without end is reported once, at its limit, and can be killed from there."""
    reported: list[tuple[str, int]] = []
    stopped = threading.Event()
    with run_python("import time; b = []\nwhile True: b.append(b'x' * 5_000_000); time.sleep(0.01)") as process:

        def stop(name: str, size: int) -> None:
            reported.append((name, size))
            kill_tree(process.pid)
            stopped.set()

        sampler = Sampler({"child": process.pid}, {"child": 150 * MB}, stop)
        sampler.start()
        assert stopped.wait(30)
        assert process.wait(10) != 0
        sampler.stop()
    assert [name for name, _ in reported] == ["child"]
    assert 150 * MB <= reported[0][1] < 400 * MB


def shares(spans: list[Span], begun: float, ended: float) -> dict[str, float]:
    """Seconds of the wall time by stage, in tenths."""
    return {name: round(stage.wall_s, 1) for name, stage in share_time(spans, [(begun, ended)]).items()}


def test_time_is_shared_by_the_stages_that_are_under_way() -> None:
    """Two stages at once have half of the time each; where there is none, a message is on its way."""
    spans = [("put", 0.0, 4.0), ("get", 2.0, 6.0), ("put outcome", 8.0, 9.0)]
    assert shares(spans, 0.0, 10.0) == {"put": 3.0, "get": 3.0, "queue": 2.0, "put outcome": 1.0, "notify": 1.0}
    spans = [("notify", 0.0, 9.0), ("run", 1.0, 3.0), ("put outcome", 3.0, 4.0), ("put", 5.0, 8.0)]
    assert shares(spans, 0.0, 9.0) == {"queue": 1.0, "put": 0.0, "run": 2.0, "put outcome": 1.0, "notify": 5.0}


def test_runs_are_averaged() -> None:
    """Over several runs a stage is what it took in one, and spans between them belong to none."""
    found = share_time([("get", 0.0, 1.0), ("get", 2.0, 3.0), ("run", 11.0, 14.0)], [(0.0, 2.0), (10.0, 14.0)])
    assert {name: (one.wall_s, one.busy_s) for name, one in found.items()} == {
        "queue": (1.0, 0.0),
        "get": (0.5, 0.5),
        "run": (1.5, 1.5),
    }


@given(st.lists(st.tuples(st.sampled_from(STAGES), st.integers(-5, 25), st.integers(0, 10)), max_size=20))
def test_stages_add_up_to_the_wall_time(given: list[tuple[str, int, int]]) -> None:
    """Whatever is recorded, the stages' shares are the whole of the run, and none is negative."""
    found = share_time([(stage, float(start), float(start + length)) for stage, start, length in given], [(0.0, 20.0)])
    assert sum(one.wall_s for one in found.values()) == pytest.approx(20.0)
    assert all(one.wall_s >= 0 for one in found.values())


def test_a_stage_within_another_has_its_own_time(tmp_path: Path) -> None:
    """An inner stage interrupts the outer one, even if it fails; within a `whole` stage nothing is told apart."""
    recorder = Recorder(tmp_path)
    thread = threading.Thread(target=recorder.wrap(time.monotonic, "put"))
    with recorder.record("process"):
        thread.start()
        thread.join()
        with pytest.raises(KeyError), recorder.record("get"):
            raise KeyError
        with recorder.record("barrier", whole=True), recorder.record("get"):
            pass
    spans = read_spans(tmp_path)
    assert [stage for stage, _, _ in spans] == ["put", "process", "get", "process", "barrier", "process"]
    assert all(one[2] == two[1] for one, two in pairwise(spans[1:]))


def test_a_recorded_store_is_a_store(tmp_path: Path) -> None:
    """It does what the other does, and tells results and outcomes from other writes."""
    store = Recorder(tmp_path).wrap_store(MemoryStore("recorded"))
    keys = ["jobs/1/intent", "jobs/1/results/a/000/0", "jobs/1/outcome"]
    for key in keys:
        store.put(key, b"body", if_absent=True)
    assert store.get(keys[0], offset=1, length=2) == b"od"
    assert store.head(keys[0]).size == 4
    assert [found.key for found in store.list("jobs/")] == sorted(keys)
    assert [stage for stage, _, _ in read_spans(tmp_path)] == ["put", "put result", "put outcome", "get", "get", "get"]
