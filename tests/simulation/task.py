"""The tasks of schedules. A script determines what each step does."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from fanout import ForkJoinTask

from .shape import COMBINE_FORMS, STALL_S, Shape

if TYPE_CHECKING:
    from .world import World

T = TypeVar("T")
SLOW_S = 2.5 * STALL_S
QUICK_S = 0.2


class Script:
    """The behaviour of a job's steps, and a record of their runs.

    Attributes:
        runs: Number of runs by step: `setup`, `join`, or an item's index.
        combined: Number of combines that began with an item's result.
        values: All values that runs returned for an item.
    """

    def __init__(self, world: World, shape: Shape) -> None:
        self.runs: Counter[int | str] = Counter()
        self.combined: Counter[int] = Counter()
        self.values: defaultdict[int, set[tuple[int, ...]]] = defaultdict(set)
        self._raised: Counter[int | str] = Counter()
        self._world = world
        self._shape = shape

    def setup(self) -> Iterator[dict[str, int]]:
        self.runs["setup"] += 1
        salt = self.runs["setup"] if self._shape.setup == "varying" else 0
        for index in range(self.count(salt)):
            yield {"index": index, "salt": salt}
            self._act(self._shape.setup if index == 0 else "good", "setup")
        if not self.count(salt):
            self._act(self._shape.setup, "setup")

    def count(self, salt: int) -> int:
        """Return the number of items that a run of setup yields. A varying setup yields one more item in each run."""
        return len(self._shape.items) + salt

    def process(self, index: int, salt: int) -> list[int]:
        self.runs[index] += 1
        self._world.invariants.on_process(self._world.loop.current().process, index // self._shape.chunk_items)
        kind = self._shape.items[index] if index < len(self._shape.items) else "good"
        if kind == "repaired":
            kind = "good" if self._world.generation_of(self._world.loop.current().process) else "broken"
        self._act(kind, index)
        value = (index, salt, self.runs[index] if kind == "varying" else index * index)
        self.values[index].add(value)
        return list(value)

    def combine(self, results: Iterable[list[list[int]]]) -> list[list[int]]:
        """Concatenate the rows of items, so that the value shows the order of the results."""
        inputs = list(results)
        self.combined[inputs[0][0][0]] += 1
        self._act(self._shape.combine, "combine")
        return [row for rows in inputs for row in rows]

    def join(self, results: Sequence[T]) -> list[T]:
        self.runs["join"] += 1
        self._world.invariants.on_join(self._world.loop.current().process)
        values = list(results)
        self._act(self._shape.join, "join")
        return values

    def join_combined(self, results: Sequence[list[list[int]]]) -> list[list[int]]:
        self._world.invariants.on_combined_join(len(results))
        return [row for rows in self.join(results) for row in rows]

    def _act(self, kind: str, step: int | str) -> None:
        world = self._world
        fraction = world.rng.random()
        world.loop.sleep(SLOW_S * (0.5 + fraction) if kind == "slow" else QUICK_S * fraction)
        if kind == "poison":
            world.note("poison", str(step))
            world.die()
        if kind == "broken" or (kind == "flaky" and not self._raised[step]):
            self._raised[step] += 1
            raise ValueError(f"{step} is {kind}")


SCRIPTS: dict[int, Script] = {}
"""The scripts of the current schedule, by job number."""


class Scripted(ForkJoinTask):
    """A task whose steps follow a script."""

    input_schema = {"number": {"type": "integer", "required": True}}

    def setup(number):
        return SCRIPTS[number].setup()

    def process(number, index, salt):
        return SCRIPTS[number].process(index, salt)

    def join(number, results):
        return SCRIPTS[number].join(results)


class ScriptedPairs(Scripted):
    """A scripted task that combines two results at a time."""

    def process(number, index, salt):
        return [SCRIPTS[number].process(index, salt)]

    def combine(number, a, b):
        return SCRIPTS[number].combine((a, b))

    def join(number, results):
        return SCRIPTS[number].join_combined(results)


class ScriptedLists(ScriptedPairs):
    """A scripted task that combines lists of results."""

    def combine(number, results):
        return SCRIPTS[number].combine(results)


TASKS: dict[str | None, type[Scripted]] = {
    None: Scripted,
    **dict(zip(COMBINE_FORMS, (ScriptedPairs, ScriptedLists), strict=True)),
}
"""The task for each form of a combine."""
