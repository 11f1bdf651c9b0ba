"""The steps of a waiting caller: a generator that asks the store, and says when to pause and what to read.

A caller's thread runs steps with `run_steps`, and an event loop runs the same steps with `aio.run_steps_async`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from ..results import read_ahead

if TYPE_CHECKING:
    from .wait import Wait

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause before the next request.

    Attributes:
        wish_s: Seconds to pause. A process with many waiting callers may pause for longer.
        left_s: Seconds until the caller's time is up.
    """

    wish_s: float
    left_s: float = float("inf")


Reads: TypeAlias = Sequence[Callable[[], Sequence[T]]]
"""Functions that each read values from the store, in the order in which the caller gets the values. The driver may call
several at once, in any thread."""

Steps: TypeAlias = Iterator[Pause | Reads[T]]


def run_steps(wait: Wait, steps: Steps[T]) -> Iterator[T]:
    """Run steps in this thread, and yield the values that they read. Reads ahead, at most 8 objects.

    Args:
        wait: The wait of the caller.
        steps: Its steps.
    """
    while (step := wait.call(partial(next, steps, None))) is not None:
        if isinstance(step, Pause):
            # no limit: the steps end with the caller's timeout
            wait.listener.wait(min(step.wish_s, step.left_s))
        else:
            for values in read_ahead([partial(wait.call, read) for read in step]):
                yield from values
