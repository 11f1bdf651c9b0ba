"""Classes of validators, which know the types of fanout's own values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import cerberus

from ..errors import DeclarationError
from ..sinks import Sink
from ..sources import Source

_TYPES: Final = {
    "sink": cerberus.TypeDefinition("sink", (Sink,), ()),
    "source": cerberus.TypeDefinition("source", (Source,), ()),
}
"""Types of fanout's own values, as a schema names them."""


class _Validator(cerberus.Validator):  # type: ignore[misc]
    """Cerberus' validator, with the types of fanout's own values."""

    types_mapping = {**cerberus.Validator.types_mapping, **_TYPES}


def check_class(owner: str, validator: object) -> Any:
    """Return the class of validators for a task: Cerberus' own or the task's, with the types of fanout's own values.

    Raises:
        DeclarationError: The task's is no subclass of `cerberus.Validator`.
    """
    if validator is None:
        return _Validator
    if not isinstance(validator, type) or not issubclass(validator, cerberus.Validator):
        raise DeclarationError(f"{owner}: validator must be a subclass of cerberus.Validator, not {validator!r:.80}")
    known: Mapping[str, Any] = getattr(validator, "types_mapping", {})
    if _TYPES.keys() <= known.keys():
        return validator
    types = {**_TYPES, **known}
    return type(validator.__name__, (validator,), {"types_mapping": types, "__module__": validator.__module__})
