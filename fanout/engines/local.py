"""Runs a job in this process, in threads, or in processes: no Celery, no server, the same stages."""

from __future__ import annotations

import abc
import concurrent.futures
import functools
import importlib
import multiprocessing
import tempfile
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Self

from storage import MemoryStore, ObjectStore, open_store

from ..declaration.definition import Declaration
from ..errors import ConfigError, FanoutError
from ..records.chunk_ref import ChunkRef
from ..records.failure import Failure
from ..records.keys import new_id
from ..records.models import Intent, Outcome
from ..runtime import Runtime
from ..stages import run_join, run_process, run_setup
from ..stages.delivery import Delivery
from .submission import Submission, local_config, put_on_record

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
        InvalidInput: Nothing was run.
        JobFailed: A step raised; its exception is the `__cause__` where it was raised in this process.
    """
    job_id = new_id()
    errors: list[BaseException] = []
    config = local_config()
    with ExitStack() as stack:
        crew: _Crew
        store: ObjectStore
        if executor == "inline":
            store = MemoryStore()
            crew = _Inline()
        elif executor == "threads":
            store = MemoryStore()
            crew = stack.enter_context(_Threads(workers))
        elif executor == "processes":
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="fanout-"))
            store = open_store(Path(directory).as_uri())
            crew = stack.enter_context(_Processes(task, store.url, workers))
        else:
            raise ConfigError(f"executor must be 'inline', 'threads' or 'processes', not {executor!r}")
        runtime = Runtime(store, config, crew, on_error=errors.append)
        crew.runtime = runtime
        submission = Submission.of(task, values, store=store, inline_bytes=config.inline_bytes, options=options)
        outcome = _driven(runtime, crew, submission, job_id)
        if outcome.failure is not None:
            raise outcome.error(job_id) from _cause(outcome, errors)
        return runtime.ledger(job_id).value(outcome)


def _cause(outcome: Outcome, errors: Sequence[BaseException]) -> BaseException | None:
    """The exception that became the outcome's failure, if it was raised in this process."""
    failure = Failure.read(outcome.failure)
    alike = (Failure.of(failure.step, error) for error in errors) if failure else ()
    found = (
        error
        for error, made in zip(errors, alike, strict=False)
        if failure and (made.error, made.reason) == (failure.error, failure.reason)
    )
    return next(found, None)


def run_inline(runtime: Runtime, submission: Submission, job_id: str) -> Outcome:
    """Run a job to its end in the caller's thread, but in the store of another engine's runtime; for its eager mode.

    Nothing is sent. The job stays in the store, where any handle finds it.
    """
    crew = _Inline()
    crew.runtime = Runtime(runtime.store, runtime.config, crew, tasks=runtime.tasks)
    return _driven(crew.runtime, crew, submission, job_id)


def inline_runtime(runtime: Runtime) -> Runtime:
    """A runtime that runs in the caller's thread whatever it is told to send; for handles in another's eager mode."""
    crew = _Eager()
    crew.runtime = Runtime(runtime.store, runtime.config, crew, tasks=runtime.tasks)
    return crew.runtime


def _driven(runtime: Runtime, crew: _Crew, submission: Submission, job_id: str) -> Outcome:
    job, first = put_on_record(runtime, job_id, submission.intent(now=runtime.now))
    if not first:
        latest = runtime.open(job_id, job.intent, job.ledger.latest_generation())
        current = latest.ledger.outcome()
        if current is not None:
            return current
    run_setup(runtime, job_id, launch_id=job.launch_id, caller_parameters=submission.caller_parameters, fresh=first)
    crew.finish()
    outcome = run_join(runtime, job_id, launch_id=job.launch_id)
    if outcome is None:
        raise FanoutError(f"job {job_id}: chunks are missing after all have run; please report this")
    return outcome


class _Crew(abc.ABC):
    """A carrier within this process: keeps track of what is still to run. The join is run by `run`, at the end."""

    runtime: Runtime

    def send_setup(self, job_id: str, intent: Intent, *, generation: int = 0, resent: bool = False) -> None:
        raise AssertionError("a local job is not swept: its setup runs in the caller")

    def send_join(
        self, job_id: str, intent: Intent, continuation: str | None, *, resent: bool, generation: int = 0
    ) -> None:
        """Nothing to send: `run` joins once nothing is left to do."""
        return

    @abc.abstractmethod
    def send_chunks(self, intent: Intent, refs: Sequence[ChunkRef]) -> None:
        """Run process on these chunks, now or soon."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Return when no chunk is left to run; raises what a worker could not put on record."""


class _Inline(_Crew):
    """Runs each chunk in the caller's thread, before setup goes on to the next."""

    def __init__(self) -> None:
        self._waiting: deque[ChunkRef] = deque()
        self._at_work = False

    def send_chunks(self, intent: Intent, refs: Sequence[ChunkRef]) -> None:
        self._waiting.extend(refs)
        # A chunk that raised is sent again from within its own run.
        if self._at_work:
            return
        self._at_work = True
        try:
            while self._waiting:
                run_process(self.runtime, self._waiting.popleft())
        finally:
            self._at_work = False

    def finish(self) -> None:
        """All has run by the time that send_chunks returned."""


