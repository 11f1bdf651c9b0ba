"""Which step takes which argument: a parameter is bound by name to whichever steps declare it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import DeclarationError, InvalidItem

_REFUSED = {
    inspect.Parameter.POSITIONAL_ONLY: "is positional-only, but steps are called with named arguments: remove the '/'",
    inspect.Parameter.VAR_POSITIONAL: "takes any number of positional arguments, but steps are called with named ones",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a task: a function of named arguments.

    Attributes:
        name: `setup`, `process` or `join`.
        function: Called with keyword arguments only.
        arguments: Names it declares, in order.
        required: Those of them without a default.
        takes_any: Whether it declares `**keywords` and so is given every parameter.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[str, ...]
    required: frozenset[str]
    takes_any: bool

    @classmethod
    def of(cls, owner: str, name: str, function: Callable[..., Any]) -> Step:
        """The step `name` of the task `owner`.

        Raises:
            DeclarationError: It can't be called with named arguments alone.
        """
        if not callable(function):
            raise DeclarationError(f"{owner}.{name}: must be a function, not {type(function).__name__}")
        plain = inspect.unwrap(function)
        if inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain):
            raise DeclarationError(f"{owner}.{name}: is a coroutine; steps are plain functions")
        arguments: list[str] = []
        required: set[str] = set()
        takes_any = False
        try:
            declared = inspect.signature(function).parameters.values()
        except ValueError as error:
            raise DeclarationError(f"{owner}.{name}: {error}; write a function with named arguments") from error
        for argument in declared:
            if argument.kind in _REFUSED:
                raise DeclarationError(f"{owner}.{name}: argument {argument.name!r} {_REFUSED[argument.kind]}")
            if argument.kind is inspect.Parameter.VAR_KEYWORD:
                takes_any = True
                continue
            arguments.append(argument.name)
            if argument.default is inspect.Parameter.empty:
                required.add(argument.name)
        return cls(name, function, tuple(arguments), frozenset(required), takes_any)

    def takes(self, parameter: str) -> bool:
        """Whether the parameter is bound to this step."""
        return self.takes_any or parameter in self.arguments


@dataclass(frozen=True, slots=True)
class Binding:
    """The three steps of a task and how its parameters reach them.

    `join` is given the results as its first argument that is no field of the schema; if all are, as its first.
    """

    owner: str
    fields: tuple[str, ...]
    setup: Step
    process: Step
    join: Step

    @classmethod
    def of(cls, owner: str, fields: tuple[str, ...], setup: Any, process: Any, join: Any) -> Binding:
        """Check what can be known when a task is declared.

        Raises:
            DeclarationError: Names the class, the step and the argument that nobody supplies.
        """
        binding = cls(
            owner,
            fields,
            Step.of(owner, "setup", setup),
            Step.of(owner, "process", process),
            Step.of(owner, "join", join),
        )
        if not binding.join.arguments:
            raise DeclarationError(
                f"{owner}.join: must declare an argument for the results, as in join(results), "
                "because it is given them as the first one that is no field of the input_schema"
            )
        for step, known in ((binding.setup, ()), (binding.join, (binding.results_argument,))):
            for argument in step.arguments:
                if argument in step.required and argument not in fields and argument not in known:
                    raise DeclarationError(
                        f"{owner}.{step.name}: nobody supplies its argument {argument!r}: add it to the input_schema "
                        f"(which has {', '.join(fields) or 'no fields'}) or give it a default"
                    )
        if not binding.process.arguments and not binding.process.takes_any:
            raise DeclarationError(f"{owner}.process: must declare at least one argument, a key of setup's items")
        return binding

    @property
    def results_argument(self) -> str:
        return next((name for name in self.join.arguments if name not in self.fields), self.join.arguments[0])

    @property
    def required_fields(self) -> dict[str, tuple[str, ...]]:
        """Fields without which a step can't be called -> those steps. Items may supply those of `process`."""
        found: dict[str, tuple[str, ...]] = {}
        for field in self.fields:
            steps = tuple(
                step.name
                for step in (self.setup, self.join)
                if field in step.required and field in self.parameters_for(step)
            )
            if steps:
                found[field] = steps
        return found

    def parameters_for(self, step: Step) -> tuple[str, ...]:
        """The schema's fields that are bound to `step`."""
        results = self.results_argument if step is self.join else None
        return tuple(field for field in self.fields if step.takes(field) and field != results)

    def setup_only(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that neither process nor join takes."""
        elsewhere = {*self.parameters_for(self.process), *self.parameters_for(self.join)}
        return [name for name in names if name not in elsewhere]

    def check_item(self, index: int, item: object, parameters: frozenset[str]) -> None:
        """Refuse an item that `process` can't be called with.

        Args:
            index: The item's place in what setup yields.
            item: What setup yielded.
            parameters: Names of the parameters that this job binds to `process`.

        Raises:
            InvalidItem: Names the item, the key and what process takes.
        """
        if not isinstance(item, dict):
            raise InvalidItem(
                f"{self.owner}.setup: item {index} is {type(item).__name__}, not a dict of arguments for process, "
                f"as in {{{self.process.arguments[0] if self.process.arguments else 'name'!r}: …}}"
            )
        if not self.process.takes_any:
            for key in item:
                if key not in self.process.arguments:
                    raise InvalidItem(
                        f"{self.owner}.setup: item {index} has the key {key!r}, which process does not take; "
                        f"it takes {', '.join(self.process.arguments)}"
                    )
        else:
            for key in item:
                if not isinstance(key, str):
                    raise InvalidItem(f"{self.owner}.setup: item {index} has the key {key!r}, which is not a string")
        missing = self.process.required - item.keys() - parameters
        if missing:
            raise InvalidItem(
                f"{self.owner}.setup: item {index} lacks {', '.join(map(repr, sorted(missing)))}, which process needs; "
                f"it has {', '.join(map(repr, item)) or 'no keys'}"
            )

    def call_setup(self, parameters: Mapping[str, Any]) -> Any:
        return self.setup.function(**parameters)

    def call_process(self, parameters: Mapping[str, Any], item: Mapping[str, Any]) -> Any:
        """Run `process` on one item; a key of the item wins over a parameter of the same name."""
        return self.process.function(**{**parameters, **item})

    def call_join(self, results: Any, parameters: Mapping[str, Any]) -> Any:
        return self.join.function(**{self.results_argument: results, **parameters})
