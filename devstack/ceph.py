"""A private Ceph object gateway: a production S3 server, with its objects in memory or in a file."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from .errors import ServerFailed
from .ports import LOOPBACK, free_port, is_listening
from .process import Process, find_program
from .server import Server, s3_environment

_REMEDY = "apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common"
_ACCESS_KEY, _SECRET_KEY = "fanout", "fanout-secret"
_OSD_STARTS = 10

# Reasons for the settings that are not obvious:
# - `auth … = none` holds between the daemons only. Clients of the gateway are authenticated.
# - `ms mon client mode = crc`: the gateway's default is `secure`, which is impossible without authentication.
# - One copy and one placement group per pool: there is one disk, and each group costs start-up time.
# - The monitor waits for `paxos propose interval` before each of about twenty map changes.
# - Without `osd class load list` the storage daemon refuses the gateway's server-side classes.
# - Without `tcp_nodelay` each small response is delayed by 40 ms.
# - Few threads: the gateway's default of 512 threads, which wake each other, costs a tenth of its time.
# - An index of one shard: a listing asks all shards, and the default of eleven is for several disks.
# - Checksums between the daemons, and the storage daemon's tracking of requests, are for real networks.
# - An empty `admin socket`: its path could exceed the 107 bytes that a socket's path may have.
# - Deleted objects are collected after minutes instead of hours, because they fill memory.
# - On disk, the store's default cache is 4 GB.
_CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v2:{host}:{monitor_port}/0]
public addr = {host}
cluster addr = {host}
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd crush chooseleaf type = 0
osd class load list = *
osd class default list = *
{medium}
mon allow pool size one = true
mon data = {directory}/mon
osd data = {directory}/osd
rgw data = {directory}/rgw
paxos propose interval = 0.01
rgw frontends = beast endpoint={host}:{gateway_port} tcp_nodelay=1
rgw thread pool size = 8
rgw override bucket index max shards = 1
rgw dynamic resharding = false
ms crc data = false
osd enable op tracker = false
rgw gc obj min wait = 300
rgw gc processor period = 300
keyring = {directory}/keyring
run dir = {directory}
crash dir = {directory}
pid file =
admin socket =
log file =
log to stderr = true
debug mon = 0
debug ms = 0
debug objecter = 0
debug osd = 0
debug rgw = 0
debug rocksdb = 0
"""
_IN_MEMORY = """\
osd objectstore = memstore
memstore device bytes = {capacity_bytes}"""
_ON_DISK = """\
osd objectstore = bluestore
bluestore block size = {capacity_bytes}
osd memory target = 1073741824"""


