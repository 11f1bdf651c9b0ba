"""Results as pictures, PNG and SVG, for a README."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fanout.report import format_size

from .. import chart
from ..chart import Line
from ..spread import Spread
from . import summary as figures
from .cases import CHUNKS_SIZE, COMPARED, SIZES_CHUNKS, Variant
from .record import Trial
from .summary import Summary, summaries

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which colour-blind people can tell apart; each variant has a marker too.
COLOURS = {
    Variant.CANVAS: "#D55E00",
    Variant.PRESLICED: "#B07AA1",
    Variant.FANOUT: "#0072B2",
    Variant.STREAMED: "#009E73",
    Variant.HERE: "#E69F00",
}
MARKERS = {
    Variant.CANVAS: "o",
    Variant.PRESLICED: "s",
    Variant.FANOUT: "D",
    Variant.STREAMED: "^",
    Variant.HERE: "v",
}
LABELS = {
    Variant.CANVAS: "bare Canvas",
    Variant.PRESLICED: "Canvas, sliced by hand",
    Variant.FANOUT: "fanout",
    Variant.STREAMED: "fanout, streamed",
    Variant.HERE: "fanout, set up by the caller",
}
ROLES = [
    ("caller", "#D55E00", "o", ("caller",)),
    ("setup", "#009E73", "^", ("setup",)),
    ("process", "#B07AA1", "s", ("process-1", "process-2")),
    ("join", "#0072B2", "D", ("join",)),
]
FAVOURITE_BYTES = 40_000_000
MB = 1e6


def memory(trials: Sequence[Trial], out: Path) -> list[Path]:
    """Draw what the results suffice for: memory over time, peak against size, bytes against chunks."""
    found = summaries(trials)
    paths: list[Path] = []
    pair = _pair(found)
    if pair is not None:
        paths += _drawn(out / "memory-time", lambda axes: _over_time(axes, *pair))
    if any(len(figures.sizes_at(found, variant, chunks=SIZES_CHUNKS)) > 1 for variant in COMPARED):
        paths += _drawn(out / "memory-size", lambda axes: _against_size(axes, found))
    if any(len(figures.chunks_at(found, variant, size_bytes=CHUNKS_SIZE)) > 1 for variant in COMPARED):
        paths += _drawn(out / "memory-chunks", lambda axes: _against_chunks(axes, found))
    return paths


def scale(trials: Sequence[Trial], out: Path) -> list[Path]:
    """Draw the peak memory of each role against the size of the input."""
    found = [one for one in summaries(trials) if one.done]
    variants = list(dict.fromkeys(one.variant for one in found))
    if not variants:
        return []
    with chart.figure(columns=len(variants)) as figure:
        both = figure.subplots(1, len(variants), sharey=True, squeeze=False)[0]
        drawn = []
        for variant, axes in zip(variants, both, strict=True):
            drawn.append((axes, _roles_against_size(axes, [one for one in found if one.variant is variant])))
            where = "the caller, which streams" if variant is Variant.STREAM_CALLER else "a worker"
            axes.set_title(f"setup in {where}")
        both[0].set_ylim(bottom=0)
        both[0].set_ylabel("peak resident memory, MB")
        for axes, lines in drawn:
            chart.name_lines(axes, lines)
        return chart.saved(figure, out / "scale")


def _pair(found: Sequence[Summary]) -> tuple[Summary, Summary] | None:
    """Canvas and fanout on the same input: 40 MB if there is, else the largest."""
    canvas, with_fanout = (
        {one.size_bytes: one for one in figures.sizes_at(found, variant, chunks=SIZES_CHUNKS) if _series(one)}
        for variant in (Variant.CANVAS, Variant.FANOUT)
    )
    sizes = sorted(set(canvas) & set(with_fanout), key=lambda size: (size == FAVOURITE_BYTES, size))
    return (canvas[sizes[-1]], with_fanout[sizes[-1]]) if sizes else None


def _over_time(axes: Axes, *pair: Summary) -> None:
    end_s = 0.0
    for one in pair:
        series = _series(one)
        times, sizes = [at_s for at_s, _ in series], [size / MB for _, size in series]
        colour = COLOURS[one.variant]
        axes.plot(times, sizes, color=colour, linewidth=2.2)
        axes.fill_between(times, sizes, color=colour, alpha=0.10, linewidth=0)
        end_s = max(end_s, times[-1])
    canvas, with_fanout = pair
    top_s, top = max(_series(canvas), key=lambda sample: sample[1])
    axes.set_ylim(0, top / MB * 1.16)
    axes.set_xlim(0, end_s)
    axes.annotate(
        f"bare Canvas: + {_growth(canvas) / MB:,.0f} MB, answer after {_wall(canvas)}",
        (top_s, top / MB),
        xytext=(0, 8),
        textcoords="offset points",
        ha="right" if top_s > end_s / 2 else "left",
        color=COLOURS[Variant.CANVAS],
        weight="bold",
    )
    # Sampling goes on for a moment after the answer.
    answered_s = _middle(with_fanout).wall_s or 0.0
    answered = max(sample for sample in _series(with_fanout) if sample[0] <= answered_s)[1]
    axes.plot([answered_s], [answered / MB], "o", color=COLOURS[Variant.FANOUT], markersize=6)
    axes.annotate(
        f"fanout: + {_growth(with_fanout) / MB:,.1f} MB, answer after {_wall(with_fanout)}",
        (answered_s, answered / MB),
        xytext=(9, 5),
        textcoords="offset points",
        color=COLOURS[Variant.FANOUT],
        weight="bold",
    )
    axes.set_title(f"RabbitMQ, counting the words of {_round(canvas.size_bytes)} in {canvas.chunks} chunks")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("seconds since the call")
    axes.set_ylabel("resident memory, MB")


def _against_size(axes: Axes, found: Sequence[Summary]) -> None:
    swept = {variant: figures.sizes_at(found, variant, chunks=SIZES_CHUNKS) for variant in COMPARED}
    lines = [_line(variant, points, lambda one: one.size_bytes, _broker_peak) for variant, points in swept.items()]
    chart.draw_lines(axes, lines)
    _log_axes(axes, lines, lambda size: f"{size / MB:,.0f}")
    before = [value for one in found for trial in one.done if (value := figures.broker_before(trial)) is not None]
    if before:
        chart.reference(axes, min(before) / MB, "RabbitMQ with nothing to do")
        axes.set_ylim(bottom=min(before) / MB * 0.6)
    stopped = [
        f"{LABELS[one.variant]}, {_round(one.size_bytes)}: {one.remark}"
        for one in found
        if one.chunks == SIZES_CHUNKS and one.remark.startswith("stopped")
    ]
    axes.annotate(
        "\n".join(stopped), (0.02, 0.98), xycoords="axes fraction", ha="left", va="top", color=chart.FAINT, fontsize=11
    )
    axes.set_title(f"Peak memory of RabbitMQ, {SIZES_CHUNKS} chunks")
    axes.set_xlabel("size of the input, MB")
    axes.set_ylabel("peak resident memory, MB")
    chart.name_lines(axes, lines)


def _against_chunks(axes: Axes, found: Sequence[Summary]) -> None:
    lines = [
        _line(
            variant,
            figures.chunks_at(found, variant, size_bytes=CHUNKS_SIZE),
            lambda one: one.chunks,
            figures.published,
        )
        for variant in COMPARED
    ]
    chart.draw_lines(axes, lines)
    _log_axes(axes, lines, lambda chunks: f"{chunks:,.0f}")
    chart.reference(axes, CHUNKS_SIZE / MB, "size of the input")
    axes.set_title(f"Bytes published to RabbitMQ, {_round(CHUNKS_SIZE)} of input")
    axes.set_xlabel("number of chunks")
    axes.set_ylabel("published, MB")
    chart.name_lines(axes, lines)


def _roles_against_size(axes: Axes, found: Sequence[Summary]) -> list[Line]:
    found = sorted(found, key=lambda one: one.size_bytes)
    lines = []
    for label, colour, marker, roles in ROLES:
        spreads = [(float(one.size_bytes), spread) for one in found if (spread := one.of(figures.peak(*roles)))]
        lines.append(Line(label, colour, marker, [(at, _in_mb(spread)) for at, spread in spreads]))
    chart.draw_lines(axes, lines)
    chart.log_x(axes, {float(one.size_bytes): _round(one.size_bytes) for one in found})
    axes.set_xlabel("size of the input")
    return lines


def _line(
    variant: Variant,
    found: Sequence[Summary],
    x: Callable[[Summary], float],
    figure: Callable[[Trial], float | None],
) -> Line:
    """A variant's figures, which are bytes, in MB."""
    points = [(x(one), _in_mb(spread)) for one in found if (spread := one.of(figure)) is not None]
    return Line(LABELS[variant], COLOURS[variant], MARKERS[variant], points)


