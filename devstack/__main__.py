"""The command `python -m devstack up NAME…`: start servers, print their variables, run until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from . import CephGateway, LocalStack, MotoServer, RabbitMQ, Redis, Server, StackError

# Object stores are alternatives: of two, the variables of the last one are exported.
SERVERS: Mapping[str, Callable[[Path], Server]] = {
    "rabbitmq": RabbitMQ.start,
    "redis": Redis.start,
    "ceph": CephGateway.start,
    "moto": MotoServer.start,
    "localstack": LocalStack.start,
}


@contextlib.contextmanager
def start_servers(names: Sequence[str], directory: Path) -> Iterator[dict[str, str]]:
    """Start the named servers in order, yield the environment variables of all, and stop all at the end.

    Args:
        names: Keys of `SERVERS`.
        directory: Parent of the servers' directories, which have the servers' names.

    Raises:
        StackError: A server is not installed or did not start. Earlier servers are stopped.
    """
    with contextlib.ExitStack() as running:
        environment: dict[str, str] = {}
        for name in names:
            server = running.enter_context(SERVERS[name](directory / name))
            environment |= server.environment
        yield environment


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, and return 0 after Ctrl-C or SIGTERM, 1 if a server did not start."""
    parser = argparse.ArgumentParser(prog="python -m devstack", description=__doc__)
    command = parser.add_subparsers(dest="command", required=True).add_parser("up", help="start servers")
    command.add_argument("names", nargs="+", choices=sorted(SERVERS), metavar="NAME", help=", ".join(sorted(SERVERS)))
    command.add_argument("--directory", type=Path, help="for data and logs; default: a temporary one")
    arguments = parser.parse_args(argv)
    # A shell script starts its background processes with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        with contextlib.ExitStack() as scope:
            directory = arguments.directory or Path(
                scope.enter_context(tempfile.TemporaryDirectory(prefix="fanout-stack-"))
            )
            environment = scope.enter_context(start_servers(arguments.names, directory))
            for name, value in environment.items():
                print(f"export {name}={shlex.quote(value)}")
            print("# running; Ctrl-C stops them", flush=True)
            while True:
                # no limit: the command runs until a signal ends it
                signal.pause()
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
