"""The dispatcher that gives each message to the actor that owns the tasks."""

from __future__ import annotations

import time
from collections.abc import Sequence

import ray
from ray.exceptions import RayError

from ...errors import BrokerUnavailable, EngineLost
from ..cluster.call import Call, EngineSettings
from ..cluster.dispatcher import ClusterDispatcher, describe_loss
from .actor import find_actor

SEND_S = 60.0
"""Longest time until the actor has taken some calls. Ray may have to start it first, or to end the one before."""

PAUSE_S = 0.2
"""Seconds between two calls of the actor: it may end, or be restarted, while a message is on its way."""


class RayDispatcher(ClusterDispatcher):
    """A dispatcher whose messages wait as tasks of Ray's, which a detached actor owns."""

    def send(self, calls: Sequence[Call]) -> None:
        ends_at = time.monotonic() + SEND_S
        while True:
            if not ray.is_initialized():
                raise EngineLost(describe_loss("this process has no connection to Ray any more", "one by ray.init"))
            try:
                # `ray.get` would free the processor of the task that waits, and Ray would start a process for it.
                sent = find_actor(self.settings).send.remote(list(calls)).future()
                sent.result(max(ends_at - time.monotonic(), PAUSE_S))
                return
            except (RayError, OSError, ValueError) as error:
                find_actor.cache_clear()
                if time.monotonic() + PAUSE_S > ends_at:
                    raise BrokerUnavailable(f"Ray takes no tasks: {type(error).__name__}: {error}") from error
            time.sleep(PAUSE_S)

    def keep_swept(self) -> None:
        self.send([])


def make_dispatcher(settings: EngineSettings) -> RayDispatcher:
    """Return a dispatcher of any process of the cluster."""
    return RayDispatcher(settings)
