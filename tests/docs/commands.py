"""Checks of the commands that pages show: that they name what is there, with options that it has. None is run."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import re
import shlex
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import click
import pytest
from celery.bin.celery import celery as celery_command

from .blocks import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

FOREIGN = frozenset({"aws", "cd", "cp", "export", "git", "python3", "source"})
"""Commands of the system, of which nothing is checked."""


def commands_of(text: str) -> Iterator[list[str]]:
    """The commands of a block: without prompts, comments and output, one list of words each.

    Where some lines of a block begin with `$ `, the others are output.
    """
    lines = text.replace("\\\n", " ").splitlines()
    if any(line.startswith("$ ") for line in lines):
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_0-9]+=.*", words[0]):
            words = words[1:]
        for end in [index for index, word in enumerate(words) if word in ("&&", "|")][:1]:
            yield words[:end]
            words = words[end + 1 :]
        if words:
            yield words


def check_command(words: list[str], *, apps: Iterable[str]) -> None:
    """Fail if a command names a target, module, option, extra or app that is not there.

    Args:
        words: The command and its arguments.
        apps: Modules that the pages show, such as `shop.app`.
    """
    command, *arguments = words
    match Path(command).name:
        case "make":
            _check_make(arguments)
        case "fanout":
            module, _, name = PROJECT["project"]["scripts"]["fanout"].partition(":")
            _check_app(arguments, apps)
            _check_click(getattr(importlib.import_module(module), name), arguments, name="fanout")
        case "python" if arguments[0] == "-m":
            _check_module(arguments[1], arguments[2:])
        case "celery":
            _check_app(arguments, apps)
            chosen = [word for word in arguments if word in celery_command.commands]
            assert chosen, f"no command of Celery's in {arguments}"
        case "pip":
            _check_pip(arguments)
        case "run" | "install" | "native" | "install-native":
            assert (ROOT / command).is_file(), f"no {command}"
        case foreign:
            assert foreign in FOREIGN, f"{foreign} is no command that this test knows"


def _check_make(arguments: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {name for line in re.findall(r"^([\w%. -]+):(?!=)", makefile, re.MULTILINE) for name in line.split()}
    for target in (word for word in arguments if "=" not in word):
        prefixes = [name.removesuffix("%") for name in targets if name.endswith("%") and len(name) > 1]
        assert target in targets or target.startswith(tuple(prefixes)), f"no target {target}"


def _check_app(arguments: list[str], apps: Iterable[str]) -> None:
    for option, name in itertools.pairwise(arguments):
        if option in ("-A", "--app"):
            module = name.partition(":")[0]
            assert module in apps or importlib.util.find_spec(module), f"no page shows the app {name}"


def _check_click(command: click.Command, arguments: list[str], *, name: str) -> None:
    try:
        context = command.make_context(name, list(arguments))
    except click.exceptions.Exit:  # --help, --version
        return
    rest = [*getattr(context, "_protected_args", []), *context.args]
    if isinstance(command, click.Group) and rest:
        chosen, child, rest = command.resolve_command(context, rest)
        assert child is not None
        _check_click(child, rest, name=chosen or name)


class _Parsed(Exception):
    """Ends a program once it has read its arguments."""


def _check_module(name: str, arguments: list[str]) -> None:
    package = importlib.util.find_spec(name)
    assert package is not None, f"no module {name}"
    if name.split(".")[0] == "pytest":
        for path in (word for word in arguments if not word.startswith("-")):
            assert (ROOT / path.partition("::")[0]).exists(), f"no {path}"
        return
    if package.submodule_search_locations is None:
        assert not arguments, f"{name} takes no arguments"
        return
    main = importlib.import_module(f"{name}.__main__").main
    if isinstance(main, click.Command):
        _check_click(main, arguments, name=name)
        return

    def parse_only(parser: argparse.ArgumentParser, *given: Any, **named: Any) -> NoReturn:
        parse(parser, *given, **named)
        raise _Parsed

    parse = argparse.ArgumentParser.parse_args
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
        with pytest.raises(_Parsed):
            main(arguments)


def _check_pip(arguments: list[str]) -> None:
    for extras in re.findall(r"(?:\.|fanout)\[([\w,]+)\]", " ".join(arguments)):
        unknown = set(extras.split(",")) - set(PROJECT["project"]["optional-dependencies"])
        assert not unknown, f"no extra {unknown}"
    for option, group in itertools.pairwise(arguments):
        assert option != "--group" or group in PROJECT["dependency-groups"], f"no group {group}"
