"""Messages that arrive more than once, and messages that are lost."""

from __future__ import annotations

import abc
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from devstack import CeleryWorker
from fanout.records.ledger import Ledger
from tests.traces import wait_until

from ..fault import Fault, Plan, Row, add_results, run_concurrently
from ..site import NO_SWEEP_S, Conditions, Site
from ..trial_job import TrialJob
from ..workers import ARGS

BATCH = 10
"""Number of jobs that lose messages at the same time."""


class Duplicates(Fault):
    """Each message of each job published more than once: setup, process, join and callback."""

    name = "messages-doubled"
    title = "Every message doubled, a tenth of them sent five times"
    gate = "100 jobs: one outcome each"
    full = 100
    quick = 6
    conditions = Conditions(stall_s=NO_SWEEP_S)

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        def run_trial(seed: int) -> TrialJob:
            trial_job = TrialJob(site, seed, pause_s=0.02).launch()
            trial_job.finish()
            return trial_job

        with site.switch_on("copies"):
            trial_jobs = list(run_concurrently(run_trial, plan.seeds, concurrency=plan.concurrency))
            site.wait_until_idle()
        add_results(trial_jobs, row)
        row.require(row.extra > 0, "no step ran twice, so no message was duplicated")


class LostMessages(Fault):
    """Jobs that lose messages, in batches. A sweep has to send them again."""

    chunks = 24
    full = 100
    quick = 4

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        trial_jobs: list[TrialJob] = []
        delays_s: list[float] = []
        for first in range(0, plan.trials, BATCH):
            seeds = plan.seeds[first : first + BATCH]
            batch = [TrialJob(site, seed, chunks=self.chunks, pause_s=0.1) for seed in seeds]
            with ThreadPoolExecutor(len(batch)) as pool:
                # A thread waits for each job, and so sweeps it, while its messages are lost.
                self.lose(
                    site,
                    batch,
                    lambda batch=batch, pool=pool: [pool.submit(run_trial, trial_job) for trial_job in batch],
                )
            delays_s += [delay for trial_job in batch if (delay := measure_resume_s(trial_job)) is not None]
            trial_jobs += batch
        add_results(trial_jobs, row)
        limit_s = 2 * site.stall_s
        row.require(bool(delays_s), "no job lost a message")
        worst_s = max(delays_s, default=0.0)
        row.notes.append(
            f"{len(delays_s)} of {len(trial_jobs)} jobs were resumed by a sweep, the slowest {worst_s:.1f} s after "
            f"it had stopped (sweep interval {site.stall_s:g} s)"
        )
        row.require(worst_s <= limit_s, f"a job was resumed after {worst_s:.1f} s, over {limit_s:g} s")

    @abc.abstractmethod
    def lose(self, site: Site, batch: Sequence[TrialJob], begin: Callable[[], object]) -> None:
        """Start the jobs with `begin`, and drop some of their messages."""


def run_trial(trial_job: TrialJob) -> None:
    """Launch a job and wait for its end."""
    trial_job.launch().finish()


class PurgedMessages(LostMessages):
    """A purge of the queue, once setup of the jobs is done."""

    name = "messages-purged"
    title = "The queue purged in the middle of ten jobs"
    gate = "100 jobs: one outcome each, resumed within two sweep intervals"

    def lose(self, site: Site, batch: Sequence[TrialJob], begin: Callable[[], object]) -> None:
        begin()
        for trial_job in batch:
            trial_job.wait_for_manifest()
        # Most chunks have a message of their own only after their batch was shared out.
        wait_until(lambda: site.purge() > 0, "chunks wait in the queue")


class ExpiredMessages(LostMessages):
    """Messages of process steps that expire after a moment in the queue."""

    name = "messages-expired"
    title = "Messages of process steps expire after 50 ms in the queue"
    gate = "100 jobs: one outcome each, resumed within two sweep intervals"

    def lose(self, site: Site, batch: Sequence[TrialJob], begin: Callable[[], object]) -> None:
        with site.switch_on("ttl", "0.05"):
            begin()
            for trial_job in batch:
                trial_job.wait_for_manifest()
                wait_until(lambda ledger=trial_job.ledger: has_single_result(ledger), "the batch was shared out")


class UnregisteredTask(LostMessages):
    """A worker without the tasks on the same queue for a while. Celery drops messages of unknown tasks."""

    name = "task-unregistered"
    title = "A worker that lacks the task takes messages from the same queue, and drops them"
    gate = "100 jobs: one outcome each, resumed within two sweep intervals"
    quick = 3

    def lose(self, site: Site, batch: Sequence[TrialJob], begin: Callable[[], object]) -> None:
        worker = CeleryWorker.start(
            "tests.campaign.worker_without_tasks:app",
            directory=site.directory / "workers-without-tasks",
            environment=site.workers.environment,
            pool="solo",
            concurrency=1,
            name=f"worker-without-tasks-{uuid.uuid4().hex[:8]}",
            args=ARGS,
        )
        try:
            begin()
            deadline = time.monotonic() + 30
            while worker.log().count("unregistered task") < len(batch) and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            worker.kill()


def has_single_result(ledger: Ledger) -> bool:
    """Return whether a chunk has a result of its own. Then its batch was shared out, and the other chunks were sent."""
    return any("/results/" in info.key and "+" not in info.key for info in ledger.objects())


def measure_resume_s(trial_job: TrialJob) -> float | None:
    """Return the seconds from the last object a job wrote to the first resend; None if no sweep had to resend."""
    written = {
        info.key: info.modified.timestamp() for info in trial_job.ledger.objects() if "/heartbeats/" not in info.key
    }
    resent_at = written.get(trial_job.ledger.keys.resend(0))
    if resent_at is None:
        return None
    # A job whose setup was lost has written nothing but its intent.
    before = (at for at in written.values() if at < resent_at)
    return resent_at - max(before, default=trial_job.ledger.launched_at())
