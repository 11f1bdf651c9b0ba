"""The private servers start, work, and leave no process behind."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import botocore.config
import kombu
import psutil  # type: ignore[import-untyped, unused-ignore]
import pytest
import redis
from botocore.exceptions import ClientError

from devstack import (
    CeleryWorker,
    CephGateway,
    FilesystemBroker,
    LocalStack,
    MotoServer,
    Process,
    RabbitMQ,
    Rclone,
    Redis,
    ServerFailed,
    ServerUnavailable,
)
from devstack.ports import free_port, is_listening
from devstack.tree import is_group_alive
from tests.services import running


def eventually(condition: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


def lives(pid: int) -> bool:
    """Return whether a process runs. Zombies do not count."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def below() -> set[int]:
    """Return the descendants of this process."""
    return {process.pid for process in psutil.Process().children(recursive=True)}


def s3_client(environment: Mapping[str, str]) -> Any:
    """Return a client without retries: a repeated conditional write would find its own object."""
    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
        config=botocore.config.Config(retries={"total_max_attempts": 1}, max_pool_connections=32),
    )


def race(client: Any, *, bucket: str, key: str, writers: int) -> list[int]:
    """Write one key conditionally from many threads at once and return the winners."""

    def write(index: int) -> bool:
        try:
            client.put_object(Bucket=bucket, Key=key, Body=str(index).encode(), IfNoneMatch="*")
        except ClientError as error:
            # A server may also report that a conflicting write is running.
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (409, 412):
                raise
            return False
        return True

    with ThreadPoolExecutor(writers) as pool:
        won = list(pool.map(write, range(writers)))
    return [index for index, winner in enumerate(won) if winner]


def test_rabbitmq_carries_messages(rabbitmq: RabbitMQ) -> None:
    """Published messages are counted in their queue and received in order."""
    with kombu.Connection(rabbitmq.url) as connection:
        queue = connection.SimpleQueue("carries")
        for number in range(3):
            queue.put({"number": number})
        eventually(lambda: rabbitmq.messages().get("carries") == 3)
        assert rabbitmq.message_bytes()["carries"] > 0
        received = []
        for _ in range(3):
            message = queue.get(timeout=30)
            received.append(message.payload["number"])
            message.ack()
        queue.close()
    assert received == [0, 1, 2]


@pytest.mark.slow
def test_rabbitmq_survives_a_kill_with_its_durable_messages(tmp_path: Path) -> None:
    """A node that was killed and started again has the same address and the durable messages."""
    for node in running(RabbitMQ.start, tmp_path):
        with kombu.Connection(node.url, transport_options={"confirm_publish": True}) as connection:
            queue = connection.SimpleQueue("durable")
            queue.put({"kept": True})
            queue.close()
        before = node.pid
        node.kill()
        assert not lives(before)
        with pytest.raises(ServerFailed):
            node.ctl("list_queues")
        node.restart()
        assert node.pid != before
        assert node.messages() == {"durable": 1}


