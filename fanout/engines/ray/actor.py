"""The actor that owns the tasks of a store's jobs, so that they depend on no caller and no worker."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from storage import digest

from ..cluster.call import Call, EngineSettings
from ..cluster.sweeper import sweep_until_idle
from ..cluster.worker import make_call, open_runtime

_LOG = logging.getLogger(__name__)

NAMESPACE = "fanout"
"""Ray's namespace of the actors."""

MAX_LOST = 20
"""Workers that a message may lose. A stage ends after fewer, unless workers die before they reach it."""


LINGER_S = 300.0
"""Seconds without a call after which the actor ends, if no job is open. Ray needs seconds to start it again."""


class ActorClosed(Exception):
    """The actor ends, and takes no more calls."""


class MessageActor:
    """The owner of a store's calls. It makes each as a task of Ray's, and again if the task's worker dies.

    Ray ends a task together with the process that started it. So a worker does not start the tasks that follow its
    own, but has this actor do it, which lives for as long as a job of its store is open. Ray restarts a dead actor; its
    tasks are gone then, and its sweeps send them again.

    Args:
        settings: The store.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._run = ray.remote(run_on_worker)
        self._following: set[asyncio.Task[None]] = set()
        self._received_at = time.monotonic()
        self._is_closed = False
        self._lock = threading.Lock()
        threading.Thread(target=self._sweep, name="fanout-sweep", daemon=True).start()

    async def send(self, calls: Sequence[Call]) -> None:
        """Start the calls. Returns once this actor has them.

        Raises:
            ActorClosed: This actor ends. Another one, of the same name, will take them.
        """
        with self._lock:
            if self._is_closed:
                raise ActorClosed
            self._received_at = time.monotonic()
        for call in calls:
            following = asyncio.ensure_future(self._follow(call))
            self._following.add(following)
            following.add_done_callback(self._following.discard)

    async def _follow(self, call: Call) -> None:
        """Make a call until a worker has survived it."""
        for _ in range(MAX_LOST):
            try:
                # Ray's own retry would hide the loss of a worker from the attempts.
                await self._run.options(name=call.name, max_retries=0).remote(call)
                return
            except RayTaskError:
                _LOG.exception("%s: job %s: a worker could not run it", call.name, call.message.job_id)
                return
            except RayError as error:
                _LOG.warning("%s: job %s: its worker was lost: %s", call.name, call.message.job_id, error)
                call = call.redeliver()
        _LOG.error("%s: job %s: lost %d workers; left to a sweep", call.name, call.message.job_id, MAX_LOST)

    def _sweep(self) -> None:
        """Sweep until no job is open, and end this actor."""
        from .dispatcher import make_dispatcher

        runtime = open_runtime(self._settings, make_dispatcher)
        while not self._is_closed:
            sweep_until_idle(runtime)
            self._close_if_idle()
        ray.kill(find_actor(self._settings), no_restart=True)

    def _close_if_idle(self) -> None:
        """Take no more calls if none has come for a while. A job may have been launched since the last sweep."""
        with self._lock:
            self._is_closed = time.monotonic() - self._received_at > LINGER_S


def run_on_worker(call: Call) -> None:
    """Make a call on a worker of Ray's."""
    from .dispatcher import make_dispatcher

    make_call(call, make_dispatcher)


@functools.cache
def find_actor(settings: EngineSettings) -> Any:
    """Return the actor for a store and settings, as this process has last found it. Start it if none runs."""
    name = f"fanout-{digest(repr(settings).encode())}"
    actor = ray.remote(MessageActor).options(
        name=name,
        namespace=NAMESPACE,
        get_if_exists=True,
        lifetime="detached",
        num_cpus=0,
        max_restarts=-1,
    )
    return actor.remote(settings)
