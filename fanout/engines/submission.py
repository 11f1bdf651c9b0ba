"""How a job comes to be, whatever runs it: validated, its parameters stored, its intent written."""

from __future__ import annotations

import re
import time
from collections import UserString
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from storage import ObjectStore, Unencodable, decode, digest, is_registrable, travels

from ..config.settings import Config, Options
from ..declaration.definition import Declaration
from ..errors import InvalidInput, JobConflict
from ..records.failure import Failure
from ..records.keys import new_token
from ..records.ledger import Ledger, write_intent
from ..records.models import Intent
from ..records.parameters import Parameters
from ..runtime import CachedJob, Runtime

CALLER_STOPPED = "CallerStopped"
"""What an outcome calls a job whose caller stopped, and said so, while it set the job up."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A validated input on its way to become a job.

    Attributes:
        task: The task.
        parameters: Its parameters, the large ones in the store already.
        options: How the job is cut and tried.
        caller_parameters: Parameters that stay in this process, for a setup that runs here: streams, checked element by
            element
            as they are read, and with `setup_in_caller` whatever only setup declares.
        receives: Name of the parameter that an earlier step of a chain supplies.
        routing: The engine's own options of every message of the job.
    """

    task: Declaration
    parameters: Parameters
    options: Options
    caller_parameters: dict[str, Any]
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
        setup_in_caller: bool = False,
    ) -> Submission:
        """Validate, then store what is large. Nothing is stored if anything is refused.

        Raises:
            InvalidInput: Lists every field's path and reason.
            ConfigError: An option is unknown or out of range.
            Unencodable: A value can't travel.
        """
        chosen = task.options.replace(options)
        if not isinstance(values, Mapping):
            raise InvalidInput(task.name, {"input": [f"must be a mapping of parameters, not {type(values).__name__}"]})
        at_home = frozenset(task.binding.setup_only(values)) if setup_in_caller else frozenset[str]()
        given = carried(task, values, at_home=at_home)
        streams = [name for name, value in given.items() if is_stream(value)]
        given |= {name: iter(given[name]) for name in streams}
        if streams and not may_stream:
            raise InvalidInput(
                task.name,
                {
                    name: ["is a stream, which can't travel in a signature: use submit, or pass a list"]
                    for name in streams
                },
            )
        if receives is None:
            _check_readers(task, streams)
            document = task.validate(given, streams=streams)
        else:
            _check_receiver(task, given, receives)
            # As it was given: it is normalised once, with the value that is to come. See `completed`.
            task.refuse_early(given, absent=receives)
            document = given
        streamed = {name: document.pop(name) for name in streams if name in document}
        streamed = {name: stream for name, stream in streamed.items() if name in task.schema.fields}
        caller_parameters = (
            {name: document.pop(name) for name in task.binding.setup_only(document)} if setup_in_caller else {}
        )
        try:
            parameters = Parameters.write(document, store, inline_bytes=inline_bytes, compression=chosen.compression)
        except Unencodable as error:
            if receives is None or not task.schema.coerces(re.split(r"[.\[]", error.path)[0]):
                raise
            remedy = "Here it travels as it is given, since a chain's input is coerced when all of it is there: pass "
            raise Unencodable(error.args[0], path=error.path, remedy=f"{remedy}what `coerce` makes of it.") from error
        return cls(task, parameters, chosen, {**caller_parameters, **streamed}, receives)

    def completed(self, received: Any, *, store: ObjectStore, inline_bytes: int) -> Submission:
        """The order of a chain with the value of the step before, validated as a whole. Two requests a large value.

        Raises:
            InvalidInput: Lists every field's path and reason.
            Unencodable: A value can't travel.
        """
        assert self.receives is not None
        values = self.parameters.load(sorted(self.parameters.names()), store)
        values = carried(self.task, {**values, self.receives: received})
        document = self.task.validate(values)
        compression = self.options.compression
        parameters = Parameters.write(document, store, inline_bytes=inline_bytes, compression=compression)
        return replace(self, parameters=parameters, receives=None)

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
            caller_parameters=tuple(self.caller_parameters),
            receives=self.receives,
            not_before=not_before,
            expires_at=expires_at,
            launch=launch,
            combines=self.task.binding.combine is not None,
            routing=self.routing,
        )


def put_on_record(runtime: Runtime, job_id: str, intent: Intent) -> tuple[CachedJob, bool]:
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
        runtime.remove(job_id, job.launch_id)
        job = runtime.launch(job_id, intent)
    if job.launch_id == intent.launch_id:
        return job, True
    found = _differences(job.intent, intent)
    if found:
        raise JobConflict(job_id, found)
    return job, False


def _is_spent(job: CachedJob) -> bool:
    """Whether the job has ended because its caller did not see its launch through. Two requests, for a stream."""
    if not job.intent.caller_parameters:
        return False
    outcome = job.ledger.outcome()
    failure = Failure.read(outcome.failure) if outcome is not None else None
    return failure is not None and (failure.error == CALLER_STOPPED or job.manifest() is None)


