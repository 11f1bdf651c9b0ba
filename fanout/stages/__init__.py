"""The three steps of a job as idempotent functions over a store. They know no engine.

A step may run twice, at the same time or after a crash at any line: the records in the store decide what is left to do.
An error of the user's code becomes a record. An error of the store passes through, so that the engine runs the whole
step again.
"""

from .join import run_join
from .outcome import awaits_setup, conclude, end_job, fail_if_overdue, start_join
from .process import run_process
from .resend import send_again, send_missing
from .setup import run_setup

__all__ = [
    "awaits_setup",
    "conclude",
    "end_job",
    "fail_if_overdue",
    "run_join",
    "run_process",
    "run_setup",
    "send_again",
    "send_missing",
    "start_join",
]
