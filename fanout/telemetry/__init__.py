"""Spans, counters and histograms of jobs, where OpenTelemetry's API is installed.

port.py     what stages tell: a stage that runs, a job that is launched or ends
tracing.py  ids of traces, and the one field that carries a trace from the caller to workers
otel.py     the same as OpenTelemetry takes it; the only module that imports it
"""

from __future__ import annotations

import functools
from contextlib import suppress

from .port import NoTelemetry, Stage, Telemetry
from .tracing import trace_id_of

__all__ = ["NoTelemetry", "Stage", "Telemetry", "load_telemetry", "preload", "trace_id_of"]


@functools.cache
def load_telemetry() -> Telemetry:
    """Return the telemetry of this process: OpenTelemetry's if its API is installed, else none.

    Without an SDK, OpenTelemetry's API itself does nothing.
    """
    try:
        from .otel import OpenTelemetry
    except ImportError:
        return NoTelemetry()
    return OpenTelemetry()


def preload() -> None:
    """Import OpenTelemetry's API where it is installed, so that processes forked later share it."""
    with suppress(ImportError):
        from . import otel  # noqa: F401
