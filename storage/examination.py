"""The checks of a store beside its guarantees: the way to it, the rights in it, and what its server can do."""

from __future__ import annotations

import abc
from collections.abc import Iterator
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


class Examination(abc.ABC):
    """The checks that a kind of store has of its own. Each writes below `_probe/` and removes what it wrote."""

    @abc.abstractmethod
    def check_connection(self) -> Finding:
        """Return which way the requests take: server, encryption, proxy. No request."""

    @abc.abstractmethod
    def check_rights(self) -> Iterator[Finding]:
        """Yield a check for each right that fanout uses, by its name in a policy.

        Raises:
            StorageError: The store does not answer, refuses the credentials themselves, or lacks the bucket.
        """

    @abc.abstractmethod
    def check_features(self) -> Iterator[Finding]:
        """Yield the checks of what the server can do beside the guarantees. All rights are needed.

        Raises:
            StorageError: The store does not answer.
        """
