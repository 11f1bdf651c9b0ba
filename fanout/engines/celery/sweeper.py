"""The Celery task that sweeps, for `celery beat` to send."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery import Task

from ...runtime import Runtime
from ...sweep import Move, sweep

_LOG = logging.getLogger("fanout")


class SweepTask(Task[Any, Any]):
    """Moves every job that has stalled and removes what is old; see `fanout.sweep`. For `celery beat`.

    Acknowledged before it runs: the next one makes up for it.
    """

    abstract = True
    name = "fanout.sweep"
    ignore_result = True
    acks_late = False
    serializer = "json"
    _runtime: Callable[[], Runtime]

    @classmethod
    def of(cls, runtime: Callable[[], Runtime]) -> SweepTask:
        made: type[SweepTask] = type("SweepTask", (cls,), {"_runtime": staticmethod(runtime)})
        return made()

    def run(self) -> None:
        for job_id, move in sweep(self._runtime()):
            if move is not Move.NONE:
                _LOG.info("job %s: %s", job_id, move)
