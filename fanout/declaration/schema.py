"""Schemas of tasks' input. Only this module and `validators` import Cerberus.

The same input gives the same normalised document, or the same refusal, in every way of launching: `run`, `submit`, a
signature, a chain, a list or a stream. Therefore a document is normalised once, when it is complete. Until then the
input of a chain's task stays as the caller gave it. Rules that a stream can't keep are refused; see `elements`.
"""

from __future__ import annotations

import array
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import cerberus

from ..errors import DeclarationError, InvalidInput
from .elements import (
    COUNTED,
    EACH,
    REMEDY,
    StreamPlaceholder,
    StreamReadError,
    find_unsupported,
    members_of,
    rules_at_launch,
    split_into_batches,
)
from .refusals import check_names, collect, lighten, sort_paths
from .validators import check_class

_HANDLERS: Final = ("_validate_", "_check_with_", "_normalize_", "_validator_")
_BETWEEN_FIELDS: Final = frozenset({"dependencies", "excludes", "default_setter"})
"""Rules that make one field depend on another."""
_VALUES: Final = frozenset({"allowed", "forbidden", "contains", "default", "meta", "regex", "type"})
"""Rules whose constraints contain no rules."""
_RENAMING: Final = frozenset({"rename", "rename_handler"})


class InputSchema:
    """A Cerberus schema for the input of one task, checked when the task is declared.

    Unknown fields are refused, unless the schema or the validator allows them. Defaults, coercion and normalisation
    are as Cerberus defines them. An exception that a rule raises refuses the input.
    """

    def __init__(self, owner: str, schema: Mapping[str, Any], *, validator: type[Any] | None = None) -> None:
        """Check the schema itself.

        Args:
            owner: Name of the task.
            schema: Field -> its rules.
            validator: The task's subclass of `cerberus.Validator`, if it has one.

        Raises:
            DeclarationError: Cerberus rejects the schema, a field's name is no Python name, or the validator is no
                subclass of `cerberus.Validator`.
        """
        self._owner = owner
        self._class = check_class(owner, validator)
        bad = [name for name in schema if not isinstance(name, str) or not name.isidentifier()]
        if bad:
            raise DeclarationError(
                f"{owner}: input_schema: {bad[0]!r} can't be the name of a step's argument; use a Python name"
            )
        self._schema = dict(schema)
        try:
            # Threads share it, so it only looks up rules and never validates a document.
            self._reader = self._class(self._schema)
        except Exception as error:
            # A SchemaError, or any error of Cerberus on rules that are no mapping.
            raise DeclarationError(f"{owner}: Cerberus rejects the input_schema: {error}") from error
        if self._reader.schema is None:
            raise DeclarationError(f"{owner}: validator: {self._class.__name__} does not keep the schema that it gets")
        self.fields: tuple[str, ...] = tuple(schema)

    def coerces(self, name: str) -> bool:
        """Return whether a field has a `coerce` rule, which replaces its value before it is stored."""
        return "coerce" in self._rules(name)

    def validate(
        self,
        values: Mapping[str, Any],
        *,
        required: Mapping[str, tuple[str, ...]],
        streams: Iterable[str] = (),
    ) -> dict[str, Any]:
        """Check and normalise the input of a job.

        Args:
            values: Input by field name. Not changed, unless a rule of the task's validator changes it.
            required: Field -> names of the steps that require it.
            streams: Names of the values that are iterators. This method does not read them.

        Returns:
            The normalised document. In it each stream is an iterator that checks every element as it passes, and reads
            up to 64 elements ahead while they come quickly. It raises `InvalidInput` with the index of a refused
            element, or with the rule that the stream as a whole violates.

        Raises:
            InvalidInput: Lists the path and reasons of every refused field.
        """
        errors: dict[str, list[str]] = {}
        rules = {name: self._rules(name) for name in streams}
        for name, own in rules.items():
            reasons = find_unsupported(own, self._resolve(own.get("schema")), is_own=self._is_own)
            if reasons:
                errors[name] = list(reasons.values())
        placeholders = {name: StreamPlaceholder(name) for name in streams}
        at_launch = {name: rules_at_launch(own) for name, own in rules.items() if name in self._schema}
        document = self._normalise({**self._prepare(values), **placeholders}, {**self._schema, **at_launch}, errors)
        for name, steps in required.items():
            if name not in document and name not in errors:
                errors[name] = [f"required by {' and '.join(steps)}"]
        for name, stream in placeholders.items():
            if stream.was_read:
                errors.setdefault(name, []).append(f"is a stream, and a rule of another field reads it: {REMEDY}")
            elif any(value is stream for other, value in document.items() if other != name):
                errors.setdefault(name, []).append(f"is a stream, and another field would have its value: {REMEDY}")
            elif name in document and document[name] is not stream:
                errors.setdefault(name, []).append(f"is a stream, and another field is renamed to it: {REMEDY}")
        self._raise(errors)
        return {
            name: self._wrap_stream(name, rules[name], values[name], document) if name in placeholders else value
            for name, value in document.items()
        }

    def refuse_early(self, values: Mapping[str, Any], *, absent: str, required: Mapping[str, tuple[str, ...]]) -> None:
        """Refuse input that no value of one more field can make valid.

        Args:
            values: Input by field name, without that field.
            absent: That field.
            required: As for `validate`.

        Raises:
            InvalidInput: Lists the path and reasons of every field that is certain to be refused.
        """
        errors: dict[str, list[str]] = {}
        self._check_mapping(values)
        if not self._is_plain or any(self._mentions(rules, _RENAMING) for rules in self._schema.values()):
            # A rule of the task's validator may read any field, and renaming may set any field.
            return
        excluding = any(self._mentions(rules, {"excludes"}) for rules in self._schema.values())
        certain = {
            name: rules
            for name, rules in self._schema.items()
            if name != absent and not self._mentions(rules, _BETWEEN_FIELDS) and (name in values or not excluding)
        }
        uncertain = self._schema.keys() - certain
        document = self._normalise(
            {name: value for name, value in self._prepare(values).items() if name not in uncertain}, certain, errors
        )
        for name, steps in required.items():
            if name in certain and name not in document and name not in errors:
                errors[name] = [f"required by {' and '.join(steps)}"]
        self._raise(errors)

    def _normalise(
        self, values: Mapping[str, Any], schema: Mapping[str, Any], errors: dict[str, list[str]]
    ) -> dict[str, Any]:
        """Return the document as Cerberus normalises it; add its refusals to `errors`."""
        # One validator per call: it holds its document, so threads can't share it.
        validator = self._class(schema)
        try:
            validator.validate(values)
            _collect(validator, validator._errors, errors)
        except StreamReadError:
            # The placeholder has recorded it.
            pass
        except Exception as error:
            raise self._make_refusal(error) from error
        return dict(validator.document or {})

    def _wrap_stream(
        self, name: str, rules: Mapping[str, Any], values: Iterator[Any], document: dict[str, Any]
    ) -> Iterator[Any]:
        unchecked = rules.keys() - rules_at_launch(rules)
        return self._check_elements(name, rules, values, document) if unchecked else values

    def _check_elements(
        self, name: str, rules: Mapping[str, Any], values: Iterator[Any], document: dict[str, Any]
    ) -> Iterator[Any]:
        parent = self._class(self._schema)
        parent.document = document
        rule, most, expected = rules.get("schema"), rules.get("maxlength"), rules.get("contains")
        each = {rule: rules[rule] for rule in rules if rule in EACH}
        counted = {rule: rules[rule] for rule in rules if rule in COUNTED}
        matched: set[Any] = set()
        count = 0
        for batch in split_into_batches(values):
            errors: dict[str, list[str]] = {}
            whole = len(batch)
            try:
                if rule is not None:
                    batch, whole = self._elements(parent, name, rule, batch, count, errors)
                if self._refusals(name, each, batch[:whole]):
                    whole = next(
                        index for index in range(whole) if self._refusals(name, each, batch[index : index + 1])
                    )
                    errors = self._refusals(name, each, batch[whole : whole + 1])
                if expected is not None:
                    matched.update(set(batch) & members_of(expected))
                if most is not None and count + whole > most:
                    errors = self._refusals(name, counted, StreamPlaceholder(name, count + whole))
                    whole = most - count
            except Exception as error:
                raise self._make_refusal(error) from error
            yield from batch[:whole]
            self._raise(errors)
            count += len(batch)
        violated = self._refusals(name, counted, StreamPlaceholder(name, count))
        if expected is not None:
            for path, reasons in self._refusals(name, {"contains": expected}, list(matched)).items():
                violated.setdefault(path, []).extend(reasons)
        self._raise(violated)

    def _elements(
        self, parent: Any, name: str, rule: Any, batch: list[Any], first: int, errors: dict[str, list[str]]
    ) -> tuple[list[Any], int]:
        """Normalise and check elements, as Cerberus does for the elements of a list.

        `first` is the index of the first of them in the stream. Adds their refusals to `errors`.

        Returns:
            The elements, and the number of them before the first that is refused.
        """
        schema = {first + index: rule for index in range(len(batch))}
        violations: list[Any] = []
        elements: dict[Any, Any] = {first + index: value for index, value in enumerate(batch)}
        for normalise in (True, False):
            parent._is_normalized = not normalise
            child = parent._get_child_validator(document_crumb=name, schema_crumb=(name, "schema"), schema=schema)
            if normalise:
                elements = child.normalized(elements, always_return_document=True)
            else:
                child.validate(elements, normalize=False)
            parent._drop_nodes_from_errorpaths(child._errors, [], [2])
            # In Cerberus' own order.
            violations = [*child._errors, *violations]
        _collect(parent, violations, errors)
        return list(elements.values()), min(
            (error.document_path[1] - first for error in violations), default=len(batch)
        )

    def _refusals(self, name: str, rules: Mapping[str, Any], value: Any) -> dict[str, list[str]]:
        """Return the refusals of a field's value by some of its rules, without normalising it."""
        errors: dict[str, list[str]] = {}
        if rules:
            validator = self._class({name: rules})
            validator.validate({name: value}, normalize=False)
            _collect(validator, validator._errors, errors)
        return errors

    def _rules(self, name: str) -> Mapping[str, Any]:
        """Return the rules of a field, expanded; none for an unknown field."""
        return self._resolve(self._reader.schema.get(name, {})) or {}

    def _resolve(self, rules: Any) -> Mapping[str, Any] | None:
        """Return a set of rules, looked up in Cerberus' registry if `rules` is a name."""
        resolved: Mapping[str, Any] | None = self._reader._resolve_rules_set(rules)
        return resolved

    def _mentions(self, rules: Any, names: Collection[str]) -> bool:
        """Return whether a set of rules contains one of these rules, at any depth."""
        waiting, seen = [rules], set()
        while waiting:
            part = waiting.pop()
            if isinstance(part, str):
                if part not in seen:
                    seen.add(part)
                    waiting += [self._resolve(part), self._reader._resolve_schema(part)]
            elif isinstance(part, Mapping):
                if not part.keys().isdisjoint(names):
                    return True
                waiting += [below for rule, below in part.items() if rule not in _VALUES]
            elif isinstance(part, list | tuple):
                waiting += part
        return False

    def _is_own(self, rule: str) -> bool:
        """Return whether the task's validator overrides a rule."""
        handler = f"_validate_{rule}"
        return getattr(self._class, handler, None) is not getattr(cerberus.Validator, handler, None)

    @property
    def _is_plain(self) -> bool:
        """Whether every rule is Cerberus' own."""
        subclasses = self._class.__mro__[: self._class.__mro__.index(cerberus.Validator)]
        return not any(name.startswith(_HANDLERS) for cls in subclasses for name in vars(cls))

    def _prepare(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values that Cerberus can't damage, in the schema's order, because renaming depends on the order."""
        self._check_mapping(values)
        ordered = [
            *(name for name in self.fields if name in values),
            *(name for name in values if name not in self._schema),
        ]
        return {name: self._prepare_value(name, values[name]) for name in ordered}

    def _prepare_value(self, name: str, value: Any) -> Any:
        is_bounded = isinstance(value, deque) and value.maxlen is not None
        rules = self._rules(name) if is_bounded or isinstance(value, range | array.array) else {}
        if rules.keys() & {"schema", "items"}:
            # Cerberus rebuilds a sequence from its members alone, and these types need more than that.
            return list(value)
        if name in self._schema and self._mentions(self._schema[name], {"keysrules"}):
            # Cerberus renames keys in place.
            return _copy(value)
        return value

    def _check_mapping(self, values: object) -> None:
        if not isinstance(values, Mapping):
            self._raise({"input": [f"must be a mapping of parameters, not {type(values).__name__}"]})
            return
        self._raise(check_names(values))

    def _raise(self, errors: Mapping[str, list[str]]) -> None:
        if errors:
            raise InvalidInput(self._owner, {path: errors[path] for path in sort_paths(errors, self.fields)})

    def _make_refusal(self, error: Exception) -> InvalidInput:
        try:
            text = str(error)
        except Exception:
            text = "(it can't be described)"
        return InvalidInput(self._owner, {"input": [f"can't be checked: {type(error).__name__}: {text}"]})


def _copy(value: Any) -> Any:
    """Copy the dicts, lists and tuples of a value, and nothing else."""
    if type(value) is dict:
        return {key: _copy(member) for key, member in value.items()}
    return type(value)(map(_copy, value)) if type(value) in (list, tuple) else value


def _collect(validator: Any, violations: list[Any], errors: dict[str, list[str]]) -> None:
    """Add a validator's errors to `errors`, as path -> reasons, in the words of its error handler."""
    if type(validator.error_handler) is cerberus.errors.BasicErrorHandler:
        lighten(violations)
    collect(validator.error_handler(violations), "", errors)
