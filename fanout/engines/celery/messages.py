"""The arguments of every message of fanout's, checked field by field, since a message may be forged or foreign.

The message for process is a chunk ref, which checks itself (`ChunkRef.from_row`). `envelope` checks the headers. Pure
functions: no store, no broker.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from ...errors import ConfigError
from ...records.chunk_ref import ChunkRef
from ...records.ids import check_digest, check_id
from ...records.tags import check_tags

EXCERPT = 80
"""Longest part of a foreign value that an error shows, in characters."""

MAX_HELD = 64
"""Largest number of tokens in a message for join. Each run of the message adds one, and there are far fewer runs."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SetupMessage:
    """The arguments of a message for setup.

    Attributes:
        job_id: The job id, which is the message's Celery task id.
        received: The value of a chain's previous step, if the input is not complete yet.
        submission: The signature's submission as `signature_codec.encode` wrote it, if the job has no intent yet.
        generation: The job's generation.
        launch_id: The launch of that id; None for the current one.
        resent: Whether a sweep sent the message because an earlier setup has stopped.
    """

    job_id: str
    received: tuple[Any, ...] = ()
    submission: dict[str, Any] | None = None
    generation: int = 0
    launch_id: str | None = None
    resent: bool = False

    @classmethod
    def parse(cls, job_id: object, args: object, kwargs: object) -> SetupMessage:
        """Parse a message from its task id and arguments.

        Raises:
            ValueError: fanout does not send such a message. Names the wrong part, in at most some 200 characters.
        """
        said = _read_arguments(kwargs, "submission", "generation", "launch_id", "resent")
        received = tuple(_check_list(args, "arguments"))
        submission = said.get("submission")
        if submission is not None:
            check_submission(submission)
        elif received:
            raise ValueError(f"it has {len(received)} arguments, and no submission that receives them")
        return cls(
            job_id=check_id(job_id, what="job id"),
            received=received,
            submission=submission,
            generation=_check_index(said.get("generation", 0), "generation"),
            launch_id=_check_token(said.get("launch_id"), "launch id"),
            resent=_check_type(bool, said.get("resent", False), "resent", "true or false"),
        )


@dataclass(frozen=True, slots=True)
class JoinMessage:
    """The arguments of a message for join.

    Attributes:
        job_id: The job id.
        resent: Whether a sweep sent the message because an earlier join was lost.
        generation: The job's generation.
        held: Tokens of earlier runs of this message.
        launch_id: The launch of that id; None for the current one.
    """

    job_id: str
    resent: bool = False
    generation: int = 0
    held: tuple[str, ...] = ()
    launch_id: str | None = None

    @classmethod
    def parse(cls, args: object, kwargs: object) -> JoinMessage:
        """Parse a message from its arguments.

        Raises:
            ValueError: fanout does not send such a message. Names the wrong part, in at most some 200 characters.
        """
        said = _read_arguments(kwargs, "resent", "generation", "held", "launch_id")
        positional = _check_list(args, "arguments")
        if len(positional) != 1:
            raise ValueError(f"there must be one argument, the job's id, and not {len(positional)}")
        held = _check_list(said.get("held", ()), "held")
        if len(held) > MAX_HELD:
            raise ValueError(f"held names {len(held)} runs, more than {MAX_HELD}")
        return cls(
            job_id=check_id(positional[0], what="job id"),
            resent=_check_type(bool, said.get("resent", False), "resent", "true or false"),
            generation=_check_index(said.get("generation", 0), "generation"),
            held=tuple(check_id(token, what="held") for token in held),
            launch_id=_check_token(said.get("launch_id"), "launch id"),
        )


def parse_chunk(args: object, kwargs: object) -> ChunkRef:
    """Return the chunk of a message for process, which has no keyword arguments.

    Raises:
        ValueError: fanout does not send such a message. Names the wrong part, in at most some 200 characters.
    """
    _read_arguments(kwargs)
    return ChunkRef.from_row(args)


class JobAddress(NamedTuple):
    """The job that a message is for: its id, its launch, and its generation."""

    job_id: str
    launch_id: str | None
    generation: int


