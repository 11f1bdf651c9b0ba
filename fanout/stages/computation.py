"""The computation of results: process runs on each item of a chunk, and combine on what it returned."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from storage import SequenceEncoder, encode

from ..cached_job import CachedJob
from ..external.context import Position, Signs, current_step


class Computation:
    """The computation of the results of consecutive chunks, one after the other. It ends with the first that raises.

    Loads the parameters of process and combine: one request for each that is large and new to this process.

    Args:
        job: The job.
        first_item: Index of the first item over the whole job, for errors that name a result.
        tolerate: Called with what process raises for an item. Returns whether None takes the place of its result; in a
            job with `combine` it has none. If not, the computation raises the error.

    Attributes:
        position: The position of the chunk that was begun last; at an item, unless none was begun or combine runs.
        started_at: When that chunk was begun, in seconds since the epoch.

    Raises:
        StorageError: A parameter cannot be read.
    """

    def __init__(
        self, job: CachedJob, *, first_item: int, tolerate: Callable[[BaseException], bool] = lambda error: False
    ) -> None:
        binding, compression = job.declaration.binding, job.options.compression
        self.position = Position()
        self.started_at = time.time()
        self._call = binding.bind_process(job.parameter_values(binding.parameters_for(binding.process)))
        self._combine: Callable[[Iterator[Any]], list[Any]] | None = None
        if job.intent.combines:
            parameters = job.parameter_values(binding.combine_parameters)
            self._combine = partial(binding.call_combine, parameters=parameters)
        self._compression = compression
        self._encoder = SequenceEncoder(path="results", first_index=first_item, compression=compression)
        self._tolerate = tolerate
        context = current_step()
        self._signs = context.signs if context is not None else Signs()

    @property
    def step(self) -> str:
        """The step that runs, or that has raised: `process` or `combine`."""
        return self.position.step or "process"

    def compute(self, items: Sequence[dict[str, Any]], first_item: int, position: Position) -> bytes | None:
        """Return the encoded list of a chunk's results, or of the one value that combine makes of them.

        Args:
            items: The items of the chunk.
            first_item: Index of the first one over the whole job.
            position: The position of the run, at this chunk.

        Returns:
            None if the heartbeat of this run has seen that the job has ended.

        Raises:
            Exception: Whatever process or combine raises.
        """
        self.position, self.started_at = position, time.time()
        if self._combine is None:
            return self._encode_results(items, first_item)
        combined = self._combine(self._iterate_results(items, first_item))
        return None if self._has_ended() else encode(combined, path="combined", compression=self._compression)

    def _encode_results(self, items: Sequence[dict[str, Any]], first_item: int) -> bytes | None:
        # Local, because a million small items come this way.
        signs, position, call, add = self._signs, self.position, self._call, self._encoder.add_soon
        for index, arguments in enumerate(items, first_item):
            if signs.pulse is not None and self._has_ended():
                return None
            position.item = index
            try:
                add(call(**arguments))
            except BaseException as error:
                if not self._tolerate(error):
                    raise
                add(None)
        return self._encoder.finish()

    def _iterate_results(self, items: Sequence[dict[str, Any]], first_item: int) -> Iterator[Any]:
        position = self.position
        for index, arguments in enumerate(items, first_item):
            if self._has_ended():
                break
            position.step, position.item = "process", index
            try:
                result = self._call(**arguments)
            except BaseException as error:
                if not self._tolerate(error):
                    raise
                continue
            position.step, position.item = "combine", None
            yield result
        position.step, position.item = "combine", None

    def _has_ended(self) -> bool:
        pulse = self._signs.pulse
        return pulse is not None and pulse.ended