@pytest.mark.slow
def test_two_rabbitmq_nodes_do_not_meet(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    """Two nodes run at once, and neither has the other's queues."""
    for other in running(RabbitMQ.start, tmp_path):
        with kombu.Connection(other.url) as connection:
            connection.SimpleQueue("apart").close()
        assert "apart" in other.messages()
        assert "apart" not in rabbitmq.messages()


def test_a_virtual_host_has_queues_of_its_own(rabbitmq: RabbitMQ) -> None:
    """A new virtual host can be used by its URL, and neither it nor the other has the other's queues."""
    host = rabbitmq.add_host()
    with kombu.Connection(host.url) as connection:
        connection.SimpleQueue("at-home").close()
    assert host.messages() == {"at-home": 0}
    assert "at-home" not in rabbitmq.messages()


def test_an_expression_that_fails_raises_its_reason(rabbitmq: RabbitMQ) -> None:
    """The value of the last expression is returned as text, and an error of Erlang's is raised with its reason."""
    assert rabbitmq.evaluate("Two = 2, {ok, Two * 3}") == "{ok,6}"
    with pytest.raises(ServerFailed, match="badarith"):
        rabbitmq.evaluate("1 / 0")


def test_a_copy_of_a_process_cannot_end_it(tmp_path: Path) -> None:
    """A pickled copy reads the log and measures the process. Only the one that started it can stop it."""
    process = Process.start(["/bin/sh", "-c", "echo up; exec sleep 60"], name="original", directory=tmp_path)
    process.wait_for_log("up")
    copy: Process = pickle.loads(pickle.dumps(process))
    assert (copy.log(), copy.rss_bytes() > 0) == ("up\n", True)
    with pytest.raises(ServerFailed, match="original belongs to another process"):
        copy.stop()
    assert lives(process.pid)
    process.stop()


def test_redis_answers(redis_server: Redis) -> None:
    """Redis answers a ping and keeps a value."""
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.ping()
        client.set("answers", "yes")
        assert client.get("answers") == b"yes"


@pytest.mark.parametrize("name", ["ceph_gateway", "moto_server"])
def test_an_object_comes_back(name: str, request: pytest.FixtureRequest) -> None:
    """A stored object is listed and read, byte for byte, as a whole and in part."""
    client = s3_client(request.getfixturevalue(name).environment)
    client.create_bucket(Bucket="comes-back")
    body = os.urandom(100_000)
    client.put_object(Bucket="comes-back", Key="a/b", Body=body)
    assert client.get_object(Bucket="comes-back", Key="a/b")["Body"].read() == body
    part = client.get_object(Bucket="comes-back", Key="a/b", Range="bytes=10-19")["Body"].read()
    assert part == body[10:20]
    assert [row["Key"] for row in client.list_objects_v2(Bucket="comes-back")["Contents"]] == ["a/b"]


@pytest.mark.parametrize("name", ["ceph_gateway", "moto_server"])
def test_a_conditional_write_has_one_winner(name: str, request: pytest.FixtureRequest) -> None:
    """Of 32 writers that create one key at once, exactly one succeeds, and the store has its bytes."""
    client = s3_client(request.getfixturevalue(name).environment)
    client.create_bucket(Bucket="one-winner")
    winners = race(client, bucket="one-winner", key="key", writers=32)
    assert len(winners) == 1
    assert client.get_object(Bucket="one-winner", Key="key")["Body"].read() == str(winners[0]).encode()


@pytest.fixture(scope="module")
def own_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CephGateway, Path]]:
    """A gateway on disk that these tests may suspend, and its directory."""
    directory = tmp_path_factory.mktemp("own-gateway")
    for gateway in running(lambda path: CephGateway.start(path, capacity_bytes=4 << 30, on_disk=True), directory):
        yield gateway, directory


