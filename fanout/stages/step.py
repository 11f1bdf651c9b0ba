"""The context in which stages run the user's steps."""

from __future__ import annotations

from contextlib import AbstractContextManager

from ..external.context import StepContext, running
from ..runtime import CachedJob, Runtime


def in_step(runtime: Runtime, job: CachedJob, step: str) -> AbstractContextManager[None]:
    """Let a block decode values and run a step of a job's task, with the access of this process."""
    context = StepContext(
        access=runtime.access, job_id=job.id, launch_id=job.launch_id, generation=job.generation, step=step
    )
    return running(context)
