"""`fanout doctor` on real servers, good ones and faulty ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from celery import Task
from click.testing import CliRunner
from kombu import Queue

from devstack import CephGateway, RabbitMQ, Rclone, Redis
from fanout.cli import main
from fanout.doctor import check_store
from fanout.engines.celery import check_app
from storage import Finding, Verdict, create_bucket, open_store

from .app import make_app
from .cluster import Cluster, running_cluster


class UnknownTask(Task):  # type: ignore[type-arg]
    """A task that no worker has, with the attribute by which the doctor knows fanout's tasks."""

    name = "tests.unknown.process"
    fanout_task = "tests.unknown"

    def run(self) -> None: ...


@pytest.fixture
def cluster(redis_cluster: Cluster) -> Cluster:
    redis_cluster.app.set_current()
    return redis_cluster


def findings(cluster: Cluster) -> Mapping[str, Finding]:
    return {finding.check: finding for finding in check_app(cluster.app)}


def test_a_good_installation(cluster: Cluster) -> None:
    """With recommended settings the doctor finds only that the bucket has no rule, and the exit status is 0."""
    command = [sys.executable, "-m", "fanout", "doctor", "-A", "tests.integration.app:app", "--json"]
    environment = {**os.environ, **cluster.environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {finding["check"]: finding for finding in json.loads(done.stdout)}
    lacking = [check for check, finding in found.items() if finding["verdict"] not in ("ok", "can't tell")]
    assert lacking == ["store: lifecycle"]
    assert found["store: write once"]["found"] == "1 of 32 writers won, 3 times"
    assert found["broker"]["found"].startswith("RabbitMQ 3.")
    assert found["broker: consumer timeout"]["verdict"] == "can't tell"
    workers = [finding for check, finding in found.items() if check.startswith("worker ")]
    assert len(workers) == 2
    assert "guest:guest" not in done.stdout


def test_the_probe_result_is_written_for_workers(cluster: Cluster) -> None:
    """The doctor writes its probe result to the store, so that no worker has to probe."""
    store = open_store(cluster.environment["FANOUT_STORE"])
    store.delete(["_probe/result-1"])
    assert {finding.verdict for finding in check_store(store, stall_s=60)} == {Verdict.OK}
    assert [info.key for info in store.list("_probe/")] == ["_probe/clock", "_probe/result-1"]


def test_a_queue_of_another_type_is_broken(cluster: Cluster) -> None:
    """A classic queue that the app declares as quorum is broken. The doctor does not create a missing queue."""
    name = cluster.environment["TEST_QUEUE"]
    before = findings(cluster)[f"queue {name}"]
    assert before.verdict is Verdict.OK
    assert before.found.startswith("classic, 0 waiting messages, 2 consumers")
    missing = f"{name}-missing"
    # An app of its own: the shared one's sender keeps the queues that it has seen.
    with make_app({**os.environ, **cluster.environment}) as app:
        queues = app.amqp.queues
        queues.add(Queue(name, queue_arguments={"x-queue-type": "quorum"}))
        queues.add(Queue(missing))
        queues.select([name, missing])
        for _ in range(2):
            found = findings(replace(cluster, app=app))
            assert found[f"queue {name}"].verdict is Verdict.BROKEN
            assert "x-queue-type" in found[f"queue {name}"].found
            assert "does not exist yet" in found[f"queue {missing}"].found


def test_a_worker_without_a_task_is_broken(cluster: Cluster) -> None:
    """The finding of each worker names the tasks that callers have and the worker lacks."""
    cluster.app.register_task(UnknownTask())
    try:
        workers = [finding for check, finding in findings(cluster).items() if check.startswith("worker ")]
        assert len(workers) == 2
        for finding in workers:
            # This process also has tasks of other tests, which the workers lack, too.
            known, _, missed = finding.found.partition("does not know ")
            assert (finding.verdict, known) == (Verdict.BROKEN, "")
            assert "tests.unknown.process" in missed.split(", ")
            assert not any(name.startswith(("tests.integration.app.", "tests.tasks.")) for name in missed.split(", "))
    finally:
        cluster.app.tasks.unregister("tests.unknown.process")


def test_redis_as_the_broker(redis_server: Redis, ceph_gateway: CephGateway, tmp_path: Path) -> None:
    """The findings name Redis's version, and say that Redis does not evict keys."""
    environment = {**ceph_gateway.environment, "TEST_BROKER": redis_server.url, "TEST_BACKEND": redis_server.url}
    with running_cluster(tmp_path, environment, workers=1, concurrency=1) as cluster:
        found = findings(cluster)
    assert found["broker"].found.startswith("Redis ")
    assert found["broker: eviction"].verdict is Verdict.OK
    assert found["setting worker_soft_shutdown_timeout"].verdict is Verdict.CHANGE


def test_a_wrong_password_is_broken(rabbitmq: RabbitMQ, ceph_gateway: CephGateway, tmp_path: Path) -> None:
    """A broker that refuses the credentials is broken, and the password is not printed."""
    broker = rabbitmq.url.replace("guest:guest", "guest:sesame")
    environment = {**ceph_gateway.environment, "TEST_BROKER": broker, "TEST_BACKEND": ""}
    with running_cluster(tmp_path, environment, workers=0) as cluster:
        found = findings(cluster)
    finding = found["broker: reachable"]
    assert finding.verdict is Verdict.BROKEN
    assert "sesame" not in finding.found + finding.remedy


def test_writers_meet_by_way_of_several_servers(ceph_gateway: CephGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two gateways over the same objects one writer of 32 wins, whichever gateway it asks."""
    for name, value in ceph_gateway.environment.items():
        monkeypatch.setenv(name, value)
    create_bucket("s3://doctor-peers")
    with ceph_gateway.peer() as peer:
        endpoints = ("--endpoint", ceph_gateway.endpoint, "--endpoint", peer)
        # The environment's own endpoint counts for nothing then.
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
        result = CliRunner().invoke(main, ["doctor", "--store", "s3://doctor-peers/root", *endpoints, "--json"])
    found = {finding["check"]: finding["found"] for finding in json.loads(result.output)}
    assert result.exit_code == 0, result.output
    assert found["store: write once"] == "1 of 32 writers won, 3 times over 2 servers"
    assert found["store"].endswith("by each of 2 servers")


def test_a_gateway_that_ignores_conditions_is_broken(rclone_gateway: Rclone, monkeypatch: pytest.MonkeyPatch) -> None:
    """rclone's gateway is broken, because of its write-once puts only."""
    for name, value in rclone_gateway.environment.items():
        monkeypatch.setenv(name, value)
    create_bucket("s3://doctor/root")
    result = CliRunner().invoke(main, ["doctor", "--store", "s3://doctor/root"])
    assert result.exit_code == 1
    broken = [line for line in result.output.splitlines() if line.startswith("broken")]
    assert len(broken) == 1
    assert "32 of 32 writers won" in broken[0]
