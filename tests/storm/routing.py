"""Routers and hooks of users. Configurations name them by path."""

from __future__ import annotations

from typing import Any


def by_function(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any) -> dict[str, str] | None:
    """Route chunks to their own queue."""
    return {"queue": "storm-chunks"} if name.endswith(".process") else None


class ByClass:
    """A router that sends joins to their own queue."""

    def route_for_task(self, task: str, args: Any = None, kwargs: Any = None) -> dict[str, str] | None:
        return {"queue": "storm-joins"} if task.endswith(".join") else None


def on_failure(self: Any, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
    """Print a failure: the hook from Celery's documentation, which an annotation sets on all tasks."""
    print(f"Oh no! Task failed: {exc!r:.200}")
