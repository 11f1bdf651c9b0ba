"""Conditions on the rows of Parquet, checked before a job is launched. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from storage import Unencodable, encode

from ..errors import ConfigError

OPERATORS: Final = ("=", "==", "!=", "<", ">", "<=", ">=", "in", "not in")
"""The operators that pyarrow knows."""

_FORM: Final = (
    'write (column, operator, value) triples that must all hold, as [("price", "<", 3)], or a list of such lists, of '
    "which one must"
)


def check_filters(filters: Any) -> None:
    """Check conditions in the form of `pyarrow.parquet.read_table`.

    Raises:
        ConfigError: They have another form, an unknown operator, or a value that can't travel. Names the condition.
    """
    if not isinstance(filters, list | tuple) or not filters:
        raise ConfigError(f"sources.parquet: filters must be a list, not {filters!r:.80}: {_FORM}")
    # pyarrow takes a list for a triple, too.
    is_nested = all(
        isinstance(group, list | tuple) and group and isinstance(group[0], list | tuple) for group in filters
    )
    for group in filters if is_nested else [filters]:
        for condition in group:
            _check_condition(condition)
    try:
        encode(filters, path="filters")
    except Unencodable as error:
        raise ConfigError(f"sources.parquet: {error}") from error


def _check_condition(condition: Any) -> None:
    if not isinstance(condition, list | tuple) or len(condition) != 3:
        raise ConfigError(f"sources.parquet: filters has {condition!r:.80}, which is no triple: {_FORM}")
    column, operator, value = condition
    if not isinstance(column, str):
        raise ConfigError(f"sources.parquet: filters: {column!r:.80} is no name of a column, in {condition!r:.80}")
    if not isinstance(operator, str) or operator not in OPERATORS:
        known = ", ".join(OPERATORS)
        raise ConfigError(f"sources.parquet: filters: {operator!r:.80} is no operator; there are {known}")
    is_list = isinstance(value, Collection) and not isinstance(value, str | bytes)
    if operator in ("in", "not in") and not is_list:
        raise ConfigError(f"sources.parquet: filters: {operator!r} needs a list of values, not {value!r:.80}")
    if operator not in ("in", "not in") and is_list:
        raise ConfigError(
            f"sources.parquet: filters: {operator!r} compares with one value, not {value!r:.80}: use 'in' for several"
        )