@pytest.mark.slow
def test_a_suspended_gateway_answers_when_resumed(own_gateway: tuple[CephGateway, Path]) -> None:
    """A request to a suspended gateway gets a response only after the gateway is resumed."""
    gateway, _ = own_gateway
    client = s3_client(gateway.environment)
    client.list_buckets()
    with ThreadPoolExecutor(1) as pool:
        gateway.suspend()
        try:
            answer = pool.submit(client.list_buckets)
            with pytest.raises(TimeoutError):
                answer.result(timeout=1.0)
        finally:
            gateway.resume()
        assert answer.result(timeout=30)["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.slow
def test_a_gateway_on_disk_keeps_objects_in_a_file(own_gateway: tuple[CephGateway, Path]) -> None:
    """A gateway on disk works like one in memory, and its file grows with the objects."""
    gateway, directory = own_gateway
    client = s3_client(gateway.environment)
    client.create_bucket(Bucket="on-disk")
    (file,) = directory.rglob("block")
    before = file.stat().st_blocks
    body = os.urandom(8_000_000)
    client.put_object(Bucket="on-disk", Key="large", Body=body)
    assert client.get_object(Bucket="on-disk", Key="large")["Body"].read() == body
    assert (file.stat().st_blocks - before) * 512 >= len(body)
    assert len(race(client, bucket="on-disk", key="small", writers=8)) == 1


def test_ceph_refuses_a_wrong_signature(ceph_gateway: CephGateway) -> None:
    """A client with a wrong secret is refused: this server authenticates."""
    client = s3_client({**ceph_gateway.environment, "AWS_SECRET_ACCESS_KEY": "wrong"})
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        client.list_buckets()


def test_moto_counts_requests(moto_server: MotoServer) -> None:
    """The requests counted from the access log are those that were sent, failures included."""
    client = s3_client(moto_server.environment)
    client.create_bucket(Bucket="counted")
    eventually(lambda: moto_server.requests()["PUT"] > 0)
    before = moto_server.requests()
    for number in range(7):
        client.put_object(Bucket="counted", Key=str(number), Body=b"x")
    for number in range(5):
        client.get_object(Bucket="counted", Key=str(number))
    with pytest.raises(ClientError):
        client.head_object(Bucket="counted", Key="missing")
    expected = {"PUT": 7, "GET": 5, "HEAD": 1}
    eventually(lambda: sum((moto_server.requests() - before).values()) >= 13)
    assert moto_server.requests() - before == expected


def test_localstack_serves_s3(localstack_server: LocalStack) -> None:
    """Native LocalStack stores an object and listens on the loopback interface only."""
    client = s3_client(localstack_server.environment)
    client.create_bucket(Bucket="served")
    assert len(race(client, bucket="served", key="key", writers=8)) == 1
    port = int(localstack_server.endpoint.rpartition(":")[2])
    listening = {
        connection.laddr.ip
        for connection in psutil.net_connections("tcp4")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
    }
    assert listening == {"127.0.0.1"}


@pytest.mark.slow
@pytest.mark.parametrize("start", [RabbitMQ.start, Redis.start, CephGateway.start, MotoServer.start, Rclone.start])
def test_a_server_leaves_no_process_behind(start: Callable[[Path], Any], tmp_path: Path) -> None:
    """After a stop no process of a server is left, and a second stop does nothing."""
    before = below()
    for server in running(start, tmp_path):
        assert server.rss_bytes() > 0
        started = below() - before
        assert started
        server.stop()
        server.stop()
        assert not [pid for pid in started if lives(pid)]


def test_servers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    """The servers of a killed process end with it, although it runs no exit handler."""
    script = (
        "import sys; from pathlib import Path; from devstack import MotoServer; "
        "MotoServer.start(Path(sys.argv[1])); print('up', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        started = [child.pid for child in psutil.Process(parent.pid).children(recursive=True)]
        assert any(lives(pid) for pid in started)
        parent.kill()
    eventually(lambda: not any(lives(pid) for pid in started))


def test_a_process_is_stopped_with_all_it_started(tmp_path: Path) -> None:
    """Grandchildren end, too, even if the child ignores SIGTERM."""
    process = Process.start(
        ["/bin/sh", "-c", "trap '' TERM; sleep 1000 & echo started; while :; do wait; done"],
        name="stubborn",
        directory=tmp_path,
    )
    process.wait_for_log("started")
    tree = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
    process.stop(timeout_s=0.1)
    assert not [pid for pid in tree if lives(pid)]
    assert not process.alive


def test_a_zombie_is_no_part_of_a_group_that_lives() -> None:
    """A group of zombies counts as gone, so that a stop does not wait for init."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        assert is_group_alive(process.pid)
        process.kill()
        eventually(lambda: not lives(process.pid))
        os.killpg(process.pid, 0)  # raises if it has been reaped
        assert not is_group_alive(process.pid)
    assert not is_group_alive(process.pid)


def test_a_process_that_fails_shows_its_log(tmp_path: Path) -> None:
    """A server that ends before it is ready raises an error with its name and its log."""
    process = Process.start(["/bin/sh", "-c", "echo no such luck; exit 3"], name="unlucky", directory=tmp_path)
    with pytest.raises(ServerFailed, match=r"unlucky ended with status 3(.|\n)*no such luck"):
        process.wait_for_port(free_port())


def test_a_missing_program_names_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without LocalStack, the error names the command that installs it."""
    monkeypatch.delenv("FANOUT_LOCALSTACK_PYTHON", raising=False)
    with pytest.raises(ServerUnavailable, match="install-native"):
        LocalStack.start(tmp_path)


def test_free_ports_are_free_and_differ() -> None:
    """Each port is returned once, has no listener, and is outside the range of outgoing connections."""
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert not any(is_listening(port) for port in ports)
    assert all(port < 32_768 for port in ports)


@pytest.fixture
def broker(tmp_path: Path) -> FilesystemBroker:
    """A broker in a directory."""
    return FilesystemBroker.create(tmp_path / "broker")


@pytest.fixture
def workers(broker: FilesystemBroker, tmp_path: Path) -> Iterator[list[CeleryWorker]]:
    """Two workers with two processes each on that broker."""
    environment = {"STACK_TEST_SETTINGS": json.dumps(broker.settings)}
    started: list[CeleryWorker] = []
    try:
        for number in range(2):
            started.append(
                CeleryWorker.start(
                    "tests.devstack.apps",
                    directory=tmp_path,
                    environment=environment,
                    name=f"worker-{number}",
                    args=broker.worker_args,
                )
            )
        yield started
    finally:
        for worker in started:
            worker.kill()


def send(settings: Mapping[str, object], task: str, *args: object) -> None:
    """Send a task to the workers."""
    from celery import Celery

    with Celery("sender", set_as_current=False) as sender:
        sender.conf.update(settings)
        sender.send_task(task, args, ignore_result=True)


def names(directory: Path) -> set[str]:
    """Return the names of the files in a directory."""
    return {path.name for path in directory.iterdir()}


def test_filesystem_broker_counts_its_traffic(
    broker: FilesystemBroker, workers: list[CeleryWorker], tmp_path: Path
) -> None:
    """All messages that two workers send and consume at the same time run once, and all are counted."""
    notes = tmp_path / "notes"
    notes.mkdir()
    for prefix in range(8):
        send(broker.settings, "spread", str(notes), str(prefix), 25)
    eventually(lambda: len(names(notes)) == 200)
    assert {len(path.read_text().splitlines()) for path in notes.iterdir()} == {1}
    traffic = broker.traffic()
    assert traffic.messages == 8 + 200
    stored = [path for path in (broker.directory / "processed").iterdir() if path.name.endswith(".celery.msg")]
    assert traffic.bytes == sum(path.stat().st_size for path in stored)
    tasks = [json.loads(path.read_text())["headers"]["task"] for path in stored]
    assert (tasks.count("spread"), tasks.count("note")) == (8, 200)


def test_a_message_that_waits_is_counted(broker: FilesystemBroker, tmp_path: Path) -> None:
    """Traffic includes messages that no worker has taken yet."""
    for number in range(3):
        send(broker.settings, "note", str(tmp_path), str(number))
    assert broker.traffic().messages == 3
    assert broker.traffic().bytes > 3 * 100


def test_a_worker_replaces_a_killed_child(redis_server: Redis, tmp_path: Path) -> None:
    """A killed pool child is replaced, and the worker continues."""
    settings = {"broker_url": redis_server.url, "task_default_queue": "replaces"}
    with CeleryWorker.start(
        "tests.devstack.apps", directory=tmp_path, environment={"STACK_TEST_SETTINGS": json.dumps(settings)}
    ) as worker:
        before = worker.children()
        assert len(before) == 2
        killed = worker.kill_child()
        assert killed == before[0]
        eventually(lambda: len(set(worker.children()) - {killed}) == 2)
        notes = tmp_path / "notes"
        notes.mkdir()
        send(settings, "note", str(notes), "after")
        eventually(lambda: names(notes) == {"after"})
        with pytest.raises(ProcessLookupError):
            worker.kill_child(killed)


def test_a_killed_worker_is_gone_with_its_children(workers: list[CeleryWorker]) -> None:
    """A kill ends a worker's main process and all its children, and no other worker."""
    worker, other = workers
    family = [worker.pid, *worker.children()]
    worker.kill()
    assert not [pid for pid in family if lives(pid)]
    assert worker.children() == []
    assert not worker.alive
    assert other.alive


def test_a_suspended_worker_takes_nothing_until_resumed(
    broker: FilesystemBroker, workers: list[CeleryWorker], tmp_path: Path
) -> None:
    """A suspended worker takes no messages, continues when resumed, and can be stopped."""
    for worker in workers:
        worker.suspend()
    eventually(lambda: all(psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED for worker in workers))
    notes = tmp_path / "notes"
    notes.mkdir()
    send(broker.settings, "note", str(notes), "later")
    assert names(notes) == set()
    workers[0].resume()
    eventually(lambda: names(notes) == {"later"})
    workers[1].stop()
    assert not lives(workers[1].pid)


def test_a_worker_that_cannot_start_says_why(broker: FilesystemBroker, tmp_path: Path) -> None:
    """An app that cannot be imported raises an error with the worker's message."""
    with pytest.raises(ServerFailed, match="no_such_module"):
        CeleryWorker.start("no_such_module", directory=tmp_path, environment={})


def test_up_prints_how_to_reach_the_servers(tmp_path: Path) -> None:
    """`python -m devstack up` prints shell lines, runs until it is interrupted and stops its servers.

    Also where it was started in the background of a shell, which has it ignore SIGINT.
    """
    command = [sys.executable, "-m", "devstack", "up", "moto", "--directory", str(tmp_path)]
    ignoring = ["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
    with subprocess.Popen(ignoring, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                if line.startswith("#"):
                    break
                lines.append(line)
            exported = dict(line.removeprefix("export ").strip().split("=", 1) for line in lines)
            assert s3_client(exported).list_buckets()["Buckets"] == []
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert not is_listening(int(exported["AWS_ENDPOINT_URL_S3"].rpartition(":")[2]))
