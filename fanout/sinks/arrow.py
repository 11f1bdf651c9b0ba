"""Values of Arrow and pandas, recognised without importing either."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final

from storage import MissingPackage

_TABULAR: Final = {
    "pyarrow": ("Table", "RecordBatch", "RecordBatchReader"),
    "pandas": ("DataFrame",),
}


def is_tabular(value: Any) -> bool:
    """Return whether a value is a table, a record batch, a reader of batches, or a frame."""
    return any(
        cls.__module__.partition(".")[0] in _TABULAR and cls.__name__ in _TABULAR[cls.__module__.partition(".")[0]]
        for cls in type(value).__mro__
    )


def require_arrow() -> None:
    """Check that pyarrow is installed.

    Raises:
        MissingPackage: It is not.
    """
    if find_spec("pyarrow") is None:
        raise MissingPackage("Parquet and tables need pyarrow, which is not installed", extra="arrow")
