"""Settings of a process, such as the store, and options of a task or call, such as the size of chunks.

A setting comes from the first of three sources that has it: the call of `connect`, the Celery app's configuration
(`app.conf.fanout_store`), the environment (`FANOUT_STORE`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from storage import COMPRESSIONS, Compression, Keyring, KeySource

from ..errors import ConfigError
from ..redaction import remember
from .checks import check_count, check_flag, check_positive
from .policy import Policy, Share

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

CONSUMER_TIMEOUT_S = 30 * 60
"""RabbitMQ's `consumer_timeout`: it closes the channel of a consumer that acknowledges a message later than this."""

RECOMMENDED: dict[str, Any] = {
    "worker_prefetch_multiplier": 1,
    "broker_transport_options": {"confirm_publish": True},
    "broker_channel_error_retry": True,
    "accept_content": ["json"],
    "task_time_limit": CONSUMER_TIMEOUT_S - 5 * 60,
}
"""Celery settings for RabbitMQ, for `app.conf.update`.

fanout's own Celery tasks set the rest themselves: late acknowledgement, rejection when a worker is lost, JSON, and no
results of process steps.
"""


def _read_roots(raw: Any) -> tuple[str, ...]:
    roots = [root.strip() for root in raw.split(",")] if isinstance(raw, str) else [os.fspath(root) for root in raw]
    return tuple(root for root in roots if root)


def _read_mapping(raw: Any) -> Mapping[str, Any]:
    mapping = json.loads(raw) if isinstance(raw, str) else raw
    if not isinstance(mapping, Mapping):
        raise TypeError
    return mapping


def _read_key_source(raw: Any) -> KeySource:
    return raw if callable(raw) else _read_mapping(raw)


_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _read_truth(raw: Any) -> bool:
    return raw if isinstance(raw, bool) else _TRUTHS[str(raw).lower()]


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "str": str,
    "bool": _read_truth,
    "int": int,
    "float": float,
    "tuple[str, ...]": _read_roots,
    "Mapping[str, Any]": _read_mapping,
    "KeySource": _read_key_source,
}
_SECRET = frozenset({"external_endpoints", "signing_keys", "encryption_keys"})
"""Settings whose value no message repeats."""

