"""Records where a process spends its time on a job, from outside the library.

`install` puts it around the seams of the library in the processes of `job --profile` alone: the store, the dispatcher,
the codec, the steps and the barrier. A stage's time is its own: an inner stage interrupts the outer one. A call costs
one or two microseconds.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fanout import job
from fanout.declaration.binding import Binding
from fanout.declaration.definition import Declaration
from fanout.engines.celery.dispatcher import CeleryDispatcher
from fanout.stages import barrier, run_join, run_process, run_setup
from storage import ObjectInfo, ObjectStore, PackReader, SequenceEncoder, decode, encode, open_store

from .stages import Span

_METHODS: dict[str, list[tuple[type[Any], str]]] = {
    "validate": [(Declaration, "validate"), (Binding, "check_item"), (Binding, "check_items")],
    "encode": [(SequenceEncoder, name) for name in ("add", "add_all", "add_soon", "finish")],
    "get": [(PackReader, "read")],
    "run": [(Binding, "call_setup")],
    "combine": [(Binding, "call_combine")],
    "join": [(Binding, "call_join")],
    "publish": [(CeleryDispatcher, name) for name in ("send_setup", "send_chunks", "send_join")],
}
_FUNCTIONS: list[tuple[str, Callable[..., Any], bool]] = [
    ("encode", encode, False),
    ("decode", decode, False),
    ("setup", run_setup, False),
    ("process", run_process, False),
    ("join", run_join, False),
    ("barrier", barrier.find_first_missing, True),
    ("barrier", barrier.completion_of, True),
]


class Recorder:
    """A writer of spans: a file a process, written when a thread leaves its outermost stage.

    Args:
        directory: For the files.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._local = threading.local()
        self._lock = threading.Lock()

    @contextmanager
    def record(self, stage: str, *, whole: bool = False) -> Iterator[None]:
        """Record a stage; if it is `whole`, stages within it count as this one."""
        open_stages: list[tuple[str, bool]] = self._local.__dict__.setdefault("stages", [])
        spans: list[Span] = self._local.__dict__.setdefault("spans", [])
        if open_stages and open_stages[-1][1]:
            yield
            return
        now = time.time()
        if open_stages:
            spans.append((open_stages[-1][0], self._local.since, now))
        self._local.since = now
        open_stages.append((stage, whole))
        try:
            yield
        finally:
            now = time.time()
            spans.append((stage, self._local.since, now))
            self._local.since = now
            open_stages.pop()
            if not open_stages:
                # By process id: the children of a prefork pool are forked after this was made.
                with self._lock, (self._directory / f"{os.getpid()}.jsonl").open("a") as lines:
                    lines.write("".join(json.dumps(span) + "\n" for span in spans))
                spans.clear()

    def wrap(self, function: Callable[..., Any], stage: str, *, whole: bool = False) -> Callable[..., Any]:
        """Return the function, recorded as a stage."""

        @functools.wraps(function)
        def recorded(*args: Any, **kwargs: Any) -> Any:
            with self.record(stage, whole=whole):
                return function(*args, **kwargs)

        return recorded

    def wrap_store(self, store: ObjectStore) -> ObjectStore:
        """Record the requests of a store: results and the outcome are stages of their own, a listing is taken whole."""
        put, list_all = store.put, store.list

        def recorded_put(key: str, body: Any, *, if_absent: bool = False) -> None:
            of_results = "/results/" in key or "/combined/" in key
            stage = "put outcome" if key.endswith("/outcome") else "put result" if of_results else "put"
            with self.record(stage):
                put(key, body, if_absent=if_absent)

        def recorded_list(prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
            with self.record("get"):
                return iter([*list_all(prefix, start_after=start_after)])

        changed = {"put": recorded_put, "list": recorded_list}
        vars(store).update(changed, get=self.wrap(store.get, "get"), head=self.wrap(store.head, "get"))
        return store


def install(directory: Path, app: Any) -> None:
    """Put a recorder around the seams of the library, in this process and those forked from it.

    Args:
        directory: For what it records.
        app: The Celery app, whose `send_task` sends each message.
    """
    recorder = Recorder(directory)
    for stage, owners in _METHODS.items():
        for owner, method in owners:
            setattr(owner, method, recorder.wrap(getattr(owner, method), stage))
    bind = Binding.bind_process

    def bind_recorded(binding: Binding, parameters: Mapping[str, Any]) -> Callable[..., Any]:
        return recorder.wrap(bind(binding, parameters), "run")

    Binding.bind_process = bind_recorded  # type: ignore[assignment, method-assign]
    app.send_task = recorder.wrap(app.send_task, "publish")
    # A waiting caller's requests to the store are part of its notification.
    job.Job.get = recorder.wrap(job.Job.get, "notify", whole=True)  # type: ignore[method-assign]
    for stage, function, whole in _FUNCTIONS:
        _replace(function, recorder.wrap(function, stage, whole=whole))
    _replace(open_store, lambda url: recorder.wrap_store(open_store(url)))


def _replace(function: Callable[..., Any], by: Callable[..., Any]) -> None:
    """Put another function in place wherever a module of the library holds this one."""
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").partition(".")[0] in ("fanout", "storage"):
            for attribute, value in list(vars(module).items()):
                if value is function:
                    setattr(module, attribute, by)
