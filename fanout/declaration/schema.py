"""Validation of a job's input. The only importer of Cerberus.

The same input gives the same normalised document, or the same refusal, whichever way it comes: by `run`, `submit` or a
signature, in a chain, as a list or as a stream. So a document is normalised once, when all of it is there: what a chain
is going to complete travels as it was given. What can't be kept for a stream is refused (see `elements`).
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
    StreamReadError,
    Unread,
    in_batches,
    kept_at_launch,
    unkept,
)
from .refusals import collect, in_order, lighten

_HANDLERS: Final = ("_validate_", "_check_with_", "_normalize_", "_validator_")
_NEIGHBOURLY: Final = frozenset({"dependencies", "excludes", "default_setter"})
"""Rules by which one field depends on another."""
_VALUES: Final = frozenset({"allowed", "forbidden", "contains", "default", "meta", "regex", "type"})
"""Rules whose constraints hold no rules."""
_RENAMING: Final = frozenset({"rename", "rename_handler"})


class InputSchema:
    """A Cerberus schema for the input of one task, checked when the task is declared.

    Unknown fields are refused, unless the schema or the validator says otherwise; defaults, coercion and
    normalisation apply as Cerberus defines them. Whatever a rule raises is a refusal of the input.
    """

    def __init__(self, owner: str, schema: Mapping[str, Any], *, validator: type[Any] | None = None) -> None:
        """Take `schema` for the task named `owner`.

        Args:
            owner: The task.
            schema: Field -> its rules.
            validator: The user's subclass of `cerberus.Validator`, if the task has one.

        Raises:
            DeclarationError: Cerberus rejects the schema, a field's name is no Python name, or the validator is none.
        """
        self._owner = owner
        self._class = _checked_class(owner, validator)
        bad = [name for name in schema if not isinstance(name, str) or not name.isidentifier()]
        if bad:
            raise DeclarationError(
                f"{owner}: input_schema: {bad[0]!r} can't be the name of a step's argument; use a Python name"
            )
        self._schema = dict(schema)
        try:
            # Tells what the rules are, and never has a document: threads share it.
            self._reader = self._class(self._schema)
        except Exception as error:
            # A SchemaError, or whatever Cerberus stumbles over in rules that are no mapping.
            raise DeclarationError(f"{owner}: Cerberus rejects the input_schema: {error}") from error
        if self._reader.schema is None:
            raise DeclarationError(f"{owner}: validator: {self._class.__name__} drops the schema that it is given")
        self.fields: tuple[str, ...] = tuple(schema)

    def coerces(self, name: str) -> bool:
        """Whether a field's value is made into another before it travels."""
        return "coerce" in self._rules(name)

    def validated(
        self,
        values: Mapping[str, Any],
        *,
        required: Mapping[str, tuple[str, ...]],
        streams: Iterable[str] = (),
    ) -> dict[str, Any]:
        """`values` normalised and checked.

        Args:
            values: Input by field name; never changed, unless by a rule of the user's.
            required: Fields that steps can't do without -> the names of those steps.
            streams: Names of those values that are iterators. None of them is read here; in their place stand
                iterators that check each element as it passes, read up to 64 elements ahead while they come quickly,
                and raise `InvalidInput` with the element's index, or with what the stream as a whole lacks.

        Raises:
            InvalidInput: Lists every field's path and reason.
        """
        errors: dict[str, list[str]] = {}
        rules = {name: self._rules(name) for name in streams}
        for name, own in rules.items():
            reasons = unkept(own, self._resolved(own.get("schema")), is_own=self._is_own)
            if reasons:
                errors[name] = list(reasons.values())
        unread = {name: Unread(name) for name in streams}
        kept = {name: kept_at_launch(own) for name, own in rules.items() if name in self._schema}
        document = self._normalised({**self._prepared(values), **unread}, {**self._schema, **kept}, errors)
        for name, steps in required.items():
            if name not in document and name not in errors:
                errors[name] = [f"required by {' and '.join(steps)}"]
        for name, stream in unread.items():
            if stream.was_read:
                errors.setdefault(name, []).append(f"is a stream, and a rule of another field reads it: {REMEDY}")
            elif any(value is stream for other, value in document.items() if other != name):
                errors.setdefault(name, []).append(f"is a stream, and another field would be it, too: {REMEDY}")
            elif name in document and document[name] is not stream:
                errors.setdefault(name, []).append(f"is a stream, and another field is renamed to it: {REMEDY}")
        self._raise(errors)
        return {
            name: self._passed(name, rules[name], values[name], document) if name in unread else value
            for name, value in document.items()
        }

    def refuse_early(self, values: Mapping[str, Any], *, absent: str, required: Mapping[str, tuple[str, ...]]) -> None:
        """Refuse what is wrong whatever the value of one more field is going to be; says nothing about the rest.

        Args:
            values: Input by field name, without that field.
            absent: That field.
            required: As for `validated`.

        Raises:
            InvalidInput: Lists the path and reason of every field that is certain to be refused.
        """
        errors: dict[str, list[str]] = {}
        self._check_mapping(values)
        if not self._is_plain or any(self._mentions(rules, _RENAMING) for rules in self._schema.values()):
            # A method of the user's may look at any field, and any field may be given another's name.
            return
        excluding = any(self._mentions(rules, {"excludes"}) for rules in self._schema.values())
        certain = {
            name: rules
            for name, rules in self._schema.items()
            if name != absent and not self._mentions(rules, _NEIGHBOURLY) and (name in values or not excluding)
        }
        uncertain = self._schema.keys() - certain
        document = self._normalised(
            {name: value for name, value in self._prepared(values).items() if name not in uncertain}, certain, errors
        )
        for name, steps in required.items():
            if name in certain and name not in document and name not in errors:
                errors[name] = [f"required by {' and '.join(steps)}"]
        self._raise(errors)

    def _normalised(
        self, values: Mapping[str, Any], schema: Mapping[str, Any], errors: dict[str, list[str]]
    ) -> dict[str, Any]:
        """What Cerberus makes of a document; adds to `errors` what it refuses."""
        # A validator a call: it keeps the document it works on, so threads can't share it.
        validator = self._class(schema)
        try:
            validator.validate(values)
            _collect(validator, validator._errors, errors)
        except StreamReadError:
            # The stream remembers.
            pass
        except Exception as error:
            raise self._failure(error) from error
        return dict(validator.document or {})

    def _passed(
        self, name: str, rules: Mapping[str, Any], values: Iterator[Any], document: dict[str, Any]
    ) -> Iterator[Any]:
        return values if not rules.keys() - kept_at_launch(rules) else self._checked(name, rules, values, document)

    def _checked(
        self, name: str, rules: Mapping[str, Any], values: Iterator[Any], document: dict[str, Any]
    ) -> Iterator[Any]:
        parent = self._class(self._schema)
        parent.document = document
        rule, most, expected = rules.get("schema"), rules.get("maxlength"), rules.get("contains")
        each = {rule: rules[rule] for rule in rules if rule in EACH}
        counted = {rule: rules[rule] for rule in rules if rule in COUNTED}
        found: set[Any] = set()
        count = 0
        for batch in in_batches(values):
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
                    found.update(set(batch) & _as_set(expected))
                if most is not None and count + whole > most:
                    errors = self._refusals(name, counted, Unread(name, count + whole))
                    whole = most - count
            except Exception as error:
                raise self._failure(error) from error
            yield from batch[:whole]
            self._raise(errors)
            count += len(batch)
        lacking = self._refusals(name, counted, Unread(name, count))
        if expected is not None:
            for path, reasons in self._refusals(name, {"contains": expected}, list(found)).items():
                lacking.setdefault(path, []).extend(reasons)
        self._raise(lacking)

    def _elements(
        self, parent: Any, name: str, rule: Any, batch: list[Any], first: int, errors: dict[str, list[str]]
    ) -> tuple[list[Any], int]:
        """Normalise and check elements as Cerberus does those of a list, of which they are a part.

        Returns:
            The elements, and how many there are before the first that does not fit.
        """
        schema = {first + index: rule for index in range(len(batch))}
        broken: list[Any] = []
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
            broken = [*child._errors, *broken]
        _collect(parent, broken, errors)
        return list(elements.values()), min((error.document_path[1] - first for error in broken), default=len(batch))

    def _refusals(self, name: str, rules: Mapping[str, Any], value: Any) -> dict[str, list[str]]:
        """What rules of Cerberus' own say against the value of a field."""
        errors: dict[str, list[str]] = {}
        if rules:
            validator = self._class({name: rules})
            validator.validate({name: value}, normalize=False)
            _collect(validator, validator._errors, errors)
        return errors

    def _rules(self, name: str) -> Mapping[str, Any]:
        """The rules of a field, expanded; none if it is unknown."""
        return self._resolved(self._reader.schema.get(name, {})) or {}

    def _resolved(self, rules: Any) -> Mapping[str, Any] | None:
        """A set of rules that may be given by its name in a registry, as it is now."""
        found: Mapping[str, Any] | None = self._reader._resolve_rules_set(rules)
        return found

    def _mentions(self, rules: Any, names: Collection[str]) -> bool:
        """Whether there is a rule of one of these names in a set of rules, at any depth."""
        waiting, seen = [rules], set()
        while waiting:
            part = waiting.pop()
            if isinstance(part, str):
                if part not in seen:
                    seen.add(part)
                    waiting += [self._resolved(part), self._reader._resolve_schema(part)]
            elif isinstance(part, Mapping):
                if not part.keys().isdisjoint(names):
                    return True
                waiting += [below for rule, below in part.items() if rule not in _VALUES]
            elif isinstance(part, list | tuple):
                waiting += part
        return False

    def _is_own(self, rule: str) -> bool:
        handler = f"_validate_{rule}"
        return getattr(self._class, handler, None) is not getattr(cerberus.Validator, handler, None)

    @property
    def _is_plain(self) -> bool:
        """Whether every rule is Cerberus' own."""
        ours = self._class.__mro__[: self._class.__mro__.index(cerberus.Validator)]
        return not any(name.startswith(_HANDLERS) for cls in ours for name in vars(cls))

    def _prepared(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values in forms that Cerberus neither breaks nor changes; in one order, on which renaming depends."""
        self._check_mapping(values)
        ordered = [
            *(name for name in self.fields if name in values),
            *(name for name in values if name not in self._schema),
        ]
        return {name: self._prepared_value(name, values[name]) for name in ordered}

    def _prepared_value(self, name: str, value: Any) -> Any:
        is_bounded = isinstance(value, deque) and value.maxlen is not None
        rules = self._rules(name) if is_bounded or isinstance(value, range | array.array) else {}
        if rules.keys() & {"schema", "items"}:
            # It rebuilds a sequence from its normalised members alone, which takes more for these.
            return list(value)
        if name in self._schema and self._mentions(self._schema[name], {"keysrules"}):
            # It renames keys in place.
            return _copied(value)
        return value

    def _check_mapping(self, values: object) -> None:
        if not isinstance(values, Mapping):
            self._raise({"input": [f"must be a mapping of parameters, not {type(values).__name__}"]})

    def _raise(self, errors: Mapping[str, list[str]]) -> None:
        if errors:
            raise InvalidInput(self._owner, {path: errors[path] for path in in_order(errors, self.fields)})

    def _failure(self, error: Exception) -> InvalidInput:
        try:
            said = str(error)
        except Exception:
            said = "(it can't be described)"
        return InvalidInput(self._owner, {"input": [f"can't be checked: {type(error).__name__}: {said}"]})


def _checked_class(owner: str, validator: object) -> Any:
    if validator is None:
        return cerberus.Validator
    if not isinstance(validator, type) or not issubclass(validator, cerberus.Validator):
        raise DeclarationError(f"{owner}: validator must be a subclass of cerberus.Validator, not {validator!r:.80}")
    return validator


def _as_set(expected: Any) -> set[Any]:
    """The constraint of `contains` as Cerberus reads it."""
    return set(expected) if isinstance(expected, Iterable) and not isinstance(expected, str) else {expected}


def _copied(value: Any) -> Any:
    """A value whose dicts, lists and tuples are others than the caller's, and all else the same."""
    if type(value) is dict:
        return {key: _copied(member) for key, member in value.items()}
    return type(value)(map(_copied, value)) if type(value) in (list, tuple) else value


def _collect(validator: Any, found: list[Any], errors: dict[str, list[str]]) -> None:
    """Add what a validator found to path -> reasons, in the words of its handler."""
    if type(validator.error_handler) is cerberus.errors.BasicErrorHandler:
        lighten(found)
    collect(validator.error_handler(found), "", errors)
