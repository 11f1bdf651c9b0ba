"""Races: what is run, what is kept of it, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.command import bench
from benchmarks.race import command, figures, pictures, table
from benchmarks.race.engines import opened
from benchmarks.race.entries import ENTRIES
from benchmarks.race.lap import Lap, Stage, read, standings
from benchmarks.race.races import ONE, RACES, WORDS, Race
from benchmarks.race.spans import STAGES
from benchmarks.race.works import WORKS, Load, cut
from benchmarks.status import Status
from fanout.report import format_size


def laps_of(race: Race, *, turns: int = 2) -> list[Lap]:
    """A finished lap of each entry and load in each turn; the n-th entry takes n seconds, a tenth more each turn."""
    return [
        Lap(
            race.name,
            entry,
            course.load,
            turn,
            Status.DONE,
            walls_s=(place * (1 + turn / 10),) * course.times,
            right=True,
            cpu_s={"caller": 0.1, "workers": 0.5, "store": 0.2},
            requests={"put_obj": 3, "get_obj": 4},
        )
        for turn in range(1, turns + 1)
        for place, entry in enumerate(race.entries, start=1)
        for course in race.courses
    ]


def shown(made: Iterable[object]) -> str:
    """Tables as text."""
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as captured:
        for one in made:
            console.print(one)
    return captured.get()


@pytest.mark.parametrize("name", list(WORKS))
def test_a_work_done_in_parts_gives_what_is_expected(name: str) -> None:
    """For every work: the total over parts, whatever their number, is the one found without doing the work."""
    work = WORKS[name]
    load = work.tiny if name != "wait" else Load("wait", chunks=3, items=3)
    whole = work.whole(load)
    chunks = [load.chunks] if name == "empty" else [1, 2, load.chunks, len(whole)]
    for number in chunks:
        assert work.total(map(work.step, cut(whole, number))) == work.expected(load)
    if work.item is not None:
        assert work.total(map(work.item, whole)) == work.expected(load)


@pytest.mark.parametrize("items", [0, 1, 7, 64])
@pytest.mark.parametrize("chunks", [1, 2, 7])
def test_parts_rejoin(items: int, chunks: int) -> None:
    """Parts have all items in order, and differ in length by at most one."""
    parts = cut(range(items), chunks)
    assert [*chain(*parts)] == [*range(items)]
    assert len(parts) == chunks
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("name", ["serial", "pool", "threads"])
@pytest.mark.parametrize("work", ["words", "digits"])
def test_engines_of_this_machine_do_the_work(name: str, work: str) -> None:
    """Plain Python, processes and threads give the expected answer, again and again."""
    load = WORKS[work].tiny
    with opened(ENTRIES[name]) as engine:
        run = engine(load)
        assert [run(30), run(30)] == [WORKS[work].expected(load)] * 2


@pytest.mark.parametrize("name", list(RACES))
@pytest.mark.parametrize("quick", [True, False])
def test_races_name_entries_and_works_that_there_are(name: str, quick: bool) -> None:
    """Each race can be run: its entries and works are known, and quick means less."""
    race = RACES[name](quick=quick)
    assert race.name == name
    assert set(race.entries) <= set(ENTRIES)
    assert {course.load.work for course in race.courses} <= {*WORKS, "upload", "download"}
    assert sum(course.load.size for course in RACES[name](quick=True).courses) <= sum(
        course.load.size for course in race.courses
    )


def test_laps_survive_their_lines(tmp_path: Path) -> None:
    """`read` gives the laps that were written; a line of another format is refused with the reason."""
    kept = laps_of(RACES["job"](quick=True))
    kept.append(Lap("job", "fanout", ONE, 1, Status.DONE, recorded=True, stages={"get": Stage(0.1, 0.2, 3)}))
    path = tmp_path / "job.jsonl"
    path.write_text("".join(lap.to_line() + "\n" for lap in kept))
    assert read(path) == kept
    path.write_text(kept[0].to_line().replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match="made by another fanout"):
        read(path)


def test_ratios_are_those_of_the_same_turn() -> None:
    """An entry that takes twice as long as another in every turn is twice as slow, however much the turns differ."""
    load = Load("upload", size_bytes=1000)
    laps = [
        Lap("store", entry, load, turn, Status.DONE, walls_s=(factor * 10.0**turn,), right=True)
        for turn in (1, 2, 3)
        for entry, factor in (("packs", 2), ("raw-obstore", 1))
    ]
    ratio = figures.ratios(laps, "packs", "raw-obstore", load)
    assert ratio is not None
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 2.0, 2.0)
    assert "50 %" in shown(table.results("store", laps))
    assert figures.ratios(laps, "packs", "raw-boto3", load) is None


@pytest.mark.parametrize("name", list(RACES))
def test_each_race_is_shown_and_drawn(name: str, tmp_path: Path) -> None:
    """Every entry has its row, the figure with its spread, and the picture comes as PNG and SVG."""
    race = RACES[name](quick=True)
    laps = laps_of(race)
    if name == "job":
        stages = {stage: Stage(0.1 * place, 0.2, 3) for place, stage in enumerate(STAGES)}
        laps += [
            Lap(name, entry, load, 1, Status.DONE, walls_s=(2.0,), right=True, recorded=True, stages=stages)
            for entry in race.entries
            for load in (ONE, WORDS)
        ]
    text = shown(table.results(name, laps))
    assert all(ENTRIES[entry].label in text for entry in race.entries)
    assert " … " in text
    assert "7" in text
    drawn = pictures.draw(name, laps, tmp_path)
    assert [path.name for path in drawn] == [f"{name}.png", f"{name}.svg"]
    assert all(path.stat().st_size > 5000 for path in drawn)


def test_who_did_not_run_is_shown_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry without a result keeps its row in table and picture, and says why and, brackets and all, the remedy."""
    monkeypatch.setattr("benchmarks.race.entries.find_spec", lambda package: None)
    laps = laps_of(RACES["wordcount"](quick=True).only(("fanout", "serial")))
    missing = [
        Lap("wordcount", name, WORDS, 1, Status.SKIPPED, ENTRIES[name].missing) for name in ("ray", "dask", "lithops")
    ]
    laps += missing
    text = shown(table.results("wordcount", laps))
    for lap in missing:
        assert lap.reason.endswith("is not installed: pip install --group compare")
        assert lap.reason in text
        assert lap.reason in shown([command._told("wordcount", lap)])
    svg = next(path for path in pictures.draw("wordcount", laps, tmp_path) if path.suffix == ".svg")
    assert "Ray" in svg.read_text()


