"""The demo: start private servers, run the word count on them, and print the answer and its cost."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from devstack import CeleryWorker, FilesystemBroker, MotoServer
from fanout.figures import format_size
from fanout.job import Job
from fanout.progress import JobState
from fanout.report import Report, describe_costs
from storage import create_bucket

from . import text as texts

if TYPE_CHECKING:
    from rich.console import Console

STORE = "s3://fanout-demo/jobs"
WORKERS = 2
ENDED = {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}


def run_demo(*, path: Path | None = None, chunks: int = 32, times: int = 1) -> bool:
    """Run the word count on real workers and print a report.

    Args:
        path: The text. See `texts.read_text`.
        chunks: Number of chunks.
        times: Number of copies of the text, to show which costs grow with it.

    Returns:
        Whether the answer equals a plain serial count.

    Raises:
        FileNotFoundError: There is no such text.
        ServerFailed: A server did not start. The error has the end of its log.
    """
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    text, origin = texts.read_text(path)
    documents = texts.documents(text, times=times)
    size = sum(map(len, documents))
    console.print(f"[bold]fanout[/]: counting the words of {origin}: {format_size(size)}, {len(documents):,} documents")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fanout-demo-")))
        store = stack.enter_context(MotoServer.start(directory / "s3"))
        broker = FilesystemBroker.create(directory / "broker")
        environment = {**store.environment, "FANOUT_STORE": STORE, "FANOUT_DEMO_SETTINGS": json.dumps(broker.settings)}
        os.environ.update(environment)
        create_bucket(STORE)
        for number in range(WORKERS):
            worker = CeleryWorker.start(
                "examples.demo.app:app",
                directory=directory / f"worker-{number}",
                environment=environment,
                concurrency=1,
                args=broker.worker_args,
            )
            # Kill the workers at the end: a graceful stop would save nothing.
            stack.callback(worker.kill)
        console.print(
            f"an S3 server on {store.endpoint}, a broker in a directory, {WORKERS} Celery workers: all on this machine"
        )
        # Import the app only now, because it reads the environment.
        from .app import WordCount

        started = time.perf_counter()
        job = WordCount.submit({"documents": documents}, chunk_count=chunks)
        _show_progress(job, console)
        counts: Counter[str] = job.get(timeout=300)
        wall_s = time.perf_counter() - started
        requests = store.requests()
        traffic_bytes = broker.traffic().bytes
        _print_costs(console, job.report(), broker, requests, wall_s)
    right = _print_answer(console, counts, documents)
    _print_comparison(console, traffic_bytes, input_bytes=size, chunks=chunks)
    return right


def _show_progress(job: Job, console: Console) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        shown = bar.add_task("setup", total=None)
        while True:
            progress = job.progress()
            bar.update(shown, description=str(progress.state), completed=progress.chunks_done, total=progress.chunks)
            if progress.state in ENDED:
                return
            # no limit: the user may interrupt the demo
            time.sleep(0.2)


def _print_costs(
    console: Console, report: Report, broker: FilesystemBroker, requests: Counter[str], wall_s: float
) -> None:
    traffic = broker.traffic()
    by_method = ", ".join(f"{count:,} {method}" for method, count in sorted(requests.items()))
    for name, text in describe_costs(report):
        console.print(f"  {name:<14} {text}")
    console.print(
        f"  in the broker  {format_size(traffic.bytes)} in {traffic.messages:,} messages: "
        f"{traffic.bytes / max(report.progress.chunks or 0, 1):,.0f} bytes a chunk, for any size of the text"
    )
    console.print(
        f"  requests       {sum(requests.values()):,} to the store, those of the progress bar included: {by_method}"
    )
    console.print(f"  wall time      {wall_s:.2f} s from submit to answer")


def _print_answer(console: Console, counts: Counter[str], documents: list[str]) -> bool:
    from .app import count_words

    serial: Counter[str] = Counter()
    for document in documents:
        serial.update(count_words(document))
    console.print("  top words      " + ", ".join(f"{word} {count:,}" for word, count in counts.most_common(8)))
    right = counts == serial
    console.print(
        f"  [{'green' if right else 'red'}]the answer {'equals' if right else 'DIFFERS FROM'} a plain serial count[/]: "
        f"{len(serial):,} different words, {serial.total():,} in all"
    )
    return right


def _print_comparison(console: Console, traffic_bytes: int, *, input_bytes: int, chunks: int) -> None:
    """Say what bare Canvas would have sent: the whole text to each of its process tasks."""
    console.print(
        f"  the broker     carried {format_size(traffic_bytes)}; chain(setup, group(process × {chunks}), join) would "
        f"have sent {format_size(chunks * input_bytes)}: {chunks} × {format_size(input_bytes)}, computed "
        "(make bench-memory measures it)"
    )
