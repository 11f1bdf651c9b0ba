"""Arrays of NumPy and Arrow, on their way to real workers and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from .app import BlocksTask
from .cluster import Cluster

MATRIX = np.random.default_rng(1).normal(size=(4000, 25)).astype(">f8")
WEIGHTS = np.arange(25, dtype=np.float64)
COLUMNS = pa.table({"name": [f"block {row}" for row in range(8)]})


@pytest.fixture
def cluster(redis_cluster: Cluster) -> Cluster:
    return redis_cluster


def check(value: dict[str, Any]) -> None:
    np.testing.assert_allclose(value["product"], MATRIX @ WEIGHTS)
    assert value["firsts"] == tuple(MATRIX[::500, 0])
    assert {type(first) for first in value["firsts"]} == {np.float64}
    assert [name.to_pylist() for name in value["names"]] == [[name] for name in COLUMNS.column("name").to_pylist()]
    assert {type(name) for name in value["names"]} == {pa.ChunkedArray}
    assert value["facts"] == ({"writeable": False, "aligned": True, "dtype": ">f8"},) * 8


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_arrays_arrive_at_workers(compression: str, cluster: Cluster) -> None:
    """The steps receive a matrix, weights and a table exactly, and the caller receives results and value exactly."""
    job = BlocksTask.submit(
        {"matrix": MATRIX, "weights": WEIGHTS, "columns": COLUMNS}, app=cluster.app, compression=compression
    )
    check(job.get(timeout=60))
    assert job.progress().chunks == 4


@pytest.mark.parametrize("executor", ["inline", "threads", "processes"])
def test_arrays_arrive_without_servers(executor: Any) -> None:
    """`run` gives the same arrays without servers, on each executor."""
    check(BlocksTask.run({"matrix": MATRIX, "weights": WEIGHTS, "columns": COLUMNS}, executor=executor, workers=2))


@pytest.mark.usefixtures("cluster")
def test_arrays_in_a_signature() -> None:
    """The signature stores an array in the store, so that its message has only the reference."""
    inputs = {"matrix": MATRIX, "weights": WEIGHTS, "columns": COLUMNS}
    signature = BlocksTask.signature(inputs)
    assert len(str(dict(signature))) < 3000
    check(signature().get(timeout=60))
