"""`python -m benchmarks plan`: the plan of some jobs beside the reports of the same jobs on real workers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from devstack import StackError
from fanout import ForkJoinTask, Plan
from fanout.figures import format_duration, format_size
from fanout.plan import Requests
from fanout.report import Report

from .contenders import CONTENDERS, PROCESSES
from .servers import Site
from .tables import new_table
from .workloads import WORKS, Workload

TIMEOUT_S = 600.0
"""Limit of a job, in seconds."""

_EDITS = "examples.edit_design"


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job that is planned, run and reported.

    Attributes:
        label: Its name in the table.
        task: Its task.
        values: Its input.
        options: Its options.
    """

    label: str
    task: type[ForkJoinTask[Any]]
    values: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def run(self) -> Report:
        """Run it, and return its report."""
        job = self.task.submit(dict(self.values), **self.options)
        job.get(TIMEOUT_S)
        return job.report()

    def plan(self, **rates: Any) -> Plan:
        """Return its plan for the benchmark's workers."""
        return self.task.plan(dict(self.values), workers=PROCESSES, **rates, **self.options)


@dataclass(frozen=True, slots=True)
class Compared:
    """A figure of two plans and of the report.

    Attributes:
        name: The figure.
        assumed: As planned with the report's time of an item alone.
        like: As planned with all rates of the report.
        measured: As reported.
        show: Writes it.
    """

    name: str
    assumed: float
    like: float
    measured: float
    show: Callable[[float], str]

    def row(self) -> list[str]:
        """Return its cells: the name, three figures, and two ratios of plan to report."""
        ratios = [f"{plan / self.measured:.2f}" if self.measured else "" for plan in (self.assumed, self.like)]
        return [self.name, *map(self.show, (self.assumed, self.like, self.measured)), *ratios]


def make_jobs(*, quick: bool) -> Iterator[PlannedJob]:
    """Yield the benchmarks' jobs. The environment must name broker and store."""
    from .contenders.app import Items, Whole

    words = Workload("words", chunks=32, size_bytes=4_000_000 if quick else 40_000_000)
    yield PlannedJob(f"word count, {format_size(words.size_bytes)}", Whole, _whole_values(words), {"chunk_items": 1})
    if find_spec("edlib") is not None:
        from examples.edit_design import EditDesign
        from examples.simulated_edits import simulate

        edits = 120 if quick else 600
        yield PlannedJob(f"{edits} edits", EditDesign, simulate(edits=edits, seed=1)[0])
    digits = Workload("digits", items=20_000 if quick else 200_000)
    yield PlannedJob(f"{digits.items:,} tiny items", Items, {"items": WORKS["digits"].whole(digits)})
    empty = Workload("empty", chunks=320 if quick else 3_200)
    yield PlannedJob(f"{empty.chunks:,} empty chunks", Whole, _whole_values(empty), {"chunk_items": 1})


def _whole_values(workload: Workload) -> dict[str, Any]:
    return {"work": workload.work, "whole": WORKS[workload.work].whole(workload), "chunks": workload.chunks}


def compare(assumed: Plan, like: Plan, report: Report) -> Iterator[Compared]:
    """Yield the figures that both plans and the report have.

    Requests and bytes are those of workers, as a report has them. Those of the launch are taken from the plans.
    """
    usage = report.usage

    def pair(name: str, of: Callable[[Plan], float], measured: float, show: Callable[[float], str]) -> Compared:
        return Compared(name, of(assumed), of(like), measured, show)

    yield pair("chunks", lambda plan: plan.shape.chunks, report.progress.chunks or 0, _show_number)
    yield pair("messages", lambda plan: plan.messages, report.messages, _show_number)
    if usage is not None:
        yield pair("PUT", lambda plan: _without_launch(plan).put, usage.put, _show_number)
        yield pair("GET", lambda plan: _without_launch(plan).get, usage.get, _show_number)
        yield pair("HEAD", lambda plan: _without_launch(plan).head, usage.head, _show_number)
        yield pair("LIST", lambda plan: _without_launch(plan).list, usage.list, _show_number)
        requests = usage.put + usage.get + usage.head + usage.list
        yield pair("requests", lambda plan: _without_launch(plan).total, requests, _show_number)
        yield pair("written", _written_by_workers, usage.uploaded_bytes, format_size)
        yield pair("read", lambda plan: plan.read_bytes, usage.downloaded_bytes, format_size)
    for name, measured in zip(("setup", "process", "join"), _phases(report), strict=True):
        yield pair(name, partial(_planned_s, name), measured, format_duration)
    yield pair("in all", lambda plan: plan.times.total_s, report.wall_s, format_duration)


def _planned_s(phase: str, plan: Plan) -> float:
    planned_s: float = getattr(plan.times, f"{phase}_s")
    return planned_s


def _phases(report: Report) -> tuple[float, float, float]:
    """Return the seconds from the launch to setup's end, from there to the last result, and from there to the end.

    Process begins at its first run instead, if that was before setup's end. Each phase has its wait for a worker.
    """
    setup, join = report.recorded.setup, report.recorded.join
    if setup is None or join is None:
        raise ValueError(f"job {report.job_id} has no end")
    last_at = max((run.ended_at for run in report.runs), default=setup.ended_at)
    first_at = min((run.started_at for run in report.runs), default=setup.ended_at)
    return setup.ended_at - report.began_at, last_at - min(setup.ended_at, first_at), join.ended_at - last_at


def _without_launch(plan: Plan) -> Requests:
    """Return the requests of a plan without its caller's: entry, intent, parameters, and the read of the outcome."""
    planned = plan.requests
    return replace(planned, put=planned.put - 2 - len(plan.shape.large_parameters), get=planned.get - 1)


def _written_by_workers(plan: Plan) -> float:
    return plan.written_bytes - sum(plan.shape.parameter_bytes.values())


def _show_number(number: float) -> str:
    return f"{number:,.0f}"


def make_table(label: str, figures: Sequence[Compared]) -> Table:
    """Return the table of a job."""
    headings = [label, "plan", "plan like", "report", "plan ÷", "like ÷"]
    table = new_table("", headings)
    for figure in figures:
        table.add_row(*figure.row())
    return table


@click.command()
@click.option("--quick", is_flag=True, help="Smaller jobs.")
@click.option("--broker-url", help="A RabbitMQ of yours.")
@click.option("--store-url", help="An s3:// URL of yours, with credentials as for boto3.")
def plan(quick: bool, broker_url: str | None, store_url: str | None) -> None:
    """Compare plans with the reports of the same jobs on two workers.

    Each job runs twice, the first time to warm up. The plan has the time of an item from the report, and the plan like
    the report has all of its rates: what differs there is an error of the formulae.
    """
    screen = Console(highlight=False)
    contender = CONTENDERS["fanout"]
    try:
        with (
            tempfile.TemporaryDirectory(prefix="fanout-bench-", ignore_cleanup_errors=True) as directory,
            Site.open(Path(directory), broker_url=broker_url, store_url=store_url) as site,
            site.make_place("plan", contender) as url,
            site.start_cluster(
                Path(directory) / "plan", contender, {"FANOUT_STORE": url}, threads=0, include=_EDITS
            ) as cluster,
        ):
            os.environ.update(cluster.environment)
            for job in make_jobs(quick=quick):
                job.run()
                report = job.run()
                like = job.plan(like=report)
                screen.print(make_table(job.label, list(compare(job.plan(item_s=like.item_s), like, report))), "")
    except StackError as error:
        raise click.ClickException(str(error)) from error
