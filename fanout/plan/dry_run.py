"""Setup in this process, whose items are counted, encoded and forgotten. Nothing is sent or stored."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from storage import Body, MemoryStore, ObjectStore, decode

from ..config.settings import Config
from ..declaration.definition import Declaration
from ..engines.job_creation import create_job
from ..engines.submission import Submission
from ..external.access import Access
from ..records.chunk_ref import ChunkRef
from ..records.ids import new_id
from ..records.keys import GROUP_WIDTH, parameter_key
from ..records.models import Intent, Manifest
from ..records.parameters import Parameters
from ..runtime import Runtime
from ..stages import run_setup
from ..telemetry import NoTelemetry
from .shape import Shape


class _EnoughItems(BaseException):
    """The signal that setup has yielded as many items, or run for as long, as a dry run waits for."""


class _ForgetfulStore(MemoryStore):
    """A store that keeps the parameters and records of a job, and of packs and index shards only their number."""

    def __init__(self) -> None:
        super().__init__()
        self.packs = 0
        self.has_manifest = False

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        if "/input/" in key:
            self.packs += "/index/" not in key
            return
        self.has_manifest |= key.endswith("/manifest")
        super().put(key, body, if_absent=if_absent)


class _Recorder:
    """A dispatcher that measures messages instead of sending them.

    Args:
        store: The store of the dry run.
        limit_items: Number of items after which setup is stopped.
        limit_s: Seconds after which setup is stopped.
    """

    batch_chunks = GROUP_WIDTH

    def __init__(self, store: _ForgetfulStore, limit_items: int, limit_s: float) -> None:
        self._store = store
        self._limit_items = limit_items
        self._ends_at = time.monotonic() + limit_s
        self.messages: Counter[int] = Counter()
        self.chunks = self.items = self.input_bytes = self.slice_bytes = self.slice_items = 0
        self.sends_last = True
        """Whether no message was sent before the manifest."""

    def send_setup(self, job_id: str, intent: Intent, *, generation: int = 0, resent: bool = False) -> None:
        """Do nothing: setup runs already."""

    def send_join(
        self, job_id: str, intent: Intent, continuation: str | None, *, resent: bool, generation: int = 0
    ) -> None:
        """Do nothing: no chunk runs."""

    def send_chunks(self, intent: Intent, refs: Sequence[ChunkRef]) -> None:
        """Measure the messages.

        Raises:
            _EnoughItems: A limit is reached.
        """
        self.sends_last &= self._store.has_manifest
        for ref in refs:
            items, length = sum(ref.location.sizes), ref.location.slice_.length
            self.messages[ref.count] += 1
            self.chunks += ref.count
            self.items += items
            self.input_bytes += length
            self.slice_bytes = max(self.slice_bytes, length)
            self.slice_items = max(self.slice_items, items)
        if not self._store.has_manifest and (self.items >= self._limit_items or time.monotonic() >= self._ends_at):
            raise _EnoughItems

    def to_shape(self, submission: Submission, manifest: Manifest | None, *, setup_s: float) -> Shape:
        """Return the shape of the job whose messages were sent.

        Without a manifest setup was stopped, and no item counts as one that refers to a parameter.
        """
        parameters = submission.parameters
        referenced_bytes = manifest.input_bytes - self.input_bytes if manifest is not None else 0
        return Shape(
            items=self.items,
            chunks=self.chunks,
            messages=dict(self.messages),
            input_bytes=self.input_bytes + referenced_bytes,
            referenced_bytes=referenced_bytes,
            # A message refers to about as much as another one.
            slice_bytes=self.slice_bytes + referenced_bytes // max(1, self.messages.total()),
            slice_items=self.slice_items,
            packs=self._store.packs,
            sends_last=self.sends_last,
            setup_s=setup_s,
            is_partial=manifest is None,
            parameter_bytes=_sizes(parameters, self._store),
            large_parameters=tuple(parameters.references),
        )


def _sizes(parameters: Parameters, store: ObjectStore) -> dict[str, int]:
    inline: dict[str, bytes] = decode(parameters.inline)
    large = {name: store.head(parameter_key(content)).size for name, content in parameters.references.items()}
    return {name: len(body) for name, body in inline.items()} | large


def run_dry(
    task: Declaration,
    values: Mapping[str, Any],
    config: Config,
    *,
    options: Mapping[str, Any],
    limit_items: int,
    limit_s: float,
) -> Shape:
    """Run setup as a launch would, and return the shape of the job. Uses up the streams among `values`.

    Memory: the parameters, and that of setup.

    Args:
        task: The task.
        values: The input by name.
        config: Settings.
        options: Changes to the task's options.
        limit_items: Number of items after which setup is stopped, at the next pack.
        limit_s: Seconds after which setup is stopped, at the next pack.

    Raises:
        InvalidInput: The input does not fit the schema.
        JobFailed: Setup raised; the exception is the `__cause__`.
    """
    store, errors = _ForgetfulStore(), list[BaseException]()
    recorder = _Recorder(store, limit_items, limit_s)
    runtime = Runtime(
        store,
        config,
        recorder,
        on_error=errors.append,
        is_stop=lambda error: isinstance(error, KeyboardInterrupt | _EnoughItems),
        access=Access.of_caller(),
        telemetry=NoTelemetry(),
    )
    submission = Submission.of(
        task, values, store=store, inline_bytes=config.inline_bytes, options={**options, "memory_limit_bytes": None}
    )
    job, _ = create_job(runtime, new_id(), submission.intent())
    began_s = time.monotonic()
    with suppress(_EnoughItems):
        run_setup(runtime, job.id, launch_id=job.launch_id, caller_parameters=submission.caller_parameters, fresh=True)
    setup_s = time.monotonic() - began_s
    outcome = job.ledger.outcome()
    if outcome is not None and outcome.failure is not None:
        raise outcome.error(job.id) from (errors[0] if errors else None)
    return recorder.to_shape(submission, job.manifest(), setup_s=setup_s)
