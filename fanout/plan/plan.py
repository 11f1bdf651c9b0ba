"""The plan of a job: what it will take, before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..config.checks import check_count, check_kind, check_number
from ..config.settings import Config, from_environment
from ..declaration.binding import Binding
from ..declaration.definition import Declaration
from ..errors import ConfigError
from ..figures import format_count, format_dollars, format_duration, format_size
from ..memory import Memory, estimate_memory
from ..prices import Prices
from ..records.keys import GROUP_WIDTH
from ..results import WINDOW
from .dry_run import run_dry
from .rates import RESULT_OVERHEAD_BYTES, Rates
from .requests import Requests, count_requests
from .shape import Shape, estimate_shape
from .times import Times, estimate_cadence, estimate_times
from .work import Work

MESSAGE_BYTES = 800
"""Bytes of a message in the broker, headers included."""

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
        rates: How long items and requests take.
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
    rates: Rates
    shape: Shape
    messages: int
    message_bytes: int
    requests: Requests
    written_bytes: int
    read_bytes: int
    dollars: float
    memory: Memory
    times: Times

    @property
    def item_s(self) -> float:
        """Seconds of process for an item."""
        return self.rates.item_s

    def __str__(self) -> str:
        """Describe the plan in lines of names and facts."""
        return "\n".join(f"{name:<10}{fact}" for name, fact in self.facts())

    def facts(self) -> list[tuple[str, str]]:
        """Return the names and texts of a table for people."""
        shape, requests, memory, times = self.shape, self.requests, self.memory, self.times
        least = "at least " if shape.is_partial else ""
        ideal = f", the items alone {format_duration(times.ideal_s)}" if times.ideal_s else ""
        items, chunks = format_count(shape.items, "item"), format_count(shape.chunks, "chunk")
        return [
            ("items", f"{least}{items} of {format_size(shape.item_bytes)}, in {chunks}"),
            ("messages", f"{self.messages:,}, {format_size(self.message_bytes)} in the broker"),
            (
                "requests",
                f"{requests.put:,} PUT, {requests.get:,} GET, {requests.head:,} HEAD, {requests.list:,} LIST: "
                f"{format_dollars(self.dollars)}",
            ),
            ("bytes", f"{format_size(self.written_bytes)} written, {format_size(self.read_bytes)} read"),
            (
                "memory",
                f"caller {format_size(memory.caller)}, setup {format_size(memory.setup)}, "
                f"worker {format_size(memory.worker)}, join {format_size(memory.join)}",
            ),
            (
                "time",
                f"{format_duration(times.total_s)} on {format_count(self.workers, 'worker')} (setup "
                f"{format_duration(times.setup_s)}, process {format_duration(times.process_s)}, join "
                f"{format_duration(times.join_s)}){ideal}",
            ),
            ("rates", str(self.rates)),
        ]


def make_plan(
    task: Declaration,
    shape: Shape,
    rates: Rates,
    *,
    workers: int = 1,
    prices: Prices | None = None,
    options: Mapping[str, Any],
) -> Plan:
    """Return the plan of a job of a given shape; see `ForkJoinTask.plan`.

    Raises:
        ConfigError: `workers` is no number from 1.
        MemoryLimitExceeded: A process takes more than the job's `memory_limit_bytes`.
    """
    check_count("workers", workers)
    if prices is not None:
        check_kind("prices", prices, Prices, expected="Prices")
    binding, combines = task.binding, task.binding.combine is not None
    work = Work.of(shape, rates.item_s)
    times = estimate_times(
        replace(shape, setup_s=None) if rates.covers_setup else shape,
        work,
        rates.assumptions,
        workers=workers,
        item_s=rates.item_s,
        combines=combines,
    )
    cadence = estimate_cadence(shape, work, times, workers=workers, combines=combines)
    requests = count_requests(binding, shape, work, cadence, result_bytes=rates.result_bytes)
    results_bytes = rates.result_bytes * (work.results if combines else shape.items)
    memory = _find_memory(binding, _config(), shape, work, result_bytes=rates.result_bytes)
    memory.check(task.name, task.options.replace(options).memory_limit_bytes)
    parameter_bytes = sum(shape.parameter_bytes.values())
    stored_bytes = results_bytes + RESULT_OVERHEAD_BYTES * work.results
    messages = work.messages + 2
    return Plan(
        task=task.name,
        workers=workers,
        rates=rates,
        shape=shape,
        messages=messages,
        message_bytes=messages * MESSAGE_BYTES,
        requests=requests,
        written_bytes=parameter_bytes + shape.packed_bytes + stored_bytes,
        read_bytes=_read_parameters(binding, shape, cadence.workers) + shape.input_bytes + stored_bytes,
        dollars=requests.price(prices or Prices()),
        memory=memory,
        times=times,
    )


def _read_parameters(binding: Binding, shape: Shape, workers: int) -> int:
    """Return the bytes of parameters that setup, each worker and join read."""
    process = {*binding.parameters_for(binding.process), *binding.combine_parameters}
    readers = [
        (binding.parameters_for(binding.setup), 1),
        (process, workers),
        (binding.parameters_for(binding.join), 1),
    ]
    return sum(times * shape.parameter_bytes.get(name, 0) for names, times in readers for name in set(names))


def _config() -> Config:
    return Config.read({"store": "memory://plan"}, from_environment(os.environ))


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


def find_shape(
    task: Declaration,
    values: Mapping[str, Any] | None = None,
    *,
    items: int | None = None,
    item_bytes: float | None = None,
    limit_items: int = LIMIT_ITEMS,
    limit_s: float = LIMIT_S,
    options: Mapping[str, Any],
) -> Shape:
    """Return the shape by a dry run of setup, by arithmetic, or by the arithmetic with what a dry run has found.

    Raises:
        ConfigError: An argument is missing or out of range.
        InvalidInput: The input does not fit the schema.
        JobFailed: Setup raised; the exception is the `__cause__`.
    """
    check_count("limit_items", limit_items)
    check_number("limit_s", limit_s)
    if items is not None:
        check_count("items", items)
    if item_bytes is not None:
        check_number("item_bytes", item_bytes)
    config, found = _config(), None
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
        task.options.replace(options),
        config,
        combines=task.binding.combine is not None,
        is_stream=task.binding.setup.is_generator,
        batch_chunks=GROUP_WIDTH,
    )
    if found is None:
        return shape
    return replace(shape, parameter_bytes=found.parameter_bytes, large_parameters=found.large_parameters)
