"""SIGKILL while a job writes to a sink and commits it, with a reader that looks all the time."""

from __future__ import annotations

import random
import threading
import time
from itertools import product

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs

from fanout import sinks
from fanout.sinks.reading import MANIFEST, SUCCESS
from storage import ObjectNotFound, open_store, open_uploads

from .. import data_tasks as tasks
from ..fault import Fault, Plan, Row, run_concurrently
from ..kill_point import SINK_POINTS, KillPoint, Victim, was_reached
from ..site import LAKE, Site
from ..trial_job import BOUND_S, TrialJob, TrialResult

# Not beside the task: every worker of the campaign would import Arrow.
SCHEMA = pa.schema({"number": pa.int64(), "row": pa.int64(), "body": pa.binary()})
CASES = [*product(dict.fromkeys(SINK_POINTS.values()), ("before", "after"), Victim)]
CANCELLED_EACH = 5
"""Of so many jobs one is cancelled when its worker was killed, and never commits."""
CHUNKS = 6
FIRST_ROWS = 160
"""Rows of the first item: 10 MiB, which take two blocks of an upload."""
LOOK_S = 0.1
MAX_VOID_TRIALS = 3


class Reader(threading.Thread):
    """A reader of one sink, which looks again and again.

    Attributes:
        seen: Descriptions of what it must not see: objects of no commit, or a `_SUCCESS` without all objects.
        looks: Number of looks, by the state of the sink.
    """

    def __init__(self, url: str) -> None:
        super().__init__(name="reader", daemon=True)
        self.url = url
        self.seen: list[str] = []
        self.looks = {"nothing": 0, "part of a commit": 0, "all": 0}
        self._store = open_store(url)
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(LOOK_S):
            self.look()

    def stop(self) -> None:
        """Look for the last time, and end."""
        self._end.set()
        self.join(BOUND_S)
        self.look()

    def look(self) -> None:
        """Look at `_SUCCESS`, then at the objects, then at the manifest, each of which may appear meanwhile."""
        is_committed = self._exists(SUCCESS)
        names = [info.key for info in self._store.list() if not info.key.startswith("_")]
        listed = sinks.published(self.url) if is_committed else None
        if is_committed:
            self.looks["all"] += 1
            if listed is None or names != [entry.name for entry in listed]:
                self.seen.append(f"{SUCCESS} is there, with {len(names)} objects of {listed and len(listed)}")
        else:
            self.looks["part of a commit" if names else "nothing"] += 1
            if names and not self._exists(MANIFEST):
                self.seen.append(f"{len(names)} objects are visible before the commit")

    def _exists(self, name: str) -> bool:
        try:
            self._store.head(name)
        except ObjectNotFound:
            return False
        return True


class SinkKills(Fault):
    """Kills at each call by which a sink is written and committed. A trial is a kill, and a job."""

    name = "sink-kills"
    title = "SIGKILL around each upload of a Parquet sink and in each step of its commit; a fifth of the jobs cancelled"
    gate = "50 kills: readers see all rows once or none, and no orphan is left when the jobs are removed"
    full = 50
    quick = 3

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        trials = [*run_concurrently(lambda seed: self._run_until_reached(site, seed, plan), plan.seeds, concurrency=3)]
        site.wait_until_idle()
        uploads = open_uploads(site.bucket)
        looks: dict[str, int] = {}
        size_bytes = orphans = 0
        for trial in trials:
            row.add(trial.judge())
            size_bytes += trial.size_bytes
            orphans += len([*uploads.list_uploads(trial.prefix)])
            trial.trial_job.job.remove()
            left = [upload.key for upload in uploads.list_uploads(trial.prefix)]
            row.require(not left, f"seed {trial.trial_job.result.seed}: {len(left)} orphans are left, first {left[:1]}")
            for state, count in trial.reader.looks.items():
                looks[state] = looks.get(state, 0) + count
        row.notes.append(
            f"{len(trials)} jobs, {sum(trial.is_cancelled for trial in trials)} cancelled; {size_bytes / 1e9:.2f} GB "
            f"committed; {orphans} orphans before the removal; "
            + ", ".join(f"{count:,} looks saw {state}" for state, count in looks.items())
        )

    def _run_until_reached(self, site: Site, seed: int, plan: Plan) -> SinkTrial:
        """Run a trial until its kill point is reached. Another trial may kill its worker first."""
        for _ in range(MAX_VOID_TRIALS):
            trial = SinkTrial(site, seed, self.random(seed), other_rows=4 if plan.quick else 48)
            trial.run()
            if not trial.trial_job.is_void:
                break
        return trial


