"""What is kept of a run: frozen values, one JSON line each."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..counters import Requests, Traffic
from ..machine import Context
from ..sampler import Footprint
from ..status import Status
from .cases import Case, Variant

FORMAT = 1
"""Version of the lines. A reader refuses any other."""

POINTS = 300
"""Samples that are kept of a series."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of one case.

    Attributes:
        case: What was run.
        status: How it ended.
        reason: Why it did not end well.
        wall_s: Seconds from the call to the answer, by the caller's clock.
        warm_up_s: Seconds that a tiny case took before, in processes that had just started.
        right: Whether the answer equals a serial count.
        memory: By role: `broker`, `results`, `caller`, `setup`, `process-1`, `process-2`, `join`, and `store`.
        traffic: What RabbitMQ counted.
        requests: What the S3 gateway counted; None for a variant without one, and for a store of one's own.
        context: What it was measured on.
    """

    case: Case
    status: Status
    reason: str = ""
    wall_s: float | None = None
    warm_up_s: float | None = None
    right: bool | None = None
    memory: dict[str, Footprint] = field(default_factory=dict)
    traffic: Traffic | None = None
    requests: Requests | None = None
    context: Context | None = None

    def to_line(self) -> str:
        """The trial as a JSON line, without line end."""
        return json.dumps({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_line(cls, line: str) -> Trial:
        """The reverse of `to_line`.

        Raises:
            ValueError: It is of another format.
        """
        body: dict[str, Any] = json.loads(line)
        if body.pop("format", None) != FORMAT:
            raise ValueError(f"not a line of benchmark format {FORMAT}: made by another fanout")
        case = body["case"]
        return cls(
            case=Case(**{**case, "variant": Variant(case["variant"])}),
            status=Status(body["status"]),
            reason=body["reason"],
            wall_s=body["wall_s"],
            warm_up_s=body["warm_up_s"],
            right=body["right"],
            memory={
                role: Footprint(**{**found, "series": tuple((at_s, size) for at_s, size in found["series"])})
                for role, found in body["memory"].items()
            },
            traffic=Traffic(**body["traffic"]) if body["traffic"] else None,
            requests=Requests(**body["requests"]) if body["requests"] else None,
            context=Context(**body["context"]) if body["context"] else None,
        )

    def thinned(self, roles: Iterable[str]) -> Trial:
        """With at most 300 samples, the peaks among them, of these roles, and none of the others."""
        kept = set(roles)
        memory = {
            role: replace(found, series=_thinned(found.series) if role in kept else ())
            for role, found in self.memory.items()
        }
        return replace(self, memory=memory)


def read(path: Path) -> list[Trial]:
    """The trials in a file of JSON lines.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is of another format.
    """
    return [Trial.from_line(line) for line in path.read_text().splitlines() if line.strip()]


def _thinned(series: tuple[tuple[float, int], ...]) -> tuple[tuple[float, int], ...]:
    """The largest sample of each of 300 stretches."""
    if len(series) <= POINTS:
        return series
    bounds = [len(series) * index // POINTS for index in range(POINTS + 1)]
    return tuple(max(series[a:b], key=lambda sample: sample[1]) for a, b in pairwise(bounds))
