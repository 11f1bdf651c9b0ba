"""Objects of a source that another program changes while the job reads them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from fanout import sources
from storage import ObjectStore, open_store

from .. import data_tasks as tasks
from ..fault import Fault, Plan, Row, run_concurrently
from ..site import LAKE, NO_SWEEP_S, Conditions, Site
from ..trial_job import TrialJob

LINE = b"a line of sixty-four bytes, as long as any other one of them..\n"
LINES = 12 * 2**20 // len(LINE)
"""Lines of the object that changes: three reads of a worker."""
OTHERS = ("a.txt", "c.txt")
CHANGING = "b.txt"
MOMENTS = ("before", "between")


def rewrite(store: ObjectStore) -> None:
    """Write another object of the same length."""
    store.put(CHANGING, LINE.swapcase() * LINES)


def truncate(store: ObjectStore) -> None:
    """Write the first half of the object."""
    store.put(CHANGING, LINE * (LINES // 2))


def delete(store: ObjectStore) -> None:
    """Delete the object."""
    store.delete([CHANGING])


def replace(store: ObjectStore) -> None:
    """Delete the object, and write a longer one that begins like it."""
    store.delete([CHANGING])
    store.put(CHANGING, LINE * (LINES + 1))


WAYS = (rewrite, truncate, delete, replace)


class ChangedInput(Fault):
    """One of three objects that changes after setup has listed it. Way and moment follow from the seed."""

    name = "input-changed"
    title = "An object of a source rewritten, truncated, deleted or replaced before or between a worker's reads"
    gate = "100: one failure each, which names the object"
    full = 100
    quick = 4
    conditions = Conditions(stall_s=NO_SWEEP_S)

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        trial_jobs = [
            *run_concurrently(lambda seed: self._run_trial_job(site, seed), plan.seeds, concurrency=plan.concurrency)
        ]
        site.wait_until_idle()
        errors: Counter[str] = Counter()
        for trial_job in trial_jobs:
            outcome = trial_job.ledger.outcome()
            calls = site.calls.received(trial_job.job_id)
            result = trial_job.recheck()
            result.doubled = outcome is None or outcome.status != "failed" or bool(calls)
            row.add(result)
            if trial_job.error is not None:
                errors[trial_job.error.reason.partition(":")[0]] += 1
        row.notes.append(", ".join(f"{count} × {name}" for name, count in sorted(errors.items())))

    def _run_trial_job(self, site: Site, seed: int) -> TrialJob:
        way, moment = WAYS[seed % len(WAYS)], MOMENTS[(seed + seed // len(WAYS)) % len(MOMENTS)]
        trial_job = TrialJob(site, seed, task=tasks.ReadTask, part_bytes=LINES * len(LINE), moment=moment)
        folder = f"s3://{site.bucket}/{LAKE}/{trial_job.job_id}"
        store = open_store(folder)
        for name in OTHERS:
            store.put(name, LINE * 100)
        store.put(CHANGING, LINE * LINES)
        trial_job.values |= {"text": sources.lines(f"{folder}/"), "changing": f"{folder}/{CHANGING}"}
        trial_job.launch()
        trial_job.wait_for_runs(1, "waiting")
        way(store)
        Path(f"{site.traces / trial_job.job_id}.changed").touch()
        trial_job.finish()
        trial_job.result.wrong = _find_violation(trial_job, f"{folder}/{CHANGING}", is_gone=way is delete)
        store.delete([*OTHERS, CHANGING])
        return trial_job


def _find_violation(trial_job: TrialJob, url: str, *, is_gone: bool) -> str:
    """Return the violation of the gate as text, empty if there is none."""
    error = trial_job.error
    expected = "SourceMissing" if is_gone else "SourceChanged"
    if error is None or error.step != "process" or not error.reason.startswith(f"{expected}: {url} "):
        return f"no {expected} names {url}: {error}"
    return "" if not trial_job.runs("join") else "the join ran"
