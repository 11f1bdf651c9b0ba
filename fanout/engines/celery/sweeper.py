"""The Celery task that sweeps, for `celery beat` to send."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ...logs import fields_of
from ...runtime import Runtime
from ...sweep import Move, sweep
from .signing import drop_unless_signed, running_eagerly
from .task_base import TaskBase

_LOG = logging.getLogger(__name__)


class SweepTask(TaskBase):
    """A task that resumes every stalled job and removes old ones; see `fanout.sweep`.

    Acknowledged before it runs: the next sweep makes up for one that is lost.
    """

    abstract = True
    is_of_fanout = True
    name = "fanout.sweep"
    ignore_result = True
    acks_late = False
    serializer = "json"
    _runtime: Callable[[], Runtime]

    @classmethod
    def of(cls, runtime: Callable[[], Runtime]) -> SweepTask:
        """Return the sweep task of an app whose runtime `runtime` returns."""
        made: type[SweepTask] = type("SweepTask", (cls,), {"_runtime": staticmethod(runtime)})
        return made()

    def apply(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task in this process, as eager mode does."""
        with running_eagerly():
            return super().apply(*args, **kwargs)

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Drop a message that must be signed and is not."""
        drop_unless_signed(self, self._runtime().config, args=args, kwargs=kwargs)

    def run(self) -> None:
        for job_id, move in sweep(self._runtime()):
            if move is not Move.NONE:
                _LOG.info("job %s: %s", job_id, move, extra=fields_of(job_id))
