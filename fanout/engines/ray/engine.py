"""The engine that runs jobs on a cluster of Ray's."""

from __future__ import annotations

from typing import Any

import ray

from ...errors import ConfigError
from ..cluster.call import EngineSettings
from ..cluster.engine import ClusterEngine
from .dispatcher import RayDispatcher


class RayEngine(ClusterEngine):
    """An engine whose messages are tasks of Ray's.

    Setup, process, combine and join run on the nodes, in batches as over Celery. A detached actor per store, which
    takes no processor, owns the tasks and sweeps. It ends when no job is open. A job survives:

    - the death of its caller, unless that has started the cluster by `ray.init()` and takes it along;
    - the death of a worker or a node: the actor makes its calls again, and fanout counts an attempt of the chunk;
    - the death of the actor: Ray restarts it, and its first sweep, after half of `stall_s`, sees what is missing.

    It does not survive the death of the head node by itself, unless Ray's own state is stored outside: all messages
    are lost, and the data is not. After a restart of the cluster, `resume` sends what is missing.

    Args:
        store: URL of the store of the jobs, which callers and workers reach. Use no store of a Celery app's: each
            engine sweeps all jobs of its store.
        **settings: `inline_bytes`, `pack_bytes`, `upload_concurrency`, `stall_s` or `retention_s` of `Config`, for
            callers and workers. All else each process has from its environment: `FANOUT_…`, credentials.

    Raises:
        ConfigError: A setting can't be one, the store is in memory, or this process is not connected to Ray.
    """

    def __init__(self, *, store: str, **settings: Any) -> None:
        if not ray.is_initialized():
            raise ConfigError('this process is not connected to Ray: call ray.init("auto"), or ray.init() to start one')
        super().__init__(RayDispatcher(EngineSettings.of(store, settings)))