@dataclass(slots=True)
class CephGateway(Server):
    """A monitor, a storage daemon and a RADOS gateway, all on 127.0.0.1.

    It checks signatures, and `If-None-Match: *` has exactly one winner.

    Attributes:
        endpoint: `http://127.0.0.1:<port>`.
    """

    endpoint: str
    _directory: Path
    _processes: list[Process] = field(default_factory=list)

    @classmethod
    def start(
        cls, directory: Path, *, port: int | None = None, capacity_bytes: int = 16 << 30, on_disk: bool = False
    ) -> CephGateway:
        """Start all three and create the user of `environment`. Takes about a second and needs no root.

        Args:
            directory: Parent of a new directory for configuration, logs and the monitor's store.
            port: The gateway's port. Default: a free one.
            capacity_bytes: The store's size. Memory or disk space is taken as objects arrive.
            on_disk: Whether objects are in a file instead of in memory. Memory takes about two bytes per object byte.
                On disk, small writes take twice as long.

        Raises:
            ServerUnavailable: A program of Ceph is not installed.
            ServerFailed: A daemon did not start.
        """
        for program in ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph"):
            find_program(program, remedy=_REMEDY)
        port = port or free_port()
        fsid = str(uuid4())
        # Each start has a new directory, because Ceph refuses a store with another fsid.
        home = directory.resolve() / f"ceph-{fsid[:8]}"
        for part in ("mon", "osd", "rgw"):
            (home / part).mkdir(parents=True)
        monitor_port = free_port()
        (home / "ceph.conf").write_text(
            _CONFIGURATION.format(
                fsid=fsid,
                host=LOOPBACK,
                monitor_port=monitor_port,
                gateway_port=port,
                directory=home,
                medium=(_ON_DISK if on_disk else _IN_MEMORY).format(capacity_bytes=capacity_bytes),
            )
        )
        gateway = cls(endpoint=f"http://{LOOPBACK}:{port}", _directory=home)
        try:
            gateway._start_monitor(fsid=fsid, port=monitor_port)
            gateway._start_storage_and_gateway(port=port)
            gateway._create_user()
        except BaseException:
            gateway.stop()
            raise
        return gateway

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which boto3 reaches it as its first user."""
        return s3_environment(endpoint=self.endpoint, access_key=_ACCESS_KEY, secret_key=_SECRET_KEY)

    def add_user(self, name: str) -> dict[str, str]:
        """Create another user, without rights to the first user's buckets, and return the user's variables."""
        access_key, secret_key = name, f"{name}-secret"
        self._create_user(name, access_key=access_key, secret_key=secret_key)
        return s3_environment(endpoint=self.endpoint, access_key=access_key, secret_key=secret_key)

    def allow(self, user: str, policy: str) -> None:
        """Give a user the rights of a policy document, as IAM would, instead of those of an earlier call.

        Raises:
            botocore.exceptions.ClientError: The gateway can't read the document.
        """
        import boto3

        iam = boto3.session.Session().client(
            "iam",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=_ACCESS_KEY,
            aws_secret_access_key=_SECRET_KEY,
        )
        iam.put_user_policy(UserName=user, PolicyName="only", PolicyDocument=policy)

    @contextmanager
    def peer(self) -> Iterator[str]:
        """Run another gateway over the same objects, and yield its endpoint."""
        port = free_port()
        frontends = f"beast endpoint={LOOPBACK}:{port} tcp_nodelay=1"
        gateway = self._daemon("radosgw", "--name", "client.rgw", "--rgw-frontends", frontends)
        try:
            gateway.wait_for_port(port)
            yield f"http://{LOOPBACK}:{port}"
        finally:
            self._processes.remove(gateway)
            gateway.kill()

    @property
    def pids(self) -> list[int]:
        """The process ids of the three daemons."""
        return [process.pid for process in self._processes]

    def rss_bytes(self) -> int:
        """Return the resident memory of the three daemons, in bytes, objects in memory included."""
        return sum(process.rss_bytes() for process in self._processes)

    def suspend(self) -> None:
        """Suspend the gateway (SIGSTOP): the system accepts connections, and the gateway does not respond."""
        self._gateway.signal(signal.SIGSTOP, group=True)

    def resume(self) -> None:
        """Resume a suspended gateway. It then responds to the requests of the meantime."""
        self._gateway.signal(signal.SIGCONT, group=True)

    def stop(self) -> None:
        """End the daemons, and with them all objects. Idempotent."""
        # End the gateway first, because it would log the loss of the others. None needs a graceful end.
        for process in reversed(self._processes):
            process.kill()

    @property
    def _gateway(self) -> Process:
        return next(process for process in self._processes if process.name == "radosgw")

    def _start_monitor(self, *, fsid: str, port: int) -> None:
        monmap = self._directory / "monmap"
        self._run("monmaptool", "--create", "--addv", "a", f"[v2:{LOOPBACK}:{port}]", "--fsid", fsid, str(monmap))
        self._run("ceph-mon", "--mkfs", "--id", "a", "--monmap", str(monmap), *self._configured)
        monitor = self._daemon("ceph-mon", "--id", "a")
        monitor.wait_for_port(port)

    def _start_storage_and_gateway(self, *, port: int) -> None:
        osd_id = str(uuid4())
        self._run("ceph", "osd", "new", osd_id, "0", *self._configured)
        storage = self._start_storage(osd_id)
        gateway = self._daemon("radosgw", "--name", "client.rgw")
        starts = 1

        def ready() -> bool:
            nonlocal storage, starts
            # Some first starts end with "wrong fsid". The same start succeeds a moment later.
            if not storage.alive:
                if starts == _OSD_STARTS:
                    raise storage.make_error(f"ended at each of {_OSD_STARTS} starts")
                storage.stop()
                self._processes.remove(storage)
                storage = self._start_storage(osd_id)
                starts += 1
            return is_listening(port)

        gateway.wait_until(ready, what=f"answer on port {port}")

    def collect(self) -> None:
        """Free the space of deleted objects, which the gateway itself does after minutes.

        Raises:
            ServerFailed: The command failed.
        """
        self._run("radosgw-admin", "gc", "process", "--include-all", *self._configured, timeout_s=300)

    def _start_storage(self, osd_id: str) -> Process:
        # With monitor configuration the creation of the store would wait for a quorum, for up to five minutes.
        self._run("ceph-osd", "--no-mon-config", "--mkfs", "--id", "0", "--osd-uuid", osd_id, *self._configured)
        return self._daemon("ceph-osd", "--id", "0")

    def _create_user(
        self, name: str = "fanout", *, access_key: str = _ACCESS_KEY, secret_key: str = _SECRET_KEY
    ) -> None:
        keys = ("--access-key", access_key, "--secret-key", secret_key)
        # The first user may give policies to the others.
        caps = ("--caps", "user-policy=*") if access_key == _ACCESS_KEY else ()
        user = ("--uid", name, "--display-name", name, *caps)
        self._run("radosgw-admin", "user", "create", *user, *keys, *self._configured)

    @property
    def _configured(self) -> tuple[str, ...]:
        return ("--conf", str(self._directory / "ceph.conf"))

    def _daemon(self, program: str, *args: str) -> Process:
        process = Process.start(
            [find_program(program, remedy=_REMEDY), "-f", *args, *self._configured],
            name=program,
            directory=self._directory,
        )
        self._processes.append(process)
        return process

    def _run(self, program: str, *args: str, timeout_s: float = 60.0) -> None:
        command = [find_program(program, remedy=_REMEDY), *args]
        started = time.monotonic()
        log = self._directory / "commands.log"
        try:
            with log.open("ab") as output:
                status = subprocess.run(  # noqa: S603
                    command, stdout=output, stderr=subprocess.STDOUT, timeout=timeout_s, check=False
                ).returncode
            reason = f"ended with status {status}"
        except subprocess.TimeoutExpired:
            status, reason = -1, f"did not end within {time.monotonic() - started:.0f} s"
        if status != 0:
            raise ServerFailed(program, reason, "\n".join(log.read_text(errors="replace").splitlines()[-25:]))