def read_address(step: str, task_id: object, args: object, kwargs: object) -> JobAddress:
    """Return the job that a message is for.

    Args:
        step: The step that the message is for.
        task_id: Its Celery task id.
        args: Its arguments.
        kwargs: Its keyword arguments.

    Raises:
        ValueError: fanout does not send such a message.
    """
    if step == "process":
        ref = parse_chunk(args, kwargs or {})
        return JobAddress(ref.job_id, ref.launch_id, ref.generation)
    if step == "setup":
        setup = SetupMessage.parse(task_id, args or (), kwargs or {})
        return JobAddress(setup.job_id, setup.launch_id, setup.generation)
    join = JoinMessage.parse(args, kwargs or {})
    return JobAddress(join.job_id, join.launch_id, join.generation)


def check_arguments(step: str | None, task_id: object, args: object, kwargs: object) -> None:
    """Check the arguments of a message for a step, or for a sweep, which has none.

    Raises:
        ValueError: fanout does not send such a message. Names the wrong part, in at most some 200 characters.
    """
    if step is not None:
        read_address(step, task_id, args, kwargs)
    elif args or kwargs:
        raise ValueError("a sweep takes no arguments")


def check_submission(submission: object) -> None:
    """Check that a submission has the form that `signature_codec.encode` gives it. Does not check it against its task.

    Raises:
        ValueError: It has another form; says where.
    """
    body = _check_mapping(submission, "submission")
    missing = sorted({"inline", "references", "options", "receives"} - body.keys())
    if missing:
        raise ValueError(f"submission lacks {', '.join(missing)}")
    read_inline(body["inline"])
    for name, content in _check_mapping(body["references"], "references").items():
        try:
            check_digest(content)
        except ValueError as error:
            raise ValueError(f"references[{abbreviate(name)}]: {error}") from None
    for name, option in _check_mapping(body["options"], "options").items():
        if not (option is None or isinstance(option, bool | int | float | str)):
            raise ValueError(f"options[{abbreviate(name)}] is {abbreviate(option)}, and no plain value")
    _check_mapping(body.get("routing", {}), "routing")
    _check_type(int, body.get("made_at", 0), "made_at", "a number of seconds")
    try:
        check_tags(_check_mapping(body.get("tags", {}), "tags"))
    except ConfigError as error:
        raise ValueError(str(error)) from None
    if body["receives"] is not None:
        _check_type(str, body["receives"], "receives", "the name of a parameter")


def read_inline(text: object) -> bytes:
    """Return the bytes of a submission's small parameters.

    Raises:
        ValueError: `text` is not base64.
    """
    encoded = _check_type(str, text, "inline", "base64")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"inline is not base64: {error}") from None


def _read_arguments(kwargs: object, *names: str) -> Mapping[str, Any]:
    """Return a message's keyword arguments, and refuse any that is not in `names`."""
    arguments = _check_mapping(kwargs, "keyword arguments")
    unknown = sorted(arguments.keys() - set(names))
    if unknown:
        listed = ", ".join(map(abbreviate, unknown[:3]))
        raise ValueError(f"it has an argument {listed}, which this version of fanout does not know")
    return arguments


def _check_mapping(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(type(name) is str for name in value):
        raise ValueError(f"{what}: {abbreviate(value)} is no mapping with string keys")
    return value


def _check_list(value: object, what: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{what}: {abbreviate(value)} is no list")
    return value


def _check_index(value: object, what: str) -> int:
    number = _check_type(int, value, what, "a number from 0")
    # The key of an object has six digits for it.
    if not 0 <= number < 1_000_000:
        raise ValueError(f"{what} is {abbreviate(value)}, not from 0 to 999999")
    return number


def _check_token(value: object, what: str) -> str | None:
    return None if value is None else check_id(value, what=what)


def _check_type(kind: type[T], value: object, what: str, wanted: str) -> T:
    """Return `value` if it is of exactly that type: in Python, `True` is an `int`, too."""
    if type(value) is not kind:
        raise ValueError(f"{what} is {abbreviate(value)}, not {wanted}")
    return value


def abbreviate(value: object) -> str:
    """Return the beginning of a foreign value's text, without writing all of the text."""
    if isinstance(value, str | bytes):
        return f"{value[:EXCERPT]!r:.{EXCERPT}}"
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, dict | list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{value!r:.{EXCERPT}}"
