"""The engine's face: launches jobs on a cluster, and attaches to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ...declaration.definition import Declaration
from ...errors import BrokerUnavailable, DeclarationError
from ...job import Job
from ...listing import find_jobs
from ...records.ids import check_job_id, new_id
from ...runtime import Runtime
from ...sweep import Move
from ..caller_setup import set_up
from ..job_creation import create_job, has_begun, withdraw
from ..submission import Submission
from .dispatcher import ClusterDispatcher, route
from .sweeper import sweep_once
from .worker import make_runtime

SCRIPT = "__main__"


class ClusterEngine:
    """An engine whose jobs run on a cluster. Nothing of a job lies in the cluster but its messages.

    Args:
        dispatcher: Sends the messages.

    Attributes:
        runtime: Store, settings and dispatcher of this process.
    """

    def __init__(self, dispatcher: ClusterDispatcher) -> None:
        self._dispatcher = dispatcher
        self.runtime: Runtime = make_runtime(dispatcher.settings, dispatcher)

    def submit(
        self,
        task: Declaration,
        values: Mapping[str, Any],
        *,
        job_id: str | None = None,
        setup_in_caller: bool = False,
        tags: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Job[Any]:
        """Launch a job; see `ForkJoinTask.submit`, which calls this with `engine=`.

        Args:
            task: The task: `WordCount.declaration`. The workers import its module.
            values: Its input by name. If a value is an iterator, setup runs in this process.
            job_id: Its id; a new one if not given. A second submission under it gives the same job.
            setup_in_caller: Whether to run setup here in any case.
            tags: Names and texts by which the job is found again.
            **options: See `Options`.

        Raises:
            InvalidInput: The input does not fit the schema; nothing was stored or sent.
            JobConflict: Another job has this id.
            JobFailed: Setup ran here and raised.
            DeclarationError: The task is declared in the script that runs, where no worker finds it.
            BrokerUnavailable: The cluster takes no calls. The job never runs.
            EngineLost: The cluster is gone; likewise.
        """
        if task.module == SCRIPT:
            raise DeclarationError(
                f"{task.name} is declared in the script that runs, and no worker can import {SCRIPT}: move the task "
                "into a module that the cluster's workers can import"
            )
        runtime, job_id = self.runtime, check_job_id(job_id) if job_id is not None else new_id()
        submission = replace(
            Submission.of(
                task,
                values,
                store=runtime.store,
                inline_bytes=runtime.config.inline_bytes,
                options=options,
                setup_in_caller=setup_in_caller,
                tags=tags,
            ),
            routing=route(task.module),
        )
        with runtime.telemetry.launching(job_id, task.name):
            if submission.caller_parameters or setup_in_caller:
                launch_id = set_up(runtime, submission, job_id)
            else:
                launch_id = self._launch(submission, job_id)
        self._dispatcher.keep_swept()
        return Job(job_id, runtime, launch_id=launch_id)

    def attach(self, job_id: str) -> Job[Any]:
        """Return the handle of a job that any process launched in this store. No request."""
        return Job(job_id, self.runtime)

    def jobs(self, *, tags: Mapping[str, str] | None = None, ended: bool = False) -> Iterator[Job[Any]]:
        """Yield the jobs of the store; see `fanout.jobs`."""
        return find_jobs(self.runtime, tags=tags, ended=ended)

    def sweep(self) -> dict[str, Move]:
        """Sweep all open jobs once, and return what was done, by job id; see `fanout.sweep`.

        The cluster sweeps by itself while jobs are open. A sweep moves a job that has made no progress for `stall_s`.

        Raises:
            BrokerUnavailable: The cluster takes no calls.
        """
        return self._sweep(lost=False)

    def resume(self) -> dict[str, Move]:
        """Go on with the open jobs of the store on a new cluster, and return what was done, by job id.

        A cluster that has ended has forgotten all messages. This sends at once what each job misses, without waiting
        for `stall_s`, and has the new cluster sweep. Results that are in the store are not computed again. A job whose
        setup runs in a living caller is left to it.

        Call it once, when no process of the old cluster runs any more: a chunk that still runs there would be run
        twice, which costs time and harms no job.

        The requests are those of a sweep.

        Raises:
            BrokerUnavailable: The cluster takes no calls.
        """
        return self._sweep(lost=True)

    def _sweep(self, *, lost: bool) -> dict[str, Move]:
        moves = sweep_once(self.runtime, lost=lost)
        if moves:
            self._dispatcher.keep_swept()
        return moves

    def _launch(self, submission: Submission, job_id: str) -> str:
        """Write the job's intent and send the message of setup, unless a worker has taken it up. Return the launch."""
        job, is_new = create_job(self.runtime, job_id, submission.intent(now=self.runtime.now))
        if is_new or not has_begun(job.ledger):
            try:
                self._dispatcher.send_setup(job.id, job.intent)
            except BrokerUnavailable:
                if is_new:
                    withdraw(job)
                raise
        return job.launch_id
