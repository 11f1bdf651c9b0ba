"""How a job comes to be, whatever runs it: validated, its parameters stored, its intent written."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .._storage import ObjectStore
from ..config import Config, Options
from ..declaration import Declaration
from ..errors import InvalidInput
from ..parameters import Parameters
from ..records import Intent


@dataclass(frozen=True, slots=True)
class Order:
    """A validated input on its way to become a job.

    Attributes:
        task: The task.
        parameters: Its parameters, the large ones in the store already.
        options: How the job is cut and tried.
        streams: Parameters that stay in this process, checked element by element as they are read.
        receives: Name of the parameter that an earlier step of a chain supplies.
    """

    task: Declaration
    parameters: Parameters
    options: Options
    streams: dict[str, Iterator[Any]]
    receives: str | None = None

    @classmethod
    def of(
        cls,
        task: Declaration,
        values: Mapping[str, Any],
        *,
        store: ObjectStore,
        inline_bytes: int,
        options: Mapping[str, Any],
        receives: str | None = None,
        may_stream: bool = True,
    ) -> Order:
        """Validate, then store what is large. Nothing is stored if anything is refused.

        Raises:
            InvalidInput: Lists every field's path and reason.
            ConfigError: An option is unknown or out of range.
            Unencodable: A value can't travel.
        """
        chosen = task.options.updated(options)
        streams = _streams(task, values)
        if streams and not may_stream:
            raise InvalidInput(
                task.name,
                {
                    name: ["is a stream, which can't travel in a signature: use submit, or pass a list"]
                    for name in streams
                },
            )
        if receives is not None and receives not in task.schema.fields:
            raise InvalidInput(
                task.name, {receives: ["unknown field, so it can't receive the value of the step before"]}
            )
        absent = frozenset(streams) | ({receives} if receives else frozenset())
        document = task.parameters(values, absent=absent)
        parameters = Parameters.stored(document, store, inline_bytes=inline_bytes)
        return cls(task, parameters, chosen, streams, receives)

    def intent(
        self, *, launch: str | None = None, not_before: float | None = None, expires_at: float | None = None
    ) -> Intent:
        """The record that makes it a job; see `Intent`. A deadline counts from the time that setup may start."""
        now = time.time()
        deadline_s = self.options.deadline_s
        return Intent(
            task=self.task.name,
            inline=self.parameters.inline,
            references=self.parameters.references,
            options=asdict(self.options),
            created_at=now,
            deadline_at=max(now, not_before or 0.0) + deadline_s if deadline_s is not None else None,
            streams=tuple(self.streams),
            receives=self.receives,
            not_before=not_before,
            expires_at=expires_at,
            launch=launch,
        )


CARRIED = (str, bytes, bytearray, list, tuple, dict, set, frozenset, deque)
"""Iterables that travel as values. Any other iterable is a stream."""


def _streams(task: Declaration, values: Mapping[str, Any]) -> dict[str, Iterator[Any]]:
    """The values that are read once, by setup: generators, files, whatever else can only be iterated over."""
    if not isinstance(values, Mapping):
        return {}
    streams = {
        name: task.schema.stream(name, iter(value))
        for name, value in values.items()
        if isinstance(value, Iterable) and not isinstance(value, CARRIED)
    }
    binding = task.binding
    for name in streams:
        for step in (binding.process, binding.join):
            if name in binding.parameters_for(step) and not step.takes_any:
                raise InvalidInput(
                    task.name,
                    {name: [f"is a stream, which only setup can read, but {step.name} declares it too"]},
                )
    return streams


def local_config() -> Config:
    """Settings of a job that never leaves this machine: nothing is worth a message's limit."""
    return Config(store="memory://", inline_bytes=64 * 1024)
