"""The Celery app, the store and the task that a command line names."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias, TypeVar

import click
from click.core import ParameterSource

from ..engines.store_only import AttachedStore
from ..errors import ConfigError, FanoutError
from ..task import ForkJoinTask
from .command import CommandError
from .exit_codes import ExitCode

if TYPE_CHECKING:
    from ..engines.celery import Extension

P = ParamSpec("P")
T = TypeVar("T")

JobsHolder: TypeAlias = "Extension | AttachedStore"
"""The source of a command's handles of jobs: an app's extension, or a store without an app."""

APP_VARIABLE = "FANOUT_APP"
"""Environment variable that names the app where no option names an app or a store."""

STORE_VARIABLE = "FANOUT_STORE"
"""Environment variable that names the store where nothing names an app: an app reads its own store from there."""

app_option = click.option(
    "-A",
    "--app",
    "app",
    envvar=APP_VARIABLE,
    help=f"The connected Celery app, as for `celery -A`: `package.module:app`. Or set {APP_VARIABLE}.",
)
store_option = click.option(
    "--store",
    envvar=STORE_VARIABLE,
    help=f"URL of the store of the jobs, `s3://bucket/prefix`, instead of an app. Or set {STORE_VARIABLE}.",
)


def with_extension(function: Callable[Concatenate[Extension, P], T]) -> Callable[P, T]:
    """Give a command the option `-A`, and call it with the app's extension as its first argument."""

    @app_option
    @functools.wraps(function)
    def command(*arguments: Any, app: str | None, **options: Any) -> T:
        if app is None:
            message = f"no Celery app is named: give -A package.module:app, or set {APP_VARIABLE}"
            raise CommandError(message, ExitCode.USAGE)
        return function(load_extension(app), *arguments, **options)

    return command  # type: ignore[return-value]


def with_holder(function: Callable[Concatenate[JobsHolder, P], T]) -> Callable[P, T]:
    """Give a command the options `-A` and `--store`, and call it with what one of them names as its first argument.

    The group before the command may have the option instead.
    """

    @app_option
    @store_option
    @functools.wraps(function)
    def command(*arguments: Any, app: str | None, store: str | None, **options: Any) -> T:
        context = click.get_current_context()
        holder = find_holder(context)
        if holder is None:
            message = (
                "neither an app nor a store is named: give -A package.module:app or --store s3://bucket/prefix, or set "
                f"{APP_VARIABLE} or {STORE_VARIABLE}"
            )
            raise CommandError(message, ExitCode.USAGE)
        return function(holder, *arguments, **options)

    return command  # type: ignore[return-value]


def find_holder(context: click.Context) -> JobsHolder | None:
    """Return what `-A` or `--store` of a command or of its group names, or else the environment; None if none does.

    Raises:
        CommandError: Both options are given, or there is no such app.
    """
    app, store = _find_typed(context, "app"), _find_typed(context, "store")
    if app and store:
        raise CommandError("-A and --store both say where the jobs are: give one of them", ExitCode.USAGE)
    if not app and not store:
        # An app reads its store from the same variable, and can do more than the store alone.
        app, store = context.params["app"], context.params["store"]
    if app:
        return load_extension(app)
    return AttachedStore(store) if store else None


def _find_typed(context: click.Context, name: str) -> str | None:
    """Return the value that the command line gives to an option of a command or of its group."""
    for each in (context, context.parent):
        if each is not None and each.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            value: str | None = each.params[name]
            return value
    return None


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
        message = f"{subject}{name!r} is a file: name the module, as import does: {written}"
        raise CommandError(message, ExitCode.USAGE)
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
