"""A validated input that is about to become a job, whichever engine runs it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from storage import ObjectStore, Unencodable

from ..config.settings import Config, Options
from ..declaration.definition import Declaration
from ..errors import InvalidInput
from ..memory import estimate_memory
from ..records.ids import new_token
from ..records.models import Intent
from ..records.parameters import Parameters
from ..records.tags import check_tags
from .input_values import check_receiver, check_stream_readers, is_stream, prepare_values


@dataclass(frozen=True, slots=True)
class Submission:
    """A validated input that is about to become a job.

    Attributes:
        task: The task.
        parameters: Its parameters. The large ones are in the store.
        options: The job's options.
        caller_parameters: Parameters that stay in this process, for a setup that runs here. They are streams, whose
            elements are checked as setup reads them, and with `setup_in_caller` all parameters that only setup
            declares.
        receives: Name of the parameter that receives the value of the previous step of a chain.
        routing: The engine's options for every message of the job.
        tags: Names and values by which the job is found again.
    """

    task: Declaration
    parameters: Parameters
    options: Options
    caller_parameters: dict[str, Any]
    receives: str | None = None
    routing: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

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
        tags: Mapping[str, str] | None = None,
    ) -> Submission:
        """Validate an input, then store its large values. Stores nothing if it refuses anything.

        Raises:
            InvalidInput: Lists the path and the reason of every refused field.
            ConfigError: An option is unknown or out of range, or a tag can't be one.
            MemoryLimitExceeded: The parameters alone take more memory in a process than the job may.
            Unencodable: A value cannot be stored.
        """
        job_options, job_tags = task.options.replace(options), check_tags(tags or {})
        if not isinstance(values, Mapping):
            raise InvalidInput(task.name, {"input": [f"must be a mapping of parameters, not {type(values).__name__}"]})
        stays_here = frozenset(task.binding.setup_only(values)) if setup_in_caller else frozenset[str]()
        prepared = prepare_values(task, values, stays_here=stays_here)
        streams = [name for name, value in prepared.items() if is_stream(value)]
        prepared |= {name: iter(prepared[name]) for name in streams}
        if streams and not may_stream:
            reason = "is a stream, which a signature can't carry: use submit, or pass a list"
            raise InvalidInput(task.name, {name: [reason] for name in streams})
        if receives is None:
            check_stream_readers(task, streams)
            document = task.validate(prepared, streams=streams)
        else:
            check_receiver(task, prepared, receives)
            # Not normalised here: `complete` does that once, with the value that is still to come.
            task.refuse_early(prepared, absent=receives)
            document = prepared
        streamed = {name: document.pop(name) for name in streams if name in document}
        caller_parameters = (
            {name: document.pop(name) for name in task.binding.setup_only(document)} if setup_in_caller else {}
        )
        caller_parameters |= {name: stream for name, stream in streamed.items() if name in task.schema.fields}
        try:
            parameters = Parameters.write(
                document,
                store,
                inline_bytes=inline_bytes,
                compression=job_options.compression,
                check=partial(_check_memory, task, job_options),
            )
        except Unencodable as error:
            explained = None if receives is None else _explain_no_coercion(task, error)
            if explained is None:
                raise
            raise explained from error
        return cls(task, parameters, job_options, caller_parameters, receives, tags=job_tags)

    def complete(self, received: Any, *, store: ObjectStore, inline_bytes: int) -> Submission:
        """Return the submission with the previous step's value, validated as a whole. Two requests per large value.

        Args:
            received: The value of the previous step of the chain.
            store: The store of the parameters.
            inline_bytes: Largest size of the values that need no object of their own.

        Raises:
            InvalidInput: Lists the path and the reason of every refused field.
            Unencodable: A value cannot be stored.
        """
        assert self.receives is not None
        values = self.parameters.load(sorted(self.parameters.names()), store)
        values = prepare_values(self.task, {**values, self.receives: received})
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
        """Make the record that creates the job; see `Intent`. A deadline counts from the earliest start of setup.

        Args:
            launch: The message that starts setup, in the engine's own form.
            not_before: Earliest start of setup, by this machine's clock.
            expires_at: Latest start of setup, by this machine's clock.
            now: Returns the store's time, which the record's times are given in. Called only if the record has such a
                time. If not given, this machine's time.
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
            options=_record_options(self.options),
            created_at=now_s,
            deadline_at=max(now_s, not_before or 0.0) + deadline_s if deadline_s is not None else None,
            caller_parameters=tuple(self.caller_parameters),
            receives=self.receives,
            not_before=not_before,
            expires_at=expires_at,
            launch=launch,
            combines=self.task.binding.combine is not None,
            routing=self.routing,
            tags=self.tags,
        )


def _record_options(options: Options) -> dict[str, Any]:
    """Return the options as the intent records them. A limit that is not set is left out, as by earlier versions."""
    return {name: value for name, value in asdict(options).items() if (name, value) != ("memory_limit_bytes", None)}


def _check_memory(task: Declaration, options: Options, parameter_bytes: Mapping[str, int]) -> None:
    """Check the memory that parameters take in each process, before anything is stored."""
    if options.memory_limit_bytes is not None:
        memory = estimate_memory(task.binding, Config(store="-"), parameter_bytes)
        memory.check(task.name, options.memory_limit_bytes)


def _explain_no_coercion(task: Declaration, error: Unencodable) -> Unencodable | None:
    """Return an error that says why the value was not coerced. None if its field has no `coerce` rule."""
    if not task.schema.coerces(re.split(r"[.\[]", error.path)[0]):
        return None
    remedy = "A chain's input is coerced once it is complete, so this value is stored as it is: pass "
    return Unencodable(error.args[0], path=error.path, remedy=f"{remedy}what `coerce` makes of it.")
