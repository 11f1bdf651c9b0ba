"""The common part of the engines for Dask and Ray, on a cluster that is a list of calls."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout import (
    BrokerUnavailable,
    ConfigError,
    DeclarationError,
    EngineLost,
    ForkJoinTask,
    JobFailed,
    JobNotFound,
    JobTimeout,
)
from fanout.engines.cluster import worker
from fanout.engines.cluster.call import Call, EngineSettings
from fanout.engines.cluster.dispatcher import ClusterDispatcher
from fanout.engines.cluster.engine import ClusterEngine
from fanout.engines.stage_messages import Join
from fanout.engines.stub import StubEngine
from fanout.records.ledger import Ledger
from fanout.sweep import Move
from storage import StorageUnavailable

from .tasks import Numbers

NUMBERS = {"numbers": [1, 2, 3]}


class ListDispatcher(ClusterDispatcher):
    """A dispatcher whose calls wait in a list. All processes of a test share it."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self.waiting: list[Call] = []
        self.sweepers = 0
        self.down: BrokerUnavailable | None = None

    def send(self, calls: Sequence[Call]) -> None:
        if self.down is not None:
            raise self.down
        self.waiting.extend(calls)

    def keep_swept(self) -> None:
        self.sweepers += 1

    def take(self, step: str) -> Call:
        """Return the only waiting call of a step, and forget it."""
        [call] = [call for call in self.waiting if call.message.step == step]
        self.waiting.remove(call)
        return call

    def make(self, call: Call) -> None:
        """Make a call, as a worker does."""
        worker.make_call(call, lambda settings: self)

    def drain(self) -> None:
        """Make all calls, and those that they cause."""
        while self.waiting:
            self.make(self.waiting.pop(0))


@pytest.fixture
def dispatcher(tmp_path: Path) -> ListDispatcher:
    """A cluster whose store is a directory."""
    return ListDispatcher(EngineSettings.of(tmp_path.as_uri(), {"stall_s": 1e-9}))


@pytest.fixture
def engine(dispatcher: ListDispatcher) -> ClusterEngine:
    """An engine on that cluster."""
    return ClusterEngine(dispatcher)


@pytest.fixture(autouse=True)
def _forget_runtimes() -> Iterator[None]:
    yield
    worker.open_runtime.cache_clear()


def test_a_job_runs_and_is_delivered(engine: ClusterEngine, dispatcher: ListDispatcher) -> None:
    """All steps run on the cluster, which sweeps meanwhile, and no open job is left."""
    job = Numbers.submit(NUMBERS, engine=engine, tags={"order": "1"})
    assert [other.id for other in engine.jobs()] == [job.id]
    dispatcher.drain()
    assert job.get(0) == engine.attach(job.id).get(0) == [1, 2, 3]
    assert (dispatcher.sweepers, list(engine.jobs())) == (1, [])
    assert [other.id for other in engine.jobs(tags={"order": "1"})] == [job.id]


