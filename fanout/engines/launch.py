"""How a job comes to be, whatever runs it: validated, its parameters stored, its intent written."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .._storage import ObjectStore, decode, digest
from ..config import Config, Options
from ..declaration import Declaration
from ..errors import InvalidInput, JobConflict
from ..ledger import Ledger
from ..parameters import Parameters
from ..records import Intent
from ..runtime import Runtime


@dataclass(frozen=True, slots=True)
class Order:
    """A validated input on its way to become a job.

    Attributes:
        task: The task.
        parameters: Its parameters, the large ones in the store already.
        options: How the job is cut and tried.
        kept: Parameters that stay in this process, for a setup that runs here: streams, checked element by element
            as they are read, and with `setup_here` whatever only setup declares.
        receives: Name of the parameter that an earlier step of a chain supplies.
    """

    task: Declaration
    parameters: Parameters
    options: Options
    kept: dict[str, Any]
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
        setup_here: bool = False,
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
        if receives is not None and receives in values:
            raise InvalidInput(
                task.name,
                {receives: ["is given here, and named as what receives the value of the step before: do one of them"]},
            )
        if receives is not None and receives not in task.schema.fields:
            raise InvalidInput(
                task.name, {receives: ["unknown field, so it can't receive the value of the step before"]}
            )
        absent = frozenset(streams) | ({receives} if receives else frozenset())
        document = task.parameters(values, absent=absent)
        kept = {name: document.pop(name) for name in task.binding.setup_only(document)} if setup_here else {}
        parameters = Parameters.stored(document, store, inline_bytes=inline_bytes, compression=chosen.compression)
        return cls(task, parameters, chosen, {**kept, **streams}, receives)

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
            kept=tuple(self.kept),
            receives=self.receives,
            not_before=not_before,
            expires_at=expires_at,
            launch=launch,
            combines=self.task.binding.combine is not None,
        )


def put_on_record(runtime: Runtime, job_id: str, intent: Intent) -> bool:
    """Write a job's intent, and so make it a job. Launching the same one twice makes one.

    Args:
        runtime: The store; the job is at hand there afterwards.
        job_id: The id.
        intent: What it is to be.

    Returns:
        Whether this made it; False if the same job was launched before under this id.

    Raises:
        JobConflict: Another job was. Names what is different.
    """
    standing = runtime.launch(job_id, intent).intent
    if standing is intent:
        return True
    found = _differences(standing, intent)
    if found:
        raise JobConflict(job_id, found)
    return False


def has_begun(ledger: Ledger) -> bool:
    """Whether anybody has taken up a job that was launched. One request."""
    return any(found.key != ledger.keys.intent for found in ledger.objects())


def take_back(runtime: Runtime, job_id: str) -> bool:
    """Undo the launch of a job whose message was not sent, unless somebody has taken it up. Three requests.

    A worker that has its message leaves something in the store before it reads the intent. So one that we do not see
    does not see the intent, and drops the message.

    Args:
        runtime: The store.
        job_id: A job that this process has just put on record.

    Returns:
        Whether it is undone: the job is not on record, and never runs.
    """
    ledger = runtime.ledger(job_id)
    runtime.forget(job_id)
    if has_begun(ledger):
        return False
    intent = ledger.intent()
    ledger.store.delete([ledger.keys.intent])
    if has_begun(ledger):
        ledger.write_intent(intent)
        return False
    return True


def _differences(standing: Intent, intent: Intent) -> list[str]:
    """What a launch wants otherwise than the job that stands; never a parameter's value."""
    if standing.task != intent.task:
        return [f"its task is {standing.task}, not {intent.task}"]
    found = []
    there, wanted = _contents(standing), _contents(intent)
    for name in sorted(there.keys() | wanted.keys()):
        if there.get(name) != wanted.get(name):
            found.append(f"its parameter {name!r} is another")
    for name in sorted(set(standing.kept) ^ set(intent.kept)):
        found.append(f"its parameter {name!r} is {'' if name in standing.kept else 'not '}kept by the caller")
    there_options, wanted_options = (asdict(Options().updated(entry.options)) for entry in (standing, intent))
    for name, value in wanted_options.items():
        known = there_options[name]
        if (type(known), known) != (type(value), value):
            found.append(f"its option {name} is {known!r}, not {value!r}")
    return found


def _contents(intent: Intent) -> dict[str, str]:
    """Digest of each parameter, wherever it lies."""
    inline: dict[str, bytes] = decode(intent.inline)
    return {name: digest(body) for name, body in inline.items()} | dict(intent.references)


CARRIED = (str, bytes, bytearray, list, tuple, dict, set, frozenset, deque)
"""Iterables that travel as values, as do arrays and tables of any package. Any other iterable is a stream."""


def _streams(task: Declaration, values: Mapping[str, Any]) -> dict[str, Iterator[Any]]:
    """The values that are read once, by setup: generators, files, whatever else can only be iterated over."""
    if not isinstance(values, Mapping):
        return {}
    streams = {
        name: task.schema.stream(name, iter(value))
        for name, value in values.items()
        if isinstance(value, Iterable) and not isinstance(value, CARRIED) and not hasattr(value, "__array__")
    }
    binding = task.binding
    for name in streams:
        for step in (binding.process, binding.combine, binding.join):
            if step is not None and name in binding.parameters_for(step) and not step.takes_any:
                raise InvalidInput(
                    task.name,
                    {name: [f"is a stream, which only setup can read, but {step.name} declares it too"]},
                )
    return streams


def local_config() -> Config:
    """Settings of a job that never leaves this machine: nothing is worth a message's limit."""
    return Config(store="memory://", inline_bytes=64 * 1024)
