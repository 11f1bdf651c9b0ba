"""Mutated messages against the parser of fanout's Celery tasks, with a store that must not be asked."""

from __future__ import annotations

import base64
import random
from typing import Any, NoReturn

from celery import Celery
from celery.exceptions import Ignore

from fanout.engines.celery.messages import read_address
from fanout.engines.celery.tasks import JoinTask, ProcessTask, SetupTask
from storage import encode

from .values import mutate

JOB, LAUNCH, TOKEN = "0b5fe0ba-0000-4000-8000-000000000001", "0b5fe0ba-0000-4000-8000-000000000002", "0123456789abcdef"
SUBMISSION = {
    "inline": base64.b64encode(encode({"a": encode(1)})).decode(),
    "references": {"b": "0" * 32},
    "options": {"chunk_items": 1, "tolerate": 0.5},
    "receives": None,
    "routing": {"queue": "q", "priority": 3},
    "tags": {"kind": "test"},
    "made_at": 1,
}
MESSAGES: list[tuple[str, Any]] = [
    ("setup", [JOB, [], {"launch_id": LAUNCH, "generation": 1, "resent": True}]),
    ("setup", [JOB, [[1, 2]], {"submission": {**SUBMISSION, "receives": "c"}}]),
    ("setup", [JOB, [], {"submission": SUBMISSION}]),
    ("process", [JOB, [JOB, LAUNCH, TOKEN, 5, 0, 0, 100, "0" * 32, 7, [3, 2, 1, 1], 0, 0], {}]),
    ("process", [JOB, [JOB, LAUNCH, TOKEN, 5, 0, 0, 100, "0" * 32, 7, 3, 1, 1, 2, 4], {}]),
    ("join", [JOB, [JOB], {"launch_id": LAUNCH, "generation": 2, "held": [TOKEN, TOKEN], "resent": False}]),
]
"""Step of each, and its task id, arguments and keyword arguments."""


class StoreAsked(BaseException):
    """A message that the parser refuses has reached the runtime."""


def _refuse() -> NoReturn:
    raise StoreAsked


class MessageFuzz:
    """Cases by number: each is one mutated message."""

    name = "messages"

    def __init__(self) -> None:
        app = Celery("fuzz", broker="memory://", set_as_current=False)
        self._tasks = {}
        for kind in (SetupTask, ProcessTask, JoinTask):
            task = kind.of("fuzz", _refuse)
            app.register_task(task)
            self._tasks[kind.step] = task

    def run(self, source: random.Random) -> str:
        """Run one case; return how it ended.

        Raises:
            BaseException: Any error but the parser's own is a finding.
        """
        step, message = source.choice(MESSAGES)
        mutated = mutate(message, source)
        if not isinstance(mutated, list) or len(mutated) != 3:
            mutated = [JOB, mutated, {}]
        task_id, args, kwargs = mutated
        try:
            read_address(step, task_id, args, kwargs)
        except ValueError as error:
            if len(str(error)) > 1000:
                raise AssertionError(f"an error of {len(str(error))} characters") from error
            if isinstance(args, list) and isinstance(kwargs, dict) and all(isinstance(name, str) for name in kwargs):
                self._drop(step, task_id, args, kwargs)
            return "refused"
        return "taken"

    def _drop(self, step: str, task_id: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
        task = self._tasks[step]
        task.push_request(id=task_id)
        try:
            task.run(*args, **kwargs)
        except Ignore:
            return
        finally:
            task.pop_request()
        raise AssertionError("a worker runs what the parser refuses")
