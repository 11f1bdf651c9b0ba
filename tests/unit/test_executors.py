"""A job runs its chunks on any executor of `concurrent.futures`, whose workers share only a store with the caller."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fanout import ConfigError, FanoutError, JobFailed
from storage import open_store
from tests.tasks import FailingTask

from .tasks import KINDS, Killing, Kinds, Numbers, Words


@contextmanager
def _threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@contextmanager
def _processes() -> Iterator[Executor]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


@contextmanager
def _loky() -> Iterator[Executor]:
    import loky

    with loky.ProcessPoolExecutor(2) as executor:
        yield executor


@contextmanager
def _dask() -> Iterator[Executor]:
    from distributed import Client

    with Client(n_workers=2, threads_per_worker=1, dashboard_address=":0") as client:
        yield client.get_executor()


@contextmanager
def _parsl() -> Iterator[Executor]:
    from parsl.concurrent import ParslPoolExecutor
    from parsl.config import Config
    from parsl.executors import ThreadPoolExecutor as Threads

    with ParslPoolExecutor(Config(executors=[Threads(max_threads=2)], initialize_logging=False)) as executor:
        yield executor


SLOW = [pytest.param(start, marks=pytest.mark.slow, id=start.__name__[1:]) for start in (_loky, _dask, _parsl)]


@pytest.fixture(
    scope="module", params=[*(pytest.param(start, id=start.__name__[1:]) for start in (_threads, _processes)), *SLOW]
)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """An executor that runs several jobs."""
    with request.param() as started:
        yield started


class Flaky(ThreadPoolExecutor):
    """An executor that loses the first calls.

    Args:
        losses: Number of calls that end with an error.
        error: That error.
    """

    def __init__(self, losses: int, error: BaseException) -> None:
        super().__init__(1)
        self._losses = losses
        self._error = error

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:  # type: ignore[override]
        if self._losses:
            self._losses -= 1
            lost: Future[Any] = Future()
            lost.set_exception(self._error)
            return lost
        return super().submit(*args, **kwargs)


def test_any_executor_keeps_values_and_order(executor: Executor) -> None:
    """Parameters, results and the value keep their types, and the results their order."""
    value = Kinds.run({"kinds": KINDS}, executor=executor)
    assert value == tuple(KINDS)
    assert list(map(type, value)) == list(map(type, KINDS))
    assert Numbers.run({"numbers": (number for number in range(50))}, executor=executor) == list(range(50))


def test_any_executor_raises_the_failure(executor: Executor) -> None:
    """A chunk has its attempts on any executor, and the job fails with the item of the last one."""
    with pytest.raises(JobFailed, match="process was told to fail") as caught:
        FailingTask.run({"step": "process", "numbers": [1, 2, 3]}, executor=executor)
    assert (caught.value.step, caught.value.attempts, caught.value.item) == ("process", 3, 2)


@pytest.mark.slow
def test_a_worker_of_a_cluster_may_die(tmp_path: Path) -> None:
    """Dask makes the call of a dead worker again, and the job has its value."""
    values = {"trace": str(tmp_path), "numbers": [0, 1, 2, 3], "kills": 1}
    with _dask() as cluster:
        assert Killing.run(values, executor=cluster) == [0, 1, 2, 3]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("losses", [1, 2])
def test_a_lost_call_is_made_again(losses: int) -> None:
    """An error of the executor itself costs no chunk."""
    with Flaky(losses, RuntimeError("the node was taken away")) as flaky:
        assert Numbers.run({"numbers": [1]}, executor=flaky) == [1]


def test_a_call_that_is_always_lost_ends_the_job() -> None:
    """The error names task, chunk and cause, and what the workers need."""
    with (
        Flaky(9, RuntimeError("no node is left")) as flaky,
        pytest.raises(FanoutError, match=r"could not run chunk 0: RuntimeError: no node is left.* import tests"),
    ):
        Numbers.run({"numbers": [1]}, executor=flaky)


def test_a_module_that_workers_lack_ends_the_job_at_once() -> None:
    """Another run would not find the module either."""
    with Flaky(1, ModuleNotFoundError("No module named 'shop'")) as flaky, pytest.raises(FanoutError, match="shop"):
        Numbers.run({"numbers": [1]}, executor=flaky)


def test_a_broken_executor_ends_the_job(tmp_path: Path) -> None:
    """The caller's executor can't be replaced. The error names the chunks, and an executor that can."""
    values = {"trace": str(tmp_path), "numbers": [1], "kills": 1}
    with _processes() as pool, pytest.raises(FanoutError, match=r"chunks 0: .*executor='processes'"):
        Killing.run(values, executor=pool)


def test_a_store_for_the_workers_is_left_empty(tmp_path: Path) -> None:
    """A job's data lies in the given store while it runs, and nowhere afterwards."""
    url = tmp_path.as_uri()
    with ThreadPoolExecutor(1) as pool:
        assert Words.run({"documents": ["a b", "b"]}, executor=pool, store=url) == {"a": 1, "b": 2}
    assert [info.key for info in open_store(url).list("_jobs/")] == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"store": "memory://here"}, "this process's own"), ({"workers": 2}, "workers of its own")],
)
def test_what_an_executor_cannot_have_is_refused(wrong: dict[str, Any], message: str) -> None:
    """The error comes before anything runs."""
    with ThreadPoolExecutor(1) as pool, pytest.raises(ConfigError, match=message):
        Words.run({"documents": []}, executor=pool, **wrong)
