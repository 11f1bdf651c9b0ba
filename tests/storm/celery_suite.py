"""The command `python -m tests.storm.celery_suite`: Celery's integration tests without and with a connected app.

The command downloads the source archive of the installed Celery from PyPI into a temporary directory. It starts
RabbitMQ, Redis and an S3 server. It runs part of `t/integration` twice: unchanged, and with a plugin that connects the
suite's app for caller and worker and runs a fork-join job. It compares the outcomes of each test. The temporary
directory is removed with all of Celery's files.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import uuid
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import celery

from devstack import RabbitMQ, Redis
from storage import create_bucket

from .site import Servers

ROOT = Path(__file__).parents[2]
DOWNLOAD_S = 300.0
SUITE_S = 1800.0

PLUGIN = '''
"""A plugin that connects the suite's app, the caller's and the worker's, and runs a fork-join job at the end."""
import pytest

import fanout
from tests.tasks import SumTask


@pytest.fixture(autouse=True, scope="session")
def _connected(celery_session_app):
    fanout.connect(celery_session_app)


@pytest.fixture(autouse=True, scope="session")
def _run_job(_connected, celery_session_app, celery_session_worker):
    yield
    assert SumTask.submit({"numbers": [1, 2, 3]}, app=celery_session_app).get(60) == 6
'''


def download(directory: Path) -> Path:
    """Download the tests of the installed Celery, and return the directory that contains `t/integration`.

    Raises:
        SystemExit: The download failed.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "celery"]
    command += ["--dest", str(directory), f"celery=={celery.__version__}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_S, check=False)
    archives = [*directory.glob("celery-*.tar.gz")]
    if not archives:
        sys.exit(f"Celery's source can't be downloaded: {done.stderr[-500:]}")
    with tarfile.open(archives[0]) as archive:
        tests = [member for member in archive.getmembers() if member.name.split("/")[1:2] == ["t"]]
        archive.extractall(directory, members=tests, filter="data")
    return next(directory.glob("celery-*/t/integration")).parents[1]


def run_suite(source: Path, environment: Mapping[str, str], arguments: list[str], *, report: Path) -> dict[str, str]:
    """Run the suite and return the outcome of each test.

    Args:
        source: Directory of Celery's source.
        environment: Variables of the suite, in addition to this process's.
        arguments: Arguments for pytest.
        report: A file for pytest's report.
    """
    (source / "pytest.ini").write_text("[pytest]\npython_classes = test_*\naddopts =\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "celery.contrib.pytest", "--rootdir", str(source)]
    command += ["-c", str(source / "pytest.ini"), f"--junitxml={report}", *arguments]
    log = report.with_suffix(".log")
    with log.open("wb") as output:
        subprocess.run(
            command,
            cwd=source,
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=SUITE_S,
            check=False,
        )
    if not report.exists():
        sys.exit(f"the suite did not run:\n{log.read_text(errors='replace')[-3000:]}")
    outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        tags = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        outcomes[f"{case.get('classname')}::{case.get('name')}"] = tags[0] if tags else "passed"
    if "passed" not in outcomes.values():
        sys.exit(f"no test passed:\n{log.read_text(errors='replace')[-3000:]}")
    return outcomes


def find_differences(without: Mapping[str, str], connected: Mapping[str, str]) -> list[str]:
    """Return the tests whose outcomes differ, and those that only one run has."""
    return [
        f"{test}: {without.get(test, 'absent')} without, {connected.get(test, 'absent')} connected"
        for test in sorted(without.keys() | connected.keys())
        if without.get(test) != connected.get(test)
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the suite without and with a connected app, and return 1 if an outcome differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm.celery_suite", description=__doc__)
    parser.add_argument("--file", default="test_canvas.py", help="a file of t/integration")
    parser.add_argument("-k", default="test_chain or test_group", metavar="EXPRESSION", help="tests, as for pytest")
    chosen = parser.parse_args(arguments)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="celery-", ignore_cleanup_errors=True)))
        source = download(directory)
        servers = stack.enter_context(Servers.start(directory / "servers"))
        stack.enter_context(servers.set_environment())
        store = f"s3://suite-{uuid.uuid4().hex[:8]}/jobs"
        create_bucket(store)
        plugins = directory / "plugins"
        plugins.mkdir()
        (plugins / "fanout_connected.py").write_text(PLUGIN)
        suite = _environment(servers.rabbitmq, servers.redis)
        pytest_arguments = [f"t/integration/{chosen.file}", "-k", chosen.k]
        print("without …", flush=True)
        without = run_suite(source, suite, pytest_arguments, report=directory / "without.xml")
        print(f"  {_format_counts(without)}\nconnected …", flush=True)
        connected = run_suite(
            source,
            {**suite, "FANOUT_STORE": store, "PYTHONPATH": os.pathsep.join([str(plugins), str(ROOT)])},
            ["-p", "fanout_connected", *pytest_arguments],
            report=directory / "connected.xml",
        )
        print(f"  {_format_counts(connected)}")
    differences = find_differences(without, connected)
    print("\n".join(differences) if differences else f"the same outcome in all {len(without)} tests")
    return 1 if differences else 0


def _environment(rabbitmq: RabbitMQ, redis: Redis) -> dict[str, str]:
    port = redis.url.rpartition(":")[2].partition("/")[0]
    return {
        "TEST_BROKER": rabbitmq.url,
        "TEST_BACKEND": redis.url,
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": port,
    }


def _format_counts(outcomes: Mapping[str, str]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(Counter(outcomes.values()).items()))


if __name__ == "__main__":
    sys.exit(main())
