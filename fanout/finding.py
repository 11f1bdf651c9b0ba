"""The findings of `fanout doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """The result of a check."""

    OK = "ok"
    UNKNOWN = "can't tell"
    CHANGE = "change this"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """The finding of one check.

    Attributes:
        check: The checked thing, in a few words.
        found: The finding itself.
        verdict: The result.
        remedy: The remedy; empty if none is needed.
    """

    check: str
    found: str
    verdict: Verdict = Verdict.OK
    remedy: str = ""
