"""`python -m tests.storm.reuse`: one id, used again and again with another input each time, beside fresh ones.

In turn a fresh id and the used one are launched; every answer is compared, and the two are timed.
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
SLOWER_S = 0.05
"""An id that is used again may take this much longer than a fresh one."""

WORKER_ARGS = ("--without-gossip", "--without-mingle", "--include", "tests.storm.factors")

Remove = Callable[[str], object]


def _numbers(turn: int) -> list[int]:
    """Another input each time, and another number of chunks."""
    return list(range(turn, turn + 4 + turn % 5))


def _product(turn: int) -> list[Any]:
    return [turn, *([turn, number * turn] for number in _numbers(turn))]


def _submitted(job_id: str, turn: int, **options: Any) -> Job:
    return FactorTask.submit({"numbers": _numbers(turn), "factor": turn}, job_id=job_id, **options)


def _streamed(job_id: str, turn: int) -> Job:
    return FactorTask.submit({"numbers": iter(_numbers(turn)), "factor": turn}, job_id=job_id)


def _signed(job_id: str, turn: int) -> Job:
    job: Job = FactorTask.signature({"numbers": _numbers(turn), "factor": turn}).set(task_id=job_id)()
    return job


def _by_celery(job_id: str, turn: int) -> Any:
    """Celery's own handle, which asks the result backend."""
    return FactorTask.signature({"numbers": _numbers(turn), "factor": turn}).apply_async(task_id=job_id)


def _tolerant(job_id: str, turn: int) -> Job:
    return TolerantTask.submit({"numbers": [*_numbers(turn), POISON], "factor": turn}, job_id=job_id)


