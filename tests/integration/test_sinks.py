"""A sink in a bucket, written by real workers that are killed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs
import pytest

from devstack import CephGateway, RabbitMQ
from fanout import JobFailed, sinks
from storage import UploadStore, open_uploads

from .app import WriteTask
from .cluster import Cluster, running_cluster

NUMBERS = list(range(8))
SCHEMA = pa.schema({"number": pa.int64(), "row": pa.int64()})
BUCKET = f"bucket-{uuid.uuid4().hex[:12]}"
URL = f"s3://{BUCKET}/lake/numbers"


@pytest.fixture
def cluster(rabbitmq: RabbitMQ, ceph_gateway: CephGateway, tmp_path: Path) -> Iterator[Cluster]:
    """RabbitMQ, no result backend, Ceph's gateway, and three workers that may write below `lake/`."""
    environment = {
        **ceph_gateway.environment,
        "TEST_BROKER": rabbitmq.url,
        "TEST_BACKEND": "",
        "FANOUT_STORE": f"s3://{BUCKET}/jobs",
        "FANOUT_SINK_ROOTS": f"s3://{BUCKET}/lake",
    }
    with running_cluster(tmp_path, environment, workers=3, concurrency=1, stall_s=5) as cluster:
        yield cluster


def names_in(store: UploadStore) -> list[str]:
    return [info.key for info in store.list("lake/numbers/") if "/_" not in info.key]


def test_readers_see_a_job_once_although_workers_are_killed(cluster: Cluster, ceph_gateway: CephGateway) -> None:
    """With a kill after a write and another after the commit, a reader sees each row once, and nothing before."""
    store = open_uploads(BUCKET)
    inputs = {"numbers": NUMBERS, "trace": str(cluster.trace), "pause_s": 0.4}
    job = WriteTask.submit({**inputs, "out": sinks.parquet(URL, schema=SCHEMA)}, app=cluster.app)
    cluster.find_worker(cluster.wait_for_pid("written-3")).kill()
    assert names_in(store) == []
    cluster.find_worker(cluster.wait_for_pid("committed")).kill()
    published = job.get(timeout=120)
    assert (published.objects, published.rows) == (8, 8_000)
    assert len(cluster.runs("committed")) == 2
    assert len(cluster.runs("written-*")) > 8
    listed = sinks.published(URL)
    assert listed is not None
    assert [entry.url for entry in listed] == [f"s3://{BUCKET}/{name}" for name in names_in(store)]
    assert [*store.list_uploads("lake/")] == []
    environment = ceph_gateway.environment
    files = pyarrow.fs.S3FileSystem(
        access_key=environment["AWS_ACCESS_KEY_ID"],
        secret_key=environment["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=environment["AWS_ENDPOINT_URL_S3"],
        region="us-east-1",
    )
    table = ds.dataset(f"{BUCKET}/lake/numbers", filesystem=files, format="parquet").to_table()
    assert table.num_rows == 8_000
    assert table.column("number").to_pylist() == [number for number in NUMBERS for _ in range(1000)]

    elsewhere = sinks.jsonl(f"s3://{BUCKET}/jobs")
    with pytest.raises(JobFailed, match=f"NotAllowed.*sink_roots is s3://{BUCKET}/lake"):
        WriteTask.submit({**inputs, "out": elsewhere}, app=cluster.app, max_attempts=1).get(timeout=60)
