"""How a job comes to be, whatever runs it: validated, its parameters stored, its intent written."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .._storage import ObjectStore, decode, digest
from ..config import Config, Options
from ..declaration import Declaration
from ..errors import InvalidInput, JobConflict
from ..keys import new_token
from ..ledger import Ledger
from ..parameters import Parameters
from ..records import Intent
from ..removal import remove_job
from ..runtime import OpenJob, Runtime


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
        routing: The engine's own options of every message of the job.
    """

    task: Declaration
    parameters: Parameters
    options: Options
    kept: dict[str, Any]
    receives: str | None = None
    routing: dict[str, Any] = field(default_factory=dict)

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
        self,
        *,
        launch: str | None = None,
        not_before: float | None = None,
        expires_at: float | None = None,
        now: Callable[[], float] | None = None,
    ) -> Intent:
        """The record that makes it a job; see `Intent`. A deadline counts from the time that setup may start.

        Args:
            launch: The engine's own form of the message that starts setup.
            not_before: When setup is to start at the earliest, by this machine's clock.
            expires_at: When it no longer makes sense to start, by this machine's clock.
            now: Gives the store's time, in which the record says all of that; asked only where it says something. This
                machine's time if not given.
        """
        deadline_s, here = self.options.deadline_s, time.time()
        is_timed = not (deadline_s is None and not_before is None and expires_at is None)
        now_s = now() if now is not None and is_timed else here
        not_before, expires_at = (None if at is None else at - here + now_s for at in (not_before, expires_at))
        return Intent(
            launch_id=new_token(),
            task=self.task.name,
            inline=self.parameters.inline,
            references=self.parameters.references,
            options=asdict(self.options),
            created_at=now_s,
            deadline_at=max(now_s, not_before or 0.0) + deadline_s if deadline_s is not None else None,
            kept=tuple(self.kept),
            receives=self.receives,
            not_before=not_before,
            expires_at=expires_at,
            launch=launch,
            combines=self.task.binding.combine is not None,
            routing=self.routing,
        )


def put_on_record(runtime: Runtime, job_id: str, intent: Intent) -> tuple[OpenJob, bool]:
    """Write a job's intent, and so make it a job. Launching the same one twice makes one.

    One request. A job whose caller stopped before all of its input was there is worth nothing to anybody: under its id
    another one can be launched.

    Args:
        runtime: The store; the job is at hand there afterwards.
        job_id: The id.
        intent: What it is to be.

    Returns:
        The job, and whether this made it; not so if the same job was launched before under this id.

    Raises:
        JobConflict: Another job was. Names what is different.
    """
    job = runtime.launch(job_id, intent)
    if job.launch_id != intent.launch_id and _is_spent(job):
        remove_job(runtime.store, job_id, job.launch_id)
        job = runtime.launch(job_id, intent)
    if job.launch_id == intent.launch_id:
        return job, True
    found = _differences(job.intent, intent)
    if found:
        raise JobConflict(job_id, found)
    return job, False


def _is_spent(job: OpenJob) -> bool:
    """Whether the job has ended before its caller had given it all of its input. Two requests for one with a stream."""
    return bool(job.intent.kept) and job.manifest() is None and job.ledger.has_outcome()


def has_begun(ledger: Ledger) -> bool:
    """Whether anybody has taken up a job that was launched. One request."""
    return next(iter(ledger.objects()), None) is not None


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