class SinkTrial:
    """A job that writes to a sink of its own, its kill point and its reader."""

    def __init__(self, site: Site, seed: int, seeded: random.Random, *, other_rows: int) -> None:
        # 7 is coprime to the number of cases, so a quick run covers calls from all parts of a job.
        point, when, victim = CASES[seed * 7 % len(CASES)]
        self.is_cancelled = seed % CANCELLED_EACH == 2
        if self.is_cancelled:
            point = seeded.choice(["upload started", "part uploaded"])
        index = seeded.randrange(CHUNKS) if not point.startswith("sink ") else None
        rows = FIRST_ROWS + (CHUNKS - 1) * other_rows
        self.site = site
        self.trial_job = TrialJob(
            site,
            seed,
            chunks=CHUNKS,
            expected=[CHUNKS, rows],
            kill_point=KillPoint(point, when, victim, index),
            task=tasks.WriteTask,
            first_rows=FIRST_ROWS,
            other_rows=other_rows,
        )
        self.prefix = f"{LAKE}/{self.trial_job.job_id}/"
        self.size_bytes = 0
        url = f"s3://{site.bucket}/{self.prefix}"
        self.trial_job.values["out"] = sinks.parquet(url, schema=SCHEMA)
        self.reader = Reader(url)
        counts = [FIRST_ROWS] + [other_rows] * (CHUNKS - 1)
        numbered = zip(self.trial_job.numbers, counts, strict=True)
        self._expected_rows = [(number, row) for number, count in numbered for row in range(count)]

    def run(self) -> None:
        """Run the job to its end, read what it has committed, and free the space of it."""
        self.reader.start()
        try:
            self.trial_job.launch()
            self.is_cancelled = self.is_cancelled and self._cancel()
            if not self.is_cancelled:
                self.trial_job.finish()
        finally:
            self.reader.stop()
        if not self.is_cancelled and not self.trial_job.result.wrong:
            self.trial_job.result.wrong = self._find_flaw()
        self._free()

    def judge(self) -> TrialResult:
        """Return the trial's result, once the workers are idle."""
        result = self.trial_job.recheck()
        if self.reader.seen and not result.wrong:
            result.wrong = f"a reader saw: {self.reader.seen[0]}"
        return result

    def _cancel(self) -> bool:
        """Cancel the job when its worker was killed, and return whether it has not ended before."""
        job = self.trial_job.job
        deadline = time.monotonic() + BOUND_S
        while not was_reached(self.site.kill_points, self.trial_job.job_id) and not job.ready:
            if time.monotonic() > deadline:
                self.trial_job.result.hung = True
                return False
            time.sleep(0.05)
        return job.cancel()

    def _find_flaw(self) -> str:
        """Read the folder with Arrow, as a reader that knows nothing of fanout, and return what is wrong with it."""
        environment = self.site.store.environment
        files = pyarrow.fs.S3FileSystem(
            access_key=environment["AWS_ACCESS_KEY_ID"],
            secret_key=environment["AWS_SECRET_ACCESS_KEY"],
            endpoint_override=environment["AWS_ENDPOINT_URL_S3"],
            region="us-east-1",
        )
        table = ds.dataset(f"{self.site.bucket}/{self.prefix}", filesystem=files, format="parquet").to_table()
        self.size_bytes = table.nbytes
        rows = [*zip(table.column("number").to_pylist(), table.column("row").to_pylist(), strict=True)]
        return "" if rows == self._expected_rows else f"Arrow read {len(rows)} rows, not {len(self._expected_rows)}"

    def _free(self) -> None:
        store = open_store(self.reader.url)
        store.delete([info.key for info in store.list() if not info.key.startswith("_")])
