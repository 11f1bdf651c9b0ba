"""The checks of a store beside its guarantees: the way to it, the rights in it, and what its server can do."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """The outcome of a check."""

    OK = "ok"
    UNKNOWN = "unknown"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: The checked thing, in a few words.
        seen: The observation.
        outcome: The outcome.
        remedy: What to do about it; empty if there is nothing to do.
    """

    name: str
    seen: str
    outcome: Outcome = Outcome.OK
    remedy: str = ""


class Examination(abc.ABC):
    """The checks that a kind of store has of its own. Each writes below `_probe/` and removes what it wrote."""

    @abc.abstractmethod
    def check_connection(self) -> Check:
        """Return which way the requests take: server, encryption, proxy. No request."""

    @abc.abstractmethod
    def check_rights(self) -> Iterator[Check]:
        """Yield a check for each right that fanout uses, by its name in a policy.

        Raises:
            StorageError: The store does not answer, refuses the credentials themselves, or lacks the bucket.
        """

    @abc.abstractmethod
    def check_features(self) -> Iterator[Check]:
        """Yield the checks of what the server can do beside the guarantees. All rights are needed.

        Raises:
            StorageError: The store does not answer.
        """
