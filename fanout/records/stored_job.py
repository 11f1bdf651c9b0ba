"""The state of a job as one listing of its objects shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from storage import ObjectInfo, ObjectStore

from ..errors import JobNotFound
from .keys import job_prefix, launch_of, split_generation
from .ledger import read_intent
from .models import Intent

SHARED = ("continuation", "manifest")
"""Records that all generations of a launch share."""


@dataclass(slots=True)
class LaunchListing:
    """The state of a launch, as one listing shows it. Times are in seconds since the epoch by the store's clock.

    Attributes:
        generation: The latest generation.
        written_at: Name of each single record of it -> when it was written.
        heartbeats: Step -> when its last heartbeat was written.
        resends: Number of resends.
        progress_at: When any object but a heartbeat was last written; 0 for never.
    """

    generation: int = 0
    written_at: dict[str, float] = field(default_factory=dict)
    heartbeats: dict[str, float] = field(default_factory=dict)
    resends: int = 0
    progress_at: float = 0.0

    @classmethod
    def of(cls, objects: Iterable[ObjectInfo]) -> LaunchListing:
        """Read the listing of a launch: its latest generation, and the records that all generations share."""
        generations: dict[int, LaunchListing] = {0: cls()}
        for info in objects:
            number, name = split_generation(launch_of(info.key)[1])
            generations.setdefault(number, cls(number))._add(name, info)
        first = generations[0]
        # Objects of a generation without a start do not count: it never started, or its start was removed.
        started = [number for number, listing in generations.items() if number == 0 or "start" in listing.written_at]
        latest = generations[max(started)]
        if latest is not first:
            latest.written_at |= {name: first.written_at[name] for name in SHARED if name in first.written_at}
            latest.progress_at = max(latest.progress_at, first.progress_at)
        return latest

    def _add(self, name: str, info: ObjectInfo) -> None:
        at = info.modified.timestamp()
        kind, _, rest = name.partition("/")
        if kind == "heartbeats":
            self.heartbeats[rest] = at
            return
        if kind == "resends":
            self.resends += 1
        elif not rest:
            self.written_at[kind] = at
        self.progress_at = max(self.progress_at, at)


@dataclass(frozen=True, slots=True)
class StoredJob:
    """The state of one job id in the store.

    Attributes:
        job_id: The id.
        intent: The intent of the launch that counts; None if there is none.
        listing: The listing of that launch.
        leftovers: Objects of other launches, which were removed.
    """

    job_id: str
    intent: Intent | None
    listing: LaunchListing
    leftovers: list[ObjectInfo]

    @classmethod
    def of(cls, store: ObjectStore, job_id: str) -> StoredJob:
        """Read the intent and list the objects of a job id. One request, and one per 1,000 objects.

        Memory: one page of the listing, and about 300 bytes for each heartbeat and each leftover.
        """
        # The intent first: else a launch that begins after the listing would count as removed.
        try:
            intent = read_intent(store, job_id)
        except JobNotFound:
            intent = None
        launched_at = 0.0
        leftovers: list[ObjectInfo] = []

        def list_launch() -> Iterator[ObjectInfo]:
            nonlocal launched_at
            for info in store.list(job_prefix(job_id)):
                launch_id, name = launch_of(info.key)
                if intent is not None and launch_id == intent.launch_id:
                    yield info
                elif launch_id:
                    leftovers.append(info)
                elif name == "intent":
                    launched_at = info.modified.timestamp()

        listing = LaunchListing.of(list_launch())
        listing.progress_at = max(listing.progress_at, launched_at)
        return cls(job_id, intent, listing, leftovers)

    @property
    def ended_at(self) -> float | None:
        """When the outcome of the latest generation was written; None if there is none."""
        return self.listing.written_at.get("outcome")

    @property
    def is_delivered(self) -> bool:
        """Whether the outcome of the latest generation was delivered."""
        return "delivered" in self.listing.written_at
