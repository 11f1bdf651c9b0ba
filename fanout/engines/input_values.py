"""The values that a caller passes as input: which are streams, which can be stored, and who may read them."""

from __future__ import annotations

from collections import UserString
from collections.abc import AsyncIterable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any

from storage import Unencodable, is_registrable, travels

from ..config.checks import check_text
from ..declaration.definition import Declaration
from ..errors import InvalidInput

_BUILT_IN = (str, bytes, bytearray, dict, tuple, set, frozenset, UserString, Mapping)
"""Types that an error suggests instead of a class that cannot be stored, the likeliest first."""


def is_stream(value: Any) -> bool:
    """Return whether setup reads a value once: an iterator, a generator or an open file. A container is no stream."""
    if isinstance(value, Iterator):
        return True
    # The wrapper of a temporary file is not an iterator.
    return isinstance(value, Iterable) and all(callable(getattr(value, name, None)) for name in ("readline", "close"))


def prepare_values(
    task: Declaration, values: Mapping[str, Any], *, stays_here: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Return values in the form in which steps get them: views as copies of their content, others unchanged.

    Args:
        task: The task.
        values: Its input.
        stays_here: Names of the parameters that stay in this process.

    Raises:
        Unencodable: A value is iterable, but is no iterator and of no class that can be stored.
        InvalidInput: A value is an async iterator.
    """
    prepared: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, AsyncIterable) and not isinstance(value, Iterable):
            reason = "is an async iterator, which only an event loop can read: await submit_async"
            raise InvalidInput(task.name, {name: [reason]})
        if isinstance(value, memoryview):
            prepared[name] = value.tobytes()
        elif isinstance(value, KeysView | ValuesView | ItemsView):
            prepared[name] = list(value)
        else:
            prepared[name] = value
            if not (name in stays_here or is_stream(value) or travels(type(value)) or task.schema.coerces(name)):
                _refuse_container(name, value)
    return prepared


def check_stream_readers(task: Declaration, streams: Iterable[str]) -> None:
    """Refuse streams that a step other than setup declares.

    Raises:
        InvalidInput: Names the parameter and the step.
    """
    binding = task.binding
    for name in streams:
        for step in (binding.process, binding.combine, binding.join):
            if step is not None and name in binding.parameters_for(step) and not step.takes_any:
                raise InvalidInput(
                    task.name,
                    {name: [f"is a stream, which only setup can read, but {step.name} declares it too"]},
                )


def check_receiver(task: Declaration, values: Mapping[str, Any], receives: str) -> None:
    """Refuse a receiving parameter that is unknown, or that has a value already.

    Raises:
        InvalidInput: Names the parameter and the reason.
    """
    check_text("receives", receives, example="the name of a field")
    if receives in values:
        raise InvalidInput(
            task.name,
            {receives: ["has a value, and is named in `receives`, for the previous step's value: do one of the two"]},
        )
    if receives not in task.schema.fields:
        raise InvalidInput(task.name, {receives: ["unknown field, so it can't receive the previous step's value"]})


def _refuse_container(name: str, value: Any) -> None:
    """Refuse a value that is iterable, since its class cannot be stored."""
    of = type(value)
    # Python also iterates over objects that have these two methods.
    if not (isinstance(value, Iterable) or (hasattr(of, "__getitem__") and hasattr(of, "__len__"))):
        return
    plain = next((base.__name__ for base in _BUILT_IN if isinstance(value, base)), "list")
    plain = {"Mapping": "dict", "UserString": "str"}.get(plain, plain)
    remedy = f"Pass {plain}(x), or iter(x) to stream its elements"
    if is_registrable(of):
        remedy += f", or register its class: types = ({of.__name__},) on the task"
    raise Unencodable(
        f"{name} is a {of.__module__}.{of.__qualname__}, which cannot be stored as a value",
        path=str(name),
        remedy=f"{remedy}.",
    )