def test_figures_are_computed_from_time_and_load() -> None:
    """Milliseconds a chunk, MB a second and microseconds an item are what they say; a wrong answer shows."""
    laps = [
        Lap("overhead", "fanout", Load("empty", chunks=200), 1, Status.DONE, walls_s=(1.0,), right=False),
        Lap("store", "packs", Load("upload", size_bytes=300_000_000), 1, Status.DONE, walls_s=(2.0,), right=True),
        Lap("tiny", "fanout", Load("digits", items=1_000_000), 1, Status.DONE, walls_s=(20.0,), right=True),
        Lap("shape", "fanout", Load("wait", chunks=4, items=4), 1, Status.DONE, walls_s=(1.0,), right=True),
    ]
    texts = [figures.FIGURES[lap.race].median_text(standings([lap])[0]) for lap in laps]
    assert texts[:3] == ["5.00 ms", "150 MB/s", "20.00 µs"]
    waits = WORKS["wait"].whole(laps[3].load)
    assert texts[3] == f"{sum(waits):.1f} ×"
    assert "NO" in shown(table.results("overhead", laps[:1]))


def test_results_of_races_are_drawn_again_from_their_lines(tmp_path: Path) -> None:
    """`python -m benchmarks draw` shows what a race has left, and fails if an answer was wrong."""
    laps = laps_of(RACES["shape"](quick=True))
    (tmp_path / "shape.jsonl").write_text("".join(lap.to_line() + "\n" for lap in laps))
    result = CliRunner().invoke(bench, ["draw", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "shape.png" in result.output
    line = laps[0].to_line().replace('"right": true', '"right": false')
    (tmp_path / "shape.jsonl").write_text(line + "\n")
    result = CliRunner().invoke(bench, ["draw", str(tmp_path)])
    assert result.exit_code == 1
    assert "an answer was wrong" in result.output


def test_entries_are_chosen_by_name() -> None:
    """`--entries` takes names, and refuses an unknown one with those that there are."""
    assert RACES["tiny"](quick=True).only(("fanout",)).entries == ("fanout",)
    result = CliRunner().invoke(bench, ["tiny", "--entries", "fanout,celeri"])
    assert result.exit_code == 2
    assert "no such entry: celeri" in result.output
    assert "streamed" in result.output


def test_loads_have_names() -> None:
    """What a load is can be read."""
    assert table.named(WORDS) == f"words {format_size(40_000_000).replace('.0 ', ' ')} × 32 chunks"
    assert table.named(ONE) == "empty 1 chunk"
    assert table.named(Load("digits", items=1_000_000)) == "digits 1,000,000 items"
