"""The reference leaves out no setting, option, command or exported name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import click

import fanout
from fanout import Config, Options, errors
from fanout.cli import main

from .blocks import ROOT

REFERENCE = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "reference").glob("*.md")}


def _options(command: click.Command) -> Iterator[str]:
    yield command.name or ""
    yield from (option for parameter in command.params for option in parameter.opts if option.startswith("--"))
    for child in command.commands.values() if isinstance(command, click.Group) else ():
        yield from _options(child)


def test_every_setting_and_option_is_in_a_table() -> None:
    """Each setting of a process and each option of a task has a row."""
    names = [field.name for kind in (Config, Options) for field in fields(kind)]
    assert [name for name in names if f"`{name}`" not in REFERENCE["settings.md"]] == []


def test_every_command_is_described() -> None:
    """Each command and option of `fanout` is on its page."""
    known = {"main", "--app", "--version"}
    missing = {name for name in _options(main) if name not in REFERENCE["command-line.md"]}
    assert missing <= known


def test_every_exported_name_is_in_the_reference() -> None:
    """Each name that `fanout` exports is shown: by name, with its module, or among the errors."""
    text = "\n".join(REFERENCE.values())
    elsewhere = [name for name in fanout.__all__ if not hasattr(errors, name)]
    shown_with_module = {name for name in elsewhere if getattr(fanout, name).__class__.__name__ == "function"}
    assert "::: fanout\n" in text
    assert [name for name in set(elsewhere) - shown_with_module if f"fanout.{name}" not in text] == []
