"""Routers and hooks of users, which configurations name by their path."""

from __future__ import annotations

from typing import Any


def by_function(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any) -> dict[str, str] | None:
    """Chunks go to a queue of their own."""
    return {"queue": "storm-chunks"} if name.endswith(".process") else None


class ByClass:
    """Joins go to a queue of their own."""

    def route_for_task(self, task: str, args: Any = None, kwargs: Any = None) -> dict[str, str] | None:
        return {"queue": "storm-joins"} if task.endswith(".join") else None


def on_failure(self: Any, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
    """The hook of Celery's own documentation, which is put on all tasks by an annotation."""
    print(f"Oh no! Task failed: {exc!r:.200}")