class _Eager(_Inline):
    """Runs the other steps at once, too."""

    def send_setup(self, job_id: str, intent: Intent, *, generation: int = 0, resent: bool = False) -> None:
        run_setup(
            self.runtime, job_id, launch_id=intent.launch_id, generation=generation, delivery=Delivery(resent=resent)
        )

    def send_join(
        self, job_id: str, intent: Intent, continuation: str | None, *, resent: bool, generation: int = 0
    ) -> None:
        run_join(
            self.runtime, job_id, launch_id=intent.launch_id, generation=generation, delivery=Delivery(resent=resent)
        )


class _Pool(_Crew):
    """Runs chunks on an executor and sends on what they give back."""

    def __init__(self) -> None:
        self._executor = self._new_executor()
        self._running: dict[Future[list[ChunkRef]], ChunkRef] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # no limit: the steps of the caller's own task end it, as in a plain call
        self._executor.shutdown(cancel_futures=True)

    @abc.abstractmethod
    def _new_executor(self) -> Executor:
        """The executor to begin with, and another one when it is broken."""

    @abc.abstractmethod
    def _submit(self, ref: ChunkRef, redelivered: bool) -> Future[list[ChunkRef]]:
        """Start one chunk; the future gives the chunks that are to run again."""

    def send_chunks(self, intent: Intent, refs: Sequence[ChunkRef]) -> None:
        self._start_all(refs)

    def finish(self) -> None:
        while True:
            with self._lock:
                running = dict(self._running)
            if not running:
                return
            # no limit: the steps of the caller's own task end it, as in a plain call
            done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            # no limit: these futures are done
            lost = [running[future] for future in done if isinstance(future.exception(), BrokenExecutor)]
            for future in done:
                # no limit: these futures are done
                if not isinstance(future.exception(), BrokenExecutor):
                    self._start_all(future.result())  # no limit: it is done
                with self._lock:
                    del self._running[future]
            if lost:
                self._recover(lost)

    def _start_all(self, refs: Sequence[ChunkRef]) -> None:
        for ref in refs:
            self._start(ref)

    def _start(self, ref: ChunkRef, *, redelivered: bool = False) -> None:
        with self._lock:
            try:
                future = self._submit(ref, redelivered)
            except BrokenExecutor as error:
                future = Future()
                future.set_exception(error)
            self._running[future] = ref

    def _recover(self, lost: list[ChunkRef]) -> None:
        """Run the chunks of a broken pool one by one: nobody can tell which of them killed its worker."""
        self._renew()
        waiting = deque(lost)
        while waiting:
            try:
                # no limit: the steps of the caller's own task end it, as in a plain call
                again = self._submit(waiting[0], True).result()
            except BrokenExecutor:
                # This one did. It runs once more, until it is given up.
                self._renew()
                continue
            waiting.popleft()
            self._start_all(again)

    def _renew(self) -> None:
        # no limit: the pool is broken, and its processes are gone
        self._executor.shutdown(cancel_futures=True)
        self._executor = self._new_executor()


class _Threads(_Pool):
    def __init__(self, workers: int | None) -> None:
        self._workers = workers
        super().__init__()

    def _new_executor(self) -> Executor:
        return ThreadPoolExecutor(self._workers, thread_name_prefix="fanout")

    def _submit(self, ref: ChunkRef, redelivered: bool) -> Future[list[ChunkRef]]:
        return self._executor.submit(self._run, ref, redelivered)

    def _run(self, ref: ChunkRef, redelivered: bool) -> list[ChunkRef]:
        run_process(self.runtime, ref, Delivery(redelivered=redelivered))
        return []


class _Processes(_Pool):
    """Worker processes that share a directory with this one.

    They are spawned, not forked: this process has threads that upload, and a fork of those may hang.
    """

    def __init__(self, task: Declaration, store_url: str, workers: int | None) -> None:
        self._task = task
        self._store_url = store_url
        self._workers = workers
        super().__init__()

    def _new_executor(self) -> Executor:
        return ProcessPoolExecutor(self._workers, mp_context=multiprocessing.get_context("spawn"))

    def _submit(self, ref: ChunkRef, redelivered: bool) -> Future[list[ChunkRef]]:
        task = self._task
        return self._executor.submit(_process_here, self._store_url, task.module, task.name, ref, redelivered)


class _Outbox(_Crew):
    """The carrier of a worker process: keeps what is to be sent, for the parent to send."""

    def __init__(self) -> None:
        self.refs: list[ChunkRef] = []

    def send_chunks(self, intent: Intent, refs: Sequence[ChunkRef]) -> None:
        self.refs.extend(refs)

    def finish(self) -> None:
        """Nothing runs here."""


@functools.lru_cache(maxsize=1)
def _here(store_url: str, module: str, task: str) -> tuple[Runtime, _Outbox]:
    """What a worker process works with, made once."""
    importlib.import_module("__mp_main__" if module == "__main__" else module)
    outbox = _Outbox()
    runtime = Runtime(open_store(store_url), local_config(), outbox)
    runtime.tasks.find(task)
    return runtime, outbox


def _process_here(store_url: str, module: str, task: str, ref: ChunkRef, redelivered: bool) -> list[ChunkRef]:
    runtime, outbox = _here(store_url, module, task)
    outbox.refs.clear()
    run_process(runtime, ref, Delivery(redelivered=redelivered))
    return list(outbox.refs)
