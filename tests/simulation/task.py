"""The tasks that schedules run: each of their steps does what the schedule's script says."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from fanout import ForkJoinTask

from .shape import COMBINE_FORMS, STALL_S, Shape

if TYPE_CHECKING:
    from .world import World

SLOW_S = 2.5 * STALL_S
QUICK_S = 0.2


class Script:
    """What the steps of a job do, and what they have done.

    Attributes:
        runs: Times that a step began: `setup`, `join`, or an item's index.
        combined: Times that combine began with the result of an item.
        gave: Values that each item gave in any run.
    """

    def __init__(self, world: World, shape: Shape) -> None:
        self.runs: Counter[int | str] = Counter()
        self.combined: Counter[int] = Counter()
        self.gave: defaultdict[int, set[tuple[int, ...]]] = defaultdict(set)
        self._raised: Counter[int | str] = Counter()
        self._world = world
        self._shape = shape

    def setup(self) -> Iterator[dict[str, int]]:
        self.runs["setup"] += 1
        salt = self.runs["setup"] if self._shape.setup == "fickle" else 0
        for index in range(self.count(salt)):
            yield {"index": index, "salt": salt}
            self._take(self._shape.setup if index == 0 else "well", "setup")
        if not self.count(salt):
            self._take(self._shape.setup, "setup")

    def count(self, salt: int) -> int:
        """Items that a run of setup yields: a fickle one yields one more each time."""
        return len(self._shape.items) + salt

    def process(self, index: int, salt: int) -> list[int]:
        self.runs[index] += 1
        self._world.invariants.processing(self._world.loop.current().process)
        kind = self._shape.items[index] if index < len(self._shape.items) else "well"
        if kind == "mended":
            kind = "well" if self._world.round_of(self._world.loop.current().process) else "broken"
        self._take(kind, index)
        value = (index, salt, self.runs[index] if kind == "fickle" else index * index)
        self.gave[index].add(value)
        return list(value)

    def combine(self, results: Iterable[list[list[int]]]) -> list[list[int]]:
        """Rows of items, in a row; so the order of the results can be told from it."""
        parts = list(results)
        self.combined[parts[0][0][0]] += 1
        self._take(self._shape.combine, "combine")
        return [row for part in parts for row in part]

    def join(self, results: Sequence[list[int]]) -> list[list[int]]:
        self.runs["join"] += 1
        self._world.invariants.joining(self._world.loop.current().process)
        values = list(results)
        self._take(self._shape.join, "join")
        return values

    def join_combined(self, results: Sequence[list[list[int]]]) -> list[list[int]]:
        self._world.invariants.joining_combined(len(results))
        return [row for part in self.join(results) for row in part]

    def _take(self, kind: str, step: int | str) -> None:
        world = self._world
        part = world.rng.random()
        world.loop.sleep(SLOW_S * (0.5 + part) if kind == "slow" else QUICK_S * part)
        if kind == "poison":
            world.note("poison", str(step))
            world.die()
        if kind == "broken" or (kind == "flaky" and not self._raised[step]):
            self._raised[step] += 1
            raise ValueError(f"{step} is {kind}")


SCRIPTS: dict[int, Script] = {}
"""The scripts of the schedule that is being played, by job."""


class Scripted(ForkJoinTask):
    """Plays a script."""

    input_schema = {"number": {"type": "integer", "required": True}}

    def setup(number):
        return SCRIPTS[number].setup()

    def process(number, index, salt):
        return SCRIPTS[number].process(index, salt)

    def join(number, results):
        return SCRIPTS[number].join(results)


class ScriptedPairs(Scripted):
    """Plays a script, and combines a result with the one that follows it."""

    def process(number, index, salt):
        return [SCRIPTS[number].process(index, salt)]

    def combine(number, a, b):
        return SCRIPTS[number].combine((a, b))

    def join(number, results):
        return SCRIPTS[number].join_combined(results)


class ScriptedLists(ScriptedPairs):
    """Plays a script, and combines lists of results."""

    def combine(number, results):
        return SCRIPTS[number].combine(results)


TASKS: dict[str | None, type[Scripted]] = {
    None: Scripted,
    **dict(zip(COMBINE_FORMS, (ScriptedPairs, ScriptedLists), strict=True)),
}
"""The task for each form of a combine."""
