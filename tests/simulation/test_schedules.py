"""Under all schedules a job ends once, with the right outcome, and the outcome is delivered.

A failed test prints its schedule. `python -m tests.simulation --replay …` plays it again and prints its trace.
`python -m pytest tests/simulation --hypothesis-seed=N` runs the same schedules again.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .faults import FAULTS
from .mutations import MUTATIONS, Mutation
from .shape import COMBINE_FORMS, ITEM_KINDS, STALL_S, STEP_KINDS, Shape
from .world import Played, play

MUTATION_SCHEDULES = 600
"""Number of schedules within which a mutation must be detected."""


def use_settings(times: int) -> settings:
    return settings(
        max_examples=times,
        deadline=None,
        derandomize="CI" in os.environ,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """Silence the library's log messages about faults."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def shapes() -> st.SearchStrategy[Shape]:
    """Return a strategy for shapes that shrinks to fewer items, faults and processes."""
    times = st.sampled_from((0.3, 3.0, 3 * STALL_S))
    return st.builds(
        Shape,
        seed=st.integers(0, 2**32),
        items=st.lists(st.sampled_from(ITEM_KINDS), max_size=7).map(tuple),
        chunk_items=st.integers(1, 3),
        setup=st.sampled_from(("good", *STEP_KINDS, "varying")),
        join=st.sampled_from(("good", *STEP_KINDS)),
        combines=st.none() | st.sampled_from(COMBINE_FORMS),
        combine=st.sampled_from(("good", *STEP_KINDS)),
        workers=st.integers(1, 4),
        sweepers=st.integers(1, 2),
        callers=st.integers(0, 1),
        launched=st.booleans(),
        max_attempts=st.integers(1, 3),
        tolerate=st.none() | st.integers(0, 2),
        retry_s=st.none() | st.sampled_from((0.5, 5.0)),
        latency_s=st.sampled_from((0.02, 0.2, 1.0)),
        message_s=st.sampled_from((0.02, 0.5, 3.0)),
        faults_s=st.sampled_from((3.0, 30.0, 200.0)),
        rates=st.dictionaries(st.sampled_from(sorted(FAULTS)), st.sampled_from((0.01, 0.05, 0.2)), max_size=8),
        deadline_s=st.none() | times,
        expires_s=st.none() | times,
        cancel_s=st.none() | times,
        skew_s=st.sampled_from((0.0, STALL_S, 100 * STALL_S)),
    )


def check(shape: Shape) -> Played:
    played = play(shape)
    if played.violation is not None:
        pytest.fail(f"{played.violation}\nsee it with: python -m tests.simulation --replay '{shape}'", pytrace=False)
    return played


@use_settings(150)
@given(shapes())
def test_every_schedule_keeps_the_invariants(shape: Shape) -> None:
    """All invariants hold in hypothesis's schedules."""
    check(shape)


def test_the_schedules_of_seeds_keep_the_invariants_and_cover_all_faults_and_outcomes() -> None:
    """All invariants hold in the schedules of seeds, which a campaign plays, and most of their jobs succeed.

    These schedules have all faults, all outcomes, trees of several levels and batches of all fates.
    """
    faults: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    levels: Counter[int] = Counter()
    batches: Counter[str] = Counter()
    for seed in range(300):
        played = check(Shape.draw(seed))
        faults.update(played.faults)
        outcomes.update(played.outcomes)
        levels.update(played.levels)
        batches.update(played.batches)
    assert set(faults) == set(FAULTS)
    assert set(outcomes) == {"succeeded", "failed", "cancelled"}
    assert min(levels[1], levels[2]) > 15
    assert levels[3] > 0
    assert min(batches["whole"], batches["shared"]) > 25
    assert outcomes["succeeded"] > sum(outcomes.values()) / 2


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_missing_part_of_the_protocol_is_detected(name: str) -> None:
    """Without each part of the protocol, an invariant is violated within a bounded number of schedules."""
    mutation: Mutation = MUTATIONS[name]
    with mutation.apply():
        played = (play(replace(Shape.draw(seed), **mutation.shape)) for seed in range(MUTATION_SCHEDULES))
        assert any(schedule.violation is not None for schedule in played)


def test_a_schedule_is_equal_in_every_process() -> None:
    """A schedule's trace does not depend on string hashes, so that a seed replays its schedule in another process."""
    code = (
        "import logging, sys; logging.disable(50)\n"
        "from tests.simulation.shape import Shape\n"
        "from tests.simulation.world import play\n"
        "for seed in range(40): print('\\n'.join(play(Shape.draw(seed), traced=True).trace))\n"
    )
    traces = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hashing},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hashing in ("1", "2")
    ]
    assert len(traces[0].splitlines()) > 1000
    assert traces[0] == traces[1]


def test_a_printed_shape_is_read_back() -> None:
    """The printed form of a shape, and its seed, give the same shape."""
    for seed in range(300):
        shape = Shape.draw(seed)
        assert Shape.read(str(shape)) == shape
        assert Shape.read(str(seed)) == shape
