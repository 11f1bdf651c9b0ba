"""A diagonal of the storm: some configurations, each with some of the cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from devstack import CephGateway, RabbitMQ, Redis

from .__main__ import run
from .cases import COMMON
from .configurations import CONFIGURATIONS, DIAGONAL, named
from .site import Servers, cases_of
from .table import Result, line, markdown


@pytest.mark.timeout(400)
def test_the_diagonal(rabbitmq: RabbitMQ, redis_server: Redis, ceph_gateway: CephGateway, tmp_path: Path) -> None:
    """Right answers, callbacks and errbacks once, and survived kills, whatever the settings; `make storm` runs all."""
    plan = [(named(name), cases) for name, cases in DIAGONAL.items()]
    results = run(Servers(rabbitmq, redis_server, ceph_gateway), plan, directory=tmp_path, lanes=2)
    failed = [result for result in results if not result.ok]
    assert not failed, "\n\n".join(f"{line(result)}\n{result.traceback}" for result in failed)
    assert len(results) == sum(map(len, DIAGONAL.values()))


def test_the_diagonal_has_every_case() -> None:
    """The diagonal is made of cases that the configurations go through, and each common case is among them."""
    for name, cases in DIAGONAL.items():
        assert set(cases) <= set(cases_of(named(name)))
    assert {case for cases in DIAGONAL.values() for case in cases} >= COMMON.keys() - {"in force"}


def test_every_configuration_says_who_has_it() -> None:
    """Names are unique, each configuration has a sentence, and what it leaves out is a case that there is."""
    names = [configuration.name for configuration in CONFIGURATIONS]
    assert len(set(names)) == len(names)
    for configuration in CONFIGURATIONS:
        assert configuration.why.endswith(".")
        assert configuration.without.keys() <= COMMON.keys()


def test_the_table_tells_a_failure() -> None:
    """A failed case is a number in the table, and below it the reason; one that was not run is empty."""
    results = [Result("flask", "article", reason="a | b"), Result("flask", "chain")]
    table = markdown([named("flask")], results)
    row = next(line for line in table.splitlines() if line.startswith("| flask"))
    assert row.split("|")[3].strip() == "**1**"
    assert row.split("|")[5].strip() == "ok"
    assert row.split("|")[4].strip() == ""
    assert "1. a \\| b" in table
