"""The commit of a sink: readers see all objects of a job or none, however often join runs.

A data object is staged where it is written: readers do not see it. A commit

1. checks that nothing else is there and that all objects are still staged,
2. writes the manifest, once and for all,
3. publishes the objects, each whole at once, 16 at a time,
4. writes the list of failed items, and `_SUCCESS`,
5. removes what the job has staged and the manifest does not name.

A run that dies between two of these is repeated, and goes on from the manifest. A run of process that outlives the
commit has its own staged object, which is never published.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Final

from storage import StorageError, UploadGone

from ..errors import SinkConflict
from ..external.context import StepContext
from .staging import FAILED, MANIFEST, SUCCESS, Staging
from .written import Published, StagedObject, sort_results

_LOG = logging.getLogger(__name__)

_FORMAT: Final = "fanout-sink-1"
_AT_ONCE: Final = 16
_BATCH: Final = 1_000


def check_vacant(staging: Staging, context: StepContext) -> None:
    """Check that no other job's data is in a sink. Two requests on S3.

    Raises:
        SinkConflict: There is.
    """
    manifest = staging.get(MANIFEST)
    if manifest is not None:
        _check_owner(staging, manifest, context)
        return
    name = staging.find_visible()
    # Another join may have begun to publish meanwhile.
    manifest = staging.get(MANIFEST) if name is not None else None
    if manifest is not None:
        _check_owner(staging, manifest, context)
    elif name is not None:
        raise SinkConflict(
            staging.url,
            f"it holds {name!r} already, which readers would see beside the job's data: give an empty folder, or "
            "remove what is there and retry the job",
        )


def publish(staging: Staging, context: StepContext, results: Iterable[Any]) -> Published:
    """Publish the objects among the results of process; see the module."""
    objects, failed = sort_results(results, staging.url)
    failed_count = max(len(failed), getattr(results, "failed", 0))
    published = Published(
        staging.url,
        len(objects),
        sum(staged.rows for staged in objects),
        sum(staged.size_bytes for staged in objects),
        failed_count,
    )
    body = _make_manifest(published, objects, context)
    existing = staging.get(MANIFEST)
    if existing is None:
        check_vacant(staging, context)
        staging.check_names({staged.name for staged in objects})
        try:
            _check_staged(staging, objects, context.launch_id)
        except UploadGone:
            # Another join may have begun to publish meanwhile.
            existing = staging.get(MANIFEST)
            if existing is None:
                raise
        else:
            existing = staging.put_once(MANIFEST, body) or body
    if existing != body:
        _check_owner(staging, existing, context)
        raise SinkConflict(
            staging.url,
            "an earlier run of this join has begun to publish other results: let join commit the same results each "
            "time, and submit the job again with another folder",
        )
    if staging.get(SUCCESS) is None:
        _publish_all(staging, objects, context.launch_id)
        if failed:
            staging.put(FAILED, _make_lines(item.to_dict() for item in failed))
        staging.put(SUCCESS, _make_summary(published, context))
    _remove_own_orphans(staging, objects, context.launch_id)
    return published


def _check_owner(staging: Staging, manifest: bytes, context: StepContext) -> None:
    owner = read_manifest(staging, manifest)
    if (owner["job"], owner["launch"]) != (context.job_id, context.launch_id):
        raise SinkConflict(
            staging.url,
            f"it holds the data of job {owner['job']}: give each job its own folder, or remove what is there",
        )


def read_manifest(staging: Staging, body: bytes) -> dict[str, Any]:
    """Return the contents of a manifest.

    Raises:
        SinkConflict: It is none of fanout's.
    """
    try:
        manifest = json.loads(body)
        if manifest["format"] == _FORMAT:
            return dict(manifest)
    except (ValueError, KeyError, TypeError):
        pass
    raise SinkConflict(staging.url, f"its {MANIFEST} is none of this version of fanout's: give another folder")


def _make_manifest(published: Published, objects: list[StagedObject], context: StepContext) -> bytes:
    """Return the manifest: JSON with one object a line. The same results give the same bytes."""
    head = json.dumps(
        {
            "format": _FORMAT,
            "job": context.job_id,
            "launch": context.launch_id,
            "rows": published.rows,
            "size_bytes": published.size_bytes,
            "failed": published.failed,
        }
    )
    lines = (
        json.dumps(
            {"name": staged.name, "rows": staged.rows, "size_bytes": staged.size_bytes, "digest": staged.digest},
            ensure_ascii=False,
        )
        for staged in objects
    )
    listed = ",\n".join(lines)
    return f'{head[:-1]}, "objects": [\n{listed}\n]}}\n'.encode()


def _make_summary(published: Published, context: StepContext) -> bytes:
    summary = {
        "job": context.job_id,
        "objects": published.objects,
        "rows": published.rows,
        "size_bytes": published.size_bytes,
        "failed": published.failed,
    }
    return f"{json.dumps(summary)}\n".encode()


def _make_lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()


def _check_staged(staging: Staging, objects: list[StagedObject], launch_id: str) -> None:
    """Check that all objects can be published, and are the launch's own, before the first is."""
    wanted = {staged.id: staged.name for staged in objects}
    is_own = staging.find_own(launch_id)
    for orphan in staging.list_staged():
        staged_name = wanted.pop(orphan.id, None)
        if staged_name is not None and not is_own(orphan):
            raise SinkConflict(
                staging.url,
                f"another job has written {staged_name!r}, and may remove it: commit what this job's own steps wrote",
            )
    if wanted:
        name = next(iter(wanted.values()))
        raise UploadGone(
            f"{len(wanted)} of {len(objects)} objects of the sink {staging.url} were removed before the commit, first "
            f"{name!r}",
            key=name,
            remedy="Submit the job again. A rule of the bucket that aborts uploads must leave a job its time.",
        )


def _publish_all(staging: Staging, objects: list[StagedObject], launch_id: str) -> None:
    # no limit: each call to the store has one
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fanout-commit") as pool:
        for start in range(0, len(objects), _BATCH):
            # Each in this thread's context, which holds the caller's limit.
            calls = [
                pool.submit(copy_context().run, staging.publish, staged, launch_id)
                for staged in objects[start : start + _BATCH]
            ]
            for call in calls:
                # no limit: each call to the store has one
                call.result()


def _remove_own_orphans(staging: Staging, objects: list[StagedObject], launch_id: str) -> None:
    """Remove what the launch has staged besides its objects, which are published by now. Only log a failure."""
    names = {staged.name for staged in objects}
    try:
        is_own = staging.find_own(launch_id)
        for orphan in [*staging.list_staged()]:
            if orphan.name in names or is_own(orphan):
                staging.remove(orphan)
        staging.tidy()
    except StorageError as error:
        _LOG.warning("%s is committed, and some of what was left over is not removed: %s", staging.url, error)
