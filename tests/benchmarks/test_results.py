"""Runs are kept whole, and shown in tables that fit a terminal."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from benchmarks.command import bench
from benchmarks.comparisons import COMPARISONS, MB, ONE, WORDS, Comparison
from benchmarks.contenders import CONTENDERS
from benchmarks.counters import Requests, Traffic
from benchmarks.figures import Spread, compare_medians, group_runs, name_workload
from benchmarks.machine import Context, describe_context
from benchmarks.processes import Footprint
from benchmarks.run import Run, Status, keep_other_runs, read_runs
from benchmarks.stages import STAGES, Stage
from benchmarks.tables import make_tables
from benchmarks.workloads import Workload, waits

DOCS = Path(__file__).parents[2] / "docs" / "benchmarks"
ROLES = ("broker", "results", "caller", "setup", "process-1", "process-2", "join")
CONTEXT = Context("2026-01-02T03:04:05+00:00", "python -m benchmarks memory", {"processors": 2}, {"celery": "5.7.0"})


def make_runs(comparison: Comparison, *, factor: float = 1.0) -> list[Run]:
    """A run of each case in two repetitions, with every figure that there is, all times `factor`."""
    size = int(99_900_000 * factor)
    memory = {role: Footprint(size, 2 * size, size, ((0.0, size), (0.05, 2 * size))) for role in ROLES}
    return [
        Run(
            *(comparison.name, contender, workload, repetition, Status.DONE),
            walls_s=(factor * repetition,),
            right=True,
            cpu_s=dict.fromkeys(("caller", "workers", "store", "broker", "results"), factor),
            memory=memory if comparison.watched else {},
            traffic=Traffic(size, size, int(900 * factor), 34, 0) if comparison.watched else None,
            requests=Requests({"put_obj": 900 * factor, "get_obj": 4.0}, size, size),
            context=CONTEXT,
        )
        for repetition in (1, 2)
        for contender, workload in comparison.cases
    ]


def print_tables(comparison: Comparison, runs: list[Run], *, width: int = 80) -> str:
    """The tables as text."""
    console = Console(width=width)
    with console.capture() as captured:
        for table in make_tables(comparison, runs):
            console.print(table)
    return captured.get()


@pytest.mark.parametrize("path", sorted(DOCS.glob("**/*.jsonl")), ids=lambda path: str(path.relative_to(DOCS)))
def test_published_results_are_readable_round_trip_and_fit_a_terminal(path: Path) -> None:
    """Every line of the docs gives a run that gives the line; no table is wider than 80, and no figure is cut off."""
    runs = read_runs(path)
    assert [run.to_line() for run in runs] == path.read_text().splitlines()
    text = print_tables(COMPARISONS[path.stem](quick=False), runs)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text.replace(" … ", "").replace(" …\n", "").replace(" …  ", "")
    assert all(CONTENDERS[run.contender].label in text for run in runs)


@pytest.mark.parametrize("name", list(COMPARISONS))
def test_tables_of_large_figures_fit_a_terminal(name: str) -> None:
    """With figures a thousand times as large every line still has at most 80 characters, and every case its row."""
    comparison = COMPARISONS[name](quick=False)
    runs = make_runs(comparison, factor=1234.5)
    stages = {stage: Stage(1234.5, 12345.6, 123_456) for stage in STAGES}
    runs.append(replace(runs[0], recorded=True, stages=stages))
    text = print_tables(comparison, runs)
    assert max(map(len, text.splitlines())) <= 80
    wide = print_tables(comparison, runs, width=200)
    for contender, workload in comparison.cases:
        assert f"  {CONTENDERS[contender].label}" in text
        assert name_workload(workload) in text
    # Words that a wider terminal shows are all there: nothing was cut off.
    assert sorted(text.replace("─", "").split()) == sorted(wide.replace("─", "").split())


def test_runs_survive_their_lines(tmp_path: Path) -> None:
    """`read_runs` gives the runs that were written; a line of another format is refused with the reason."""
    runs = [*make_runs(COMPARISONS["memory"](quick=True)), *make_runs(COMPARISONS["job"](quick=True))]
    runs.append(Run("job", "fanout", ONE, 1, Status.DONE, recorded=True, stages={"get": Stage(0.1, 0.2, 3)}))
    runs.append(Run("memory", "canvas", WORDS, 1, Status.STOPPED, "stopped at 8.0 GB"))
    path = tmp_path / "runs.jsonl"
    path.write_text("".join(run.to_line() + "\n" for run in runs))
    assert read_runs(path) == runs
    path.write_text(runs[0].to_line().replace('"format": 2', '"format": 1'))
    with pytest.raises(ValueError, match="another version"):
        read_runs(path)


def test_results_of_other_sizes_are_kept(tmp_path: Path) -> None:
    """A command replaces the lines of its own cases, and keeps those of other sizes and contenders."""
    path = tmp_path / "sources.jsonl"
    assert keep_other_runs(path, ()) == []
    runs = make_runs(COMPARISONS["sources"](quick=False))
    path.write_text("".join(run.to_line() + "\n" for run in runs))
    again = COMPARISONS["sources"](quick=False, sizes=[1000 * MB]).select(["lines"])
    kept = keep_other_runs(path, again.cases)
    assert {(run.contender, run.workload) for run in runs} - {(run.contender, run.workload) for run in kept} == {
        ("lines", Workload("text", size_bytes=1000 * MB))
    }
    assert [run for run in runs if run in kept] == kept


def test_thinning_keeps_the_peak() -> None:
    """Of a long series 300 samples stay, the largest among them, and none of the roles that were not asked for."""
    series = tuple((index / 20, 10**9 if index == 5_000 else index) for index in range(20_000))
    run = make_runs(COMPARISONS["memory"](quick=True))[0]
    run = replace(run, memory={**run.memory, "broker": Footprint(1, 2, 3, series)}).keep_series(["broker"])
    assert len(run.memory["broker"].series) == 300
    assert (250.0, 10**9) in run.memory["broker"].series
    assert run.memory["caller"].series == ()


def test_a_case_is_shown_as_median_and_range() -> None:
    """The runs of a case become one row with median, lowest and highest; a wrong answer shows instead."""
    comparison = COMPARISONS["wordcount"](quick=True)
    runs = [
        Run("wordcount", "fanout", WORDS, number, Status.DONE, walls_s=(wall_s,), right=True)
        for number, wall_s in enumerate([3.0, 1.0, 2.0], start=1)
    ]
    (case,) = group_runs(runs)
    assert case.wall == Spread(2.0, 1.0, 3.0)
    assert "2.00 (1.00 … 3.00)" in print_tables(comparison, runs)
    assert "WRONG" in print_tables(comparison, [replace(runs[0], right=False)])


def test_ratios_are_those_of_the_same_repetition() -> None:
    """Twice as long in every repetition is twice as slow, however much the repetitions differ."""
    upload = Workload("upload", size_bytes=1000 * MB)
    runs = [
        Run("store", name, upload, repetition, Status.DONE, walls_s=(factor * 10.0**repetition,), right=True)
        for repetition in (1, 2, 3)
        for name, factor in (("packs", 2), ("raw-obstore", 1))
    ]
    assert compare_medians(runs, "packs", ["raw-obstore"], upload) == Spread(2.0, 2.0, 2.0)
    assert compare_medians(runs, "packs", ["raw-boto3"], upload) is None
    # A run of another command, on another day, is no measure.
    apart = [replace(run, context=CONTEXT) if run.contender == "packs" else run for run in runs]
    assert compare_medians(apart, "packs", ["raw-obstore"], upload) is None
    assert "50\n" in print_tables(COMPARISONS["store"](quick=True), runs)


def test_sizes_are_compared_with_the_best_one_chosen_by_hand() -> None:
    """The measure is the fastest size of each repetition, which may be another one each time; fanout's own is none."""
    tail = Workload("tail", items=3000, threads=8)
    walls = {"fanout": (3.0, 5.0), "items-1": (8.0, 4.0), "items-16": (6.0, 10.0)}
    runs = [
        Run("tail", name, tail, repetition, Status.DONE, walls_s=(wall_s,), right=True)
        for name, walls_s in walls.items()
        for repetition, wall_s in enumerate(walls_s, start=1)
    ]
    text = print_tables(COMPARISONS["tail"](quick=True), runs)
    rows = dict(re.findall(r"^(\S+), 3,000 items on 8 threads +(.+?) *$", text, re.MULTILINE))
    assert rows == {
        "fanout": "0.88 (0.50 … 1.25)",
        "chunk_items=1": "1.17 (1.00 … 1.33)",
        "chunk_items=16": "1.75 (1.00 … 2.50)",
    }


