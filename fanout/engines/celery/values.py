"""What a job's value becomes on its way through Celery, to callbacks, chords and result backends."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from celery import Celery
from celery.backends.base import DisabledBackend
from kombu import serialization
from kombu.utils.functional import maybe_list

from ...errors import ConfigError
from ...records.ledger import Ledger
from ...runtime import Runtime

LIMIT_BYTES = 64 * 1024
"""A value whose serialised form is larger travels as a reference."""

REFERENCE = "fanout_value_of"
LAUNCH = "launch"
GENERATION = "generation"
"""Keys of a reference: the job, which launch of that id, and which of its rounds if it was retried."""


def make_sendable(value: Any, app: Celery, ledger: Ledger, *, request: Any = None) -> Any:
    """The value itself, if everything that will carry it gives it back and it is small; else a reference to it.

    What goes through a serializer becomes what that makes of it: with JSON, a tuple becomes a list and a Counter a
    dict. `Job.get` gives the exact types. A value that could be taken for a reference travels as one.

    Args:
        value: The job's value.
        app: The app that sends it.
        ledger: The job's records.
        request: The Celery request that it is the result of, which tells who receives it.

    Raises:
        ConfigError: A receiver is sent messages by a serializer that takes not even a reference.
    """
    reference: dict[str, Any] = {REFERENCE: ledger.job_id, LAUNCH: ledger.launch_id}
    if ledger.generation:
        reference[GENERATION] = ledger.generation
    serializers = find_serializers(app, request)
    if not _misleads(value) and all(_is_preserved(value, name, limit=LIMIT_BYTES) for name in serializers):
        return value
    for name, receiver in serializers.items():
        if not _is_preserved(reference, name):
            raise ConfigError(
                f"job {ledger.job_id}: its value can't be handed on to {receiver}: serializer {name!r} is not "
                "installed here, or does not take plain values. The job has succeeded: Job.get gives the value"
            )
    return reference


def find_serializers(app: Celery, request: Any = None) -> dict[str, str]:
    """The serializers by which the result of a request travels -> somebody who receives it so."""
    found: dict[str, str] = {}
    for receiver in _receivers(request):
        task = app.tasks.get(str(receiver.get("task")))
        options: Mapping[str, Any] = receiver.get("options") or {}
        name = options.get("serializer") or getattr(task, "serializer", None) or app.conf.task_serializer
        found.setdefault(name, str(receiver.get("task")))
    if not isinstance(app.backend, DisabledBackend) and not getattr(request, "ignore_result", False):
        found.setdefault(getattr(app.backend, "serializer", app.conf.result_serializer), "the result backend")
    return found


def _receivers(request: Any) -> Iterator[Mapping[str, Any]]:
    """The signatures that are given the result of a request, down to single tasks."""
    if request is None:
        return
    waiting: list[Any] = [*(maybe_list(request.callbacks) or ())]
    if request.chain:
        # The next step is the last of what is left.
        waiting.append(request.chain[-1])
    if request.chord:
        waiting.append(request.chord)
    while waiting:
        signature = waiting.pop()
        kwargs = signature.get("kwargs") or {}
        match signature.get("subtask_type"):
            case "group":
                waiting += list(kwargs.get("tasks") or ())
            case "chain":
                waiting += list(kwargs.get("tasks") or ())[:1]
            case "chord":
                header = kwargs.get("header") or ()
                waiting += [header] if isinstance(header, Mapping) else list(header)
            case _:
                yield signature


def _is_preserved(value: Any, serializer: str, *, limit: int | None = None) -> bool:
    """Whether a serializer takes a value, gives back as many members as there were, and makes it no larger than that.

    JSON makes one key of 1 and "1", and msgpack writes keys that its reader refuses.
    """
    try:
        content_type, encoding, body = serialization.dumps(value, serializer=serializer)
        if limit is not None and len(body) > limit:
            return False
        return _members(serialization.loads(body, content_type, encoding, accept=[content_type])) == _members(value)
    except Exception:
        # Serializers may be anybody's, and a value's own methods may be called.
        return False


def _members(value: Any) -> int:
    """How many values there are in a value, itself included."""
    if isinstance(value, Mapping):
        return 1 + sum(map(_members, value.values()))
    if isinstance(value, list | tuple | set | frozenset | deque):
        return 1 + sum(map(_members, value))
    return 1


def _is_reference(value: Any) -> bool:
    return isinstance(value, dict) and REFERENCE in value and value.keys() <= {REFERENCE, LAUNCH, GENERATION}


def _misleads(value: Any) -> bool:
    """Whether `resolve` would take a value, or something in it, for a reference."""
    try:
        if isinstance(value, list | tuple | set | frozenset | deque):
            return any(map(_misleads, value))
    except RecursionError:
        # Too deep to look at, for `opened` as well.
        return True
    return _is_reference(value)


def resolve(value: Any, runtime: Runtime) -> Any:
    """`value`, or what it refers to; also inside the list that a chord's body receives. One or two requests each.

    Raises:
        JobFailed: It refers to a job without a value.
        LookupError: It refers to a job that has been removed.
    """
    if isinstance(value, list):
        return [resolve(element, runtime) for element in value]
    if _is_reference(value):
        ledger = Ledger(runtime.store, value[REFERENCE], value.get(LAUNCH), value.get(GENERATION, 0))
        outcome = ledger.outcome()
        if outcome is None:
            raise LookupError(f"the value of job {ledger.job_id} is no longer in the store")
        return ledger.value(outcome)
    return value
