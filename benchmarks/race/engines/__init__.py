"""How each entry runs a work. A module an engine, each with one `opened(entry)`, imported where it is used."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any

from ..entries import Entry
from ..works import Load

Run = Callable[[float], Any]
"""Does the work, within so many seconds, and returns the answer."""

Engine = Callable[[Load], Run]
"""Makes what the caller has before the clock starts, and returns what is to be timed."""

PROCESSES = 2
"""Worker processes of every entry."""
THREADS = 32
"""Worker threads of every entry, for work that waits."""

BATCH_ITEMS = 1000
"""Items in a task of Ray and Dask, for work that is given item by item, cut by hand as their manuals advise. Dask's own
bag was a hundred times slower on lists of strings."""


def opened(entry: Entry) -> AbstractContextManager[Engine]:
    """The engine of an entry, for as long as the context lasts."""
    made: AbstractContextManager[Engine] = import_module(f".{entry.engine}", __name__).opened(entry)
    return made
