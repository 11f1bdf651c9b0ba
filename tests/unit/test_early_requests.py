"""A stage asks at once for what does not depend on an earlier answer, where the store is a server."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest

from fanout.background.early_requests import THREADS, EarlyRequests
from fanout.records.keys import intent_key
from storage import StorageUnavailable, remaining_s, within
from tests.stores import kind_of

from .tasks import Numbers
from .world import World

PATIENCE_S = 30.0

FIRST = {
    "setup": ("intent", "outcome", "manifest"),
    "process": ("intent", "outcome", "input"),
    "join": ("intent", "outcome", "manifest"),
}
"""Step -> the objects that a process asks for first if it does not know the job, in the order of need."""


def world_before(step: str, *, is_local: bool, items: int = 1) -> World:
    """Return a world in which the message of a step waits. The steps before it ran in other processes."""
    world = World(batch_chunks=32)
    world.launch(Numbers, {"numbers": list(range(items))})
    for _ in range([*FIRST].index(step)):
        world.dispatcher.deliver(world.process())
    world.store.is_local = is_local
    world.store.log.clear()
    return world


@pytest.mark.parametrize("step", FIRST)
def test_the_first_requests_of_a_step_are_under_way_at_once(step: str) -> None:
    """None of the first three requests is answered before all of them have been made."""
    world = world_before(step, is_local=False)
    expected = set(FIRST[step])
    barrier = threading.Barrier(len(expected))

    def wait_for_others(verb: str, key: str) -> None:
        if kind_of(key) in expected:
            expected.remove(kind_of(key))
            barrier.wait(PATIENCE_S)

    world.store.before = wait_for_others
    world.dispatcher.deliver(world.process())
    assert not expected
    assert not barrier.broken


@pytest.mark.parametrize("shared", [True, False])
def test_early_requests_are_no_more_requests(shared: bool) -> None:
    """A job costs the same requests on a server as one after the other, in one process and in several."""
    made = []
    for is_local in (True, False):
        world = world_before("setup", is_local=is_local, items=70)
        worker = world.process()
        while world.dispatcher.waiting:
            world.dispatcher.deliver(worker if shared else world.process())
        made.append(Counter((verb, kind_of(key)) for verb, key in world.store.log))
    assert made[0] == made[1]
    assert made[1]["get", "input"] == (1 if shared else 3)


@pytest.mark.parametrize("step", FIRST)
def test_the_error_is_that_of_one_request_after_the_other(step: str) -> None:
    """Whichever of the first requests fail, the stage raises the error of the answer that it needs first."""
    for number in (1, 2, 3):
        for failing in combinations(FIRST[step], number):
            world = world_before(step, is_local=False)

            def fail(verb: str, key: str, failing: tuple[str, ...] = failing) -> None:
                if kind_of(key) in failing:
                    raise StorageUnavailable(f"{verb} {key}", key=key)

            world.store.before = fail
            with pytest.raises(StorageUnavailable) as caught:
                world.dispatcher.deliver(world.process())
            assert caught.value.key is not None
            assert kind_of(caught.value.key) == failing[0]


@pytest.mark.parametrize("step", FIRST)
def test_a_removed_job_hides_the_errors_of_its_other_records(step: str) -> None:
    """A message of a job that was removed is dropped, though the store does not answer the other requests."""
    world = world_before(step, is_local=False)
    world.store.delete([intent_key(world.dispatcher.waiting[0].job_id)])
    with world.store.failing("", *(f"/{kind}" for kind in FIRST[step][1:])):
        world.dispatcher.deliver(world.process())
    assert not world.dispatcher.waiting


def test_a_chunk_that_may_have_a_result_is_not_read_early() -> None:
    """A worker that receives a message again looks for results before it reads the slice."""
    world = world_before("process", is_local=False)
    message = world.dispatcher.waiting[0]
    world.dispatcher.deliver(world.process())
    world.store.log.clear()
    world.dispatcher.waiting[:] = [replace(message, redelivered=True)]
    world.dispatcher.deliver(world.process())
    assert "input" not in {kind_of(key) for _, key in world.store.log}


def test_a_setup_tells_its_process_that_the_job_goes_on() -> None:
    """A chunk in the process of its setup does not ask again, within a second, whether the job has ended."""
    world = world_before("setup", is_local=True)
    worker = world.process()
    world.dispatcher.deliver(worker)
    world.store.log.clear()
    world.dispatcher.deliver(worker)
    assert "outcome" not in {kind_of(key) for _, key in world.store.log}


def test_a_request_that_no_thread_has_begun_is_made_by_the_thread_that_asks() -> None:
    """While all threads wait for the store, a stage makes its request itself."""
    requests, release = EarlyRequests(), threading.Event()
    begun = threading.Semaphore(0)

    def hang() -> bool:
        begun.release()
        return release.wait(PATIENCE_S)

    hanging = [requests.begin(hang) for _ in range(THREADS)]
    for _ in hanging:
        assert begun.acquire(timeout=PATIENCE_S)
    assert requests.begin(threading.current_thread)() is threading.current_thread()
    release.set()
    assert all(answer() for answer in hanging)


def test_an_early_request_keeps_the_limit_of_the_caller() -> None:
    """A limit that the caller has set holds in the thread that makes the request."""
    requests = EarlyRequests()
    with within(PATIENCE_S):
        limited = requests.begin(remaining_s)
    assert limited() is not None
    assert requests.begin(remaining_s)() is None
