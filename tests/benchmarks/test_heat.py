"""Turns of some entries, end to end, on real servers and in fresh processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from benchmarks.race import heat
from benchmarks.race.entries import ENTRIES
from benchmarks.race.lap import Lap
from benchmarks.race.races import Course, Race
from benchmarks.race.works import WORKS, Load
from benchmarks.site import Site
from benchmarks.status import Status
from devstack import RabbitMQ, Redis, ServerUnavailable
from storage import open_store

EMPTY = Race(
    "overhead", ("fanout",), (Course(Load("empty", chunks=1), times=2), Course(Load("empty", chunks=70))), laps=1
)
WORDS = Race("wordcount", ("fanout",), (Course(WORKS["words"].tiny),), laps=1)
BYTES = Race(
    "store",
    ("packs",),
    (Course(Load("upload", size_bytes=20_000_000)), Course(Load("download", size_bytes=20_000_000))),
    laps=1,
)


@pytest.fixture(scope="module")
def site(rabbitmq: RabbitMQ, redis_server: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with a gateway. The two servers are only asked for to be installed: each turn starts its own."""
    with ExitStack() as stack:
        try:
            opened = Site.open(tmp_path_factory.mktemp("site"), broker_url=None, store_url=None, capacity_bytes=4 << 30)
            yield stack.enter_context(opened)
        except ServerUnavailable as error:
            if os.environ.get("CI") == "true":
                pytest.fail(str(error), pytrace=False)
            pytest.skip(str(error))


def turn(site: Site, race: Race, entry: str, *, timeout_s: float = 60, profile: bool = False) -> list[Lap]:
    """One turn of an entry, all of it right."""
    if ENTRIES[entry].missing:
        pytest.skip(ENTRIES[entry].missing)
    laps = list(heat.run(race, entry, 1, site, timeout_s=timeout_s, profile=profile))
    assert [(lap.status, lap.reason, lap.right) for lap in laps] == [(Status.DONE, "", True)] * len(race.courses)
    return laps


def test_a_recorded_job_says_where_its_time_went(site: Site) -> None:
    """Every stage of a job is seen, they add up to the wall time, and each process has used some CPU time."""
    one, many = turn(site, EMPTY, "fanout", profile=True)
    for lap in (one, many):
        wall_s = sum(lap.walls_s) / len(lap.walls_s)
        assert sum(stage.wall_s for stage in lap.stages.values()) == pytest.approx(wall_s, rel=0.05, abs=0.005)
        assert {"caller", "workers", "store", "broker"} <= set(lap.cpu_s)
        assert lap.cpu_s["workers"] > 0
        assert lap.requests["put_obj"] >= lap.load.chunks
        seen = {name for name, stage in lap.stages.items() if stage.calls}
        assert {"validate", "encode", "put", "publish", "get", "decode", "run", "put result"} <= seen
        assert {"barrier", "join", "put outcome", "notify"} <= seen
        assert lap.stages["put result"].calls == lap.load.chunks
    assert len(one.walls_s) == 2


@pytest.mark.parametrize("entry", ["streamed", "chord", "dask", "ray"])
def test_entries_count_words_rightly(site: Site, entry: str) -> None:
    """The answer is the expected one, whoever gives it, and nothing was recorded that was not asked for."""
    (lap,) = turn(site, WORDS, entry)
    assert lap.walls_s[0] > 0
    assert not lap.stages
    assert ("store" in lap.cpu_s) == (entry == "streamed")


def test_lithops_counts_words_rightly_and_leaves_no_job_behind(site: Site) -> None:
    """Its calls, which return more than fits their status, have the right answer; then their objects are gone."""
    (lap,) = turn(site, WORDS, "lithops")
    assert lap.cpu_s["store"] > 0
    assert lap.cpu_s["workers"] > 0
    bucket = open_store(f"s3://{urlsplit(site.store_url).netloc}")
    assert not list(bucket.list("lithops.jobs/"))


@pytest.mark.parametrize("entry", ["packs", "packs-boto3", "raw-obstore", "raw-boto3"])
def test_bytes_go_up_and_come_back(site: Site, entry: str) -> None:
    """What was uploaded is read back whole, by ours and by the clients alone."""
    up, down = turn(site, BYTES, entry)
    assert up.walls_s[0] > 0
    assert down.walls_s[0] > 0


def test_threads_are_a_worker_too(site: Site) -> None:
    """Steps that wait run side by side in one worker of 32 threads."""
    race = Race("shape", ("fanout",), (Course(Load("wait", chunks=32, items=32)),), laps=1, threads=True)
    (lap,) = turn(site, race, "fanout")
    waited_s = sum(WORKS["wait"].whole(lap.load))
    assert lap.walls_s[0] < waited_s / 3


def test_what_takes_too_long_is_stopped_and_the_rest_not_begun(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lap over its time is stopped, and the loads that follow in that turn are skipped with the reason."""
    race = Race(
        "shape", ("threads",), (Course(Load("wait", chunks=1, items=200)), Course(Load("wait", chunks=1, items=1)))
    )
    monkeypatch.setattr(heat, "_GRACE_S", 1.0)
    found = list(heat.run(race, "threads", 1, site, timeout_s=2))
    assert [lap.status for lap in found] == [Status.STOPPED, Status.SKIPPED]
    assert found[0].reason == "stopped after 3 s"
    assert found[1].reason == "not run: stopped after 3 s"


def test_what_would_take_too_long_is_not_begun(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A load that is a thousand times another is skipped where that one took more than a second."""
    loads = (Load("wait", chunks=1, items=2), Load("wait", chunks=1, items=2000))
    race = Race("shape", ("serial",), tuple(map(Course, loads)), laps=1)
    # One after the other, those of the warm-up would take 50 s.
    monkeypatch.setitem(WORKS, "wait", replace(WORKS["wait"], tiny=Load("wait", chunks=1, items=1)))
    found = list(heat.run(race, "serial", 1, site, timeout_s=30))
    assert [lap.status for lap in found] == [Status.DONE, Status.SKIPPED]
    assert found[1].reason.startswith("not run: it would take about 1")


def test_what_a_job_takes_at_any_size_is_not_taken_many_times_over(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A load is begun if the warm-up says that there is time, though the smaller one before was slow for its size."""
    loads = (Load("wait", chunks=1, items=1), Load("wait", chunks=20, items=20))
    race = Race("shape", ("threads",), tuple(map(Course, loads)), laps=1)
    # Twenty side by side take hardly longer than one.
    monkeypatch.setitem(WORKS, "wait", replace(WORKS["wait"], tiny=Load("wait", chunks=10, items=10)))
    found = list(heat.run(race, "threads", 1, site, timeout_s=5))
    assert [lap.status for lap in found] == [Status.DONE, Status.DONE]


def test_a_missing_package_skips_the_entry(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not installed takes no part, and says how to get it."""
    monkeypatch.setitem(ENTRIES, "ray", replace(ENTRIES["ray"], package="ray_that_is_not_there"))
    (lap,) = heat.run(WORDS, "ray", 1, site, timeout_s=60)
    assert lap.status is Status.SKIPPED
    assert lap.reason == "ray_that_is_not_there is not installed: pip install --group compare"


def test_a_runner_that_fails_says_why(site: Site) -> None:
    """An exception in the caller's process is the lap's reason."""
    race = Race("wordcount", ("serial",), (Course(Load("nonsense")),), laps=1)
    (lap,) = heat.run(race, "serial", 1, site, timeout_s=60)
    assert (lap.status, lap.reason) == (Status.SKIPPED, "KeyError: 'nonsense'")
