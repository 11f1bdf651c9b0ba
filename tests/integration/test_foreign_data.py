"""Sweeps and removals in a store with foreign data around it delete the jobs' objects and nothing else."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pytest
from celery import Celery

import fanout
from devstack import MotoServer
from fanout import FanoutError, ForkJoinTask, attach
from fanout.sweep import sweep
from storage import ObjectStore, StorageError, create_bucket, open_store

RETENTION_S = 1.0
"""The retention, weeks in production. Parameters are retained twice as long."""

LIMIT_S = 30.0

FOREIGN = {
    "README.txt": b"read me",
    "photos/2024/beach.jpg": b"a photo",
    "photos/intent": b"what the photographer meant",
    "backups/2024-01-01/db.dump": b"a backup",
    "backups/manifest": b"what is in it",
    "invoices/0001.pdf": b"an invoice",
    "order-4711/notes": b"its name could be a job's id",
    "order-4711/intent": b"",
    "order-4711/outcome": b"{}",
    "3f2b8c1e-6d0a-4b8e-9f57-1a2b3c4d5e6f/data": b"so could this",
    "params/5d41402abc4b2a76b9719d911017c592": b"no parameters of ours",
    "_params-of-mine/x": b"nor these",
    "_jobs-of-mine/order-4711/intent": b"no jobs of ours",
    "jobs/order-4711/intent": b"nor these",
    "_probes/1": b"no probe",
}
"""Foreign data. Some names look like jobs, or like records of jobs."""

PREFIXES = ("", "team", "team/jobs", "team/jobs-2", "photos")
"""Roots of fanout's stores: below, above and beside each other, and inside a folder of photos."""

BESIDE = ("photos/2024/beach.jpg", "order-4711/notes", "order-4711/intent")
"""The foreign data that each of these roots contains."""


class Halves(ForkJoinTask):
    """A task with parameters too large for a message, several chunks, and results."""

    input_schema = {"numbers": {"type": "list"}, "text": {"type": "string"}}
    chunk_items = 2

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number, text):
        return number / len(text)

    def join(results):
        return sum(results)


