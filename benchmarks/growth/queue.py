"""The broker's queue in the model: messages in the order in which they were sent."""

from __future__ import annotations

import math
from collections import deque

from fanout.records.keys import GROUP_WIDTH

from .plan import Message, Plan


class Queue:
    """The broker's queue: messages of setup by their times, and parts of batches that workers shared out.

    Args:
        plan: The job.

    Attributes:
        setup_s: When setup has sent its last message.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._number = 0
        self._parts: deque[tuple[float, Message]] = deque()
        self.setup_s = 0.0
        number = plan.batches_a_group * ((plan.chunks - 1) // GROUP_WIDTH)
        while plan.first_batch(number)[1]:
            self.setup_s = plan.sent_s(number)
            number += 1
        self._next = plan.first_batch(0)
        self._next_s = plan.sent_s(0)

    def put(self, at_s: float, part: Message) -> None:
        """Add a part that is sent at a time, which is no earlier than that of the part before."""
        self._parts.append((at_s, part))

    def take(self, at_s: float) -> Message | None:
        """Return the oldest message; None if there is none at that time."""
        setup_s = self._next_s if self._next[1] else math.inf
        if self._parts and self._parts[0][0] <= min(at_s, setup_s):
            return self._parts.popleft()[1]
        if setup_s > at_s:
            return None
        message = self._next
        self._number += 1
        self._next, self._next_s = self._plan.first_batch(self._number), self._plan.sent_s(self._number)
        return message

    def is_empty(self, at_s: float) -> bool:
        """Return whether no message waits."""
        is_part = bool(self._parts) and self._parts[0][0] <= at_s
        return not (is_part or (self._next[1] and self._next_s <= at_s))

    @property
    def next_s(self) -> float | None:
        """When setup sends its next message; None if it has sent all."""
        return self._next_s if self._next[1] else None
