"""The ids of a job's trace, and W3C's `traceparent`, in which an intent carries another one. Pure functions."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class TraceParent(NamedTuple):
    """The span below which the spans of a job lie.

    Attributes:
        trace_id: Its trace, of 128 bits.
        span_id: Its own id, of 64 bits.
        flags: W3C's flags; 1 if the trace is recorded.
    """

    trace_id: int
    span_id: int
    flags: int = 1

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"


def parent_of(job_id: str, trace: str = "") -> TraceParent:
    """Return the parent of a job's spans.

    Args:
        job_id: The job.
        trace: What its intent says. If that is empty or malformed, the ids derive from the job's id, so that all
            processes, and all runs of its messages, agree without a word.
    """
    found = _TRACEPARENT.fullmatch(trace)
    if found is not None and int(found[1], 16) and int(found[2], 16):
        return TraceParent(int(found[1], 16), int(found[2], 16), int(found[3], 16))
    content = hashlib.sha256(f"fanout job {job_id}".encode()).digest()
    return TraceParent(int.from_bytes(content[:16]) or 1, int.from_bytes(content[16:24]) or 1)


def trace_id_of(job_id: str) -> str:
    """Return the trace id, in hexadecimal, of a job that was launched outside any trace."""
    return f"{parent_of(job_id).trace_id:032x}"
