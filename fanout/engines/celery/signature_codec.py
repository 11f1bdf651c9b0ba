"""A submission as the argument of a signature: encoded where the signature is made, decoded where it is launched."""

from __future__ import annotations

import base64
import time
from dataclasses import asdict, fields
from typing import Any

from ...config.settings import Options
from ...declaration.definition import Declaration
from ...errors import InvalidInput
from ...records.parameters import Parameters
from ...runtime import Runtime
from ..submission import Submission
from .messages import check_submission, read_inline
from .values import resolve


def encode(submission: Submission) -> dict[str, Any]:
    """Return a submission as JSON-plain data, which is small: large parameters are in the store."""
    defaults = asdict(submission.task.options)
    # Types count, too: 1 and 1.0 are equal, but 1 is a count and 1.0 a fraction.
    options = {
        name: value
        for name, value in asdict(submission.options).items()
        if (type(value), value) != (type(defaults[name]), defaults[name])
    }
    return {
        "inline": base64.b64encode(submission.parameters.inline).decode("ascii"),
        "references": submission.parameters.references,
        "options": options,
        "receives": submission.receives,
        "made_at": int(time.time()),
        **({"tags": submission.tags} if submission.tags else {}),
    }


def decode(body: Any, task: Declaration) -> Submission:
    """Return the submission that `encode` wrote.

    Raises:
        InvalidInput: `body` is no such data.
    """
    try:
        check_submission(body)
        parameters = Parameters(read_inline(body["inline"]), dict(body["references"]))
        known = {field.name for field in fields(Options)}
        options = {name: value for name, value in body["options"].items() if name in known}
        return Submission(
            task,
            parameters,
            task.options.replace(options),
            {},
            body["receives"],
            body.get("routing", {}),
            body.get("tags", {}),
        )
    except (ArithmeticError, TypeError, ValueError) as error:
        raise InvalidInput(
            task.name, {"submission": [f"is not the submission of a signature of this task: {error!s:.300}"]}
        ) from error


class ParametersGone(InvalidInput):
    """A parameter that a signature refers to is no longer in the store."""


def renew(body: dict[str, Any], submission: Submission, runtime: Runtime) -> None:
    """Make sure that the parameters of an old signature are in the store, and stay there while its job needs them.

    A beat schedule or a module may keep a signature for longer than the store keeps unreferenced parameters. No request
    for a signature of less than half the retention time. Else one request per large parameter, and two more per old
    one.

    Args:
        body: The encoded submission.
        submission: The submission.
        runtime: The store and the settings.

    Raises:
        ParametersGone: Names the parameters and the remedy.
    """
    retention_s = runtime.config.retention_s
    made_at = body.get("made_at", 0)
    # Half the time leaves room for the error of another machine's clock.
    if not submission.parameters.references or time.time() - made_at < retention_s / 2:
        return
    gone = submission.parameters.renew(runtime.store, before=runtime.now() - retention_s)
    if gone:
        days = 2 * retention_s / 86_400
        why = (
            f"is no longer in the store: a signature that is not launched for {days:g} days (2 × retention_s) loses "
            "its large parameters. Make the signature anew, for instance in a task that beat calls, or raise "
            "retention_s"
        )
        raise ParametersGone(submission.task.name, {name: [why] for name in gone})


def complete(submission: Submission, received: tuple[Any, ...], runtime: Runtime) -> Submission:
    """Return the submission with the previous step's value, validated as a whole.

    Args:
        submission: The submission.
        received: The message's arguments: the previous step's value, if there is one.
        runtime: The store and the settings.

    Raises:
        InvalidInput: No parameter receives the value, or the value is missing, or the input is refused.
        Unencodable: The value cannot be stored.
    """
    task = submission.task
    if submission.receives is None:
        if received:
            raise InvalidInput(
                task.name,
                {
                    "input": [
                        "the previous step sent a value, but no parameter receives it: name one with "
                        "signature(…, receives='…'), or make the signature immutable"
                    ]
                },
            )
        return submission
    if len(received) != 1:
        raise InvalidInput(
            task.name, {submission.receives: [f"must receive one value from the previous step, not {len(received)}"]}
        )
    value = resolve(received[0], runtime)
    return submission.complete(value, store=runtime.store, inline_bytes=runtime.config.inline_bytes)
