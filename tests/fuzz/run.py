"""A run of many cases, each made from a seed and its number, so that a finding is repeated by these alone."""

from __future__ import annotations

import faulthandler
import logging
import random
import resource
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

ROOM_BYTES = 2**30
"""Address space that a run gets beside that of its process."""


class Fuzz(Protocol):
    """Cases of one kind."""

    name: str

    def run(self, source: random.Random) -> str:
        """Run the case that a source of chance makes; return how it ended, or raise what is found."""


@dataclass(slots=True)
class Findings:
    """The outcome of a run.

    Attributes:
        counts: How many cases ended in which way.
        errors: Number of each case that found something -> the traceback, but each kind of error once.
        grown_bytes: Growth of the process's largest resident size.
    """

    counts: Counter[str] = field(default_factory=Counter)
    errors: dict[int, str] = field(default_factory=dict)
    grown_bytes: int = 0


def run_cases(fuzz: Fuzz, numbers: Iterable[int], *, seed: int) -> Findings:
    """Run cases, and go on after each finding."""
    findings = Findings()
    kinds: set[str] = set()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in numbers:
        try:
            findings.counts[fuzz.run(random.Random((seed << 40) + number))] += 1
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            findings.counts["found"] += 1
            trace = traceback.format_exc(limit=-6)
            kind = f"{type(error).__name__}{traceback.extract_tb(error.__traceback__)[-1:]}"
            if kind not in kinds:
                kinds.add(kind)
                findings.errors[number] = trace
    findings.grown_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return findings


def run_block(kind: type[Fuzz], numbers: Iterable[int], seed: int) -> Findings:
    """Run cases in a process that is made for them."""
    faulthandler.enable()
    logging.disable()
    made = kind()
    limit_memory()
    return run_cases(made, numbers, seed=seed)


def limit_memory() -> None:
    """Let this process fail where it would take much more memory than it has."""
    with open("/proc/self/statm") as file:
        own_bytes = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own_bytes + ROOM_BYTES,) * 2)
