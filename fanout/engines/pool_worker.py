"""The worker's side of an executor: runs chunks in a process that has nothing but the store and the task's module."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence

from storage import open_store

from ..abc import Delivery
from ..config.encryption import encrypt_store
from ..external.access import Access
from ..records.chunk_ref import ChunkRef
from ..records.models import Intent
from ..runtime import Runtime
from ..stages import run_process
from .local_dispatchers import LocalDispatcher, make_local_config
from .task_import import import_task

CACHED_RUNTIMES = 4
"""Runtimes that a worker process keeps: an executor may run several jobs at once, each with a store of its own."""


class _Outbox(LocalDispatcher):
    """The dispatcher of a worker process, which collects chunks for the caller's process to send again.

    A worker process may run several chunks in threads of its own. Each thread has its chunks.
    """

    batch_chunks = 1

    def __init__(self) -> None:
        self._local = threading.local()

    def send_chunks(self, intent: Intent, refs: Sequence[ChunkRef]) -> None:
        self._local.refs = [*getattr(self._local, "refs", ()), *refs]

    def take(self) -> list[ChunkRef]:
        """Return the chunks that this thread has collected, and forget them."""
        refs: list[ChunkRef] = getattr(self._local, "refs", [])
        self._local.refs = []
        return refs

    def finish(self) -> None:
        """Do nothing: no chunk runs here."""


def run_in_worker(store_url: str, module: str, task: str, ref: ChunkRef, redelivered: bool) -> list[ChunkRef]:
    """Run one chunk in a worker process, and return the chunks that must run again.

    Args:
        store_url: URL of the store, which the process opens at its first chunk.
        module: Name of the module that declares the task. It is imported unless the process knows the task.
        task: Name of the task.
        ref: The chunk.
        redelivered: Whether a run of it was lost.

    Raises:
        ImportError: The module can't be imported.
        UnknownTask: The module declares no such task.
        StorageError: The store does not answer. The chunk may safely run again.
    """
    import_task(module, task)
    runtime, outbox = _open_runtime(store_url)
    outbox.take()
    run_process(runtime, ref, Delivery(redelivered=redelivered))
    return outbox.take()


@functools.lru_cache(maxsize=CACHED_RUNTIMES)
def _open_runtime(store_url: str) -> tuple[Runtime, _Outbox]:
    outbox = _Outbox()
    config = make_local_config()
    store = encrypt_store(open_store(store_url), config)
    return Runtime(store, config, outbox, access=Access.of_caller()), outbox
