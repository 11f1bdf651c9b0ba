"""The compose file, as far as it can be checked without Docker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

COMPOSE: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "localstack" / "compose.yaml").read_text())


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_is_pinned_checked_and_private(name: str) -> None:
    """Each service has a version, a health check with an end, ports on the loopback interface, and declared volumes."""
    service = COMPOSE["services"][name]
    assert re.fullmatch(r"[a-z0-9/]+:\S*\d\S*", service["image"])
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert {"interval", "timeout", "retries"} <= service["healthcheck"].keys()
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    volumes = [volume.partition(":")[0] for volume in service.get("volumes", ())]
    assert all(volume in COMPOSE["volumes"] or volume.startswith("./") for volume in volumes)


def test_services_without_a_profile_share_no_port() -> None:
    """What starts by default can start at once; a profile may take LocalStack's port, and has its service's name."""
    services = COMPOSE["services"]
    default = [port for service in services.values() if "profiles" not in service for port in service["ports"]]
    assert len({port.rpartition(":")[0] for port in default}) == len(default)
    assert all(service.get("profiles", [name]) == [name] for name, service in services.items())
