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
from ..submission import Order
from .messages import check_order, read_inline
from .values import opened


def to_wire(order: Order) -> dict[str, Any]:
    """JSON-plain, small whatever the size of the input: large parameters are in the store."""
    defaults = asdict(order.task.options)
    # A count is not a fraction: 1 and 1.0 are equal, and say different things.
    options = {
        name: value
        for name, value in asdict(order.options).items()
        if (type(value), value) != (type(defaults[name]), defaults[name])
    }
    return {
        "inline": base64.b64encode(order.parameters.inline).decode("ascii"),
        "references": order.parameters.references,
        "options": options,
        "receives": order.receives,
        "made_at": int(time.time()),
    }


def from_wire(body: Any, task: Declaration) -> Order:
    """The order that `to_wire` wrote.

    Raises:
        InvalidInput: It is none.
    """
    try:
        check_order(body)
        parameters = Parameters(read_inline(body["inline"]), dict(body["references"]))
        known = {field.name for field in fields(Options)}
        options = {name: value for name, value in body["options"].items() if name in known}
        return Order(task, parameters, task.options.updated(options), {}, body["receives"], body.get("routing", {}))
    except (ArithmeticError, TypeError, ValueError) as error:
        raise InvalidInput(
            task.name, {"order": [f"is not what a signature of this task carries: {error!s:.300}"]}
        ) from error


class ParametersGone(InvalidInput):
    """What a signature refers to is no longer in the store."""


def renewed(body: dict[str, Any], order: Order, runtime: Runtime) -> None:
    """See to it that what an old signature refers to is in the store, and will be as long as its job needs it.

    A signature may be kept in a beat schedule, or in a module, for longer than the store keeps what no job refers to.
    No request for a young one; else one for each large parameter, and two more for one that is old.

    Raises:
        ParametersGone: Names the parameters, and the remedy.
    """
    keep_s = runtime.config.keep_s
    made_at = body.get("made_at", 0)
    # Roughly, for it was said by another machine's clock.
    if not order.parameters.references or time.time() - made_at < keep_s / 2:
        return
    gone = order.parameters.renew(runtime.store, before=runtime.now() - keep_s)
    if gone:
        days = 2 * keep_s / 86_400
        why = (
            f"is no longer in the store: a signature that is not launched for {days:g} days (2 × keep_s) loses its "
            "large parameters. Make the signature anew, for instance in a task that beat calls, or raise keep_s"
        )
        raise ParametersGone(order.task.name, {name: [why] for name in gone})


def completed(order: Order, received: tuple[Any, ...], runtime: Runtime) -> Order:
    """The order with the value of the step before, validated along with the rest.

    Raises:
        InvalidInput: A value came that no parameter receives, or one is missing, or the input does not fit.
        Unencodable: The value can't travel.
    """
    task = order.task
    if order.receives is None:
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
        return order
    if len(received) != 1:
        raise InvalidInput(
            task.name, {order.receives: [f"must receive one value from the step before, not {len(received)}"]}
        )
    value = opened(received[0], runtime)
    return order.completed(value, store=runtime.store, inline_bytes=runtime.config.inline_bytes)
