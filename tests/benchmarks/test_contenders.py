"""Every way in which a benchmark gives fanout its input. Servers and speed are the benchmarks' own part."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.small_objects import upload_objects
from benchmarks.text import INPUTS, upload_text

PROGRAM = """
import sys
from benchmarks.contenders import with_fanout
from benchmarks.contenders.app import app
from benchmarks.workloads import Workload

app.conf.task_always_eager = True
name, work = sys.argv[1:]
workload = Workload(work, chunks=4, size_bytes=4000, document_bytes=100, items=100)
with with_fanout.start(name) as prepare:
    answer = prepare(workload)(30.0)
    assert workload.accepts(getattr(answer, "answer", answer))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "work"),
    [
        ("fanout", "words"),
        ("streamed", "words"),
        ("here", "words"),
        ("stream-caller", "words"),
        ("stream-worker", "words"),
        ("fanout", "digits"),
        ("streamed", "digits"),
        ("items-16", "digits"),
        ("lines", "text"),
        ("objects", "objects"),
        ("objects-gathered", "objects"),
    ],
)
def test_a_way_of_giving_the_input_has_the_right_answer(name: str, work: str, tmp_path: Path) -> None:
    """The call of a contender, with the options that it uses, gives the expected answer in eager mode.

    A process of its own, because the app of the benchmarks would be one of several in this one.
    """
    environment = {
        **os.environ,
        "FANOUT_STORE": "memory://benchmarks",
        INPUTS: str(tmp_path),
        "FANOUT_SOURCE_ROOTS": str(tmp_path),
    }
    if work == "text":
        upload_text(f"{tmp_path.as_uri()}/text/4000", 4000)
    if work == "objects":
        upload_objects(f"{tmp_path.as_uri()}/objects/100", 100)
    command = [sys.executable, "-c", PROGRAM, name, work]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
