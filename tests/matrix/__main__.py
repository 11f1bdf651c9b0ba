"""Run all cases on all engines and stores, and write the table of docs/how-to/engines-compared.md.

    python -m tests.matrix                                # all rows
    python -m tests.matrix --engine dask --store file     # one row; the others stay
    python -m tests.matrix --engine dask --case poison    # writes nothing

RabbitMQ and Ceph's gateway start by themselves, as in the tests.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from devstack import CephGateway, RabbitMQ
from storage import create_bucket

from .cases import CASES, Case
from .engines import ENGINES, Engine
from .table import Cell, Column, write_table

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "engines-compared.md"
STORES = ("memory", "file", "ceph")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the matrix. Return 1 if a case failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description="Run the cases on each engine.")
    parser.add_argument("--engine", action="append", choices=list(ENGINES), help="may be repeated; default: all")
    parser.add_argument("--store", action="append", choices=STORES, help="may be repeated; default: all")
    parser.add_argument("--case", action="append", choices=[case.check.__name__ for case in CASES])
    parser.add_argument("--no-write", action="store_true", help="leave the page in docs/ as it is")
    arguments = parser.parse_args(argv)
    cases = [case for case in CASES if arguments.case is None or case.check.__name__ in arguments.case]
    chosen = [
        (name, store)
        for name in arguments.engine or ENGINES
        for store in ENGINES[name].stores
        if store in (arguments.store or STORES)
    ]
    columns = []
    with tempfile.TemporaryDirectory(prefix="fanout-matrix-") as directory, _servers(Path(directory), chosen):
        for name, store in chosen:
            home = Path(directory, f"{name}-{store}")
            home.mkdir()
            columns.append(_run_column(name, ENGINES[name], store, cases, home))
            if not (arguments.no_write or arguments.case):
                write_table(PAGE, cases, columns[-1:], at=datetime.now(UTC))
    return int(any(cell.is_failed for column in columns for cell in column.cells.values()))


@contextmanager
def _servers(directory: Path, chosen: Sequence[tuple[str, str]]) -> Iterator[None]:
    """Start the servers that Celery and the store `ceph` need, and point the environment to them."""
    os.environ.update(PYTHONPATH=str(ROOT), AWS_EC2_METADATA_DISABLED="true")
    with ExitStack() as stack:
        if any(store == "ceph" for _, store in chosen):
            os.environ.update(stack.enter_context(CephGateway.start(directory / "ceph")).environment)
        if any(name == "celery" for name, _ in chosen):
            os.environ["TEST_BROKER"] = stack.enter_context(RabbitMQ.start(directory / "rabbitmq")).url
        yield


def _run_column(name: str, engine: Engine, store: str, cases: Sequence[Case], home: Path) -> Column:
    """Run the cases on one engine and one store."""
    column = Column(f"{engine.label}, {store}")
    if engine.missing:
        column.cells = {case.name: Cell(engine.missing) for case in cases}
        return column
    url = {"memory": "", "file": (home / "store").as_uri()}.get(store, f"s3://matrix-{name}/jobs")
    if store == "ceph":
        create_bucket(url)
    with engine.start(url, home) as running:
        for case in cases:
            obstacle = case.find_obstacle(running)
            if obstacle:
                column.cells[case.name] = Cell(obstacle)
                continue
            directory = home / case.check.__name__
            directory.mkdir()
            try:
                case.check(running, directory)
                cell = Cell()
            except Exception as error:
                traceback.print_exc()
                cell = Cell(f"{type(error).__name__}: {error}", is_failed=True)
            column.cells[case.name] = cell
            print(f"{column.name}: {case.name}: {'failed' if cell.is_failed else 'ok'}", flush=True)
    return column


if __name__ == "__main__":
    sys.exit(main())
