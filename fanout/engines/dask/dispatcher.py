"""The dispatcher that makes a task of Dask's of each message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distributed import Client, fire_and_forget

from storage import digest

from ...errors import BrokerUnavailable, EngineLost
from ..cluster.call import Call, EngineSettings
from ..cluster.dispatcher import ClusterDispatcher, describe_loss
from . import tasks

SEND_S = 60.0
"""Longest time until the client's own thread has taken some calls."""


class DaskDispatcher(ClusterDispatcher):
    """A dispatcher whose messages wait in the memory of Dask's scheduler, which keeps them for no client.

    The scheduler learns of a message within milliseconds after `send` has returned. A worker that is killed in
    between takes the message with it, and a sweep sends it again.

    Args:
        settings: The engine's settings.
        client: The client of this process.
    """

    def __init__(self, settings: EngineSettings, client: Client) -> None:
        super().__init__(settings)
        self._client = client

    def send(self, calls: Sequence[Call]) -> None:
        keys = [f"{call.name}-{call.message.message_id}" for call in calls]
        self._submit(tasks.run_on_worker, calls, keys)

    def keep_swept(self) -> None:
        # The same key as the sweeper that may run: the scheduler then starts no second one.
        self._submit(tasks.sweep_on_worker, [self.settings], [f"fanout.sweep-{digest(repr(self.settings).encode())}"])

    def _submit(self, function: Any, arguments: Sequence[Any], keys: list[str]) -> None:
        if self._client.status in ("closing", "closed"):
            raise EngineLost(describe_loss(f"Dask's client is {self._client.status}", "a new client"))
        if self._client.status != "running":
            raise BrokerUnavailable(f"Dask's client is {self._client.status}")
        try:
            self._client.sync(_hand_over, self._client, function, list(arguments), keys, callback_timeout=SEND_S)
        except (OSError, RuntimeError) as error:
            raise BrokerUnavailable(f"Dask takes no tasks: {type(error).__name__}: {error}") from error


async def _hand_over(client: Client, function: Any, arguments: list[Any], keys: list[str]) -> None:
    """Give calls to the client in one turn of its loop, and so in one message to the scheduler.

    The scheduler must not learn of a task before it learns to keep it. If the task ended this process, the scheduler
    would forget it together with its client.
    """
    # no limit: it puts them into the loop's queue
    fire_and_forget(client.map(function, arguments, key=keys, pure=False))
