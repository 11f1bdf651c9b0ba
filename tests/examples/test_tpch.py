"""TPC-H queries over a generated table give DuckDB's answers, to the last decimal."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from examples.tpch import ForecastRevenue, PricingSummary, generate, pricing_source, revenue_source

duckdb = pytest.importorskip("duckdb", reason="pip install duckdb")
GENERATOR = Path(sys.executable).with_name("tpchgen-cli")
pytestmark = pytest.mark.skipif(not GENERATOR.exists(), reason="pip install tpchgen-cli")

QUERY_1 = """
    SELECT l_returnflag, l_linestatus, sum(l_quantity), sum(l_extendedprice),
        sum(l_extendedprice * (1 - l_discount)), sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)),
        sum(l_discount), count(*)
    FROM '{path}' WHERE l_shipdate <= DATE '1998-12-01' - INTERVAL 90 DAY
    GROUP BY l_returnflag, l_linestatus ORDER BY l_returnflag, l_linestatus
"""
QUERY_6 = """
    SELECT sum(l_extendedprice * l_discount) FROM '{path}'
    WHERE l_shipdate >= DATE '1994-01-01' AND l_shipdate < DATE '1995-01-01'
        AND l_discount BETWEEN 0.05 AND 0.07 AND l_quantity < 24
"""


@pytest.fixture(scope="module")
def lineitem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table at scale factor 0.01: 60,175 rows."""
    return generate(tmp_path_factory.mktemp("tpch"), 0.01)


@pytest.fixture(scope="module")
def database() -> Any:
    """DuckDB in memory."""
    with duckdb.connect() as connection:
        yield connection


def test_query_1(lineitem: Path, database: Any) -> None:
    """Sums and counts of the four groups equal those of DuckDB."""
    rows = PricingSummary.run({"lineitem": pricing_source(lineitem)})
    assert [tuple(row.values())[:8] for row in rows] == database.sql(QUERY_1.format(path=lineitem)).fetchall()
    assert round(rows[0]["average_quantity"], 2) == Decimal("25.58")


def test_query_6(lineitem: Path, database: Any) -> None:
    """The revenue equals that of DuckDB."""
    revenue = ForecastRevenue.run({"lineitem": revenue_source(lineitem)}, executor="threads", workers=2)
    assert [(revenue,)] == database.sql(QUERY_6.format(path=lineitem)).fetchall()
