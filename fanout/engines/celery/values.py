"""What a job's value becomes on its way through Celery, to callbacks, chords and result backends."""

from __future__ import annotations

from collections import deque
from typing import Any

from celery import Celery
from kombu import serialization
from kombu.exceptions import EncodeError

from ...ledger import Ledger
from ...runtime import Runtime

LIMIT_BYTES = 64 * 1024
"""A value whose serialised form is larger travels as a reference."""

REFERENCE = "fanout_value_of"
LAUNCH = "launch"
ROUND = "round"
"""Keys of a reference: the job, which launch of that id, and which of its rounds if it was retried."""


def sent(value: Any, app: Celery, ledger: Ledger) -> Any:
    """The value itself, if the app's serializer takes it and it is small; else a reference to the job's outcome.

    What goes through the app's serializer becomes what that makes of it: with JSON, a tuple becomes a list and a
    Counter a dict. `Job.get` gives the exact types. A value that could be taken for a reference travels as one.
    """
    reference: dict[str, Any] = {REFERENCE: ledger.job_id, LAUNCH: ledger.launch_id}
    if ledger.round:
        reference[ROUND] = ledger.round
    if _misleads(value):
        return reference
    try:
        _, _, body = serialization.dumps(value, serializer=app.conf.result_serializer)
    except EncodeError:
        return reference
    return value if len(body) <= LIMIT_BYTES else reference


def _is_reference(value: Any) -> bool:
    return isinstance(value, dict) and REFERENCE in value and value.keys() <= {REFERENCE, LAUNCH, ROUND}


def _misleads(value: Any) -> bool:
    """Whether `opened` would take a value, or something in it, for a reference."""
    if isinstance(value, list | tuple | set | frozenset | deque):
        return any(map(_misleads, value))
    return _is_reference(value)


def opened(value: Any, runtime: Runtime) -> Any:
    """`value`, or what it refers to; also inside the list that a chord's body receives. One or two requests each.

    Raises:
        JobFailed: It refers to a job without a value.
        LookupError: It refers to a job that has been removed.
    """
    if isinstance(value, list):
        return [opened(element, runtime) for element in value]
    if _is_reference(value):
        ledger = Ledger(runtime.store, value[REFERENCE], value.get(LAUNCH), value.get(ROUND, 0))
        outcome = ledger.outcome()
        if outcome is None:
            raise LookupError(f"the value of job {ledger.job_id} is no longer in the store")
        return ledger.value(outcome)
    return value
