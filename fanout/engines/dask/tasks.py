"""The functions that Dask calls on its workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distributed import Event, Status, get_client, get_worker, secede

from ..cluster.call import Call, EngineSettings
from ..cluster.sweeper import sweep_until_idle
from ..cluster.worker import make_call, open_runtime

if TYPE_CHECKING:
    from .dispatcher import DaskDispatcher


def run_on_worker(call: Call) -> None:
    """Make a call on a worker of Dask's. Three short requests to the scheduler.

    After the death of a worker Dask makes its calls again elsewhere, and no call can tell that it is a second one. So
    each run sets an event of its message's at the scheduler, and clears it at its end. A run that finds the event set
    follows a lost one.
    """
    begun = Event(f"fanout-{call.message.message_id}", client=get_client())
    if begun.is_set():
        call = call.redeliver()
        # Dask gives up a sweeper after the deaths of four workers, though it is to blame for none.
        make_dispatcher(call.settings).keep_swept()
    else:
        begun.set()
    try:
        make_call(call, make_dispatcher)
    finally:
        begun.clear()


def sweep_on_worker(settings: EngineSettings) -> None:
    """Sweep the jobs of a store until none is open, beside the tasks of this worker. Dask makes a lost call again."""
    worker: Any = get_worker()
    runtime = open_runtime(settings, make_dispatcher)
    secede()
    sweep_until_idle(runtime, is_stopping=lambda: worker.status != Status.running)


def make_dispatcher(settings: EngineSettings) -> DaskDispatcher:
    """Return a dispatcher with the client of this worker, which all of its threads share."""
    from .dispatcher import DaskDispatcher

    return DaskDispatcher(settings, get_client())
