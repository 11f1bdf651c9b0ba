"""Advice in words: rules over the figures of a report, each with the figure that it rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..figures import format_duration, format_share, format_size

if TYPE_CHECKING:
    from .report import Report

FAIR_SHARE: Final = 0.3
"""Share of the time from which a part of the job is worth a change."""

STRAGGLING_SHARE: Final = 0.1
"""Share of the work in stragglers, or of the time of process in the longest, from which they are worth a change."""

LARGE_BYTES: Final = 2e9
"""Memory of a process from which it is worth a remark."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to change.

    Attributes:
        rule: Name of the rule, which stays the same from job to job.
        figure: The figure that it rests on, in words.
        remedy: The change.
    """

    rule: str
    figure: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.figure}. {self.remedy}"


def find_advice(report: Report) -> list[Advice]:
    """Return the advice that the figures of a job give rise to, the most important first."""
    return [advice for rule in RULES for advice in rule(report)]


def _advise_failure(report: Report) -> Iterator[Advice]:
    failure = report.failure
    if failure is not None and report.state == "failed":
        where = f" of chunk {failure.chunk:,}" if failure.chunk is not None else ""
        yield Advice(
            "failure",
            f"{failure.step}{where} ended the job: {failure.error}: {failure.reason[:200]}",
            "Repair it and run `fanout jobs retry`: all good results stay.",
        )


def _advise_failed_items(report: Report) -> Iterator[Advice]:
    failed, first = report.progress.items_failed, next(iter(report.failed_items), None)
    if failed and first is not None and report.failure is None:
        yield Advice(
            "failed-items",
            f"{failed:,} of {report.progress.items or 0:,} items failed, the first with {first.error}: {first.reason}",
            "Repair the cause and run `fanout jobs retry`, which runs their chunks again.",
        )


def _advise_attempts(report: Report) -> Iterator[Advice]:
    attempts = report.recorded.attempts
    lost = attempts.by_state()["lost"]
    if lost:
        peak = max((worker.peak_bytes for worker in report.workers), default=0)
        yield Advice(
            "lost-workers",
            f"{lost:,} attempts were lost with their workers, and a process took up to {format_size(peak)}",
            "Look whether the kernel killed them for memory; make chunks smaller (chunk_items, chunk_bytes) if so.",
        )
    raised = attempts.by_error()
    if raised and report.failure is None:
        error, count = raised.most_common(1)[0]
        yield Advice(
            "raised",
            f"{attempts.count:,} attempts of {attempts.retried_chunks:,} chunks gave no result, "
            f"{count:,} of them with {error}",
            "They ran again and cost their time twice: see the tracebacks.",
        )


def _advise_stragglers(report: Report) -> Iterator[Advice]:
    stragglers, chunks = report.stragglers, len(report.spans)
    share = sum(one.took_s for one in stragglers) / report.work_s if report.work_s else 0.0
    if not stragglers or len(stragglers) > max(1, chunks // 10):
        return
    longest = stragglers[0]
    if share < STRAGGLING_SHARE and longest.took_s < STRAGGLING_SHARE * report.process_s:
        return
    figure = (
        f"{format_share(share)} of the time in {len(stragglers):,} of {chunks:,} chunks; chunk {longest.chunk:,} took "
        f"{format_duration(longest.took_s)}, {longest.times:,.0f} times the median"
    )
    remedy = "Cut these items into smaller ones in setup, or yield them first, so that they run beside the others."
    yield Advice("stragglers", figure, remedy)


def _advise_tail(report: Report) -> Iterator[Advice]:
    lanes = len(report.lanes)
    if report.stragglers and report.stragglers[0].took_s > report.tail_s / 2:
        return
    if lanes > 1 and report.tail_s > FAIR_SHARE * report.process_s:
        yield Advice(
            "tail",
            f"half of {lanes:,} workers were done {format_duration(report.tail_s)} before the last one, "
            f"{format_share(report.tail_s / report.process_s)} of the time of process",
            "Smaller chunks spread better: lower chunk_items, or leave it to fanout. Yield long items first.",
        )


def _advise_few_chunks(report: Report) -> Iterator[Advice]:
    items, chunks, lanes = report.progress.items or 0, len(report.spans), len(report.lanes)
    if lanes > 1 and chunks < 3 * lanes and items > chunks and report.process_s > 1:
        yield Advice(
            "few-chunks",
            f"{chunks:,} chunks of {items:,} items for {lanes:,} workers",
            "Lower chunk_items: several chunks for each worker balance uneven items.",
        )


def _advise_overhead(report: Report) -> Iterator[Advice]:
    busy_s = report.work_s + report.fetched_s + report.stored_s
    moved_s = report.fetched_s + report.stored_s
    if busy_s < 1 or moved_s < FAIR_SHARE * busy_s:
        return
    figure = (
        f"workers spent {format_share(moved_s / busy_s)} of their time on data: {format_duration(report.fetched_s)} "
        f"fetching and {format_duration(report.stored_s)} writing, for {format_duration(report.work_s)} of work"
    )
    if report.median_s < 0.05:
        remedy = "Raise chunk_items: a chunk of more work makes as many requests as a short one."
    elif report.fetched_s > report.stored_s:
        remedy = "Send less with each item: name data in place (sources), or compress it (compression)."
    else:
        remedy = "Return less from each item: write rows in place (sinks), or compress them (compression)."
    yield Advice("data", figure, remedy)


def _advise_step(
    step: str, remedy: str, took: Callable[[Report], float | None]
) -> Callable[[Report], Iterator[Advice]]:
    def advise(report: Report) -> Iterator[Advice]:
        took_s = took(report)
        if took_s is not None and report.wall_s > 1 and took_s > FAIR_SHARE * report.wall_s:
            share = format_share(took_s / report.wall_s)
            yield Advice(step, f"{step} took {format_duration(took_s)}, {share} of the job's time", remedy)

    return advise


def _setup_alone_s(report: Report) -> float | None:
    """Return the seconds of setup before the first chunk began; None without either."""
    setup, runs = report.recorded.setup, report.runs
    if setup is None or setup.ended_at < report.began_at:
        return None
    first_at = min((run.started_at for run in runs), default=setup.ended_at)
    return min(first_at, setup.ended_at) - setup.started_at


def _path_share_s(report: Report, name: str) -> float:
    return sum(segment.took_s for segment in report.critical_path if segment.name == name)


def _advise_memory(report: Report) -> Iterator[Advice]:
    for step, remedy in (
        ("process", "Make chunks smaller: lower chunk_items or chunk_bytes."),
        ("join", "Give the task a combine, so that join receives at most 32 values, or read the results lazily."),
        ("setup", "Let setup yield items instead of returning a list, and name data in place (sources)."),
    ):
        peaks = [worker.peak_bytes for worker in report.workers if step in worker.steps]
        if peaks and max(peaks) > LARGE_BYTES:
            yield Advice("memory", f"a process that ran {step} took {format_size(max(peaks))}", remedy)
            return


def _advise_resends(report: Report) -> Iterator[Advice]:
    if report.recorded.resends:
        yield Advice(
            "resends",
            f"sweeps sent messages of this job again {report.recorded.resends:,} times",
            "Messages or workers were lost, or the queue was longer than stall_s: run `fanout doctor`.",
        )


RULES: Final = (
    _advise_failure,
    _advise_failed_items,
    _advise_attempts,
    _advise_stragglers,
    _advise_tail,
    _advise_few_chunks,
    _advise_overhead,
    _advise_step(
        "setup",
        "Let setup yield items as it finds them: workers begin with the first pack.",
        _setup_alone_s,
    ),
    _advise_step(
        "join",
        "Give the task a combine, which workers run on the way, or let join do less.",
        lambda report: _path_share_s(report, "join"),
    ),
    _advise_step(
        "queue of setup",
        "The job waited for a worker of setup's queue: add workers, or give setup a queue of its own.",
        lambda report: _path_share_s(report, "queue of setup"),
    ),
    _advise_step(
        "queue",
        "Chunks waited for a worker: add workers, or raise the priority of the job.",
        lambda report: _path_share_s(report, "queue"),
    ),
    _advise_memory,
    _advise_resends,
)
