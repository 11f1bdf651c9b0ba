"""Results for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from rich import box
from rich.table import Table
from rich.text import Text

from .comparisons import HAND_CHOSEN, Comparison
from .contenders import CONTENDERS
from .figures import NOTHING, Case, Figure, Spread, compare_medians, group_runs, name_workload, show_spread
from .run import Run
from .stages import STAGES

LIMITS = {
    "packs": "raw-obstore",
    "packs-boto3": "raw-boto3",
    **dict.fromkeys(("lines", "dask-bag", "dask-frame", "ray-data", "lithops-text"), "raw-lines"),
    **dict.fromkeys(("objects", "objects-gathered", "group-of-keys", "ray-objects"), "raw-objects"),
}
"""Contenders of `store`, `sources` and `objects` -> the client alone that each is measured against."""


def make_tables(comparison: Comparison, runs: Sequence[Run]) -> Iterator[Table]:
    """Make the tables of a comparison; ratios and stages where there are any."""
    cases = group_runs(runs)
    for number, (title, columns) in enumerate(comparison.tables):
        if number == 0 or any(_has_any(case, columns) for case in cases):
            yield _table_of_cases(title, cases, columns, is_first=number == 0)
    yield from (table for table in (_table_of_ratios(cases, runs), _table_of_sizes(cases, runs)) if table.row_count)
    plain = {(case.contender, case.workload): case for case in cases}
    for case in group_runs(runs, recorded=True):
        yield _table_of_stages(case, plain.get((case.contender, case.workload)))


def _table_of_cases(title: str, cases: Sequence[Case], columns: Sequence[Figure], *, is_first: bool) -> Table:
    """Make a row for each case; the first table names those without a result, with the reason below it."""
    shown = [column for column in columns if any(column.spread(case) for case in cases)] or columns[:1]
    table = new_table(title, ["", *(column.heading for column in shown)])
    order = list(CONTENDERS)
    reasons = []
    for workload in dict.fromkeys(case.workload for case in cases):
        same = [case for case in cases if case.workload == workload and (is_first or _has_any(case, shown))]
        table.add_section()
        table.add_row(Text(name_workload(workload), style="bold"))
        for case in sorted(same, key=lambda one: order.index(one.contender)):
            label = CONTENDERS[case.contender].label
            cells: list[str | Text] = [column.text(case) for column in shown]
            if not case.done:
                cells = [Text(case.runs[0].status, style="yellow")]
                reasons.append(f"{label}, {name_workload(workload)}: {case.runs[0].reason}")
            elif not all(run.right for run in case.done):
                cells[0] = Text("WRONG", style="red")
            table.add_row(Text(f"  {label}"), *cells)
    table.caption = Text("\n".join(reasons)) if reasons and is_first else None
    return table


def _has_any(case: Case, columns: Sequence[Figure]) -> bool:
    return any(column.spread(case) for column in columns)


def _table_of_ratios(cases: Sequence[Case], runs: Sequence[Run]) -> Table:
    table = new_table("Of the throughput of the client alone, in the same repetition", ["", "of", "%"])
    for workload in dict.fromkeys(case.workload for case in cases):
        for contender, limit in LIMITS.items():
            ratio = compare_medians(runs, limit, [contender], workload)
            if ratio is not None:
                label = f"{CONTENDERS[contender].label}, {name_workload(workload)}"
                table.add_row(label, CONTENDERS[limit].label, show_spread(ratio, lambda value: f"{100 * value:.0f}"))
    return table


def _table_of_sizes(cases: Sequence[Case], runs: Sequence[Run]) -> Table:
    table = new_table("Times as long as the best chunk_items of the same repetition", ["", "times"])
    for case in cases:
        times = compare_medians(runs, case.contender, HAND_CHOSEN, case.workload)
        if times is not None:
            label = f"{CONTENDERS[case.contender].label}, {name_workload(case.workload)}"
            table.add_row(label, show_spread(times, "{:,.2f}".format))
    return table


def _table_of_stages(case: Case, plain: Case | None) -> Table:
    unrecorded = f", {_ms(plain.wall)} unrecorded" if plain else ""
    label = f"{CONTENDERS[case.contender].label}, {name_workload(case.workload)}"
    table = new_table(
        f"{label}: where the time goes ({_ms(case.wall)}{unrecorded})",
        ["stage", "of the wall time", "in all processes", "calls"],
    )
    for stage in STAGES:
        found = [run.stages[stage] for run in case.done if stage in run.stages]
        if found:
            calls = median(one.calls for one in found)
            times = [Spread.of(getattr(one, name) for one in found) for name in ("wall_s", "busy_s")]
            table.add_row(stage, *map(_ms, times), f"{calls:,.0f}" if calls else NOTHING)
    return table


def new_table(title: str, columns: Sequence[str]) -> Table:
    """Return a table without rows; all columns but the first are aligned to the right."""
    table = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.show_edge = table.pad_edge = False
    for number, column in enumerate(columns):
        # Only a figure with its range may be too wide, and then it goes on in the next line.
        is_wide = column.startswith("answer") or number == 1
        table.add_column(column, justify="right" if number else "left", no_wrap=not is_wide)
    return table


def _ms(found: Spread | None) -> str:
    return f"{1000 * found.median:,.1f} ms" if found else NOTHING
