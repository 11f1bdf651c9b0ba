"""fanout: a list as one parameter, or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .. import app  # noqa: F401 - connects the caller
from ..entries import Entry
from ..tasks import Items, Parts, Whole
from ..works import WORKS, Load, cut
from . import Engine, Run


@contextmanager
def opened(entry: Entry) -> Iterator[Engine]:
    """The engine of `fanout` and `streamed`."""
    yield _streamed if entry.name == "streamed" else _listed


def _listed(load: Load) -> Run:
    whole = WORKS[load.work].whole(load)
    if WORKS[load.work].item is not None:
        return lambda timeout_s: Items.signature({"items": whole})().get(timeout_s)
    values = {"work": load.work, "whole": whole, "chunks": load.chunks}
    return lambda timeout_s: Whole.signature(values, chunk_items=1)().get(timeout_s)


def _streamed(load: Load) -> Run:
    whole = WORKS[load.work].whole(load)
    if WORKS[load.work].item is not None:
        return lambda timeout_s: Items.submit({"items": iter(whole)}).get(timeout_s)
    parts = cut(whole, load.chunks)
    return lambda timeout_s: Parts.submit({"work": load.work, "parts": iter(parts)}, chunk_items=1).get(timeout_s)
