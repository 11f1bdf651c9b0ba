"""A job as a process holds it that has the job's store and no engine."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from typing import Any

from storage import open_verified

from ..config.encryption import encrypt_store
from ..config.settings import Config, from_environment
from ..external.access import Access
from ..job import Job
from ..logs import fields_of
from ..records.chunk_ref import ChunkRef
from ..records.models import Intent
from ..runtime import Runtime

_LOG = logging.getLogger(__name__)


class NoDispatcher:
    """The dispatcher of a process that has no engine. It leaves every message to the next sweep of the job's engine."""

    batch_chunks = 1

    def send_setup(self, job_id: str, intent: Intent, *, generation: int = 0, resent: bool = False) -> None:
        _leave_to_sweep(job_id)

    def send_chunks(self, intent: Intent, refs: Sequence[ChunkRef]) -> None:
        _leave_to_sweep(refs[0].job_id)

    def send_join(
        self, job_id: str, intent: Intent, continuation: str | None, *, resent: bool, generation: int = 0
    ) -> None:
        _leave_to_sweep(job_id)


def _leave_to_sweep(job_id: str) -> None:
    text = "job %s: its next message is left to a sweep of its engine: this process has attached by store="
    _LOG.info(text, job_id, extra=fields_of(job_id))


def attach_to_store(job_id: str, store: str) -> Job[Any]:
    """Return the handle of a job in a store, without an engine. No request.

    Args:
        job_id: The job's id.
        store: URL of the store.

    Raises:
        ConfigError: A setting in the environment is wrong.
    """
    # A sweep here would use up the resends of a job for messages that this process can't send.
    config = Config.read({"store": store, "stall_s": math.inf}, from_environment(os.environ))
    opened = encrypt_store(open_verified(store), config)
    return Job(job_id, Runtime(opened, config, NoDispatcher(), access=Access.of_caller(config)))
