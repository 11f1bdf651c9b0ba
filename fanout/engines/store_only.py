"""The jobs of a store, as a process holds them that has no engine."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from storage import open_verified

from ..config.checks import check_text
from ..config.encryption import encrypt_store
from ..config.settings import Config, from_environment
from ..external.access import Access
from ..job import Job
from ..listing import find_jobs
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


class AttachedStore:
    """The jobs of a store, for a process that has no engine.

    Its handles send no messages: their waits don't sweep, and a retry begins with the next sweep of the job's engine.

    Args:
        url: URL of the store.

    Raises:
        ConfigError: It is no text.
    """

    def __init__(self, url: str) -> None:
        check_text("store", url, example="s3://bucket/prefix")
        self._url = url

    @cached_property
    def runtime(self) -> Runtime:
        """The store and the settings of the environment. No request.

        Raises:
            ConfigError: A setting in the environment is wrong.
        """
        # A sweep here would use up the resends of a job for messages that this process can't send.
        config = Config.read({"store": self._url, "stall_s": math.inf}, from_environment(os.environ))
        opened = encrypt_store(open_verified(self._url), config)
        return Runtime(opened, config, NoDispatcher(), access=Access.of_caller(config))

    def job(self, job_id: str, *, launch_id: str | None = None) -> Job[Any]:
        """Return the handle of a job. No request."""
        return Job(job_id, self.runtime, launch_id=launch_id)

    def jobs(self, *, tags: Mapping[str, str] | None = None, ended: bool = False) -> Iterator[Job[Any]]:
        """Yield the jobs of the store; see `fanout.jobs`."""
        return find_jobs(self.runtime, tags=tags, ended=ended)
