"""Sweeps that run on a cluster for as long as jobs are open, so that a job needs no caller."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ...errors import is_transient
from ...listing import list_open
from ...logs import fields_of
from ...runtime import Runtime
from ...sweep import Move, sweep

_LOG = logging.getLogger(__name__)

LOOK_S = 0.5
"""Longest time from a request to stop until the sweeper sees it."""

MAX_FAILURES = 100
"""Sweeps in a row without an answer of the store after which the sweeper ends."""


def sweep_until_idle(runtime: Runtime, *, is_stopping: Callable[[], bool] = lambda: False) -> None:
    """Sweep the jobs of a store twice in each `stall_s`, until no job is open.

    Args:
        runtime: Store, settings and dispatcher.
        is_stopping: Returns whether this process ends.
    """
    failures = 0
    while failures < MAX_FAILURES:
        if _sleep(runtime.config.stall_s / 2, is_stopping):
            return
        try:
            sweep_once(runtime)
            if not list_open(runtime):
                return
            failures = 0
        except Exception as error:
            if not is_transient(error):
                raise
            failures += 1
            _LOG.warning("a sweep of %s was interrupted: %s", runtime.store.url, error)


def sweep_once(runtime: Runtime, *, lost: bool = False) -> dict[str, Move]:
    """Sweep once, log what was done, and return it by job id. For `lost` see `fanout.sweep.sweep`."""
    moves = dict(sweep(runtime, lost=lost))
    for job_id, move in moves.items():
        if move is not Move.NONE:
            _LOG.info("job %s: %s", job_id, move, extra=fields_of(job_id))
    return moves


def _sleep(seconds: float, is_stopping: Callable[[], bool]) -> bool:
    """Sleep, and return whether this process ends."""
    ends_at = time.monotonic() + seconds
    while not is_stopping():
        left_s = ends_at - time.monotonic()
        if left_s <= 0:
            return False
        time.sleep(min(left_s, LOOK_S))
    return True