def test_figures_are_computed_from_time_and_workload() -> None:
    """Milliseconds a chunk, MB a second, microseconds an item and the speed-up are what they say."""
    wait = Workload("wait", chunks=2, items=2)
    given = {
        "overhead": (Workload("empty", chunks=200), 1.0, "5.00"),
        "store": (Workload("upload", size_bytes=300 * MB), 2.0, "150"),
        "tiny": (Workload("digits", items=MB), 20.0, "20.00"),
        "shape": (wait, 0.5, f"{sum(waits(wait)) / 0.5:.1f}"),
        "job": (ONE, 0.0381, "38.1"),
    }
    for name, (workload, wall_s, text) in given.items():
        (case,) = group_runs([Run(name, "fanout", workload, 1, Status.DONE, walls_s=(wall_s,), right=True)])
        assert COMPARISONS[name](quick=True).figure.text(case) == text


def test_a_case_without_a_result_is_shown_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its row says how it ended, and below the table the reason is written out, brackets and all."""
    monkeypatch.setattr("benchmarks.contenders.find_spec", lambda package: None)
    missing = CONTENDERS["ray"].missing
    assert missing == "ray is not installed: pip install --group compare"
    runs = [
        Run("wordcount", "fanout", WORDS, 1, Status.DONE, walls_s=(1.0,), right=True),
        Run("wordcount", "ray", WORDS, 1, Status.SKIPPED, missing),
        Run("wordcount", "canvas", WORDS, 1, Status.STOPPED, "stopped at [8.0] GB"),
    ]
    text = " ".join(print_tables(COMPARISONS["wordcount"](quick=True), runs).split())
    assert f"Ray, 40 MB × 32 chunks: {missing}" in text
    assert "stopped at [8.0] GB" in text
    assert "Ray skipped" in text


@pytest.mark.slow
def test_results_are_drawn_again_from_their_lines(tmp_path: Path) -> None:
    """`draw` shows what the commands have left, makes the pictures of the docs, and fails if an answer was wrong."""
    names = {"memory": 3, "scale": 1, "wordcount": 1, "overhead": 1, "job": 1, "shape": 0}
    for name in names:
        runs = make_runs(COMPARISONS[name](quick=False))
        runs.append(replace(runs[0], recorded=True, stages={stage: Stage(0.1, 0.2, 3) for stage in STAGES}))
        (tmp_path / f"{name}.jsonl").write_text("".join(run.to_line() + "\n" for run in runs))
    result = CliRunner().invoke(bench, ["draw", str(tmp_path)])
    assert result.exit_code == 0, result.output
    drawn = {path.name for path in tmp_path.glob("*.png") if path.stat().st_size > 5000}
    memory = {"memory-time.png", "memory-size.png", "memory-chunks.png"}
    assert drawn == memory | {"scale.png", "wordcount.png", "overhead.png", "job.png"}
    (tmp_path / "shape.jsonl").write_text(replace(runs[0], right=False).to_line())
    result = CliRunner().invoke(bench, ["draw", str(tmp_path)])
    assert result.exit_code == 1
    assert "an answer was wrong" in result.output


def test_pictures_that_the_page_shows_are_there() -> None:
    """Each picture of the benchmarks' page is in its folder."""
    shown = re.findall(r"\((\S+\.png)\)", (DOCS / "README.md").read_text())
    assert len(shown) == 7
    assert all((DOCS / name).exists() for name in shown)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["memory", "--sizes", "1TB"], "give sizes such as 1MB,40MB or 1GB"),
        (["memory", "--chunks", "8,-1"], "give numbers such as 8,32,128"),
        (["tiny", "--contenders", "fanout,celeri"], "give names of contenders, of canvas"),
        (["scale", "--sizes", "900000GB", "--out", "{out}"], "the store needs 1,440,000.0 GB of disk"),
    ],
)
def test_nonsense_is_refused_with_the_remedy(arguments: list[str], complaint: str, tmp_path: Path) -> None:
    """Nothing is started for a wrong option, or a disk that is too small."""
    result = CliRunner().invoke(bench, [argument.format(out=tmp_path) for argument in arguments])
    assert result.exit_code != 0
    assert complaint in " ".join(result.output.split())


def test_the_context_says_how_to_repeat_a_run() -> None:
    """It has the command without the place of its results, the versions, and nothing that names the machine."""
    found = describe_context(["memory", "--out", "/some/where", "--quick"])
    assert found.command == "python -m benchmarks memory --quick"
    assert {"fanout", "celery", "ray"} <= set(found.versions)
    assert set(found.machine) == {"processors", "memory_bytes", "system", "python"}
