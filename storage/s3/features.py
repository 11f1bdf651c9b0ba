"""What a server of S3 can do beside the guarantees: the observations, each with its remedy."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

from ..deadline import within
from ..errors import StorageDenied, StorageError, StorageUnavailable
from ..examination import Finding, Verdict
from ..probe import PREFIX
from .boto3_examination import S3ExaminedBucket
from .location import CHECKSUM_MODES

_HOST_S: Final = 5.0
"""Longest wait for a server under the host name of its bucket, which often has no address."""

_UPLOAD_RULE: Final = (
    "Add a lifecycle rule with AbortIncompleteMultipartUpload: parts of uploads that broke off stay unseen, at a price."
)


def check_features(bucket: S3ExaminedBucket) -> Iterator[Finding]:
    """Yield the checks of a server. About 30 requests; removes what it wrote.

    Raises:
        StorageUnavailable: The server does not answer.
        StorageDenied: A right is missing, or the credentials are refused.
    """
    folder = f"{PREFIX}{secrets.token_hex(8)}/"
    keys = [f"{folder}{name}" for name in ("a", "b", "c")]
    try:
        for key in keys:
            bucket.put(key, key.encode())
        yield _check(lambda: _check_pages(bucket, folder, keys), "pages", "Sweeps and large jobs need such listings.")
        yield _check(lambda: _check_uploads(bucket, keys[0]), "uploads", "Sinks need uploads in parts. Jobs do not.")
        yield _check(lambda: _check_checksums(bucket, keys[1]), "checksums", "")
        yield _check(lambda: _check_damage(bucket, keys[2]), "damaged bodies", "")
        yield _check(lambda: _check_deletes(bucket, keys), "deletes", "")
    finally:
        # One by one: the batch may be what failed.
        for key in keys:
            bucket.delete([key])
    yield _check(lambda: _check_signatures(bucket), "signatures", "")
    yield _check(lambda: _check_addressing(bucket), "addressing", "")
    yield _check(lambda: _check_lifecycle(bucket), "lifecycle", "")


def _check(act: Callable[[], Finding], name: str, remedy: str) -> Finding:
    """Make a check. A server that refuses the requests of one may pass the others."""
    try:
        return act()
    except (StorageUnavailable, StorageDenied):
        raise
    except StorageError as error:
        return Finding(name, str(error.args[0]), Verdict.CHANGE, remedy)


def _check_pages(bucket: S3ExaminedBucket, folder: str, keys: list[str]) -> Finding:
    pages = [*bucket.list_pages(folder, page_keys=2)]
    after = [info.key for info in bucket.list(folder, start_after=keys[0])]
    if pages == [keys[:2], keys[2:]] and after == keys[1:]:
        return Finding("pages", "listings come in pages and begin after a key")
    seen = f"{[len(page) for page in pages]} keys in pages of 2 for 3 keys, and {len(after)} of 2 after the first"
    return Finding("pages", seen, Verdict.BROKEN, "Use another server: sweeps and large jobs rest on such listings.")


def _check_uploads(bucket: S3ExaminedBucket, key: str) -> Finding:
    body, token = b"an upload", secrets.token_hex(8)
    upload_id = bucket.start_upload(key, token=token)
    tags = [bucket.upload_part(key, upload_id, 1, body)]
    bucket.complete_upload(key, upload_id, tags, token=token)
    # A worker that lost the answer asks again.
    bucket.complete_upload(key, upload_id, tags, token=token)
    if bucket.get(key) == body:
        return Finding("uploads", "in parts, and may be completed twice")
    return Finding("uploads", "the object is not what was uploaded", Verdict.BROKEN, "Use another server.")


def _check_checksums(bucket: S3ExaminedBucket, key: str) -> Finding:
    """Write and read in the checksum mode that the URL does not ask for; the other one was used for all above."""
    asked = bucket.location.checksums
    other = next(mode for mode in CHECKSUM_MODES if mode != asked)
    try:
        twin = S3ExaminedBucket(replace(bucket.location, checksums=other), server=bucket.server)
        twin.put(key, b"checked")
        if twin.get(key) == b"checked":
            return Finding("checksums", f"{asked} (as now) and {other} work")
        seen = "another body was read"
    except StorageUnavailable:
        raise
    except StorageError as error:
        seen = str(error.args[0])
    return Finding("checksums", f"only {asked} works, as now; {other}: {seen}")


def _check_damage(bucket: S3ExaminedBucket, key: str) -> Finding:
    if bucket.refuses_damage(key):
        return Finding("damaged bodies", "are refused where the request has a digest")
    return Finding("damaged bodies", "are accepted; fanout finds damage by its own checksums, when it reads")


def _check_deletes(bucket: S3ExaminedBucket, keys: list[str]) -> Finding:
    if not bucket.delete_at_once(keys):
        return Finding("deletes", "one by one: the server takes no batches with these rights")
    remaining = [info.key for info in bucket.list(keys[0].rpartition("/")[0] + "/")]
    if not remaining:
        return Finding("deletes", "in batches")
    return Finding("deletes", f"{len(remaining)} of 3 keys of a batch are left", Verdict.BROKEN, "Use another server.")


def _check_signatures(bucket: S3ExaminedBucket) -> Finding:
    if bucket.is_of_aws:
        # It logs a failed signature, which may raise an alarm.
        return Finding("signatures", "AWS checks them")
    keys = bucket.keys()
    if keys is None:
        return Finding("signatures", "there are no credentials to try", Verdict.UNKNOWN)
    wrong = replace(keys, secret_key=f"not-{keys.secret_key}")
    try:
        next(iter(bucket.with_keys(wrong).list()), None)
    except StorageDenied:
        return Finding("signatures", "a wrong secret is refused")
    return Finding(
        "signatures",
        "a wrong secret is accepted",
        Verdict.CHANGE,
        "Each process that reaches the server can read and change all jobs: use it for tests, on one machine only.",
    )


def _check_addressing(bucket: S3ExaminedBucket) -> Finding:
    if bucket.is_of_aws:
        return Finding("addressing", "by bucket.host")
    if _is_address(urlsplit(bucket.endpoint).hostname or ""):
        return Finding("addressing", "by host/bucket; an address has no names below it")
    with within(_HOST_S):
        by_host = bucket.answers_by_host()
    return Finding("addressing", f"by host/bucket; by bucket.host too: {'yes' if by_host else 'no'}")


def _check_lifecycle(bucket: S3ExaminedBucket) -> Finding:
    try:
        settings = bucket.read_setting("GetBucketLifecycleConfiguration")
    except StorageDenied:
        return Finding("lifecycle", "the rules may not be read", Verdict.UNKNOWN, "Allow s3:GetLifecycleConfiguration.")
    if settings is None:
        return Finding("lifecycle", "the server has no such rules", Verdict.CHANGE, "Abort old uploads by a program.")
    rules = [rule for rule in settings.get("Rules", ()) if rule.get("Status") == "Enabled"]
    prefix = bucket.location.prefix
    for rule in rules:
        if _expires(rule) and _meets(rule, prefix):
            return Finding(
                "lifecycle",
                f"the rule {rule.get('ID', '')!r} removes objects by age",
                Verdict.CHANGE,
                "It fails jobs that are older. Let `fanout sweep` remove jobs, and keep the rule from this prefix.",
            )
    if any("AbortIncompleteMultipartUpload" in rule and prefix.startswith(_prefix_of(rule)) for rule in rules):
        return Finding("lifecycle", "a rule removes uploads that broke off")
    return Finding("lifecycle", "no rule removes uploads that broke off", Verdict.CHANGE, _UPLOAD_RULE)


def _expires(rule: dict[str, Any]) -> bool:
    return bool({"Days", "Date"} & rule.get("Expiration", {}).keys())


def _meets(rule: dict[str, Any], prefix: str) -> bool:
    """Return whether a rule concerns objects below a prefix. One that asks for tags or sizes may."""
    own = _prefix_of(rule)
    return own.startswith(prefix) or prefix.startswith(own)


def _prefix_of(rule: dict[str, Any]) -> str:
    chosen = rule.get("Filter", {})
    return str(chosen.get("Prefix") or chosen.get("And", {}).get("Prefix") or rule.get("Prefix") or "")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
