"""The worker's side of an engine for clusters: makes a call in a process that has nothing but fanout and the task."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from storage import open_verified

from ...config.encryption import encrypt_store
from ...errors import is_transient
from ...external.access import Access
from ...logs import fields_of
from ...records.failure import Failure
from ...records.ids import new_token
from ...records.models import Note, OutcomeStatus
from ...runtime import Runtime
from ...stages import conclude
from ...telemetry import load_telemetry
from ..stage_messages import Join
from ..task_import import import_task
from .call import Call, EngineSettings
from .dispatcher import ClusterDispatcher

_LOG = logging.getLogger(__name__)

MakeDispatcher = Callable[[EngineSettings], ClusterDispatcher]
"""Makes the dispatcher of a process. A function of a module, so that equal ones compare equal."""

CACHED_RUNTIMES = 4
"""Runtimes that a worker process keeps: a cluster may serve several stores."""

PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0)
"""Pauses between the runs of a stage while the store does not answer: five minutes in all, as a sweep follows."""


@functools.lru_cache(maxsize=CACHED_RUNTIMES)
def open_runtime(settings: EngineSettings, make_dispatcher: MakeDispatcher) -> Runtime:
    """Return the runtime of this process for a store; make it at first use.

    Raises:
        ConfigError: A setting in the environment of this process is wrong.
    """
    return make_runtime(settings, make_dispatcher(settings))


def make_runtime(settings: EngineSettings, dispatcher: ClusterDispatcher) -> Runtime:
    """Return a new runtime with a dispatcher. It may access what its process may: a cluster runs any code anyway."""
    config, telemetry = settings.read(), load_telemetry()
    store = encrypt_store(open_verified(config.store, observe=telemetry.observe_store), config)
    return Runtime(store, config, dispatcher, access=Access.of_caller(config), telemetry=telemetry)


def make_call(call: Call, make_dispatcher: MakeDispatcher) -> None:
    """Run the stage that a message asks for, and record the delivery of the outcome that a join returns.

    While the store or the cluster does not answer, the stage runs again after a pause, in this worker. After
    `PAUSES_S` the call ends, and a sweep sends the message again. An error outside of the user's steps ends the job.

    Args:
        call: The message, and what this process needs to run it.
        make_dispatcher: Makes this process's dispatcher.

    Raises:
        ConfigError: A setting in the environment of this process is wrong.
    """
    runtime = open_runtime(call.settings, make_dispatcher)
    message = call.message
    call = replace(call, message=message.take() if isinstance(message, Join) else message)
    for pause_s in (*PAUSES_S, None):
        try:
            _run(runtime, call)
            return
        except Exception as error:
            if not is_transient(error):
                _end_job(runtime, call, error)
                return
            if pause_s is None:
                text = "%s: job %s: gave up after %d runs, and leaves it to a sweep: %s"
                _LOG.error(text, call.name, message.job_id, len(PAUSES_S) + 1, error)
                return
            call = replace(call, message=call.message.resume())
        time.sleep(pause_s)


def _run(runtime: Runtime, call: Call) -> None:
    if call.module:
        import_task(call.module, call.task)
    message = call.message
    outcome = message.run(runtime)
    if outcome is not None:
        # Nothing follows a join on a cluster: its outcome in the store is the delivery.
        ledger = runtime.job(message.job_id, message.launch_id, message.generation).ledger
        ledger.write_delivered(Note(by=new_token()))


def _end_job(runtime: Runtime, call: Call, error: Exception) -> None:
    """End a job whose stage failed outside of the user's steps. If that fails too, a sweep sends the message again."""
    message = call.message
    extra = fields_of(message.job_id)
    _LOG.error(
        "%s: job %s: failed outside of the task's own code", call.name, message.job_id, exc_info=error, extra=extra
    )
    with suppress(Exception):
        job = runtime.job(message.job_id, message.launch_id, message.generation)
        conclude(runtime, job, OutcomeStatus.FAILED, Failure.of(message.step, error))
