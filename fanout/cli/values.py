"""Input, options and ids, as a command line gives them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from ..records.ids import is_id
from ..task import ForkJoinTask
from .command import CommandError
from .exit_codes import ExitCode


def parse_job_id(text: str) -> str:
    """Return the id of a job.

    Raises:
        click.BadParameter: The text can be no id.
    """
    if not is_id(text):
        raise click.BadParameter(
            f"{text!r:.80} can't be the id of a job: letters, digits, '.', '_' and '-', at most 128"
        )
    return text


def parse_share(text: str) -> int | float:
    """Return a count of items, or a fraction of them if it has a decimal point.

    Raises:
        click.BadParameter: The text is neither.
    """
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither a count, such as 5, nor a fraction, such as 0.05") from None


job_id_argument = click.argument("job_id", type=parse_job_id)


def input_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that give a job's input and its options."""
    for option in (
        click.option(
            "-o",
            "--option",
            "option_words",
            multiple=True,
            metavar="NAME=VALUE",
            help="An option of the job, such as max_attempts=5. May be repeated.",
        ),
        click.option(
            "-p",
            "--parameter",
            "parameter_words",
            multiple=True,
            metavar="NAME=VALUE",
            help="A value of the input, as JSON or plain text. May be repeated, and wins over --input.",
        ),
        click.option(
            "--input",
            "input_file",
            type=click.Path(allow_dash=True),
            help="A file with the input: a JSON object with a value per field. - reads standard input.",
        ),
    ):
        function = option(function)
    return function


def tag_option(help_text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option that names tags."""
    return click.option("--tag", "tag_words", multiple=True, metavar="NAME=VALUE", help=help_text)


def read_tags(tag_words: Iterable[str]) -> dict[str, str]:
    """Return tags, from words such as `order=4711`.

    Raises:
        CommandError: A word has no name, or two give one name different values.
    """
    tags: dict[str, str] = {}
    for name, text in _split(tag_words, option="--tag"):
        if tags.setdefault(name, text) != text:
            raise CommandError(f"--tag {name} is given twice, with {tags[name]!r} and {text!r}", ExitCode.USAGE)
    return tags


def read_input(task: type[ForkJoinTask[Any]], input_file: str | None, parameter_words: Iterable[str]) -> dict[str, Any]:
    """Return a job's input, from a file and from words such as `delimiter=;`.

    A word's value is JSON if it can be read as JSON, else text. For a field that the schema types as `string` it is
    always text.

    Raises:
        CommandError: The file can't be read or holds no JSON object, or a word has no name.
    """
    values: dict[str, Any] = {}
    if input_file is not None:
        values = _read_object(input_file)
    schema = task.get_input_schema()
    for name, text in _split(parameter_words, option="--parameter"):
        rules = schema.get(name)
        is_text = isinstance(rules, dict) and rules.get("type") == "string"
        values[name] = text if is_text else _parse(text)
    return values


def read_options(option_words: Iterable[str]) -> dict[str, Any]:
    """Return the options of a job, from words such as `max_attempts=5`.

    Raises:
        CommandError: A word has no name.
    """
    return {name: _parse(text) for name, text in _split(option_words, option="--option")}


def _read_object(path: str) -> dict[str, Any]:
    try:
        with click.open_file(path, encoding="utf-8") as file:
            values = json.load(file)
    except ValueError as error:
        raise CommandError(f"--input {path} is not JSON: {error}. {_EXAMPLE}", ExitCode.USAGE) from error
    except OSError as error:
        raise CommandError(f"--input {path} can't be read: {error.strerror}", ExitCode.USAGE) from error
    if not isinstance(values, dict):
        raise CommandError(f"--input {path} holds JSON, but no object. {_EXAMPLE}", ExitCode.USAGE)
    return values


_EXAMPLE = 'Write an object with a value per field, as in {"documents": ["hi there"]}'


def _split(words: Iterable[str], *, option: str) -> Iterator[tuple[str, str]]:
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise CommandError(f"{option} {word!r} has no name or no value: write NAME=VALUE", ExitCode.USAGE)
        yield name, text


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
