"""Dispatchers that run the chunks of a job in the caller's thread."""

from __future__ import annotations

import abc
import os
from collections import deque
from collections.abc import Sequence

from ..abc import Delivery
from ..config.settings import Config, from_environment
from ..records.chunk_ref import ChunkRef
from ..records.ids import new_token
from ..records.keys import GROUP_WIDTH
from ..records.models import Intent, Note
from ..runtime import Runtime
from ..stages import run_join, run_process, run_setup


def make_local_config() -> Config:
    """Return the settings of a job that stays on this machine, with a large limit for inline parameters.

    Raises:
        ConfigError: A setting of encryption in the environment is wrong.
    """
    environment = from_environment(os.environ)
    encryption = {name: environment[name] for name in ("encryption_keys", "require_encryption")}
    return Config.read({"store": "memory://", "inline_bytes": 64 * 1024}, encryption)


class LocalDispatcher(abc.ABC):
    """A dispatcher that runs chunks itself. Its caller runs setup first and join last.

    Attributes:
        runtime: The runtime that its steps work with. Set it before the first chunk is sent.
    """

    runtime: Runtime
    batch_chunks = GROUP_WIDTH

    def send_setup(self, job_id: str, intent: Intent, *, generation: int = 0, resent: bool = False) -> None:
        raise AssertionError("no sweep handles a local job: its setup runs in the caller")

    def send_join(
        self, job_id: str, intent: Intent, continuation: str | None, *, resent: bool, generation: int = 0
    ) -> None:
        """Do nothing: the caller runs join after the last chunk."""
        return

    @abc.abstractmethod
    def send_chunks(self, intent: Intent, refs: Sequence[ChunkRef]) -> None:
        """Run process on these chunks, now or soon."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Wait until no chunk is left to run. Raises the errors that a worker could not record."""


class InlineDispatcher(LocalDispatcher):
    """A dispatcher that runs each chunk in the caller's thread, before setup makes the next one."""

    def __init__(self) -> None:
        self._waiting: deque[ChunkRef] = deque()
        self._is_running = False

    def send_chunks(self, intent: Intent, refs: Sequence[ChunkRef]) -> None:
        self._waiting.extend(refs)
        # A chunk that raised is sent again from within its own run.
        if self._is_running:
            return
        self._is_running = True
        try:
            while self._waiting:
                run_process(self.runtime, self._waiting.popleft())
        finally:
            self._is_running = False

    def finish(self) -> None:
        """Do nothing: every chunk had run when `send_chunks` returned."""


class EagerDispatcher(InlineDispatcher):
    """A dispatcher that also runs setup and join in the caller's thread."""

    def send_setup(self, job_id: str, intent: Intent, *, generation: int = 0, resent: bool = False) -> None:
        run_setup(
            self.runtime, job_id, launch_id=intent.launch_id, generation=generation, delivery=Delivery(resent=resent)
        )

    def send_join(
        self, job_id: str, intent: Intent, continuation: str | None, *, resent: bool, generation: int = 0
    ) -> None:
        outcome = run_join(
            self.runtime, job_id, launch_id=intent.launch_id, generation=generation, delivery=Delivery(resent=resent)
        )
        if outcome is not None:
            ledger = self.runtime.job(job_id, intent.launch_id, generation).ledger
            ledger.write_delivered(Note(by=new_token()))
