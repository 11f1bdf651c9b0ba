"""The dispatcher that gives each message to the actor that owns the tasks."""

from __future__ import annotations

from collections.abc import Sequence

import ray
from ray.exceptions import RayError

from ...errors import BrokerUnavailable
from ..cluster.call import Call, EngineSettings
from ..cluster.dispatcher import ClusterDispatcher
from .courier import find_courier

SEND_S = 30.0
"""Longest time for an answer of the actor, which Ray may have to start first."""

MAX_SENDS = 3
"""Times that calls are given to the actor: it may end, or be restarted, while they are on their way."""


class RayDispatcher(ClusterDispatcher):
    """A dispatcher whose messages wait as tasks of Ray's, which a detached actor owns."""

    def send(self, calls: Sequence[Call]) -> None:
        for attempt in range(MAX_SENDS):
            try:
                ray.get(find_courier(self.settings).send.remote(list(calls)), timeout=SEND_S)
                return
            except (RayError, OSError, ValueError) as error:
                if attempt + 1 == MAX_SENDS:
                    raise BrokerUnavailable(f"Ray takes no tasks: {type(error).__name__}: {error}") from error

    def keep_swept(self) -> None:
        self.send([])


def make_dispatcher(settings: EngineSettings) -> RayDispatcher:
    """Return a dispatcher of any process of the cluster."""
    return RayDispatcher(settings)
