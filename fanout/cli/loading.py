"""The Celery app and the task that a command line names."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click

from ..errors import ConfigError, FanoutError
from ..task import ForkJoinTask
from .command import CommandError
from .exit_codes import ExitCode

if TYPE_CHECKING:
    from ..engines.celery import Extension

P = ParamSpec("P")
T = TypeVar("T")

APP_VARIABLE = "FANOUT_APP"
"""Environment variable that names the app where `-A` does not."""

app_option = click.option(
    "-A",
    "--app",
    "app",
    envvar=APP_VARIABLE,
    help=f"The connected Celery app, as for `celery -A`: `package.module:app`. Or set {APP_VARIABLE}.",
)


def with_extension(function: Callable[Concatenate[Extension, P], T]) -> Callable[P, T]:
    """Give a command the option `-A`, and call it with the app's extension as its first argument.

    The group before the command may have the option instead.
    """

    @app_option
    @functools.wraps(function)
    def command(*arguments: Any, app: str | None, **options: Any) -> T:
        parent = click.get_current_context().parent
        chosen = app or (parent.params.get("app") if parent is not None else None)
        if chosen is None:
            message = f"no Celery app is named: give -A package.module:app, or set {APP_VARIABLE}"
            raise CommandError(message, ExitCode.USAGE)
        return function(load_extension(chosen), *arguments, **options)

    return command  # type: ignore[return-value]


def load_extension(name: str) -> Extension:
    """Import a Celery app as `celery -A` does, and return its fanout extension.

    Args:
        name: `module:attribute`; without an attribute, `app` or `celery` of the module.

    Raises:
        CommandError: There is no such app, or its module can't be imported.
        ConfigError: The app is not connected.
    """
    from ..engines import celery

    module_name, _, attribute = name.partition(":")
    module = _import_module(module_name, subject=f"no Celery app at {name!r}: ")
    attributes = [attribute] if attribute else ["app", "celery"]
    app = next((getattr(module, each) for each in attributes if hasattr(module, each)), None)
    if app is None or not hasattr(app, "conf"):
        raise CommandError(
            f"no Celery app at {name!r}: name the module and the variable that holds it, as in -A shop.app:app",
            ExitCode.USAGE,
        )
    return celery.extension_of(app)


def find_connected() -> Extension:
    """Return the extension of the app that the task's module has connected.

    Raises:
        CommandError: No app is connected, or several are.
    """
    from ..engines import celery

    try:
        return celery.extension_of()
    except ConfigError as error:
        raise CommandError(
            "the task's module connects no Celery app, or more than one: give -A package.module:app, or set "
            f"{APP_VARIABLE}",
            ExitCode.USAGE,
        ) from error


def load_task(name: str) -> type[ForkJoinTask[Any]]:
    """Import the task class that `module:Class` names.

    Raises:
        CommandError: The module can't be imported, or holds no such task; names the tasks that it holds.
    """
    module_name, colon, path = name.partition(":")
    if not colon or not path:
        raise CommandError(f"{name!r} names no task: write module:Class, as in shop.tasks:WordCount", ExitCode.USAGE)
    module = _import_module(module_name)
    found: Any = module
    for attribute in path.split("."):
        found = getattr(found, attribute, None)
    if isinstance(found, type) and issubclass(found, ForkJoinTask) and hasattr(found, "declaration"):
        return found
    problem = f"has no {path!r}" if found is None else f"has {path!r}, which is no task"
    raise CommandError(f"the module {module_name} {problem}. {_list_tasks(module)}", ExitCode.USAGE)


def _list_tasks(module: ModuleType) -> str:
    names = sorted(
        name
        for name, held in vars(module).items()
        if isinstance(held, type) and issubclass(held, ForkJoinTask) and hasattr(held, "declaration")
    )
    if names:
        return f"Its tasks: {', '.join(names)}"
    return "It holds no task: derive a class from fanout.ForkJoinTask, or make one with fanout.fork_join"


def _import_module(name: str, *, subject: str = "") -> ModuleType:
    """Import a module, also from the working directory.

    Args:
        name: Its name.
        subject: The beginning of an error's sentence.

    Raises:
        CommandError: It can't be imported; says whether the module or something in it is at fault.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    if name.endswith(".py") or "/" in name:
        written = name.removesuffix(".py").strip("./").replace("/", ".")
        raise CommandError(f"{subject}{name!r} is a file: name the module, as import does: {written}:…", ExitCode.USAGE)
    try:
        return importlib.import_module(name)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}.")
        if missing or not name:
            text = f"no module named {name!r}: run the command in the directory that holds it, or set PYTHONPATH"
        else:
            reason = str(error) if isinstance(error, FanoutError) else f"{type(error).__name__}: {error}"
            text = f"the module {name} can't be imported: {reason}"
        raise CommandError(subject + text, ExitCode.USAGE) from error