def _log_axes(axes: Axes, lines: Sequence[Line], tick: Callable[[float], str]) -> None:
    chart.log_x(axes, {at: tick(at) for at in sorted({at for line in lines for at, _ in line.points})})
    chart.log_y(axes)


def _in_mb(spread: Spread) -> Spread:
    return spread.mapped(lambda size: size / MB)


def _broker_peak(trial: Trial) -> float | None:
    return trial.memory["broker"].peak_bytes if "broker" in trial.memory else None


def _series(one: Summary) -> tuple[tuple[float, int], ...]:
    """The broker's memory over time in the middle trial."""
    memory = _middle(one).memory
    return memory["broker"].series if "broker" in memory else ()


def _middle(one: Summary) -> Trial:
    """The trial whose wall time is the middle one."""
    return sorted(one.done, key=lambda trial: trial.wall_s or 0.0)[len(one.done) // 2]


def _growth(one: Summary) -> float:
    """By how many bytes the broker grew, as the table has it."""
    spread = one.of(figures.broker_growth)
    return spread.median if spread else 0.0


def _round(size_bytes: int) -> str:
    """A size without a needless decimal."""
    return format_size(size_bytes).replace(".0 ", " ")


def _wall(one: Summary) -> str:
    spread = one.of(figures.wall)
    return f"{spread.median:.1f} s" if spread else "?"


def _drawn(path: Path, draw: Callable[[Axes], None]) -> list[Path]:
    with chart.figure() as figure:
        draw(figure.subplots())
        return chart.saved(figure, path)
