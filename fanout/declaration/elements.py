"""The elements of a streamed field, and the rules of its schema that can be checked while they pass.

| rules | on a stream |
|---|---|
| `type`, `required`, `nullable`, `readonly`, `dependencies`, `excludes`, `meta` | checked at the launch, like a list |
| `default`, `default_setter` | as for a list: they do nothing, because the field has a value |
| `schema` | checks and normalises each element as it passes |
| `allowed`, `forbidden` | checked for each element as it passes |
| `maxlength` | checked at each element beyond it |
| `minlength`, `empty`, `contains` | checked at the end of the stream |
| `keysrules`, `valuesrules`, `regex`, `allow_unknown`, `purge_unknown`, `require_all`, `min` and `max` of a scalar | \
do not concern lists |
| `anyof`, `allof`, `noneof`, `oneof` | checked at the launch if they hold rules of the first two rows alone |
| all others: `coerce`, `items`, `check_with`, `rename`, `rename_handler`, a validator's own | refused at the launch |

A rule that the task's validator overrides is refused as well, unless it is in the first two rows. In the `schema` of
the elements `rename`, `rename_handler` and `excludes` are refused, because they concern more than one element.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn

BATCH = 64
"""Most elements of a stream in a batch. Cerberus checks a batch in one call."""

BATCH_BYTES = 1024 * 1024
"""Shallow size of its elements at which a batch is full."""

LINGER_S = 0.05
"""Longest time that an element waits for its batch to fill."""

AT_LAUNCH = frozenset(
    {"type", "required", "nullable", "readonly", "dependencies", "excludes", "meta", "default", "default_setter"}
)
"""Rules that do not concern the elements. They are checked at the launch."""

EACH = frozenset({"allowed", "forbidden"})
"""Rules that hold for a list if they hold for each of its elements."""

COUNTED = frozenset({"empty", "minlength", "maxlength"})
"""Rules about the length of a list."""

_STREAM_RULES = EACH | COUNTED | {"schema", "contains"}
_NOT_FOR_LISTS = frozenset({"keysrules", "valuesrules", "regex", "allow_unknown", "purge_unknown", "require_all"})
_BOUNDS = frozenset({"min", "max"})
_LOGICAL = frozenset({"anyof", "allof", "noneof", "oneof"})
_OVER_SEVERAL_ELEMENTS = frozenset({"rename", "rename_handler", "excludes"})

REMEDY = "pass a list"
"""The remedy in each refusal of a stream."""


def find_unsupported(
    rules: Mapping[str, Any], element: Mapping[str, Any] | None, *, is_own: Callable[[str], bool]
) -> dict[str, str]:
    """Return each rule of a field that can't be checked on a stream -> why, with the remedy.

    Args:
        rules: The field's rules, expanded.
        element: The rules in its `schema`, expanded.
        is_own: Returns whether the task's validator overrides a rule.
    """
    reasons = {}
    for rule, constraint in rules.items():
        if rule in AT_LAUNCH or (
            not is_own(rule)
            and (
                rule in _STREAM_RULES
                or rule in _NOT_FOR_LISTS
                or (rule in _BOUNDS and not _bounds_lists(constraint))
                or (rule in _LOGICAL and all(AT_LAUNCH.issuperset(definition) for definition in constraint))
            )
        ):
            continue
        reasons[rule] = (
            f"is a stream, and its rule {rule!r} needs the whole list: {REMEDY}, or move the rule into `schema`, "
            "which is checked for each element"
        )
    for rule in sorted(_OVER_SEVERAL_ELEMENTS.intersection(element or ())):
        reasons[f"schema.{rule}"] = (
            f"is a stream, and the rule {rule!r} in its `schema` needs the other elements: {REMEDY}, or leave it out"
        )
    return reasons


def rules_at_launch(rules: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rules of a streamed field that are checked when its job is launched."""
    return {
        rule: constraint
        for rule, constraint in rules.items()
        if rule in AT_LAUNCH
        or (rule in _LOGICAL and all(AT_LAUNCH.issuperset(definition) for definition in constraint))
    }


def _bounds_lists(bound: Any) -> bool:
    """Return whether `min` or `max` can be compared with a list."""
    try:
        bool(bound > [])
    except TypeError:
        return False
    return True


def members_of(constraint: Any) -> set[Any]:
    """Return the members that a `contains` rule requires, as Cerberus reads its constraint."""
    return set(constraint) if isinstance(constraint, Iterable) and not isinstance(constraint, str) else {constraint}


class StreamReadError(Exception):
    """A rule of another field reads a stream, whose elements have not arrived."""


class StreamPlaceholder(list[Any]):
    """The list in place of a stream while Cerberus checks its document. Reading it raises `StreamReadError`.

    Args:
        name: The stream's field.
        length: The number of elements, once it is known.

    Attributes:
        was_read: Whether a rule tried to read it.
    """

    def __init__(self, name: str, length: int | None = None) -> None:
        super().__init__()
        self._name = name
        self._length = length
        self.was_read = False

    def _refuse(self, *_: object) -> NoReturn:
        self.was_read = True
        raise StreamReadError(f"it needs {self._name!r}, which is a stream: {REMEDY}")

    def __len__(self) -> int:
        if self._length is None:
            self._refuse()
        return self._length

    def __deepcopy__(self, _: object) -> StreamPlaceholder:
        return self

    def __repr__(self) -> str:
        return f"<the stream {self._name!r}>"

    __iter__ = __getitem__ = __reversed__ = __contains__ = __eq__ = __ne__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __add__ = __mul__ = __rmul__ = __iadd__ = _refuse
    __setitem__ = __delitem__ = __imul__ = append = extend = insert = pop = _refuse
    remove = clear = index = count = sort = reverse = copy = _refuse  # type: ignore[assignment]


def split_into_batches(values: Iterator[Any]) -> Iterator[list[Any]]:
    """Yield elements in lists, because a call of Cerberus costs far more than one element.

    A batch is full at `BATCH` elements, at `BATCH_BYTES`, or `LINGER_S` after its first element.
    """
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
