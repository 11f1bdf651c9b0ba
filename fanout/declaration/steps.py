"""The steps of a task's class: plain functions, static methods, class methods, or methods of a fresh instance."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from ..errors import DeclarationError


def bind_step(cls: type[Any], step: str) -> Callable[..., Any]:
    """Return a step of a task's class as a function of named arguments, however the class wrote it.

    Raises:
        DeclarationError: The class has no such step.
    """
    for owner in cls.__mro__:
        if step in owner.__dict__:
            written = owner.__dict__[step]
            break
    else:
        raise DeclarationError(f"{cls.__qualname__}: has no {step}; a task has setup, process and join")
    if isinstance(written, staticmethod):
        return written.__func__
    if isinstance(written, classmethod):
        return getattr(cls, step)  # type: ignore[no-any-return]
    if inspect.isfunction(written) and next(iter(inspect.signature(written).parameters), None) == "self":
        return _on_instance(cls, written)
    return written  # type: ignore[no-any-return]


def _on_instance(cls: type[Any], written: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(written)
    def step(**arguments: Any) -> Any:
        return written(cls(), **arguments)

    signature = inspect.signature(written)
    step.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])  # type: ignore[attr-defined]
    return step
