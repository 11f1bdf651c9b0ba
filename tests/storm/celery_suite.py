"""`python -m tests.storm.celery_suite`: Celery's own integration tests, without and with a connected app.

Downloads the source archive of the installed Celery from PyPI into a temporary directory, starts RabbitMQ, Redis and an
S3 server, and runs part of `t/integration` twice: as it is, and with a plugin that connects the suite's app for caller
and worker, and declares a task of ours. Compares the outcome of each test; nothing of Celery's text stays.
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
"""Connects the app of the suite, which is the caller's and the worker's, and runs a job of ours at the end."""
import pytest

import fanout
from tests.storm.tasks import SumTask


@pytest.fixture(autouse=True, scope="session")
def _connected(celery_session_app):
    fanout.connect(celery_session_app)


@pytest.fixture(autouse=True, scope="session")
def _works(_connected, celery_session_app, celery_session_worker):
    yield
    assert SumTask.submit({"numbers": [1, 2, 3]}, app=celery_session_app).get(60) == 6
'''


def download(directory: Path) -> Path:
    """The tests of the installed version of Celery; returns the directory that has `t/integration`, and nothing else.

    Raises:
        SystemExit: It can't be had.
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
    """Run the suite; returns the outcome of each test.

    Args:
        source: Where Celery's source lies.
        environment: Of the suite, added to this process's.
        arguments: Of pytest.
        report: A file for pytest's own report.
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
        found = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        outcomes[f"{case.get('classname')}::{case.get('name')}"] = found[0] if found else "passed"
    if "passed" not in outcomes.values():
        sys.exit(f"no test passed:\n{log.read_text(errors='replace')[-3000:]}")
    return outcomes


def differences(without: Mapping[str, str], connected: Mapping[str, str]) -> list[str]:
    """The tests whose outcome is another with a connected app, and those that only one of the runs has."""
    return [
        f"{test}: {without.get(test, 'absent')} without, {connected.get(test, 'absent')} connected"
        for test in sorted(without.keys() | connected.keys())
        if without.get(test) != connected.get(test)
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the suite without and with a connected app; returns 1 if an outcome differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm.celery_suite", description=__doc__)
    parser.add_argument("--file", default="test_canvas.py", help="of t/integration")
    parser.add_argument("-k", default="test_chain or test_group", metavar="EXPRESSION", help="tests, as for pytest")
    chosen = parser.parse_args(arguments)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="celery-", ignore_cleanup_errors=True)))
        source = download(directory)
        servers = stack.enter_context(Servers.started(directory / "servers"))
        stack.enter_context(servers.reached())
        store = f"s3://suite-{uuid.uuid4().hex[:8]}/jobs"
        create_bucket(store)
        plugins = directory / "plugins"
        plugins.mkdir()
        (plugins / "fanout_connected.py").write_text(PLUGIN)
        suite = _environment(servers.rabbitmq, servers.redis)
        pytest_arguments = [f"t/integration/{chosen.file}", "-k", chosen.k]
        print("without …", flush=True)
        without = run_suite(source, suite, pytest_arguments, report=directory / "without.xml")
        print(f"  {_told(without)}\nconnected …", flush=True)
        connected = run_suite(
            source,
            {**suite, "FANOUT_STORE": store, "PYTHONPATH": os.pathsep.join([str(plugins), str(ROOT)])},
            ["-p", "fanout_connected", *pytest_arguments],
            report=directory / "connected.xml",
        )
        print(f"  {_told(connected)}")
    found = differences(without, connected)
    print("\n".join(found) if found else f"the same outcome in all {len(without)} tests")
    return 1 if found else 0


def _environment(rabbitmq: RabbitMQ, redis: Redis) -> dict[str, str]:
    port = redis.url.rpartition(":")[2].partition("/")[0]
    return {
        "TEST_BROKER": rabbitmq.url,
        "TEST_BACKEND": redis.url,
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": port,
    }


def _told(outcomes: Mapping[str, str]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(Counter(outcomes.values()).items()))


if __name__ == "__main__":
    sys.exit(main())
