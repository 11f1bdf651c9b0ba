"""What is Lithops' own in `engines.on_lithops`, with a Lithops that runs its calls here and now."""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import pytest

from benchmarks.race.engines import PROCESSES, Engine, on_lithops, opened
from benchmarks.race.entries import ENTRIES
from benchmarks.race.works import WORKS

JOBS = "lithops.jobs"


@dataclass
class Storage:
    """A bucket, and a client that is connected until it is closed."""

    keys: set[str] = field(default_factory=set)
    connected: bool = True

    def get_client(self) -> Storage:
        return self

    def close(self) -> None:
        self.connected = False

    def list_keys(self, bucket: str, prefix: str) -> list[str]:
        return [key for key in self.keys if key.startswith(prefix)]

    def delete_objects(self, bucket: str, keys: list[str]) -> None:
        self.keys -= set(keys)


@dataclass
class Future:
    """A call's result, once it was waited for."""

    value: Any
    there: bool = False

    def result(self) -> Any:
        assert self.there
        return self.value


class FunctionExecutor:
    """Runs each call with a client that is connected, as one that was forked is."""

    executor_id = "5eca91-0"
    latest: FunctionExecutor

    def __init__(self, config: dict[str, dict[str, Any]], log_level: str) -> None:
        self.config = config
        self.internal_storage = self
        self.storage = Storage({f"{JOBS}/another-0-M000/aggdata.pickle"})
        self.ended = False
        FunctionExecutor.latest = self

    def __enter__(self) -> FunctionExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.ended = True

    def map(self, function: Callable[..., Any], arguments: list[tuple[Any, ...]]) -> list[Future]:
        self.storage.keys.add(f"{JOBS}/{self.executor_id}-M000/aggdata.pickle")
        futures = []
        for given in arguments:
            born_with = Storage()
            futures.append(Future(function(*given, storage=born_with)))
            assert not born_with.connected
        return futures

    def wait(
        self,
        futures: list[Future],
        *,
        download_results: bool,
        timeout: int,
        wait_dur_sec: float,
        show_progressbar: bool,
    ) -> None:
        for future in futures:
            future.there = download_results


@pytest.fixture
def lithops(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """That Lithops in place of one that may be installed, and all that the engine sets put back afterwards."""
    module, constants = ModuleType("lithops"), ModuleType("lithops.constants")
    module.FunctionExecutor = FunctionExecutor  # type: ignore[attr-defined]
    constants.JOBS_PREFIX = JOBS  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lithops", module)
    monkeypatch.setitem(sys.modules, "lithops.constants", constants)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("FANOUT_STORE", "s3://bucket/cases/one")
    # Set and removed, so that they are removed once more.
    for variable in ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)


@pytest.fixture
def engine(lithops: None) -> Iterator[Engine]:
    """The engine of `lithops`."""
    with opened(ENTRIES["lithops"]) as engine:
        yield engine


@pytest.mark.parametrize("work", ["words", "empty"])
def test_calls_close_the_connection_they_were_born_with(engine: Engine, work: str) -> None:
    """Each call gives the answer, and lets go of the connection that its process has from another first."""
    load = WORKS[work].tiny
    assert engine(load)(30) == WORKS[work].expected(load)


def test_it_works_in_the_bucket_with_as_many_processes_as_the_others(engine: Engine) -> None:
    """The bucket is the benchmark's, the processes are as many as everybody has, and no job is cleaned up meanwhile."""
    config = FunctionExecutor.latest.config
    assert config["aws_s3"] == {"storage_bucket": "bucket"}
    assert config["localhost"]["worker_processes"] == PROCESSES
    assert config["localhost"]["runtime"] == sys.executable
    assert config["lithops"]["data_cleaner"] is False
    assert os.environ["AWS_REQUEST_CHECKSUM_CALCULATION"] == "when_required"


def test_it_leaves_nothing_behind_when_a_call_fails(
    lithops: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its jobs' objects and its files are removed and its processes ended; the objects of others stay."""

    def fail(part: list[str]) -> None:
        raise ZeroDivisionError

    def run() -> None:
        with opened(ENTRIES["lithops"]) as engine:
            assert list(tmp_path.iterdir()) == [Path(os.environ["TMPDIR"])]
            engine(WORKS["words"].tiny)(30)

    monkeypatch.setitem(WORKS, "words", replace(WORKS["words"], step=fail))
    with pytest.raises(ZeroDivisionError):
        run()
    executor = FunctionExecutor.latest
    assert executor.ended
    assert executor.storage.keys == {f"{JOBS}/another-0-M000/aggdata.pickle"}
    assert not list(tmp_path.iterdir())


def test_a_step_travels_without_fanout() -> None:
    """What is sent to another process is the function itself, which names nothing of ours."""
    alone = on_lithops._alone(WORKS["words"].step)
    assert alone.__module__ == "__main__"
    assert set(alone.__globals__) <= {"Counter", "__builtins__"}
    assert alone(["a b a"]) == Counter(a=2, b=1)
