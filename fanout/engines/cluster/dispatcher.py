"""The dispatcher of an engine whose cluster runs calls of Python functions."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

from ...declaration.definition import TASKS
from ...errors import UnknownTask
from ...records.chunk_ref import ChunkRef
from ...records.ids import new_token
from ...records.keys import GROUP_WIDTH
from ...records.models import Intent
from ..stage_messages import Chunk, Join, Message, Setup
from .call import Call, EngineSettings

MODULE = "module"
"""Name, among the routing options of an intent, of the module that declares the task."""


def route(module: str) -> dict[str, Any]:
    """Return the routing options of a job, by which any process that sends its messages knows the task's module."""
    return {MODULE: module}


def describe_loss(fact: str, needed: str) -> str:
    """Return the message of `EngineLost`.

    Args:
        fact: What was seen of the cluster.
        needed: What a new engine needs.
    """
    return f"{fact}; no job is lost: make {needed} and a new engine for this store, and call its resume()"


class ClusterDispatcher(abc.ABC):
    """A dispatcher that makes one call of each message.

    Args:
        settings: The engine's settings, which each call carries.
    """

    batch_chunks = GROUP_WIDTH

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings

    @abc.abstractmethod
    def send(self, calls: Sequence[Call]) -> None:
        """Give calls to the cluster, which makes each on a worker.

        Raises:
            BrokerUnavailable: The cluster takes no calls.
            EngineLost: The cluster is gone.
        """

    @abc.abstractmethod
    def keep_swept(self) -> None:
        """Have the cluster sweep the jobs of this store until none is open.

        Raises:
            BrokerUnavailable: The cluster takes no calls.
        """

    def send_setup(self, job_id: str, intent: Intent, *, generation: int = 0, resent: bool = False) -> None:
        message = Setup(job_id, intent.launch_id, resent, generation, message_id=new_token())
        self.send([self._call(intent, message)])

    def send_chunks(self, intent: Intent, refs: Sequence[ChunkRef]) -> None:
        self.send([self._call(intent, Chunk(intent.task, ref, message_id=new_token())) for ref in refs])

    def send_join(
        self, job_id: str, intent: Intent, continuation: str | None, *, resent: bool, generation: int = 0
    ) -> None:
        message = Join(job_id, intent.launch_id, intent.task, continuation, resent, generation, message_id=new_token())
        self.send([self._call(intent, message)])

    def _call(self, intent: Intent, message: Message) -> Call:
        return Call(self.settings, intent.routing.get(MODULE) or _find_module(intent.task), intent.task, message)


def _find_module(task: str) -> str:
    """Return the module of a task that another engine has launched, if this process knows it; else nothing."""
    try:
        return TASKS.find(task).module
    except UnknownTask:
        return ""
