"""Commands and groups of click that show an error as one sentence, and with `--debug` its traceback."""

from __future__ import annotations

import traceback
from typing import Any

import click

from .exit_codes import ExitCode, describe, exit_code_of

_DEBUG = "fanout.debug"
"""Name of the flag in click's context, which all commands of one call share."""


class CommandError(click.ClickException):
    """An error that the command shows as one sentence.

    Args:
        message: The sentence.
        exit_code: The exit status.
    """

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message if message.endswith((".", "?")) else f"{message}.")
        self.exit_code = exit_code  # type: ignore[misc]


def _remember_debug(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.meta[_DEBUG] = True


class _DebugOption(click.Option):
    """The option `--debug`, which each command has, so that it may come last."""

    def __init__(self) -> None:
        super().__init__(
            ["--debug"],
            is_flag=True,
            expose_value=False,
            callback=_remember_debug,
            help="Show the traceback of an error.",
        )


class Command(click.Command):
    """A command with `--debug`."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.params.append(_DebugOption())


class Group(click.Group):
    """A group of commands with `--debug`."""

    command_class = Command

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.params.append(_DebugOption())


class RootGroup(Group):
    """The outermost group. It turns every error into a sentence and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that the arguments name.

        Raises:
            CommandError: The command raised an error.
        """
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            if ctx.meta.get(_DEBUG) and error.__cause__ is not None:
                click.echo(traceback.format_exc(), err=True)
            raise
        except (click.exceptions.Exit, BrokenPipeError):
            # Click ends quietly when the reader of the output has gone.
            raise
        except (click.Abort, KeyboardInterrupt):
            click.echo("interrupted", err=True)
            raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
        except Exception as error:
            if ctx.meta.get(_DEBUG):
                click.echo(traceback.format_exc(), err=True)
            raise CommandError(describe(error), exit_code_of(error)) from error
