"""Tasks that are made of loose functions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .errors import DeclarationError
from .job import R
from .task import COMBINE, OPTIONS, ForkJoinTask


def fork_join(
    name: str,
    *,
    setup: Callable[..., Any],
    process: Callable[..., Any],
    join: Callable[..., R],
    input_schema: Mapping[str, Any],
    combine: Callable[..., Any] | None = None,
    types: Iterable[type[Any]] = (),
    validator: type[Any] | None = None,
    **options: Any,
) -> type[ForkJoinTask[R]]:
    """Make a task of loose functions; the returned class is used like one that was written out.

    Args:
        name: The task's name, unique in a process. Workers must import the module that calls this.
        setup: Returns or yields one dict per item.
        process: Runs once per item.
        join: Runs once, with the results in item order.
        input_schema: The input in Cerberus form.
        combine: Makes one result of several, if given; see `ForkJoinTask`.
        types: Classes whose values may travel; see `ForkJoinTask`.
        validator: The subclass of `cerberus.Validator` that checks the input; see `ForkJoinTask`.
        **options: See `Options`.

    Raises:
        DeclarationError: Names the task and the step.
    """
    if not isinstance(name, str) or not name:
        raise DeclarationError(f"fork_join: name must be a string, not {name!r:.80}")
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise DeclarationError(f"{name}: no such option: {', '.join(unknown)}; there are {', '.join(OPTIONS)}")
    given = {"setup": setup, "process": process, "join": join, COMBINE: combine}
    steps = {step: staticmethod(function) for step, function in given.items() if function is not None}
    # The module that makes the task is the one to import for it, as for a class; a namedtuple looks there as well.
    module = sys._getframe(1).f_globals.get("__name__", "__main__")
    body = {"name": name, "input_schema": input_schema, "types": types, "validator": validator, "__module__": module}
    return type(name, (ForkJoinTask,), {**body, **steps, **options})
