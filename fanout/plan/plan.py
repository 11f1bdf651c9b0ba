"""The plan of a job: what it will take, before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..config.settings import Config, Options, check_count, from_environment
from ..declaration.binding import Binding
from ..declaration.definition import Declaration
from ..errors import ConfigError
from ..memory import Memory, estimate_memory
from ..prices import Prices
from ..records.keys import GROUP_WIDTH
from ..results import WINDOW
from .dry_run import run_dry
from .requests import Requests, count_requests
from .shape import Shape, estimate_shape
from .times import Assumptions, Times, estimate_cadence, estimate_times
from .work import Work

MESSAGE_BYTES = 800
"""Bytes of a message in the broker, headers included."""

RESULT_OVERHEAD_BYTES = 250
"""Bytes of an object with results beside the results."""

ENTRY_BYTES = 100
"""Bytes that join holds for each object with results."""

LIMIT_ITEMS = 1_000_000
LIMIT_S = 60.0
"""Items and seconds after which a plan stops setup."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a job will take.

    Attributes:
        task: Name of the task.
        workers: Number of worker processes.
        item_s: Seconds of process for an item.
        shape: Its items, chunks and messages of setup's.
        messages: Number of all messages, with those of shared batches, setup and join.
        message_bytes: Bytes of all messages in the broker.
        requests: Requests to the store.
        written_bytes: Bytes of objects written.
        read_bytes: Bytes of objects read.
        dollars: Price of the requests.
        memory: Bytes of the job's data in each process.
        times: Seconds of each phase.
    """

    task: str
    workers: int
    item_s: float
    shape: Shape
    messages: int
    message_bytes: int
    requests: Requests
    written_bytes: int
    read_bytes: int
    dollars: float
    memory: Memory
    times: Times

    def __str__(self) -> str:
        """Describe the plan in lines of names and facts."""
        return "\n".join(f"{name:<10}{fact}" for name, fact in self.facts())

    def facts(self) -> list[tuple[str, str]]:
        """Return the names and texts of a table for people."""
        shape, requests, memory, times = self.shape, self.requests, self.memory, self.times
        least = "at least " if shape.is_partial else ""
        ideal = f", the items alone {times.ideal_s:,.1f} s" if times.ideal_s else ""
        return [
            ("items", f"{least}{shape.items:,} of {shape.item_bytes:,.0f} bytes, in {shape.chunks:,} chunks"),
            ("messages", f"{self.messages:,}, {_size(self.message_bytes)} in the broker"),
            (
                "requests",
                f"{requests.put:,} PUT, {requests.get:,} GET, {requests.head:,} HEAD, {requests.list:,} LIST: "
                f"${self.dollars:,.4f}",
            ),
            ("bytes", f"{_size(self.written_bytes)} written, {_size(self.read_bytes)} read"),
            (
                "memory",
                f"caller {_size(memory.caller)}, setup {_size(memory.setup)}, worker {_size(memory.worker)}, "
                f"join {_size(memory.join)}",
            ),
            (
                "time",
                f"{times.total_s:,.1f} s on {self.workers:,} workers (setup {times.setup_s:,.1f} s, process "
                f"{times.process_s:,.1f} s, join {times.join_s:,.1f} s){ideal}",
            ),
        ]


def make_plan(
    task: Declaration,
    values: Mapping[str, Any] | None = None,
    *,
    workers: int = 1,
    item_s: float = 0.0,
    items: int | None = None,
    item_bytes: float | None = None,
    result_bytes: int = 100,
    limit_items: int = LIMIT_ITEMS,
    limit_s: float = LIMIT_S,
    assumptions: Assumptions | None = None,
    prices: Prices | None = None,
    config: Config | None = None,
    options: Mapping[str, Any],
) -> Plan:
    """Return the plan of a job; see `ForkJoinTask.plan`.

    Raises:
        MemoryLimitExceeded: A process takes more than the job's `memory_limit_bytes`.
    """
    _check(workers=workers, item_s=item_s, items=items, item_bytes=item_bytes, result_bytes=result_bytes)
    config = config or Config.read({"store": "memory://plan"}, from_environment(os.environ))
    chosen = task.options.replace(options)
    shape = _find_shape(
        task,
        values,
        chosen,
        config,
        items=items,
        item_bytes=item_bytes,
        options=options,
        limit_items=limit_items,
        limit_s=limit_s,
    )
    binding, combines = task.binding, task.binding.combine is not None
    work, assumed = Work.of(shape, item_s), assumptions or Assumptions()
    times = estimate_times(shape, work, assumed, workers=workers, item_s=item_s, combines=combines)
    cadence = estimate_cadence(shape, work, times, workers=workers, combines=combines)
    requests = count_requests(binding, shape, work, cadence, result_bytes=result_bytes)
    results_bytes = result_bytes * (work.results if combines else shape.items)
    memory = _find_memory(binding, config, shape, work, result_bytes=result_bytes)
    memory.check(task.name, chosen.memory_limit_bytes)
    parameter_bytes = sum(shape.parameter_bytes.values())
    stored_bytes = results_bytes + RESULT_OVERHEAD_BYTES * work.results
    messages = work.messages + 2
    return Plan(
        task=task.name,
        workers=workers,
        item_s=item_s,
        shape=shape,
        messages=messages,
        message_bytes=messages * MESSAGE_BYTES,
        requests=requests,
        written_bytes=parameter_bytes + shape.input_bytes + stored_bytes,
        read_bytes=parameter_bytes * (1 + cadence.workers) + shape.input_bytes + stored_bytes,
        dollars=requests.price(prices or Prices()),
        memory=memory,
        times=times,
    )


def _find_memory(binding: Binding, config: Config, shape: Shape, work: Work, *, result_bytes: int) -> Memory:
    """Return the memory that the job's data take in each process."""
    # With combine, one result for all items of a message.
    results_bytes = result_bytes * (shape.slice_items if binding.combine is None else 1)
    return estimate_memory(
        binding,
        config,
        shape.parameter_bytes,
        input_bytes=shape.input_bytes,
        slice_bytes=shape.slice_bytes,
        results_bytes=results_bytes,
        join_bytes=ENTRY_BYTES * work.results + 2 * WINDOW * results_bytes,
    )


