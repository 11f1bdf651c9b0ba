"""Dispatchers that run the chunks of a job on executors: in threads, in processes, or where an executor runs calls."""

from __future__ import annotations

import abc
import concurrent.futures
import multiprocessing
import threading
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Self

from ..abc import Delivery
from ..declaration.definition import Declaration
from ..errors import FanoutError
from ..records.chunk_ref import ChunkRef
from ..records.models import Intent
from ..stages import run_process
from .local_dispatchers import LocalDispatcher
from .pool_worker import run_in_worker

MAX_LOST = 3
"""Runs of a chunk that an executor may lose before the job ends. An executor of a cluster runs a lost call again
itself, so more would not help."""


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
            broken = []
            for future in done:
                with self._lock:
                    ref = self._running.pop(future)
                error = _error_of(future)
                if isinstance(error, BrokenExecutor):
                    broken.append(ref)
                elif error is not None:
                    self._handle_error(ref, error)
                else:
                    self._start_all(future.result())  # no limit: it is done
            if broken:
                self._recover(broken)

    def _handle_error(self, ref: ChunkRef, error: BaseException) -> None:
        """Act on an error that a run could not record."""
        raise error

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

    def _recover(self, lost: Sequence[ChunkRef]) -> None:
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


class _RemoteDispatcher(_PoolDispatcher):
    """A dispatcher whose executor runs chunks in other processes, which share a store with this one.

    Args:
        task: The task. Its module must be importable there.
        store_url: URL of the store, which the worker processes open.
    """

    batch_chunks = 1
    """A worker process could share a batch out only at its end."""

    def __init__(self, task: Declaration, store_url: str) -> None:
        self._task = task
        self._store_url = store_url
        super().__init__()

    def _submit(self, ref: ChunkRef, redelivered: bool) -> Future[list[ChunkRef]]:
        task = self._task
        return self._executor.submit(run_in_worker, self._store_url, task.module, task.name, ref, redelivered)


class ProcessDispatcher(_RemoteDispatcher):
    """A dispatcher that runs chunks in worker processes, which share a directory with this process.

    Processes are spawned, not forked: this process has threads that upload, and its forks may hang.

    Args:
        task: The task. Its module must be importable.
        store_url: URL of the store, which the worker processes open.
        workers: Number of processes; the machine's processors if not given.
    """

    def __init__(self, task: Declaration, store_url: str, workers: int | None) -> None:
        self._workers = workers
        super().__init__(task, store_url)

    def _new_executor(self) -> Executor:
        return ProcessPoolExecutor(self._workers, mp_context=multiprocessing.get_context("spawn"))


class ExecutorDispatcher(_RemoteDispatcher):
    """A dispatcher that runs chunks on an executor of the user's, which it neither replaces nor shuts down.

    A call that the executor lost, because a worker died or was taken away, is made again, as a redelivered message is.

    Args:
        task: The task. The workers must be able to import its module.
        store_url: URL of a store that the workers reach.
        executor: Runs the calls. They and their results must survive its pickling.
    """

    def __init__(self, task: Declaration, store_url: str, executor: Executor) -> None:
        self._given = executor
        self._lost: Counter[int] = Counter()
        """Chunk -> how often the executor has lost it."""
        super().__init__(task, store_url)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            running = list(self._running)
        for future in running:
            future.cancel()
        # no limit: the steps of the caller's own task end it, as in a plain call
        concurrent.futures.wait(running)

    def _new_executor(self) -> Executor:
        return self._given

    def _recover(self, lost: Sequence[ChunkRef]) -> None:
        chunks = ", ".join(str(ref.chunk) for ref in lost[:8])
        raise FanoutError(
            f"{self._task.name}: the executor broke while it had chunks {chunks}: a worker died, and the executor "
            "takes no more calls. executor='processes' replaces its workers"
        )

    def _handle_error(self, ref: ChunkRef, error: BaseException) -> None:
        self._lost[ref.chunk] += 1
        if self._lost[ref.chunk] < MAX_LOST and not isinstance(error, ImportError | FanoutError):
            self._start(ref, redelivered=True)
            return
        raise FanoutError(
            f"{self._task.name}: the executor could not run chunk {ref.chunk}: {type(error).__name__}: {error}. "
            f"Its workers must be able to import {self._task.module}, and reach {self._store_url}"
        ) from error


def _error_of(future: Future[list[ChunkRef]]) -> BaseException | None:
    """Return the error of a future that is done, be it that it was cancelled."""
    try:
        return future.exception()  # no limit: it is done
    except CancelledError as error:
        return error
