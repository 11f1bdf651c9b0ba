"""Settings: where the data goes (per process) and how a job is cut and tried (per task or call).

A setting is read, first found first taken, from what the code says, from the Celery app's configuration
(`app.conf.fanout_store`) and from the environment (`FANOUT_STORE`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from storage import COMPRESSIONS, Compression

from ..errors import ConfigError
from .policy import Policy, Share

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

CONSUMER_TIMEOUT_S = 30 * 60
"""RabbitMQ closes the channel of a consumer that has not acknowledged a message for this long."""

RECOMMENDED: dict[str, Any] = {
    "worker_prefetch_multiplier": 1,
    "broker_transport_options": {"confirm_publish": True},
    "broker_channel_error_retry": True,
    "accept_content": ["json"],
    "task_time_limit": CONSUMER_TIMEOUT_S - 5 * 60,
}
"""Celery settings for RabbitMQ, for `app.conf.update`. What fork-join tasks need of their own (late acknowledgement,
rejection when a worker is lost, JSON, no results of process steps) they set themselves."""


_KINDS: dict[str, Callable[[Any], Any]] = {"str": str, "int": int, "float": float}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of one process; the workers and the callers of a job must agree on `store`.

    Attributes:
        store: URL of the object store: `s3://bucket/prefix`, `file:///directory` or `memory://name`.
        inline_bytes: A parameter whose encoded form is larger goes to the store and never into a message.
        pack_bytes: Size at which setup uploads a pack. Setup holds about `pack_bytes × (upload_concurrency + 1)` plus
            one chunk.
        upload_concurrency: Packs that setup uploads at the same time.
        stall_s: Seconds without progress after which a sweep moves a job; doubled after each time.
        retention_s: Seconds after its outcome at which a sweep removes a job's objects.
        sweep_every_s: Seconds from one sweep by `celery beat` to the next; None for none.
        publish_timeout_s: Seconds for which a message is offered to a broker that does not take it.
    """

    store: str
    inline_bytes: int = 4 * KIB
    pack_bytes: int = 8 * MIB
    upload_concurrency: int = 4
    stall_s: float = 60.0
    retention_s: float = 7 * 24 * 3600.0
    sweep_every_s: float | None = None
    publish_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        _counts(self, "pack_bytes", "upload_concurrency")
        _positive(self, "stall_s", "retention_s", "sweep_every_s", "publish_timeout_s")

    @classmethod
    def read(cls, *sources: Mapping[str, Any]) -> Config:
        """Settings from mappings in order of precedence; each maps a field's name to its value or None.

        Raises:
            ConfigError: No source names a store, or a value is not a number in range.
        """
        found: dict[str, Any] = {}
        for field in fields(cls):
            raw = next((s[field.name] for s in sources if s.get(field.name) not in (None, "")), None)
            if raw is None:
                continue
            try:
                found[field.name] = _KINDS[str(field.type).removesuffix(" | None")](raw)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"setting {field.name}: {raw!r} is not of type {field.type}") from error
        if "store" not in found:
            raise ConfigError(
                "no object store is configured: call fanout.connect(app, store='s3://bucket/prefix'), "
                "set app.conf.fanout_store, or export FANOUT_STORE"
            )
        return cls(**found)


def from_environment(environ: Mapping[str, str]) -> dict[str, str | None]:
    """The settings that `FANOUT_…` variables give, by field name."""
    return {field.name: environ.get(f"FANOUT_{field.name.upper()}") for field in fields(Config)}


def from_celery(conf: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a Celery app's configuration gives as `fanout_…`, by field name."""
    return {field.name: conf.get(f"fanout_{field.name}") for field in fields(Config)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a job is cut into chunks and tried. Set on the task class, or for one call.

    Attributes:
        chunk_items: Items a chunk, exactly (the last one may have fewer).
        chunk_count: Number of chunks, as even as can be; `setup` must return a sized collection.
        chunk_bytes: A chunk is closed when its encoded items reach this size.
        max_item_bytes: Largest encoded form of one item; setup refuses a larger one, since its worker could hold it
            only in
            full, and a store takes at most 5 GiB in one request.
        parallelism: Workers to plan for when neither of the first two is given: about 4 chunks a worker.
        max_attempts: Tries of a chunk, kills of its worker included, after which it counts as failed.
        deadline_s: Seconds after launch at which the job fails if it has not ended; None for never.
        tolerate: Items that may fail without failing the job: a count (`int`) or a fraction (`float`). Then join is
            given a `FailedItem` in the place of each. None, and no `min_success`: the first failed chunk fails the job.
        min_success: The same said the other way: items that must succeed. Give one of the two.
        compression: "zstd" compresses parameters, chunks and results, each where that saves an eighth. It is worth
            it where store and workers are apart by a network of less than about 150 MB/s.
    """

    chunk_items: int | None = None
    chunk_count: int | None = None
    chunk_bytes: int = 8 * MIB
    max_item_bytes: int = GIB
    parallelism: int = 32
    max_attempts: int = 3
    deadline_s: float | None = None
    tolerate: Share | None = None
    min_success: Share | None = None
    compression: Compression = "none"

    def __post_init__(self) -> None:
        _counts(self, "chunk_items", "chunk_count", "chunk_bytes", "max_item_bytes", "parallelism", "max_attempts")
        _positive(self, "deadline_s")
        if self.compression not in COMPRESSIONS:
            raise ConfigError(f"compression must be one of {', '.join(COMPRESSIONS)}, not {self.compression!r}")
        if self.chunk_items is not None and self.chunk_count is not None:
            raise ConfigError("chunk_items and chunk_count both say how many chunks there are: give one of them")
        _ = self.policy

    @property
    def policy(self) -> Policy:
        """How many items may fail."""
        return Policy(self.tolerate, self.min_success)

    def updated(self, changes: Mapping[str, Any]) -> Options:
        """These options with `changes` by name.

        Raises:
            ConfigError: A name that is no option, or a value out of range.
        """
        known = {field.name for field in fields(self)}
        unknown = sorted(set(changes) - known)
        if unknown:
            raise ConfigError(f"no such option: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        return replace(self, **changes)


def _counts(settings: Config | Options, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and (type(value) is not int or value < 1):
            raise ConfigError(f"{name} must be a whole number from 1, not {value!r}")


def _positive(settings: Config | Options, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ConfigError(f"{name} must be a number over 0, not {value!r}")
