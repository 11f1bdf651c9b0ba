"""Validation of a job's input. The only importer of Cerberus."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import cerberus

from .errors import DeclarationError, InvalidInput

BATCH = 64
"""Most elements of a stream that are checked together."""

BATCH_BYTES = 1024 * 1024
"""Size of the elements, without what they refer to, at which a batch is full."""

LINGER_S = 0.05
"""Longest time that an element waits for others to be checked with."""


class InputSchema:
    """A Cerberus schema for the input of one task, checked when the task is declared.

    Unknown fields are refused, unless the schema says otherwise per field; defaults, coercion and normalisation
    apply as Cerberus defines them.
    """

    def __init__(self, owner: str, schema: Mapping[str, Any]) -> None:
        """Take `schema` for the task named `owner`.

        Raises:
            DeclarationError: Cerberus rejects the schema, or a field's name is no Python name.
        """
        self._owner = owner
        bad = [name for name in schema if not isinstance(name, str) or not name.isidentifier()]
        if bad:
            raise DeclarationError(
                f"{owner}: input_schema: {bad[0]!r} can't be the name of a step's argument; use a Python name"
            )
        self._schema = dict(schema)
        try:
            self._validator()
        except Exception as error:
            # A SchemaError, or whatever Cerberus stumbles over in rules that are no mapping.
            raise DeclarationError(f"{owner}: Cerberus rejects the input_schema: {error}") from error
        self.fields: tuple[str, ...] = tuple(schema)

    def validated(
        self,
        values: Mapping[str, Any],
        *,
        required: Mapping[str, tuple[str, ...]],
        absent: frozenset[str] = frozenset(),
    ) -> dict[str, Any]:
        """`values` normalised and checked.

        Args:
            values: Input by field name; never changed.
            required: Fields that steps can't do without -> the names of those steps.
            absent: Fields that are not part of `values` yet and may be missing: streams, and the value
                that a chain is going to supply.

        Raises:
            InvalidInput: Lists every field's path and reason.
        """
        if not isinstance(values, Mapping):
            raise InvalidInput(
                self._owner, {"input": [f"must be a mapping of parameters, not {type(values).__name__}"]}
            )
        validator = self._validator()
        errors: dict[str, list[str]] = {}
        validator.validate({name: value for name, value in values.items() if name not in absent})
        _collect(validator.errors, "", errors)
        for name in absent:
            errors.pop(name, None)
        document = {name: value for name, value in (validator.document or {}).items() if name not in absent}
        for name, steps in required.items():
            if name not in document and name not in absent and name not in errors:
                errors[name] = [f"required by {' and '.join(steps)}"]
        if errors:
            raise InvalidInput(self._owner, {path: errors[path] for path in _in_order(errors, self.fields)})
        return document

    def completed(self, document: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
        """A validated document with one more field, which alone is normalised; then all of it is checked.

        Raises:
            InvalidInput: Lists every field's path and reason.
        """
        validator = self._validator()
        errors: dict[str, list[str]] = {}
        normalised = validator.normalized({name: value}, always_return_document=True)
        _collect(validator.errors, "", errors)
        complete = {**document, name: normalised[name]}
        if not errors:
            validator.validate(complete, normalize=False)
            _collect(validator.errors, "", errors)
        if errors:
            raise InvalidInput(self._owner, {path: errors[path] for path in _in_order(errors, self.fields)})
        return complete

    def stream(self, name: str, values: Iterator[Any]) -> Iterator[Any]:
        """The elements of a streamed field, each checked and normalised as it passes.

        The field's own rules (its type, its length) can't hold for a stream; the `schema` rule for its elements does.
        Reads up to 64 elements ahead, while they come quickly.

        Raises:
            InvalidInput: At once, if the field is unknown or no list; from the iterator, at the first element
                that does not fit, with its index.
        """
        if name not in self._schema:
            raise InvalidInput(self._owner, {name: ["unknown field"]})
        field = self._schema[name]
        if isinstance(field, str):
            field = cerberus.rules_set_registry.get(field)
        kinds = field.get("type", "list")
        if "list" not in ([kinds] if isinstance(kinds, str) else kinds):
            raise InvalidInput(self._owner, {name: [f"is a stream, but must be of {kinds} type"]})
        rule = field.get("schema")
        return values if rule is None else self._checked(name, rule, values)

    def _checked(self, name: str, rule: Mapping[str, Any], values: Iterator[Any]) -> Iterator[Any]:
        # A Cerberus call costs far more than an element of it, so elements are checked in batches.
        validator = cerberus.Validator({"elements": {"type": "list", "schema": rule}})
        first = 0
        for batch in _batches(values):
            valid = validator.validate({"elements": batch})
            broken = {} if valid else validator.errors["elements"][0]
            whole = min(broken, default=len(batch))
            yield from validator.document["elements"][:whole]
            if not valid:
                errors: dict[str, list[str]] = {}
                _collect({first + index: broken[index] for index in broken}, name, errors)
                raise InvalidInput(self._owner, errors)
            first += len(batch)

    def _validator(self) -> Any:
        # One a call: a Cerberus validator keeps the document it works on, so threads can't share it.
        return cerberus.Validator(self._schema, allow_unknown=False)


def _batches(values: Iterator[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    size_bytes, started = 0, time.monotonic()
    for value in values:
        batch.append(value)
        size_bytes += sys.getsizeof(value)
        if len(batch) >= BATCH or size_bytes >= BATCH_BYTES or time.monotonic() - started >= LINGER_S:
            yield batch
            batch = []
            size_bytes, started = 0, time.monotonic()
    if batch:
        yield batch


def _collect(tree: Any, path: str, into: dict[str, list[str]]) -> None:
    """Flatten Cerberus' nested errors into path -> reasons."""
    if isinstance(tree, Mapping):
        for key, below in tree.items():
            step = f"[{key}]" if isinstance(key, int) else (f".{key}" if path else str(key))
            _collect(below, path + step, into)
        return
    for entry in tree:
        if isinstance(entry, Mapping):
            _collect(entry, path, into)
        else:
            into.setdefault(path, []).append(str(entry))


def _in_order(errors: Mapping[str, Any], fields: tuple[str, ...]) -> list[str]:
    rank = {name: index for index, name in enumerate(fields)}

    def place(path: str) -> int:
        return rank.get(path.split(".")[0].split("[")[0], len(rank))

    return sorted(errors, key=place)
