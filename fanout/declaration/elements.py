"""A streamed field in the eyes of its schema: which of its rules can be kept while the elements pass.

| rules | on a stream |
|---|---|
| `type`, `required`, `nullable`, `readonly`, `dependencies`, `excludes`, `meta` | at the launch, as for a list |
| `default`, `default_setter` | as for a list: the field is there, so they say nothing |
| `schema` | each element, as it passes; it is normalised, too |
| `allowed`, `forbidden` | each element, as it passes |
| `maxlength` | when one element more comes |
| `minlength`, `empty`, `contains` | when the stream has ended |
| `keysrules`, `valuesrules`, `regex`, `allow_unknown`, `purge_unknown`, `require_all`, `min` and `max` of a scalar | \
say nothing about a list |
| `anyof`, `allof`, `noneof`, `oneof` | if they speak of the rules of the first two rows alone |
| all others: `coerce`, `items`, `check_with`, `rename`, `rename_handler`, a validator's own | refused at the launch |

A rule that a validator of the user's keeps in its own way is refused as well, unless it is one of the first two rows.
In the `schema` of the elements `rename`, `rename_handler` and `excludes` are refused: they move or look at neighbours.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

BATCH = 64
"""Most elements of a stream that are checked together."""

BATCH_BYTES = 1024 * 1024
"""Size of the elements, without what they refer to, at which a batch is full."""

LINGER_S = 0.05
"""Longest time that an element waits for others to be checked with."""

AT_LAUNCH = frozenset(
    {"type", "required", "nullable", "readonly", "dependencies", "excludes", "meta", "default", "default_setter"}
)
"""Rules that say nothing about the elements."""

EACH = frozenset({"allowed", "forbidden"})
"""Rules about a list that hold for it if they hold for each part of it."""

COUNTED = frozenset({"empty", "minlength", "maxlength"})
"""Rules about a list's length."""

_OF_ELEMENTS = EACH | COUNTED | {"schema", "contains"}
_MUTE = frozenset({"keysrules", "valuesrules", "regex", "allow_unknown", "purge_unknown", "require_all"})
_BOUNDS = frozenset({"min", "max"})
_LOGICAL = frozenset({"anyof", "allof", "noneof", "oneof"})
_OF_NEIGHBOURS = frozenset({"rename", "rename_handler", "excludes"})

REMEDY = "pass a list"


def unkept(
    rules: Mapping[str, Any], element: Mapping[str, Any] | None, *, is_own: Callable[[str], bool]
) -> dict[str, str]:
    """Those of a field's rules that can't be kept for a stream -> why, with the remedy.

    Args:
        rules: The field's rules, expanded.
        element: Those of its `schema`.
        is_own: Whether the user's validator keeps a rule in its own way.
    """
    found = {}
    for rule, constraint in rules.items():
        if rule in AT_LAUNCH or (
            not is_own(rule)
            and (
                rule in _OF_ELEMENTS
                or rule in _MUTE
                or (rule in _BOUNDS and not _bounds_lists(constraint))
                or (rule in _LOGICAL and all(AT_LAUNCH.issuperset(definition) for definition in constraint))
            )
        ):
            continue
        found[rule] = (
            f"is a stream, and its rule {rule!r} needs the whole list: {REMEDY}, or move the rule into `schema`, "
            "which is kept for each element"
        )
    for rule in sorted(_OF_NEIGHBOURS.intersection(element or ())):
        found[f"schema.{rule}"] = (
            f"is a stream, and the rule {rule!r} in its `schema` needs the other elements: {REMEDY}, or leave it out"
        )
    return found


def kept_at_launch(rules: Mapping[str, Any]) -> dict[str, Any]:
    """The rules of a streamed field that are kept when its job is launched."""
    return {
        rule: constraint
        for rule, constraint in rules.items()
        if rule in AT_LAUNCH
        or (rule in _LOGICAL and all(AT_LAUNCH.issuperset(definition) for definition in constraint))
    }


def _bounds_lists(bound: Any) -> bool:
    try:
        bool(bound > [])
    except TypeError:
        return False
    return True


class StreamReadError(Exception):
    """A rule looks at a value that is a stream, whose elements are not there yet."""


class Unread(list[Any]):
    """Stands for a stream where its document is checked: a list that nobody can look into.

    Attributes:
        was_read: Whether somebody tried.
    """

    def __init__(self, name: str, length: int | None = None) -> None:
        """Stand for the stream called `name`, of so many elements if it has been read."""
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

    def __deepcopy__(self, _: object) -> Unread:
        return self

    def __repr__(self) -> str:
        return f"<the stream {self._name!r}>"

    __iter__ = __getitem__ = __reversed__ = __contains__ = __eq__ = __ne__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __add__ = __mul__ = __rmul__ = __iadd__ = _refuse
    __setitem__ = __delitem__ = __imul__ = append = extend = insert = pop = _refuse
    remove = clear = index = count = sort = reverse = copy = _refuse  # type: ignore[assignment]


def in_batches(values: Iterator[Any]) -> Iterator[list[Any]]:
    """Elements in lists: a Cerberus call costs far more than an element of it. Reads ahead while they come quickly."""
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
