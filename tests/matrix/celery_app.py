"""The Celery app of the matrix, for its caller and its worker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from celery import Celery

import fanout
import tests.tasks
import tests.unit.tasks  # noqa: F401 - declares tasks

from . import tasks  # noqa: F401 - declares tasks
from .engines import STALL_S

with suppress(ImportError):  # without edlib
    import examples.edit_design  # noqa: F401 - declares a task


def make_app(environment: Mapping[str, str]) -> Celery:
    """Return an app on the broker, queue and store that the environment names, without a result backend."""
    app = Celery("matrix", broker=environment.get("TEST_BROKER"), set_as_current=False)
    app.conf.update(fanout.RECOMMENDED, task_default_queue=environment.get("TEST_QUEUE", "matrix"))
    # A worker then reports a child's death at once. Its default is to wait for 10 s.
    app.conf.worker_lost_wait = 0.5
    return fanout.connect(app, store=environment.get("FANOUT_STORE"), stall_s=STALL_S)


app = make_app(os.environ)
