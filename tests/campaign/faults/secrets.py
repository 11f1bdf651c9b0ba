"""The last gate of a campaign: no credential is in anything that its jobs have left behind, nor any sealed text."""

from __future__ import annotations

from collections.abc import Iterator

from storage import open_store

from ..fault import Fault, Plan, Row
from ..site import Site


class Secrets(Fault):
    """No fault: a search for credentials and keys in logs, objects, and bytes on their way.

    With encryption, no object of a job may show a parameter either.
    """

    name = "secrets"
    title = "all of the above, searched for credentials"
    gate = "none is found"
    full = 1
    quick = 1
    conditions = None

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        """Search the files of the site, all objects of its bucket, and what passed the broker's proxy."""
        row.trials, places = 1, 0
        for where, data in _places(site):
            places += 1
            for name, secret in site.canaries.items():
                row.require(secret.encode() not in data, f"the {name} is in {where}")
            if site.sealed_text and where.startswith("jobs/"):
                row.require(site.sealed_text.encode() not in data, f"a parameter is readable in {where}")
        for name in sorted(site.wire.seen):
            row.require(False, f"the {name} passed the broker's proxy")
        row.require(places > 1, "there was nothing to search")
        row.notes.append(f"{places} files and objects")


def _places(site: Site) -> Iterator[tuple[str, bytes]]:
    for path in sorted(site.directory.rglob("*.log")):
        # Configuration of the servers themselves has passwords.
        if not {"ceph", "rabbitmq"} & set(path.relative_to(site.directory).parts):
            yield path.name, path.read_bytes()
    bucket = open_store(f"s3://{site.bucket}")
    for entry in bucket.list():
        yield entry.key, bucket.get(entry.key)
