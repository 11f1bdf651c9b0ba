"""Fields of log records that name the job, the chunk and the attempt, for formatters that print fields."""

from __future__ import annotations

import logging
from typing import Any

from .external.context import current_step

FIELDS = ("fanout_job", "fanout_task", "fanout_step", "fanout_chunk", "fanout_item", "fanout_attempt")
"""The fields that a `StepFilter` gives to each record."""


def fields_of(job_id: str, *, step: str | None = None, chunk: int | None = None) -> dict[str, Any]:
    """Return the fields of a log line about a job, for `extra=`. Leaves out those that are not given."""
    fields = {"fanout_job": job_id, "fanout_step": step, "fanout_chunk": chunk}
    return {name: value for name, value in fields.items() if value is not None}


class StepFilter(logging.Filter):
    """A filter that adds the fields of the current step to each log record, and drops none.

    Add it to a handler, so that it sees the records of all loggers: those of the step's own code, of the libraries that
    it calls, and of fanout. A field that the record has keeps its value. Outside a step the others are None, so that a
    format such as `%(fanout_job)s` always works. The fields are `fanout_job`, `fanout_task`, `fanout_step`,
    `fanout_chunk`, `fanout_item` and `fanout_attempt`.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields. Returns True."""
        context = current_step()
        values: tuple[Any, ...] = (None,) * len(FIELDS)
        own_job = getattr(record, "fanout_job", None)
        # A line within a step may be about another job, of which the step's chunk is none.
        if context is not None and own_job in (None, context.job_id):
            position = context.position
            step = position.step or context.step
            values = (context.job_id, context.task, step, position.chunk, position.item, position.attempt)
        for name, value in zip(FIELDS, values, strict=True):
            if not hasattr(record, name):
                setattr(record, name, value)
        return True
