"""What the messages for setup and join say, checked field by field: a message may be forged, or come from elsewhere.

The message for process is a handle, which checks itself (`ChunkRef.from_row`). Pure: no store, no broker, no request.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from ...records.chunk_ref import ChunkRef
from ...records.keys import checked_digest, checked_id

EXCERPT = 80
"""Characters of a foreign value that an error shows."""

MAX_HELD = 64
"""Tokens of earlier runs that a message for join may name; each run adds one, and there are far fewer."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SetupMessage:
    """What a message says to setup.

    Attributes:
        job_id: The job; the message's Celery task id.
        received: What the step before in a chain sent, if the input is still to be completed.
        submission: The signature's order in the form of `wire.to_wire`, if the job is not on record yet.
        generation: The job's round.
        launch_id: Which launch of that id is meant; None for the one that counts.
        resent: Whether a sweep believes that a worker which had begun is gone.
    """

    job_id: str
    received: tuple[Any, ...] = ()
    submission: dict[str, Any] | None = None
    generation: int = 0
    launch_id: str | None = None
    resent: bool = False

    @classmethod
    def parse(cls, job_id: object, args: object, kwargs: object) -> SetupMessage:
        """The message, from its task id and arguments.

        Raises:
            ValueError: It is none that fanout sends; says which part of it is not, in at most some 200 characters.
        """
        said = _read_arguments(kwargs, "submission", "generation", "launch_id", "resent")
        received = tuple(_check_list(args, "arguments"))
        submission = said.get("submission")
        if submission is not None:
            check_submission(submission)
        elif received:
            raise ValueError(f"{len(received)} values were received, and there is no order for them")
        return cls(
            job_id=checked_id(job_id, what="job id"),
            received=received,
            submission=submission,
            generation=_check_index(said.get("generation", 0), "generation"),
            launch_id=_check_token(said.get("launch_id"), "launch id"),
            resent=_check_type(bool, said.get("resent", False), "resent", "true or false"),
        )


@dataclass(frozen=True, slots=True)
class JoinMessage:
    """What a message says to join.

    Attributes:
        job_id: The job.
        resent: Whether a sweep believes that an earlier join was lost.
        generation: The job's round.
        held: Tokens of earlier runs for this message.
        launch_id: Which launch of that id is meant; None for the one that counts.
    """

    job_id: str
    resent: bool = False
    generation: int = 0
    held: tuple[str, ...] = ()
    launch_id: str | None = None

    @classmethod
    def parse(cls, args: object, kwargs: object) -> JoinMessage:
        """The message, from its arguments.

        Raises:
            ValueError: It is none that fanout sends; says which part of it is not, in at most some 200 characters.
        """
        said = _read_arguments(kwargs, "resent", "generation", "held", "launch_id")
        one = _check_list(args, "arguments")
        if len(one) != 1:
            raise ValueError(f"there must be one argument, the job's id, and not {len(one)}")
        held = _check_list(said.get("held", ()), "held")
        if len(held) > MAX_HELD:
            raise ValueError(f"held names {len(held)} runs, more than {MAX_HELD}")
        return cls(
            job_id=checked_id(one[0], what="job id"),
            resent=_check_type(bool, said.get("resent", False), "resent", "true or false"),
            generation=_check_index(said.get("generation", 0), "generation"),
            held=tuple(checked_id(token, what="held") for token in held),
            launch_id=_check_token(said.get("launch_id"), "launch id"),
        )


class JobAddress(NamedTuple):
    """The job that a message is for: its id, which launch of that id, and which of its rounds."""

    job_id: str
    launch_id: str | None
    generation: int


def read_address(step: str, task_id: object, args: object, kwargs: object) -> JobAddress:
    """The job that a message is for.

    Args:
        step: The step that it asks for.
        task_id: Its Celery task id.
        args: Its arguments.
        kwargs: Its named arguments.

    Raises:
        ValueError: It is no message of ours.
    """
    if step == "process":
        ref = ChunkRef.from_row(args)
        return JobAddress(ref.job_id, ref.launch_id, ref.generation)
    if step == "setup":
        setup = SetupMessage.parse(task_id, args or (), kwargs or {})
        return JobAddress(setup.job_id, setup.launch_id, setup.generation)
    join = JoinMessage.parse(args, kwargs or {})
    return JobAddress(join.job_id, join.launch_id, join.generation)


def check_submission(submission: object) -> None:
    """Check that an order has the form that `wire.to_wire` gives it. What its task makes of it is not looked at.

    Raises:
        ValueError: It has another; says where.
    """
    body = _check_mapping(submission, "submission")
    missing = sorted({"inline", "references", "options", "receives"} - body.keys())
    if missing:
        raise ValueError(f"order lacks {', '.join(missing)}")
    read_inline(body["inline"])
    for name, content in _check_mapping(body["references"], "references").items():
        try:
            checked_digest(content)
        except ValueError as error:
            raise ValueError(f"references[{_abbreviate(name)}]: {error}") from None
    for name, option in _check_mapping(body["options"], "options").items():
        if not (option is None or isinstance(option, bool | int | float | str)):
            raise ValueError(f"options[{_abbreviate(name)}] is {_abbreviate(option)}, and no plain value")
    _check_mapping(body.get("routing", {}), "routing")
    _check_type(int, body.get("made_at", 0), "made_at", "a number of seconds")
    if body["receives"] is not None:
        _check_type(str, body["receives"], "receives", "the name of a parameter")


def read_inline(text: object) -> bytes:
    """The bytes of an order's small parameters.

    Raises:
        ValueError: `text` is not base64.
    """
    encoded = _check_type(str, text, "inline", "base64")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"inline is not base64: {error}") from None


def _read_arguments(kwargs: object, *names: str) -> Mapping[str, Any]:
    """The named arguments of a message, none of which is another than these."""
    said = _check_mapping(kwargs, "named arguments")
    unknown = sorted(said.keys() - set(names))
    if unknown:
        listed = ", ".join(map(_abbreviate, unknown[:3]))
        raise ValueError(f"it has an argument {listed}, which this version of fanout does not know")
    return said


def _check_mapping(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(type(name) is str for name in value):
        raise ValueError(f"{what}: {_abbreviate(value)} is no mapping of names")
    return value


def _check_list(value: object, what: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{what}: {_abbreviate(value)} is no list")
    return value


def _check_index(value: object, what: str) -> int:
    number = _check_type(int, value, what, "a number from 0")
    # What an object's key has room for.
    if not 0 <= number < 1_000_000:
        raise ValueError(f"{what} is {_abbreviate(value)}, and not from 0 to 999999")
    return number


def _check_token(value: object, what: str) -> str | None:
    return None if value is None else checked_id(value, what=what)


def _check_type(kind: type[T], value: object, what: str, wanted: str) -> T:
    """`value` if it is of that very type: to Python true is a number, too."""
    if type(value) is not kind:
        raise ValueError(f"{what} is {_abbreviate(value)}, and not {wanted}")
    return value


def _abbreviate(value: object) -> str:
    """The beginning of a foreign value, made without writing all of it out."""
    if isinstance(value, str | bytes):
        return f"{value[:EXCERPT]!r:.{EXCERPT}}"
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, dict | list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{value!r:.{EXCERPT}}"
