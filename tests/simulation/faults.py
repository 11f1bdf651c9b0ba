"""Faults, drawn at each call, send or death at which one can occur."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping

AT_CALL = {
    "killed before a call": "The process dies and does not make the call.",
    "killed after a call": "The store executes the call, and the process dies before the response.",
    "call refused": "The store does not respond and does not execute the call.",
    "call denied": "The store refuses the credentials once, and does not execute the call.",
    "response lost": "The store executes the call and does not respond.",
    "own write found": "The response to a put was lost; the client repeated the put and found its own object.",
    "put applied late": "The store does not respond, and executes the put some time later.",
    "suspended": "The process is suspended with all threads, heartbeats included, and later continues with the call.",
    "cut off": "The broker takes the worker for dead and redelivers its message, while the worker continues.",
}
AT_SEND = {
    "killed before a send": "The process dies and does not send the message.",
    "killed after a send": "The broker takes the message, and the process dies before the confirm.",
    "send refused": "The broker takes no messages.",
    "confirmation lost": "The broker takes the message, and the sender gets an error.",
    "message lost": "The broker loses the message.",
    "message duplicated": "The message arrives twice or more.",
    "message late": "The message arrives much later.",
}
AT_DEATH = {"message lost with its worker": "The message of a dead worker is not redelivered."}
ANY_TIME = {"queue purged": "All waiting messages are lost."}
FAULTS = {**AT_CALL, **AT_SEND, **AT_DEATH, **ANY_TIME}


class Faults:
    """A source of faults at given rates, until `over` is set.

    Args:
        rng: The source of random numbers.
        rates: Probability of each fault at each of its points.
        skipped: Numbers of faults that are drawn and not injected, to find the relevant ones.
    """

    def __init__(self, rng: random.Random, rates: Mapping[str, float], *, skipped: Collection[int] = ()) -> None:
        unknown = set(rates) - set(FAULTS)
        if unknown:
            raise ValueError(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
        self.over = False
        self.injected: Counter[str] = Counter()
        self.drawn = 0
        """Number of faults drawn so far, skipped ones included. A fault's number is the count before it."""
        self._random = rng.random
        self._skipped = skipped
        self._calls = _steps(rates, AT_CALL)
        self._sends = _steps(rates, AT_SEND)
        self._rates = rates

    def draw_at_call(self) -> str | None:
        return self._draw(self._calls)

    def draw_at_send(self) -> str | None:
        return self._draw(self._sends)

    def occurs(self, fault: str) -> bool:
        """Draw whether a fault occurs at one of its own points, and return the result."""
        return self._draw([(self._rates.get(fault, 0.0), fault)]) is not None

    def record(self, fault: str) -> None:
        self.injected[fault] += 1

    def _draw(self, steps: list[tuple[float, str]]) -> str | None:
        if self.over or not steps:
            return None
        at = self._random()
        if at >= steps[-1][0]:
            return None
        number, self.drawn = self.drawn, self.drawn + 1
        if number in self._skipped:
            return None
        return next(fault for limit, fault in steps if at < limit)


def _steps(rates: Mapping[str, float], kinds: Mapping[str, str]) -> list[tuple[float, str]]:
    steps, limit = [], 0.0
    for fault in kinds:
        if rates.get(fault):
            limit += rates[fault]
            steps.append((limit, fault))
    return steps