_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")
SHORTEST_SECRET = 32
"""Characters that a secret of `signing_keys` must have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of one process. The workers and callers of a job must agree on `store`.

    Attributes:
        store: URL of the object store: `s3://bucket/prefix`, `az://container/prefix`, `gs://bucket/prefix`,
            `file:///directory` or `memory://name`.
        inline_bytes: Largest encoded size of a parameter that a message carries. A larger one goes to the store.
        pack_bytes: Size at which setup uploads a pack. Setup holds about `pack_bytes × (upload_concurrency + 1)` and
            one chunk in memory.
        upload_concurrency: Packs that setup uploads at the same time.
        stall_s: Seconds without progress after which a sweep resends a job's messages; doubled by each resend.
        retention_s: Seconds from a job's outcome until a sweep removes its objects.
        sweep_every_s: Seconds from one sweep by `celery beat` to the next; None for none.
        publish_timeout_s: Seconds for which a publisher retries a message that the broker does not take.
        max_message_bytes: Largest message for a task of fanout's that a worker takes. A compressed message of the app's
            other tasks may expand to four times that.
        source_roots: URLs or paths of folders. Steps read external objects below them, and no others. Write
            `name=s3://bucket/folder` for a named endpoint. In the environment: separated by commas.
        sink_roots: The same for writing.
        external_endpoints: Name of an endpoint -> its `endpoint_url`, and if need be its `region`, `access_key_id`,
            `secret_access_key` and `session_token`. Without keys those of the environment are used. In the
            environment: a JSON object.
        signing_keys: Id of a key -> its secret, of 32 characters or more. Senders sign messages with the first one;
            workers know all of them. In the environment: a JSON object.
        require_signatures: Whether workers drop messages without a valid signature.
        signature_max_age_s: Seconds after which a signature expires; None for never. A sweep sends the messages of a
            stalled job anew, with new signatures.
        encryption_keys: Id of a key -> the key, of 32 bytes or their base64. Objects are sealed with the first one and
            opened with all of them. Or a function; see `storage.KeySource`. In the environment: a JSON object.
        require_encryption: Whether an object that is not sealed is refused.
    """

    store: str
    inline_bytes: int = 4 * KIB
    pack_bytes: int = 8 * MIB
    upload_concurrency: int = 4
    stall_s: float = 60.0
    retention_s: float = 7 * 24 * 3600.0
    sweep_every_s: float | None = None
    publish_timeout_s: float = 60.0
    max_message_bytes: int = 16 * MIB
    source_roots: tuple[str, ...] = ()
    sink_roots: tuple[str, ...] = ()
    external_endpoints: Mapping[str, Any] = field(default_factory=dict, repr=False)
    signing_keys: Mapping[str, Any] = field(default_factory=dict, repr=False)
    require_signatures: bool = False
    signature_max_age_s: float | None = None
    encryption_keys: KeySource = field(default_factory=dict, repr=False)
    require_encryption: bool = False

    def __post_init__(self) -> None:
        for name in ("source_roots", "sink_roots"):
            if not isinstance(getattr(self, name), tuple):
                raise ConfigError(f"{name} must be a tuple of URLs or paths, not {getattr(self, name)!r:.80}")
        _check_each(check_count, self, "pack_bytes", "upload_concurrency", "max_message_bytes")
        _check_each(
            check_positive, self, "stall_s", "retention_s", "sweep_every_s", "publish_timeout_s", "signature_max_age_s"
        )
        check_count("inline_bytes", self.inline_bytes, least=0)
        _check_each(check_flag, self, "require_signatures", "require_encryption")
        _check_mappings(self)
        _check_signing_keys(self.signing_keys, required=self.require_signatures)
        _check_encryption_keys(self.encryption_keys, required=self.require_encryption)
        sealing_keys = self.encryption_keys.values() if isinstance(self.encryption_keys, Mapping) else ()
        remember([*self.signing_keys.values(), *sealing_keys, self.external_endpoints])

    @classmethod
    def read(cls, *sources: Mapping[str, Any]) -> Config:
        """Read the settings from several sources.

        Args:
            sources: Field -> value or None, in order of precedence.

        Raises:
            ConfigError: No source names a store, or a value is not a number in range.
        """
        settings: dict[str, Any] = {}
        for setting in fields(cls):
            raw = next((s[setting.name] for s in sources if s.get(setting.name) not in (None, "")), None)
            if raw is None:
                continue
            try:
                settings[setting.name] = _CONVERTERS[str(setting.type).removesuffix(" | None")](raw)
            except (LookupError, TypeError, ValueError) as error:
                if setting.name in _SECRET:
                    raise ConfigError(f"setting {setting.name}: it is not of type {setting.type}") from None
                raise ConfigError(f"setting {setting.name}: {raw!r} is not of type {setting.type}") from error
        if "store" not in settings:
            raise ConfigError(
                "no object store is configured: call fanout.connect(app, store='s3://bucket/prefix'), "
                "set app.conf.fanout_store, or export FANOUT_STORE"
            )
        return cls(**settings)


