"""The local engine: runs a job in this process, in threads, in processes or on an executor, without Celery."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from storage import MemoryStore, ObjectStore, open_store

from ..config.checks import check_count, check_text
from ..config.encryption import encrypt_store
from ..config.settings import Config
from ..declaration.definition import Declaration
from ..errors import ConfigError, FanoutError
from ..external.access import Access
from ..records.failure import Failure
from ..records.ids import new_id, new_token
from ..records.models import Note, Outcome
from ..removal import discard_staged
from ..runtime import Runtime
from ..stages import run_join, run_setup
from .job_creation import create_job
from .local_dispatchers import EagerDispatcher, InlineDispatcher, LocalDispatcher, make_local_config
from .pool_dispatchers import ExecutorDispatcher, ProcessDispatcher, ThreadDispatcher
from .submission import Submission

ExecutorName = Literal["inline", "threads", "processes"]


def run(
    task: Declaration,
    values: Mapping[str, Any],
    *,
    executor: ExecutorName | Executor = "inline",
    workers: int | None = None,
    store: str | None = None,
    options: Mapping[str, Any],
) -> Any:
    """Run a job to its end and return the join's value. Setup and join run in this process.

    Args:
        task: The task.
        values: Its input by parameter name; an iterator is streamed.
        executor: `inline` runs each chunk as soon as setup has made it, for debugging; `threads` suits steps that
            wait; `processes` suits steps that compute, and needs a task that a new process can import. An executor
            of the caller's runs the chunks where it runs calls; it is not shut down.
        workers: Number of threads or processes; the machine's processors if not given.
        store: URL of the store for the job's data, which is removed at the end. If not given, memory or a temporary
            directory of this machine.
        options: Changes to the task's `Options`.

    Raises:
        InvalidInput: The input was refused. No step was run.
        ConfigError: `executor` or an option is unknown, or an option is out of range; or the workers cannot reach the
            store.
        JobFailed: A step raised. Its exception is the `__cause__` if it was raised in this process.
        FanoutError: The given executor broke, or could not run a chunk.
    """
    if workers is not None:
        check_count("workers", workers)
    if store is not None:
        check_text("store", store, example="s3://bucket/prefix")
    job_id = new_id()
    errors: list[BaseException] = []
    config = make_local_config()
    with ExitStack() as stack:
        opened = _open_store(stack, store, config, shared=executor not in ("inline", "threads"))
        dispatcher = _make_dispatcher(stack, task, opened, executor, workers)
        runtime = Runtime(opened, config, dispatcher, on_error=errors.append, access=Access.of_caller())
        dispatcher.runtime = runtime
        submission = Submission.of(task, values, store=opened, inline_bytes=config.inline_bytes, options=options)
        if store is not None:
            stack.callback(runtime.remove, job_id)
        outcome = _run_job(runtime, dispatcher, submission, job_id)
        if outcome.failure is not None:
            discard_staged(runtime.ledger(job_id), runtime.access)
            raise outcome.error(job_id) from _find_cause(outcome, errors)
        return runtime.ledger(job_id).value(outcome)


def _open_store(stack: ExitStack, url: str | None, config: Config, *, shared: bool) -> ObjectStore:
    """Return the store of a job; that of no URL ends with the stack.

    Args:
        stack: Ends at the end of the job.
        url: The URL, if one was given.
        config: The settings, of which those of encryption count for a store beyond this process's memory.
        shared: Whether other processes must reach the store.
    """
    if url is None:
        if not shared:
            return MemoryStore()
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="fanout-"))
        return encrypt_store(open_store(Path(directory).as_uri()), config)
    if shared and url.startswith("memory:"):
        raise ConfigError(f"store={url!r} is this process's own: name one that the executor's workers reach")
    return encrypt_store(open_store(url), config)


def _make_dispatcher(
    stack: ExitStack, task: Declaration, store: ObjectStore, executor: ExecutorName | Executor, workers: int | None
) -> LocalDispatcher:
    if isinstance(executor, Executor):
        if workers is not None:
            raise ConfigError("workers= is for 'threads' and 'processes': an executor has workers of its own")
        return stack.enter_context(ExecutorDispatcher(task, store.url, executor))
    if executor == "inline":
        return InlineDispatcher()
    if executor == "threads":
        return stack.enter_context(ThreadDispatcher(workers))
    if executor == "processes":
        return stack.enter_context(ProcessDispatcher(task, store.url, workers))
    raise ConfigError(
        f"executor must be 'inline', 'threads' or 'processes', or a concurrent.futures.Executor, not {executor!r}"
    )


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
    return Runtime(
        runtime.store,
        runtime.config,
        dispatcher,
        tasks=runtime.tasks,
        access=runtime.access,
        telemetry=runtime.telemetry,
    )


def _run_job(
    runtime: Runtime, dispatcher: LocalDispatcher, submission: Submission, job_id: str, *, is_kept: bool = False
) -> Outcome:
    """Run a job to its end. With `is_kept`, record its delivery, so that no sweep delivers it again."""
    with runtime.telemetry.launching(job_id, submission.task.name):
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
