"""The web service of the examples, with a real server, a real client and a real worker."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from devstack import CeleryWorker
from devstack.ports import free_port
from devstack.process import Process

ROOT = Path(__file__).parents[2]

SERVICE = """
    from pathlib import Path

    from devstack import FilesystemBroker
    from examples.celery_app import app

    app.conf.update(FilesystemBroker.create(Path({broker!r}), queues=("examples",)).settings)
    from examples.fastapi_app import server
"""
"""The service, with a broker in a directory in the place of a server."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of the service, which runs in uvicorn, with a worker beside it."""
    directory = tmp_path_factory.mktemp("fastapi")
    (directory / "service.py").write_text(textwrap.dedent(SERVICE.format(broker=str(directory / "broker"))))
    (directory / "store").mkdir()
    environment = {"FANOUT_STORE": (directory / "store").as_uri(), "PYTHONPATH": f"{directory}:{ROOT}"}
    port = free_port()
    with ExitStack() as stack:
        server = Process.start(
            [sys.executable, "-m", "uvicorn", "service:server", "--port", str(port)],
            name="uvicorn",
            directory=directory / "uvicorn",
            environment=environment,
            cwd=ROOT,
        )
        stack.callback(server.stop)
        stack.enter_context(
            CeleryWorker.start(
                "service:app",
                directory=directory / "worker",
                environment=environment,
                pool="threads",
                concurrency=1,
                cwd=ROOT,
            )
        )
        server.wait_until(lambda: "running on" in server.log(), what="listen", timeout_s=60.0)
        yield stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60))


def launch(client: httpx.Client) -> str:
    response = client.post("/jobs", json=["hi there you", "there you are"])
    assert response.status_code == 202
    return str(response.json()["id"])


def test_a_client_sees_the_progress_and_gets_the_value(client: httpx.Client) -> None:
    """The events of a job end with its success, and its value is the word count."""
    job_id = launch(client)
    with client.stream("GET", f"/jobs/{job_id}/progress") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert json.loads(lines[-1]) == {"state": "succeeded", "done": 2, "items": 2, "failed": 0}
    assert client.get(f"/jobs/{job_id}").json() == {"word_count": {"hi": 1, "there": 2, "you": 2, "are": 1}}


def test_a_client_that_goes_away_leaves_the_job(client: httpx.Client) -> None:
    """After a client has left in the middle of the events, the job still ends with its value."""
    job_id = launch(client)
    with client.stream("GET", f"/jobs/{job_id}/progress") as response:
        assert next(response.iter_lines()).startswith("data: ")
    assert client.get(f"/jobs/{job_id}").json()["word_count"]["there"] == 2


def test_an_unknown_job_is_an_answer(client: httpx.Client) -> None:
    """The stream of an unknown job says so, and its value is a 404."""
    assert client.get("/jobs/unknown").status_code == 404
    assert "is not in the store" in client.get("/jobs/unknown/progress").text