def has_begun(ledger: Ledger) -> bool:
    """Whether anybody has taken up a job that was launched. One request."""
    return next(iter(ledger.objects()), None) is not None


def take_back(job: CachedJob) -> bool:
    """Undo the launch of a job whose message was not sent, unless somebody has taken it up. Three requests.

    A worker that has its message leaves something in the store before it reads the intent. So one that we do not see
    does not see the intent, and drops the message.

    Args:
        job: A job that this process has just put on record.

    Returns:
        Whether it is undone: the job is not on record, and never runs.
    """
    store = job.ledger.store
    if has_begun(job.ledger):
        return False
    store.delete([job.ledger.keys.intent])
    if has_begun(job.ledger):
        write_intent(store, job.id, job.intent)
        return False
    return True


def _differences(current: Intent, intent: Intent) -> list[str]:
    """What a launch wants otherwise than the job that stands; never a parameter's value."""
    if current.task != intent.task:
        return [f"its task is {current.task}, not {intent.task}"]
    found = []
    there, wanted = _contents(current), _contents(intent)
    for name in sorted(there.keys() | wanted.keys()):
        if there.get(name) != wanted.get(name):
            found.append(f"its parameter {name!r} is another")
    for name in sorted(set(current.caller_parameters) ^ set(intent.caller_parameters)):
        found.append(
            f"its parameter {name!r} is {'' if name in current.caller_parameters else 'not '}kept by the caller"
        )
    there_options, wanted_options = (asdict(Options().replace(entry.options)) for entry in (current, intent))
    for name, value in wanted_options.items():
        known = there_options[name]
        if (type(known), known) != (type(value), value):
            found.append(f"its option {name} is {known!r}, not {value!r}")
    return found


def _contents(intent: Intent) -> dict[str, str]:
    """Digest of each parameter, wherever it lies."""
    inline: dict[str, bytes] = decode(intent.inline)
    return {name: digest(body) for name, body in inline.items()} | dict(intent.references)


_BUILT_IN = (str, bytes, bytearray, dict, tuple, set, frozenset, UserString, Mapping)
"""What may be made of a value of a class that does not travel, the likeliest first."""


def is_stream(value: Any) -> bool:
    """Whether a value is read once, by setup: an iterator, a generator or an open file. A container is a value."""
    if isinstance(value, Iterator):
        return True
    # A temporary file is wrapped in what is no iterator.
    return isinstance(value, Iterable) and all(callable(getattr(value, name, None)) for name in ("readline", "close"))


def carried(task: Declaration, values: Mapping[str, Any], *, at_home: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Values in the form in which they reach a step: views as what they show, all else as it is.

    Args:
        task: The task.
        values: Its input.
        at_home: Those that stay in this process.

    Raises:
        Unencodable: A value can be iterated over, and is neither an iterator nor of a class that travels.
    """
    given: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, memoryview):
            given[name] = value.tobytes()
        elif isinstance(value, KeysView | ValuesView | ItemsView):
            given[name] = list(value)
        else:
            given[name] = value
            if not (name in at_home or is_stream(value) or travels(type(value)) or task.schema.coerces(name)):
                _refuse_container(name, value)
    return given


def _refuse_container(name: str, value: Any) -> None:
    of = type(value)
    # Python iterates over what has these two as well.
    if not (isinstance(value, Iterable) or (hasattr(of, "__getitem__") and hasattr(of, "__len__"))):
        return
    plain = next((base.__name__ for base in _BUILT_IN if isinstance(value, base)), "list")
    plain = {"Mapping": "dict", "UserString": "str"}.get(plain, plain)
    remedy = f"Pass {plain}(x), or iter(x) to stream its elements"
    if is_registrable(of):
        remedy += f", or register its class: types = ({of.__name__},) on the task"
    raise Unencodable(
        f"{name} is a {of.__module__}.{of.__qualname__}, which cannot travel as a value",
        path=str(name),
        remedy=f"{remedy}.",
    )


def _check_readers(task: Declaration, streams: Iterable[str]) -> None:
    """Refuse streams that another step than setup would have to read."""
    binding = task.binding
    for name in streams:
        for step in (binding.process, binding.combine, binding.join):
            if step is not None and name in binding.parameters_for(step) and not step.takes_any:
                raise InvalidInput(
                    task.name,
                    {name: [f"is a stream, which only setup can read, but {step.name} declares it too"]},
                )


def _check_receiver(task: Declaration, values: Mapping[str, Any], receives: str) -> None:
    if receives in values:
        raise InvalidInput(
            task.name,
            {receives: ["is given here, and named as what receives the value of the step before: do one of them"]},
        )
    if receives not in task.schema.fields:
        raise InvalidInput(task.name, {receives: ["unknown field, so it can't receive the value of the step before"]})


def local_config() -> Config:
    """Settings of a job that never leaves this machine: nothing is worth a message's limit."""
    return Config(store="memory://", inline_bytes=64 * 1024)
