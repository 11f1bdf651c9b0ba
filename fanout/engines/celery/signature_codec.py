"""An order in the form in which it travels inside a signature, from where the signature is made to its launch."""

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
    """JSON-plain, small whatever the size of the input: large parameters are in the store."""
    defaults = asdict(submission.task.options)
    # A count is not a fraction: 1 and 1.0 are equal, and say different things.
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
    }


def decode(body: Any, task: Declaration) -> Submission:
    """The order that `encode` wrote.

    Raises:
        InvalidInput: It is none.
    """
    try:
        check_submission(body)
        parameters = Parameters(read_inline(body["inline"]), dict(body["references"]))
        known = {field.name for field in fields(Options)}
        options = {name: value for name, value in body["options"].items() if name in known}
        return Submission(
            task, parameters, task.options.updated(options), {}, body["receives"], body.get("routing", {})
        )
    except (ArithmeticError, TypeError, ValueError) as error:
        raise InvalidInput(
            task.name, {"submission": [f"is not what a signature of this task carries: {error!s:.300}"]}
        ) from error


class ParametersGone(InvalidInput):
    """What a signature refers to is no longer in the store."""


def renew(body: dict[str, Any], submission: Submission, runtime: Runtime) -> None:
    """See to it that what an old signature refers to is in the store, and will be as long as its job needs it.

    A signature may be kept in a beat schedule, or in a module, for longer than the store keeps what no job refers to.
    No request for a young one; else one for each large parameter, and two more for one that is old.

    Raises:
        ParametersGone: Names the parameters, and the remedy.
    """
    retention_s = runtime.config.retention_s
    made_at = body.get("made_at", 0)
    # Roughly, for it was said by another machine's clock.
    if not submission.parameters.references or time.time() - made_at < retention_s / 2:
        return
    gone = submission.parameters.renew(runtime.store, before=runtime.now() - retention_s)
    if gone:
        days = 2 * retention_s / 86_400
        why = (
            f"is no longer in the store: a signature that is not launched for {days:g} days (2 × keep_s) loses its "
            "large parameters. Make the signature anew, for instance in a task that beat calls, or raise keep_s"
        )
        raise ParametersGone(submission.task.name, {name: [why] for name in gone})


def complete(submission: Submission, received: tuple[Any, ...], runtime: Runtime) -> Submission:
    """The order with the value of the step before, validated along with the rest.

    Raises:
        InvalidInput: A value came that no parameter receives, or one is missing, or the input does not fit.
        Unencodable: The value can't travel.
    """
    task = submission.task
    if submission.receives is None:
        if received:
            raise InvalidInput(
                task.name,
                {
                    "input": [
                        "the step before sent a value, but no parameter receives it: name one with "
                        "signature(…, receives='…'), or make the signature immutable"
                    ]
                },
            )
        return submission
    if len(received) != 1:
        raise InvalidInput(
            task.name, {submission.receives: [f"must receive one value from the step before, not {len(received)}"]}
        )
    value = resolve(received[0], runtime)
    return submission.complete(value, store=runtime.store, inline_bytes=runtime.config.inline_bytes)
