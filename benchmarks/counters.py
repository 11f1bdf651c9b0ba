"""What the servers themselves counted: RabbitMQ's bytes and messages, the Ceph gateway's requests and bytes."""

from __future__ import annotations

import json
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from devstack import RabbitMQ, ServerFailed

# A tuple, since Erlang prints a list of small numbers as text.
_EXPRESSION = """
Open = rabbit_networking:connection_info_all([recv_oct, send_oct]),
Octets = fun(Key) -> lists:sum([N || C <- Open, N <- [proplists:get_value(Key, C)], is_integer(N)]) end,
Counters = maps:values(rabbit_global_counters:overview()),
Count = fun(Key) -> lists:sum([maps:get(Key, C, 0) || C <- Counters]) end,
[Churn] = ets:lookup(connection_churn_metrics, node()),
{Octets(recv_oct), Octets(send_oct), Count(messages_received_total), Count(messages_delivered_total),
 element(3, Churn)}.
"""

USAGE_TICK_S = 1
"""The gateway adds up its usage so often."""

CEPH_ARGS = " ".join(
    [
        "--rgw-enable-usage-log=true",
        f"--rgw-usage-log-tick-interval={USAGE_TICK_S}",
    ]
)
"""Value of the variable `CEPH_ARGS`, which all of Ceph's programs read, with which the gateway counts."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went through RabbitMQ, as it counted itself.

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
        """All since the node was started. Takes half a second; opens no client connection."""
        printed = broker.ctl("eval", _EXPRESSION)
        numbers = [int(number) for number in re.findall(r"\d+", printed)]
        if len(numbers) != 5:
            raise ServerFailed("rabbitmq", "gave no counters", printed)
        return cls(*numbers)

    def __sub__(self, earlier: Traffic) -> Traffic:
        return Traffic(
            self.published_bytes - earlier.published_bytes,
            self.delivered_bytes - earlier.delivered_bytes,
            self.published - earlier.published,
            self.delivered - earlier.delivered,
            self.lost - earlier.lost,
        )


@dataclass(frozen=True, slots=True)
class Requests:
    """What went through the S3 gateway, as it counted itself.

    Attributes:
        by_kind: Requests by the gateway's name for them, refused ones included: `put_obj`, `get_obj` (HEAD too), ….
        uploaded_bytes: Bodies that it received.
        downloaded_bytes: Bodies that it sent.
    """

    by_kind: dict[str, int]
    uploaded_bytes: int
    downloaded_bytes: int

    @property
    def total(self) -> int:
        """All requests."""
        return sum(self.by_kind.values())

    @classmethod
    def of(cls, configuration: Path) -> Requests:
        """All since the gateway was started, up to now: waits until it has added up.

        Args:
            configuration: Its `ceph.conf`.
        """
        time.sleep(USAGE_TICK_S + 0.3)
        command = ["radosgw-admin", "usage", "show", "--show-log-entries=false", "--conf", str(configuration)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode != 0:
            raise ServerFailed("radosgw-admin", f"ended with status {done.returncode}", done.stderr)
        by_kind: dict[str, int] = {}
        uploaded = downloaded = 0
        for user in json.loads(done.stdout)["summary"]:
            for row in user["categories"]:
                by_kind[row["category"]] = by_kind.get(row["category"], 0) + row["ops"]
            uploaded += user["total"]["bytes_received"]
            downloaded += user["total"]["bytes_sent"]
        return cls(by_kind, uploaded, downloaded)

    def __sub__(self, earlier: Requests) -> Requests:
        changed = {kind: count - earlier.by_kind.get(kind, 0) for kind, count in self.by_kind.items()}
        return Requests(
            {kind: count for kind, count in changed.items() if count},
            self.uploaded_bytes - earlier.uploaded_bytes,
            self.downloaded_bytes - earlier.downloaded_bytes,
        )