def test_setup_of_a_stream_runs_in_the_caller(engine: ClusterEngine, dispatcher: ListDispatcher) -> None:
    """Its chunks wait on the cluster when `submit` returns, and a setup that raises ends the job."""
    job = Numbers.submit({"numbers": iter([1, 2])}, engine=engine)
    assert {call.message.step for call in dispatcher.waiting} == {"process"}
    dispatcher.drain()
    assert job.get(0) == [1, 2]
    with pytest.raises(JobFailed, match="division"):
        Numbers.submit({"numbers": (1 // number for number in [0])}, engine=engine)


def test_a_cluster_that_takes_no_calls_launches_nothing(engine: ClusterEngine, dispatcher: ListDispatcher) -> None:
    """The job is withdrawn, and its id may be used again."""
    dispatcher.down = BrokerUnavailable("the cluster is down")
    with pytest.raises(BrokerUnavailable):
        Numbers.submit(NUMBERS, engine=engine, job_id="order-1")
    with pytest.raises(JobNotFound):
        _ = engine.attach("order-1").state
    dispatcher.down = None
    job = Numbers.submit(NUMBERS, engine=engine, job_id="order-1")
    dispatcher.drain()
    assert job.get(0) == [1, 2, 3]


def test_a_sweep_sends_lost_calls_again_by_the_recorded_module(
    engine: ClusterEngine, dispatcher: ListDispatcher
) -> None:
    """A cluster that was restarted has forgotten all calls. Any process sends them again, without the task's module."""
    job = Numbers.submit(NUMBERS, engine=engine)
    dispatcher.waiting.clear()
    assert engine.sweep() == {job.id: Move.SETUP_SENT}
    assert dispatcher.take("setup").module == Numbers.declaration.module


def test_a_new_cluster_goes_on_at_once_with_the_jobs_of_a_lost_one(tmp_path: Path) -> None:
    """`resume` does not wait for the stall time, and sends only what has no result."""
    dispatcher = ListDispatcher(EngineSettings.of(tmp_path.as_uri(), {"stall_s": 3600.0}))
    engine = ClusterEngine(dispatcher)
    job = Numbers.submit(NUMBERS, engine=engine)
    dispatcher.waiting.clear()
    assert engine.sweep() == {job.id: Move.NONE}
    assert engine.resume() == {job.id: Move.SETUP_SENT}
    dispatcher.make(dispatcher.take("setup"))
    dispatcher.waiting.clear()
    sweepers = dispatcher.sweepers
    assert engine.resume() == {job.id: Move.CHUNKS_SENT}
    assert (dispatcher.sweepers, {call.message.step for call in dispatcher.waiting}) == (sweepers + 1, {"process"})
    while dispatcher.waiting[0].message.step == "process":
        dispatcher.make(dispatcher.waiting.pop(0))
    dispatcher.waiting.clear()
    assert engine.resume() == {job.id: Move.JOIN_SENT}
    dispatcher.drain()
    assert job.get(0) == [1, 2, 3]
    assert engine.resume() == {}


def test_a_job_whose_caller_runs_setup_is_left_to_it(tmp_path: Path) -> None:
    """Its caller is no part of the lost cluster, and has the input."""
    engine = ClusterEngine(dispatcher := ListDispatcher(EngineSettings.of(tmp_path.as_uri(), {})))
    moves: list[Move] = []

    def numbers() -> Iterator[int]:
        yield 1
        moves.extend(engine.resume().values())
        yield 2

    job = Numbers.submit({"numbers": numbers()}, engine=engine)
    dispatcher.drain()
    assert (job.get(0), moves) == ([1, 2], [Move.NONE])


def test_a_waiting_caller_sees_that_its_cluster_is_gone(engine: ClusterEngine, dispatcher: ListDispatcher) -> None:
    """A cluster that is down may come back, so the caller waits. One that is gone can't, and the wait ends."""
    job = Numbers.submit(NUMBERS, engine=engine)
    dispatcher.waiting.clear()
    dispatcher.down = BrokerUnavailable("the cluster is down")
    with pytest.raises(JobTimeout):
        job.get(0.5)
    dispatcher.down = EngineLost("the cluster is gone")
    with pytest.raises(EngineLost, match="is gone"):
        job.get(30)


def test_a_redelivered_join_takes_over_from_a_dead_worker(
    engine: ClusterEngine, dispatcher: ListDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run of a redelivered call goes on although the claim of the lost run exists."""
    job = Numbers.submit(NUMBERS, engine=engine)
    while not any(isinstance(call.message, Join) for call in dispatcher.waiting):
        dispatcher.make(dispatcher.waiting.pop(0))
    join = dispatcher.take("join")
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "write_outcome", _die)
        with pytest.raises(KeyboardInterrupt):
            dispatcher.make(join)
    dispatcher.make(join)
    assert not job.ready, "a first delivery respects the claim"
    dispatcher.make(join.redeliver())
    assert job.get(0) == [1, 2, 3]


def _die(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_stage_runs_again_after_an_outage(
    engine: ClusterEngine, dispatcher: ListDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker pauses and resumes the stage, the join with its own claim. After the last pause a sweep is left."""
    job = Numbers.submit(NUMBERS, engine=engine)
    while not any(isinstance(call.message, Join) for call in dispatcher.waiting):
        dispatcher.make(dispatcher.waiting.pop(0))
    join, failures, real = dispatcher.take("join"), [1, 1], Ledger.write_outcome

    def write_or_fail(ledger: Ledger, outcome: Any) -> Any:
        if failures:
            failures.pop()
            raise StorageUnavailable("the store does not answer")
        return real(ledger, outcome)

    pauses: list[float] = []
    monkeypatch.setattr(worker.time, "sleep", pauses.append)
    monkeypatch.setattr(Ledger, "write_outcome", write_or_fail)
    dispatcher.make(join)
    assert job.get(0) == [1, 2, 3]
    assert pauses == list(worker.PAUSES_S[:2])


def test_a_worker_without_the_module_ends_the_job(engine: ClusterEngine, dispatcher: ListDispatcher) -> None:
    """The error names the module that the worker lacks."""
    job = Numbers.submit(NUMBERS, engine=engine)
    dispatcher.make(replace(dispatcher.take("setup"), module="no_such_module", task="no_such_task"))
    with pytest.raises(JobFailed, match="no_such_module"):
        job.get(0)


@pytest.mark.parametrize(
    ("store", "settings", "message"),
    [
        ("memory://here", {}, "this process's own"),
        ("file:///tmp/x", {"stal_s": 1}, "no such setting: stal_s"),
        ("file:///tmp/x", {"external_endpoints": {}}, "FANOUT_EXTERNAL_ENDPOINTS in the environment"),
        ("file:///tmp/x", {"stall_s": -1}, "stall_s"),
    ],
)
def test_settings_that_workers_cannot_share_are_refused(store: str, settings: dict[str, Any], message: str) -> None:
    """The error names the setting and the remedy."""
    with pytest.raises(ConfigError, match=message):
        EngineSettings.of(store, settings)


def test_a_task_of_the_script_and_arguments_of_celery_are_refused(engine: ClusterEngine) -> None:
    """No worker can import the script, and an engine has no send options."""
    task = type("Scripted", (Numbers,), {"__module__": "__main__"})
    assert issubclass(task, ForkJoinTask)
    with pytest.raises(DeclarationError, match="declared in the script"):
        task.submit(NUMBERS, engine=engine)
    with pytest.raises(ConfigError, match="send_options: only Celery"):
        Numbers.submit(NUMBERS, engine=engine, send_options={"queue": "fast"})


def test_the_stub_engine_is_an_engine() -> None:
    """`submit` takes it like any other."""
    engine = StubEngine()
    job = Numbers.submit(NUMBERS, engine=engine, setup_in_caller=True)
    engine.drain()
    assert job.get(0) == [1, 2, 3]


def test_a_process_with_the_store_alone_attaches(
    engine: ClusterEngine, dispatcher: ListDispatcher, tmp_path: Path
) -> None:
    """It waits, cancels and retries. A sweep of the engine sends what that needs: the waits take no resend."""
    job = Numbers.submit(NUMBERS, engine=engine)
    attached = fanout.attach(job.id, store=tmp_path.as_uri())
    with pytest.raises(fanout.JobTimeout):
        attached.get(0.1)
    assert attached.cancel()
    assert attached.retry()
    assert engine.sweep() == {job.id: Move.SETUP_SENT}
    dispatcher.drain()
    assert attached.get(0) == [1, 2, 3]
    with pytest.raises(ConfigError, match="not both"):
        fanout.attach(job.id, store="file:///tmp/x", app=object())  # type: ignore[arg-type]


def test_the_engine_of_dask_imports_no_celery() -> None:
    """Neither Celery nor kombu is imported with the engine."""
    pytest.importorskip("distributed", reason="distributed is not installed: pip install 'fanout[dask]'")
    program = "import fanout.engines.dask, sys; print({'celery', 'kombu'} & sys.modules.keys())"
    root = Path(fanout.__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=False)
    assert run.stdout == "set()\n", run.stderr
