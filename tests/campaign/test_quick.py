"""The quick form of the campaign: every fault, a few times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fanout.stack import CephGateway, RabbitMQ

from .faults import FAULTS


@pytest.mark.timeout(600)
def test_every_gate_is_met(rabbitmq: RabbitMQ, ceph_gateway: CephGateway, tmp_path: Path) -> None:
    """Whatever is done to workers, broker, messages and store: right answers, one outcome each, nothing hung."""
    # The fixtures say only that the servers are there: the campaign kills its own.
    out = tmp_path / "rows.json"
    command = [sys.executable, "-m", "tests.campaign", "--quick", "--out", str(out), "--keep", str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(out.read_text())["faults"]
    assert [row["name"] for row in rows] == [fault.name for fault in FAULTS if fault.quick]
    assert all(row["met"] and row["trials"] for row in rows)
