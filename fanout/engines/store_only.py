"""A job as a process holds it that has the job's store and no engine."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from typing import Any

from storage import open_verified

from ..config.settings import Config, from_environment
from ..errors import BrokerUnavailable
from ..external.access import Access
from ..job import Job
from ..logs import fields_of
from ..records.chunk_ref import ChunkRef
from ..records.models import Intent
from ..runtime import Runtime

_LOG = logging.getLogger(__name__)

_REMEDY = "this process has attached by store= and sends no messages: attach by the job's app or engine"


class NoDispatcher:
    """The dispatcher of a process that can send nothing."""

    batch_chunks = 1

    def send_setup(self, job_id: str, intent: Intent, *, generation: int = 0, resent: bool = False) -> None:
        raise BrokerUnavailable(f"job {job_id}: {_REMEDY}")

    def send_chunks(self, intent: Intent, refs: Sequence[ChunkRef]) -> None:
        raise BrokerUnavailable(f"job {refs[0].job_id}: {_REMEDY}")

    def send_join(
        self, job_id: str, intent: Intent, continuation: str | None, *, resent: bool, generation: int = 0
    ) -> None:
        """Leave the delivery of an outcome to a sweep: no join is due here, since this process runs no step."""
        _LOG.info("job %s: has ended; a sweep of its engine delivers the outcome", job_id, extra=fields_of(job_id))


def attach_to_store(job_id: str, store: str) -> Job[Any]:
    """Return the handle of a job in a store, without an engine. No request.

    Args:
        job_id: The job's id.
        store: URL of the store.

    Raises:
        ConfigError: A setting in the environment is wrong.
    """
    # A sweep would use up the resends of a job for messages that this process can't send.
    config = Config.read({"store": store, "stall_s": math.inf}, from_environment(os.environ))
    return Job(job_id, Runtime(open_verified(store), config, NoDispatcher(), access=Access.of_caller(config)))
