"""What the servers count themselves: RabbitMQ its bytes and messages, the Ceph gateway its requests and bytes."""

from __future__ import annotations

import json
import re
import subprocess
import time
from dataclasses import astuple, dataclass
from pathlib import Path

from devstack import RabbitMQ, ServerFailed

from .prices import DOLLARS_A_READ, DOLLARS_A_WRITE

# A tuple, since Erlang prints a list of small numbers as text.
_EXPRESSION = """
Open = rabbit_networking:connection_info_all([recv_oct, send_oct]),
Octets = fun(Key) -> lists:sum([N || C <- Open, N <- [proplists:get_value(Key, C)], is_integer(N)]) end,
Counters = maps:values(rabbit_global_counters:overview()),
Count = fun(Key) -> lists:sum([maps:get(Key, C, 0) || C <- Counters]) end,
[Churn] = ets:lookup(connection_churn_metrics, node()),
{Octets(recv_oct), Octets(send_oct), Count(messages_received_total), Count(messages_delivered_total),
 element(3, Churn)}
"""

_USAGE_TICK_S = 1
CEPH_ARGS = f"--rgw-enable-usage-log=true --rgw-usage-log-tick-interval={_USAGE_TICK_S}"
"""Value of the variable `CEPH_ARGS`, which all of Ceph's programs read, with which the gateway counts each second."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went through RabbitMQ.

    Attributes:
        published_bytes: Bytes that it received on its client connections, the protocol's frames included.
        delivered_bytes: Bytes that it sent on them.
        published: Messages that it received.
        delivered: Messages that it handed to consumers, redelivered ones included.
        lost: Connections that were closed before they were read; their bytes are missing above.
    """

    published_bytes: int
    delivered_bytes: int
    published: int
    delivered: int
    lost: int

    @classmethod
    def of(cls, broker: RabbitMQ) -> Traffic:
        """Return all since the node was started. Takes some milliseconds; opens no client connection."""
        printed = broker.evaluate(_EXPRESSION)
        numbers = [int(number) for number in re.findall(r"\d+", printed)]
        if len(numbers) != 5:
            raise ServerFailed("rabbitmq", "gave no counters", printed)
        return cls(*numbers)

    def __sub__(self, earlier: Traffic) -> Traffic:
        return Traffic(*(now - before for now, before in zip(astuple(self), astuple(earlier), strict=True)))


@dataclass(frozen=True, slots=True)
class Requests:
    """What went through the S3 gateway.

    Attributes:
        by_kind: Requests by the gateway's name for them, refused ones included: `put_obj`, `get_obj` (HEAD too), ….
        uploaded_bytes: Bodies that it received; None in lines of a version that did not keep them.
        downloaded_bytes: Bodies that it sent; None likewise.
    """

    by_kind: dict[str, float]
    uploaded_bytes: float | None = None
    downloaded_bytes: float | None = None

    @property
    def total(self) -> float:
        """All requests."""
        return sum(self.by_kind.values())

    @property
    def dollars(self) -> float:
        """What S3 would take for them."""
        priced = {kind: count for kind, count in self.by_kind.items() if "delete" not in kind}
        reads = priced.pop("get_obj", 0.0)
        return reads * DOLLARS_A_READ + sum(priced.values()) * DOLLARS_A_WRITE

    @classmethod
    def of(cls, configuration: Path) -> Requests:
        """Return all since the gateway was started, up to now: waits until it has added up.

        Args:
            configuration: Its `ceph.conf`.
        """
        time.sleep(_USAGE_TICK_S + 0.3)
        command = ["radosgw-admin", "usage", "show", "--show-log-entries=false", "--conf", str(configuration)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode != 0:
            raise ServerFailed("radosgw-admin", f"ended with status {done.returncode}", done.stderr)
        by_kind: dict[str, float] = {}
        uploaded = downloaded = 0
        for user in json.loads(done.stdout)["summary"]:
            for row in user["categories"]:
                by_kind[row["category"]] = by_kind.get(row["category"], 0) + row["ops"]
            uploaded += user["total"]["bytes_received"]
            downloaded += user["total"]["bytes_sent"]
        return cls(by_kind, uploaded, downloaded)

    def since(self, earlier: Requests, *, runs: int = 1) -> Requests:
        """Return what came after an earlier count, for one of so many runs."""
        changed = {kind: (count - earlier.by_kind.get(kind, 0)) / runs for kind, count in self.by_kind.items()}
        return Requests(
            {kind: count for kind, count in changed.items() if count},
            ((self.uploaded_bytes or 0) - (earlier.uploaded_bytes or 0)) / runs,
            ((self.downloaded_bytes or 0) - (earlier.downloaded_bytes or 0)) / runs,
        )