def _find_shape(
    task: Declaration,
    values: Mapping[str, Any] | None,
    chosen: Options,
    config: Config,
    *,
    items: int | None,
    item_bytes: float | None,
    options: Mapping[str, Any],
    limit_items: int,
    limit_s: float,
) -> Shape:
    """Return the shape by a dry run of setup, by arithmetic, or by the arithmetic with what a dry run has found."""
    found: Shape | None = None
    if values is not None:
        found = run_dry(task, values, config, options=options, limit_items=limit_items, limit_s=limit_s)
        if items is None and item_bytes is None:
            return found
    elif items is None or item_bytes is None:
        raise ConfigError("a plan needs values, for setup to run here, or both items and item_bytes")
    count = items if items is not None else found.items if found is not None else 0
    size = item_bytes if item_bytes is not None else found.item_bytes if found is not None else 0.0
    shape = estimate_shape(
        count,
        size,
        chosen,
        config,
        combines=task.binding.combine is not None,
        is_stream=task.binding.setup.is_generator,
        batch_chunks=GROUP_WIDTH,
    )
    if found is None:
        return shape
    return replace(shape, parameter_bytes=found.parameter_bytes, large_parameters=found.large_parameters)


def _check(*, workers: int, item_s: float, items: int | None, item_bytes: float | None, result_bytes: float) -> None:
    check_count("workers", workers)
    if items is not None:
        check_count("items", items)
    for name, value in (("item_s", item_s), ("item_bytes", item_bytes), ("result_bytes", result_bytes)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0):
            raise ConfigError(f"{name} must be a number from 0, not {value!r:.80}")


def _size(size_bytes: float) -> str:
    """Return a size as text: `812 bytes`, `1.3 MB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.1f} {unit}"
    return f"{size_bytes:,.0f} bytes"
