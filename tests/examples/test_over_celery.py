"""The examples on real workers, with RabbitMQ and Ceph's S3 gateway."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

import fanout
from devstack import CeleryWorker, CephGateway, RabbitMQ
from examples.edit_design import EditDesign, design_serially
from examples.simulated_edits import simulate
from examples.sum_numbers import SumNumbers
from examples.word_count import WordCount, WordCounterTask, count_serially
from fanout import ForkJoinTask, InvalidInput, JobFailed
from storage import create_bucket, open_store

ROOT = Path(__file__).parents[2]
STORE = "s3://examples/jobs"
DOCUMENTS = ["hi there you", "there you are", "please say hi"]


@pytest.fixture(scope="module")
def caller(rabbitmq: RabbitMQ, ceph_gateway: CephGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Celery]:
    """An app that sends to two workers of `examples.celery_app`, with their variables in the environment."""
    environment = {
        **rabbitmq.environment,
        **ceph_gateway.environment,
        "CELERY_RESULT_BACKEND": "rpc://",
        "FANOUT_STORE": STORE,
    }
    directory = tmp_path_factory.mktemp("workers")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for name, value in environment.items():
            patch.setenv(name, value)
        create_bucket(STORE)
        for number in (1, 2):
            worker = CeleryWorker.start(
                "examples.celery_app:app",
                directory=directory / str(number),
                environment=environment,
                concurrency=1,
                cwd=ROOT,
            )
            stack.enter_context(worker)
        # The import of the examples' own app would make it the current app of the whole test session.
        app = stack.enter_context(Celery("caller", set_as_current=False))
        app.conf.update(fanout.RECOMMENDED, task_default_queue="examples")
        yield fanout.connect(app)


@pytest.mark.parametrize("task", [WordCounterTask, WordCount])
def test_word_count(task: type[ForkJoinTask], caller: Celery) -> None:
    """The class and the three functions give the counts of one loop, as a Counter."""
    found = task.submit({"documents": DOCUMENTS}, app=caller).get(timeout=60)
    assert found == count_serially(DOCUMENTS)
    assert type(found["word_count"]) is type(count_serially(DOCUMENTS)["word_count"])


def test_sum_of_numbers(caller: Celery) -> None:
    """A list and its stream give the same sum."""
    numbers = list(range(1, 101))
    assert SumNumbers.submit({"numbers": numbers}, app=caller).get(timeout=60) == 5050
    assert SumNumbers.submit({"numbers": iter(numbers)}, app=caller).get(timeout=60) == 5050


def test_edit_design(caller: Celery) -> None:
    """600 edits in 30 chunks on two workers give the table of a plain loop, in the order of the edits."""
    inputs, _ = simulate()
    job = EditDesign.submit(inputs, app=caller)
    assert job.get(timeout=60) == design_serially(**inputs)
    progress = job.progress()
    assert (progress.chunks_done, progress.chunks, progress.items) == (30, 30, 600)
    report = job.report()
    # Both workers have run steps: the second one gets the first chunk while setup runs on the first.
    assert len(report.workers) == 2
    assert sum(worker.chunks for worker in report.workers) == 30
    assert report.usage is not None
    # Each worker's count ends with its last result; the mark that the outcome was delivered, for one, comes later.
    assert 0 <= report.recorded.objects - report.usage.put <= len(report.workers)


@pytest.mark.parametrize("launch", ["submit", "signature"])
def test_bad_input_is_refused_and_nothing_is_stored(launch: str, caller: Celery) -> None:
    """Input with invalid nested fields is refused with the path of each, and the store is unchanged."""
    inputs, _ = simulate(edits=20, seed=5)
    inputs["edits"][3]["kind"] = "inversion"
    inputs["edits"][7]["flanks"]["left"] = "ACGN" * 15
    before = stored()
    with pytest.raises(InvalidInput) as refused:
        getattr(EditDesign, launch)(inputs, app=caller)
    assert list(refused.value.errors) == ["edits[3].kind", "edits[7].flanks.left"]
    assert stored() == before


def test_a_failure_names_the_edit(caller: Celery) -> None:
    """Setup that raises on a worker fails the job, and the caller's error has the reason."""
    inputs, _ = simulate(edits=4)
    inputs["edits"][2]["contig"] = "plasmid"
    with pytest.raises(JobFailed, match="edit003: the genome has no contig 'plasmid'"):
        EditDesign.submit(inputs, app=caller).get(timeout=60)


@pytest.mark.usefixtures("caller")
def test_the_command_of_the_app() -> None:
    """`python -m examples.celery_app` runs its chain and jobs on the workers and prints only their answers."""
    design = design_serially(**simulate()[0])
    assert printed("-m", "examples.celery_app") == [
        "commonest words: so, long, and",
        "sum of 1 to 100: 5050",
        f"600 edits: {design['placed']} placed, {design['ambiguous']} ambiguous, {design['failed']} failed",
    ]


@pytest.mark.usefixtures("caller")
def test_the_program_in_the_readme() -> None:
    """The program in the README launches a job, and prints its id and the number of placed edits."""
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "examples" / "README.md").read_text(), flags=re.DOTALL)
    design = design_serially(**simulate(edits=600, seed=1)[0])
    launched, placed = printed("-c", program)
    assert re.fullmatch(
        r"[0-9a-f-]{36} (launched|processing, \d+ of 600 items \(\d+ %\)|joining.*|succeeded.*)", launched
    )
    assert placed == str(design["placed"])


def printed(*args: str) -> list[str]:
    """Run Python with these arguments, assert success without warnings, and return the printed lines."""
    done = subprocess.run([sys.executable, *args], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def stored() -> list[Any]:
    """Return all objects of the store."""
    return list(open_store(STORE).list())
