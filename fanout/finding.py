"""What one check of `fanout doctor` found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How it stands with what was checked."""

    OK = "ok"
    UNKNOWN = "can't tell"
    CHANGE = "change this"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: What was checked, in a few words.
        found: What was found.
        verdict: How it stands.
        remedy: What to do about it; empty where nothing is to be done.
    """

    check: str
    found: str
    verdict: Verdict = Verdict.OK
    remedy: str = ""
