"""A store lies among other people's data: sweeps and removals take away what is the job's, and nothing else."""

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
"""Weeks, in shortened time; parameters are kept for twice as long."""

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
"""Of other people; names that look like jobs, or like records of jobs, among them."""

PLACES = ("", "team", "team/jobs", "team/jobs-2", "photos")
"""Stores of ours, below, above and beside each other, and in the middle of a folder of photos."""

BESIDE = ("photos/2024/beach.jpg", "order-4711/notes", "order-4711/intent")
"""What of it lies in each of these places."""


class Halves(ForkJoinTask):
    """Has parameters too large for a message, several chunks, and results."""

    input_schema = {"numbers": {"type": "list"}, "text": {"type": "string"}}
    chunk_items = 2

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number, text):
        return number / len(text)

    def join(results):
        return sum(results)


@dataclass(frozen=True, slots=True)
class Land:
    """A bucket, a directory, or a store in memory, with all that lies in it, whoever put it there.

    Attributes:
        url: Its root.
        places: Where stores of ours may lie below it.
        root: A store at its root.
    """

    url: str
    places: tuple[str, ...]
    root: ObjectStore

    def put(self, name: str, body: bytes) -> None:
        if self.url.startswith("file:"):
            path = Path(self.url.removeprefix("file://"), name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        else:
            self.root.put(name, body)

    def everything(self) -> dict[str, tuple[int, float]]:
        """All objects, or files, with their sizes and when they were written."""
        if self.url.startswith("file:"):
            root = Path(self.url.removeprefix("file://"))
            files = {path: path.stat() for path in root.rglob("*") if path.is_file()}
            return {str(path.relative_to(root)): (stat.st_size, stat.st_mtime) for path, stat in files.items()}
        return {found.key: (found.size, found.modified.timestamp()) for found in self.root.list()}

    def app(self, place: str) -> Celery:
        """An app whose store lies there; its jobs run in the caller, and lie in the store as any other's."""
        app = Celery("land", set_as_current=False)
        app.conf.task_always_eager = True
        return fanout.connect(app, store=f"{self.url}/{place}".rstrip("/"), retention_s=RETENTION_S)


@pytest.fixture(params=["s3", "file", "memory"])
def land(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Land:
    """A place of each kind, with other people's data in it, and in every folder where a store of ours will lie."""
    if request.param == "s3":
        server: MotoServer = request.getfixturevalue("moto_server")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        url, places = f"s3://company-{uuid.uuid4().hex[:8]}", ("", "team/jobs", "team/jobs-2")
        create_bucket(url)
    elif request.param == "file":
        url, places = f"file://{tmp_path}/company", PLACES
    else:
        url, places = f"memory://company-{uuid.uuid4().hex[:8]}", ("",)
    made = Land(url, places, open_store(url))
    for name in foreign(made):
        made.put(name, next(body for end, body in FOREIGN.items() if name.endswith(end)))
    return made


def foreign(land: Land) -> set[str]:
    """The names of all that belongs to other people."""
    return {*FOREIGN, *(f"{place}/{name}" for place in land.places if place for name in BESIDE)}


def run_job(app: Celery, job_id: str | None = None) -> str:
    """Run a job whose parameters are too large for a message; returns its id."""
    job = Halves.submit({"numbers": list(range(8)), "text": "x" * 50_000}, job_id=job_id, app=app)
    assert job.get(LIMIT_S) == sum(range(8)) / 50_000
    return job.id


def sweep_once(app: Celery) -> None:
    list(sweep(app.fanout.runtime))  # type: ignore[attr-defined]


def sweep_until_gone(land: Land, app: Celery, ours: set[str]) -> None:
    """Sweep until nothing is left of `ours`."""
    ends_at = time.monotonic() + LIMIT_S
    while left := ours & land.everything().keys():
        assert time.monotonic() < ends_at, f"not swept away within {LIMIT_S:g} s: {sorted(left)}"
        sweep_once(app)
        time.sleep(0.1)


def records_of_jobs(before: Collection[str], after: Collection[str]) -> set[str]:
    """What was added of jobs and parameters; a store's probe is no job's, and stays."""
    return {name for name in set(after) - set(before) if "_probe" not in name and ".fanout" not in name}


def test_sweeps_take_what_is_ours_and_nothing_else(land: Land) -> None:
    """Jobs and parameters go when their time has come; foreign data, and other stores around this one, stay."""
    apps, ours = {}, {}
    for place in land.places:
        before = land.everything()
        apps[place] = land.app(place)
        run_job(apps[place])
        ours[place] = records_of_jobs(before, land.everything())
        assert ours[place], "a job leaves records"
    expected = land.everything()
    for place, app in apps.items():
        sweep_until_gone(land, app, ours[place])
        # As often as in weeks: what was spared by its age at first has grown old meanwhile.
        for _ in range(3):
            sweep_once(app)
        expected = {name: body for name, body in expected.items() if name not in ours[place]}
        found = land.everything()
        assert {name: found.get(name) for name in expected} == expected, f"a sweep of {place!r}"
    assert foreign(land) <= land.everything().keys()


def test_what_a_late_worker_wrote_goes(land: Land) -> None:
    """What was written of a job after its removal is swept away in time, and nothing around it."""
    app = land.app(land.places[-1])
    before = land.everything()
    job_id = run_job(app)
    store = app.fanout.runtime.store  # type: ignore[attr-defined]
    written = {found.key: bytes(store.get(found.key)) for found in attach(job_id, app=app).objects()}
    late = [key for key in written if "/intent" not in key][-3:]
    assert late
    attach(job_id, app=app).remove()
    for key in late:
        store.put(key, written[key])
    sweep_until_gone(land, app, records_of_jobs(before, land.everything()))
    found = land.everything()
    assert {name: found.get(name) for name in before} == before


@pytest.mark.parametrize("job_id", ["photos", "order-4711", "backups"])
def test_an_id_that_is_a_folders_name(land: Land, job_id: str) -> None:
    """A job may have the name of a folder, or is refused: neither the job nor its removal touches what lies there."""
    app = land.app("")
    before = land.everything()
    try:
        run_job(app, job_id)
    except (FanoutError, StorageError):
        # A clear refusal is right as well.
        pass
    else:
        attach(job_id, app=app).remove()
    found = land.everything()
    assert {name: found.get(name) for name in before} == before


@pytest.mark.parametrize("job_id", ["photos", "order-4711"])
def test_a_removal_of_no_job(land: Land, job_id: str) -> None:
    """To remove a job that there is not removes nothing."""
    app = land.app("")
    before = land.everything()
    with contextlib.suppress(FanoutError):
        attach(job_id, app=app).remove()
    found = land.everything()
    assert {name: found.get(name) for name in before} == before
