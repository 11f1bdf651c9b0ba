"""A job gives the same value inline, in threads and in processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fanout import ConfigError, ForkJoinTask, InvalidInput, JobFailed
from fanout.engines.submission import Submission
from storage import MemoryStore, Unencodable
from tests.tasks import FailingTask

from .tasks import KINDS, Killing, Kinds, Numbers, Squares, Words

EXECUTORS: list[Any] = ["inline", "threads", "processes"]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_every_executor_keeps_values_and_types(executor: Any) -> None:
    """Parameters, results and the value keep their types from end to end."""
    value = Kinds.run({"kinds": KINDS}, executor=executor, workers=2)
    assert value == tuple(KINDS)
    assert list(map(type, value)) == list(map(type, KINDS))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_every_executor_streams_and_keeps_the_order(executor: Any) -> None:
    """Setup reads a generator once, and the results are in its order."""
    assert Numbers.run({"numbers": (n for n in range(50))}, executor=executor, workers=2) == list(range(50))


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("step", ["setup", "process", "join"])
def test_every_executor_raises_the_failure(executor: Any, step: str) -> None:
    """A step that raises causes JobFailed. If it raised in this process, its error is the cause."""
    with pytest.raises(JobFailed, match=f"{step} was told to fail") as caught:
        FailingTask.run({"step": step, "numbers": [1, 2, 3]}, executor=executor, workers=1)
    assert caught.value.step == step
    if executor != "processes" or step != "process":
        assert isinstance(caught.value.__cause__, ValueError)
    assert (caught.value.attempts, caught.value.item) == ((3, 2) if step == "process" else (1, None))


def test_a_worker_that_is_killed_once_costs_an_attempt(tmp_path: Path) -> None:
    """The chunk of a dead worker process runs again, and the job has its value."""
    values = {"trace": str(tmp_path), "numbers": [0, 1, 2, 3], "kills": 1}
    assert Killing.run(values, executor="processes", workers=2) == [0, 1, 2, 3]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_chunk_that_always_kills_its_worker_fails_the_job(tmp_path: Path, attempts: int) -> None:
    """The chunk runs exactly `max_attempts` times, and the failure says that its worker was lost."""
    values = {"trace": str(tmp_path), "numbers": [1], "kills": 100}
    with pytest.raises(JobFailed, match="WorkerLost") as caught:
        Killing.run(values, executor="processes", workers=1, max_attempts=attempts)
    assert len(list(tmp_path.iterdir())) == attempts
    assert (caught.value.chunk, caught.value.attempts) == (0, attempts)


def test_a_task_of_imported_functions_runs_in_processes() -> None:
    """A new process finds a task that one module makes of functions from another."""
    assert Squares.run({"numbers": [1, 2, 3]}, executor="processes", workers=1) == 14


def test_an_unknown_executor_is_refused() -> None:
    """The error lists the executors."""
    with pytest.raises(ConfigError, match=r"'inline', 'threads' or 'processes', or .*, not 'greenlets'"):
        Words.run({"documents": []}, executor="greenlets")  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"chunk_itmes": 1}, {"chunk_count": 0}, {"chunk_items": 1, "chunk_count": 1}])
def test_wrong_options_are_refused(options: dict[str, int]) -> None:
    """Options of a call are checked before any step runs."""
    with pytest.raises(ConfigError):
        Words.run({"documents": []}, **options)


def test_invalid_input_is_refused_before_any_write() -> None:
    """The caller writes no large parameter if another parameter is refused."""
    store = MemoryStore()
    with pytest.raises(InvalidInput, match="delimiter"):
        Submission.of(
            Words.declaration,
            {"documents": ["a" * 10000], "delimiter": 3},
            store=store,
            inline_bytes=10,
            options={},
        )
    assert list(store.list()) == []


def test_a_stream_for_another_step_than_setup_is_refused() -> None:
    """Only setup can read a stream."""

    class Both(ForkJoinTask):
        input_schema = {"numbers": {"type": "list"}}

        def setup(numbers):
            return [{"number": number} for number in numbers]

        def process(number, numbers):
            return number

        def join(results):
            return list(results)

    with pytest.raises(InvalidInput, match="numbers: is a stream, which only setup can read, but process declares it"):
        Both.run({"numbers": iter([1])})


def test_an_invalid_streamed_element_fails_the_job() -> None:
    """A streamed element is checked when setup reads it, and the failure has its index."""

    def documents() -> Iterator[object]:
        yield from ["a", "b", 3]

    with pytest.raises(JobFailed, match=r"documents\[2\]: must be of string type"):
        Words.run({"documents": documents()})


@pytest.mark.parametrize("documents", [["a b", "b"], ("a b", "b")])
def test_a_list_or_a_tuple_is_no_stream(documents: Any) -> None:
    """A list or a tuple reaches every step that declares it."""

    class Counting(ForkJoinTask):
        input_schema = {"documents": {"type": "list"}}

        def setup(documents):
            return [{"at": at} for at in range(len(documents))]

        def process(at, documents):
            return documents[at]

        def join(results, documents):
            return (list(results), documents)

    assert Counting.run({"documents": documents}) == (["a b", "b"], documents)


def test_an_array_is_a_value_and_no_stream() -> None:
    """An array, though iterable, is a parameter for any step. An array of an unsupported type is refused."""

    class Scaled(ForkJoinTask):
        input_schema = {"factors": {"required": True}, "numbers": {"type": "list"}}

        def setup(numbers):
            return [{"number": number} for number in numbers]

        def process(number, factors):
            return number * factors

        def join(products, factors):
            return [*products, factors]

    value = Scaled.run({"factors": np.array([1.0, 2.0]), "numbers": [1, 10]})
    assert [factors.tolist() for factors in value] == [[1, 2], [10, 20], [1, 2]]
    with pytest.raises(Unencodable, match=r"factors is a numpy\.ma.*MaskedArray"):
        Scaled.run({"factors": np.ma.masked_array([1, 2], [True, False]), "numbers": [1]})


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_compressed_job_has_the_same_value(executor: Any) -> None:
    """A job with compressed parameters, chunks and results has the same value as one without compression."""
    documents = ["the same words over and over " * 500] * 20
    value = Words.run({"documents": documents}, executor=executor, workers=2, compression="zstd")
    assert value == Words.run({"documents": documents})


def test_compression_saves_space() -> None:
    """The objects of a task that compresses are a fraction of the size of those of one that does not."""

    class Packed(Words):
        compression = "zstd"

    sizes = []
    for task in (Words, Packed):
        store = MemoryStore()
        Submission.of(
            task.declaration,
            {"documents": ["the same words over and over " * 500] * 20},
            store=store,
            inline_bytes=0,
            options={},
        )
        sizes.append(sum(entry.size for entry in store.list()))
    assert sizes[1] * 50 < sizes[0]
