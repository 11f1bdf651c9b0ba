"""Where the time of a job goes: what is recorded, and how a run's wall time is shared out."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.race.recorder import RecordedStore, Recorder
from benchmarks.race.spans import STAGES, Segment, read, stages
from storage import MemoryStore, ObjectNotFound


def walls(segments: list[Segment], begun: float, ended: float) -> dict[str, float]:
    """Seconds of the wall time by stage, in tenths."""
    return {name: round(stage.wall_s, 1) for name, stage in stages(segments, [(begun, ended)]).items()}


def test_time_is_shared_by_what_is_worked_on() -> None:
    """Two stages at once have half of the time each; where there is none, a message is on its way."""
    segments = [("put", 0.0, 4.0), ("get", 2.0, 6.0), ("put outcome", 8.0, 9.0)]
    assert walls(segments, 0.0, 10.0) == {"put": 3.0, "get": 3.0, "queue": 2.0, "put outcome": 1.0, "notify": 1.0}


def test_after_the_outcome_all_is_notification() -> None:
    """What workers still do once the outcome stands does not count, nor does a caller that waits."""
    segments = [("notify", 0.0, 9.0), ("run", 1.0, 3.0), ("put outcome", 3.0, 4.0), ("put", 5.0, 8.0)]
    assert walls(segments, 0.0, 9.0) == {"queue": 1.0, "put": 0.0, "run": 2.0, "put outcome": 1.0, "notify": 5.0}


def test_runs_are_averaged() -> None:
    """Over several runs a stage is what it took in one, and segments between them belong to none."""
    segments = [("get", 0.0, 1.0), ("get", 2.0, 3.0), ("run", 11.0, 14.0)]
    found = stages(segments, [(0.0, 2.0), (10.0, 14.0)])
    assert {name: (one.wall_s, one.busy_s, one.calls) for name, one in found.items()} == {
        "queue": (1.0, 0.0, 0),
        "get": (0.5, 0.5, 0),
        "run": (1.5, 1.5, 0),
    }


@given(
    st.lists(
        st.tuples(st.sampled_from(STAGES), st.integers(-5, 25), st.integers(0, 10)).map(
            lambda one: (one[0], float(one[1]), float(one[1] + one[2]))
        ),
        max_size=20,
    )
)
def test_stages_add_up_to_the_wall_time(segments: list[Segment]) -> None:
    """Whatever is recorded, the stages' shares are the whole of the run, and none is negative."""
    found = stages(segments, [(0.0, 20.0)])
    assert sum(one.wall_s for one in found.values()) == pytest.approx(20.0)
    assert all(one.wall_s >= 0 for one in found.values())


def test_a_stage_within_another_has_its_own_time(tmp_path: Path) -> None:
    """The outer stage is interrupted by the inner one; within a `whole` stage nothing is told apart."""
    recorder = Recorder(tmp_path)
    with recorder.within("process"):
        with recorder.within("get"):
            pass
        with recorder.within("barrier", whole=True), recorder.within("get"):
            pass
    segments = read(tmp_path)
    assert [stage for stage, _, _ in segments] == ["process", "get", "process", "barrier", "process"]
    assert all(segments[n][2] == segments[n + 1][1] for n in range(4))


def test_threads_and_errors_are_recorded(tmp_path: Path) -> None:
    """Each thread has stages of its own, and one that ends with an error is closed."""
    recorder = Recorder(tmp_path)

    def fails() -> None:
        with recorder.within("get"):
            raise KeyError

    thread = threading.Thread(target=recorder.around(time.monotonic, "put"))
    with recorder.within("process"):
        thread.start()
        thread.join()
        with pytest.raises(KeyError):
            fails()
    assert sorted(stage for stage, _, _ in read(tmp_path)) == ["get", "process", "process", "put"]


def test_a_recorded_store_is_a_store(tmp_path: Path) -> None:
    """It does what the other does, and tells results and outcomes from other writes."""
    store = RecordedStore(MemoryStore("recorded"), Recorder(tmp_path))
    keys = ["jobs/1/intent", "jobs/1/out/a/000/0", "jobs/1/outcome"]
    for key in keys:
        store.put(key, b"body", if_absent=True)
    assert store.get(keys[0], offset=1, length=2) == b"od"
    assert store.head(keys[0]).size == 4
    assert [found.key for found in store.list("jobs/")] == keys
    store.delete(keys)
    with pytest.raises(ObjectNotFound):
        store.get(keys[0])
    recorded = [stage for stage, _, _ in read(tmp_path)]
    assert recorded == ["put", "put result", "put outcome", "get", "get", "get", "get"]