@dataclass(frozen=True, slots=True)
class Container:
    """A bucket, a directory, or a store in memory, with fanout's and foreign data.

    Attributes:
        url: Its root.
        prefixes: Roots of fanout's stores below it.
        root: A store at its root.
    """

    url: str
    prefixes: tuple[str, ...]
    root: ObjectStore

    def put(self, name: str, body: bytes) -> None:
        if self.url.startswith("file:"):
            path = Path(self.url.removeprefix("file://"), name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        else:
            self.root.put(name, body)

    def list_all(self) -> dict[str, tuple[int, float]]:
        """Return all objects, or files, with size and time of modification."""
        if self.url.startswith("file:"):
            root = Path(self.url.removeprefix("file://"))
            files = {path: path.stat() for path in root.rglob("*") if path.is_file()}
            return {str(path.relative_to(root)): (stat.st_size, stat.st_mtime) for path, stat in files.items()}
        return {found.key: (found.size, found.modified.timestamp()) for found in self.root.list()}

    def app(self, prefix: str) -> Celery:
        """Return an app with that store. Its jobs run in the caller, and write the same objects as other jobs."""
        app = Celery("container", set_as_current=False)
        app.conf.task_always_eager = True
        return fanout.connect(app, store=f"{self.url}/{prefix}".rstrip("/"), retention_s=RETENTION_S)


@pytest.fixture(params=["s3", "file", "memory"])
def container(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Container:
    """A container of each kind, with foreign data in it and in each root of fanout's stores."""
    if request.param == "s3":
        server: MotoServer = request.getfixturevalue("moto_server")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        url, prefixes = f"s3://company-{uuid.uuid4().hex[:8]}", ("", "team/jobs", "team/jobs-2")
        create_bucket(url)
    elif request.param == "file":
        url, prefixes = f"file://{tmp_path}/company", PREFIXES
    else:
        url, prefixes = f"memory://company-{uuid.uuid4().hex[:8]}", ("",)
    container = Container(url, prefixes, open_store(url))
    for name in foreign_names(container):
        container.put(name, next(body for end, body in FOREIGN.items() if name.endswith(end)))
    return container


def foreign_names(container: Container) -> set[str]:
    """Return the names of all foreign data."""
    return {*FOREIGN, *(f"{prefix}/{name}" for prefix in container.prefixes if prefix for name in BESIDE)}


def run_job(app: Celery, job_id: str | None = None) -> str:
    """Run a job whose parameters are too large for a message, and return its id."""
    job = Halves.submit({"numbers": list(range(8)), "text": "x" * 50_000}, job_id=job_id, app=app)
    assert job.get(LIMIT_S) == sum(range(8)) / 50_000
    return job.id


def sweep_once(app: Celery) -> None:
    list(sweep(app.fanout.runtime, everything=True))  # type: ignore[attr-defined]


def sweep_until_removed(container: Container, app: Celery, own_objects: set[str]) -> None:
    """Sweep until no object of `own_objects` is left."""
    ends_at = time.monotonic() + LIMIT_S
    while left := own_objects & container.list_all().keys():
        assert time.monotonic() < ends_at, f"not swept away within {LIMIT_S:g} s: {sorted(left)}"
        sweep_once(app)
        time.sleep(0.1)


def find_new_records(before: Collection[str], after: Collection[str]) -> set[str]:
    """Return the new objects of jobs and parameters, without those of the store's probe, which stay."""
    return {name for name in set(after) - set(before) if "_probe" not in name and ".fanout" not in name}


def test_sweeps_delete_expired_jobs_and_nothing_else(container: Container) -> None:
    """Sweeps delete expired jobs and parameters, but no foreign data and nothing in other stores around."""
    apps, own_objects = {}, {}
    for prefix in container.prefixes:
        before = container.list_all()
        apps[prefix] = container.app(prefix)
        run_job(apps[prefix])
        own_objects[prefix] = find_new_records(before, container.list_all())
        assert own_objects[prefix], "a job leaves records"
    expected = container.list_all()
    for prefix, app in apps.items():
        sweep_until_removed(container, app, own_objects[prefix])
        # Further sweeps, as over weeks: objects that the first sweep skipped as too young are old by now.
        for _ in range(3):
            sweep_once(app)
        expected = {name: body for name, body in expected.items() if name not in own_objects[prefix]}
        after = container.list_all()
        assert {name: after.get(name) for name in expected} == expected, f"a sweep of {prefix!r}"
    assert foreign_names(container) <= container.list_all().keys()


def test_objects_of_a_late_worker_are_swept(container: Container) -> None:
    """Sweeps delete the objects that a worker writes after the removal of its job, and nothing else."""
    app = container.app(container.prefixes[-1])
    before = container.list_all()
    job_id = run_job(app)
    store = app.fanout.runtime.store  # type: ignore[attr-defined]
    written = {found.key: bytes(store.get(found.key)) for found in attach(job_id, app=app).ledger.objects()}
    late = [key for key in written if "/intent" not in key][-3:]
    assert late
    attach(job_id, app=app).remove()
    for key in late:
        store.put(key, written[key])
    sweep_until_removed(container, app, find_new_records(before, container.list_all()))
    after = container.list_all()
    assert {name: after.get(name) for name in before} == before


@pytest.mark.parametrize("job_id", ["photos", "order-4711", "backups"])
def test_a_job_id_that_is_the_name_of_a_folder(container: Container, job_id: str) -> None:
    """A job with the name of a folder runs, or is refused. Neither job nor removal touches the folder's objects."""
    app = container.app("")
    before = container.list_all()
    try:
        run_job(app, job_id)
    except (FanoutError, StorageError):
        # A clear refusal is right, too.
        pass
    else:
        attach(job_id, app=app).remove()
    after = container.list_all()
    assert {name: after.get(name) for name in before} == before


@pytest.mark.parametrize("job_id", ["photos", "order-4711"])
def test_the_removal_of_a_missing_job_removes_nothing(container: Container, job_id: str) -> None:
    """The removal of a missing job removes nothing."""
    app = container.app("")
    before = container.list_all()
    with contextlib.suppress(FanoutError):
        attach(job_id, app=app).remove()
    after = container.list_all()
    assert {name: after.get(name) for name in before} == before
