"""What goes wrong, and when: one draw at each point where something can."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping

AT_A_CALL = {
    "killed before a call": "The process dies; the call is never made.",
    "killed after a call": "The call is carried out; the process dies before it learns so.",
    "call refused": "The store does not answer, and has done nothing.",
    "call denied": "The store refuses the credentials for this once, and has done nothing.",
    "answer lost": "The store does not answer, but has done what was asked.",
    "own write met": "The answer to a put was lost, the client repeated it and met what it had written itself.",
    "put lands late": "The store does not answer, and does what was asked some time later.",
    "frozen": "The process stands still, beats and all; what it was asked goes on as if nothing had been.",
    "cut off": "The broker takes the worker for dead and hands its message to another, while it works on.",
}
AT_A_SEND = {
    "killed before a send": "The process dies; the message is never sent.",
    "killed after a send": "The message is sent; the process dies before it learns so.",
    "send refused": "The broker takes no messages.",
    "confirmation lost": "The broker has the message; the sender is told that it has not.",
    "message lost": "The broker forgets the message.",
    "message doubled": "The message arrives twice or more.",
    "message late": "The message arrives much later.",
}
AT_A_DEATH = {"message lost with its worker": "The message of a worker that died does not come back."}
ANY_TIME = {"queue purged": "All messages that wait are gone."}
FAULTS = {**AT_A_CALL, **AT_A_SEND, **AT_A_DEATH, **ANY_TIME}


class Faults:
    """Draws faults at the rates given, each at most as long as it is wanted.

    Args:
        rng: Where the draws come from.
        rates: Part of the points of its kind at which each fault strikes.
        skipped: Numbers of faults that do not strike after all, to find out which matter.
    """

    def __init__(self, rng: random.Random, rates: Mapping[str, float], *, skipped: Collection[int] = ()) -> None:
        unknown = set(rates) - set(FAULTS)
        if unknown:
            raise ValueError(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
        self.over = False
        self.injected: Counter[str] = Counter()
        self.drawn = 0
        """Faults so far, those that were skipped included; a fault's number is how many were before it."""
        self._random = rng.random
        self._skipped = skipped
        self._calls = _steps(rates, AT_A_CALL)
        self._sends = _steps(rates, AT_A_SEND)
        self._rates = rates

    def at_a_call(self) -> str | None:
        return self._draw(self._calls)

    def at_a_send(self) -> str | None:
        return self._draw(self._sends)

    def strikes(self, fault: str) -> bool:
        """Whether a fault that has its own occasion strikes at this one."""
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
