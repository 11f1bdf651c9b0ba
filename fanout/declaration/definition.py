"""A task as the engines know it: its name, its bound steps, its schema, its options. And where to find it by name."""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..config.settings import Options
from ..errors import ConfigError, DeclarationError, UnknownTask
from .binding import Binding
from .schema import InputSchema


@dataclass(frozen=True, slots=True)
class Declaration:
    """One declared task.

    Attributes:
        name: Unique in a process; what a job's intent names.
        module: The module to import in another process to have the task declared there.
        origin: Where the steps' code stands, to tell a reload from a second task of the same name.
    """

    name: str
    module: str
    origin: tuple[object, ...]
    binding: Binding
    schema: InputSchema
    options: Options

    @classmethod
    def of(
        cls,
        name: str,
        *,
        module: str,
        schema: Mapping[str, Any],
        validator: type[Any] | None = None,
        steps: Mapping[str, Callable[..., Any]],
        options: Mapping[str, Any],
    ) -> Declaration:
        """Check a task.

        Raises:
            DeclarationError: Names the task and the step.
        """
        if not isinstance(schema, Mapping):
            raise DeclarationError(f"{name}: input_schema must be a mapping, not {type(schema).__name__}")
        checked = InputSchema(name, schema, validator=validator)
        try:
            chosen = Options().updated(options)
        except ConfigError as error:
            raise DeclarationError(f"{name}: {error}") from error
        binding = Binding.of(
            name, checked.fields, steps["setup"], steps["process"], steps["join"], steps.get("combine")
        )
        return cls(name, module, tuple(_place(steps[step]) for step in sorted(steps)), binding, checked, chosen)

    def parameters(self, values: Mapping[str, Any], *, streams: Iterable[str] = ()) -> dict[str, Any]:
        """Validated parameters; see `InputSchema.validated`."""
        return self.schema.validated(values, required=self.binding.required_fields, streams=streams)

    def refuse_early(self, values: Mapping[str, Any], *, absent: str) -> None:
        """Refuse what a chain can't complete any more; see `InputSchema.refuse_early`."""
        self.schema.refuse_early(values, absent=absent, required=self.binding.required_fields)


def _place(function: Callable[..., Any]) -> object:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code is not None else function


class Registry:
    """The tasks declared in a process, by name."""

    def __init__(self) -> None:
        self._tasks: dict[str, Declaration] = {}
        self._listeners: list[Callable[[], Callable[[Declaration], None] | None]] = []
        self._lock = threading.Lock()

    def add(self, declaration: Declaration, *, replaceable: bool = False) -> None:
        """Make the task findable and tell the listeners.

        Args:
            declaration: The task.
            replaceable: Whether a task of that name gives way: for classes that are local to a function
                or typed at a prompt, which are made anew each time their code runs.

        Raises:
            DeclarationError: Another task has that name.
        """
        with self._lock:
            known = self._tasks.get(declaration.name)
            if known is not None and not replaceable and known.origin != declaration.origin:
                raise DeclarationError(
                    f"{declaration.name}: two tasks have this name, one declared in {known.module} "
                    f"and one in {declaration.module}: set `name` on one of them"
                )
            self._tasks[declaration.name] = declaration
            self._listeners = [listening for listening in self._listeners if listening() is not None]
            listeners = [listening() for listening in self._listeners]
        for listener in listeners:
            if listener is not None:
                listener(declaration)

    def find(self, name: str) -> Declaration:
        """The task of that name.

        Raises:
            UnknownTask: None has been declared in this process.
        """
        try:
            return self._tasks[name]
        except KeyError:
            raise UnknownTask(
                f"no task {name!r} is declared in this process: import its module here "
                "(a Celery worker does with `include=` or `imports`)"
            ) from None

    def __iter__(self) -> Iterator[Declaration]:
        return iter(list(self._tasks.values()))

    def listen(self, listener: Callable[[Declaration], None]) -> None:
        """Call `listener` with every task, those already declared first; a method as long as its object lives."""
        with self._lock:
            self._listeners.append(weakref.WeakMethod(listener) if inspect.ismethod(listener) else lambda: listener)
            known = list(self._tasks.values())
        for declaration in known:
            listener(declaration)


TASKS = Registry()
"""The tasks of this process. Declaring a class adds to it, as importing a module does to `sys.modules`."""
