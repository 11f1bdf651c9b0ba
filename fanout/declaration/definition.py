"""Declarations of tasks, and the registry that finds them by name."""

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
    """One declared task, as the engines know it.

    Attributes:
        name: The name that a job's intent gives. Unique in a process.
        module: The module that declares the task, for another process to import.
        origin: File and line of each step, which tell a reload from a second task of the same name.
        binding: Its steps.
        schema: The schema of its input.
        options: Its options.
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
        """Check a task, and return its declaration.

        Args:
            name: Its name.
            module: The module that declares it.
            schema: Field -> its Cerberus rules.
            validator: The task's subclass of `cerberus.Validator`, if it has one.
            steps: Functions by step: `setup`, `process`, `join` and perhaps `combine`.
            options: Option -> value, for those that the task sets.

        Raises:
            DeclarationError: The task is wrong. Names the task and the step.
        """
        if not isinstance(schema, Mapping):
            raise DeclarationError(f"{name}: input_schema must be a mapping, not {type(schema).__name__}")
        input_schema = InputSchema(name, schema, validator=validator)
        try:
            chosen = Options().replace(options)
        except ConfigError as error:
            raise DeclarationError(f"{name}: {error}") from error
        binding = Binding.of(
            name, input_schema.fields, steps["setup"], steps["process"], steps["join"], steps.get("combine")
        )
        return cls(name, module, tuple(_locate(steps[step]) for step in sorted(steps)), binding, input_schema, chosen)

    def validate(self, values: Mapping[str, Any], *, streams: Iterable[str] = ()) -> dict[str, Any]:
        """Return the validated parameters; see `InputSchema.validate`."""
        return self.schema.validate(values, required=self.binding.required_fields, streams=streams)

    def refuse_early(self, values: Mapping[str, Any], *, absent: str) -> None:
        """Refuse input that no value of one more field can make valid; see `InputSchema.refuse_early`."""
        self.schema.refuse_early(values, absent=absent, required=self.binding.required_fields)


def _locate(function: Callable[..., Any]) -> object:
    """Return file and line of a function, or the function itself if it has no code of its own."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code is not None else function


class Registry:
    """The declared tasks of a process, by name. Safe for threads."""

    def __init__(self) -> None:
        self._tasks: dict[str, Declaration] = {}
        self._listeners: list[Callable[[], Callable[[Declaration], None] | None]] = []
        self._lock = threading.Lock()

    def add(self, declaration: Declaration, *, replaceable: bool = False) -> None:
        """Add a task, and call the listeners with it.

        Args:
            declaration: The task.
            replaceable: Whether to replace another task of that name. For classes in a function or at a prompt, which
                Python makes anew each time their code runs.

        Raises:
            DeclarationError: Another task has that name.
        """
        with self._lock:
            existing = self._tasks.get(declaration.name)
            if existing is not None and not replaceable and existing.origin != declaration.origin:
                raise DeclarationError(
                    f"{declaration.name}: two tasks have this name, one declared in {existing.module} "
                    f"and one in {declaration.module}: set `name` on one of them"
                )
            self._tasks[declaration.name] = declaration
            self._listeners = [reference for reference in self._listeners if reference() is not None]
            listeners = [reference() for reference in self._listeners]
        for listener in listeners:
            if listener is not None:
                listener(declaration)

    def find(self, name: str) -> Declaration:
        """Return the task of that name.

        Raises:
            UnknownTask: This process has declared none.
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
        """Call `listener` with every declared task, now and later.

        The registry holds a method only weakly, so its calls end with its object.
        """
        with self._lock:
            self._listeners.append(weakref.WeakMethod(listener) if inspect.ismethod(listener) else lambda: listener)
            declarations = list(self._tasks.values())
        for declaration in declarations:
            listener(declaration)


TASKS = Registry()
"""The tasks of this process. Declaring a task class adds to it."""
