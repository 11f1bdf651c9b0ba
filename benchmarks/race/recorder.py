"""Records where a process spends its time on a job, from the outside: nothing of it is in the library.

It is put in place by `installed`, in the processes of `benchmarks job --profile` alone, around the seams of the
library: the store, the carrier, the codec, the steps and the barrier. A stage's time is its own: what it spends in
a stage within it counts there. Costs one or two microseconds a call.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fanout import job
from fanout.declaration.binding import Binding
from fanout.declaration.definition import Declaration
from fanout.engines.celery.dispatcher import CeleryDispatcher
from fanout.stages import barrier, run_join, run_process, run_setup
from storage import ObjectInfo, ObjectStore, PackReader, SequenceEncoder, decode, encode, open_store

Segment = tuple[str, float, float]
"""A stage, and from when to when it ran, in seconds since the epoch."""


class Recorder:
    """Writes segments to a file a process, whenever a thread has come to the end of its outermost stage.

    Args:
        directory: For the files.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._local = threading.local()
        self._lock = threading.Lock()

    @contextmanager
    def within(self, stage: str, *, whole: bool = False) -> Iterator[None]:
        """Record a stage.

        Args:
            stage: Its name.
            whole: Whether stages within it count as this one.
        """
        open_stages: list[tuple[str, bool]] = self._local.__dict__.setdefault("stages", [])
        segments: list[Segment] = self._local.__dict__.setdefault("segments", [])
        if open_stages and open_stages[-1][1]:
            yield
            return
        now = time.time()
        if open_stages:
            segments.append((open_stages[-1][0], self._local.since, now))
        self._local.since = now
        open_stages.append((stage, whole))
        try:
            yield
        finally:
            now = time.time()
            segments.append((stage, self._local.since, now))
            self._local.since = now
            open_stages.pop()
            if not open_stages:
                self._write(segments)
                segments.clear()

    def around(self, function: Callable[..., Any], stage: str, *, whole: bool = False) -> Callable[..., Any]:
        """The function, recorded as a stage."""

        @functools.wraps(function)
        def recorded(*args: Any, **kwargs: Any) -> Any:
            with self.within(stage, whole=whole):
                return function(*args, **kwargs)

        return recorded

    def _write(self, segments: list[Segment]) -> None:
        # By process id: the children of a prefork pool are forked after this was made.
        path = self._directory / f"{os.getpid()}.jsonl"
        with self._lock, path.open("a") as lines:
            lines.write("".join(json.dumps(segment) + "\n" for segment in segments))


class RecordedStore(ObjectStore):
    """Passes everything on to another store, and records it. A listing is taken whole.

    Args:
        store: The store that does the work.
        recorder: Where to record.
    """

    def __init__(self, store: ObjectStore, recorder: Recorder) -> None:
        self.url = store.url
        self._store = store
        self._recorder = recorder

    def put(self, key: str, body: Any, *, if_absent: bool = False) -> None:
        of_results = "/results/" in key or "/combined/" in key
        stage = "put outcome" if key.endswith("/outcome") else "put result" if of_results else "put"
        with self._recorder.within(stage):
            self._store.put(key, body, if_absent=if_absent)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Any:
        with self._recorder.within("get"):
            return self._store.get(key, offset=offset, length=length)

    def head(self, key: str) -> ObjectInfo:
        with self._recorder.within("get"):
            return self._store.head(key)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        with self._recorder.within("get"):
            found = [*self._store.list(prefix, start_after=start_after)]
        yield from found

    def delete(self, keys: Iterable[str]) -> None:
        self._store.delete(keys)


def installed(directory: Path, app: Any) -> Recorder:
    """Put a recorder around the seams of the library, in this process and those forked from it.

    Args:
        directory: For what it records.
        app: The Celery app, whose `send_task` sends every message.
    """
    recorder = Recorder(directory)
    for kind, method, stage in (
        (Declaration, "validate", "validate"),
        (Binding, "check_item", "validate"),
        (SequenceEncoder, "add", "encode"),
        (SequenceEncoder, "finish", "encode"),
        (PackReader, "read", "get"),
        (Binding, "call_setup", "run"),
        (Binding, "call_process", "run"),
        (Binding, "call_combine", "combine"),
        (Binding, "call_join", "join"),
        (CeleryDispatcher, "send_setup", "publish"),
        (CeleryDispatcher, "send_chunks", "publish"),
        (CeleryDispatcher, "send_join", "publish"),
    ):
        setattr(kind, method, recorder.around(getattr(kind, method), stage))
    app.send_task = recorder.around(app.send_task, "publish")
    # What a waiting caller asks of the store is its way to be told.
    job.Job.get = recorder.around(job.Job.get, "notify", whole=True)  # type: ignore[method-assign]
    for function, stage, whole in (
        (encode, "encode", False),
        (decode, "decode", False),
        (barrier.complete_after, "barrier", True),
        (barrier.completion_of, "barrier", True),
        (run_setup, "setup", False),
        (run_process, "process", False),
        (run_join, "join", False),
    ):
        _replace(function, recorder.around(function, stage, whole=whole))
    _replace(open_store, lambda url: RecordedStore(open_store(url), recorder))
    return recorder


def _replace(function: Callable[..., Any], by: Callable[..., Any]) -> None:
    """Put another function in place wherever a module of ours holds this one."""
    for module in list(sys.modules.values()):
        name = getattr(module, "__name__", "")
        if name.partition(".")[0] in ("fanout", "storage") and not name.startswith("benchmarks"):
            for attribute, value in list(vars(module).items()):
                if value is function:
                    setattr(module, attribute, by)
