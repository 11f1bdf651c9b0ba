"""What is measured is kept whole, and can be shown."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.command import bench
from benchmarks.counters import Requests, Traffic
from benchmarks.machine import Context
from benchmarks.memory import pictures, table
from benchmarks.memory.cases import COMPARED, MB, Case, Variant, quick, streams, sweep
from benchmarks.memory.record import POINTS, Trial
from benchmarks.memory.summary import broker_growth, summaries, wall
from benchmarks.options import Numbers, Sizes
from benchmarks.sampler import Footprint
from benchmarks.spread import Spread
from benchmarks.status import Status
from benchmarks.text import DOCUMENT_BYTES, count_words, documents, fingerprint, serial_count

ROLES = ("broker", "caller", "setup", "process-1", "process-2", "join")
CONTEXT = Context("2026-01-02T03:04:05+00:00", "python -m benchmarks memory", {"processors": 2}, {"celery": "5.7.0"})


def sample(case: Case, *, wall_s: float = 1.5) -> Trial:
    """A trial as it might have been measured: its broker grows by the size of the input."""
    series = tuple((index / 20, 150 * MB + case.size_bytes * index // 40) for index in range(41))
    memory = {role: Footprint(150 * MB, 150 * MB + case.size_bytes, 140 * MB, series) for role in ROLES}
    traffic = Traffic(case.size_bytes * case.chunks, case.size_bytes * case.chunks, case.chunks + 2, case.chunks + 2, 0)
    requests = Requests({"put_obj": 3, "get_obj": 4}, case.size_bytes, case.size_bytes)
    return Trial(case, Status.DONE, "", wall_s, 0.5, True, memory, traffic, requests, CONTEXT)


def recorded() -> list[Trial]:
    """A whole sweep, the last sizes of bare Canvas stopped and skipped."""
    found = [sample(case) for case in sweep([MB, 40 * MB], [8, 128], repeat=2)]
    stopped = Trial(Case(Variant.CANVAS, 100 * MB, 32), Status.STOPPED, "stopped at 8.0 GB", context=CONTEXT)
    skipped = Trial(Case(Variant.CANVAS, 256 * MB, 32), Status.SKIPPED, "not run: stopped at a smaller size")
    return [*found, stopped, skipped]


def printed(trials: list[Trial], make: object) -> str:
    """A table as text."""
    from rich.console import Console

    assert callable(make)
    console = Console(file=io.StringIO(), width=200)
    console.print(make(trials))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def test_documents_have_the_size_asked_for() -> None:
    """The input has the size that was asked for, the same text each time, and a string of its own for each document."""
    texts = list(documents(MB))
    assert sum(map(len, texts)) == MB
    assert texts == list(documents(MB))
    assert len({id(text) for text in texts}) == MB // DOCUMENT_BYTES


@pytest.mark.parametrize("size_bytes", [1, 5 * DOCUMENT_BYTES, 33 * DOCUMENT_BYTES])
def test_serial_count_is_the_sum_over_all_documents(size_bytes: int) -> None:
    """Counting each block once gives what counting every document gives."""
    total = sum((count_words(text) for text in documents(size_bytes)), start=count_words(""))
    assert serial_count(size_bytes) == total
    assert fingerprint(serial_count(size_bytes)) == fingerprint(dict(reversed(total.items())))


@pytest.mark.parametrize("trial", recorded()[-3:])
def test_trial_round_trips(trial: Trial) -> None:
    """A trial that is written as a line and read again is the same, whether it ended well or not."""
    assert Trial.from_line(trial.to_line()) == trial


def test_unknown_format_is_refused() -> None:
    """A line of another format is refused instead of guessed at."""
    with pytest.raises(ValueError, match="format"):
        Trial.from_line(sample(Case(Variant.FANOUT, MB, 4)).to_line().replace('"format": 1', '"format": 2'))


def test_thinning_keeps_the_peak() -> None:
    """Of a long series 300 samples stay, the largest among them, and none of the roles that were not asked for."""
    trial = sample(Case(Variant.FANOUT, MB, 4))
    series = tuple((index / 20, 10**9 if index == 5_000 else index) for index in range(20_000))
    trial = replace(trial, memory={**trial.memory, "broker": Footprint(1, 2, 3, series)})
    thinned = trial.thinned(["broker"])
    assert len(thinned.memory["broker"].series) == POINTS
    assert (250.0, 10**9) in thinned.memory["broker"].series
    assert thinned.memory["caller"].series == ()


def test_summary_is_the_median_and_the_range() -> None:
    """Repeated trials of a case become one line with median, lowest and highest."""
    case = Case(Variant.FANOUT, MB, 4)
    trials = [sample(replace(case, repeat=turn), wall_s=wall_s) for turn, wall_s in enumerate([3.0, 1.0, 2.0], start=1)]
    (only,) = summaries(trials)
    assert only.of(wall) == Spread(2.0, 1.0, 3.0)
    assert only.of(broker_growth) == Spread(MB, MB, MB)
    assert only.right


def test_variants_take_turns_and_no_case_is_run_twice() -> None:
    """The variants follow each other at each point, and a point of both sweeps is run once a turn."""
    cases = sweep([10 * MB], [8, 32], repeat=2)
    assert [case.variant for case in cases[: len(COMPARED)]] == list(COMPARED)
    assert len(cases) == len(set(cases)) == 2 * 2 * len(COMPARED)
    assert {case.chunks for case in quick()} == {8, 32, 128}


def test_chunks_of_a_stream_keep_their_size() -> None:
    """Ten times the input has ten times the chunks, of the same number of documents."""
    one, ten = (next(case for case in streams([size], chunks=256)) for size in (1000 * MB, 10_000 * MB))
    assert (one.chunks, ten.chunks) == (256, 2560)
    assert (one.chunk_items, one.document_bytes) == (ten.chunk_items, ten.document_bytes) == (4, 976_562)


def test_case_is_named_and_parsed() -> None:
    """A case is found again by its name, dashes in the variant's included."""
    case = Case(Variant.STREAM_CALLER, 1000 * MB, 256, 2, 1000)
    assert Case.parsed(case.name, document_bytes=1000) == case


