"""Private servers on this machine, for the demo, the tests and the benchmarks.

The library itself never imports them. Each server is one class with `start(directory)`, `environment`,
`rss_bytes()` and `stop()`. It listens on 127.0.0.1 only, and ends with the process that started it. A missing
program raises `ServerUnavailable`, which says how to install it.
"""

from __future__ import annotations

from .azurite import Azurite
from .ceph import CephGateway
from .errors import ServerFailed, ServerUnavailable, StackError
from .filesystem_broker import FilesystemBroker, Traffic
from .localstack import LocalStack
from .moto import MotoServer
from .process import Process
from .rabbitmq import RabbitMQ
from .rclone import Rclone
from .redis import Redis
from .s3_programs import S3Program
from .server import Server
from .worker import CeleryWorker

__all__ = [
    "Azurite",
    "CeleryWorker",
    "CephGateway",
    "FilesystemBroker",
    "LocalStack",
    "MotoServer",
    "Process",
    "RabbitMQ",
    "Rclone",
    "Redis",
    "S3Program",
    "Server",
    "ServerFailed",
    "ServerUnavailable",
    "StackError",
    "Traffic",
]