def _combined(job_id: str, turn: int) -> Job:
    return CombinedTask.submit({"numbers": list(range(40)), "factor": turn}, job_id=job_id)


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to use an id again.

    Attributes:
        title: What is done.
        launch: Launches the job of a turn under an id.
        expected: Its answer.
        fails_first: Whether a submission that fails comes before, under the same id.
        elsewhere: Whether another process removes the job.
    """

    title: str
    launch: Callable[[str, int], Any] = _submitted
    expected: Callable[[int], Any] = _product
    fails_first: bool = False
    elsewhere: bool = False


VARIANTS: dict[str, Variant] = {
    "plain": Variant("submitted, got and removed by one caller"),
    "elsewhere": Variant("removed by `attach(id).remove()` in another process", elsewhere=True),
    "failed": Variant("a first submission fails, and is removed", fails_first=True),
    "tolerate": Variant("some items fail", _tolerant, lambda turn: [turn, [n * turn for n in _numbers(turn)], 1]),
    "combine": Variant("with `combine`, in a tree", _combined, lambda turn: [turn, turn * sum(range(40))]),
    "signature": Variant("launched by a signature with `.set(task_id=…)`", _signed),
    "result": Variant("got by Celery's `AsyncResult`", _by_celery),
    "stream": Variant("a stream as its input", _streamed),
    "here": Variant(
        "cut by the caller (`setup_here`)", lambda job_id, turn: _submitted(job_id, turn, setup_in_caller=True)
    ),
}


@dataclass(slots=True)
class Row:
    """What came of a variant.

    Attributes:
        name: The variant's.
        wrong: What was wrong, a line for each answer.
        fresh_s: How long each fresh id took.
        again_s: How long the id that was used before took each time, and the first time is left out.
    """

    name: str
    wrong: list[str] = field(default_factory=list)
    fresh_s: list[float] = field(default_factory=list)
    again_s: list[float] = field(default_factory=list)

    @property
    def slower_s(self) -> float:
        """By how much the used id is slower, at the median."""
        return median(self.again_s) - median(self.fresh_s) if self.again_s and self.fresh_s else 0.0

    def __str__(self) -> str:
        def times(taken: list[float]) -> str:
            return f"{median(taken) * 1000:7.0f} {max(taken) * 1000:7.0f}" if taken else f"{'–':>7} {'–':>7}"

        return f"{self.name:10} {len(self.wrong):6} {times(self.fresh_s)}   {times(self.again_s)}"


HEADER = f"{'variant':10} {'wrong':>6} {'fresh id: ms, max':>15}   {'used before: ms, max':>15}"


def use_again(name: str, *, times: int, remove_elsewhere: Remove) -> Row:
    """Use one id so often, and a fresh one in between each time.

    Args:
        name: Of the variant.
        times: How often.
        remove_elsewhere: Removes a job in another process.
    """
    variant, row = VARIANTS[name], Row(name)
    used = f"order-{uuid.uuid4().hex[:8]}"
    remove = remove_elsewhere if variant.elsewhere else lambda job_id: attach(job_id).remove()
    for turn in range(1, times + 1):
        for job_id, taken in ((f"fresh-{uuid.uuid4().hex}", row.fresh_s), (used, row.again_s)):
            if variant.fails_first:
                _fail(row, job_id, turn)
                remove(job_id)
            took_s = _one(row, variant, job_id, turn)
            if took_s is not None and (turn > 1 or job_id != used):
                taken.append(took_s)
            remove(job_id)
    return row


def _one(row: Row, variant: Variant, job_id: str, turn: int) -> float | None:
    """Launch one job and compare its answer; returns how long it took, if it gave one."""
    started = time.monotonic()
    try:
        value = variant.launch(job_id, turn).get(WAIT_S)
    except Exception as error:
        row.wrong.append(f"turn {turn}, {job_id}: {type(error).__name__}: {error}".splitlines()[0])
        return None
    took_s = time.monotonic() - started
    expected = variant.expected(turn)
    if value != expected:
        row.wrong.append(f"turn {turn}, {job_id}: {value}, not {expected}")
    return took_s


def _fail(row: Row, job_id: str, turn: int) -> None:
    """A submission that fails, with another input."""
    try:
        FactorTask.submit({"numbers": [turn, POISON, turn + 1], "factor": -turn}, job_id=job_id).get(WAIT_S)
    except JobFailed:
        return
    except Exception as error:
        row.wrong.append(f"turn {turn}, {job_id}: {type(error).__name__}: {error}".splitlines()[0])
    else:
        row.wrong.append(f"turn {turn}, {job_id}: did not fail")


def _remove_for(asked: Connection) -> None:
    """What the other process does: removes jobs by id until it is told None."""
    from tests.integration.app import app

    while (job_id := asked.recv()) is not None:
        asked.send(attach(job_id, app=app).remove())


@contextmanager
def removing_elsewhere() -> Iterator[Remove]:
    """Another process that removes jobs; it reaches the servers that this process's environment names."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_remove_for, args=(theirs,), daemon=True)
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
def four_children(servers: Servers, directory: Path) -> Iterator[Celery]:
    """Two workers of two children each, and a caller's app that is the current one."""
    environment = {
        **servers.store.environment,
        "TEST_BROKER": servers.rabbitmq.url,
        "TEST_BACKEND": servers.redis.url,
    }
    with running_cluster(directory, environment, args=WORKER_ARGS) as cluster:
        yield cluster.app


def main(arguments: list[str] | None = None) -> int:
    """Use an id again and print a row for each variant; returns 1 if an answer was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm.reuse", description=__doc__)
    parser.add_argument("--times", type=int, default=200, help="how often, each variant")
    parser.add_argument("--variant", action="append", choices=list(VARIANTS), metavar="NAME", help=", ".join(VARIANTS))
    chosen = parser.parse_args(arguments)
    wrong = slow = 0
    with (
        tempfile.TemporaryDirectory(prefix="reuse-", ignore_cleanup_errors=True) as directory,
        Servers.started(Path(directory)) as servers,
        four_children(servers, Path(directory)),
        removing_elsewhere() as remove,
    ):
        print(HEADER)
        for name in chosen.variant or VARIANTS:
            row = use_again(name, times=chosen.times, remove_elsewhere=remove)
            print(row, flush=True)
            for text in row.wrong[:5]:
                print(f"  ! {text}")
            wrong += len(row.wrong)
            slow += row.slower_s > SLOWER_S
    print(f"{wrong} wrong answers; {slow} variants are slower by more than {SLOWER_S * 1000:g} ms at the median")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
