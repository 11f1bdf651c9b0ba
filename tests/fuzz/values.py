"""Values that a parser may stumble over, and mutations of a tree of JSON."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

MOST_NODES = 50

ODD: list[Callable[[random.Random], Any]] = [
    lambda source: None,
    lambda source: source.choice([True, False]),
    lambda source: source.choice([0, -1, 1, 2**31, 2**63, -(2**63), 2**64, 10 ** source.randrange(400)]),
    lambda source: source.choice([0.0, -0.5, 1e308, float("nan"), float("inf"), -float("inf")]),
    lambda source: source.choice(["", "..", "../../x", "/", "a/b", "\0", "\ud800", "é" * 50, "x" * 10_000, "0" * 32]),
    lambda source: source.choice(["%s%s%n", "{0.__class__}", "${jndi:ldap://x}", "\r\nINFO forged", "1e9999999"]),
    lambda source: [],
    lambda source: {},
    lambda source: [0] * source.choice([1, 2, 63, 65, 1000]),
    lambda source: {"__reduce__": ["os.system", "true"]},
    lambda source: {source.choice(["submission", "launch_id", "resent", "held", "x"]): None},
    lambda source: nest(source.choice([5, 50, 900])),
]


def nest(depth: int) -> list[Any]:
    """Return lists in lists."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def mutate(tree: Any, source: random.Random) -> Any:
    """Return a copy of a tree with one to four nodes replaced, removed, doubled or exchanged."""
    box = [_copy(tree)]
    for _ in range(source.choice([1, 1, 1, 2, 4])):
        parent, place = source.choice(_places(box))
        act = source.random()
        if act < 0.55:
            parent[place] = source.choice(ODD)(source)
        elif act < 0.7 and parent is not box:
            del parent[place]
        elif act < 0.8 and isinstance(parent, list):
            parent.insert(place, source.choice(ODD)(source))
        elif act < 0.9 and isinstance(parent[place], str) and parent[place]:
            at = source.randrange(len(parent[place]))
            parent[place] = parent[place][:at] + chr(source.randrange(0xD900)) + parent[place][at + 1 :]
        else:
            other, elsewhere = source.choice(_places(box))
            if other is not box and parent is not box:
                # Deep ones can't be copied.
                with suppress(RecursionError):
                    parent[place] = _copy(other[elsewhere])
        if not box:
            box = [None]
    return box[0]


def _copy(node: Any) -> Any:
    if isinstance(node, list):
        return [_copy(member) for member in node]
    return {name: _copy(member) for name, member in node.items()} if isinstance(node, dict) else node


def _places(box: list[Any]) -> list[tuple[Any, Any]]:
    """Return container and index of nodes of a tree, at most some."""
    found: list[tuple[Any, Any]] = []
    waiting: list[Any] = [box]
    while waiting and len(found) < MOST_NODES:
        container = waiting.pop()
        places = range(len(container)) if isinstance(container, list) else list(container)
        for place in places[:MOST_NODES]:
            found.append((container, place))
            if isinstance(container[place], list | dict):
                waiting.append(container[place])
    return found
