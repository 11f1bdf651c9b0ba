"""The steps of a task, and the binding of parameters to steps by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..errors import DeclarationError, InvalidItem

_REFUSED = {
    inspect.Parameter.POSITIONAL_ONLY: "is positional-only, but steps are called with named arguments: remove the '/'",
    inspect.Parameter.VAR_POSITIONAL: "takes any number of positional arguments, but steps are called with named ones",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a task: a function of named arguments.

    Attributes:
        name: `setup`, `process`, `combine` or `join`.
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
        """Return the step `name` of the task `owner`.

        Raises:
            DeclarationError: The function can't be called with named arguments alone.
        """
        if not callable(function):
            raise DeclarationError(f"{owner}.{name}: must be a function, not {type(function).__name__}")
        plain = inspect.unwrap(function)
        if inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain):
            raise DeclarationError(f"{owner}.{name}: is a coroutine function; a step must be a plain function")
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

    @property
    def is_generator(self) -> bool:
        """Whether the function yields, so that the number of its values is not known beforehand."""
        return inspect.isgeneratorfunction(inspect.unwrap(self.function))

    def takes(self, parameter: str) -> bool:
        """Return whether the parameter is bound to this step."""
        return self.takes_any or parameter in self.arguments


@dataclass(frozen=True, slots=True)
class Binding:
    """The steps of a task, and the binding of its parameters to them.

    Join gets the results as its first argument that is no field of the schema. If all its arguments are fields, it gets
    them as its first argument. Combine gets values as its required arguments that are no fields: one argument for a
    list of values, or two for a value and the next one.

    Attributes:
        owner: Name of the task.
        fields: Names of the schema's fields, in order.
        setup: The step that yields items.
        process: The step that runs on one item.
        join: The step that gets the results.
        combine: The step that combines results before join, if the task has one.
    """

    owner: str
    fields: tuple[str, ...]
    setup: Step
    process: Step
    join: Step
    combine: Step | None = None

    @classmethod
    def of(
        cls, owner: str, fields: tuple[str, ...], setup: Any, process: Any, join: Any, combine: Any = None
    ) -> Binding:
        """Bind the steps of a task, and check them as far as its declaration allows.

        Raises:
            DeclarationError: A step is wrong. Names the task, the step and the argument.
        """
        binding = cls(
            owner,
            fields,
            Step.of(owner, "setup", setup),
            Step.of(owner, "process", process),
            Step.of(owner, "join", join),
            Step.of(owner, "combine", combine) if combine is not None else None,
        )
        if not binding.join.arguments:
            raise DeclarationError(
                f"{owner}.join: must declare an argument for the results, as in join(results); "
                "it gets them as its first argument that is no field of the input_schema"
            )
        for step, known in ((binding.setup, ()), (binding.join, (binding.results_argument,))):
            for argument in step.arguments:
                if argument in step.required and argument not in fields and argument not in known:
                    raise DeclarationError(
                        f"{owner}.{step.name}: nothing supplies its argument {argument!r}: add it to the input_schema "
                        f"(which has {', '.join(fields) or 'no fields'}) or give it a default"
                    )
        binding._check_combine()
        if not binding.process.arguments and not binding.process.takes_any:
            raise DeclarationError(f"{owner}.process: must declare at least one argument, a key of setup's items")
        return binding

    def _check_combine(self) -> None:
        if self.combine is None or len(self.combined_arguments) in (1, 2):
            return
        forms = "one of them, for a list of values, or two, for a value and the one that follows it"
        if self.combined_arguments:
            raise DeclarationError(
                f"{self.owner}.combine: nothing supplies its argument {self.combined_arguments[2]!r}: of arguments "
                f"without a default that are no fields of the input_schema it may have {forms}; add the others to the "
                f"input_schema (which has {', '.join(self.fields) or 'no fields'}) or give them defaults"
            )
        shadowed = next((name for name in self.combine.arguments if name in self.fields), None)
        reason = (
            f"its argument {shadowed!r} is a field of the input_schema: rename it"
            if shadowed is not None
            else "it has no such argument: add one, without a default"
        )
        raise DeclarationError(
            f"{self.owner}.combine: must declare arguments for the values, as in combine(results) or combine(a, b), "
            f"which are no fields of the input_schema, {forms}; {reason}"
        )

    @property
    def results_argument(self) -> str:
        """The argument by which join gets the results."""
        return next((name for name in self.join.arguments if name not in self.fields), self.join.arguments[0])

    @property
    def combined_arguments(self) -> tuple[str, ...]:
        """The arguments by which combine gets values; none if there is no combine."""
        if self.combine is None:
            return ()
        step = self.combine
        return tuple(name for name in step.arguments if name in step.required and name not in self.fields)

    @property
    def combine_parameters(self) -> tuple[str, ...]:
        """The schema's fields that are bound to combine; none if there is no combine."""
        return self.parameters_for(self.combine) if self.combine is not None else ()

    @property
    def required_fields(self) -> dict[str, tuple[str, ...]]:
        """Each field that setup, combine or join requires -> those steps. Items may supply what process requires."""
        required: dict[str, tuple[str, ...]] = {}
        for field in self.fields:
            steps = tuple(
                step.name
                for step in (self.setup, self.combine, self.join)
                if step is not None and field in step.required and field in self.parameters_for(step)
            )
            if steps:
                required[field] = steps
        return required

    def parameters_for(self, step: Step) -> tuple[str, ...]:
        """Return the schema's fields that are bound to `step`."""
        results = self.results_argument if step is self.join else None
        return tuple(field for field in self.fields if step.takes(field) and field != results)

    def setup_only(self, names: Iterable[str]) -> list[str]:
        """Return those of `names` that no step but setup takes."""
        elsewhere = {*self.parameters_for(self.process), *self.combine_parameters, *self.parameters_for(self.join)}
        return [name for name in names if name not in elsewhere]

    def check_item(self, index: int, item: object, parameters: frozenset[str]) -> None:
        """Refuse an item that process can't take.

        Args:
            index: The item's index in the order of setup.
            item: What setup yielded.
            parameters: Names of the parameters that this job binds to process.

        Raises:
            InvalidItem: Names the item, the key and the arguments of process.
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

    def check_items(self, first_index: int, items: Sequence[object], parameters: frozenset[str]) -> None:
        """Refuse the first of the items that process can't take, as `check_item` does with each in turn.

        Takes a third of the time for dicts that have the same keys, or few different ones.

        Args:
            first_index: Index of the first item in the order of setup.
            items: What setup yielded.
            parameters: As in `check_item`.

        Raises:
            InvalidItem: As `check_item`.
        """
        if set(map(type, items)) == {dict}:
            key_sets: set[tuple[str, ...]] = set(map(tuple, items))  # type: ignore[arg-type]
            try:
                for keys in key_sets:
                    self.check_item(first_index, dict.fromkeys(keys), parameters)
                return
            except InvalidItem:
                # One of the items is refused. The error must name the first such item.
                pass
        for index, item in enumerate(items, first_index):
            self.check_item(index, item, parameters)

    def call_setup(self, parameters: Mapping[str, Any]) -> Any:
        """Run setup, and return its items."""
        return self.setup.function(**parameters)

    def bind_process(self, parameters: Mapping[str, Any]) -> Callable[..., Any]:
        """Return a function that runs process on one item, which it takes as keyword arguments.

        A key of the item wins over a parameter of the same name.
        """
        return partial(self.process.function, **parameters) if parameters else self.process.function

    def call_combine(self, values: Iterable[Any], parameters: Mapping[str, Any]) -> list[Any]:
        """Combine values into one, in their order.

        Args:
            values: Results of process, or of other combines. With a `combine(a, b)`, two are in memory at a time.
            parameters: The parameters that are bound to combine.

        Returns:
            The one value, as a list. A single value stays as it is, and an empty list stays empty.

        Raises:
            DeclarationError: The task has no combine in this process.
        """
        if self.combine is None:
            raise DeclarationError(
                f"{self.owner}: the task has a combine in the process that launched the job, and none in this one: "
                "deploy the same code to all processes"
            )
        function, arguments = self.combine.function, self.combined_arguments
        if len(arguments) == 1:
            listed = list(values)
            return listed if len(listed) < 2 else [function(**{arguments[0]: listed, **parameters})]
        combined: list[Any] = []
        for value in values:
            combined = [
                function(**{arguments[0]: combined[0], arguments[1]: value, **parameters}) if combined else value
            ]
        return combined

    def call_join(self, results: Any, parameters: Mapping[str, Any]) -> Any:
        """Run join on the results, and return the job's value."""
        return self.join.function(**{self.results_argument: results, **parameters})
