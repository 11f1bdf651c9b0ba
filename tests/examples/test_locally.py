"""The examples in this process, in threads and in processes, and as commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.column_means import ColumnMeans, means_serially
from examples.edit_design import EditDesign, design_serially
from examples.simulated_edits import simulate
from examples.sum_numbers import SumNumbers
from examples.word_count import WordCount, WordCounterTask, count_serially
from fanout import ForkJoinTask, InvalidInput, JobFailed
from fanout.engines.local import ExecutorName

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["hi there you", "there you are", "please say hi"]

on_every_executor = pytest.mark.parametrize("executor", ["inline", "threads", "processes"])
of_both_forms = pytest.mark.parametrize("task", [WordCounterTask, WordCount])


@on_every_executor
@of_both_forms
def test_word_count(task: type[ForkJoinTask], executor: ExecutorName) -> None:
    """The class and the three functions give the counts of one loop."""
    assert task.run({"documents": DOCUMENTS}, executor=executor, workers=2) == count_serially(DOCUMENTS)


@of_both_forms
@given(st.lists(st.text("ab, ")), st.none() | st.sampled_from([" ", ",", ", "]))
@settings(max_examples=50)
def test_word_count_of_any_documents(task: type[ForkJoinTask], documents: list[str], delimiter: str | None) -> None:
    """Any documents with any delimiter, or the default one, give the counts of one loop."""
    given_delimiter = {} if delimiter is None else {"delimiter": delimiter}
    found = task.run({"documents": documents, **given_delimiter})
    assert found == count_serially(documents, **given_delimiter)


@pytest.mark.parametrize(
    ("block_rows", "executor"), [(1, "inline"), (7, "inline"), (1000, "inline"), (7, "threads"), (7, "processes")]
)
def test_column_means(block_rows: int, executor: ExecutorName) -> None:
    """For any blocks, the means equal those of the whole matrix, and are an array."""
    matrix = np.random.default_rng(1).normal(size=(50, 3))
    means = ColumnMeans.run({"matrix": matrix, "block_rows": block_rows}, executor=executor, workers=2)
    np.testing.assert_allclose(means, means_serially(matrix))
    assert (type(means), means.dtype, means.shape) == (np.ndarray, np.float64, (3,))


@pytest.mark.parametrize(
    ("width", "executor"),
    [*((width, executor) for width in (0, 1, 2, 1000) for executor in ("inline", "threads")), (0, "processes")],
)
def test_sum_of_numbers(width: int, executor: ExecutorName) -> None:
    """Lists of no number, of one, of two and of many give their sum."""
    assert SumNumbers.run({"numbers": list(range(width))}, executor=executor, workers=2) == sum(range(width))


@given(st.lists(st.integers()), st.integers(1, 5))
@settings(max_examples=50)
def test_sum_of_any_numbers(numbers: list[int], chunk_items: int) -> None:
    """Integers of any size in chunks of any size, in a list or a stream, give their sum."""
    assert SumNumbers.run({"numbers": numbers}, chunk_items=chunk_items) == sum(numbers)
    assert SumNumbers.run({"numbers": iter(numbers)}, chunk_items=chunk_items) == sum(numbers)


def test_a_stream_is_refused_at_the_element_that_does_not_fit() -> None:
    """An invalid element of a stream ends the running job, and the error has its index."""
    with pytest.raises(JobFailed) as failed:
        SumNumbers.run({"numbers": iter([1, 2, "three"])})
    assert isinstance(failed.value.__cause__, InvalidInput)
    assert list(failed.value.__cause__.errors) == ["numbers[2]"]


@pytest.mark.parametrize("executor", ["inline", "threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_edit_design(executor: ExecutorName) -> None:
    """The table of 600 edits equals that of a plain loop."""
    inputs, _ = simulate()
    assert EditDesign.run(inputs, executor=executor, workers=2) == design_serially(**inputs)


@pytest.mark.parametrize(
    ("module", "shown"),
    [
        ("word_count", "modules of Python's email package"),
        ("sum_numbers", "numbers[2]: must be of integer type"),
        ("column_means", "in blocks of 1,000 rows: [0.994389 1.992859 2.996601 3.99634 ]"),
        ("edit_design", "edits on 5 contigs, 500,000 bases"),
        ("celery_app", "commonest words: so, long, and\nsum of 1 to 100: 5050\n600 edits: "),
    ],
)
def test_each_runs_as_a_command(module: str, shown: str) -> None:
    """`python -m examples.…` needs no server, succeeds, and prints only its answer."""
    command = [sys.executable, "-m", f"examples.{module}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert shown in done.stdout
