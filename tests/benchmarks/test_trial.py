"""One tiny case of each variant, end to end, on real servers and in fresh processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from benchmarks.counters import Requests
from benchmarks.machine import context
from benchmarks.memory import sweep
from benchmarks.memory.cases import BARE, MB, Case, Variant
from benchmarks.memory.record import Trial, read
from benchmarks.memory.trial import GB, run
from benchmarks.site import Site
from benchmarks.status import Status
from devstack import RabbitMQ, Redis, ServerUnavailable
from storage import create_bucket, open_store


@pytest.fixture(scope="module")
def site(rabbitmq: RabbitMQ, redis_server: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with a gateway that counts. The two servers are only asked for to be installed: a case starts its own."""
    with ExitStack() as stack:
        directory = tmp_path_factory.mktemp("site")
        try:
            opened = Site.open(directory, broker_url=None, store_url=None, capacity_bytes=4 << 30)
            yield stack.enter_context(opened)
        except ServerUnavailable as error:
            if os.environ.get("CI") == "true":
                pytest.fail(str(error), pytrace=False)
            pytest.skip(str(error))


def test_store_counters_agree_with_what_was_asked(site: Site) -> None:
    """Five puts of 1 MB, two gets and a listing are eight requests, 5 MB up and 2 MB down and a listing's text."""
    url = "s3://fanout-bench-counted/some"
    create_bucket(url)
    store = open_store(url)
    assert site.gateway_conf is not None
    before = Requests.of(site.gateway_conf)
    for number in range(5):
        store.put(f"key-{number}", b"x" * MB)
    store.get("key-0")
    store.get("key-1", offset=0, length=MB)
    assert len(list(store.list())) == 5
    counted = Requests.of(site.gateway_conf) - before
    assert counted.by_kind == {"put_obj": 5, "get_obj": 2, "list_bucket": 1}
    assert counted.uploaded_bytes == 5 * MB
    assert 2 * MB < counted.downloaded_bytes < 2 * MB + 10_000


@pytest.mark.parametrize("variant", [Variant.CANVAS, Variant.PRESLICED, Variant.FANOUT])
def test_each_variant_is_right_and_measured(site: Site, variant: Variant) -> None:
    """1 MB in 4 chunks: the answer is right, every role has a peak, and the bytes are what the variant must cost."""
    found = run(Case(variant, MB, 4), site, limit_bytes=2 * GB, timeout_s=60)
    assert (found.status, found.reason, found.right) == (Status.DONE, "", True)
    assert {"broker", "caller", "setup", "process-1", "process-2", "join"} <= set(found.memory)
    assert all(peak.peak_bytes >= peak.before_bytes > 0 for peak in found.memory.values())
    assert found.wall_s is not None
    assert found.traffic is not None
    assert found.traffic.lost == 0
    # Into setup and into each process, once in all, or never.
    copies = {Variant.CANVAS: 5, Variant.PRESLICED: 1}.get(variant, 0)
    assert copies * MB <= found.traffic.published_bytes < copies * MB * 1.1 + 20_000
    assert (found.requests is None) == (variant in BARE)


def test_a_broker_of_ones_own_is_used(site: Site, rabbitmq: RabbitMQ) -> None:
    """On a broker that was given the case runs as well; nothing is said about the broker, and all about the rest."""
    given = replace(site, broker_url=rabbitmq.url)
    found = run(Case(Variant.HERE, MB, 4), given, limit_bytes=2 * GB, timeout_s=60)
    assert (found.status, found.reason, found.right) == (Status.DONE, "", True)
    assert found.traffic is None
    assert set(found.memory) == {"caller", "setup", "process-1", "process-2", "join", "results"}
    assert found.requests is not None
    assert found.requests.uploaded_bytes > MB


def test_a_case_that_takes_too_much_is_stopped(site: Site) -> None:
    """A broker over its limit ends the case at once; what was seen so far is kept."""
    found = run(Case(Variant.CANVAS, 10 * MB, 8), site, limit_bytes=GB // 4, timeout_s=60)
    assert found.status is Status.STOPPED
    assert found.reason.startswith("stopped at 0.")
    assert found.memory["broker"].peak_bytes >= GB // 4


def test_larger_cases_of_a_stopped_variant_are_skipped(
    site: Site, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a stop, more input or more chunks of the same variant are not run; other variants are; all are recorded."""

    def stops(case: Case, site: Site, *, limit_bytes: int, timeout_s: float) -> Trial:
        status = Status.STOPPED if case.variant is Variant.CANVAS else Status.DONE
        return Trial(case, status, "stopped at 8.0 GB" if status is Status.STOPPED else "")

    monkeypatch.setattr("benchmarks.memory.trial.run", stops)
    small = Case(Variant.CANVAS, 40 * MB, 32)
    planned = [
        small,
        Case(Variant.FANOUT, 40 * MB, 32),
        replace(small, size_bytes=100 * MB),
        Case(Variant.CANVAS, 10 * MB, 512),
    ]
    results = tmp_path_factory.mktemp("results") / "memory.jsonl"
    shown: list[Trial] = []
    found = sweep.run(
        planned,
        site,
        context=context(["memory", "--out", "somewhere", "--quick"]),
        results=results,
        roles=["broker"],
        limit_bytes=8 * GB,
        timeout_s=60,
        show=shown.append,
    )
    assert [one.status for one in found] == [Status.STOPPED, Status.DONE, Status.SKIPPED, Status.STOPPED]
    assert found[2].reason == "not run: stopped at a smaller size"
    assert shown == found == read(results)
    assert found[0].context is not None
    assert found[0].context.command == "python -m benchmarks memory --quick"
