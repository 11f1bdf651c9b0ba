"""The command `python -m tests.storm.reuse`: one job id, reused many times with another input each time.

Launches of a fresh id and of the reused id alternate. The command checks each value and compares the durations.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from celery import Celery

from fanout import Job, JobFailed, attach
from tests.integration.cluster import running_cluster

from .factors import POISON, CombinedTask, FactorTask, TolerantTask
from .site import Servers

WAIT_S = 30.0
MAX_SLOWER_S = 0.05
"""A reused id may take this much longer than a fresh one, at the median."""

WORKER_ARGS = ("--without-gossip", "--without-mingle", "--include", "tests.storm.factors")

Remove = Callable[[str], object]


def _choose_numbers(use: int) -> list[int]:
    """Return another input, with another number of chunks, for each use."""
    return list(range(use, use + 4 + use % 5))


def _expect_products(use: int) -> list[Any]:
    return [use, *([use, number * use] for number in _choose_numbers(use))]


def _submit(job_id: str, use: int, **options: Any) -> Job:
    return FactorTask.submit({"numbers": _choose_numbers(use), "factor": use}, job_id=job_id, **options)


def _stream(job_id: str, use: int) -> Job:
    return FactorTask.submit({"numbers": iter(_choose_numbers(use)), "factor": use}, job_id=job_id)


def _sign(job_id: str, use: int) -> Job:
    job: Job = FactorTask.signature({"numbers": _choose_numbers(use), "factor": use}).set(task_id=job_id)()
    return job


def _launch_with_celery(job_id: str, use: int) -> Any:
    """Launch the job and return Celery's `AsyncResult`."""
    return FactorTask.signature({"numbers": _choose_numbers(use), "factor": use}).apply_async(task_id=job_id)


def _submit_tolerant(job_id: str, use: int) -> Job:
    return TolerantTask.submit({"numbers": [*_choose_numbers(use), POISON], "factor": use}, job_id=job_id)


def _expect_tolerant(use: int) -> list[Any]:
    return [use, [number * use for number in _choose_numbers(use)], 1]


