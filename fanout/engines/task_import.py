"""The import of a task's module in a worker process that was started without it."""

from __future__ import annotations

import importlib
import sys

from ..declaration.definition import TASKS
from ..errors import UnknownTask


def import_task(module: str, task: str) -> None:
    """Import the module that declares a task, unless this process knows the task.

    Args:
        module: Name of the module.
        task: Name of the task.

    Raises:
        ImportError: The module can't be imported.
        UnknownTask: The module declares no such task.
    """
    try:
        TASKS.find(task)
    except UnknownTask:
        importlib.import_module("__mp_main__" if module == "__main__" and "__mp_main__" in sys.modules else module)
        TASKS.find(task)
