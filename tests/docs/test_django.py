"""The page on Django, followed from its first command to the browser."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from html import unescape
from pathlib import Path

import httpx
import pytest

from devstack import CephGateway, Process, RabbitMQ
from devstack.ports import free_port
from storage import create_bucket

from ..browser import find_browser, open_page
from .blocks import blocks_of

PAGE = "docs/how-to/django.md"
AT_THE_END = "at the end of "
STORE = "s3://django-page/jobs"


class Follower:
    """A reader who does what the page says, in a directory of his own.

    Args:
        directory: The directory in which the page begins.
        environment: Variables of broker and store.
        stack: It stops what the page starts.
    """

    def __init__(self, directory: Path, environment: dict[str, str], stack: ExitStack) -> None:
        self._directory = directory
        self._logs = directory / "logs"
        self._environment = environment
        self._stack = stack
        self.port = free_port()

    def write(self, title: str, text: str) -> None:
        """Write a file, or add to its end."""
        path = self._directory / title.removeprefix(AT_THE_END)
        before = path.read_text() if title.startswith(AT_THE_END) else ""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(before + text)

    def enter(self, command: str) -> None:
        """Run a command to its end, or start a server and wait until it is ready."""
        match shlex.split(command):
            case ["pip", "install", *_]:
                pass  # the tests' own environment has it
            case ["cd", name]:
                self._directory /= name
            case ["django-admin", *arguments]:
                self._run("-m", "django", *arguments)
            case ["celery", *arguments]:
                worker = self._start("worker", "-m", "celery", *arguments, "--concurrency", "1", "--loglevel", "INFO")
                worker.wait_until(lambda: " ready." in worker.log(), what="get ready", timeout_s=60)
            case ["python", "manage.py", "runserver"]:
                server = self._start("server", "-u", "manage.py", "runserver", "--noreload", str(self.port))
                server.wait_until(lambda: "Quit the server" in server.log(), what="listen", timeout_s=60)
            case ["python", *arguments]:
                self._run(*arguments)
            case _:
                pytest.fail(f"the page has a command that this test does not know: {command}")

    def _run(self, *arguments: str) -> None:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=self._directory, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def _start(self, name: str, *arguments: str) -> Process:
        process = Process.start(
            [sys.executable, *arguments],
            name=name,
            directory=self._logs,
            environment=self._environment,
            cwd=self._directory,
        )
        self._stack.callback(process.stop)
        return process


@pytest.fixture
def address(
    rabbitmq: RabbitMQ, ceph_gateway: CephGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The address of the site, after all blocks of the page."""
    environment = {**ceph_gateway.environment, "BROKER_URL": rabbitmq.add_host().url, "FANOUT_STORE": STORE}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    create_bucket(STORE)
    with ExitStack() as stack:
        reader = Follower(tmp_path, environment, stack)
        for block in blocks_of(PAGE):
            if block.language == "console":
                for command in re.findall(r"^\$ (.+)$", block.text, re.MULTILINE):
                    reader.enter(command)
            else:
                reader.write(block.title, block.text)
        yield f"http://127.0.0.1:{reader.port}"


@pytest.mark.slow
def test_a_browser_shows_the_job_that_a_form_launched(address: str, tmp_path: Path) -> None:
    """A form launches a job after the commit, and the browser shows its progress, its end and its value."""
    browser = find_browser()
    with httpx.Client(base_url=address, timeout=30) as client:
        form = client.get("/").text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)
        assert token is not None, form
        answer = client.post("/", data={"csrfmiddlewaretoken": token[1], "text": "to be or\nnot to be"})
        assert answer.status_code == 302, answer.text
        assert client.get("/jobs/4711/state").status_code == 404
    shown = open_page(
        browser, f"{address}{answer.headers['Location']}", tmp_path / "profile", "--dump-dom", budget_s=600
    )
    assert '<span id="state">succeeded</span>' in shown
    assert '"to": 2' in unescape(shown)
