"""The memory that the data of a job takes, by process, and the limit of a job. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from .config.settings import Config
from .declaration.binding import Binding
from .errors import FanoutError

COPIES = 2
"""Copies of a decoded value in a process: its encoded form, and what it was decoded to."""


class MemoryLimitExceeded(FanoutError, ValueError):
    """A job's data would take more memory in a process than the job's `memory_limit_bytes`.

    Attributes:
        task: Name of the task.
        process: `caller`, `setup`, `worker` or `join`.
        needed_bytes: Bytes that the process would need at least.
        limit_bytes: The limit.
    """

    def __init__(self, task: str, process: str, needed_bytes: int, limit_bytes: int, remedy: str = "") -> None:
        self.task = task
        self.process = process
        self.needed_bytes = needed_bytes
        self.limit_bytes = limit_bytes
        super().__init__(task, process, needed_bytes, limit_bytes, remedy)

    def __str__(self) -> str:
        remedy = f": {self.args[4]}, or raise memory_limit_bytes" if self.args[4] else ": raise memory_limit_bytes"
        return (
            f"{self.task}: its {self.process} would hold {self.needed_bytes:,} bytes of data, over memory_limit_bytes "
            f"of {self.limit_bytes:,}{remedy}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes that the data of a job takes in each of its processes, beside the interpreter and the user's own code.

    Attributes:
        caller: The process that launches the job.
        setup: The process that runs setup; the caller, if setup runs there.
        worker: A worker at its largest message.
        join: The process that runs join, which reads results lazily.
    """

    caller: int
    setup: int
    worker: int
    join: int

    def check(self, owner: str, limit_bytes: int | None) -> None:
        """Check a job against its limit.

        Args:
            owner: Name of the task.
            limit_bytes: The job's `memory_limit_bytes`; None for no limit.

        Raises:
            MemoryLimitExceeded: A process takes more. Names the first one.
        """
        for entry in fields(self):
            needed_bytes = getattr(self, entry.name)
            if limit_bytes is not None and needed_bytes > limit_bytes:
                raise MemoryLimitExceeded(owner, entry.name, needed_bytes, limit_bytes, REMEDIES[entry.name])


REMEDIES = {
    "caller": "pass a source or a stream instead of large values",
    "setup": "lower pack_bytes or upload_concurrency, or pass a source or a stream instead of large values",
    "worker": "lower chunk_bytes, yield smaller items, or give process less than whole parameters",
    "join": "let combine make fewer results, or write large results to a sink",
}


def estimate_memory(
    binding: Binding,
    config: Config,
    parameter_bytes: Mapping[str, int],
    *,
    input_bytes: int = 0,
    slice_bytes: int = 0,
    results_bytes: int = 0,
    join_bytes: int = 0,
) -> Memory:
    """Return the memory of a job by process; at a launch, without what only setup knows.

    Args:
        binding: The task's steps.
        config: Settings of the process that runs setup.
        parameter_bytes: Name of each parameter -> its encoded size.
        input_bytes: Encoded size of all items.
        slice_bytes: Encoded size of the largest message's items.
        results_bytes: Encoded size of the results of the largest message.
        join_bytes: What join holds of the results and of their listing.
    """

    def of(*names: str) -> int:
        return COPIES * sum(parameter_bytes.get(name, 0) for name in set(names))

    packs_bytes = min(input_bytes, config.pack_bytes * (config.upload_concurrency + 1) + slice_bytes)
    return Memory(
        caller=COPIES * sum(parameter_bytes.values()),
        setup=of(*binding.parameters_for(binding.setup)) + packs_bytes,
        worker=of(*binding.parameters_for(binding.process), *binding.combine_parameters)
        + COPIES * (slice_bytes + results_bytes),
        join=of(*binding.parameters_for(binding.join)) + join_bytes,
    )
