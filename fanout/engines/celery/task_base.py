"""Celery's task class as a base class: type checkers want type arguments, which it takes only since Celery 5.7."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import Task

if TYPE_CHECKING:
    TaskBase = Task[Any, Any]
else:
    TaskBase = Task
