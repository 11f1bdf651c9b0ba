"""The engine that runs jobs on a cluster of Dask's."""

from __future__ import annotations

from typing import Any

from distributed import Client

from ...errors import ConfigError
from ..cluster.call import EngineSettings
from ..cluster.engine import ClusterEngine
from .dispatcher import DaskDispatcher


class DaskEngine(ClusterEngine):
    """An engine whose messages are tasks of Dask's.

    Setup, process, combine and join run on the workers, in batches as over Celery. A job survives:

    - the death of its caller: the scheduler keeps the tasks, and a task of its own sweeps while jobs are open;
    - the death of a worker: Dask makes its calls again, at most `distributed.scheduler.allowed-failures` times, and
      fanout counts an attempt of the chunk. Have that setting at least at `max_attempts`, as it is by default. A call
      that Dask gave up is sent again by a sweep.

    It does not survive the death of the scheduler by itself: all messages are lost, and the data is not. After a
    restart of the cluster, `resume` sends what is missing.

    Args:
        client: A client of the cluster, not an asynchronous one. The workers must be able to import fanout and the
            modules of the tasks. The engine does not close it.
        store: URL of the store of the jobs, which callers and workers reach. Use no store of a Celery app's: each
            engine sweeps all jobs of its store.
        **settings: `inline_bytes`, `pack_bytes`, `upload_concurrency`, `stall_s` or `retention_s` of `Config`, for
            callers and workers. All else each process has from its environment: `FANOUT_…`, credentials.

    Raises:
        ConfigError: A setting can't be one, the store is in memory, or the client is asynchronous.
    """

    def __init__(self, client: Client, *, store: str, **settings: Any) -> None:
        if client.asynchronous:
            raise ConfigError("the client is asynchronous: give a Client(…) without asynchronous=True")
        super().__init__(DaskDispatcher(EngineSettings.of(store, settings), client))
