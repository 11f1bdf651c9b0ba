"""A diagonal of the storm: some configurations, each with some of the cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from devstack import CephGateway, RabbitMQ, Redis

from .__main__ import run
from .cases import COMMON
from .configurations import CONFIGURATIONS, DIAGONAL, find_configuration
from .matrix import MATRIX
from .site import Servers, select_cases
from .table import Result, format_line, format_markdown, format_matrix


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_diagonal(rabbitmq: RabbitMQ, redis_server: Redis, ceph_gateway: CephGateway, tmp_path: Path) -> None:
    """The main cases pass under each kind of setting. `make storm` runs all cases under all configurations."""
    plan = [(find_configuration(name), cases) for name, cases in DIAGONAL.items()]
    results = run(Servers(rabbitmq, redis_server, ceph_gateway), plan, directory=tmp_path, concurrency=2)
    failed = [result for result in results if not result.ok]
    assert not failed, "\n\n".join(f"{format_line(result)}\n{result.traceback}" for result in failed)
    assert len(results) == sum(map(len, DIAGONAL.values()))


def test_the_diagonal_has_every_case() -> None:
    """The diagonal has each common case, and only cases that apply to their configurations."""
    for name, cases in DIAGONAL.items():
        assert set(cases) <= set(select_cases(find_configuration(name)))
    assert {case for cases in DIAGONAL.values() for case in cases} >= COMMON.keys() - {"in force"}


def test_every_configuration_says_who_has_it() -> None:
    """Names are unique, each configuration has a sentence, and each omitted case exists."""
    configurations = (*CONFIGURATIONS, *MATRIX)
    names = [configuration.name for configuration in configurations]
    assert len(set(names)) == len(names)
    for configuration in configurations:
        assert configuration.why.endswith(".")
        assert configuration.without.keys() <= COMMON.keys()


def test_the_table_tells_a_failure() -> None:
    """A failed case is a number in the table, with the reason below. The cell of a case without a result is empty."""
    results = [Result("flask", "article", reason="a | b"), Result("flask", "chain")]
    table = format_markdown([find_configuration("flask")], results)
    row = next(line for line in table.splitlines() if line.startswith("| flask"))
    assert row.split("|")[3].strip() == "**1**"
    assert row.split("|")[5].strip() == "ok"
    assert row.split("|")[4].strip() == ""
    assert "1. a \\| b" in table


def test_the_matrix_tells_a_failure() -> None:
    """A cell of the matrix counts the cases that passed, and a failure has its reason below."""
    name = "Redis × database"
    table = format_matrix([Result(name, "article"), Result(name, "chord", reason="hung")])
    row = next(line for line in table.splitlines() if line.startswith("| Redis"))
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["", "", "", "**1 of 2**", ""]
    assert f"- {name}, chord: hung" in table
