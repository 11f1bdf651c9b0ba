"""Jobs whose workers read their input in the bucket where it lies."""

from __future__ import annotations

import gzip
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest

from devstack import CephGateway, RabbitMQ
from fanout import JobFailed, sources
from storage import create_bucket, open_store

from .app import CountWordsInPlaceTask
from .cluster import Cluster, running_cluster

BUCKET = f"texts-{uuid.uuid4().hex[:12]}"
LINES = [f"word{number % 97} träge {number}" for number in range(2000)]


@pytest.fixture(scope="module")
def cluster(
    rabbitmq: RabbitMQ, ceph_gateway: CephGateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Two workers that may read one folder of a bucket."""
    environment = {
        **ceph_gateway.environment,
        "TEST_BROKER": rabbitmq.url,
        "TEST_BACKEND": "",
        "FANOUT_SOURCE_ROOTS": f"s3://{BUCKET}/open",
    }
    with running_cluster(tmp_path_factory.mktemp("sources"), environment, concurrency=1) as cluster:
        create_bucket(f"s3://{BUCKET}")
        bucket = open_store(f"s3://{BUCKET}")
        text = "\n".join(LINES).encode()
        bucket.put("open/a.txt", text)
        bucket.put("open/b c.txt", text.replace(b"\n", b"\r\n"))
        bucket.put("open/d.txt.gz", gzip.compress(text))
        bucket.put("open/replaced/a.txt", text)
        bucket.put("open/replaced/b.txt", text)
        bucket.put("closed/a.txt", text)
        yield cluster


def test_workers_count_words_where_they_lie(cluster: Cluster) -> None:
    """Two workers count the words of three objects, which are cut into many parts, each word once."""
    job = CountWordsInPlaceTask.submit({"text": sources.lines(f"s3://{BUCKET}/open/*.txt*")}, app=cluster.app)
    expected = Counter(" ".join(LINES).split())
    assert job.get(timeout=60) == {word: 3 * count for word, count in expected.items()}
    assert job.progress().items >= 10


def test_an_object_that_was_replaced_fails_the_job_by_its_key(cluster: Cluster) -> None:
    """An object that changes after setup has listed it is read by no worker, and the failure names it."""
    replaced = f"s3://{BUCKET}/open/replaced/b.txt"
    text = sources.lines(f"s3://{BUCKET}/open/replaced/")
    job = CountWordsInPlaceTask.submit({"text": text, "replaced": replaced}, app=cluster.app)
    with pytest.raises(JobFailed, match=r"SourceChanged.*/open/replaced/b\.txt has changed since setup saw it"):
        job.get(timeout=60)


def test_a_worker_reads_nothing_outside_its_roots(cluster: Cluster) -> None:
    """A job that names another folder of the same bucket fails with the name of the setting."""
    job = CountWordsInPlaceTask.submit({"text": sources.lines(f"s3://{BUCKET}/closed/*")}, app=cluster.app)
    with pytest.raises(JobFailed, match=r"NotAllowed.*source_roots is s3://texts-.*/open"):
        job.get(timeout=60)