def test_tables_show_results_and_stops() -> None:
    """The tables name every variant, the figures with their units, and why a case has none."""
    text = printed(recorded(), table.costs)
    for word in ("canvas", "presliced", "fanout", "40.0 MB", "stopped at 8.0 GB", "not run: stopped at a smaller size"):
        assert word in text
    assert "190.0 MB" in printed(recorded(), table.footprints)
    streamed = [sample(case) for case in streams([100 * MB, 1000 * MB], chunks=256)]
    assert "1.0 GB" in printed(streamed, table.streams)


def test_pictures_are_drawn(tmp_path: Path) -> None:
    """Each picture is there as PNG and as SVG, and drawing the same results again gives the same SVG."""
    paths = pictures.memory(recorded(), tmp_path)
    paths += pictures.scale([sample(case) for case in streams([100 * MB, 1000 * MB], chunks=256)], tmp_path)
    names = {path.name for path in paths}
    assert names == {
        f"{name}.{kind}" for name in ("memory-time", "memory-size", "memory-chunks", "scale") for kind in ("png", "svg")
    }
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in paths if path.suffix == ".png")
    drawn = (tmp_path / "memory-size.svg").read_bytes()
    pictures.memory(recorded(), tmp_path)
    assert (tmp_path / "memory-size.svg").read_bytes() == drawn


def test_results_are_drawn_again_from_their_lines(tmp_path: Path) -> None:
    """`python -m benchmarks draw` shows what `python -m benchmarks memory` has left."""
    (tmp_path / "memory.jsonl").write_text("".join(trial.to_line() + "\n" for trial in recorded()))
    result = CliRunner().invoke(bench, ["draw", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "memory-time.png" in result.output


def test_missing_packages_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without matplotlib the command says what is missing, and how to get it."""
    monkeypatch.setattr("benchmarks.options.NEEDED", ("matplotlib_that_is_not_there",))
    result = CliRunner().invoke(bench, ["memory", "--quick"])
    assert result.exit_code == 1
    assert "matplotlib_that_is_not_there not installed: pip install --group bench" in result.output


def test_a_disk_that_is_too_small_is_named_with_the_remedy(tmp_path: Path) -> None:
    """Before anything is started, `scale` says how much room its store needs, and where."""
    result = CliRunner().invoke(bench, ["scale", "--sizes", "900000GB", "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert re.search(r"the store needs 1440000.0 GB of disk, and .* has .*: set TMPDIR", result.output)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("1,10,40MB", [MB, 10 * MB, 40 * MB]), ("1GB,100MB", [100 * MB, 1000 * MB]), ("0.5GB", [500 * MB])],
)
def test_sizes_are_read(text: str, sizes: list[int]) -> None:
    """Sizes have units, MB if none is given, and come in ascending order."""
    assert Sizes("MB").convert(text, None, None) == sizes


@pytest.mark.parametrize("text", ["", "x", "-1MB", "1TB", "0"])
def test_nonsense_is_refused(text: str) -> None:
    """What is no size or number is refused with an example."""
    import click

    with pytest.raises(click.BadParameter, match="such as"):
        Sizes("MB").convert(text, None, None)
    with pytest.raises(click.BadParameter, match="such as"):
        Numbers().convert(text, None, None)
