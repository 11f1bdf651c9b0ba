"""The messages of Dask's client to its scheduler, of which each call needs two."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from .tasks import Numbers

distributed = pytest.importorskip("distributed", reason="distributed is missing: pip install 'fanout[dask]'")


def test_the_scheduler_learns_of_a_call_and_to_keep_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are in one message: a call that ends the sender's process at once is not forgotten with it."""
    from fanout.engines.dask import DaskEngine, dispatcher

    def keep_slowly(futures: Any) -> None:
        time.sleep(0.1)
        distributed.fire_and_forget(futures)

    monkeypatch.setattr(dispatcher, "fire_and_forget", keep_slowly)

    sent: list[list[dict[str, Any]]] = []
    with distributed.Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
        comm = client.scheduler_comm.comm
        write = comm.write

        async def record(payload: list[dict[str, Any]], **options: Any) -> Any:
            sent.append([dict(message) for message in payload])
            return await write(payload, **options)

        comm.write = record
        job = Numbers.submit({"numbers": [1]}, engine=DaskEngine(client, store=tmp_path.as_uri()))
        assert job.get(30) == [1]
        comm.write = write
    for payload in sent:
        graphs = [message for message in payload if message["op"] == "update-graph"]
        kept = [message for message in payload if message.get("client") == "fire-and-forget"]
        assert len(graphs) == len(kept)
    assert any(message["op"] == "update-graph" for payload in sent for message in payload)
