"""Dispatchers that run the chunks of a job on this machine: inline, in threads, or in processes."""

from __future__ import annotations

import abc
import concurrent.futures
import functools
import importlib
import multiprocessing
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Self

from storage import open_store

from ..abc import Delivery
from ..config.settings import Config
from ..declaration.definition import Declaration
from ..external.access import Access
from ..records.chunk_ref import ChunkRef
from ..records.keys import GROUP_WIDTH, new_token
from ..records.models import Intent, Note
from ..runtime import Runtime
from ..stages import run_join, run_process, run_setup


def make_local_config() -> Config:
    """Return the settings of a job that stays on this machine, with a large limit for inline parameters."""
    return Config(store="memory://", inline_bytes=64 * 1024)


class LocalDispatcher(abc.ABC):
    """A dispatcher that runs chunks itself. Its caller runs setup first and join last.

    Attributes:
        runtime: The runtime that its steps work with. Set it before the first chunk is sent.
    """

    runtime: Runtime
    batch_chunks = GROUP_WIDTH

    def send_setup(self, job_id: str, intent: Intent, *, generation: int = 0, resent: bool = False) -> None:
        raise AssertionError("no sweep handles a local job: its setup runs in the caller")

    def send_join(
        self, job_id: str, intent: Intent, continuation: str | None, *, resent: bool, generation: int = 0
    ) -> None:
        """Do nothing: the caller runs join after the last chunk."""
        return

    @abc.abstractmethod
    def send_chunks(self, intent: Intent, refs: Sequence[ChunkRef]) -> None:
        """Run process on these chunks, now or soon."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Wait until no chunk is left to run. Raises the errors that a worker could not record."""


class InlineDispatcher(LocalDispatcher):
    """A dispatcher that runs each chunk in the caller's thread, before setup makes the next one."""

    def __init__(self) -> None:
        self._waiting: deque[ChunkRef] = deque()
        self._is_running = False

    def send_chunks(self, intent: Intent, refs: Sequence[ChunkRef]) -> None:
        self._waiting.extend(refs)
        # A chunk that raised is sent again from within its own run.
        if self._is_running:
            return
        self._is_running = True
        try:
            while self._waiting:
                run_process(self.runtime, self._waiting.popleft())
        finally:
            self._is_running = False

    def finish(self) -> None:
        """Do nothing: every chunk had run when `send_chunks` returned."""


class EagerDispatcher(InlineDispatcher):
    """A dispatcher that also runs setup and join in the caller's thread."""

    def send_setup(self, job_id: str, intent: Intent, *, generation: int = 0, resent: bool = False) -> None:
        run_setup(
            self.runtime, job_id, launch_id=intent.launch_id, generation=generation, delivery=Delivery(resent=resent)
        )

    def send_join(
        self, job_id: str, intent: Intent, continuation: str | None, *, resent: bool, generation: int = 0
    ) -> None:
        outcome = run_join(
            self.runtime, job_id, launch_id=intent.launch_id, generation=generation, delivery=Delivery(resent=resent)
        )
        if outcome is not None:
            ledger = self.runtime.job(job_id, intent.launch_id, generation).ledger
            ledger.write_delivered(Note(by=new_token()))


class _PoolDispatcher(LocalDispatcher):
    """A dispatcher that runs chunks on an executor, and runs those again that a worker sends again."""

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
        """Make an executor: the first one, or the successor of a broken one."""

    @abc.abstractmethod
    def _submit(self, ref: ChunkRef, redelivered: bool) -> Future[list[ChunkRef]]:
        """Start one chunk. The future gives the chunks that must run again."""

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
        """Run the chunks of a broken pool one by one, since any of them may have killed its worker."""
        self._replace_executor()
        waiting = deque(lost)
        while waiting:
            try:
                # no limit: the steps of the caller's own task end it, as in a plain call
                resent = self._submit(waiting[0], True).result()
            except BrokenExecutor:
                # This chunk killed its worker. It runs again until its attempts are used up.
                self._replace_executor()
                continue
            waiting.popleft()
            self._start_all(resent)

    def _replace_executor(self) -> None:
        # no limit: the pool is broken, and its processes are gone
        self._executor.shutdown(cancel_futures=True)
        self._executor = self._new_executor()


class ThreadDispatcher(_PoolDispatcher):
    """A dispatcher that runs chunks in threads.

    Args:
        workers: Number of threads; if not given, `ThreadPoolExecutor` chooses it.
    """

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


class ProcessDispatcher(_PoolDispatcher):
    """A dispatcher that runs chunks in worker processes, which share a directory with this process.

    Processes are spawned, not forked: this process has threads that upload, and its forks may hang.

    Args:
        task: The task. Its module must be importable.
        store_url: URL of the store, which the worker processes open.
        workers: Number of processes; the machine's processors if not given.
    """

    batch_chunks = 1
    """A worker process could share a batch out only at its end."""

    def __init__(self, task: Declaration, store_url: str, workers: int | None) -> None:
        self._task = task
        self._store_url = store_url
        self._workers = workers
        super().__init__()

    def _new_executor(self) -> Executor:
        return ProcessPoolExecutor(self._workers, mp_context=multiprocessing.get_context("spawn"))

    def _submit(self, ref: ChunkRef, redelivered: bool) -> Future[list[ChunkRef]]:
        task = self._task
        return self._executor.submit(_run_in_worker, self._store_url, task.module, task.name, ref, redelivered)


class _Outbox(LocalDispatcher):
    """The dispatcher of a worker process, which collects chunks for the parent process to run."""

    def __init__(self) -> None:
        self.refs: list[ChunkRef] = []

    def send_chunks(self, intent: Intent, refs: Sequence[ChunkRef]) -> None:
        self.refs.extend(refs)

    def finish(self) -> None:
        """Do nothing: no chunk runs here."""


@functools.lru_cache(maxsize=1)
def _worker_runtime(store_url: str, module: str, task: str) -> tuple[Runtime, _Outbox]:
    """Make the runtime of this worker process, at its first chunk."""
    importlib.import_module("__mp_main__" if module == "__main__" else module)
    outbox = _Outbox()
    runtime = Runtime(open_store(store_url), make_local_config(), outbox, access=Access.of_caller())
    runtime.tasks.find(task)
    return runtime, outbox


def _run_in_worker(store_url: str, module: str, task: str, ref: ChunkRef, redelivered: bool) -> list[ChunkRef]:
    """Run one chunk in a worker process, and return the chunks that must run again."""
    runtime, outbox = _worker_runtime(store_url, module, task)
    outbox.refs.clear()
    run_process(runtime, ref, Delivery(redelivered=redelivered))
    return list(outbox.refs)
