"""Runs cases one after the other, and keeps each result as soon as it is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ..machine import Context
from ..site import Site
from ..status import Status
from . import trial as trials
from .cases import Case
from .record import Trial


def run(
    cases: Sequence[Case],
    site: Site,
    *,
    context: Context,
    results: Path,
    roles: Sequence[str],
    limit_bytes: int,
    timeout_s: float,
    show: Callable[[Trial], None],
) -> list[Trial]:
    """Run the cases in order.

    A case is not run if the same variant was stopped at an input and a number of chunks no larger than its own.

    Args:
        cases: What to run.
        site: Where.
        context: Kept with each result.
        results: File to which each result is added as a JSON line; a new one.
        roles: Whose memory over time is kept.
        limit_bytes: See `trial.run`.
        timeout_s: See `trial.run`.
        show: Called with each result.

    Raises:
        StackError: A server is not installed, or did not come up.
    """
    done: list[Trial] = []
    with results.open("w") as lines:
        for case in cases:
            if _hopeless(case, done):
                found = Trial(case, Status.SKIPPED, "not run: stopped at a smaller size")
            else:
                found = trials.run(case, site, limit_bytes=limit_bytes, timeout_s=timeout_s)
            found = replace(found.thinned(roles), context=context)
            lines.write(found.to_line() + "\n")
            lines.flush()
            done.append(found)
            show(found)
    return done


def _hopeless(case: Case, done: Sequence[Trial]) -> bool:
    return any(
        earlier.status is Status.STOPPED
        and earlier.case.variant is case.variant
        and earlier.case.size_bytes <= case.size_bytes
        and earlier.case.chunks <= case.chunks
        and (earlier.case.size_bytes, earlier.case.chunks) != (case.size_bytes, case.chunks)
        for earlier in done
    )