def from_environment(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Return the settings in `FANOUT_…` variables, by field name."""
    return {field.name: environ.get(f"FANOUT_{field.name.upper()}") for field in fields(Config)}


def from_celery(conf: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a Celery app's configuration has as `fanout_…`, by field name."""
    return {field.name: conf.get(f"fanout_{field.name}") for field in fields(Config)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of a job: its chunks, attempts, failures and deadline. Set on the task class, or for one call.

    Attributes:
        chunk_items: Items per chunk, exactly; the last chunk may have fewer. Without it and `chunk_count`, a chunk has
            one item, or more in a job of over 4,000 items: small and quick chunks share messages and objects.
        chunk_count: Number of chunks, as even as possible. Setup must return a sized collection.
        chunk_bytes: Size of its encoded items at which a chunk is closed.
        max_item_bytes: Largest encoded size of one item. Setup refuses a larger item, because a worker must hold it in
            full, and a store takes at most 5 GiB in one request.
        max_attempts: Attempts of a chunk, those that killed their worker included, after which the chunk fails.
        deadline_s: Seconds after launch at which the job fails if it has not ended; None for never.
        tolerate: Items that may fail without failing the job, as a count (`int`) or a fraction (`float`). Join gets a
            `FailedItem` in the place of each. Without it and `min_success`, the first failed chunk fails the job.
        min_success: Items that must succeed, instead of `tolerate`. Give one of the two.
        compression: "zstd" compresses parameters, chunks and results, each if that saves an eighth of it. It pays if
            the network between store and workers is slower than about 150 MB/s.
        memory_limit_bytes: Most bytes that the job's data may take in one process; None for no limit. A plan, a launch
            and setup refuse a job that would take more, and name the process.
    """

    chunk_items: int | None = None
    chunk_count: int | None = None
    chunk_bytes: int = 8 * MIB
    max_item_bytes: int = GIB
    max_attempts: int = 3
    deadline_s: float | None = None
    tolerate: Share | None = None
    min_success: Share | None = None
    compression: Compression = "none"
    memory_limit_bytes: int | None = None

    def __post_init__(self) -> None:
        _check_each(check_count, self, "chunk_items", "chunk_count", "max_attempts", "chunk_bytes", "max_item_bytes")
        _check_each(check_count, self, "memory_limit_bytes")
        _check_each(check_positive, self, "deadline_s")
        if self.compression not in COMPRESSIONS:
            raise ConfigError(f"compression must be one of {', '.join(COMPRESSIONS)}, not {self.compression!r}")
        if self.chunk_items is not None and self.chunk_count is not None:
            raise ConfigError("chunk_items and chunk_count both say how many chunks there are: give one of them")
        _ = self.policy

    @property
    def policy(self) -> Policy:
        """The number of items that may fail."""
        return Policy(self.tolerate, self.min_success)

    def replace(self, changes: Mapping[str, Any]) -> Options:
        """Return these options with some changed, by name.

        Raises:
            ConfigError: A name is no option, or a value is out of range.
        """
        known = {field.name for field in fields(self)}
        unknown = sorted(set(changes) - known)
        if unknown:
            raise ConfigError(f"no such option: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        return replace(self, **changes)


def _check_mappings(config: Config) -> None:
    """Check the form of the settings that hold secrets, without repeating them."""
    for name in ("external_endpoints", "signing_keys", "encryption_keys"):
        value = getattr(config, name)
        if not isinstance(value, Mapping) and not (name == "encryption_keys" and callable(value)):
            raise ConfigError(f"{name} must be a mapping by name, not a {type(value).__name__}")


def _check_signing_keys(keys: Mapping[str, Any], *, required: bool) -> None:
    if required and not keys:
        raise ConfigError("require_signatures needs signing_keys: without a key no message is ever valid")
    for name, secret in keys.items():
        if not isinstance(name, str) or not _KEY_ID.fullmatch(name):
            raise ConfigError(f"signing_keys: {name!r:.40} is no id: use 1 to 32 letters, digits, '.', '_' and '-'")
        if not isinstance(secret, str) or len(secret) < SHORTEST_SECRET:
            raise ConfigError(
                f"signing_keys: the secret of {name!r} must be a string of {SHORTEST_SECRET} characters or more, "
                "as from `python -c 'import secrets; print(secrets.token_urlsafe())'`"
            )


def _check_encryption_keys(keys: KeySource, *, required: bool) -> None:
    if not keys:
        if required:
            raise ConfigError("require_encryption needs encryption_keys: without a key no object could be read")
        return
    try:
        Keyring(keys)
    except ValueError as error:
        raise ConfigError(f"encryption_keys: {error}") from None


def _check_each(check: Callable[[str, Any], None], settings: Config | Options, *names: str) -> None:
    """Apply a check to each of some settings or options that is not None."""
    for name in names:
        value = getattr(settings, name)
        if value is not None:
            check(name, value)
