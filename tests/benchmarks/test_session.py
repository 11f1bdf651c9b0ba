"""Sessions, end to end: very small ones of fanout and of Canvas on real servers, and rules that need none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import session
from benchmarks.comparisons import COMPARISONS, MB, Comparison
from benchmarks.contenders import CONTENDERS
from benchmarks.run import Run, Status
from benchmarks.servers import Site
from benchmarks.session import run_comparison, run_session
from benchmarks.workloads import Workload
from devstack import RabbitMQ, Redis, ServerUnavailable
from storage import open_store

SMALL = Workload("words", chunks=4, size_bytes=MB)


@pytest.fixture(scope="module")
def site(rabbitmq: RabbitMQ, redis_server: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with a gateway. The two servers are only asked for to be installed: each session starts its own."""
    with ExitStack() as stack:
        try:
            yield stack.enter_context(Site.open(tmp_path_factory.mktemp("site"), capacity_bytes=4 << 30))
        except ServerUnavailable as error:
            if os.environ.get("CI") == "true":
                pytest.fail(str(error), pytrace=False)
            pytest.skip(str(error))


@pytest.fixture
def bare_site(tmp_path: Path) -> Iterator[Site]:
    """A site without servers, for contenders that need none."""
    with ThreadPoolExecutor(1) as reaper:
        yield Site(tmp_path, "memory://nothing", reaper)


def run_alone(comparison: Comparison, name: str, workloads: list[Workload], site: Site, timeout_s: float) -> list[Run]:
    """A session with another timeout."""
    return list(run_session(replace(comparison, timeout_s=timeout_s), name, workloads, 1, site))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["canvas", "fanout", "fanout-file"])
def test_a_small_session_is_right_and_measured(site: Site, name: str) -> None:
    """1 MB in 4 chunks: the answer is right, each role has a peak, and the bytes are what the contender must cost."""
    (run,) = run_alone(COMPARISONS["memory"](quick=True), name, [SMALL], site, 100)
    assert (run.status, run.reason, run.right) == (Status.DONE, "", True)
    assert {"broker", "results", "caller", "setup", "process-1", "process-2", "join"} == set(run.memory)
    assert all(found.peak_bytes >= found.before_bytes > 0 for found in run.memory.values())
    assert run.walls_s[0] > 0
    assert run.cpu_s["workers"] > 0
    assert run.traffic is not None
    assert run.traffic.lost == 0
    # Into setup and into each process, or never.
    copies = 5 if name == "canvas" else 0
    assert copies * MB <= run.traffic.published_bytes < copies * MB * 1.1 + 20_000
    # The gateway counts for itself alone.
    assert (run.requests is None) == (name != "fanout")
    if run.requests is not None:
        assert run.requests.by_kind["put_obj"] >= SMALL.chunks
        assert MB < (run.requests.uploaded_bytes or 0) < 3 * MB


def test_a_run_that_takes_too_long_is_stopped_and_the_rest_not_begun(
    bare_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run over its time is stopped, and the workloads that follow in that session are skipped with the reason."""
    monkeypatch.setattr(session, "GRACE_S", 1.0)
    workloads = [Workload("wait", chunks=1, items=200), Workload("wait", chunks=2, items=2)]
    found = run_alone(COMPARISONS["shape"](quick=True), "threads", workloads, bare_site, 2)
    assert [run.status for run in found] == [Status.STOPPED, Status.SKIPPED]
    assert found[0].reason == "stopped after 3 s"
    assert found[1].reason == "not run: stopped after 3 s"


def test_a_missing_package_skips_the_contender(bare_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contender whose package is not installed takes no part, and says how to get it."""
    monkeypatch.setitem(CONTENDERS, "ray", replace(CONTENDERS["ray"], package="ray_that_is_not_there"))
    (run,) = run_alone(COMPARISONS["wordcount"](quick=True), "ray", [SMALL], bare_site, 60)
    assert run.status is Status.SKIPPED
    assert run.reason == "ray_that_is_not_there is not installed: pip install --group compare"


def test_an_error_of_the_caller_is_the_reason(bare_site: Site) -> None:
    """An exception in the caller's process is the run's reason."""
    comparison = replace(COMPARISONS["wordcount"](quick=True), warm_up=Workload("nonsense"))
    (run,) = run_alone(comparison, "serial", [SMALL], bare_site, 60)
    assert (run.status, run.reason) == (Status.FAILED, "KeyError: 'nonsense'")


def test_each_contender_has_a_place_of_its_own(bare_site: Site) -> None:
    """A contender's objects lie where its kind of store does, apart from those of others, and are gone at the end."""
    with (
        bare_site.make_place("one", CONTENDERS["fanout-file"]) as url,
        bare_site.make_place("two", CONTENDERS["fanout-file"]) as other,
        bare_site.make_place("three", CONTENDERS["fanout"]) as on_the_server,
        bare_site.make_place("four", CONTENDERS["canvas"]) as nowhere,
    ):
        open_store(url).put("key", b"value")
        open_store(on_the_server).put("key", b"value")
        assert [found.key for found in open_store(url).list()] == ["key"]
        assert not list(open_store(other).list())
        assert url.startswith(f"file://{bare_site.directory}/")
        assert on_the_server.startswith("memory://nothing/three-")
        assert nowhere == ""
    assert not list(open_store(url).list())
    assert not list(open_store(on_the_server).list())
    assert not list(bare_site.directory.iterdir())


def test_larger_cases_of_a_stopped_contender_are_skipped(bare_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a stop, more input or more chunks of the same contender are not run; others and other contenders are."""

    def stop_canvas(
        comparison: Comparison, name: str, workloads: list[Workload], *_: object, **__: object
    ) -> list[Run]:
        status = Status.STOPPED if name == "canvas" else Status.DONE
        return [Run(comparison.name, name, workload, 1, status) for workload in workloads]

    monkeypatch.setattr(session, "run_session", stop_canvas)
    small = Workload("words", chunks=32, size_bytes=40 * MB)
    larger, finer = replace(small, size_bytes=100 * MB), replace(small, size_bytes=10 * MB, chunks=512)
    cases = (("canvas", small), ("fanout", small), ("canvas", larger), ("canvas", finer), ("fanout", larger))
    comparison = replace(COMPARISONS["memory"](quick=True), cases=cases)
    statuses = [run.status for run in run_comparison(comparison, bare_site)]
    assert statuses == [Status.STOPPED, Status.DONE, Status.SKIPPED, Status.STOPPED, Status.DONE]
