"""One message on its way to a worker process of a cluster, with all that the process needs to run it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ...config.settings import Config, from_environment
from ...errors import ConfigError
from ..stage_messages import Message

SETTINGS = frozenset({"inline_bytes", "pack_bytes", "upload_concurrency", "stall_s", "retention_s"})
"""Settings that an engine may give to its workers. Each worker takes the others from its own environment."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The store of an engine's jobs, and the settings that differ from those of a worker's environment.

    Attributes:
        store: URL of the store, which callers and workers reach.
        changes: Names and values, sorted by name.
    """

    store: str
    changes: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, store: str, settings: Mapping[str, Any]) -> EngineSettings:
        """Return the settings of an engine, checked.

        Raises:
            ConfigError: A setting is unknown or out of range, or belongs into the environment of the workers; or other
                processes don't see the store.
        """
        known = {setting.name for setting in fields(Config)}
        for name in sorted(settings):
            if name not in known:
                raise ConfigError(f"no such setting: {name}; an engine takes {', '.join(sorted(SETTINGS))}")
            if name not in SETTINGS:
                raise ConfigError(
                    f"{name} is no setting of this engine: set FANOUT_{name.upper()} in the environment of the workers"
                )
        if store.startswith("memory:"):
            raise ConfigError(f"store={store!r} is this process's own: name one that the cluster's workers reach")
        made = cls(store, tuple(sorted(settings.items())))
        made.read()
        return made

    def read(self) -> Config:
        """Return all settings: these, and those of this process's environment.

        Raises:
            ConfigError: A setting is out of range.
        """
        return Config.read({"store": self.store, **dict(self.changes)}, from_environment(os.environ))


@dataclass(frozen=True, slots=True)
class Call:
    """A message for a worker process that knows neither the store nor the task.

    Attributes:
        settings: The engine's.
        module: The module that declares the task; empty if the sender does not know it.
        task: Name of the task.
        message: The message.
    """

    settings: EngineSettings
    module: str
    task: str
    message: Message

    @property
    def name(self) -> str:
        """The name that the cluster's dashboard shows: task and step."""
        return f"{self.task}.{self.message.step}"

    def redeliver(self) -> Call:
        """Return the call as it is made after the death of a worker."""
        return replace(self, message=self.message.redeliver())
