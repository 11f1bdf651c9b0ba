"""The local engine: runs a job in this process, in threads or in processes, without Celery or a server."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from storage import MemoryStore, ObjectStore, open_store

from ..declaration.definition import Declaration
from ..errors import ConfigError, FanoutError
from ..external.access import Access
from ..records.failure import Failure
from ..records.keys import new_id, new_token
from ..records.models import Note, Outcome
from ..runtime import Runtime
from ..stages import run_join, run_setup
from .job_creation import create_job
from .local_dispatchers import (
    EagerDispatcher,
    InlineDispatcher,
    LocalDispatcher,
    ProcessDispatcher,
    ThreadDispatcher,
    make_local_config,
)
from .submission import Submission

ExecutorName = Literal["inline", "threads", "processes"]


def run(
    task: Declaration,
    values: Mapping[str, Any],
    *,
    executor: ExecutorName = "inline",
    workers: int | None = None,
    options: Mapping[str, Any],
) -> Any:
    """Run a job to its end and return the join's value.

    Args:
        task: The task.
        values: Its input by parameter name; an iterator is streamed.
        executor: `inline` runs each chunk as soon as setup has made it, for debugging; `threads` suits steps that
            wait; `processes` suits steps that compute, and needs a task that a new process can import.
        workers: Number of threads or processes; the machine's processors if not given.
        options: Changes to the task's `Options`.

    Raises:
        InvalidInput: The input was refused. No step was run.
        ConfigError: `executor` or an option is unknown, or an option is out of range.
        JobFailed: A step raised. Its exception is the `__cause__` if it was raised in this process.
    """
    job_id = new_id()
    errors: list[BaseException] = []
    config = make_local_config()
    with ExitStack() as stack:
        dispatcher: LocalDispatcher
        store: ObjectStore
        if executor == "inline":
            store = MemoryStore()
            dispatcher = InlineDispatcher()
        elif executor == "threads":
            store = MemoryStore()
            dispatcher = stack.enter_context(ThreadDispatcher(workers))
        elif executor == "processes":
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="fanout-"))
            store = open_store(Path(directory).as_uri())
            dispatcher = stack.enter_context(ProcessDispatcher(task, store.url, workers))
        else:
            raise ConfigError(f"executor must be 'inline', 'threads' or 'processes', not {executor!r}")
        runtime = Runtime(store, config, dispatcher, on_error=errors.append, access=Access.of_caller())
        dispatcher.runtime = runtime
        submission = Submission.of(task, values, store=store, inline_bytes=config.inline_bytes, options=options)
        outcome = _run_job(runtime, dispatcher, submission, job_id)
        if outcome.failure is not None:
            raise outcome.error(job_id) from _find_cause(outcome, errors)
        return runtime.ledger(job_id).value(outcome)


def run_inline(runtime: Runtime, submission: Submission, job_id: str) -> Outcome:
    """Run a job to its end in the caller's thread, with another engine's store. For that engine's eager mode.

    Sends no message. The job stays in the store, where `attach` finds it.
    """
    dispatcher = InlineDispatcher()
    dispatcher.runtime = _derive(runtime, dispatcher)
    return _run_job(dispatcher.runtime, dispatcher, submission, job_id, is_kept=True)


def make_inline_runtime(runtime: Runtime) -> Runtime:
    """Return a runtime that runs every message in the caller's thread instead of sending it.

    `Job` uses it in another engine's eager mode.
    """
    dispatcher = EagerDispatcher()
    dispatcher.runtime = _derive(runtime, dispatcher)
    return dispatcher.runtime


def _derive(runtime: Runtime, dispatcher: LocalDispatcher) -> Runtime:
    """Return a runtime like another one, with a dispatcher of this machine."""
    return Runtime(runtime.store, runtime.config, dispatcher, tasks=runtime.tasks, access=runtime.access)


def _run_job(
    runtime: Runtime, dispatcher: LocalDispatcher, submission: Submission, job_id: str, *, is_kept: bool = False
) -> Outcome:
    """Run a job to its end. With `is_kept`, record its delivery, so that no sweep delivers it again."""
    job, is_new = create_job(runtime, job_id, submission.intent(now=runtime.now))
    if not is_new:
        latest = runtime.open(job_id, job.intent, job.ledger.latest_generation())
        current = latest.ledger.outcome()
        if current is not None:
            return current
    run_setup(runtime, job_id, launch_id=job.launch_id, caller_parameters=submission.caller_parameters, fresh=is_new)
    dispatcher.finish()
    outcome = run_join(runtime, job_id, launch_id=job.launch_id)
    if outcome is None:
        raise FanoutError(f"job {job_id}: chunks are missing after all have run; please report this")
    if is_kept:
        job.ledger.write_delivered(Note(by=new_token()))
    return outcome


def _find_cause(outcome: Outcome, errors: Sequence[BaseException]) -> BaseException | None:
    """Return the exception that became the outcome's failure, if it was raised in this process."""
    failure = Failure.read(outcome.failure)
    if failure is None:
        return None
    for error in errors:
        raised = Failure.of(failure.step, error)
        if (raised.error, raised.reason) == (failure.error, failure.reason):
            return error
    return None