def _submit_combined(job_id: str, use: int) -> Job:
    return CombinedTask.submit({"numbers": list(range(40)), "factor": use}, job_id=job_id)


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to reuse an id.

    Attributes:
        title: Description.
        launch: Launches the job of a use under an id.
        expected: Returns the expected value of a use.
        fails_first: Whether a failing submission under the same id comes before.
        elsewhere: Whether another process removes the job.
    """

    title: str
    launch: Callable[[str, int], Any] = _submit
    expected: Callable[[int], Any] = _expect_products
    fails_first: bool = False
    elsewhere: bool = False


VARIANTS: dict[str, Variant] = {
    "plain": Variant("submitted, received and removed by one caller"),
    "elsewhere": Variant("removed by `attach(id).remove()` in another process", elsewhere=True),
    "failed": Variant("a first submission fails, and is removed", fails_first=True),
    "tolerate": Variant(
        "some items fail",
        _submit_tolerant,
        lambda use: [use, [n * use for n in _choose_numbers(use)], 1],
    ),
    "combine": Variant("combined in a tree", _submit_combined, lambda use: [use, use * sum(range(40))]),
    "signature": Variant("launched by a signature with `.set(task_id=…)`", _sign),
    "result": Variant("received from Celery's `AsyncResult`", _launch_with_celery),
    "stream": Variant("a stream as the input", _stream),
    "here": Variant(
        "set up by the caller (`setup_in_caller`)",
        lambda job_id, use: _submit(job_id, use, setup_in_caller=True),
    ),
}


@dataclass(slots=True)
class Row:
    """The results of a variant.

    Attributes:
        name: The variant's name.
        wrong: A line for each wrong value.
        fresh_s: Durations of the fresh ids.
        reused_s: Durations of the reused id, without its first use.
    """

    name: str
    wrong: list[str] = field(default_factory=list)
    fresh_s: list[float] = field(default_factory=list)
    reused_s: list[float] = field(default_factory=list)

    @property
    def slower_s(self) -> float:
        """Seconds that the reused id is slower, at the median."""
        return median(self.reused_s) - median(self.fresh_s) if self.reused_s and self.fresh_s else 0.0

    def __str__(self) -> str:
        def format_times(times_s: list[float]) -> str:
            return f"{median(times_s) * 1000:7.0f} {max(times_s) * 1000:7.0f}" if times_s else f"{'–':>7} {'–':>7}"

        return f"{self.name:10} {len(self.wrong):6} {format_times(self.fresh_s)}   {format_times(self.reused_s)}"


HEADER = f"{'variant':10} {'wrong':>6} {'fresh id: ms, max':>15}   {'used before: ms, max':>15}"


def reuse_id(name: str, *, times: int, remove_elsewhere: Remove) -> Row:
    """Reuse one id, with a fresh id before each use.

    Args:
        name: Name of the variant.
        times: Number of uses.
        remove_elsewhere: Removes a job in another process.
    """
    variant, row = VARIANTS[name], Row(name)
    used = f"order-{uuid.uuid4().hex[:8]}"
    remove = remove_elsewhere if variant.elsewhere else lambda job_id: attach(job_id).remove()
    for use in range(1, times + 1):
        for job_id, taken in ((f"fresh-{uuid.uuid4().hex}", row.fresh_s), (used, row.reused_s)):
            if variant.fails_first:
                _run_failing_job(row, job_id, use)
                remove(job_id)
            took_s = _run_job(row, variant, job_id, use)
            if took_s is not None and (use > 1 or job_id != used):
                taken.append(took_s)
            remove(job_id)
    return row


def _run_job(row: Row, variant: Variant, job_id: str, use: int) -> float | None:
    """Launch a job, check its value and return its duration, or None if it has no value."""
    started = time.monotonic()
    try:
        value = variant.launch(job_id, use).get(WAIT_S)
    except Exception as error:
        row.wrong.append(f"use {use}, {job_id}: {type(error).__name__}: {error}".splitlines()[0])
        return None
    took_s = time.monotonic() - started
    expected = variant.expected(use)
    if value != expected:
        row.wrong.append(f"use {use}, {job_id}: {value}, not {expected}")
    return took_s


def _run_failing_job(row: Row, job_id: str, use: int) -> None:
    """Run a job with another input that fails."""
    try:
        FactorTask.submit({"numbers": [use, POISON, use + 1], "factor": -use}, job_id=job_id).get(WAIT_S)
    except JobFailed:
        return
    except Exception as error:
        row.wrong.append(f"use {use}, {job_id}: {type(error).__name__}: {error}".splitlines()[0])
    else:
        row.wrong.append(f"use {use}, {job_id}: did not fail")


def _serve_removals(connection: Connection) -> None:
    """Remove the jobs whose ids arrive, until None arrives. Runs in the other process."""
    from tests.integration.app import app

    while (job_id := connection.recv()) is not None:
        connection.send(attach(job_id, app=app).remove())


@contextmanager
def start_remover() -> Iterator[Remove]:
    """Start another process that removes jobs, on the servers that this process's environment names."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve_removals, args=(theirs,), daemon=True)
    process.start()

    def remove(job_id: str) -> Any:
        ours.send(job_id)
        if not ours.poll(WAIT_S):
            raise TimeoutError(f"{job_id} was not removed within {WAIT_S:g} s")
        return ours.recv()

    try:
        yield remove
    finally:
        ours.send(None)
        process.join(timeout=10)
        process.kill()


@contextmanager
def start_cluster(servers: Servers, directory: Path) -> Iterator[Celery]:
    """Start two workers with two children each, and yield the caller's app, which is the current one."""
    environment = {
        **servers.store.environment,
        "TEST_BROKER": servers.rabbitmq.url,
        "TEST_BACKEND": servers.redis.url,
    }
    with running_cluster(directory, environment, args=WORKER_ARGS) as cluster:
        yield cluster.app


def main(arguments: list[str] | None = None) -> int:
    """Print a row for each variant, and return 1 if a value was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm.reuse", description=__doc__)
    parser.add_argument("--times", type=int, default=200, help="number of uses per variant")
    parser.add_argument("--variant", action="append", choices=list(VARIANTS), metavar="NAME", help=", ".join(VARIANTS))
    chosen = parser.parse_args(arguments)
    wrong = slow = 0
    with (
        tempfile.TemporaryDirectory(prefix="reuse-", ignore_cleanup_errors=True) as directory,
        Servers.start(Path(directory)) as servers,
        start_cluster(servers, Path(directory)),
        start_remover() as remove,
    ):
        print(HEADER)
        for name in chosen.variant or VARIANTS:
            row = reuse_id(name, times=chosen.times, remove_elsewhere=remove)
            print(row, flush=True)
            for text in row.wrong[:5]:
                print(f"  ! {text}")
            wrong += len(row.wrong)
            slow += row.slower_s > MAX_SLOWER_S
    print(f"{wrong} wrong values; {slow} variants are slower by more than {MAX_SLOWER_S * 1000:g} ms at the median")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
