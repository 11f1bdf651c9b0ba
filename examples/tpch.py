"""TPC-H queries 1 and 6 over `lineitem` in Parquet, read where it lies, with decimals that are exact.

    setup    cuts the table into parts of a few row groups, from its footer alone
    process  reads its own row groups, and of these only the columns and rows of the query; adds up exactly
    join     adds up what process found, a few rows per part

The generator makes `lineitem` of any scale factor: `pip install 'fanout[arrow,sources]' tpchgen-cli`. At scale factor 1
there are 6,001,215 rows in 232 MB, and the standard prints the answers.

    python -m examples.tpch                                    # scale factor 0.01, in this process
    python -m examples.tpch --scale-factor 1
    python -m examples.tpch s3://bucket/tpch/lineitem.parquet  # with CELERY_BROKER_URL on the workers of celery_app
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import click
import pyarrow as pa
import pyarrow.compute as pc

from fanout import ForkJoinTask, sources

PRICE = pa.decimal128(15, 2)


class Totals(NamedTuple):
    """The sums of query 1 for one group."""

    quantity: Decimal
    base_price: Decimal
    discounted_price: Decimal
    charge: Decimal
    discount: Decimal
    rows: int


Groups = dict[tuple[str, str], Totals]


def pricing_source(url: str | Path) -> sources.Source:
    """Return what query 1 reads: seven columns, and the rows up to 90 days before December 1998."""
    columns = ["returnflag", "linestatus", "quantity", "extendedprice", "discount", "tax"]
    filters = [("l_shipdate", "<=", date(1998, 9, 2))]
    return sources.parquet(url, columns=[f"l_{column}" for column in columns], filters=filters)


def revenue_source(url: str | Path) -> sources.Source:
    """Return what query 6 reads: two columns, and the rows of one year with a certain discount and a small quantity."""
    filters = [
        ("l_shipdate", ">=", date(1994, 1, 1)),
        ("l_shipdate", "<", date(1995, 1, 1)),
        ("l_discount", ">=", Decimal("0.05")),
        ("l_discount", "<=", Decimal("0.07")),
        ("l_quantity", "<", Decimal(24)),
    ]
    return sources.parquet(url, columns=["l_extendedprice", "l_discount"], filters=filters)


class PricingSummary(ForkJoinTask[list[dict[str, Any]]]):
    """TPC-H query 1: sums, averages and number of rows per return flag and line status."""

    input_schema: ClassVar[dict[str, Any]] = {"lineitem": {"type": "source", "required": True}}
    types = (Totals,)

    @staticmethod
    def setup(lineitem: sources.Source) -> Iterator[dict[str, sources.Part]]:
        return ({"part": part} for part in lineitem.parts())

    @staticmethod
    def process(part: sources.Part) -> Groups:
        totals: Groups = {}
        for batch in part.batches():
            _add(totals, _totals_of(batch))
        return totals

    @staticmethod
    def join(results: Iterable[Groups]) -> list[dict[str, Any]]:
        totals: Groups = {}
        for result in results:
            _add(totals, result)
        return [
            {
                "returnflag": flag,
                "linestatus": status,
                **group._asdict(),
                "average_quantity": group.quantity / group.rows,
                "average_price": group.base_price / group.rows,
                "average_discount": group.discount / group.rows,
            }
            for (flag, status), group in sorted(totals.items())
        ]


class ForecastRevenue(ForkJoinTask[Decimal]):
    """TPC-H query 6: how much more revenue there had been without certain discounts."""

    input_schema: ClassVar[dict[str, Any]] = {"lineitem": {"type": "source", "required": True}}

    @staticmethod
    def setup(lineitem: sources.Source) -> Iterator[dict[str, sources.Part]]:
        return ({"part": part} for part in lineitem.parts())

    @staticmethod
    def process(part: sources.Part) -> Decimal:
        products = (
            pc.multiply(batch.column("l_extendedprice"), batch.column("l_discount")) for batch in part.batches()
        )
        return sum((pc.sum(product).as_py() or Decimal(0) for product in products), Decimal(0))

    @staticmethod
    def join(revenues: Iterable[Decimal]) -> Decimal:
        return sum(revenues, Decimal(0))


def _totals_of(batch: Any) -> Groups:
    """Return the sums of a batch. Products have the decimals that they need, so nothing is rounded."""
    price, discount, tax = (batch.column(f"l_{name}").cast(PRICE) for name in ("extendedprice", "discount", "tax"))
    one = pa.scalar(Decimal("1.00"), PRICE)
    discounted = pc.multiply(price, pc.subtract(one, discount)).cast(pa.decimal128(20, 4))
    columns = {
        "flag": batch.column("l_returnflag").cast(pa.string()),
        "status": batch.column("l_linestatus").cast(pa.string()),
        "quantity": batch.column("l_quantity"),
        "base_price": price,
        "discounted_price": discounted,
        "charge": pc.multiply(discounted, pc.add(one, tax)),
        "discount": discount,
    }
    summed = [(name, "sum") for name in Totals._fields[:-1]]
    groups = pa.table(columns).group_by(["flag", "status"]).aggregate([*summed, ([], "count_all")])
    names = [*(f"{name}_sum" for name, _ in summed), "count_all"]
    return {(row["flag"], row["status"]): Totals(*(row[name] for name in names)) for row in groups.to_pylist()}


def _add(totals: Groups, more: Groups) -> None:
    for group, values in more.items():
        known = totals.get(group)
        totals[group] = Totals(*map(sum, zip(known, values, strict=True))) if known is not None else values


def generate(directory: Path, scale_factor: float) -> Path:
    """Make `lineitem` with the generator of the package tpchgen-cli, and return its path."""
    generator = Path(sys.executable).with_name("tpchgen-cli")
    command = [generator, "parquet", "--scale-factor", f"{scale_factor:g}", "--tables", "lineitem"]
    subprocess.run([*command, "--output-dir", directory], check=True, capture_output=True, timeout=600)  # noqa: S603
    return directory / "lineitem.parquet"


def answer(task: type[ForkJoinTask[Any]], source: sources.Source) -> Any:
    """Run a query on the workers of `examples.celery_app` if there is a broker, and else in this process."""
    if not os.environ.get("CELERY_BROKER_URL"):
        return task.run({"lineitem": source})
    from .celery_app import app

    return task.submit({"lineitem": source}, app=app).get(timeout=600)


@click.command()
@click.argument("url", required=False)
@click.option("--scale-factor", default=0.01, show_default=True, help="Size of the table, if there is no URL.")
def main(url: str | None, scale_factor: float) -> None:
    """Answer both queries over the lineitem table at URL, or over one that is generated."""
    with tempfile.TemporaryDirectory() as directory:
        where = url or generate(Path(directory), scale_factor)
        for row in answer(PricingSummary, pricing_source(where)):
            shown = f"{row['quantity']:>15,} {row['base_price']:>20,} {row['charge']:>24,} {row['rows']:>9,}"
            print(row["returnflag"], row["linestatus"], shown, f"{row['average_quantity']:8.2f}")
        print(f"revenue {answer(ForecastRevenue, revenue_source(where)):,}")


if __name__ == "__main__":
    # Workers know the tasks by the name of this module, and not as __main__.
    from examples.tpch import main as run_main

    run_main()
