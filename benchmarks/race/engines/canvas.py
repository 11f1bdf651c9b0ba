"""Celery without fanout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .. import app
from ..entries import Entry
from ..works import WORKS
from . import Engine

WAYS = {
    "group": app.as_group,
    "chord": app.as_chord,
    "presliced": app.as_chord,
    "canvas": app.as_canvas,
    "chunks": app.as_chunks,
}


@contextmanager
def opened(entry: Entry) -> Iterator[Engine]:
    """The engine of one of `WAYS`."""
    way = WAYS[entry.name]
    yield lambda load: way(load, WORKS[load.work].whole(load))
