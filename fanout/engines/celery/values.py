"""The form in which a job's value passes through Celery's serializers to callbacks, chords and result backends."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from celery import Celery
from celery.backends.base import DisabledBackend
from kombu import serialization
from kombu.utils.functional import maybe_list

from ...errors import ConfigError
from ...external.context import reading_as
from ...records.ledger import Ledger
from ...runtime import Runtime

LIMIT_BYTES = 64 * 1024
"""Size above which a serialised value is sent as a reference."""

REFERENCE = "fanout_value_of"
LAUNCH = "launch"
GENERATION = "generation"
"""Keys of a reference: the job id, its launch, and its generation if the job was retried."""


def make_sendable(value: Any, app: Celery, ledger: Ledger, *, request: Any = None) -> Any:
    """Return the value if it is small and every receiver's serializer preserves it; else a reference to it.

    A serializer may change types: JSON makes a list of a tuple and a dict of a Counter. `Job.get` gives the exact
    types. A value that looks like a reference is sent as a reference to it.

    Args:
        value: The job's value.
        app: The app that sends it.
        ledger: The job's records.
        request: The Celery request whose result it is, which names the receivers.

    Raises:
        ConfigError: A receiver's serializer does not even take a reference.
    """
    reference: dict[str, Any] = {REFERENCE: ledger.job_id, LAUNCH: ledger.launch_id}
    if ledger.generation:
        reference[GENERATION] = ledger.generation
    serializers = find_serializers(app, request)
    if not _contains_reference(value) and all(_is_preserved(value, name, limit=LIMIT_BYTES) for name in serializers):
        return value
    for name, receiver in serializers.items():
        if not _is_preserved(reference, name):
            raise ConfigError(
                f"job {ledger.job_id}: its value can't be sent to {receiver}: serializer {name!r} is not installed "
                "here, or does not take plain values. The job has succeeded: Job.get gives the value"
            )
    return reference


def find_serializers(app: Celery, request: Any = None) -> dict[str, str]:
    """Return the serializers that a request's result passes through -> the name of one receiver for each."""
    serializers: dict[str, str] = {}
    for receiver in _receivers(request):
        task = app.tasks.get(str(receiver.get("task")))
        options: Mapping[str, Any] = receiver.get("options") or {}
        name = options.get("serializer") or getattr(task, "serializer", None) or app.conf.task_serializer
        serializers.setdefault(name, str(receiver.get("task")))
    if not isinstance(app.backend, DisabledBackend) and not getattr(request, "ignore_result", False):
        serializers.setdefault(getattr(app.backend, "serializer", app.conf.result_serializer), "the result backend")
    return serializers


def _receivers(request: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the signatures that get the result of a request, down to single tasks."""
    if request is None:
        return
    waiting: list[Any] = [*(maybe_list(request.callbacks) or ())]
    if request.chain:
        # Celery keeps the rest of a chain in reverse order.
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
    """Return whether a serializer takes a value and gives back as many members as it has, within `limit` bytes.

    JSON makes one key of 1 and "1", and msgpack writes keys that its reader refuses.
    """
    try:
        content_type, encoding, body = serialization.dumps(value, serializer=serializer)
        if limit is not None and len(body) > limit:
            return False
        return _members(serialization.loads(body, content_type, encoding, accept=[content_type])) == _members(value)
    except Exception:
        # A third-party serializer, or a method of the value, may raise any error.
        return False


def _members(value: Any) -> int:
    """Count the values in a value, itself included."""
    if isinstance(value, Mapping):
        return 1 + sum(map(_members, value.values()))
    if isinstance(value, list | tuple | set | frozenset | deque):
        return 1 + sum(map(_members, value))
    return 1


def _is_reference(value: Any) -> bool:
    return isinstance(value, dict) and REFERENCE in value and value.keys() <= {REFERENCE, LAUNCH, GENERATION}


def _contains_reference(value: Any) -> bool:
    """Return whether `resolve` would take a value, or something in it, for a reference."""
    try:
        if isinstance(value, list | tuple | set | frozenset | deque):
            return any(map(_contains_reference, value))
    except RecursionError:
        # Too deeply nested to check, also for `resolve`.
        return True
    return _is_reference(value)


def resolve(value: Any, runtime: Runtime) -> Any:
    """Return `value`, or the value that it refers to; also inside the list that a chord's body gets.

    One or two requests per reference.

    Raises:
        JobFailed: It refers to a job that has no value.
        LookupError: It refers to a job that was removed.
    """
    if isinstance(value, list):
        return [resolve(element, runtime) for element in value]
    if _is_reference(value):
        ledger = Ledger(runtime.store, value[REFERENCE], value.get(LAUNCH), value.get(GENERATION, 0))
        outcome = ledger.outcome()
        if outcome is None:
            raise LookupError(f"the value of job {ledger.job_id} is no longer in the store")
        with reading_as(runtime.access.as_caller()):
            return ledger.value(outcome)
    return value
