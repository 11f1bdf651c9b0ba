"""A private RabbitMQ node."""

from __future__ import annotations

import copy
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import uuid4

from .errors import ServerFailed
from .ports import LOOPBACK, free_port
from .process import Process, find_program
from .server import Server

_REMEDY = "apt-get install rabbitmq-server"

_CONTROL_S = 120.0

# Debian's programs on PATH are wrappers that change to the user `rabbitmq` (for root) or refuse to run (for other
# users). The scripts behind them run as the calling user.
_SCRIPTS = "/usr/lib/rabbitmq/bin"


class RabbitMQ(Server):
    """A RabbitMQ node on a free port of 127.0.0.1, isolated from all other nodes of the machine.

    It has its own node name, data directory, Erlang cookie, distribution port and port mapper (epmd), no plugins, and
    ignores the system's configuration. Durable queues and messages survive `restart` and `kill`.

    Attributes:
        host: Its virtual host, `/` unless it is from `add_host`.
    """

    def __init__(self, directory: Path, *, port: int, settings: Mapping[str, str]) -> None:
        self._address = f"amqp://guest:guest@{LOOPBACK}:{port}"
        self.host = "/"
        self._directory = directory
        self._server = find_program("rabbitmq-server", remedy=_REMEDY, candidates=[f"{_SCRIPTS}/rabbitmq-server"])
        self._control = find_program("rabbitmqctl", remedy=_REMEDY, candidates=[f"{_SCRIPTS}/rabbitmqctl"])
        self._caller = find_program("erl_call", remedy=_REMEDY)
        epmd = find_program("epmd", remedy=_REMEDY)
        self._variables = self._configure(port=port, settings=settings)
        self._mapper = Process.start(
            [epmd, "-address", LOOPBACK, "-port", self._variables["ERL_EPMD_PORT"]],
            name="epmd",
            directory=directory,
        )
        self._node: Process | None = None

    @classmethod
    def start(cls, directory: Path, *, port: int | None = None, settings: Mapping[str, str] | None = None) -> RabbitMQ:
        """Start a node and wait until it is ready. Takes a few seconds and needs no root.

        Args:
            directory: Directory for data, configuration and logs, created if missing. One node at a time.
            port: Its port. Default: a free one.
            settings: Lines of `rabbitmq.conf`, such as `{"consumer_timeout": "10000"}`.

        Raises:
            ServerUnavailable: RabbitMQ is not installed.
            ServerFailed: It did not start.
        """
        directory.mkdir(parents=True, exist_ok=True)
        node = cls(directory.resolve(), port=port or free_port(), settings=settings or {})
        try:
            node._mapper.wait_for_port(int(node._variables["ERL_EPMD_PORT"]))
            node._start_node()
        except BaseException:
            node.stop()
            raise
        return node

    def add_host(self) -> RabbitMQ:
        """Create a virtual host with a new name, and return this node with its URL and its queues.

        Workers of one virtual host receive no broadcasts of another's.
        """
        view = copy.copy(self)
        view.host = f"host-{uuid4().hex[:8]}"
        rights = ", ".join(['<<".*">>'] * 3)
        self.evaluate(
            f'rabbit_vhost:add(<<"{view.host}">>, <<"devstack">>), rabbit_auth_backend_internal:set_permissions('
            f'<<"guest">>, <<"{view.host}">>, {rights}, <<"devstack">>)'
        )
        return view

    @property
    def url(self) -> str:
        """`amqp://guest:guest@127.0.0.1:<port>/<virtual host>`."""
        return f"{self._address}/{self.host}"

    @property
    def environment(self) -> dict[str, str]:
        """`CELERY_BROKER_URL`, which Celery reads itself."""
        return {"CELERY_BROKER_URL": self.url}

    @property
    def pid(self) -> int:
        """The process id of the Erlang machine. It changes at `restart`."""
        return self._running.pid

    def rss_bytes(self) -> int:
        """Return the resident memory of the node, in bytes."""
        return self._running.rss_bytes()

    def memory_bytes(self) -> int:
        """Return the bytes that the node uses, as Erlang's allocators count them.

        Unlike resident memory, this excludes memory that the allocators hold in reserve.
        """
        return int(self.evaluate("erlang:memory(total)"))

    def evaluate(self, expressions: str) -> str:
        """Evaluate Erlang expressions, separated by commas, on this node, and return the last value as text.

        Takes some milliseconds. `ctl` starts an Erlang machine, which takes a second of a processor.

        Raises:
            ServerFailed: The node refused or failed, or it did not answer in time.
        """
        command = [self._caller, "-R", "-address", f"{LOOPBACK}:{self._variables['RABBITMQ_DIST_PORT']}"]
        done = self._run([*command, "-fetch_stdout", "-e"], program=f'io:format("~0p", [begin {expressions} end]).\n')
        value, success, _ = done.stdout.rpartition("{ok, ok}")
        if not success:
            raise ServerFailed("erl_call", f"ended with status {done.returncode}", done.stdout + done.stderr)
        return value

    def ctl(self, *args: str) -> str:
        """Run `rabbitmqctl` on this node and return its output. Takes about a second.

        Raises:
            ServerFailed: The command failed, or it did not end in time.
        """
        done = self._run([self._control, "--quiet", *args])
        if done.returncode != 0:
            raise ServerFailed(f"rabbitmqctl {args[0]}", f"ended with status {done.returncode}", done.stderr)
        return done.stdout

    def messages(self) -> dict[str, int]:
        """Return the number of messages in each queue, delivered but unacknowledged ones included."""
        return self._count("messages")

    def message_bytes(self) -> dict[str, int]:
        """Return the size of the message bodies in each queue, in bytes. Queues that do not report it are left out."""
        return self._count("message_bytes")

    def restart(self) -> None:
        """Restart the node with its data and port, after a graceful stop if it still runs."""
        if self._node is not None:
            self._node.stop()
        self._start_node()

    def kill(self) -> None:
        """End the node at once (SIGKILL), as a power cut would. `restart` starts it again."""
        self._running.kill()

    def suspend(self) -> None:
        """Suspend the node (SIGSTOP): connections stay open, and the node does not respond."""
        self._running.signal(signal.SIGSTOP, group=True)

    def resume(self) -> None:
        """Resume a suspended node."""
        self._running.signal(signal.SIGCONT, group=True)

    def stop(self) -> None:
        """End the node and its port mapper. The data stay in the directory. Idempotent."""
        if self._node is not None:
            self._node.stop()
        self._mapper.kill()

    @property
    def _running(self) -> Process:
        if self._node is None:
            raise ServerFailed("rabbitmq", "was not started", "")
        return self._node

    def _start_node(self) -> None:
        self._node = Process.start(
            [self._server], name="rabbitmq", directory=self._directory, environment=self._variables
        )
        self._node.wait_for_log("Server startup complete")

    def _count(self, what: str) -> dict[str, int]:
        rows = self.evaluate(
            f"[{{Name, Count}} || [{{_, {{_, _, _, Name}}}}, {{_, Count}}]"
            f' <- rabbit_amqqueue:info_all(<<"{self.host}">>, [name, {what}]), is_integer(Count)]'
        )
        return {name: int(count) for name, count in re.findall(r'\{<<"(.*?)">>,(\d+)\}', rows)}

    def _run(self, command: Sequence[str], *, program: str = "") -> subprocess.CompletedProcess[str]:
        name = Path(command[0]).name
        try:
            return subprocess.run(  # noqa: S603
                command,
                env={**os.environ, **self._variables},
                input=program,
                capture_output=True,
                text=True,
                check=False,
                timeout=_CONTROL_S,
            )
        except subprocess.TimeoutExpired as error:
            raise ServerFailed(name, f"did not end within {_CONTROL_S:g} s", "") from error

    def _configure(self, *, port: int, settings: Mapping[str, str]) -> dict[str, str]:
        home = self._directory
        lines = {"listeners.tcp.1": f"{LOOPBACK}:{port}", **settings}
        (home / "rabbitmq.conf").write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
        (home / "advanced.config").write_text("[].\n")
        (home / "enabled_plugins").write_text("[].\n")
        (home / "rabbitmq-env.conf").write_text("")
        distribution_port, control_port = free_port(), free_port()
        return {
            # The Erlang cookie is in the home directory.
            "HOME": str(home),
            "RABBITMQ_NODENAME": f"fanout-{port}@localhost",
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_CTL_DIST_PORT_MIN": str(control_port),
            "RABBITMQ_CTL_DIST_PORT_MAX": str(control_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(free_port()),
            # The start script then executes the Erlang machine instead of waiting for it, so that the process id is
            # the machine's.
            "RUNNING_UNDER_SYSTEMD": "true",
            "NOTIFY_SOCKET": "",
        }
