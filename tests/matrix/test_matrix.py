"""A task means the same on each engine: the diagonal of the matrix, each engine on one store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from storage import create_bucket

from .cases import CASES, Case
from .engines import ENGINES, Running

DIAGONAL = {"here": "memory", "stub": "memory", "processes": "file", "celery": "ceph", "dask": "file", "ray": "ceph"}
SLOW = {"processes", "celery", "dask", "ray"}
"""Engines whose processes take too long to start for `make test`, which has other tests of each."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in DIAGONAL],
)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A running engine."""
    engine, store = ENGINES[request.param], DIAGONAL[request.param]
    if engine.missing:
        pytest.skip(engine.missing)
    directory = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        url = {"memory": "", "file": (directory / "store").as_uri()}.get(store, f"s3://matrix-{request.param}/jobs")
        if store == "ceph":
            for name, value in request.getfixturevalue("ceph_gateway").environment.items():
                patch.setenv(name, value)
            create_bucket(url)
        if request.param == "celery":
            patch.setenv("TEST_BROKER", request.getfixturevalue("rabbitmq").add_host().url)
        yield stack.enter_context(engine.start(url, directory))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", [case for case in CASES if case.is_quick], ids=lambda case: case.check.__name__)
def test_each_engine_gives_a_task_the_same_meaning(running: Running, case: Case, tmp_path: Path) -> None:
    """The values, errors and jobs of a case are those that its assertions say, whatever carries the messages."""
    obstacle = case.find_obstacle(running)
    if obstacle:
        pytest.skip(obstacle)
    case.check(running, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", [case for case in CASES if not case.is_quick], ids=lambda case: case.check.__name__)
def test_each_engine_survives_a_killed_worker(running: Running, case: Case, tmp_path: Path) -> None:
    """A job outlives its worker, and has its 600 edits; a process with the store alone attaches to it."""
    test_each_engine_gives_a_task_the_same_meaning(running, case, tmp_path)
