"""An order in the form in which it travels inside a signature, from where the signature is made to its launch."""

from __future__ import annotations

import base64
from dataclasses import asdict, fields
from typing import Any

from ...config import Options
from ...declaration import Declaration
from ...errors import InvalidInput
from ...parameters import Parameters
from ...runtime import Runtime
from ..launch import Order
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
